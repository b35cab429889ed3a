"""Pages drawn by lot and pages spoilt by lot: whatever comes in, a valid document or a reason comes out.

    python tests/test_fuzz.py --seconds 3600      (make fuzz; with fresh seeds, and the pages of the corpus beside)

In the suite the same pages are drawn every time. By the clock, each page that breaks a rule is made as small as it
gets, printed, and written to a folder.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import time
import traceback
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from test_extract import AFTER, BEFORE, PROSE, article
from test_reading import assert_consistent

from pipeline import dom, names, nesting, reading
from pipeline.announced import MAX_TRANSCRIPT_CHARS
from pipeline.content import Wanted, find_candidates
from pipeline.extract import ExtractConfig, extract_document
from pipeline.features import measure
from pipeline.pictures import LAZY_SOURCES, LAZY_SRCSETS
from pipeline.reading import read_page
from pipeline.urls import MAX_URL_CHARS
from schemas.document import DOCUMENT_SCHEMA, Document, ImageRef, Text, VideoRef, document_from_row, document_to_row
from schemas.page import Origin, Page, Rejected

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
URL = "https://h.example/dir/page"
CONFIG = ExtractConfig()
MAX_SPOILT_BYTES = 300_000
"""Size up to which a page of the corpus is spoilt."""
SLOW_S, SLOW_S_A_BYTE = 1.0, 5e-6
"""CPU seconds from which a page is too slow, and how many more each byte may take (looked at by the clock only)."""

# --- what must hold --------------------------------------------------------------------------------------------------


def page_of(html, charset="utf-8"):
    return Page(URL, html, charset, None, Origin("f", 0))


class TooSlowError(AssertionError):
    """A page took more time than its size explains."""


def check(page, slow_s=float("inf")):
    """Hold a page against every rule; `slow_s` are the CPU seconds from which an empty page would be too slow."""
    started = time.process_time()
    found = extract_document(page, CONFIG)
    taken = time.process_time() - started
    if taken > slow_s + SLOW_S_A_BYTE * len(page.html):
        raise TooSlowError(f"{taken:.2f} s for {len(page.html)} bytes")
    if isinstance(found, Document):
        assert found.items
        for item in found.items:
            check_item(item)
        for text in (found.title, found.author):
            assert_folded(text)
        for url in (found.canonical, found.licence):
            assert_printable(url)
        assert found.published is None or found.published.tzinfo is not None
        rows = pa.Table.from_pylist([document_to_row(found)], DOCUMENT_SCHEMA).to_pylist()
        assert [document_from_row(row) for row in rows] == [found]
    else:
        assert isinstance(found, Rejected)
        assert found.reason.isidentifier()
    assert extract_document(page, CONFIG) == found
    return found


def check_item(item):
    match item:
        case Text():
            assert item.text.strip()
            assert item.text == item.text.rstrip().strip("\n")
            assert "\0" not in item.text
            item.text.encode()
        case ImageRef():
            assert_url(item.url)
            assert_folded(item.alt)
            assert_folded(item.caption)
            assert all(side is None or 0 <= side < 1_000_000 for side in (item.width_px, item.height_px))
            check_texts(item)
        case VideoRef():
            assert_url(item.url)
            assert_printable(item.poster)
            assert item.duration_s >= 0
            check_texts(item)
            for track in item.tracks:
                assert_url(track.url)
                assert_printable(track.kind + track.language)


def check_texts(item):
    assert len(set(item.texts)) == len(item.texts)
    for said in item.texts:
        assert said.kind.isidentifier()
        assert 0 < len(said.text) <= MAX_TRANSCRIPT_CHARS
        assert_folded(said.text)


def assert_folded(text):
    assert text == " ".join(text.split())
    text.encode()


def assert_url(url):
    assert 0 < len(url) <= MAX_URL_CHARS
    assert_printable(url)


def assert_printable(url):
    assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in url)


def check_inside(page):
    """Hold what is made on the way against its rules: frames nest, pictures are valid, and features are numbers."""
    markup = dom.to_utf8(page.html, page.charset)
    if nesting.check_markup(markup.decode("latin-1")):
        return
    tree = dom.parse_html(markup, CONFIG.max_nodes, CONFIG.max_depth, float("inf"))
    if isinstance(tree, str):
        return
    found = read_page(tree, float("inf"))
    assert_consistent(found)
    for candidate in find_candidates(tree, found, Wanted(URL, CONFIG.image_width_px)):
        check_item(candidate.image)
    if found.pieces:
        assert np.isfinite(measure(tree, found, "title").matrix).all()


# --- pages drawn by lot ----------------------------------------------------------------------------------------------

TAGS = sorted(
    reading.BLOCKS | reading.NEVER_READ | reading.SET_OFF | reading.MUTED | reading.MEDIA | nesting.FORMATTING
    | nesting.RAW_TEXT | frozenset(dom.TAG_NAMES.values()) | {"source", "br", "math", "svg", "track", "wbr", "x-y"}
)  # fmt: skip
FREQUENT = [
    "p",
    "div",
    "table",
    "tr",
    "td",
    "figure",
    "figcaption",
    "img",
    "a",
    "br",
    "li",
    "ul",
    "h1",
    "h2",
    "picture",
]
NAMING_WORDS = sorted(
    frozenset().union(*names.NAMES.values(), names.HIDDEN_CLASSES, names.CAPTION_WORDS, names.FIGURE_WORDS)
)
SENTENCES = [
    PROSE[:81], PROSE, "Short.", "x", " ", "\n\t\n", "Photo: Ann", "© 2021", "© AP, AFP", "a, b, c, d",
    "7:30, 3 May 2021:", "Read more ...", "我们坐船。然后，回来！", "\u202eright to left\u202c", "שלום עולם",
    "e\u0301\u0301\u0301", "\U0001f600" * 3, "&nbsp;", "&#0;&#1;&#xD800;&#x10FFFF;",
    "\x0b\x0c\x1c\x1f\x85\u2028\u2029", "\ufeff\u200b", "&lt;b&gt;", "¶", "w" * 700, "a b " * 300, "-->", "]]>", "</",
    "<", "&",
]  # fmt: skip
NUMBERS = [
    "0", "1", "-1", "16", "24", "60", "300", "640", "999999", "1000000", "99999999999999999999", "1e9", "50%", "12px",
    "", " 7 ", "0x10", "٣", "²", "1.5", "NaN", "\x00",
]  # fmt: skip
REFERENCES = [
    "i.jpg", "j.png?w=1200", "/a/logo.svg", "big.JPG", "https://h.example/a b.gif", "//x.example/i-150x150.jpg", "#",
    "", "data:image/gif;base64,R0lGOD", "data:," + "x" * 2_000, "javascript:x", "http://[bad", "http://[bad\x01\x7f",
    "file:///etc", "http://ü.example/é?é#é", "http://u:p@h.example/", "https://h.example:99999/", "\\\\x\\y",
    " \ti.jpg\n", "blank.gif", "x" * 9_000, "http://" + "a." * 5_000, "%00%ff%", "?", "\u202e.jpg", "i\u0085.jpg",
    "http://[bad\u2028\ud800",
]  # fmt: skip
SRCSETS = [
    "a.jpg", "a.jpg 1x, b.jpg 2x", "a.jpg 300w, b.jpg 1200w", "a.jpg 300w,", ",,,", "a.jpg 9999999w",
    "a.jpg 99999999999w", "a.jpg 0w", "a.jpg -1x", "a.jpg 1e9x", "a.jpg 9999.9999x", "a.jpg (", "a.jpg ((((,)))) 2x",
    "http://[bad 2x", "a.jpg 1x," * 99,
]  # fmt: skip
STYLES = ["display:none", "DISPLAY : none ;", "visibility:hidden", "color:red", ";;;", "display"]
WORDS = st.lists(
    st.sampled_from([*NAMING_WORDS, "x", "no-nav", "has-sidebar", "A" * 99, "_-_"]), min_size=1, max_size=3
)
SAID = st.sampled_from(SENTENCES)
TEXTS_OF = ["alt", "title", "aria-label", "content", "datetime", "lang", "dir"]
NUMBERS_OF = ["width", "height", "colspan", "rowspan", "span"]
REFERENCES_OF = ["src", "href", "poster", "data", "data-orig-file", "data-image", *LAZY_SOURCES]
KINDS_OF = {
    "type": ["application/ld+json", "image/webp", "image/avif", "text/javascript", "module"],
    "rel": ["canonical", "license", "author", "icon"],
    "media": ["(max-width: 480px)", "print"],
    "aria-hidden": ["true", "false"],
    "hidden": ["", "until-found"],
    "charset": ["utf-8", "koi8-r", "utf-16", "nonsense"],
    "name": ["author", "date", "twitter:image", "robots"],
    "property": ["og:title", "og:image", "og:url", "article:published_time"],
    "itemprop": ["datePublished", "author", "name", "comment"],
    "http-equiv": ["content-language", "refresh"],
}
ATTRIBUTE = st.one_of(
    st.tuples(st.sampled_from(["class", "id", "role"]), st.builds(" ".join, WORDS)),
    st.tuples(st.sampled_from(NUMBERS_OF), st.sampled_from(NUMBERS)),
    st.tuples(st.sampled_from(REFERENCES_OF), st.sampled_from(REFERENCES)),
    st.tuples(st.sampled_from(["srcset", *LAZY_SRCSETS]), st.sampled_from(SRCSETS)),
    st.tuples(st.just("style"), st.sampled_from(STYLES)),
    st.tuples(st.sampled_from(TEXTS_OF), SAID),
    *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in KINDS_OF.items()),
)
TAG = st.sampled_from(FREQUENT) | st.sampled_from(TAGS)
START = st.tuples(TAG, st.lists(ATTRIBUTE, max_size=3))
SOURCE = st.tuples(st.sampled_from(["src", "src", "data-src"]), st.sampled_from(REFERENCES))
PICTURE = st.tuples(
    st.sampled_from(["img", "img", "amp-img", "video"]),
    st.builds(lambda source, more: [source, *more], SOURCE, st.lists(ATTRIBUTE, max_size=3)),
)
PART = st.one_of(START, START, PICTURE, SAID, st.just(None), st.just(None))
"""A start tag, a text, or the end of the element that was opened last."""
PARTS = st.lists(PART, max_size=60)
VOID = frozenset(["img", "br", "source", "hr", "meta", "link", "input", "col", "base", "area", "embed", "wbr", "track"])


def written(parts, shuffled_ends=False):
    """Write a page of its parts; with shuffled ends it closes elements that were not opened last."""
    html, opened = [], []
    for part in parts:
        if part is None:
            if opened:
                html.append(f"</{opened.pop(len(opened) // 2 if shuffled_ends else -1)}>")
        elif isinstance(part, str):
            html.append(part)
        else:
            tag, attributes = part
            html.append(f"<{tag}" + "".join(f" {name}='{value}'" for name, value in attributes) + ">")
            if tag not in VOID:
                opened.append(tag)
    return "".join(html)


def encoded(text, charset):
    return text.encode(charset, "surrogatepass" if charset.startswith("utf") else "replace")


CHARSETS = ["utf-8", "utf-8", "utf-8", "utf-16-le", "cp1252", "koi8-r", "shift_jis", "gb18030"]
DECLARED = [None, "utf-8", "utf-8", "latin-1", "utf-16", "gbk", "iso-2022-jp", "nonsense", ""]


@st.composite
def trees(draw):
    """Draw a page as a tree, amid ordinary prose or alone."""
    html = written(draw(PARTS), draw(st.booleans()))
    frame = draw(st.sampled_from(["{}", "<body>{}", f"<p>{PROSE}</p>{{}}<p>{PROSE}</p>", article("{}")]))
    return page_of(encoded(frame.replace("{}", html), draw(st.sampled_from(CHARSETS))), draw(st.sampled_from(DECLARED)))


@st.composite
def deep(draw):
    """Draw a page of a few tags nested many times."""
    parts = [(tag, attributes) for tag, attributes in draw(st.lists(START, min_size=1, max_size=3))]
    times = draw(st.sampled_from([3, 10, 30, 100, 300, 1_500]))
    html = (written(parts) + draw(SAID)) * times + draw(SAID)
    ends = "".join(f"</{tag}>" for tag, _ in reversed(parts)) * times if draw(st.booleans()) else ""
    return page_of(encoded(PROSE + html[:MAX_SPOILT_BYTES] + ends + PROSE, "utf-8"))


# --- pages spoilt by lot ---------------------------------------------------------------------------------------------

CELLS = "<td class=illustration><img src=a.jpg><td rowspan=2><img src=b.jpg width=300 height=200>"
MADE = [
    article("".join(AFTER.values()), "".join(BEFORE.values()), "".join(AFTER.values())),
    article(
        f"<table><caption>Boats</caption><tr>{CELLS}<tr><td class=caption colspan=2>Both</table>"
        "<table><tr><th>Year<th>Boats<tr><td>1990<td>3</table><pre>\n  x\n y</pre>"
        "<figure><picture><source srcset='s.webp 480w, l.webp 1200w' type=image/webp><img src=i.jpg></picture>"
        "<figcaption>The <i>cat</i> <small class=credit>Photo: Ann</small></figcaption></figure>"
        "<div class=wp-caption><img data-src=j.jpg><noscript><img src=j.jpg></noscript><p>A dog</p></div>",
        head="<meta property=og:image content=/i.jpg><link rel=canonical href=/p><base href=/x/>"
        '<script type=application/ld+json>{"@type": "Article", "author": [{"name": "Ann"}], '
        '"datePublished": "2021-05-03T07:30:00+02:00"}</script><meta name=date content=2021-05-03>',
    ),
    article(
        "<ul>" + f"<li><a href=x><img src=t.jpg></a><h3><a href=x>{PROSE[:40]}</a></h3>x" * 4 + "</ul>"
        "<dl><dt>a<dd>b</dl><div>a<br><br>b<br>c</div><video poster=p.jpg><source src=v.mp4></video>"
        "<p hidden>h</p><p style='display:none'>n</p><svg><text>s</text></svg><math><mi>x</mi></math>"
    ),
]
ODD = [
    b"\0", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xc3", b"\xe2\x80\xae", b"&#0;", b"&#xd800;", b"<", b">", b"'",
    b'"', b"<!--", b"-->", b"<![CDATA[", b"</", b"<p", b"<table>", b"</table>", b"<tr>",
    b"<td colspan=99999999 rowspan=99999999>", b"<figure>", b"</figure>", b"<svg>", b"<math>", b"<template>",
    b"<select>", b"<plaintext>", b"<frameset>", b"<body>", b"<b>", b"<a href=x>", b"<noscript>",
    b"<base href='javascript:'>", b"<base href=\x01>", b"<form>", b"</p>", b"</br>",
    b"<img src=i.jpg width=99999999999999999999 height=-1>", b"<img src='http://[\x01'>",
    b"<img srcset='a 9999999w, (((,'>", b" hidden ", b" class='caption nav' ", b" style=display:none ", b"\x0b",
    b"\x1c", b"\xc2\x85", b"\xc2\xa0", b"\n" * 99,
]  # fmt: skip
REPEATS = 30
SPOILERS = ("delete", "double", "repeat", "splice", "insert", "flip", "swap", "truncate")
STEP = st.tuples(
    st.sampled_from(SPOILERS),
    st.integers(0, 9_999),
    st.integers(0, 9_999),
    st.sampled_from([1, 5, 40, 300, 3_000]),
    st.sampled_from(ODD),
)


def spoil(html, step, other):
    """Change a page in one place."""
    kind, share, from_share, length, odd = step
    at, start = len(html) * share // 10_000, len(other) * from_share // 10_000
    span = html[at : at + length]
    match kind:
        case "delete":
            return html[:at] + html[at + length :]
        case "double":
            return html[:at] + span + html[at:]
        case "repeat":
            return html[:at] + span * REPEATS + html[at:]
        case "splice":
            return html[:at] + other[start : start + length] + html[at:]
        case "insert":
            return html[:at] + odd + html[at:]
        case "flip":
            return html[:at] + bytes(byte ^ (1 << (from_share % 8)) for byte in span[:5]) + html[at + 5 :]
        case "swap":
            return html[:at] + html[at + length : at + 2 * length] + span + html[at + 2 * length :]
    return html[:at]


@st.composite
def spoilt(draw, pages):
    """Draw a page of the given ones and spoil it in up to eight places."""
    html, charset = draw(st.sampled_from(pages))
    other, _ = draw(st.sampled_from(pages))
    for step in draw(st.lists(STEP, min_size=1, max_size=8)):
        html = spoil(html, step, other)[: 2 * MAX_SPOILT_BYTES]
    return page_of(html, charset)


MADE_PAGES = [(html.encode(), charset) for html in MADE for charset in ("utf-8", None)]

# --- the suite -------------------------------------------------------------------------------------------------------

SAME_EVERY_TIME = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


@given(trees())
@settings(SAME_EVERY_TIME, max_examples=250)
def test_pages_drawn_as_trees(page):
    check(page)
    check_inside(page)


@given(deep())
@settings(SAME_EVERY_TIME, max_examples=60)
def test_pages_nested_deeply(page):
    check(page)
    check_inside(page)


@given(spoilt(MADE_PAGES))
@settings(SAME_EVERY_TIME, max_examples=250)
def test_pages_spoilt(page):
    check(page)
    check_inside(page)


@given(spoilt(MADE_PAGES))
@settings(SAME_EVERY_TIME, max_examples=50)
def test_a_page_without_time_is_rejected(page):
    assert isinstance(extract_document(page, ExtractConfig(timeout_s=-1.0)), Rejected)


AGREED_TAGS = [
    "p",
    "div",
    "section",
    "article",
    "h2",
    "figure",
    "figcaption",
    "blockquote",
    "ul",
    "span",
    "em",
    "nav",
    "img",
    "br",
]
AGREED = st.lists(
    st.tuples(
        st.sampled_from(AGREED_TAGS),
        st.lists(st.tuples(st.just("class"), st.builds(" ".join, WORDS)), max_size=1),
    )
    | st.sampled_from(["Some text, with a comma.", "x", PROSE])
    | st.none(),
    max_size=30,
)


@given(AGREED)
@settings(SAME_EVERY_TIME, max_examples=60)
def test_both_parsers_lead_to_the_same_document(parts):
    html = article(written([("div", []), *parts]).replace("<img", "<img src=i.jpg")).encode()
    documents = [
        extract_document(page_of(html), ExtractConfig(parser=parser)) for parser in ("lexbor", "beautifulsoup")
    ]
    assert documents[0] == documents[1]


def test_the_rules_are_broken_by_what_breaks_them():
    for item in (Text(" "), Text("x "), Text("a\0b"), ImageRef(""), ImageRef("http://a\x01"), ImageRef("a", alt=" b")):
        try:
            check_item(item)
        except AssertionError:
            continue
        raise AssertionError(item)


def test_a_page_is_made_small():
    assert shrink(b"<p>" * 50 + b"x" + b"</p>" * 50, lambda html: b"x" in html) == b"x"


# --- by the clock ----------------------------------------------------------------------------------------------------

EXAMPLES = {"trees": 300, "deep": 30, "spoilt": 100, "spoilt corpus": 200}
"""Pages of each kind that are drawn in a round."""
MAX_SHRINKS = 3_000
PRINTED_BYTES = 2_000


def signature_of(error):
    """Name a failure by its kind and place, so that one is told from the next."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def failure_of(page):
    """Name what is wrong with a page; empty where nothing is."""
    try:
        check(page, SLOW_S)
        check_inside(page)
    except Exception as error:
        return signature_of(error)
    return ""


