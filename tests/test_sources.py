"""Sources: what a person points at becomes splits, and each page and capture in them comes once."""

import os
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import http, member, page, record
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sources
from pipeline.folder import Folder, OpenFiles, UserError
from pipeline.sources import (
    HTTP_STATUS,
    NO_URL,
    NOT_A_FILE,
    OUTSIDE,
    TOO_LARGE,
    Capture,
    SourceConfig,
    place_of,
    plan_splits,
    read_capture,
    read_split,
    sort_record,
)
from pipeline.urls import join_url
from pipeline.warc import EMPTY_FILE, Record
from schemas.page import Origin, Page, Rejected, key_of

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
NOWHERE = Folder("")
"""The dataset, which none of these sources lies in."""


def read_again(source, settings):
    """Read a capture with files of its own."""
    with OpenFiles() as files:
        return read_capture(files, source, settings, NOWHERE)


def config(*paths, **more):
    return SourceConfig(tuple(map(str, paths)), **more)


def read_all(given_config):
    return [one for split in plan_splits(given_config) for one in read_split(split, given_config, NOWHERE)]


def of_type(found, kind):
    return [one for one in found if isinstance(one, kind)]


def page_urls(found):
    return [one.url for one in of_type(found, Page)]


def rejections(found):
    return [(one.reason, one.kind, one.url) for one in of_type(found, Rejected)]


def archive(*urls):
    return b"".join(member(record(http(page(url, "")), url=url)) for url in urls)


def error_of(*paths, **more):
    with pytest.raises(UserError) as caught:
        plan_splits(config(*paths, **more))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is pointed at ----------------------------------------------------------------------------------------------


@pytest.fixture
def crawl(tmp_path, monkeypatch):
    """Make a folder of archives, and stand in it."""
    monkeypatch.chdir(tmp_path)
    Path("crawl/deep").mkdir(parents=True)
    for name in ("crawl/b.warc.gz", "crawl/a.warc.gz", "crawl/deep/c.warc.gz", "odd[1]*.warc.gz"):
        Path(name).write_bytes(archive(f"http://a/{Path(name).name[0]}"))
    Path("crawl/d.warc").write_bytes(record(http(page("d", "")), url="http://a/d"))
    return tmp_path


def test_globs_and_folders_find_archives(crawl):
    everything = ["http://a/a", "http://a/b", "http://a/c", "http://a/d"]
    assert page_urls(read_all(config("crawl/*.warc.gz"))) == everything[:2]
    assert sorted(page_urls(read_all(config("crawl/**/*.warc*")))) == everything
    assert sorted(page_urls(read_all(config("crawl")))) == everything
    assert sorted(page_urls(read_all(config("craw?")))) == everything
    assert page_urls(read_all(config(f"file://{crawl}/crawl/[a]*.gz"))) == ["http://a/a"]
    assert page_urls(read_all(config(crawl / "crawl" / "d.warc"))) == ["http://a/d"]


def test_a_name_that_looks_like_a_glob_is_a_name_first(crawl):
    assert page_urls(read_all(config("odd[1]*.warc.gz"))) == ["http://a/o"]


def test_a_file_named_twice_is_read_once(crawl):
    once = page_urls(read_all(config("crawl/a.warc.gz")))
    names = ["crawl/a.warc.gz", "./crawl/a.warc.gz", crawl / "crawl/a.warc.gz", "crawl/a*", f"file://{crawl}/crawl/a*"]
    assert page_urls(read_all(config(*names))) == once
    assert page_urls(read_all(config(*reversed(names)))) == once


def test_the_plan_does_not_depend_on_the_order_of_paths(crawl):
    paths = ["crawl/a.warc.gz", "crawl/d.warc", "crawl/b.warc.gz", "crawl/deep"]
    plan = plan_splits(config(*paths))
    assert len(plan) == 4
    assert plan_splits(config(*reversed(paths))) == plan
    assert plan_splits(config(*paths, *paths)) == plan


