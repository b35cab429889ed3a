"""Golden pages: one trap of the web each, with the document that a reader of the page would write down by hand.

`golden/NAME.html` holds the page in UTF-8 and `golden/NAME.json` what is expected of it. `charset` is what the
transport declares, `encoding` the codec of the bytes (UTF-8 where it is missing). Texts in `optional` (bylines, dates)
may be extracted or not; everything else must be there in this order, and nothing more. A page whose pictures state
`texts` ("kind: text") must give exactly these. `wrong_today` says what the extractor still gets wrong on a page; the
test fails once that is repaired, so that the note goes.
"""

import difflib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.extract import ExtractConfig, extract_document
from schemas.document import Document, ImageRef, Item, Said, Text, VideoRef
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
    items: list[dict[str, Any]]
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


def row_of(item: Item, with_texts: bool) -> dict[str, Any]:
    if isinstance(item, Text):
        return {"text": item.text}
    if isinstance(item, ImageRef):
        row = {"image": item.url, "alt": item.alt, "caption": item.caption}
        return row | ({"texts": spelt(item.texts)} if with_texts else {})
    return video_row(item)


def video_row(item: VideoRef) -> dict[str, Any]:
    """Write a video; what the page says nothing of is left out."""
    more = {
        "duration_s": item.duration_s,
        "uploaded": item.uploaded.isoformat() if item.uploaded else "",
        "tracks": [f"{track.kind} {track.language} {track.url}" for track in item.tracks],
    }
    row = {"video": item.url, "texts": spelt(item.texts), "poster": item.poster}
    return row | {name: value for name, value in more.items() if value}


def spelt(texts: tuple[Said, ...]) -> list[str]:
    return [f"{said.kind}: {said.text}" for said in texts]


def lines(title, language, rows) -> list[str]:
    """Write a document as lines to compare: one an item."""
    heads = ({"title": title}, {"language": language})
    return [json.dumps(row, ensure_ascii=False) for row in (*heads, *rows)]


@pytest.mark.parametrize("name", NAMES)
def test_golden_page(name):
    expected, found = golden(name), extract(name)
    with_texts = any("image" in item and "texts" in item for item in expected.items)
    rows = [row for item in found.items if (row := row_of(item, with_texts)).get("text") not in expected.optional]
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
    assert all(
        keys == {"text"}
        or {"alt", "caption", "image"} <= keys <= {"alt", "caption", "image", "texts"}
        or {"video", "texts", "poster"} <= keys <= {"video", "texts", "poster", "duration_s", "uploaded", "tracks"}
        for keys in map(set, expected.items)
    )
    source = html.unescape((GOLDEN / f"{name}.html").read_text("utf-8"))
    page = "".join((source + re.sub(r"<[^>]*>", "", source)).split())
    texts = [item.get(key, "") for item in expected.items for key in ("text", "alt", "caption")]
    said = [text.partition(": ")[2] for item in expected.items for text in item.get("texts", ())]
    words = [word for text in (expected.title, *texts, *said, *expected.optional) for word in text.split()]
    assert [word for word in words if word not in page] == []
    assert set(expected.optional).isdisjoint(texts)
