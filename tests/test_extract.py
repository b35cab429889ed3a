"""Page → document: reading order, what is left out, captions, bad pages, and the real pages of the corpus."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.extract import ExtractConfig, extract_document
from schemas.document import Document, ImageRef, Said, Text, VideoRef
from schemas.page import Origin, Page, Rejected

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
URL = "https://h.example/dir/page"
AT = "https://h.example/dir/"
PROSE = "This sentence is long enough to be taken for the content of a page by any rule. " * 4
TITLE = "An island in the north"
PARAGRAPHS = [
    "The ferry leaves the harbour at seven in the morning, and it returns in the evening with a few visitors.",
    "On the island there are two villages, one on the northern shore and one below the old lighthouse.",
    "Most of the houses were built in the last century by fishermen, who took the stones from the abbey.",
    "In winter the sea is often too rough for the small boat, so that letters wait for days on the mainland.",
]


def extract(html, charset="utf-8", **settings):
    data = html.encode() if isinstance(html, str) else html
    return extract_document(Page(URL, data, charset, None, Origin("f", 0)), ExtractConfig(**settings))


def article(middle="", before="", after="", head=""):
    """Write a page: an article with something in its middle, and something before and after it."""
    first, second = (f"<p>{one}</p>\n<p>{other}</p>\n" for one, other in (PARAGRAPHS[:2], PARAGRAPHS[2:]))
    main = f"<main><article><h1>{TITLE}</h1>\n{first}{middle}{second}</article></main>"
    return f"<html><head><title>{TITLE}</title>{head}</head><body>{before}{main}{after}</body></html>"


def items(html):
    """Extract a page: texts as strings, pictures as file names."""
    found = extract(html)
    assert isinstance(found, Document), found
    return [item.text if isinstance(item, Text) else "@" + item.url.removeprefix(AT) for item in found.items]


def middle(html, head=""):
    """Extract an article, and return what stands in its middle."""
    found = items(article(html, head=head))
    assert [found[:3], found[-2:]] == [[TITLE, *PARAGRAPHS[:2]], PARAGRAPHS[2:]]
    return found[3:-2]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>It is a <b>small</b>\n\n island.</p>", ["It is a small island."]),
        ("<h2>Winter</h2>", ["Winter"]),
        ("<ul><li>Take the <b>red</b> boat.<li>Walk north.</ul>", ["Take the red boat.", "Walk north."]),
        ("<blockquote><p>It is cold.</p></blockquote>", ["It is cold."]),
        ("<p>One line<br>and another,<br><br>and a paragraph.", ["One line\nand another,", "and a paragraph."]),
        ("<table><tr><th>Year<th>Boats<tr><td>1990<td>3</table>", ["Year\tBoats\n1990\t3"]),
        ("<p>See <a href=1>the harbour</a> in the evening.", ["See the harbour in the evening."]),
        ("<p>Here it is.<img src=i.jpg>", ["Here it is.", "@i.jpg"]),
        ("<p><a href=big.jpg><img src=i.jpg></a></p>", ["@i.jpg"]),
        ("<div class=gallery><img src=i.jpg><img src=j.jpg></div>", ["@i.jpg", "@j.jpg"]),
        ("<noscript><img src=i.jpg></noscript>", ["@i.jpg"]),
        ("<video src=v.mp4></video>", ["@v.mp4"]),
        ("<p>1 &lt; 2,&nbsp;as ever.", ["1 < 2, as ever."]),
        ("<p hidden>Not seen.", []),
    ],
)
def test_what_stands_in_an_article(html, expected):
    assert middle(html) == expected


def test_references_start_at_the_base_of_a_page():
    assert middle("<p><img src=t.jpg></p>", head="<base href=/x/>") == ["@https://h.example/x/t.jpg"]


BEFORE = {
    "a menu": "<nav><ul><li><a href=/>Home</a><li><a href=/n>News</a><li><a href=/c>Contact</a></ul></nav>",
    "a menu by its class": "<div class=main-menu><a href=/>Home</a> <a href=/n>News</a> <a href=/s>Sport</a></div>",
    "a menu by its role": "<div role=navigation><ul><li><a href=/>Home</a><li><a href=/n>News</a></ul></div>",
    "a header": "<header><a href=/><img src=logo.png alt='Daily logo' width=120 height=40></a><p>3 May 2021</header>",
    "a path": "<div class=breadcrumbs><a href=/>Home</a> › <a href=/n>North</a> › An island</div>",
    "a notice": "<div id=cookieBanner><p>This site uses cookies. <a href=/p>Read more</a></p><button>OK</button></div>",
}
AFTER = {
    "a footer": "<footer><p>© 2021 The Daily. All rights reserved. <a href=/imprint>Imprint</a></p></footer>",
    "a footer by its id": "<div id=footer>Copyright 2021 The Daily | <a href=/terms>Terms</a></div>",
    "related pages": "<div class=related-posts><h3>Related</h3><ul>"
    "<li><a href=/1><img src=t1.jpg width=80 height=60>Ten things to do in the south of the country</a>"
    "<li><a href=/2><img src=t2.jpg width=80 height=60>Why the ferry was late again this winter</a>"
    "<li><a href=/3>The best harbours of the western coast</a></ul></div>",
    "a sidebar": "<aside class=sidebar><h3>Most read</h3><ul>"
    "<li><a href=/1>Ten things to do in the south of the country</a>"
    "<li><a href=/2>Why the ferry was late again this winter</a></ul></aside>",
    "comments": "<section id=comments><h3>2 comments</h3>"
    "<div class=comment><span class=author>Anna</span> I was there last year, and it was very cold.</div>"
    "<div class=comment><span class=author>Ben</span> Thanks for this story, I liked it.</div></section>",
    "a share bar": "<ul class=share-bar><li><a href=//f.example>Facebook</a><li><a href=//t.example>Twitter</a></ul>",
    "a newsletter": "<div class=newsletter-signup><p>Subscribe to our newsletter and never miss a story.</p></div>",
    "an advert": "<div class=ad-slot><a href=//ad.example><img src=//ad.example/banner.gif width=300 height=250></a>"
    "<small>Advertisement</small></div>",
    "a list of links": "<ul><li><a href=1>One thing that we sell</a><li><a href=2>Another thing that we sell</a></ul>",
    "a pager": "<div class=pagination><a href=?p=1>1</a> <a href=?p=2>2</a> <a href=?p=3>Next</a></div>",
}


@pytest.mark.parametrize("name", [*BEFORE, *AFTER, "all of it"])
def test_what_stands_around_an_article(name):
    everything = name == "all of it"
    before = "".join(BEFORE.values()) if everything else BEFORE.get(name, "")
    after = "".join(AFTER.values()) if everything else AFTER.get(name, "")
    assert items(article(before=before, after=after)) == [TITLE, *PARAGRAPHS]


@pytest.mark.parametrize(
    "html",
    [
        "<div class='no-sharepoint adjust commentary'>{}</div>",
        "<header><h2>{}</h2></header>",
        "<figure class=related><img src=i.jpg><p>{}</figure>",
        "<details><summary>{}</summary></details>",
    ],
)
def test_what_only_looks_like_boilerplate(html):
    text = "The last boat leaves at eight, in summer at nine."
    assert text in middle(html.format(text))


def test_a_name_that_covers_most_of_the_page_means_nothing():
    page = article(after=AFTER["a sidebar"])
    assert items(page.replace("<main>", "<main class='with-sidebar has-comments'>")) == [TITLE, *PARAGRAPHS]
    assert items(page.replace("<main>", "<main class=sidebar>")) == [TITLE, *PARAGRAPHS]


def test_a_page_of_few_words_keeps_what_no_name_and_no_link_speaks_against():
    html = "<nav><a href=/>Home</a></nav><h1>Cats</h1><p>A cat.</p><div class=newsletter>Join</div><footer>Us</footer>"
    assert items(html) == ["Cats", "A cat."]


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
    document = extract(article(html))
    said = Said("figcaption" if "<figure>" in html else "caption", "The cat")
    assert document.items[3:-2] == (ImageRef(AT + "i.jpg", caption="The cat", texts=(said,)), Text("The cat"))


def captions_of(html):
    return [getattr(item, "caption", item) for item in extract(article(html)).items[3:-2]]


def test_a_caption_and_its_credit():
    html = "<p><img src=i.jpg></p><p class=caption>The cat</p><p class=credit>Photo: Ann</p>"
    assert captions_of(html) == ["The cat Photo: Ann", Text("The cat")]


def test_captions_of_pictures_side_by_side_stand_each_after_its_own():
    cells = "<td class=illustration><img src=a.jpg><td><img src=b.jpg>"
    captions = "<td class=caption>The cat<td class=caption>The dog"
    html = f"<table><tr>{cells}<tr>{captions}</table>"
    assert middle(html) == ["@a.jpg", "The cat", "@b.jpg", "The dog"]
    html = f"<table><tr>{cells}<tr><td class=caption colspan=2>Both animals</table>"
    assert captions_of(html) == ["Both animals", "Both animals", Text("Both animals")]


def test_captions_below_pictures_that_cover_several_rows():
    rows = [
        "<td rowspan=3><img src=a.jpg><td><img src=b.jpg>",
        "<td class=caption>The dog",
        "<td><img src=c.jpg>",
        "<td class=caption>The cat<td class=caption>The cow",
    ]
    table = "<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>"
    assert middle(table) == ["@b.jpg", "The dog", "@a.jpg", "The cat", "@c.jpg", "The cow"]


def test_a_caption_below_a_floating_picture_moves_up():
    html = "<p class=right><img src=a.jpg><p>Here the boat lands.<p class=caption>Fig. 1"
    assert middle(html) == ["@a.jpg", "Fig. 1", "Here the boat lands."]


def test_a_long_text_is_no_caption():
    document = extract(article(f"<figure><img src=a.jpg><figcaption>{PROSE * 20}</figcaption></figure>"))
    assert [item.caption for item in document.items if isinstance(item, ImageRef)] == [""]


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
    "unclosed everything": "<div><p><b>" * 700 + "<table><tr><td><a href='x" + PROSE + "'>x</a>y<!-- " + PROSE,
    "figures in figures": "<figure><img src=a><figcaption>x" * 3_000 + PROSE,
    "named wrappers": "<div class='wp-caption content'><img src=a>" * 8_000 + PROSE,
    "captions in captions": "<p>y<img src=a>" + "<div class=caption>x" * 8_000,
    "one paragraph of lines": "x<br><br>" * 50_000,
    "galleries in galleries": "<div class=gallery><h2>x</h2><img src=a>" * 8_000 + PROSE,
    "a gallery deep down": "<div class=gallery><h2>x</h2>" * 8_000 + "<img src=a>" * 8_000 + PROSE,
    "videos": "<p>x<figure><video src=a.mp4></video><figcaption>y</figcaption></figure>" * 8_000 + PROSE,
    "films of one page": '<script type="application/ld+json">['
    + ",".join(f'{{"@type":"VideoObject","name":"x","contentUrl":"{number}.mp4"}}' for number in range(3_000))
    + "]</script>"
    + PROSE,
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


PICTURES_OF_BOOKS = [365, 68, 326, 32]
CAPTIONS_OF_BOOKS = [352, 64, 78, 13]


def test_the_pictures_of_the_books_are_in_place_with_their_captions():
    documents = corpus_documents("books.warc.gz")
    pictures = [[item for item in document.items if isinstance(item, ImageRef)] for document in documents]
    assert [len({picture.url for picture in of_one}) for of_one in pictures] == PICTURES_OF_BOOKS
    assert [sum(picture.caption != "" for picture in of_one) for of_one in pictures] == CAPTIONS_OF_BOOKS
    alone = [
        (before, after)
        for before, after in pairwise(documents[1].items)
        if isinstance(before, ImageRef) and before.caption
    ]
    assert all(isinstance(after, Text) and " ".join(after.text.split()) == before.caption for before, after in alone)


def test_every_article_with_text_beside_its_links_is_a_document():
    documents = corpus_documents("articles.warc.gz")
    assert len(documents) == 130
    rejected = [document.url for document in documents if isinstance(document, Rejected)]
    assert rejected in ([], ["http://fakehost/test/js-link-replacement.html"])
    kept = [document for document in documents if isinstance(document, Document)]
    assert all(item.url for document in kept for item in document.items if isinstance(item, ImageRef | VideoRef))


def test_the_same_page_gives_the_same_document():
    page = Page(URL, DEAR_PAGES["captions"].encode(), None, None, Origin("f", 0))
    assert extract_document(page, ExtractConfig()) == extract_document(page, ExtractConfig())
