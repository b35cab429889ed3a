"""Golden pages: one trap of the web each, with the document that a reader of the page would write down by hand.

`golden/NAME.html` holds the page in UTF-8 and `golden/NAME.json` what is expected of it. `charset` is what the
transport declares, `encoding` the codec of the bytes (UTF-8 where it is missing). Texts in `optional` (bylines, dates)
may be extracted or not; everything else must be there in this order, and nothing more. `wrong_today` says what the
extractor still gets wrong on a page; the test fails once that is repaired, so that the note goes.
"""

import difflib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from pipeline.extract import ExtractConfig, extract_document
from schemas.document import Document, ImageRef, Item, Text
from schemas.page import Origin, Page

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.html"))


@dataclass(frozen=True)
class Golden:
    """What is expected of a page; an unknown or missing key of the JSON is an error."""

    trap: str
    url: str
    charset: str | None
    title: str
    language: str
    items: list[dict[str, str]]
    encoding: str = "utf-8"
    optional: tuple[str, ...] = ()
    wrong_today: str = ""


@cache
def golden(name) -> Golden:
    return Golden(**json.loads((GOLDEN / f"{name}.json").read_text("utf-8")))


def extract(name, **settings) -> Document:
    expected = golden(name)
    data = (GOLDEN / f"{name}.html").read_text("utf-8").encode(expected.encoding)
    page = Page(expected.url, data, expected.charset, None, Origin("f", 0))
    document = extract_document(page, ExtractConfig(**settings))
    assert isinstance(document, Document), document
    return document


def row_of(item: Item) -> dict[str, str]:
    if isinstance(item, Text):
        return {"text": item.text}
    if isinstance(item, ImageRef):
        return {"image": item.url, "alt": item.alt, "caption": item.caption}
    return {"video": item.url, "text": item.text, "poster": item.poster}


def lines(title, language, rows) -> list[str]:
    """Write a document as lines to compare: one an item."""
    heads = ({"title": title}, {"language": language})
    return [json.dumps(row, ensure_ascii=False) for row in (*heads, *rows)]


@pytest.mark.parametrize("name", NAMES)
def test_golden_page(name):
    expected, found = golden(name), extract(name)
    rows = [row for row in map(row_of, found.items) if row.get("text") not in expected.optional or "video" in row]
    wanted = lines(expected.title, expected.language, expected.items)
    got = lines(found.title, found.language, rows)
    diff = difflib.unified_diff(wanted, got, "expected", "extracted", lineterm="", n=1)
    if expected.wrong_today:
        assert got != wanted, f"{name} is right now: take its `wrong_today` out"
        pytest.xfail(expected.wrong_today)
    if got != wanted:
        pytest.fail("\n".join([expected.trap, *diff]), pytrace=False)


@pytest.mark.parametrize("name", NAMES)
def test_both_parsers_give_the_same_document(name):
    assert extract(name, parser="beautifulsoup") == extract(name)


def test_every_page_has_its_expectation():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES
    assert len(NAMES) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_expected_words_are_on_the_page(name):
    """A slip of the pen in an expectation must not pass for a fault of the extractor."""
    expected = golden(name)
    keys = [sorted(item) for item in expected.items]
    assert all(key in (["text"], ["alt", "caption", "image"], ["poster", "text", "video"]) for key in keys)
    source = html.unescape((GOLDEN / f"{name}.html").read_text("utf-8"))
    page = "".join((source + re.sub(r"<[^>]*>", "", source)).split())
    texts = [item.get(key, "") for item in expected.items for key in ("text", "alt", "caption")]
    words = [word for text in (expected.title, *texts, *expected.optional) for word in text.split()]
    assert [word for word in words if word not in page] == []
    assert set(expected.optional).isdisjoint(texts)
