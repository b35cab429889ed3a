"""The texts of pictures and videos: attributes, head, JSON-LD, galleries; videos that only the head names; bounds."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import candidates, jsonld
from pipeline.announced import keys_of, parse_duration, read_told
from pipeline.captions import MAX_CAPTION_CHARS
from pipeline.dom import parse_html
from pipeline.extract import ExtractConfig, extract_document
from pipeline.marks import find_marks
from schemas.document import Document, ImageRef, Said, Track, VideoRef
from schemas.page import Origin, Page

URL = "https://h.example/dir/page"
AT = "https://h.example/dir/"
PROSE = "<p>The ferry leaves in the morning, and it returns in the evening with the mail and a few visitors.</p>" * 3
LONG = "x" * (MAX_CAPTION_CHARS + 1)


def document(html, *things, head=""):
    """Extract a page: prose, something, prose; `things` are its JSON-LD."""
    scripts = "".join(f"<script type=application/ld+json>{json.dumps(thing)}</script>" for thing in things)
    page = f"<head>{head}{scripts}</head><article><h1>An island</h1>{PROSE}{html}{PROSE}</article>".encode()
    found = extract_document(Page(URL, page, "utf-8", None, Origin("f", 0)), ExtractConfig())
    assert isinstance(found, Document)
    return found


def texts(html, *things, head=""):
    """Write the texts of the media of a page."""
    items = document(html, *things, head=head).items
    return [
        [f"{said.kind}: {said.text}" for said in item.texts] for item in items if isinstance(item, ImageRef | VideoRef)
    ]


def videos(html, *things, head=""):
    return [item for item in document(html, *things, head=head).items if isinstance(item, VideoRef)]


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<img src=i.jpg>", []),
        ("<img src=i.jpg alt=' A \n cat '>", ["alt: A cat"]),
        ("<img src=i.jpg title='&lt;b&gt;Cat&lt;/b&gt; &amp;amp; dog'>", ["title: Cat & dog"]),
        ("<img src=i.jpg alt=Cat title=Cat>", ["alt: Cat", "title: Cat"]),
        ("<img src=i.jpg alt=Cat aria-label=Dog>", ["alt: Cat"]),
        ("<img src=i.jpg data-caption='A cat'>", ["caption: A cat"]),
        ("<a href=b.jpg title=Cat data-caption=Tom><img src=i.jpg></a>", ["title: Cat", "caption: Tom"]),
        ("<a href=b.jpg title=Cat><picture><source srcset=c.webp><img src=i.jpg></picture></a>", ["title: Cat"]),
        ("<a href=cats title=Cats><img src=i.jpg></a>", []),
        ("<figure title=Cats><img src=i.jpg></figure>", ["title: Cats"]),
        (f"<img src=i.jpg alt={LONG} title={LONG[1:]}>", [f"title: {LONG[1:]}"]),
        ("<figure><img src=i.jpg alt=Cat><figcaption>Tom</figcaption></figure>", ["alt: Cat", "figcaption: Tom"]),
        ("<figure><img src=i.jpg alt=Cat><p>Tom</p></figure>", ["alt: Cat", "figcaption: Tom"]),
        ("<div class=wp-caption><img src=i.jpg alt=Cat><p>Tom</p></div>", ["alt: Cat", "caption: Tom"]),
        ("<p><img src=i.jpg alt=Cat></p><p class=caption>Tom</p>", ["alt: Cat", "caption: Tom"]),
    ],
)  # fmt: skip
def test_texts_beside_a_picture(html, expected):
    assert texts(html) == [expected]


def test_the_title_of_a_figure_of_two_is_of_neither():
    assert texts("<figure title=Cats><img src=i.jpg><img src=j.jpg></figure>") == [[], []]


CAT = {"@type": "ImageObject", "contentUrl": "/dir/i.jpg", "caption": "A cat"}


@pytest.mark.parametrize(
    "thing",
    [
        CAT,
        [CAT],
        {"@type": ["ImageObject", "CreativeWork"], "url": {"@id": "i.jpg"}, "name": {"@value": "A cat"}},
        {"@type": "Article", "image": [CAT, CAT]},
        {"@type": "WebPage", "mainEntity": {"@type": "Recipe", "image": CAT}},
        {"@graph": [{"@type": "Thing"}, CAT | {"name": LONG, "description": " "}]},
        {"@type": "schema:ImageObject", "url": "http://www.h.example/dir/i.jpg", "description": "<p>A&nbsp;cat</p>"},
    ],
)
def test_json_ld_describes_a_picture(thing):
    assert texts("<img src=i.jpg alt=''>", thing) == [["description: A cat"]]


@pytest.mark.parametrize(
    "thing",
    [
        CAT | {"@type": "Image"},
        CAT | {"contentUrl": "/dir/j.jpg"},
        CAT | {"contentUrl": "https://other.example/dir/i.jpg"},
        CAT | {"contentUrl": 7, "caption": ["A cat"]},
        {"@type": "Article", "author": {"image": CAT}, "publisher": {"logo": CAT}, "comment": [CAT]},
    ],
)
def test_json_ld_of_something_else(thing):
    assert texts("<img src=i.jpg>", thing) == [[]]


SAME = [
    ("https://h.example/u/2023/harbour-view.jpg", "http://www.h.example/u/2023/harbour-view.jpg"),
    ("https://h.example/u/2023/harbour-view.jpg", "https://h.example/u/2023/harbour-view-1024x683.jpg"),
    ("https://h.example/u/2023/harbour-view-scaled.jpg", "https://cdn.example/w_9/2023/Harbour-View.webp?w=3"),
]
OTHER = [
    ("https://h.example/2023/harbour-view-1.jpg", "https://h.example/2023/harbour-view-2.jpg"),
    ("https://h.example/2022/harbour-view.jpg", "https://h.example/2023/harbour-view.jpg"),
    ("https://h.example/a/7/image.jpg", "https://cdn.example/b/7/image.jpg"),
    ("https://h.example/i.php?n=1", "https://h.example/i.php?n=2"),
]


@pytest.mark.parametrize(("one", "other", "same"), [(*pair, pair in SAME) for pair in SAME + OTHER])
def test_two_addresses_of_one_picture(one, other, same):
    assert (not set(keys_of(one)).isdisjoint(keys_of(other))) is same


HEADS = {
    "one picture": ("<meta property=og:image content=i.jpg><meta property=og:image:alt content=Cat>", "Cat", ""),
    "two addresses of one": (
        "<meta property=og:image content=i.jpg><meta property=og:image content=/dir/i.jpg>"
        "<meta property=og:image:alt content=Cat>",
        "Cat",
        "",
    ),
    "two pictures": (
        "<meta property=og:image content=j.jpg><meta property=og:image:alt content=Dog>"
        "<meta property=og:image content=i.jpg><meta property=og:image:alt content=Cat>",
        "Cat",
        "Dog",
    ),
    "two pictures and one text": (
        "<meta property=og:image content=i.jpg><meta property=og:image content=j.jpg>"
        "<meta property=og:image:alt content=Cat>",
        "",
        "",
    ),
    "a card of its own": (
        "<meta property=og:image content=i.jpg><meta name=twitter:image content=j.jpg>"
        "<meta name=twitter:image:alt content=Dog>",
        "",
        "Dog",
    ),
    "the card of the page": (
        "<meta property=og:image content=i.jpg><meta name=twitter:image:alt content=Cat>",
        "Cat",
        "",
    ),
    "no picture": ("<meta property=og:image:alt content=Cat>", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_head_describes_the_picture_that_it_announces(name):
    head, *expected = HEADS[name]
    found = texts("<p><img src=i.jpg width=640></p><p>Then</p><p><img src=j.jpg width=640></p>", head=head)
    assert found == [[f"description: {text}"] if text else [] for text in expected]


PHOTO = "<title>Weir</title><meta name=description content='Mist over the weir'><meta property=og:image content={}>"


@pytest.mark.parametrize(
    ("body", "announced", "described"),
    [
        ("<h1>Weir</h1><img src=i.jpg width=900>", "i.jpg", True),
        (f"<h1>Weir</h1><figure><img src=i.jpg><figcaption>{'w ' * 400}</figcaption></figure>", "i.jpg", True),
        ("<h1>Weir</h1><img src=i.jpg width=900>", "j.jpg", False),
        ("<h1>Weir</h1><img src=i.jpg width=900><img src=j.jpg width=900>", "i.jpg", False),
        ("<h1>Weir</h1><img src=i.jpg width=900>" + PROSE + PROSE, "i.jpg", False),
    ],
)  # fmt: skip
def test_the_description_of_a_page_is_that_of_its_only_picture(body, announced, described):
    page = f"<head>{PHOTO.format(announced)}</head><main>{body}</main>".encode()
    found = extract_document(Page(URL, page, "utf-8", None, Origin("f", 0)), ExtractConfig())
    images = [item for item in found.items if isinstance(item, ImageRef)]
    assert images
    assert (Said("description", "Mist over the weir") in images[0].texts) is described


IMAGES = "<div><img src=i.jpg width=640></div><div><img src=j.jpg width=640></div>"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (f"<div class=gallery><h3>Cats</h3>{IMAGES}</div>", "Cats"),
        (f"<div class=gallery><div class=gallery-title>Cats</div>{IMAGES}</div>", "Cats"),
        (f"<h3>Cats</h3><div class=gallery>{IMAGES}</div>", "Cats"),
        (f"<p>Cats</p><div class=gallery>{IMAGES}</div>", ""),
        (f"<h3>Cats</h3><div>{IMAGES}</div>", ""),
        (f"<div class=gallery><div><div><h3>Cats</h3></div>{IMAGES}</div></div>", ""),
        (f"<div class=gallery><h3>{'Cats ' * 50}</h3>{IMAGES}</div>", ""),
        (f"<div class=gallery><h3>Cats</h3>{IMAGES}{PROSE * 4}</div>", ""),
    ],
)
def test_the_heading_of_a_gallery(html, expected):
    assert texts(html) == [[f"gallery: {expected}"] if expected else []] * 2


def test_one_picture_is_no_gallery():
    assert texts("<div class=gallery><h3>Cats</h3><div><img src=i.jpg width=640></div></div>") == [[]]


def test_a_gallery_in_a_gallery():
    inner = f"<div class=slider><h4>Tom</h4>{IMAGES}</div>"
    found = texts(f"<div class=gallery><h3>Cats</h3><div><img src=k.jpg width=640></div>{inner}</div>")
    assert found == [["gallery: Cats"], ["gallery: Tom"], ["gallery: Tom"]]


FIGURES = "".join(f"<figure><img src={name}.jpg><figcaption>{name}</figcaption></figure>" for name in "ij")


def test_the_caption_of_a_figure_of_figures():
    found = texts(f"<figure>{FIGURES}<figcaption>Cats</figcaption></figure>")
    assert found == [["figcaption: i", "gallery: Cats"], ["figcaption: j", "gallery: Cats"]]
    assert texts(f"<figure>{FIGURES}</figure>") == [["figcaption: i"], ["figcaption: j"]]


def test_a_caption_of_one_picture_is_not_that_of_the_gallery():
    html = "<p><img src=i.jpg></p><p class=caption>Tom</p><p><img src=j.jpg></p><p class=caption>Tim</p>"
    assert texts(f"<div class=slider>{html}</div>") == [["caption: Tom"], ["caption: Tim"]]


def test_the_texts_of_a_page_are_bounded(monkeypatch):
    monkeypatch.setattr(candidates, "MAX_TEXTS_CHARS", 9)
    html = "".join(f"<p>{name}</p><p><img src={name}.jpg alt=Cat{name} width=640></p>" for name in "ijkl")
    found = document(html).items
    assert [len(item.texts) for item in found if isinstance(item, ImageRef)] == [1, 1, 0, 0]
    assert [item.alt for item in found if isinstance(item, ImageRef)] == ["Cati", "Catj", "Catk", "Catl"]


# --- videos ----------------------------------------------------------------------------------------------------------

FILM = {"@type": "VideoObject", "contentUrl": "/f.mp4", "name": "Film"}
OG = "<meta property=og:title content=Title><meta property=og:video content=/o.mp4>"
PLAYER = OG.replace("o.mp4", "player")
AND = "<p>and</p><video src=/{}></video>"
SHOWN = "<video src=/v.mp4 controls></video>"
AT_ROOT = "https://h.example/"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (SHOWN, []),
        ("<video src=v.mp4 title=' A  film '></video>", ["title: A film"]),
        ("<figure><video src=v.mp4></video><figcaption>Tom</figcaption></figure>", ["figcaption: Tom"]),
        ("<figure><video src=v.mp4></video><p>Tom</p></figure>", ["figcaption: Tom"]),
        ("<div class=wp-caption><video src=v.mp4></video><p>Tom</p></div>", ["caption: Tom"]),
        ("<video src=v.mp4></video><p class=caption>Tom</p>", ["caption: Tom"]),
        ("<video src=v.mp4></video><p>Tom</p>", []),
    ],
)
def test_texts_beside_a_video(html, expected):
    assert texts(html) == [expected]


def test_videos_in_figures_of_their_own_stand_among_content():
    html = "".join(f"<figure><video src={name}.mp4></video><figcaption>{name}</figcaption></figure>" for name in "abc")
    assert texts(html) == [["figcaption: a"], ["figcaption: b"], ["figcaption: c"]]


@pytest.mark.parametrize(
    ("html", "things", "head", "expected"),
    [
        ("", [FILM], "", [("f.mp4", ["Film"])]),
        ("", [{"@type": "Article", "video": [FILM]}], "", [("f.mp4", ["Film"])]),
        ("", [FILM, FILM], "", [("f.mp4", ["Film"])]),
        ("", [FILM | {"contentUrl": "/p.html"}], "", []),
        ("", [FILM | {"contentUrl": "/p", "encodingFormat": "video/mp4"}], "", [("p", ["Film"])]),
        ("", [{"@type": "VideoObject", "name": "Film"}], "", []),
        ("", [{"@type": "VideoObject", "embedUrl": "/f.mp4"}], "", []),
        ("", [FILM, FILM | {"contentUrl": "/g.mp4"}], "", []),
        ("", [{"@type": "WebPage", "mainEntity": FILM}, FILM | {"contentUrl": "/g.mp4"}], "", [("f.mp4", ["Film"])]),
        ("", [], OG, [("o.mp4", ["Title"])]),
        ("", [], PLAYER, []),
        ("", [], PLAYER + "<meta property=og:video:type content=video/mp4>", [("player", ["Title"])]),
        ("", [], OG + "<meta property=og:video:type content=text/html>", []),
        ("", [FILM], OG, [("f.mp4", ["Film", "Title"])]),
        (SHOWN, [FILM], "", [("v.mp4", ["Film"])]),
        (SHOWN, [], OG, [("v.mp4", ["Title"])]),
        (SHOWN, [{"@type": "VideoObject", "name": "Film", "embedUrl": "/e"}], "", [("v.mp4", ["Film"])]),
        (SHOWN, [{"@type": "VideoObject", "name": "Film", "embedUrl": "//t.example/e"}], "", [("v.mp4", [])]),
        (SHOWN, [FILM, FILM | {"contentUrl": "/v.mp4", "name": "Own"}], "", [("v.mp4", ["Own"])]),
        (SHOWN + AND.format("f.mp4?x=1"), [FILM], "", [("v.mp4", []), ("f.mp4?x=1", ["Film"])]),
        (SHOWN + AND.format("w.mp4"), [FILM], "", [("v.mp4", []), ("w.mp4", []), ("f.mp4", ["Film"])]),
        ("<video src=/v.mp4 loop></video>", [FILM], "", [("v.mp4", []), ("f.mp4", ["Film"])]),
        (SHOWN + AND.format("v.mp4?x=1"), [], "", [("v.mp4", [])]),
    ],
)  # fmt: skip
def test_videos_that_are_named_and_shown(html, things, head, expected):
    found = videos(html, *things, head=head)
    assert [(one.url.removeprefix(AT_ROOT), [said.text for said in one.texts]) for one in found] == expected


def test_a_page_of_which_only_the_film_is_known():
    html = f"<head><script type=application/ld+json>{json.dumps(FILM)}</script></head><body></body>".encode()
    found = extract_document(Page(URL, html, "utf-8", None, Origin("f", 0)), ExtractConfig())
    assert found.items == (VideoRef(AT_ROOT + "f.mp4", (Said("name", "Film"),)),)


def test_what_is_known_of_a_video_is_put_together():
    film = FILM | {
        "contentUrl": "/v.mp4",
        "description": "Tom\n runs",
        "caption": "Tom",
        "transcript": "One. Two.",
        "duration": "PT1H2M3.5S",
        "uploadDate": "2020-05-06",
        "thumbnailUrl": ["t.jpg"],
    }
    shown = "<video src=/v.mp4 title=T><track src=a.vtt kind=captions srclang=en></video>"
    texts = ("title: T", "name: Film", "caption: Tom", "description: Tom runs", "transcript: One. Two.", "title: Title")
    head = OG.replace("o.mp4", "v.mp4") + "<meta property=og:video:duration content=9>"
    assert videos(shown, film, head=head) == [
        VideoRef(
            AT_ROOT + "v.mp4",
            tuple(Said(*text.split(": ", 1)) for text in texts),
            AT + "t.jpg",
            3723.5,
            datetime(2020, 5, 6, tzinfo=UTC),
            (Track(AT + "a.vtt", "captions", "en"),),
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PT51S", 51.0),
        ("P0DT0H2M5S", 125.0),
        ("P1DT1S", 86_401.0),
        ("PT1.25S", 1.25),
        ("PT", 0.0),
        ("51", 0.0),
        ("PT99999999S", 0.0),
        ("PT1S" * 50, 0.0),
        ("PT-5S", 0.0),
        ("00:51", 0.0),
    ],
)
def test_duration(text, expected):
    assert parse_duration(text) == expected


# --- JSON-LD of any kind ---------------------------------------------------------------------------------------------


def test_the_media_of_a_page_are_bounded():
    many = [{"@type": "ImageObject", "url": f"{number}.jpg", "name": "x"} for number in range(3_000)]
    assert len(jsonld.media_of([{"image": many}])) < jsonld.MAX_OBJECTS
    deep = {"@type": "ImageObject"}
    for _ in range(5_000):
        deep = {"@type": "ImageObject", "image": deep}
    assert len(jsonld.media_of([deep])) == jsonld.MAX_OBJECTS


KEYS = st.sampled_from(
    ["@type", "@id", "@graph", "@value", "image", "video", "name", "url", "contentUrl", "embedUrl", "mainEntity",
     "caption", "description", "transcript", "duration", "uploadDate", "thumbnailUrl", "encodingFormat"]
)  # fmt: skip
WORDS = st.sampled_from(["ImageObject", "VideoObject", "i.jpg", "v.mp4", "PT5S", "2020-01-02", "\ud800", "&#0;", "<b"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=6), max_size=3))
def test_whatever_the_json_ld_says_can_be_written(things):
    marks = find_marks(parse_html("<p>x", 100, 100, time.monotonic() + 60))
    told = read_told(marks, things, URL, None)
    for said in [
        *(one for texts in told.pictures.values() for one in texts),
        *(t for v in told.videos for t in v.texts),
    ]:
        said.text.encode()
        assert said.text == " ".join(said.text.split()) != ""
    assert all(video.duration_s >= 0 and video.poster.isprintable() for video in told.videos)
