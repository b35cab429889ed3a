"""The same picture within a page and on many pages: what is left out, at both sides of each threshold, and why."""

import random
from types import SimpleNamespace

import pytest
from damage import http, member, page, picture, record
from hypothesis import given, settings
from hypothesis import strategies as st
from test_deduplicate import build, words

from pipeline import repeats
from pipeline.filters import PageRules
from pipeline.perceptual import bits_apart
from pipeline.repeats import SHOWN, TEMPLATES, picture_name, same_in_page, settle_templates, template_in_page
from pipeline.tables import REJECTED, KeyRange, stream_range
from schemas.page import Refusal, key_of

HOST = "https://site.example"
LOOK = bytes(range(1, 33))


def turned(bits, look=LOOK):
    """Turn so many bits of a look."""
    number = int.from_bytes(look, "big") ^ ((1 << bits) - 1)
    return number.to_bytes(32, "big")


def placed(*pictures):
    """Write rows of placements, at positions 0, 2, 4...: (name of the file, look)."""
    return {2 * at: {"sha256": key_of(name), "phash": look.hex()} for at, (name, look) in enumerate(pictures)}


@pytest.mark.parametrize(
    ("second", "max_bits", "detail"),
    [
        (("a", LOOK), 16, "as item 0, the same file"),
        (("a", turned(200)), 0, "as item 0, the same file"),
        (("b", LOOK), 0, "as item 0, 0 bits apart"),
        (("b", turned(1)), 0, None),
        (("b", turned(16)), 16, "as item 0, 16 bits apart"),
        (("b", turned(17)), 16, None),
        (("a", LOOK), -1, None),
    ],
)
def test_a_picture_that_its_page_has_shown_is_left_out(second, max_bits, detail):
    found = same_in_page(placed(("a", LOOK), second), max_bits)
    assert found == ({2: Refusal("same_image_in_page", detail)} if detail else {})


def test_the_first_one_stands_for_all_and_one_that_is_left_out_for_none():
    rows = placed(("a", LOOK), ("b", turned(10)), ("c", turned(20)), ("a", LOOK), ("c", LOOK))
    assert {at: refusal.detail for at, refusal in same_in_page(rows, 16).items()} == {
        2: "as item 0, 10 bits apart",
        6: "as item 0, the same file",
        8: "as item 4, the same file",
    }


def test_pictures_of_one_colour_have_no_look_but_are_files():
    rows = placed(("a", bytes(32)), ("b", bytes(32)), ("a", bytes(32)))
    assert same_in_page(rows, 16) == {4: Refusal("same_image_in_page", "as item 0, the same file")}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 60)), max_size=12), st.integers(0, 40))
def test_what_stands_is_apart_and_all_else_is_like_something_that_stands(drawn, max_bits):
    rows = placed(*((f"{name} {bits}", turned(bits)) for name, bits in drawn))
    found = same_in_page(rows, max_bits)
    looks = {at: bytes.fromhex(row["phash"]) for at, row in rows.items()}
    stand = [at for at in rows if at not in found]
    assert all(bits_apart(looks[a], looks[b]) > max_bits for a in stand for b in stand if a < b)
    assert all(any(bits_apart(looks[at], looks[b]) <= max_bits for b in stand if b < at) for at in found)


def test_no_page_is_compared_with_more_than_its_first_pictures(monkeypatch):
    monkeypatch.setattr(repeats, "MAX_HELD", 2)
    draw = random.Random(1)
    looks = [draw.randbytes(32) for _ in range(3)]
    rows = placed(*((str(at), look) for at, look in enumerate([*looks, looks[1], looks[2]])), ("4", looks[2]))
    assert same_in_page(rows, 16) == {
        6: Refusal("same_image_in_page", "as item 2, 0 bits apart"),
        10: Refusal("same_image_in_page", "as item 8, the same file"),
    }


@pytest.mark.parametrize(("pages", "dropped"), [(10, 0), (11, 11)])
def test_a_picture_on_more_than_ten_pages_is_of_a_template(pages, dropped):
    documents = sorted(key_of(str(number)) for number in range(pages))
    shown = [picture_name("a" * 64) + key for key in documents for _ in range(2)]  # twice on each page
    shown += [picture_name("b" * 64) + key for key in documents[:5]]
    written = []
    config = SimpleNamespace(filters=SimpleNamespace(pages=PageRules()))
    output = SimpleNamespace(job=SimpleNamespace(config=config), write=lambda table, row, size: written.append(row))
    settle_templates(None, {SHOWN.directory: iter([{"key": key} for key in shown])}, output)
    assert written == [{"key": key, "picture": "a" * 24} for key in documents[:dropped]]
    assert TEMPLATES.schema.names == ["key", "picture"]


def test_pictures_of_templates_are_found_by_name():
    rows = placed(("a", LOOK), ("b", LOOK))
    found = template_in_page(rows, [picture_name(key_of("b"))])
    assert found == {2: Refusal("template_image", "on too many pages")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Write four pages with a picture of their own, one that each shows under another URL, and both once more."""
    records = []
    for number in range(4):
        shown = [f"own{number}.jpg", f"template{number}.jpg", f"again{number}.jpg"]
        tags = "".join(f"<p>{' '.join(words(name, 60))}.</p><img src='{name}' width=300 height=200>" for name in shown)
        html = page(f"Page {number}", f"<article><h1>Page {number}</h1>{tags}</article>")
        records.append(record(http(html), url=f"{HOST}/{number}/"))
        for name, seed in zip(shown, (number, 99, number), strict=True):
            records.append(record(http(picture(300, 200, seed=seed), "image/jpeg"), url=f"{HOST}/{number}/{name}"))
    path = tmp_path_factory.mktemp("repeats") / "a.warc.gz"
    path.write_bytes(b"".join(map(member, records)))
    return str(path)


@pytest.mark.parametrize(
    ("setting", "reasons", "samples"),
    [
        ("max_pages=3", {"template": "template_image", "again": "same_image_in_page"}, 4),
        ("max_pages=4", {"again": "same_image_in_page"}, 8),
        ("max_pages=0", {"again": "same_image_in_page"}, 8),
        ("same_image_bits=-1", {}, 12),
    ],
)
def test_a_build_leaves_them_out_with_the_reason(archive, tmp_path, setting, reasons, samples):
    job, totals = build(archive, tmp_path, f"filters.pages.{setting}")
    rows = [row for row in stream_range(job.folder, REJECTED, KeyRange("", "")) if row["kind"] == "image"]
    assert {(row["url"], row["stage"], row["reason"]) for row in rows} == {
        (f"{HOST}/{number}/{name}{number}.jpg", "filter_images", reason)
        for name, reason in reasons.items()
        for number in range(4)
    }
    assert totals.counts["select", "image", ""] == samples
