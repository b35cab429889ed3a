"""The invented site: same seed, same bytes; every kind of dirt is there; what is written reads back."""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import json
import re
import struct

import av
import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from PIL import Image, ImageChops, ImageOps, ImageStat
from selectolax.lexbor import LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator

from pipeline.demo import describe_expected, relative_path, scene, site, words, write_folder, write_warc
from pipeline.demo.dice import Dice
from pipeline.demo.draw import draw_scene
from pipeline.demo.facts import NUMBERS
from pipeline.demo.files import SiteFile, encode, page_files
from pipeline.demo.fill import fill
from pipeline.demo.film import CODINGS, film_bytes, studio_levels
from pipeline.demo.motion import MOTIONS, animation, scene_at
from pipeline.demo.narrate import narrate
from pipeline.demo.page import DIRT, LAYOUTS, draft_page
from pipeline.demo.tell import hour_words
from pipeline.demo.told import ANNOUNCED, CREDIT, FILE_NAME, GENERAL, LINKED, PLACES, PROMPT, REFERENCE, SHARED
from pipeline.demo.video import BROKEN
from pipeline.demo.world import BACKGROUNDS, COLOURS, Scene
from pipeline.extract import ExtractConfig, extract_document
from schemas.document import ALT, CAPTION, FIGCAPTION, GALLERY, NAME, TITLE, TRANSCRIPT
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


PINNED = "4109c721fdf47553"


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
    assert (
        html["repeated"].split("<article")[1].count(expected["repeated"].pictures[0].copies[0].url.rpartition("/")[2])
        == 2
    )
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


# ---- the texts of pictures


@pytest.fixture(scope="module")
def many():
    """Tell of as many pages as every rule needs to apply."""
    return list(describe_expected(6, 12 * SMALL))


def test_pictures_have_texts_of_every_kind_and_dirt(many):
    pictures = [picture for page in many for picture in page.pictures]
    places = collections.Counter(told.place for picture in pictures for told in picture.texts)
    dirt = collections.Counter(told.dirt for picture in pictures for told in picture.texts)
    assert set(places) == {ALT, TITLE, FIGCAPTION, CAPTION, LINKED, ANNOUNCED, GALLERY}
    assert set(dirt) == {"", FILE_NAME, PROMPT, REFERENCE, SHARED, CREDIT, GENERAL}
    assert dirt[""] > 0.7 * dirt.total()
    assert {place for place, told in walk_told(many) if told.truth and told.dirt} == {FIGCAPTION, CAPTION}
    assert sum(picture.pair is not None for picture in pictures) > 0.85 * len(pictures)
    assert {page.layout for page in many for picture in page.pictures if picture.caption} == set(LAYOUTS)


def walk_told(pages):
    return [(told.place, told) for page in pages for medium in (*page.pictures, *page.videos) for told in medium.texts]


def test_what_is_true_of_a_text_stands_in_it(many):
    for _, told in walk_told(many):
        assert told.truth.lower() in told.text.lower()
        assert bool(told.truth) != bool(told.dirt) or told.dirt == CREDIT
        assert told.kind in {ALT, TITLE, FIGCAPTION, CAPTION, GALLERY, NAME, TRANSCRIPT, "description"}


def test_texts_of_a_picture_name_no_colour_that_is_not_in_it(many):
    names = re.compile(rf"\b({'|'.join(COLOURS)})\b", re.IGNORECASE)
    for picture in (picture for page in many for picture in page.pictures):
        seen = {thing.colour for thing in picture.scene.things} | set(picture.scene.background.split())
        for told in picture.texts:
            assert {name.lower() for name in names.findall(told.text)} <= seen


def test_the_best_text_is_the_true_one_that_says_most(many):
    for picture in (picture for page in many for picture in page.pictures if page.language == "en"):
        true = {told.place for told in picture.texts if told.truth}
        if picture.pair is None:
            assert not true
        else:
            assert picture.pair.place == next(place for place in PLACES if place in true)


