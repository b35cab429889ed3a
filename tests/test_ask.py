"""What is to be asked for, cut so that no host is, and lists of pages read in stretches."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ask import host_ranges, next_run, to_ask
from pipeline.asked import describe_wanted
from pipeline.build import BuildConfig
from pipeline.folder import Folder
from pipeline.lists import read_list
from pipeline.sources import LIST, Split
from pipeline.stage import Job, Output, Unit, fingerprint
from pipeline.tables import ASKED, CAPTURES, REFERENCES, VIDEO_REFERENCES, range_of
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


def test_a_picture_that_has_gone_since_other_settings_made_it_is_not_asked_for_in_every_run():
    first, then = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    had = Asked(A, IMAGE, GOT, media=Media(A, STORED), settings="others", asked=first)
    assert wanted_of([A], [had, Asked(A, IMAGE, FAILED, "http_404", asked=then)]) == {}
    assert wanted_of([A], [had, Asked(A, IMAGE, REFUSED, "x_robots_tag", asked=then)]) == {}
    assert wanted_of([A], [had, Asked(A, IMAGE, PASSING, "http_503", asked=then)]) == {A: "http_503"}


@pytest.mark.parametrize(
    ("reason", "detail", "same", "other"),
    [
        ("robots_disallowed", "", "rights.tdm=false", "rights.robots=false"),
        ("content_signal", "header", "rights.robots=false", "rights.preferences=false"),
        ("content_usage", "header", "rights.robots=false", "rights.preferences=false"),
        ("x_robots_tag", "noai", "rights.robots=false", "rights.tags=false"),
        ("tdm_reservation", "header", "rights.robots=false", "rights.tdm=false"),
        ("refused_address", "loopback 127.0.0.1", "fetch.allow_private=false", "fetch.allow_private=true"),
        ("crawl_delay_too_long", "61.5 s", "fetch.max_crawl_delay_s=61", "fetch.max_crawl_delay_s=61.5"),
        ("too_many_bytes", "more than 1000 bytes", "fetch.max_bytes=1000", "fetch.max_bytes=1001"),
        ("too_many_redirects", f"5 redirects, then {B}", "fetch.max_redirects=5", "fetch.max_redirects=6"),
        ("http_404", "", "fetch.allow_private=true", ""),
        ("bad_encoding", "9 of 99", "fetch.max_redirects=99", ""),
    ],
)
def test_what_only_the_settings_forbade_is_asked_for_where_they_allow_it(reason, detail, same, other):
    ledger = [Asked(A, IMAGE, FAILED, reason, detail)]
    assert wanted_of([A], ledger, config=with_overrides(CONFIG, [same])) == {}
    if other:
        assert wanted_of([A], ledger, config=with_overrides(CONFIG, [other])) == {A: reason}
    if reason == "too_many_bytes":
        config = with_overrides(CONFIG, ["fetch.max_page_bytes=900", "fetch.max_bytes=9999"])
        assert wanted_of([A], [Asked(A, PAGE, FAILED, reason, detail)], kind=PAGE, config=config) == {}


def test_only_the_web_is_asked():
    assert wanted_of(["file://folder/a.jpg", A]) == {A: ""}


def test_nobody_is_asked_who_opted_out(tmp_path):
    (tmp_path / "list").write_text("a.example\nhttps://b.example/i\n")
    config = with_overrides(CONFIG, [f"rights.opt_out=['{tmp_path}/list']"])
    assert wanted_of([A, B, C], config=config) == {C: ""}
    assert wanted_of([A, B, C], kind=PAGE, config=config) == {C: ""}


def test_a_picture_is_not_asked_for_whose_address_says_what_is_left_out():
    logo = "https://a.example/img/site-logo.png"
    assert wanted_of([logo, A]) == {A: ""}
    assert wanted_of([logo, A], kind=PAGE) == {logo: "", A: ""}
    assert wanted_of([logo], config=with_overrides(CONFIG, ["filters.images.url_words=[]"])) == {logo: ""}


@given(st.integers(1, 200), st.lists(st.text(max_size=9), min_size=1))
def test_no_host_is_in_two_ranges_and_every_key_is_in_one(count, hosts):
    ranges = host_ranges(count)
    assert [each.index for each in ranges] == list(range(count))
    assert (ranges[0].lo, ranges[-1].hi) == ("0" * KEY_CHARS, "")
    at_borders = [each.lo[:HOST_CHARS] for each in ranges]
    for start in [*(key_of(host)[:HOST_CHARS] for host in hosts), *at_borders]:
        keys = (start.ljust(KEY_CHARS, "0"), start.ljust(KEY_CHARS, "f"))
        assert len({range_of(key, ranges) for key in keys}) == 1


def test_a_dry_run_counts_what_would_be_asked_for(tmp_path):
    folder = Folder(str(tmp_path))
    output = Output(Job(folder, CONFIG), Unit("extract", "u", None), {})
    for url in (A, A, B):
        output.write(REFERENCES, {"key": key_of(url), "url": url, "document": "d", "position": 0})
    empty = dict.fromkeys(VIDEO_REFERENCES.schema.names)
    output.write(VIDEO_REFERENCES, empty | {"key": key_of(C), "url": C})
    output.commit()
    assert describe_wanted(folder, CONFIG).startswith("would ask the web for 2 image(s) of 2 host(s): 0 s")
    config = with_overrides(CONFIG, ["videos.keep='clips'"])
    assert describe_wanted(folder, config).startswith("would ask the web for 2 image(s) and 1 video(s) of 3 host(s)")


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


def test_a_byte_order_mark_is_no_part_of_the_first_url(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_bytes("\ufeffhttps://a.example/\r\n\ufeffhttps://b.example/\r\n".encode())
    assert [each if isinstance(each, str) else each[0] for each in read(path, 0, 99)] == [
        "https://a.example/",
        "bad_url",
    ]
    path.write_bytes("\ufeff# a comment\n".encode())
    assert read(path, 0, 99) == []


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
