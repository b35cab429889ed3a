"""Which URL a picture or video has."""

import pytest

from pipeline.dom import parse_html
from pipeline.pictures import Candidate, find_image, find_video, parse_srcset
from schemas.document import ImageRef, Said, Track, VideoRef

BASE = "https://h.example/dir/page"
AT = "https://h.example/dir/"


def image(html, wanted_px=1_024):
    tree = parse_html(html, 1_000, 100, float("inf"))
    return find_image(tree, max(i for i, tag in enumerate(tree.tags) if tag == "img"), BASE, wanted_px)


def video(html):
    tree = parse_html(html, 1_000, 100, float("inf"))
    return find_video(tree, tree.tags.index("video"), BASE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg", [("a.jpg", 0, 0.0)]),
        ("a.jpg 1x, b.jpg 2x", [("a.jpg", 0, 1.0), ("b.jpg", 0, 2.0)]),
        ("a.jpg 300w,b.jpg 600w 400h", [("a.jpg", 300, 0.0), ("b.jpg", 600, 0.0)]),
        ("fill,w_3/a.jpg 300w, fill,w_6/a.jpg 600w", [("fill,w_3/a.jpg", 300, 0.0), ("fill,w_6/a.jpg", 600, 0.0)]),
        ("a.jpg, b.jpg 2x", [("a.jpg", 0, 0.0), ("b.jpg", 0, 2.0)]),
        ("a.jpg (x, y) 2x, b.jpg", [("a.jpg", 0, 2.0), ("b.jpg", 0, 0.0)]),
        ("data:image/gif;base64,AA== 1x, b.jpg 2x", [("data:image/gif;base64,AA==", 0, 1.0), ("b.jpg", 0, 2.0)]),
        (" , ,\n", []),
        ("a.jpg 12q, b.jpg (", [("a.jpg", 0, 0.0), ("b.jpg", 0, 0.0)]),
    ],
)  # fmt: skip
def test_srcset(text, expected):
    assert parse_srcset(text) == [Candidate(*fields) for fields in expected]


@pytest.mark.parametrize(
    ("html", "name"),
    [
        ("<img src=a.jpg>", "a.jpg"),
        ("<img src=a.jpg srcset='s.jpg 500w, m.jpg 1100w, l.jpg 2000w'>", "m.jpg"),
        ("<img src=a.jpg srcset='s.jpg 500w, m.jpg 900w'>", "m.jpg"),
        ("<img src=a.jpg width=600 srcset='s.jpg 1x, m.jpg 2x, l.jpg 3x'>", "m.jpg"),
        ("<img src=a.jpg data-src=b.jpg>", "b.jpg"),
        ("<img src=data:image/gif;base64,R0 data-original=b.jpg>", "b.jpg"),
        ("<img src=blank.gif data-lazy-src='b c.jpg'>", "b%20c.jpg"),
        ("<img srcset='blank.gif 1x' data-srcset='b.jpg 2x'>", "b.jpg"),
        ("<img src=a.jpg data-src=data:image/gif;base64,R0>", "a.jpg"),
        ("<picture><source srcset='w.webp 1200w' type=image/webp><img src=a.jpg></picture>", "w.webp"),
        ("<picture><source srcset=x.jxl type=image/jxl><source srcset=w.webp><img src=a.jpg></picture>", "w.webp"),
        (
            "<picture><source srcset=n.webp media='(max-width: 9px)'><source srcset=w.webp><img src=a.jpg></picture>",
            "w.webp",
        ),
        ("<picture><source srcset='s.webp 500w'><source srcset='m.webp 1100w, l.webp 2000w'><img></picture>", "m.webp"),
        ("<picture><source srcset='s.webp 500w,'><source srcset=', l.webp 900w'><img></picture>", "l.webp"),
        ("<picture><source srcset='x.avif 1100w' type=image/avif><source srcset='w.jpg 500w'><img></picture>", "w.jpg"),
        ("<picture><source srcset=x.avif type=image/avif><img src=a.jpg></picture>", "x.avif"),
        ("<picture><source srcset=a.webp data-srcset=b.webp><img src=a.jpg></picture>", "b.webp"),
        ("<picture><source srcset=blank.gif><source><img src=a.jpg></picture>", "a.jpg"),
        ("<picture><source srcset=w.webp><img src=a.jpg srcset=b.jpg></picture>", "b.jpg"),
        ("<div><source srcset=w.webp><img src=a.jpg></div>", "a.jpg"),
        ("<picture>" + "<source>" * 70 + "<source srcset=w.webp><img src=a.jpg></picture>", "a.jpg"),
        ("<picture><img src=a.jpg><source srcset=w.webp></picture>", "a.jpg"),
        ("<img src=assets/pixel-phone.jpg>", "assets/pixel-phone.jpg"),
        ("<img src=blank.gif>", "blank.gif"),
    ],
)
def test_the_best_source(html, name):
    assert image(html) == ImageRef(AT + name, width_px=600 if "width=600" in html else None)


