"""The invented site: same seed, same bytes; every kind of dirt is there; what is written reads back."""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import re
import struct

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from PIL import Image, ImageChops, ImageOps, ImageStat
from selectolax.lexbor import LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator

from pipeline.demo import describe_expected, relative_path, scene, site, words, write_folder, write_warc
from pipeline.demo.dice import Dice
from pipeline.demo.draw import draw_scene
from pipeline.demo.files import SiteFile, encode, page_files
from pipeline.demo.page import DIRT, LAYOUTS, draft_page, fill
from pipeline.extract import ExtractConfig, extract_document
from schemas.page import Origin, Page

SMALL = len(DIRT)


@pytest.fixture(scope="module")
def files():
    return list(site(SMALL, 0))


@pytest.fixture(scope="module")
def by_url(files):
    return {file.url: file for file in reversed(files)}


@pytest.fixture(scope="module")
def expected():
    return {page.dirt: page for page in describe_expected(0, SMALL)}


# ---- determinism and random access


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    assert list(site(2, 3)) == list(site(2, 3))
    first, second = ({file.url for file in page_files(seed, 0)} for seed in (3, 4))
    assert not first & second


def test_a_page_does_not_depend_on_how_many_there_are(files):
    page_nine = list(page_files(0, 9))
    start = next(index for index, file in enumerate(files) if file.url == page_nine[0].url)
    assert files[start : start + len(page_nine)] == page_nine
    assert list(site(3, 0)) == files[: len(list(site(3, 0)))]


def test_any_page_is_reached_without_those_before_it():
    truth = scene(0, 10**9, 2)
    assert truth == scene(0, 10**9, 2)
    assert draft_page(0, 10**9).pictures[0].scene == scene(0, 10**9, 0)


def test_bytes_of_the_truth_are_pinned():
    text = "\n".join(repr(draft_page(0, index)) for index in range(3))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PINNED


PINNED = "35eca9a979c00758"


def test_file_names_are_hashes(expected):
    for page in expected.values():
        for picture in page.pictures:
            for copy in picture.copies:
                assert re.fullmatch(r"[0-9a-f]{20}(-\d+w)?\.(jpg|png|gif|webp)", copy.url.rpartition("/")[2])


# ---- the site and its dirt


def html_of(by_url: dict[str, SiteFile], page) -> str:
    file = by_url[page.url]
    return file.data.decode("latin-1" if page.dirt.startswith("latin1") else "utf-8")


def test_every_layout_and_kind_of_dirt_is_there(expected):
    assert len(DIRT) == len(set(DIRT)) == 36
    assert set(expected) == set(DIRT)
    assert {page.layout for page in expected.values()} == set(LAYOUTS)
    later = {(page.dirt, page.layout) for page in describe_expected(0, 6 * SMALL)}
    assert len(later) == 6 * 35 + 1