def test_what_cannot_be_read_is_refused_in_one_line(crawl):
    Path("notes.doc").write_text("x")
    Path("empty").mkdir()
    assert error_of() == "no source: give --source with WARC files, Parquet files, saved pages or a list of URLs"
    assert error_of("none.warc.gz") == "none.warc.gz: no such file or folder"
    assert error_of("none*.warc.gz") == "none*.warc.gz: no file matches"
    kinds = "known are .warc, .warc.gz, .parquet, .txt and folders of saved pages"
    assert error_of("notes.doc") == f"notes.doc: not a source; {kinds}"
    assert error_of("empty") == "empty: holds neither .html pages nor .warc files; give the files, or a glob"
    assert error_of("nosuch://x/a.warc").startswith("nosuch://x/a.warc: ")


def test_bounds_are_checked():
    for wrong in ({"split_bytes": -1}, {"max_record_bytes": 0}):
        with pytest.raises(ValueError, match="split_bytes is 0 or more and max_record_bytes 1 or more"):
            SourceConfig(**wrong)
    with pytest.raises(ValueError, match=r"base_url is a URL such as https://example\.org/, not 'example\.org'"):
        SourceConfig(base_url="example.org")


def test_a_changed_file_gives_another_plan(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(archive("http://a/1"))
    plan = plan_splits(config(path))
    assert plan_splits(config(path)) == plan
    later = path.stat().st_mtime + 5
    path.write_bytes(archive("http://a/2"))
    os.utime(path, (later, later))
    assert plan_splits(config(path)) != plan
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_bytes(b"1")
    plan = plan_splits(config(folder))
    (folder / "a.html").write_bytes(b"22")
    assert plan_splits(config(folder)) != plan


# --- archives --------------------------------------------------------------------------------------------------------

CRAWL = [f"http://a/{number}" for number in range(30)]


@given(st.integers(1, 9000))
@settings(max_examples=40, deadline=None)
def test_splits_of_any_size_read_each_record_once(split_bytes):
    name = "memory://splits/a.warc.gz"
    with fsspec.open(name, "wb") as stream:
        stream.write(archive(*CRAWL))
    given_config = config(name, split_bytes=split_bytes)
    plan = plan_splits(given_config)
    assert [one.start for one in plan] == list(range(0, plan[-1].end, split_bytes))
    found = [one for split in plan for one in read_split(split, given_config, NOWHERE)]
    assert page_urls(found) == CRAWL
    for split in plan:
        places = [one.place for one in of_type(read_split(split, given_config, NOWHERE), Capture)]
        assert all(split.keys.lo <= place < split.keys.hi for place in places)


def test_places_sort_as_records_lie():
    places = [place_of("f", offset) for offset in (0, 9, 10, 255, 256, 2**40)]
    assert places == sorted(places)
    assert {place[:24] for place in places} == {key_of("f")}


def test_records_are_sorted_into_pages_captures_and_rejections(tmp_path):
    path = tmp_path / "a.warc.gz"
    parts = [
        record(http(page("1", "")), url="http://a/1#part"),
        record(http(b"\xff\xd8", "image/jpeg"), url="http://a/2.jpg"),
        record(http(page("3", ""), status="404 Not Found"), url="http://a/3"),
        record(http(b"\xff\xd8", "image/jpeg", status="404 Not Found"), url="http://a/4.jpg"),
        record(http(page("5", ""), "Text/HTML; charset=KOI8-R"), url="http://a/5"),
        record(http(page("6", ""), "application/xhtml+xml"), url="http://a/6"),
        record(http(b"\n <!DOCTYPE html><p>", ""), url="http://a/7"),
        record(http(b"plain", ""), url="http://a/8"),
        record(http(page("9", "")), url=""),
        record(page("10", ""), url="http://a/10", kind="resource", content_type="text/html"),
        record(http(page("11", "")), url="not a url"),
        record(http(page("12", ""), "text/plain"), url="http://a/12"),
    ]
    path.write_bytes(b"".join(map(member, parts)))
    found = read_all(config(path))
    pages = ["http://a/1", "http://a/5", "http://a/6", "http://a/7", "http://a/10", "not a url"]
    assert page_urls(found) == pages
    assert rejections(found) == [(HTTP_STATUS, "page", "http://a/3"), (NO_URL, "record", "")]
    captures = of_type(found, Capture)
    numbers = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert [one.source.offset for one in captures] == [sum(len(member(p)) for p in parts[: n - 1]) for n in numbers]
    assert {one.url: one.status for one in captures if one.status != 200} == {"http://a/3": 404, "http://a/4.jpg": 404}
    assert of_type(found, Page)[1].charset == "koi8-r" or of_type(found, Page)[1].charset == "KOI8-R"
    assert all(one.fetched == WHEN for one in captures)
    assert len(captures) + sum(one.kind == "record" for one in of_type(found, Rejected)) == len(parts)
    for one in captures:
        assert one.place == place_of(str(path), one.source.offset)
    by_url = {one.url: one for one in captures}
    assert read_again(by_url["http://a/2.jpg"].source, config(path)) == b"\xff\xd8"


def test_damage_and_limits_become_rejections(tmp_path):
    good, large = record(http(page("1", "")), url="http://a/1"), record(http(bytes(5000)), url="http://a/2")
    path = tmp_path / "a.warc.gz"
    path.write_bytes(member(good) + member(large) + member(good)[:-5])
    found = read_all(config(path, max_record_bytes=4000))
    assert page_urls(found) == ["http://a/1"]
    assert rejections(found) == [
        ("record_too_large", "record", "http://a/2"),
        ("truncated_record", "record", "http://a/1"),
    ]
    assert of_type(found, Rejected)[0].origin == Origin(str(path), len(member(good)), len(member(large)))
    path.write_bytes(b"")
    assert rejections(read_all(config(path))) == [(EMPTY_FILE, "record", "")]


def test_a_raw_file_is_one_split(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(record(http(page(url, "")), url=url) for url in CRAWL))
    assert len(plan_splits(config(path, split_bytes=10))) == 1
    assert page_urls(read_all(config(path, split_bytes=10))) == CRAWL


def test_an_archive_lies_on_any_file_system():
    root = f"memory://{uuid4().hex}"
    for name in ("b", "a"):
        with fsspec.open(f"{root}/crawl/{name}.warc.gz", "wb") as stream:
            stream.write(archive(f"http://a/{name}"))
    for path in (f"{root}/crawl/*.warc.gz", f"{root}/crawl", f"{root}/crawl/"):
        found = read_all(config(path))
        assert page_urls(found) == ["http://a/a", "http://a/b"]
        (source,) = [one.source for one in of_type(found, Capture) if one.url == "http://a/b"]
        assert source.file.startswith("memory://")
        assert read_again(source, config(path)) == page("http://a/b", "")
    assert error_of(f"{root}/none.warc").endswith("none.warc: no such file or folder")


def test_a_capture_that_is_gone_says_why(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(archive("http://a/1"))
    (capture,) = of_type(read_all(config(path)), Capture)
    path.write_bytes(bytes(capture.source.length))
    assert read_again(capture.source, config(path)) == "not_a_warc"


@given(st.text(max_size=30), st.text(max_size=10), st.binary(max_size=30), st.integers(100, 999))
@settings(max_examples=100, deadline=None)
def test_no_record_raises(url, content_type, payload, status):
    origin = Origin("f", 0, 1)
    found = list(sort_record(Record(url, status, content_type, None, None, 0, 1, payload), origin))
    assert found
    assert all(isinstance(one, Page | Capture | Rejected) for one in found)


# --- saved folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    """Make a saved site with a secret beside it."""
    root = tmp_path / "my site"
    (root / "sub dir").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return root


def captures_by_url(found):
    return {one.url: one for one in of_type(found, Capture)}


NAMES = [
    "plain.jpg",
    "two words.jpg",
    "ünï çødé.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "what?.jpg",
    "c#d.jpg",
    "e;f=g&h.jpg",
    "日本.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_finds_the_file_beside_it_whatever_its_name(site, name):
    (site / "sub dir" / name).write_bytes(name.encode())
    (site / "sub dir" / "page.html").write_bytes(b"page")
    found = read_all(config(site))
    (saved,) = of_type(found, Page)
    assert saved.url == "file://my-site/sub%20dir/page.html"
    reference = name.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    url = join_url(saved.url, reference)
    assert url == join_url(saved.url, f"../sub dir/{reference}")
    assert read_again(captures_by_url(found)[url].source, config(site)) == name.encode()


def test_links_resolve_inside_the_folder_and_never_leave_it(site):
    (site / "top.jpg").write_bytes(b"top")
    (site / "sub dir" / "page.html").write_bytes(b"page")
    found = read_all(config(site))
    (saved,) = of_type(found, Page)
    held = captures_by_url(found)
    assert join_url(saved.url, "../top.jpg") in held
    assert join_url(saved.url, "/top.jpg") in held
    outside = [
        "../../secret.jpg",
        "../../../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "%2e%2e/%2e%2e/secret.jpg",
    ]
    outside += [f"file://{site}/top.jpg", "..\\..\\secret.jpg", "//etc/passwd"]
    assert [join_url(saved.url, one) for one in outside if join_url(saved.url, one) in held] == []
    assert not any("secret" in one.source.file for one in held.values())


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("pages", "pages"),
        ("My_Pages.2", "my_pages-2"),
        ("my site", "my-site"),
        ("a?b#c%20d", "a-b-c-20d"),
        ("ünï", "xn--n-nga1b"),
        ("2026", "folder-2026"),
        ("256.256.256.256", "folder-256-256-256-256"),
        ("aא", "folder"),
        ("@:[", "-"),
    ],
)
def test_a_folder_gives_its_pages_a_host(tmp_path, name, host):
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.html").write_bytes(b"page")
    found = read_all(config(tmp_path / name))
    assert page_urls(found) == [f"file://{host}/a.html"]
    assert join_url(page_urls(found)[0], "b.jpg") == f"file://{host}/b.jpg"


def test_a_base_url_stands_for_the_root(site):
    (site / "sub dir" / "page.html").write_bytes(b"page")
    for base in ("https://example.org/", "https://example.org"):
        assert page_urls(read_all(config(site, base_url=base))) == ["https://example.org/sub%20dir/page.html"]


def test_what_is_no_regular_file_inside_is_not_read(site, tmp_path):
    secrets = tmp_path / "elsewhere"
    secrets.mkdir()
    (secrets / "secret.html").write_bytes(b"secret")
    (site / "page.html").write_bytes(b"page")
    (site / "inner.html").symlink_to("page.html")
    (site / "leaves.html").symlink_to("../elsewhere/secret.html")
    (site / "absolute.html").symlink_to(secrets / "secret.html")
    (site / "dangling.html").symlink_to("nowhere")
    (site / "loop").symlink_to(".")
    (site / "folder").symlink_to(secrets)
    os.mkfifo(site / "pipe.html")
    found = read_all(config(site))
    base = page_urls(found)[0].rpartition("/")[0]
    assert page_urls(found) == [f"{base}/inner.html", f"{base}/page.html"]
    assert {one.html for one in of_type(found, Page)} == {b"page"}
    assert Counter(rejections(found)) == Counter(
        [
            (OUTSIDE, "record", f"{base}/absolute.html"),
            (NOT_A_FILE, "record", f"{base}/dangling.html"),
            (OUTSIDE, "record", f"{base}/folder"),
            (OUTSIDE, "record", f"{base}/leaves.html"),
            (OUTSIDE, "record", f"{base}/loop"),
            (NOT_A_FILE, "record", f"{base}/pipe.html"),
        ]
    )
    assert len(captures_by_url(found)) == 2


def test_a_folder_beside_one_with_a_longer_name_is_outside(site, tmp_path):
    other = tmp_path / "my site too"
    other.mkdir()
    (other / "x.html").write_bytes(b"secret")
    (site / "link.html").symlink_to(other / "x.html")
    (site / "page.html").write_bytes(b"page")
    assert [reason for reason, _, _ in rejections(read_all(config(site)))] == [OUTSIDE]


def test_a_folder_that_is_a_link_is_read(site, tmp_path):
    (site / "page.html").write_bytes(b"page")
    (tmp_path / "short").symlink_to(site)
    assert len(page_urls(read_all(config(tmp_path / "short")))) == 1


def test_a_name_that_is_not_utf8_is_rejected(site):
    (site / "page.html").write_bytes(b"page")
    try:
        (Path(os.fsdecode(os.fsencode(site) + b"/\xff.html"))).write_bytes(b"page")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    found = read_all(config(site))
    assert len(page_urls(found)) == 1
    ((reason, kind, url),) = rejections(found)
    assert (reason, kind) == (NOT_A_FILE, "record")
    assert url == "file://my-site/%5Cxff.html"


def test_large_files_are_rejected_and_no_file_is_lost(site):
    for number in range(5):
        (site / f"{number}.html").write_bytes(b"x" * (100 + 100 * (number == 3)))
    (site / "large.jpg").write_bytes(bytes(500))
    found = read_all(config(site, max_record_bytes=100))
    base = page_urls(found)[0].rpartition("/")[0]
    assert page_urls(found) == [f"{base}/{number}.html" for number in (0, 1, 2, 4)]
    assert rejections(found) == [(TOO_LARGE, "page", f"{base}/3.html")]
    held = captures_by_url(found)
    assert len(held) == 6
    assert read_again(held[f"{base}/large.jpg"].source, config(site, max_record_bytes=100)) == TOO_LARGE
    assert read_again(held[f"{base}/large.jpg"].source, config(site)) == bytes(500)


def test_many_files_are_dealt_to_splits(site, monkeypatch):
    monkeypatch.setattr(sources, "FILES_PER_SPLIT", 3)
    for number in range(8):
        (site / f"{number}.htm").write_bytes(b"x")
    given_config = config(site)
    plan = plan_splits(given_config)
    assert [(one.start, one.end) for one in plan] == [(0, 3), (3, 6), (6, 8)]
    assert all(one.keys.hi == other.keys.lo for one, other in pairwise(plan))
    assert len(set(page_urls(read_all(given_config)))) == 8
    for split in plan:
        for one in of_type(read_split(split, given_config, NOWHERE), Capture):
            assert split.keys.lo <= one.place < split.keys.hi


def test_a_folder_in_memory_is_read():
    root = f"memory://{uuid4().hex}/site"
    for name, data in (("a.html", b"page"), ("i/b.jpg", b"jpeg")):
        with fsspec.open(f"{root}/{name}", "wb") as stream:
            stream.write(data)
    found = read_all(config(root))
    (saved,) = of_type(found, Page)
    assert (saved.url, saved.html) == ("file://site/a.html", b"page")
    assert read_again(captures_by_url(found)["file://site/i/b.jpg"].source, config(root)) == b"jpeg"


# --- Parquet ---------------------------------------------------------------------------------------------------------


def write_table(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=columns.pop("rows", 7))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_parquet_holds_text_or_bytes(tmp_path, kind):
    path = tmp_path / "a.parquet"
    html = pa.array(["<p>ü</p>", ""]).cast(pa.binary()).cast(kind)
    write_table(path, url=["http://a/1#x", "http://ü.example/2"], html=html, more=[1, 2])
    charset = "utf-8" if kind in (pa.string(), pa.large_string()) else None
    assert read_all(config(path)) == [
        Page("http://a/1", "<p>ü</p>".encode(), charset, None, Origin(str(path), 0)),
        Page("http://xn--tda.example/2", b"", charset, None, Origin(str(path), 1)),
    ]


def test_a_large_row_group_is_cut_into_few_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROWS_PER_SPLIT", 1)
    path = str(tmp_path / "pages.parquet")
    urls = [f"https://a.example/{number}" for number in range(100)]
    pq.write_table(pa.table({"url": urls, "html": urls}), path, row_group_size=90)
    config = SourceConfig(paths=(path,))
    splits = plan_splits(config)
    assert len(splits) == -(-100 // -(-90 // sources.SPLITS_PER_GROUP))
    assert [page.url for split in splits for page in read_split(split, config, Folder(str(tmp_path)))] == urls


@pytest.mark.parametrize("rows_per_split", [1, 3, 10, 64, 100, 1000])
def test_splits_and_row_groups_read_each_row_once(tmp_path, monkeypatch, rows_per_split):
    monkeypatch.setattr(sources, "ROWS_PER_SPLIT", rows_per_split)
    monkeypatch.setattr(sources, "SPLITS_PER_GROUP", 70)
    path = tmp_path / "a.parquet"
    urls = [f"http://a/{number}" for number in range(200)]
    pq.write_table(pa.table({"url": urls, "html": urls}), path, row_group_size=70)
    found = read_all(config(path))
    assert page_urls(found) == urls
    assert [one.origin.offset for one in found] == list(range(200))
    assert len(plan_splits(config(path))) == -(-200 // rows_per_split)


def test_rows_without_url_or_page_are_rejected(tmp_path):
    path = tmp_path / "a.parquet"
    bad_text = pa.array([b"<p>\xff", b"x", b"y", b"z" * 200, None]).cast(pa.binary())
    bad_text = pa.Array.from_buffers(pa.string(), 5, bad_text.buffers())
    bad_url = pa.Array.from_buffers(
        pa.string(), 5, pa.array([b"http://a/\xff", None, b"", b"http://a/3", b"http://a/4"]).buffers()
    )
    write_table(path, url=bad_url, html=bad_text)
    found = read_all(config(path, max_record_bytes=100))
    assert [(one.url, one.html) for one in of_type(found, Page)] == [("http://a/%EF%BF%BD", b"<p>\xff")]
    assert rejections(found) == [
        (NO_URL, "record", ""),
        (NO_URL, "record", ""),
        (TOO_LARGE, "page", "http://a/3"),
        (NO_URL, "record", ""),
    ]
    assert [one.origin.offset for one in found] == [0, 1, 2, 3, 4]


def test_columns_are_checked_before_the_run(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, link=["http://a/"], text=["x"], number=[1])
    assert error_of(path) == (
        f"{path}: no column 'url' (has: link, text, number); name yours with "
        "--set source.url_column=... and --set source.html_column=..."
    )
    assert error_of(path, url_column="link").startswith(f"{path}: no column 'html' (has: ")
    wrong = error_of(path, url_column="link", html_column="number")
    assert wrong == f"{path}: column 'number' holds int64, not text or bytes"
    assert page_urls(read_all(config(path, url_column="link", html_column="text"))) == ["http://a/"]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all" * 9])
def test_what_is_no_parquet_is_refused(tmp_path, data):
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    assert error_of(path).startswith(f"{path}: not a Parquet file (")


def test_an_empty_table_has_no_splits(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, url=pa.array([], pa.string()), html=pa.array([], pa.string()))
    assert plan_splits(config(path)) == []


def test_two_folders_with_the_same_urls_are_refused(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "site").mkdir(parents=True)
        (tmp_path / parent / "site" / "index.html").write_text("<p>page")
    both = SourceConfig(paths=(str(tmp_path / "a" / "site"), str(tmp_path / "b" / "site")))
    with pytest.raises(UserError, match="their pages would have the same URLs"):
        plan_splits(both)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.example/x/index.html", "b.example/i.jpg"], ["https://a.example/x/index.html", "https://b.example/i.jpg"]),
        (["page.html", "page.files/i.jpg"], ["file://saved/page.files/i.jpg", "file://saved/page.html"]),
        (
            ["page_files/i.jpg", "b.example/page.html"],
            ["file://saved/b.example/page.html", "file://saved/page_files/i.jpg"],
        ),
    ],
)
def test_a_folder_of_hosts_is_a_mirror(tmp_path, files, expected):
    for name in files:
        path = tmp_path / "saved" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<html><p>page")
    settings = SourceConfig(paths=(str(tmp_path / "saved"),))
    found = [item for split in plan_splits(settings) for item in read_split(split, settings, NOWHERE)]
    assert sorted(item.url for item in found if isinstance(item, Capture)) == expected