def linked_data(html: str) -> list[dict[str, str]]:
    """Read what a page's JSON-LD says of media."""
    blocks = re.findall(r'<script type="application/ld\+json">\n(\{.*?)\n</script>', html, re.DOTALL)
    return [thing for block in blocks for thing in json.loads(block)["@graph"]]


def test_pages_show_the_texts_where_they_are_told_to_stand(files, by_url, expected):
    shown = collections.Counter()
    for page in expected.values():
        html = html_of(by_url, page)
        tree, linked = LexborHTMLParser(html), linked_data(html)
        for picture in page.pictures:
            address = picture.copies[0].url
            name = address.rpartition("/")[2]
            image = next(node for node in tree.css("article img") if name in node.html)
            found = {
                ALT: [image.attributes.get("alt")],
                TITLE: [image.attributes.get("title")],
                FIGCAPTION: [node.text() for node in tree.css("figcaption")],
                CAPTION: [node.text() for node in tree.css("p.caption, p.wp-caption-text, p.image-caption")],
                LINKED: [thing["caption"] for thing in linked if thing.get("contentUrl") == address],
                ANNOUNCED: [node.attributes["content"] for node in tree.css('meta[property="og:image:alt"]')],
                GALLERY: [node.text() for node in tree.css(".gallery > h2")],
            }
            for told in picture.texts:
                assert told.text in found[told.place], (page.dirt, told)
                shown[told.place] += 1
    assert set(shown) == {ALT, TITLE, FIGCAPTION, CAPTION, LINKED, ANNOUNCED, GALLERY}


# ---- videos


def whole_videos(pages):
    return [video for page in pages for video in page.videos if not video.unfit]


def test_one_page_in_seven_has_a_whole_video_and_there_are_videos_of_every_kind(many):
    videos = [video for page in many for video in page.videos]
    whole = whole_videos(many)
    assert 1 / 8 < len(whole) / len(many) < 1 / 6
    assert {video.unfit for video in videos} == {"", *BROKEN.values()}
    assert {copy.coding for video in whole for copy in video.copies} == set(CODINGS)
    assert {len(video.copies) for video in whole} == {1, 2}
    assert {video.animation.kind for video in whole} == set(MOTIONS)
    assert {video.duration_s for video in whole} == {3, 4, 6, 12}
    assert {(bool(video.poster), bool(video.track), video.linked) for video in whole} == {
        (poster, track, linked) for poster in (True, False) for track in (True, False) for linked in (True, False)
    }
    dirty = {page.dirt for page in many if page.videos}
    assert set(DIRT) - dirty == {"no_pictures", "little_text", "german", "french"}
    assert {page.layout for page in many if page.videos} == set(LAYOUTS)
    told = collections.Counter((told.place, told.dirt) for video in whole for told in video.texts)
    assert {place for place, dirt in told if not dirt} == {FIGCAPTION, TITLE, NAME, LINKED, TRANSCRIPT}
    assert {(FIGCAPTION, CREDIT), (TITLE, PROMPT), (NAME, FILE_NAME)} <= set(told)


def decode(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data)) as container:
        return list(container.decode(video=0))


def test_every_video_decodes_to_what_is_told(by_url, expected):
    videos = whole_videos(expected.values())
    assert len(videos) == 6
    for video in videos:
        for copy in video.copies:
            file = by_url[copy.url]
            assert (file.status, file.content_type) == (200, f"video/{copy.url.rpartition('.')[2]}")
            assert len(file.data) < 60_000
            with av.open(io.BytesIO(file.data)) as container:
                assert container.duration == video.duration_s * 1_000_000
                stream = container.streams.video[0]
                assert stream.codec_context.name.removeprefix("lib") in (copy.coding, copy.coding + "dec")
                frames = list(container.decode(stream))
            film = video.animation
            first = film.poses[0].scene
            assert {(frame.width, frame.height) for frame in frames} == {(first.width_px, first.height_px)}
            assert [round(frame.time * film.fps) for frame in frames] == list(range(film.fps * film.duration_s))