def shrink(html, fails):
    """Cut from a page what does not matter: halves, quarters, ... down to single bytes."""
    size, tries = len(html) // 2, 0
    while size and tries < MAX_SHRINKS:
        at = 0
        while at < len(html) and tries < MAX_SHRINKS:
            tries += 1
            smaller = html[:at] + html[at + size :]
            if fails(smaller):
                html = smaller
            else:
                at += size
        size //= 2
    return html


def hunt(strategy, number, examples, known, counts):
    """Draw pages until one fails in a way not yet known; returns it with its failure, or None."""
    found = []

    @seed(number)
    @settings(
        SAME_EVERY_TIME, derandomize=False, max_examples=examples, phases=(Phase.generate,),
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(strategy)
    def run(page):
        counts[0] += 1
        failure = failure_of(page)
        if failure and failure not in known:
            found[:] = [page, failure]
            raise AssertionError(failure)

    try:
        run()
    except AssertionError:
        return found or None
    return None


@functools.cache
def corpus_pages():
    """Read the pages of the corpus that are not too large to be spoilt often; none where there is no corpus."""
    pages = []
    for path in sorted(CORPUS.glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                if "html" in (record.http_content_type or ""):
                    html, charset = record.reader.read(), record.http_charset
                    if len(html) <= MAX_SPOILT_BYTES:
                        pages.append((html, charset))
    return pages


def say(text):
    """Print at once, so that a run in the background can be followed."""
    print(text, flush=True)  # noqa: T201


def keep(page, failure, folder):
    """Make a failing page small, print it and write it down."""
    small = shrink(page.html, lambda html: failure_of(page_of(html, page.charset)) == failure)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (failure.replace(" ", "-").replace(":", "-") + ".html")
    path.write_bytes(small)
    say(f"\n{failure}\n  charset {page.charset}, {len(small)} of {len(page.html)} bytes: {path}")
    say(f"  {small[:PRINTED_BYTES]!r}")
    try:
        check(page_of(small, page.charset), SLOW_S)
        check_inside(page_of(small, page.charset))
    except Exception:
        say(traceback.format_exc())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3_600)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="the same seed draws the same pages")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where failing pages are written")
    options = parser.parse_args()
    strategies = {"trees": trees(), "deep": deep(), "spoilt": spoilt(MADE_PAGES)}
    if pages := corpus_pages():
        strategies["spoilt corpus"] = spoilt(pages)
    say(f"seed {options.seed}; {', '.join(strategies)}; {len(pages)} pages of the corpus")
    chance = random.Random(options.seed)
    started = said = time.monotonic()
    known, counts, tally = set(), [0], dict.fromkeys(strategies, 0)
    while (now := time.monotonic()) - started < options.seconds:
        for name, strategy in strategies.items():
            before = counts[0]
            failed = hunt(strategy, chance.randrange(2**32), EXAMPLES[name], known, counts)
            tally[name] += counts[0] - before
            if failed:
                known.add(failed[1])
                keep(*failed, options.out)
        if now - said > 30:
            said = now
            taken = time.monotonic() - started
            say(f"{taken:6.0f} s, {counts[0]:9,} pages, {counts[0] / taken:5.0f}/s, {len(known)} failures")
    say(f"{counts[0]:,} pages in {time.monotonic() - started:.0f} s ({tally}), {len(known)} failures")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
