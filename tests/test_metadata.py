"""What a page says of itself: each fact from each source, what is refused, hostile pages, and the way to the index."""

import dataclasses
import io
import json
import tarfile
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import jsonld
from pipeline.assemble import sample_row
from pipeline.dates import parse_date, parse_published
from pipeline.dom import parse_html
from pipeline.extract import ExtractConfig, extract_document
from pipeline.marks import find_marks
from pipeline.metadata import MAX_AUTHOR_CHARS, MAX_TITLE_CHARS, find_base, read_metadata
from pipeline.shard import load_sample, write_sample
from pipeline.tables import SAMPLES
from schemas.document import DOCUMENT_SCHEMA, Document, document_from_row, document_to_row
from schemas.page import Origin, Page
from schemas.sample import from_members
from schemas.shard import INDEX_SCHEMA

URL = "https://h.example/news/page.html"
FETCHED = datetime(2024, 6, 1, 12, tzinfo=UTC)
SCRIPT = '<script type="application/ld+json"></script>'


def said(html, *scripts, url=URL, fetched=FETCHED):
    """Read a page with these JSON-LD scripts, whose text is put into the tree by hand."""
    tree = parse_html(SCRIPT * len(scripts) + html, 100_000, 10_000, time.monotonic() + 60)
    marks = find_marks(tree)
    for index, text in zip(marks.scripts, scripts, strict=True):
        tree.texts[index] = text if isinstance(text, str) else json.dumps(text)
    return read_metadata(tree, marks, find_base(tree, marks, url), url, fetched)


def day(*numbers):
    return datetime(*numbers, tzinfo=UTC)


# ---- title and language


@pytest.mark.parametrize(
    ("html", "scripts", "title"),
    [
        ("<title> A \n page</title><h1>no</h1>", (), "A page"),
        ("<title> </title><meta property=og:title content=' B  b '>", (), "B b"),
        ("<meta name=OG:Title content=B><h1>no</h1>", (), "B"),
        ("<h1>no</h1>", ({"@type": "Article", "headline": "Q &amp; A"},), "Q & A"),
        ("<h1>One<br>two <i>th</i>ree</h1><h1>no</h1>", (), "One two three"),
        ("<svg><title>no</title></svg><p>x", (), ""),
        (f"<title>{'word ' * 100}</title>", (), ("word " * 100)[:MAX_TITLE_CHARS].strip()),
        ("<h1>no</h1>", ({"@type": "Article", "headline": "a\ud800\0b"},), "a\ufffd\ufffdb"),
    ],
)
def test_title(html, scripts, title):
    assert said(html, *scripts).title == title


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ("<html lang=EN_us><p>x", "en-us"),
        ("<html lang='' xml:lang=de><p>x", "de"),
        ("<html lang='{{lang}}'><meta http-equiv=Content-Language content=fr>", "fr"),
        ("<meta http-equiv=content-language content='en, fr'><meta property=og:locale content=pt_BR>", "pt-br"),
        ("<meta property=og:locale content=de_DE.UTF-8>", ""),
        ("<html lang='no such tag'><p>x", ""),
        ("<p lang=en>x", ""),
    ],
)
def test_language(html, language):
    assert said(html).language == language


# ---- addresses


@pytest.mark.parametrize(
    ("html", "canonical"),
    [
        ("<link rel=canonical href=/a?b#c>", "https://h.example/a?b"),
        ("<link rel='alternate CANONICAL' href=x>", "https://h.example/news/x"),
        ("<base href=https://o.example/y/><link rel=canonical href=x>", "https://o.example/y/x"),
        ("<link rel=canonical href=/a><link rel=canonical href=/b>", "https://h.example/a"),
        ("<link rel=canonical href=https://o.example/story>", "https://o.example/story"),
        ("<link rel=canonical href=https://o.example/>", ""),
        ("<link rel=canonical href=/>", ""),
        ("<link rel=canonical href=/index.php>", ""),
        ("<link rel=canonical href=/><meta property=og:url content=https://h.example/a>", "https://h.example/a"),
        ("<link rel=canonical href='/?p=7'>", "https://h.example/?p=7"),
        ("<meta property=og:url content=https://h.example>", ""),
        ("<link rel=canonical href='javascript:x'>", ""),
        ("<link rel=canonical href=file:///etc/x>", ""),
        ("<link rel=canonical href='https://'>", ""),
        ("<a rel=canonical href=/a>x</a>", ""),
        ("<link rel=canonical>", ""),
    ],
)
def test_canonical(html, canonical):
    assert said(html).canonical == canonical