def test_broken_videos_have_their_faults(by_url, expected):
    broken = {video.unfit: video.url for page in expected.values() for video in page.videos if video.unfit}
    assert set(broken) == set(BROKEN.values())
    assert by_url[broken["gone"]].status == 404
    assert broken["absent"] not in by_url
    assert (by_url[broken["html"]].content_type, by_url[broken["html"]].data[:9]) == ("video/mp4", b"<!DOCTYPE")
    for why in ("html", "truncated"):
        with pytest.raises(av.error.InvalidDataError):
            decode(by_url[broken[why]].data)


def test_pages_show_their_videos(by_url, expected):
    for page in expected.values():
        html = html_of(by_url, page)
        tree = LexborHTMLParser(html)
        assert len(tree.css("article video")) == len(page.videos)
        for video in page.videos:
            (node,) = tree.css("article video")
            sources = [source.attributes for source in node.css("source")] or [{"src": node.attributes["src"]}]
            for source, copy in zip(sources, video.copies, strict=True):
                assert copy.url.endswith(source["src"])
                assert (
                    source.get("type", f"video/{copy.url[-4:].lstrip('.')}") == f"video/{copy.url.rpartition('.')[2]}"
                )
            assert video.poster.endswith(node.attributes.get("poster") or "")
            assert not video.poster or by_url[video.poster].data[:2] == b"\xff\xd8"
            (thing,) = [thing for thing in linked_data(html) if thing["@type"] == "VideoObject"] or [{}]
            assert bool(thing) == video.linked
            assert not thing or (thing["contentUrl"], thing["duration"]) == (
                video.copies[-1].url,
                f"PT{video.duration_s}S",
            )
            assert not thing or thing["uploadDate"] == video.uploaded.isoformat()
            found = {
                FIGCAPTION: [caption.text() for caption in tree.css("figcaption")],
                TITLE: [node.attributes.get("title")],
                NAME: [thing.get("name")],
                LINKED: [thing.get("description")],
                TRANSCRIPT: [thing.get("transcript")],
            }
            assert all(told.text in found[told.place] for told in video.texts)
            tracks = [track.attributes["src"] for track in node.css("track[kind=captions]")]
            assert len(tracks) == bool(video.track)
            assert all(video.track.endswith(track) for track in tracks)


def test_tracks_hold_the_cues(by_url, expected):
    tracks = [video for page in expected.values() for video in page.videos if video.track]
    assert len(tracks) > 3
    for video in tracks:
        text = by_url[video.track].data.decode()
        assert text.startswith("WEBVTT\n\n")
        cues = re.findall(r"00:(\d\d)\.000 --> 00:(\d\d)\.000 align:center\n(.+)\n", text)
        assert [(int(start), int(end), line) for start, end, line in cues] == [
            (cue.start_s, cue.end_s, cue.text) for cue in video.cues
        ]
        assert [cue.start_s for cue in video.cues] == [0, *(cue.end_s for cue in video.cues[:-1])]
        assert video.cues[-1].end_s == video.duration_s


@pytest.fixture(scope="module")
def films():
    """Give two animations of every kind."""
    found = collections.defaultdict(list)
    for page in range(400):
        film = animation(8, page)
        if len(found[film.kind]) < 2:
            found[film.kind].append(film)
    assert {kind: len(some) for kind, some in found.items()} == dict.fromkeys(MOTIONS, 2)
    return [film for some in found.values() for film in some]


PROBES = {
    "boat": ("hull", 0.0, 0.02),
    "sky": ("house", -0.17, 0.17),
    "ball": ("circle", 0.0, 0.0),
    "car": ("car", 0.0, 0.03),
    "balloons": ("balloon", 0.0, -0.05),
    "train": ("engine", 0.0, 0.02),
    "signal": ("lamp", 0.0, 0.0),
    "die": ("die", 0.23, 0.0),
    "face": ("face", 0.0, 0.0),
    "clock": ("face", 0.2, 0.0),
    "tree": ("crown", 0.24, 0.0),
}
"""A thing of each kind of animation, and a place on it as seen from its middle; of several things, from the first's."""


