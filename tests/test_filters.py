"""The rules, at both sides of every threshold, and their count on a real archive."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from PIL import Image
from selectolax.lexbor import LexborHTMLParser

from pipeline import filters
from pipeline.build import BuildConfig
from pipeline.command import with_preset
from pipeline.filters import FiltersConfig, ImageRules, PageRules, judge_image, judge_media, judge_page
from pipeline.media import UNSUPPORTED_FORMAT, MediaConfig, normalise_image
from pipeline.quality import QualityRules, TextRules
from schemas.config import ConfigError, from_tree
from schemas.media import MISSING, STORED, Media
from schemas.page import Refusal

BOOKS = Path(__file__).parents[2] / "shared" / "corpus" / "books.warc.gz"


def picture(width_px, height_px, colour_range=255):
    return Media("u", STORED, width_px=width_px, height_px=height_px, colour_range=colour_range)


def preset(name):
    return with_preset(BuildConfig(), name).filters


@pytest.mark.parametrize(
    ("name", "media", "reason"),
    [
        ("m3w", picture(64, 64), None),
        ("m3w", picture(63, 64), filters.TOO_SMALL),
        ("m3w", picture(64, 63), filters.TOO_SMALL),
        ("m3w", picture(64, 192), None),
        ("m3w", picture(64, 193), filters.BAD_ASPECT),
        ("m3w", picture(193, 64), filters.BAD_ASPECT),
        ("m3w", picture(100_000, 90_000), None),
        ("m3w", picture(64, 64, colour_range=9), None),
        ("m3w", picture(64, 64, colour_range=8), filters.SINGLE_COLOUR),
        ("m3w", picture(64, 64, colour_range=0), filters.SINGLE_COLOUR),
        ("obelics", picture(150, 150), None),
        ("obelics", picture(149, 150), filters.TOO_SMALL),
        ("obelics", picture(150, 300), None),
        ("obelics", picture(150, 301), filters.BAD_ASPECT),
        ("obelics", picture(20_000, 10_000), None),
        ("obelics", picture(20_001, 15_000), filters.TOO_LARGE),
        ("obelics", picture(15_000, 20_001), filters.TOO_LARGE),
        ("obelics", picture(150, 150, colour_range=0), None),
    ],
)
def test_an_image_is_judged_by_its_size_shape_and_colour(name, media, reason):
    refusal = judge_image(media, preset(name).images)
    assert (refusal and refusal.reason) == reason


@pytest.mark.parametrize("name", ["m3w", "obelics"])
@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://h.example/img/logo.png", "logo"),
        ("https://h.example/img/site-logo_2x.png", "logo"),
        ("https://h.example/img/siteLogo.png", "logo"),
        ("https://h.example/ICONS/a.png", "icons"),
        ("https://h.example/a%20Button%20b.png", "button"),
        ("https://h.example/sprite/a.png?x=1", "sprite"),
        ("https://h.example/img/logotype.png", None),
        ("https://semiconductor.example/semiconductor/iconic.png", None),
        ("https://logo.example/heron.png", None),
        ("https://h.example/heron.png?name=logo", None),
        ("https://h.example/sussex.jpg", None),
        ("https://h.example", None),
    ],
)
def test_an_image_is_judged_by_whole_words_of_its_path(name, url, word):
    refusal = judge_media(replace(picture(200, 200), url=url), preset(name).images)
    assert refusal == (Refusal(filters.URL_WORD, word) if word else None)


def test_what_became_of_a_picture_counts_before_its_size_and_its_address_before_both():
    lost = Media("https://h.example/a.jpg", MISSING, "http_404", "gone")
    assert judge_media(lost, preset("m3w").images) == Refusal("http_404", "gone")
    assert judge_media(replace(lost, url="https://h.example/logo.jpg"), preset("m3w").images).reason == filters.URL_WORD
    assert judge_media(picture(10, 200), preset("m3w").images).reason == filters.TOO_SMALL


def test_no_words_no_rule():
    assert filters.judge_address("https://h.example/logo.png", ()) is None


@pytest.mark.parametrize("name", ["m3w", "obelics"])
def test_the_presets_leave_out_pictures_that_are_shown_again_and_those_of_templates(name):
    pages = preset(name).pages
    assert (pages.same_image_bits, pages.max_pages) == (8, 10)


@pytest.mark.parametrize(
    ("name", "images", "reason"),
    [
        ("m3w", 1, None),
        ("m3w", 0, filters.NO_IMAGE),
        ("m3w", 1000, None),
        ("obelics", 1, None),
        ("obelics", 30, None),
        ("obelics", 31, filters.TOO_MANY_IMAGES),
        ("obelics", 0, filters.NO_IMAGE),
    ],
)
def test_a_page_is_judged_by_its_images(name, images, reason):
    refusal = judge_page(images, preset(name).pages)
    assert (refusal and refusal.reason) == reason


def test_a_refusal_gives_the_figures_that_decided():
    assert judge_image(picture(60, 40), ImageRules()) == Refusal("too_small", "60x40 px, at least 64 a side")
    assert judge_image(picture(500, 100), ImageRules()) == Refusal("bad_aspect", "500x100 px, at most 3 to 1")
    assert judge_page(0, PageRules()) == Refusal("no_image", "0 images, at least 1")


def test_a_page_may_be_asked_for_no_image_at_all():
    assert judge_page(0, PageRules(min_images=0)) is None


def test_the_default_rules_are_those_of_m3w_for_pages_of_any_length():
    quality = QualityRules(max_words=100_000)
    assert preset("m3w") == FiltersConfig(texts=TextRules(quality=quality))
    assert preset("obelics") != FiltersConfig()


@pytest.mark.parametrize(
    ("name", "format", "reason"),
    [(name, format, "") for name in ("m3w", "obelics") for format in ("JPEG", "PNG", "WEBP")]
    + [("m3w", "GIF", ""), ("m3w", "BMP", "")]
    + [("obelics", "GIF", UNSUPPORTED_FORMAT), ("obelics", "BMP", UNSUPPORTED_FORMAT)],
)
def test_formats_of_the_presets(name, format, reason):
    data = io.BytesIO()
    Image.effect_noise((80, 80), 64).convert("RGB").save(data, format)
    media, _ = normalise_image("u", data.getvalue(), with_preset(BuildConfig(), name).media)
    assert media.reason == reason


def test_m3w_takes_every_format_that_is_decoded():
    assert with_preset(BuildConfig(), "m3w").media == MediaConfig()


def test_an_aspect_below_one_is_refused():
    with pytest.raises(ConfigError, match="max_aspect is longer over shorter side"):
        from_tree(FiltersConfig, {"images": {"max_aspect": 0.5}}, "test")


@pytest.mark.skipif(not BOOKS.exists(), reason="needs the corpus beside the checkout")
def test_489_of_the_791_pictures_of_the_books_pass_the_m3w_rules():
    records = {}
    with BOOKS.open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            records[record.headers["WARC-Target-URI"]] = record.http_content_type, record.reader.read()
    pages = [(url, data) for url, (kind, data) in records.items() if kind == "text/html"]
    images = {url: data for url, (kind, data) in records.items() if kind != "text/html"}
    # Pictures are judged one by one: stored small, for speed; the rules look at the original's size.
    config = MediaConfig(short_side_px=32)
    verdicts = {None: 0, filters.TOO_SMALL: 0, filters.BAD_ASPECT: 0}
    for page_url, html in pages:
        references = {urljoin(page_url, node.attributes["src"]) for node in LexborHTMLParser(html).css("img[src]")}
        for url in references:
            media, _ = normalise_image(url, images[url], config)
            assert media.status == STORED
            refusal = judge_image(media, ImageRules())
            verdicts[refusal and refusal.reason] += 1
    assert len(images) == 837
    assert verdicts == {None: 489, filters.TOO_SMALL: 253, filters.BAD_ASPECT: 49}