def test_no_picture():
    assert image("<img alt=x>") is None
    assert image("<img src=data:image/gif;base64,R0lGOD>") is None
    assert image("<img src=spacer.gif>\n<noscript>x</noscript>") is None


def test_what_cannot_be_resolved_is_kept_for_the_fetch_to_refuse():
    assert image("<img src='http://[bad'>").url == "http://[bad"
    assert image(f"<img src='data:image/png;base64,{'A' * 5_000}'>").url.startswith("data:image/png")
    assert image("<img src='http://[bad\x01\x7f\x85'>").url == "http://[bad"
    assert len(image(f"<img src='data:image/png;base64,{'A' * 5_000}'>").url) == 1_000


def test_alt_and_sizes():
    assert image("<img src=a.jpg alt=' A \n cat ' width=640 height=480>") == ImageRef(
        AT + "a.jpg", "A cat", "", 640, 480
    )
    assert image("<img src=a.jpg width=100% height=480px>") == ImageRef(AT + "a.jpg")
    assert image("<img src=a.jpg width=99999999999>") == ImageRef(AT + "a.jpg")


def test_video():
    html = "<video title='A  film' poster=p.jpg><source src=blob:x><source src=v.mp4></video>"
    assert video(html) == VideoRef(AT + "v.mp4", (Said("title", "A film"),), AT + "p.jpg")
    assert video("<video></video>") is None
    assert video("<video aria-label=Film src=v.mp4></video>").texts == (Said("title", "Film"),)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<video src=v></video>", "v"),
        ("<video data-src=v.mp4></video>", "v.mp4"),
        ("<video src=a.mp4><source src=b.mp4></video>", "a.mp4"),
        ("<video src=v.m3u8><source src=v.webm></video>", "v.webm"),
        ("<video src=v.m3u8></video>", "v.m3u8"),
        ("<video><source src=v.mpd><source src=v></video>", "v"),
        ("<video><source src=v type='application/x-mpegURL'><source src=w type='video/mp4'></video>", "w"),
        ("<video><source src=v><source src=w type='video/WebM; codecs=\"vp9\"'></video>", "w"),
        ("<video><source src=v.mp4?a=b.m3u8><source src=w.mp4></video>", "v.mp4?a=b.m3u8"),
        ("<video><source src=v.mkv type=video/x-matroska></video>", None),
        ("<video><source src=watch type=video/youtube></video>", None),
        ("<video><source srcset=i.jpg type=image/jpeg></video>", None),
        ("<video><source src=v.ogv type=text/html></video>", "v.ogv"),
        ("<video>" + "<source>" * 70 + "<source src=v.mp4></video>", None),
    ],
)
def test_the_best_source_of_a_video(html, expected):
    found = video(html)
    assert (found and found.url) == (expected and AT + expected)


def test_tracks():
    html = "<track kind=Captions src=a.vtt srclang=en-GB><track src=b.vtt><track kind=x src=c.vtt><track kind=captions>"
    assert video(f"<video src=v.mp4>{html}<track src=b.vtt></video><track src=d.vtt>").tracks == (
        Track(AT + "a.vtt", "captions", "en-gb"),
        Track(AT + "b.vtt", "subtitles"),
        Track(AT + "c.vtt", "metadata"),
    )
