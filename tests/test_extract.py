"""Page → document: reading order, what is left out, captions, bad pages, and the real pages of the corpus."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.extract import ExtractConfig, extract_document
from schemas.document import Document, ImageRef, Text, VideoRef
from schemas.page import Origin, Page, Rejected

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
URL = "https://h.example/dir/page"
AT = "https://h.example/dir/"
PROSE = "This sentence is long enough to be taken for the content of a page by any rule. " * 4


def extract(html, charset="utf-8", **settings):
    data = html.encode() if isinstance(html, str) else html
    return extract_document(Page(URL, data, charset, None, Origin("f", 0)), ExtractConfig(**settings))


def items(html):
    """Texts as strings, pictures as file names."""
    found = extract(html)
    assert isinstance(found, Document), found
    return [item.text if isinstance(item, Text) else "@" + item.url.removeprefix(AT) for item in found.items]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a <b>bold</b>\n\n word</p><p>b", ["a bold word", "b"]),
        ("<div>a<div>b</div>c</div>", ["a", "b", "c"]),
        ("<p>a<br>b <br/> c", ["a\nb\nc"]),
        ("un<i>believ</i>able", ["unbelievable"]),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>", ["a", "b", "c"]),
        ("<h1>t</h1>text<h2>u</h2>", ["t", "text", "u"]),
        ("<pre>a\n   b\n\n c</pre>", ["a\n   b\n\n c"]),
        ("<p>a<img src=i.jpg>b", ["a", "@i.jpg", "b"]),
        ("<p>a<video src=v.mp4></video>b", ["a", "@v.mp4", "b"]),
        ("<dl><dt>a<dd>b</dl>", ["a", "b"]),
        ("<table><tr><th>a<th>b<tr><td>1<br>2<td><b>3</b></table>", ["a\tb\n1 2\t3"]),
        ("<table><caption>c</caption><tr><td>a<td>b<tr><td>c<td></table>", ["c", "a\tb\nc"]),
        ("<table><tr><td>a<td>b</table>", ["a", "b"]),
        ("<table><tr><td>a<img src=i.jpg><td>b<tr><td>c<td>d</table>", ["a", "@i.jpg", "b", "c", "d"]),
        ("<a href=big.jpg><img src=t.jpg></a>", ["@t.jpg"]),
        ("<base href=/x/><img src=t.jpg>", ["@https://h.example/x/t.jpg"]),
        ("<amp-img src=t.jpg></amp-img>", ["@t.jpg"]),
        ("&lt;b&gt;&nbsp;x", ["<b> x"]),
    ],
)
def test_reading_order(html, expected):
    assert items(html) == expected


@pytest.mark.parametrize(
    "html",
    [
        "<p hidden>x", "<p style='color:red; DISPLAY : none'>x", "<p style=visibility:hidden>x", "<p class=sr-only>x",
        "<span aria-hidden=true>x</span>", "<script>x</script>", "<style>x</style>", "<template>x</template>",
        "<head><title>x</title></head>", "<noscript>x</noscript>", "<button>x</button>", "<select><option>x</select>",
        "<textarea>x</textarea>", "<!-- x -->", "<svg><text>x</text></svg>", "<iframe>x</iframe>", "<nav>x</nav>",
        "<footer>x</footer>", "<header>x</header>", "<aside>x</aside>", "<div role=navigation>x</div>",
        "<div class='page-sidebar'>x</div>", "<div id=cookieBanner>x</div>", "<ul class=share_bar><li>x</ul>",
        "<div class=relatedPosts>x</div>", "<section id=comments>x</section>", "<p class=newsletter>x",
        "<ul><li><a href=1>x</a><li><a href=2>x</a><li><a href=3>x</a></ul>", "<dialog>x</dialog>",
        "<p><a href=big.jpg>x</a>", "<table><tr hidden><td>x<td>x<tr style=display:none><td>x<td>x</table>",
    ],
)  # fmt: skip
def test_what_is_not_content(html):
    assert items(f"<p>{PROSE}</p>{html}<p>end") == [PROSE.strip(), "end"]


@pytest.mark.parametrize(
    "html",
    [
        "<div class='no-sharepoint adjust commentary'>x</div>",
        "<article><header>x</header></article>",
        "<header><h1>x</h1></header>",
        "<p>see <a href=1>x</a>",
        "<figure class=related><p>x</figure>",
        "<details><summary>x</summary></details>",
    ],
)
def test_what_only_looks_like_boilerplate(html):
    assert any("x" in text.split() for text in items(f"<p>{PROSE}</p>{html}<p>end"))


def test_a_name_that_covers_most_of_the_page_means_nothing():
    assert items(f"<div class=with-sidebar><p>{PROSE}</p><div class=sidebar>x</div></div>") == [PROSE.strip()]


def test_the_article_is_taken_where_it_holds_the_content():
    assert items(f"<p>before<article><h1>t</h1><p>{PROSE}</article><p>after") == ["t", PROSE.strip()]
    assert items(f"<p>{PROSE}<p>{PROSE}<article>teaser</article>")[-1] == "teaser"


@pytest.mark.parametrize(
    "html",
    [
        "<figure><img src=i.jpg><figcaption>The <b>cat</b></figcaption></figure>",
        "<figure><picture><img src=i.jpg></picture><p>The cat</p></figure>",
        "<p class=illustration><img src=i.jpg></p><p class=caption>The cat</p>",
        "<div><img src=i.jpg><span class='wp-caption-text'>The cat</span></div>",
        "<div class=figcenter><a name=x></a><img src=i.jpg><span class=caption>The cat</span></div>",
        "<div class=figure><a href=b.jpg><img src=i.jpg></a><br><i>The cat</i></div>",
        "<table><tr><td class=illustration><img src=i.jpg><tr><td class=caption>The cat</table>",
        "<table><tr><td><img src=i.jpg><td><p class=caption>The cat</table>",
    ],
)
def test_captions(html):
    document = extract(f"<p>{PROSE}</p>{html}<p>end")
    assert document.items[1:] == (ImageRef(AT + "i.jpg", caption="The cat"), Text("The cat"), Text("end"))


def test_a_caption_and_its_credit():
    document = extract("<p><img src=i.jpg></p><p class=caption>Cat</p><p class=credit>AP</p><p>end")
    assert document.items[0].caption == "Cat AP"


def test_captions_of_pictures_side_by_side_stand_each_after_its_own():
    cells = "<td class=illustration><img src=a.jpg><td><img src=b.jpg>"
    assert items(f"<table><tr>{cells}<tr><td class=caption>A<td class=caption>B</table>") == [
        "@a.jpg",
        "A",
        "@b.jpg",
        "B",
    ]
    document = extract(f"<table><tr>{cells}<tr><td class=caption colspan=2>Both</table>")
    assert [getattr(item, "caption", item) for item in document.items] == ["Both", "Both", Text("Both")]


def test_captions_below_pictures_that_cover_several_rows():
    rows = [
        "<td rowspan=3><img src=a.jpg><td><img src=b.jpg>",
        "<td class=caption>B",
        "<td><img src=c.jpg>",
        "<td class=caption>A<td class=caption>C",
    ]
    table = "<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>"
    assert items(table) == ["@b.jpg", "B", "@a.jpg", "A", "@c.jpg", "C"]


def test_a_caption_below_a_floating_picture_moves_up():
    assert items("<p class=right><img src=a.jpg><p>Prose.<p class=caption>Fig. 1<p>end") == [
        "@a.jpg",
        "Fig. 1",
        "Prose.",
        "end",
    ]


def test_a_long_text_is_no_caption():
    document = extract(f"<figure><img src=a.jpg><figcaption>{PROSE * 20}</figcaption></figure>")
    assert document.items[0].caption == ""


@pytest.mark.parametrize(
    "html",
    [
        "<img class=lazy data-src=a.jpg><noscript><img src=a.jpg></noscript>",
        "<img src=data:image/gif;base64,R0><noscript><img src=a.jpg></noscript>",
        "<img src=blank.gif>\n<noscript><img src=a.jpg></noscript>",
        "<noscript><img src=a.jpg></noscript><img class=lazy data-src=a.jpg>",
        "<picture><img data-src=a.jpg></picture><noscript><img src=a.jpg></noscript>",
        "<noscript><img src=a.jpg></noscript>",
    ],
)
def test_the_twin_in_noscript_counts_once(html):
    assert items(f"<div>{html}</div>") == ["@a.jpg"]
    assert items(f"<div>{html}{html}</div>") == ["@a.jpg", "@a.jpg"]


def test_title_language_and_origin():
    page = Page(
        URL, b"<html lang=EN_us><title> A \n page</title><svg><title>no</title></svg>x", None, None, Origin("f", 7, 9)
    )
    assert extract_document(page, ExtractConfig()) == Document(URL, "A page", "en-us", (Text("x"),), Origin("f", 7, 9))
    assert extract("<html lang='no such tag'>x").language == ""


BAD_PAGES = [
    (b"a" * 100_000_000, {}, "too_large"),
    ("<div>" * 100_000 + "x", {}, "too_deep"),
    ("<div><table></div></table>" * 100_000, {}, "too_deep"),
    ("<div>" * 60 + "x", {"max_depth": 50}, "too_deep"),
    ("<p " + " ".join(f"a{i}" for i in range(60_000)) + ">x", {}, "too_many_attributes"),
    ("<p>x" * 200_000, {}, "too_many_nodes"),
    (f"<p>{PROSE}" * 400, {"timeout_s": 0.0}, "timeout"),
    (bytes(range(256)) * 64, {}, "not_html"),
    (b"%PDF-1.4 text", {}, "not_html"),
    (b"\x89PNG\r\n", {}, "not_html"),
    (b"\xff\xd8\xff\xe0", {}, "not_html"),
    ('<?xml version="1.0"?>\n<rss><channel><title>x</title></channel></rss>', {}, "not_html"),
    (b"", {}, "empty"),
    ("<html><body><script>x</script></body></html>", {}, "empty"),
]


@pytest.mark.parametrize(
    ("html", "settings", "reason"), BAD_PAGES, ids=[f"{i}-{r}" for i, (_, _, r) in enumerate(BAD_PAGES)]
)
def test_bad_pages_are_rejected_with_their_reason(html, settings, reason):
    found = extract(html, **settings)
    assert isinstance(found, Rejected)
    assert (found.stage, found.reason, found.kind, found.url, found.origin) == (
        "extract",
        reason,
        "page",
        URL,
        Origin("f", 0),
    )


DEAR_PAGES = {
    "8,000 wrappers": "<div>" * 8_000 + PROSE + "</div>" * 8_000,
    "headers in headers": "<header>" * 4_000 + PROSE + "<footer>x</footer>" * 20_000,
    "flat": "<p>x" * 100_000,
    "pictures of one figure": f"<figure>{'<img src=a>' * 20_000}<figcaption>{PROSE}</figcaption></figure>",
    "captions": "<img src=a>" * 10_000 + "<p class=caption>x" * 10_000 + f"<p>{PROSE}",
    "waiting cells": "<table>"
    + "<tr><td><img src=a><td>x<td colspan=9>y<tr><td class=caption>c" * 5_000
    + "</table>"
    + PROSE,
    "tables in tables": "<table><tr><td>x" * 1_500 + PROSE,
    "links": "<ul>" + "<li><a href=x>x</a>" * 20_000 + "</ul>" + PROSE,
    "a picture of many sources": "<picture>" + "<source srcset=a><img src=b>" * 10_000 + PROSE,
    "a long srcset": f"<img srcset='{'a 1w,' * 200_000}'>" + PROSE,
    "unclosed everything": "<div><p><b>" * 700 + "<table><tr><td><a href='x" + PROSE + "'>x<!-- " + PROSE,
}


@pytest.mark.parametrize("name", DEAR_PAGES)
def test_dear_pages_pass_within_the_time_limit(name):
    assert isinstance(extract(DEAR_PAGES[name]), Document)


def test_a_lying_charset_does_not_lose_the_page():
    assert extract("<p>Füße</p>".encode(), charset="utf-16").items
    assert extract("<p>Füße auf Straßen</p>".encode("cp1252"), charset="utf-8").items == (Text("Füße auf Straßen"),)
    assert extract("<p>Füße</p>".encode(), charset="koi8-r").items == (Text("Füße"),)


@cache
def corpus_documents(name):
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"no {path.name} beside the repository")
    found = []
    with path.open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            if "html" in (record.http_content_type or ""):
                url, charset = record.headers["WARC-Target-URI"], record.http_charset
                page = Page(url, record.reader.read(), charset, None, Origin(name, 0))
                found.append(extract_document(page, ExtractConfig()))
    return found


def test_every_picture_of_the_books_is_in_place_with_its_caption():
    documents = corpus_documents("books.warc.gz")
    pictures = [[item for item in document.items if isinstance(item, ImageRef)] for document in documents]
    assert [len({picture.url for picture in of_one}) for of_one in pictures] == [365, 68, 326, 32]
    assert [len(of_one) for of_one in pictures] == [365, 68, 345, 32]
    assert [sum(picture.caption != "" for picture in of_one) for of_one in pictures] == [352, 64, 78, 13]
    alone = [
        (before, after)
        for before, after in pairwise(documents[1].items)
        if isinstance(before, ImageRef) and before.caption
    ]
    assert all(isinstance(after, Text) and " ".join(after.text.split()) == before.caption for before, after in alone)


def test_every_article_is_a_document():
    documents = corpus_documents("articles.warc.gz")
    assert len(documents) == 130
    assert not [document for document in documents if isinstance(document, Rejected)]
    assert all(item.url for document in documents for item in document.items if isinstance(item, ImageRef | VideoRef))


def test_the_same_page_gives_the_same_document():
    page = Page(URL, DEAR_PAGES["captions"].encode(), None, None, Origin("f", 0))
    assert extract_document(page, ExtractConfig()) == extract_document(page, ExtractConfig())