def test_pages_hold_what_is_expected_of_them(by_url, expected):
    lengths = []
    for page in expected.values():
        tree = LexborHTMLParser(html_of(by_url, page))
        article = tree.css_first("article")
        text = re.sub(r"\s+", " ", article.text())
        for part in page.texts:
            assert part in text
        assert len(article.css("img")) >= len(page.pictures)
        assert words.FOOTER in tree.body.text()
        assert page.title in text
        lengths.append(sum(len(part.split()) for part in page.texts))
    assert sorted(lengths)[len(lengths) // 2] > 150


def test_every_picture_is_in_the_site_and_looks_like_its_scene(by_url, expected):
    codings = set()
    for page in expected.values():
        for picture in page.pictures:
            drawn = draw_scene(picture.scene)
            for copy in picture.copies:
                codings.add(copy.coding)
                image = Image.open(io.BytesIO(by_url[copy.url].data))
                width = ImageOps.exif_transpose(image).convert("RGB").width
                assert width == copy.width_px
                if copy.width_px == drawn.width and copy.coding != "alpha":
                    shown = ImageOps.exif_transpose(image).convert("RGB")
                    assert max(ImageStat.Stat(ImageChops.difference(shown, drawn)).mean) < 8
    assert codings == {"jpeg", "png", "webp", "alpha", "cmyk", "rotated", "gif"}


def test_special_codings_are_what_they_claim(by_url, expected):
    def opened(dirt: str) -> Image.Image:
        return Image.open(io.BytesIO(by_url[expected[dirt].pictures[0].copies[0].url].data))

    assert opened("cmyk").mode == "CMYK"
    assert opened("alpha").mode == "RGBA"
    assert opened("alpha").getpixel((0, 0))[3] == 0
    assert opened("rotated").getexif()[0x0112] == 6
    assert opened("animated").n_frames == 2
    with pytest.raises(ValueError, match="no coding 'bmp'"):
        encode(Image.new("RGB", (1, 1)), "bmp")


def extra_of(page, why: str):
    return next(extra for extra in page.extras if extra.why == why)


def test_faulty_images_have_their_faults(files, by_url, expected):
    def data(dirt: str, why: str) -> bytes:
        return by_url[extra_of(expected[dirt], why).url].data

    assert Image.open(io.BytesIO(data("pixels", "pixel"))).size == (1, 1)
    assert max(Image.open(io.BytesIO(data("pixels", "small"))).size) < 64
    banner = Image.open(io.BytesIO(data("banner", "banner")))
    assert banner.width > 3 * banner.height
    assert len(Image.open(io.BytesIO(data("flat", "flat"))).getcolors()) == 1
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(data("truncated", "truncated"))).load()
    html = by_url[extra_of(expected["html_as_image"], "html").url]
    assert (html.content_type, html.data[:9]) == ("image/jpeg", b"<!DOCTYPE")
    assert by_url[extra_of(expected["gone"], "gone").url].status == 404
    assert extra_of(expected["absent"], "absent").url not in by_url
    assert b"<svg" in data("vector", "vector")


def test_references_are_written_in_every_way(by_url, expected):
    html = {dirt: html_of(by_url, page) for dirt, page in expected.items()}
    assert 'data-src="' in html["lazy"]
    assert 'src="data:image/gif;base64,' in html["lazy"]
    assert "<noscript><img" in html["lazy"]
    assert re.search(r'srcset="\S+ \d+w, \S+ \d+w, \S+ \d+w"', html["srcset"])
    assert '<picture><source type="image/webp" srcset="' in html["webp"]
    assert '<base href="https://static.paint-cdn.example/' in html["base"]
    assert re.search(r'<img src="[0-9a-f]{20}\.\w+"', html["base"])
    assert '<img src="../images/' in html["relative"]
    assert 'src="/images/Blätter und mehr/' in html["odd_names"]
    assert 'style="display:none"' in html["hidden"]
    assert html["repeated"].count(expected["repeated"].pictures[0].copies[0].url.rpartition("/")[2]) == 2
    twins = [by_url[copy.url].data for copy in expected["repeated"].pictures[0].copies]
    assert twins[0] == twins[1]
    assert 'name="robots" content="noindex' in html["robots_meta"]
    assert html["nested_tables"].count("<table>") == 4
    assert "</p>" not in html["unclosed"].split("<article")[1].split("</article>")[0]
    assert html["adverts"].count('class="ad"') >= 3
    assert 'class="comment"' in html["comments"]
    assert "<img" not in html["no_pictures"].split("<article")[1].split("</article>")[0]
    assert all('class="related"' in html[dirt] for dirt in DIRT[1:])
    assert all('class="cookie' in text and "logo.png" in text and "<nav" in text for text in html.values())


def test_charsets_and_languages(by_url, expected):
    meta, header = by_url[expected["latin1_meta"].url], by_url[expected["latin1_header"].url]
    assert meta.content_type == "text/html"
    assert b'<meta charset="iso-8859-1">' in meta.data
    assert header.content_type == "text/html; charset=iso-8859-1"
    assert b"charset" not in header.data
    for file in (meta, header):
        assert "café".encode("latin-1") in file.data
    assert (expected["german"].language, expected["french"].language) == ("de", "fr")
    assert expected["german"].reason == expected["french"].reason == "the page is not in English"


