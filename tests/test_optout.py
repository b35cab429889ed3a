"""The opt-out list: what an entry stands for, what is no entry, and that nothing else is refused."""

import gzip
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.build import BuildConfig
from pipeline.fetch import locate_media
from pipeline.folder import Folder, UserError
from pipeline.optout import OPTED_OUT, OptOut, normalise_entry
from pipeline.stage import Job, Output, Unit
from pipeline.tables import ASKED, CAPTURES, MEDIA, REFERENCES
from pipeline.urls import clean_url
from schemas.asked import GOT, IMAGE, Asked, asked_to_row
from schemas.config import with_overrides
from schemas.media import MISSING, STORED, Media
from schemas.page import Origin, Refusal, key_of


def listed(*lines):
    return OptOut.read([line.encode() for line in lines], "list.txt")


def detail(found, url):
    refusal = found.refuse(clean_url(url))
    assert refusal is None or refusal == Refusal(OPTED_OUT, refusal.detail)
    return refusal.detail if refusal else None


@pytest.mark.parametrize(
    ("line", "url", "entry"),
    [
        # A domain: itself and its subdomains, with any scheme, port and path.
        ("a.example", "https://a.example/", "a.example"),
        ("a.example", "http://a.example:8080/x?y", "a.example"),
        ("a.example", "https://img.cdn.a.example/x.jpg", "a.example"),
        ("a.example", "https://ba.example/", None),
        ("a.example", "https://example/", None),
        ("a.example", "https://a.example.org/", None),
        ("a.example", "https://b.example/?u=http://a.example/", None),
        ("a.example", "https://b.example/a.example", None),
        ("a.example", "https://a.example./", "a.example"),
        ("*.a.example", "https://a.example/", "a.example"),
        ("A.Example.", "https://a.example/", "a.example"),
        ("a.example:8080", "https://a.example/", "a.example"),
        ("bücher.example", "https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("BÜCHER.example", "https://www.bücher.example/", "xn--bcher-kva.example"),
        ("example", "https://a.example/", "example"),
        ("under_score.example", "https://under_score.example/", "under_score.example"),
        ("192.0.2.7", "http://192.0.2.7:81/", "192.0.2.7"),
        ("192.0.2.7", "http://3221225991/", "192.0.2.7"),
        ("[2001:db8::1]", "http://[2001:db8::1]:81/", "[2001:db8::1]"),
        # A URL: what its own host has under it, with either scheme.
        ("https://a.example/x", "https://a.example/x", "a.example/x"),
        ("https://a.example/x", "http://a.example/x", "a.example/x"),
        ("https://a.example/x", "https://a.example/x/y.jpg", "a.example/x"),
        ("https://a.example/x", "https://a.example/x?y", "a.example/x"),
        ("https://a.example/x", "https://a.example/xy", None),
        ("https://a.example/x", "https://a.example/", None),
        ("https://a.example/x", "https://www.a.example/x", None),
        ("https://a.example/x", "https://a.example:444/x", None),
        ("https://a.example:444/x", "https://a.example:444/x", "a.example:444/x"),
        ("https://a.example/x/", "https://a.example/x", "a.example/x"),
        ("https://a.example/x/", "https://a.example/x/y/z", "a.example/x"),
        ("https://a.example/x/y.jpg", "https://a.example/x/z.jpg", None),
        ("https://a.example/p?id=3", "https://a.example/p?id=3", "a.example/p?id=3"),
        ("https://a.example/p?id=3", "https://a.example/p?id=3&b", "a.example/p?id=3"),
        ("https://a.example/p?id=3", "https://a.example/p?id=31", None),
        ("https://a.example/p?id=3", "https://a.example/p", None),
        ("https://a.example", "https://a.example/x", "a.example"),
        ("https://a.example", "https://b.a.example/x", None),
        ("a.example/X y", "https://a.example/X%20y/z", "a.example/X%20y"),
        ("a.example?id=3", "https://a.example/?id=3", "a.example/?id=3"),
        ("a.example\\x", "https://a.example/x/y", "a.example/x"),
        ("https://a.example?by=me@b.example", "https://a.example/?by=me@b.example", "a.example/?by=me@b.example"),
        ("HTTPS://A.example/X#part", "https://a.example/X", "a.example/X"),
        ("https://a.example/@me/x", "https://a.example/@me/x", "a.example/@me/x"),
    ],
)
def test_what_an_entry_stands_for(line, url, entry):
    assert detail(listed(line), url) == entry


def test_lists_of_both_kinds_with_comments():
    lines = ["\ufeff# who asked us", "", "a.example # by mail", "   ", "\tb.example\r\n", "https://c.example/x/#top"]
    found = listed(*lines, "# d.example")
    assert [detail(found, f"https://{host}.example/x/y/z") for host in "abcd"] == [
        "a.example",
        "b.example",
        "c.example/x",
        None,
    ]
    assert len(found.hashes) == 3


@pytest.mark.parametrize(
    "line",
    [
        "two words",
        "0.0.0.0 a.example",
        "a.example,b.example",
        "someone@a.example",
        "someone@a.example/x",
        "someone@a.example?x",
        "https://someone:secret@a.example/x",
        "a..example",
        ".a.example",
        "https://",
        "https:///x",
        "/only/a/path",
        "ftp://a.example/x",
        "file:///x",
        "file://folder/x",
        "mailto:a@b.example",
        "a.example:port",
        "[::1",
        "*",
        "a*b.example",
        "https://a*b.example/x",
        "https://a..example/x",
        "a" * 64 + ".example" * 40,
        "https://a.example/" + "x" * 9000,
        "\x00",
    ],
)
def test_what_is_no_entry(line):
    with pytest.raises(UserError) as error:
        listed("a.example", "", line)
    assert str(error.value).startswith("list.txt:3: ")
    assert str(error.value).endswith(" is neither a domain nor a URL; give one of them a line")
    assert len(str(error.value)) < 450


def test_bytes_that_are_no_text_are_no_entry():
    with pytest.raises(UserError, match=r"^list\.txt:1: "):
        OptOut.read([b"\xff\xfea\x00.\x00"], "list.txt")


def test_files_are_read_as_one_list(tmp_path):
    (tmp_path / "one.txt").write_text("a.example\n")
    (tmp_path / "two.txt").write_text("b.example\nnot one\n")
    with pytest.raises(UserError) as error:
        OptOut.open([str(tmp_path / "one.txt"), str(tmp_path / "two.txt")])
    assert str(error.value).startswith(f"{tmp_path / 'two.txt'}:2: 'not one'")
    (tmp_path / "two.txt").write_text("b.example\nhttps://c.example/x/y")
    found = OptOut.open([str(tmp_path / "one.txt"), str(tmp_path / "two.txt")])
    assert [detail(found, f"https://{host}.example/x/y") for host in "abcd"] == [
        "a.example",
        "b.example",
        "c.example/x/y",
        None,
    ]
    with pytest.raises(UserError, match=r"three\.txt: no such file$"):
        OptOut.open([str(tmp_path / "three.txt")])
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"a.example"))
    with pytest.raises(UserError, match=r"packed\.gz:1: "):
        OptOut.open([str(tmp_path / "packed.gz")])