@pytest.mark.parametrize(
    ("url", "href", "canonical"),
    [
        ("https://h.example/", "https://www.h.example/", "https://www.h.example/"),
        ("http://www.h.example/index.html", "https://h.example/", "https://h.example/"),
        ("https://h.example/", "https://o.example/", ""),
        ("file://folder/a.html", "https://h.example/a", "https://h.example/a"),
        ("file://folder/a.html", "b.html", ""),
    ],
)
def test_canonical_of_home_pages_and_saved_pages(url, href, canonical):
    assert said(f"<link rel=canonical href={href}>", url=url).canonical == canonical


BY = "https://creativecommons.org/licenses/by/4.0/"


@pytest.mark.parametrize(
    ("html", "scripts", "licence"),
    [
        ("<link rel=license href=/terms>", (), "https://h.example/terms"),
        ("<a rel='nofollow license' href='http://www.creativecommons.org/licenses/by/4.0/deed.de'>x</a>", (), BY),
        ("<a rel=license href=/a>x</a><a rel=license href=/b>x</a>", (), ""),
        ("<a rel=license href=/a>x</a><link rel=license href=/b>", (), "https://h.example/b"),
        ("<a rel=license href=#>x</a>", (), ""),
        ("<a rel=license href='javascript:x'>x</a>", (), ""),
        ("", ({"@type": "NewsArticle", "license": BY},), BY),
        ("", ({"@type": "WebPage", "license": {"@type": "CreativeWork", "url": BY}},), BY),
        ("", ({"@type": "ImageObject", "license": BY},), ""),
        (f"<meta name=DC.rights content={BY}>", (), BY),
        ("<meta name=dcterms.license content='All rights reserved'>", (), ""),
        ("<p><a href=' //creativecommons.org/licenses/by/4.0'>CC</a>", (), BY),
        (
            "<p><a href=https://creativecommons.org/publicdomain/zero/1.0/>CC0</a>",
            (),
            "https://creativecommons.org/publicdomain/zero/1.0/",
        ),
        (f"<p><a href={BY}>CC</a> <a href={BY}legalcode.de>CC</a>", (), BY),
        (f"<p><a href={BY}>CC</a><p><a href={BY.replace('by', 'by-sa')}>CC</a>", (), ""),
        (f"<figure><figcaption>x <span><a rel=license href={BY}>CC</a></span></figure>", (), ""),
        (f"<p>Photo: Jane Roe, <b><a href={BY}>CC BY</a></b>", (), ""),
        (f"<p>Photos.<p>This text is <a href={BY}>CC BY</a>", (), BY),
        ("<p><a href=https://creativecommons.org/about/>CC</a>", (), ""),
    ],
)
def test_licence(html, scripts, licence):
    assert said(html, *scripts).licence == licence


# ---- dates


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2021-03-04", day(2021, 3, 4)),
        ("20210304", day(2021, 3, 4)),
        ("2021/3/4", day(2021, 3, 4)),
        (" 2021-03-04T05:06:07Z ", day(2021, 3, 4, 5, 6, 7)),
        ("2021-03-04T05:06:07.123456789+01:00", day(2021, 3, 4, 4, 6, 7)),
        ("2021-03-04 05:06:07 -0330", day(2021, 3, 4, 8, 36, 7)),
        ("2021-03-04T05:06+02", day(2021, 3, 4, 3, 6)),
        ("20210304T050607Z", day(2021, 3, 4, 5, 6, 7)),
        ("2021-03-04+02:00", day(2021, 3, 3, 22)),
        ("Thu, 04 Mar 2021 05:06:07 GMT", day(2021, 3, 4, 5, 6, 7)),
        ("4 Mar 2021 05:06 EST", day(2021, 3, 4, 10, 6)),
        ("Thu Mar 04 05:06:07 PST 2021", day(2021, 3, 4, 13, 6, 7)),
        ("Thu Mar 04 2021 05:06:07 GMT+0100 (Central European Standard Time)", day(2021, 3, 4, 4, 6, 7)),
        ("March 4th, 2021", day(2021, 3, 4)),
        ("Sept. 4, 2021, 12:06 a.m.", day(2021, 9, 4, 0, 6)),
        ("4 march 2021 1:06 PM", day(2021, 3, 4, 13, 6)),
        ("04.03.2021, 05:06", day(2021, 3, 4, 5, 6)),
        ("", None),
        ("2021", None),
        ("2021-03", None),
        ("2021-02-29", None),
        ("2021-13-01", None),
        ("2021-03/04", None),
        ("04/03/2021", None),
        ("2021-03-04T25:00", None),
        ("2021-03-04T05:06+25:00", None),
        ("2021-03-04T05:06 CET", None),
        ("4 Marsh 2021", None),
        ("4 Marc 2021", day(2021, 3, 4)),
        ("March 4, 2021, 13:06 pm", None),
        ("１２.03.2021", None),
        ("0001-01-01T00:00:00+10:00", None),
        ("2021-03-04T00:00" + " " * 200, None),
        ("published 2021-03-04", None),
    ],
)
def test_dates(text, date):
    assert parse_date(text) == date