def test_pages_say_of_themselves_what_is_expected(by_url, expected):
    told = 0
    for page in expected.values():
        file = by_url[page.url]
        captured = Page(page.url, file.data, None, file.captured, Origin("site", 0))
        found = extract_document(captured, ExtractConfig())
        said = page.said
        assert (found.canonical, found.published) == (said.canonical, said.published)
        assert (found.author, found.licence) == (said.author, said.licence)
        assert found.language == page.language
        assert found.title.startswith(page.title)
        told += said.author != ""
    assert told == SMALL * 3 // 4


def test_captures_of_one_page(files, expected):
    page = expected["recaptured"]
    newer, older = (file for file in files if file.url == page.url)
    assert newer.captured > older.captured
    assert newer.data != older.data
    mirror = expected["mirror"]
    twins = [file.data for file in files if file.url in (mirror.url, mirror.mirror_url)]
    assert len(twins) == 2
    assert twins[0] == twins[1]
    assert next(file for file in files if file.url == expected["robots_header"].url).headers == (
        ("X-Robots-Tag", "noai, noimageai"),
    )


def test_every_address_is_plain_ascii_and_given_once(files, expected):
    counts = collections.Counter(file.url for file in files)
    assert {url for url, count in counts.items() if count > 1} == {expected["recaptured"].url}
    assert all(url.isascii() and " " not in url for url in counts)


def test_slots_take_the_right_article():
    assert (
        fill("A {work} for a {kin}.", Dice("x"), ("Alma", "Bruno"), work="exercise", kin="uncle")
        == "An exercise for an uncle."
    )
    assert fill("a {work}", Dice("x"), ("Alma", "Bruno"), work="sheet") == "A sheet"


# ---- written forms


@pytest.fixture(scope="module")
def warc(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "site.warc.gz"
    write_warc(files, str(path))
    return path


def test_warc_reads_back_with_fastwarc(warc, files):
    with warc.open("rb") as stream:
        records = []
        for record in FastIterator(stream, record_types=WarcRecordType.response, parse_http=False):
            assert record.verify_block_digest(consume=False)
            record.parse_http()
            assert record.verify_payload_digest(consume=False)
            headers = record.http_headers
            records.append((record.headers["WARC-Target-URI"], headers.status_code, record.reader.read()))
            assert record.headers["WARC-Date"].startswith("202")
    assert records == [(file.url, file.status, file.data) for file in files]


def test_warc_reads_back_with_warcio(warc, files):
    with warc.open("rb") as stream:
        records = [
            (record.rec_headers["WARC-Target-URI"], record.http_headers["Content-Type"], record.content_stream().read())
            for record in ArchiveIterator(stream, check_digests="raise")
            if record.rec_type == "response"
        ]
    assert records == [(file.url, file.content_type, file.data) for file in files]


def test_warc_is_deterministic_and_a_member_a_record(warc, files, tmp_path):
    again = tmp_path / "again.warc.gz"
    write_warc(iter(files), str(again))
    data = warc.read_bytes()
    assert again.read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.warc.gz"]
    assert struct.unpack("<I", data[4:8]) == (0,)
    text = gzip.decompress(data)
    ids = re.findall(rb"WARC-Record-ID: (\S+)", text)
    assert len(ids) == len(set(ids)) == len(files) + 1
    assert data.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") >= len(files) + 1


def test_folder_holds_the_newest_capture_of_what_was_found(files, expected, tmp_path):
    chosen = {expected["recaptured"].url, extra_of(expected["gone"], "gone").url}
    some = [file for file in files if file.url in chosen]
    for order in (some, list(reversed(some))):
        write_folder(order, str(tmp_path))
        saved = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert saved == [tmp_path / relative_path(expected["recaptured"].url)]
        newest = max((file for file in some if file.status == 200), key=lambda file: file.captured)
        assert saved[0].read_bytes() == newest.data
        assert saved[0].stat().st_mtime == newest.captured.timestamp()


def test_folder_paths_are_decoded_and_stay_inside():
    assert str(relative_path("https://h.example/a%20b/c%C3%A4.jpg")) == "h.example/a b/cä.jpg"
    assert str(relative_path("https://h.example/")) == "h.example/index.html"
    with pytest.raises(ValueError, match="no place in a folder"):
        relative_path("https://h.example/%2e%2e/x")