def test_an_empty_list_refuses_nothing():
    for found in (OptOut.open([]), listed(), listed("# nothing yet")):
        assert len(found.hashes) == 0
        assert detail(found, "https://a.example/x") is None


def test_many_entries_take_eight_bytes_each():
    found = OptOut.read((b"site%d.example\n" % number for number in range(20_000)), "list.txt")
    assert len(found.hashes) * found.hashes.itemsize == 160_000
    assert list(found.hashes) == sorted(found.hashes)
    assert all(found.holds(f"site{number}.example") for number in range(20_000))
    assert not any(found.holds(f"site{number}.example") for number in range(20_000, 40_000))
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_order_of_lines_changes_nothing():
    lines = ["a.example", "https://b.example/x/y", "c.example", "https://d.example/"]
    assert listed(*lines) == listed(*reversed(lines))


@pytest.mark.parametrize(("lines", "expected"), [("c.example", STORED), ("a.example", MISSING), ("b.example", MISSING)])
def test_what_was_got_is_not_used_where_its_url_or_what_that_led_to_is_listed_later(tmp_path, lines, expected):
    (tmp_path / "list").write_text(lines)
    url, led_to = "https://a.example/1", "https://img.b.example/1"
    got = Asked(url, IMAGE, GOT, final_url=led_to, location=Origin("web/x.warc", 0, 9), media=Media(url, STORED))
    rows = {REFERENCES: [{"key": key_of(url), "url": url}], CAPTURES: [], ASKED: [asked_to_row(got)]}
    config = with_overrides(BuildConfig(), [f"rights.opt_out=['{tmp_path}/list']"])
    unit = Unit("locate", "u", None)
    output = Output(Job(Folder(str(tmp_path)), config), unit, {})
    locate_media(unit, {table.directory: iter(found) for table, found in rows.items()}, output)
    (media,) = output.writers[MEDIA.directory].rows
    assert (media["status"], media["reason"]) == (expected, OPTED_OUT if expected == MISSING else "")


HOSTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))
REST = st.text("xy/?&", max_size=8).map(lambda text: "/" + text)


@settings(deadline=None)
@given(st.lists(HOSTS, max_size=3), st.lists(st.tuples(HOSTS, REST).map("".join), max_size=3), HOSTS, REST)
def test_it_refuses_what_a_plain_reading_refuses(domains, starts, host, rest):
    url = clean_url(f"https://{host}{rest}")
    bare = url.removeprefix("https://")
    by_domain = any(f".{host}".endswith(f".{domain}") for domain in domains)
    ends = [clean_url(f"https://{start}").removeprefix("https://").rstrip("/?&") for start in starts]
    by_start = any(bare == end or (bare.startswith(end) and bare[len(end)] in "/?&") for end in ends)
    found = listed(*domains, *(f"http://{start}" for start in starts))
    assert (detail(found, url) is not None) == (by_domain or by_start)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_line_is_an_entry_or_none(text):
    entry = normalise_entry(text)
    assert entry == "" or normalise_entry(entry.replace("//", "https://", 1)) == entry
