"""What is to be asked for, cut so that no host is, and lists of pages read in stretches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ask import host_ranges, next_run, to_ask
from pipeline.build import BuildConfig
from pipeline.folder import Folder
from pipeline.lists import read_list
from pipeline.sources import LIST, Split
from pipeline.stage import Job, fingerprint
from pipeline.tables import ASKED, CAPTURES, REFERENCES, range_of
from pipeline.web import HOST_CHARS, LISTED
from schemas.asked import FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED, Asked, asked_to_row
from schemas.config import to_tree, with_overrides
from schemas.media import STORED, Media
from schemas.page import KEY_CHARS, Rejected, key_of

CONFIG = BuildConfig()
NOW_SETTINGS = fingerprint(to_tree(CONFIG.media))


def by_key(rows):
    return iter(sorted(rows, key=lambda row: row["key"]))


def wanted_of(urls, ledger=(), captures=(), kind=IMAGE, config=CONFIG):
    """Give the URLs that are to be asked for."""
    rows = by_key({"key": key_of(url), "url": url} for url in urls)
    told = by_key(asked_to_row(asked) for asked in ledger)
    at_hand = by_key({"key": key_of(url), "status": s, "fetched": None, "place": "p"} for url, s in captures)
    tables = {LISTED: rows} if kind == PAGE else {REFERENCES: rows, CAPTURES: at_hand}
    inputs = {table.directory: found for table, found in {**tables, ASKED: told}.items()}
    return dict(to_ask(inputs, Job(Folder("."), config), kind))


A, B, C, D, E = (f"https://{name}.example/i" for name in "abcde")


def test_what_is_not_at_hand_and_not_settled_is_asked_for_once():
    assert wanted_of([A, A, B]) == {A: "", B: ""}
    assert wanted_of([A, B], captures=[(A, 200), (B, 404)]) == {B: ""}
    ledger = [
        Asked(A, IMAGE, GOT),
        Asked(B, IMAGE, REFUSED, "robots_disallowed"),
        Asked(C, IMAGE, FAILED, "http_404"),
        Asked(D, IMAGE, PASSING, "timed_out"),
        Asked(E, PAGE, GOT),
    ]
    assert wanted_of([A, B, C, D, E], ledger) == {D: "timed_out", E: ""}
    assert wanted_of([A, B, C, D, E], ledger, kind=PAGE) == {A: "", B: "", C: "", D: ""}


def test_a_picture_is_asked_for_again_where_other_settings_made_it():
    stored = Media(A, STORED)
    assert wanted_of([A], [Asked(A, IMAGE, GOT, media=stored, settings=NOW_SETTINGS)]) == {}
    assert wanted_of([A], [Asked(A, IMAGE, GOT, media=stored, settings="others")]) == {A: ""}


def test_only_the_web_is_asked():
    assert wanted_of(["file://folder/a.jpg", A]) == {A: ""}


def test_nobody_is_asked_who_opted_out(tmp_path):
    (tmp_path / "list").write_text("a.example\nhttps://b.example/i\n")
    config = with_overrides(CONFIG, [f"rights.opt_out=['{tmp_path}/list']"])
    assert wanted_of([A, B, C], config=config) == {C: ""}
    assert wanted_of([A, B, C], kind=PAGE, config=config) == {C: ""}


@given(st.integers(1, 200), st.lists(st.text(max_size=9), min_size=1))
def test_no_host_is_in_two_ranges_and_every_key_is_in_one(count, hosts):
    ranges = host_ranges(count)
    assert [each.index for each in ranges] == list(range(count))
    assert (ranges[0].lo, ranges[-1].hi) == ("0" * KEY_CHARS, "")
    at_borders = [each.lo[:HOST_CHARS] for each in ranges]
    for start in [*(key_of(host)[:HOST_CHARS] for host in hosts), *at_borders]:
        keys = (start.ljust(KEY_CHARS, "0"), start.ljust(KEY_CHARS, "f"))
        assert len({range_of(key, ranges) for key in keys}) == 1


def test_each_run_has_a_number(tmp_path):
    assert [next_run(Folder(str(tmp_path))) for _ in range(3)] == [1, 2, 3]


# Lists of pages

LINES = st.sampled_from(
    [
        *("https://a.example/", "http://b.example/%C3%A4 b?x#y", "  https://c.example/x ", "", "# a comment"),
        *("no URL", "\x00\xff", "file:///etc/passwd", "https://d.example/" + "x" * 60, "ftp://e.example/"),
    ]
)


def read(path, start, end):
    return [
        (found.reason, found.detail) if isinstance(found, Rejected) else found
        for found in read_list(Split(LIST, str(path), start, end, ""))
    ]


@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.data())
def test_stretches_of_a_list_give_each_line_once(tmp_path_factory, lines, end, is_ended, data):
    path = tmp_path_factory.mktemp("list") / "urls.txt"
    path.write_bytes((end.join(lines) + end * is_ended).encode("latin-1"))
    size = path.stat().st_size
    whole = read(path, 0, size)
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    assert len(whole) == len(kept)
    borders = sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=5))})
    stretches = [read(path, start, stop) for start, stop in pairwise(borders)]
    assert [found for each in stretches for found in each] == whole


@pytest.mark.parametrize("border", [1, 10, 40_000, 99_990])
def test_a_line_of_any_length_is_one_line(tmp_path, border):
    path = tmp_path / "urls.txt"
    path.write_bytes(b"https://a.example/\nhttps://b.example/" + b"x" * 99_000 + b"\nhttps://c.example/\n")
    found = read(path, 0, border) + read(path, border, path.stat().st_size)
    assert [each if isinstance(each, str) else each[0] for each in found] == [
        "https://a.example/",
        "bad_url",
        "https://c.example/",
    ]