def nearest(colour: tuple[int, int, int], palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: sum((a - b) ** 2 for a, b in zip(colour, palette[name], strict=True)))


def test_frames_show_the_scene_of_their_moment(films):
    for number, film in enumerate(films):
        frames = decode(film_bytes(film, tuple(CODINGS)[number % 3]))
        for start_s, end_s in film.spans:
            moment = (start_s + end_s) * film.fps // 2
            image, truth = frames[moment].to_image(), scene_at(film, moment / film.fps)
            kind, dx, dy = PROBES[film.kind]
            thing = truth.thing(kind)
            if kind == "balloon":
                dx -= (thing.count - 1) / 2 * 0.155
            x, y = truth.width_px / 2 + (thing.x + dx) * truth.height_px, truth.height_px * (0.5 + thing.y + dy)
            assert nearest(image.getpixel((round(x), round(y))), COLOURS) == thing.colour, (film, moment)
            assert nearest(image.getpixel((3, 3)), BACKGROUNDS) == truth.background


def said_of(film, start: Scene, end: Scene) -> list[str]:
    """Return words of which the narration of an act must have one, given its first scene and its last."""
    thing = {truth: truth.thing(PROBES[film.kind][0]) for truth in (start, end)}
    first, last = thing[start], thing[end]
    match film.kind:
        case "boat" | "car" | "train":
            x = (first.x + last.x) / 2
            return (
                ["middle"]
                if abs(x) < 0.01
                else ["on the left", "left side"]
                if x < 0
                else ["on the right", "right side"]
            )
        case "sky":
            y = (start.things[0].y + end.things[0].y) / 2
            return ["top of the sky"] if y < -0.1 else ["behind the grass"] if y > 0.15 else ["beside"]
        case "balloons":
            return ["middle"] if abs((first.y + last.y) / 2 + 0.18) < 0.01 else ["high"] if last.y < -0.2 else ["low"]
        case "ball":
            return ["up"] if last.y < first.y else ["falls back"]
        case "signal":
            order = {"red": "stop", "yellow": "wait", "green": "go"}[first.colour]
            return [f"is {first.colour}, which means {order}."]
        case "clock":
            face = start.thing("face")
            return [f" {hour_words(face.count, face.detail == 'half')}."]
        case "face":
            return [f"looks {first.detail}."]
        case "tree":
            return [f"{NUMBERS[start.thing('fruit').count].capitalize()} {start.thing('fruit').colour} fruit"]
    return [f"{first.colour} die is {NUMBERS[first.count]}."]


def test_what_is_said_of_an_act_is_seen_in_it(films):
    for film in films:
        lines = narrate(film).lines
        for (start_s, end_s), line in zip(film.spans, lines, strict=True):
            end = scene_at(film, end_s if film.glides else end_s - 0.01)
            assert any(words in line for words in said_of(film, scene_at(film, start_s), end)), (film, line)
        assert len(set(lines)) == (len(lines) if film.kind != "ball" else len(lines) // 2 + 1)


def test_what_is_said_of_a_film_names_its_own_colours():
    names = re.compile(rf"\b({'|'.join(COLOURS)})\b")
    for page in range(300):
        film = animation(2, page)
        story = narrate(film)
        seen = {thing.colour for pose in film.poses for thing in pose.scene.things}
        said = " ".join((*story.phrases, *story.lines)).lower()
        assert set(names.findall(said)) <= seen
        assert len(set(story.phrases)) == 3
        assert all(line.endswith(".") and line[0].isupper() for line in story.lines)


def test_frames_are_coded_in_the_range_that_decoders_assume():
    assert studio_levels(0, 0, 0) == (16, 128, 128)
    assert studio_levels(255, 255, 255) == (235, 128, 128)
    assert studio_levels(255, 0, 0) == (81, 90, 240)
    assert studio_levels(0, 0, 255) == (41, 240, 110)


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