@pytest.mark.parametrize(
    ("text", "fetched", "accepted"),
    [
        ("1989-12-31", FETCHED, False),
        ("1990-01-01", FETCHED, True),
        ("2024-06-02T12:00:00Z", FETCHED, True),
        ("2024-06-02T12:00:01Z", FETCHED, False),
        ("9999-12-31", None, True),
        ("9999-12-31T23:59:59-01:00", None, False),
        ("9999-12-31", datetime.max.replace(tzinfo=UTC), True),
    ],
)
def test_dates_that_can_be_true(text, fetched, accepted):
    assert (parse_published(text, fetched) is not None) is accepted


META = "<meta property=article:published_time content=2020-01-01>"
PROP = "<time itemprop=datePublished datetime=2020-01-02>2 January</time>"
NAME = "<meta name=DC.date.issued content=2020-01-04>"
TIME = "<article><time datetime=2020-01-05></time></article>"
LINKED = {"@type": "NewsArticle", "datePublished": "2020-01-03"}


@pytest.mark.parametrize(
    ("html", "scripts", "date"),
    [
        (TIME + NAME + PROP + META, (LINKED,), day(2020, 1, 1)),
        (TIME + NAME + PROP, (LINKED,), day(2020, 1, 2)),
        (TIME + NAME, (LINKED,), day(2020, 1, 3)),
        (TIME + NAME, (), day(2020, 1, 4)),
        ("<time pubdate datetime=2020-01-06>" + TIME, (), day(2020, 1, 6)),
        (TIME, (), day(2020, 1, 5)),
        (TIME + TIME, (), None),
        ("<time datetime=2020-01-05>", (), None),
        ("<main><time datetime=2020-01-05T00:00Z></time><time datetime=2020-01-05></main>", (), day(2020, 1, 5)),
        ("<main><time datetime=2020-01-05></time><time datetime=2020-01-07></main>", (), None),
        ("<main><time>2020-01-05</time></main>", (), None),
        ("<meta property=article:published_time content=soon>" + NAME, (), day(2020, 1, 4)),
        ("<meta property=article:published_time content=2031-01-01>" + NAME, (), day(2020, 1, 4)),
        ("<meta itemprop='dateModified datePublished' content=2020-01-02>", (), day(2020, 1, 2)),
        (f"<div itemprop=comment>{PROP}</div>", (), None),
        ("<meta property=article:modified_time content=2020-01-01>", (), None),
        ("", ({"@type": "WebPage", "datePublished": "2020-01-03"}, LINKED | {"datePublished": ["x"]}), day(2020, 1, 3)),
        ("", ({"@type": "Event", "datePublished": "2020-01-03"},), None),
        ("", (LINKED | {"datePublished": 20200103},), None),
    ],
)
def test_published(html, scripts, date):
    assert said(html, *scripts).published == date


# ---- authors


@pytest.mark.parametrize(
    ("html", "scripts", "author"),
    [
        ("<meta name=author content='By Jane  Roe'>", (), "Jane Roe"),
        (
            "<meta property=article:author content=https://h.example/j><a rel=author>Jane Roe</a>",
            (),
            "Jane Roe",
        ),
        ("<meta name=author content=jane@h.example><p itemprop=author>Jane <b>Roe</b>", (), "Jane Roe"),
        ("<div itemprop=author itemscope>Text by <b itemprop=name>Jane Roe</b> of h</div>", (), "Jane Roe"),
        ("<div itemprop=author itemscope><meta itemprop=name content='Jane Roe'></div>", (), "Jane Roe"),
        ("<div itemprop=comment><p itemprop=author>Spam</p></div><p itemprop=author>Jane Roe", (), "Jane Roe"),
        ("<div itemprop=comment><b itemprop=comment>x</b><p itemprop=author>Spam</p></div>", (), ""),
        ("<meta name=author content=admin>", (), ""),
        ("<meta name=author content=www.h.example>", (), ""),
        ("<meta name=author content=h-news.com>", (), ""),
        ("<meta name=author content=/staff/jane>", (), ""),
        ("<meta name=author content='* 7 *'>", (), ""),
        ("<meta name=author content='&lt;a href=/j>Jane Roe&lt;/a>'>", (), "Jane Roe"),
        (f"<meta name=author content='{'x' * (MAX_AUTHOR_CHARS + 1)}'>", (), ""),
        ("<meta name=author content=J.R.R.>", (), "J.R.R."),
        ("<meta name=author content=no>", (LINKED | {"author": "Jane Roe"},), "Jane Roe"),
        ("", (LINKED | {"author": {"@type": "Person", "name": "Jane &quot;J&quot; Roe"}},), 'Jane "J" Roe'),
        ("", (LINKED | {"author": [{"name": "Ann"}, "Bo", {"name": ["Cy", "Ann"]}, 7, None]},), "Ann, Bo, Cy"),
        ("", ([LINKED | {"author": {"@id": "#j"}}, {"@type": "Person", "@id": "#j", "name": "Jane Roe"}],), "Jane Roe"),
        ("", ({"@graph": [{"@type": ["Person"], "name": "no"}, LINKED | {"author": {"name": "Ann"}}]},), "Ann"),
        ("", ({"@type": "WebPage", "mainEntity": LINKED | {"author": "Ann"}, "author": "Bo"},), "Ann"),
        ("", ({"@type": "VideoObject", "author": "Ann"},), ""),
        ("", (LINKED | {"comment": LINKED | {"author": "Spam"}},), ""),
    ],
)
def test_author(html, scripts, author):
    assert said(html, *scripts).author == author


def test_as_many_authors_as_there_is_room_for():
    names = [f"Jane Roe the {number}th" for number in range(100)]
    author = said("", LINKED | {"author": names}).author
    assert len(author) <= MAX_AUTHOR_CHARS
    assert author.split(", ") == names[: author.count(",") + 1]
    assert len(author) + len(", Jane Roe the 10th") > MAX_AUTHOR_CHARS


def test_of_many_articles_the_page_s_own_is_read():
    other = LINKED | {"url": "https://h.example/other", "author": "Ann"}
    own = LINKED | {"mainEntityOfPage": {"@id": "http://www.h.example/news/page.html/"}, "author": "Bo"}
    assert said("", [other, own]).author == "Bo"
    assert said("", other, own, other).author == "Bo"
    assert said("", [other, other | {"author": "Cy"}]).author == "Ann"
    listed = {"@type": "ItemList", "itemListElement": [LINKED | {"author": "Ann"}]}
    assert said("", listed).author == ""


# ---- JSON-LD


@pytest.mark.parametrize(
    "text",
    [
        '{"@type": "https://schema.org/BlogPosting", "author": "Jane Roe"}',
        '[{"@type": ["Thing", "schema:Article"], "author": "Jane Roe"}]',
        '\n<!-- {"@type": "Article", "author": "Jane Roe"} -->',
        '//<![CDATA[\n{"@type": "Article", "author": "Jane Roe"}\n//]]>',
        '/* <![CDATA[ */ {"@type": "Article", "author": "Jane Roe"} /* ]]> */',
        '{"@type": "Article", "author": "Jane\nRoe", "headline": "tab\there"};',
    ],
)
def test_json_ld_as_pages_write_it(text):
    assert said("", text).author == "Jane Roe"


HOSTILE = {
    "deep lists": "[" * 200_000,
    "deep objects": '{"@graph":' * 20_000,
    "closed deep lists": "[" * 50_000 + "]" * 50_000,
    "long number": '{"@type": "Article", "author": ' + "9" * 100_000 + "}",
    "many objects": json.dumps([LINKED] * 3_000 + [LINKED | {"url": URL, "author": "late"}]),
    "wide graph": json.dumps({"@graph": [{"@graph": [[]] * 300}] * 100}),
    "slashes": "/" * 199_999,
    "wrappers": "<!--" * 50_000,
    "spaces": " " * 200_000,
    "not a string": '{"@type": {"@type": 7}, "@id": [], "mainEntity": [[null]], "@graph": 3}',
    "wrong values": '{"@type": "Article", "author": [[{"name": {"name": 1}}]], "headline": {}, "license": [{}]}',
    "infinite": '{"@type": "Article", "datePublished": NaN, "author": Infinity}',
    "broken": '{"@type": "Article", "author": "Jane" "Roe"}',
    "scalar": "7",
    "long reference": json.dumps(LINKED | {"author": f"&#{'9' * 100_000};", "headline": f"&#{'9' * 100_000};"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_ld_says_nothing_and_the_rest_of_the_page_is_read(name):
    found = said("<title>T</title><meta property=og:url content=/a>", HOSTILE[name])
    assert (found.title, found.canonical, found.author, found.licence) == ("T", "https://h.example/a", "", "")


def test_the_objects_of_a_page_are_bounded():
    assert len(jsonld.read_things([HOSTILE["many objects"]])) < jsonld.MAX_OBJECTS
    assert len(jsonld.read_things([json.dumps(LINKED)] * 5_000)) == jsonld.MAX_OBJECTS


KEYS = st.sampled_from(
    ["@type", "@id", "@graph", "@value", "author", "name", "url", "mainEntity", "mainEntityOfPage", "headline",
     "datePublished", "license"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("Article") | st.just(URL),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
quick = settings(max_examples=100, deadline=None)


@quick
@given(VALUES | st.lists(st.dictionaries(KEYS, VALUES)))
def test_no_json_ld_raises_and_whatever_is_found_can_be_written(value):
    article = {"@type": "Article", "headline": value, "author": value, "datePublished": value, "license": value}
    for one in (value, article):
        found = said("", one)
        assert json.dumps(dataclasses.astuple(found), default=str, ensure_ascii=False).encode()


@quick
@given(st.text(max_size=60) | st.from_regex(r"[\[\]{}\":,<!\-/*\s0-9a-z]{0,60}", fullmatch=True))
def test_no_text_of_a_script_raises(text):
    assert said("<title>T</title>", text).title == "T"


@quick
@given(st.text(max_size=30) | st.from_regex(r"[0-9]{4}[-/.]?[0-9]{1,2}[-/.]?[0-9]{1,2}[T 0-9:.+Zz-]{0,20}"))
def test_no_date_raises_and_all_are_utc(text):
    found = parse_published(text, FETCHED)
    assert found is None or (found.tzinfo is UTC and 1990 <= found.year <= 2024)


@quick
@given(st.datetimes(datetime(1990, 1, 2), datetime(2024, 5, 31)), st.integers(-14 * 60, 14 * 60))
def test_dates_come_back_from_iso_8601_and_rfc_2822(moment, minutes_east):
    moment = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes_east)))
    for text in (moment.isoformat(), format_datetime(moment), str(moment)):
        assert parse_published(text, FETCHED) == moment


def test_nested_marks_cost_no_more_than_flat_ones():
    """Thousands of nested elements, each naming an author or a licence: the text of few of them is read."""
    html = "<div itemprop=author><div rel=author>" * 2_000 + "Jane Roe"
    assert said(html).author == ""
    assert said("<a rel=author></a>" * 3_000 + "<a rel=author>Jane Roe</a>").author == ""
    assert said(f"<p>{'x ' * 1_000_000}" + f"<a href={BY}>CC</a>" * 100).licence == BY


def test_an_address_of_many_parts_is_read_once():
    assert said(f"<link rel=license href={BY}deed{'-' * 4_000}1>").licence == f"{BY}deed{'-' * 4_000}1/"
    assert said(f"<meta name=author content='{'a.' * 140}1'>").author == "a." * 140 + "1"


# ---- from the page to the index


HTML = b"""<!DOCTYPE html><html lang=en><title>A walk</title><link rel=canonical href=/walk>
<meta name=author content="Jane Roe"><meta property=article:published_time content=2024-05-01T10:00:00+02:00>
<link rel=license href=https://creativecommons.org/licenses/by/4.0/><p>The fens lie low.</p>"""
FACTS = {
    "title": "A walk",
    "language": "en",
    "canonical": "https://h.example/walk",
    "published": day(2024, 5, 1, 8),
    "author": "Jane Roe",
    "licence": BY,
}


def facts_in(row):
    return {name: row[name] for name in FACTS}


def through_parquet(row, schema):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=schema), stream)
    (back,) = pq.read_table(stream).to_pylist()
    return back


def test_what_a_page_says_reaches_the_sample_and_the_index(tmp_path):
    document = extract_document(Page(URL, HTML, None, FETCHED, Origin("f", 0)), ExtractConfig())
    assert isinstance(document, Document)
    row = through_parquet(document_to_row(document), DOCUMENT_SCHEMA)
    assert facts_in(row) == FACTS
    assert document_from_row(row) == document
    sample = load_sample(through_parquet(sample_row(document, {}), SAMPLES.schema), None, None)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        index = through_parquet(write_sample(tar, sample, "s.tar"), INDEX_SCHEMA)
    assert facts_in(index) == FACTS
    with tarfile.open(tmp_path / "s.tar") as tar:
        members = [(info.name.partition(".")[2], tar.extractfile(info).read()) for info in tar]
    assert facts_in({name: getattr(from_members(members), name) for name in FACTS}) == FACTS
    header = json.loads(members[0][1])
    assert facts_in(header) == FACTS | {"published": "2024-05-01T08:00:00+00:00"}
