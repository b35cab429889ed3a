"""WARC files whole, damaged, split and hostile: every sound record is read once, all else is named."""

import hashlib
import io
import tracemalloc
import zlib
from base64 import b32encode
from datetime import UTC, datetime
from itertools import pairwise

import brotli
import pytest
from damage import DATE, HTTP, chunked, flip, http, member, page, record, zeros_member
from fastwarc.warc import ArchiveIterator as FastIterator
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from pipeline import warc
from pipeline.warc import (
    BAD_LENGTH,
    CORRUPT,
    EMPTY_FILE,
    NOT_A_WARC,
    NOT_BY_RECORD,
    NOT_HTTP,
    TOO_LARGE,
    TRUNCATED,
    BadRecord,
    Frame,
    Record,
    format_record,
    frames,
    payloads,
    read_record_at,
)

LIMIT = 1 << 20
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def good(number, size=20):
    """Write a sound record whose page tells its number."""
    return record(http(page(str(number), "x" * size)), url=f"http://a/{number}")


GOOD = [good(number) for number in range(3)]


def read(data, start=0, end=None, limit=LIMIT):
    stream = io.BytesIO(data)
    return list(payloads(frames(stream, start, len(data) if end is None else end, limit), limit))


def urls(found):
    return [one.url for one in found if isinstance(one, Record)]


def bad(found):
    return [(one.reason, one.url) for one in found if isinstance(one, BadRecord)]


def only(data):
    """Read the one record of an uncompressed archive."""
    (found,) = read(data)
    return found


# --- sound files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, 0, 1, 9])
def test_sound_files_are_read_whole(level):
    parts = [one if level is None else member(one, level) for one in GOOD]
    found = read(b"".join(parts))
    assert [type(one) for one in found] == [Record] * 3
    offsets = [sum(map(len, parts[:number])) for number in range(3)]
    for number, one in enumerate(found):
        expected = Record(
            url=f"http://a/{number}",
            status=200,
            content_type="text/html",
            charset=None,
            fetched=WHEN,
            offset=offsets[number],
            length=len(parts[number]),
            payload=page(str(number), "x" * 20),
        )
        assert one == expected
        assert read_record_at(io.BytesIO(b"".join(parts)), one.offset, one.length, LIMIT) == Record(
            **{name: getattr(one, name) for name in one.__slots__} | {"offset": 0}
        )


def test_records_that_capture_nothing_are_left_out():
    kinds = ["warcinfo", "request", "metadata", "revisit", "continuation"]
    data = b"".join(record(b"a: b\r\n", kind=kind, content_type="application/warc-fields") for kind in kinds)
    assert read(data + GOOD[0]) == read(data + GOOD[0])[-1:]
    assert urls(read(data + GOOD[0])) == ["http://a/0"]


@pytest.mark.parametrize("ending", [b"", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\n" * 40])
def test_a_record_may_end_with_any_empty_lines(ending):
    bare = GOOD[0].removesuffix(b"\r\n\r\n")
    assert urls(read(bare + ending + GOOD[1])) == ["http://a/0", "http://a/1"]
    assert urls(read(member(bare + ending) + member(GOOD[1]))) == ["http://a/0", "http://a/1"]


def test_a_member_of_any_header_is_read():
    named = b"\x1f\x8b\x08\x08\0\0\0\0\0\xffname\0" + member(GOOD[0])[10:]
    assert urls(read(named + member(GOOD[1]))) == ["http://a/0", "http://a/1"]


@pytest.mark.parametrize("beyond", range(-40, 60, 7))
def test_output_that_fills_its_buffer_exactly_is_no_damage(beyond):
    body = bytes(warc.SCAN_BYTES + beyond - 150)
    data = member(record(body, kind="resource", content_type="a/b"))
    assert [len(one.payload) for one in read(data, limit=1 << 22)] == [len(body)]


# --- damage ----------------------------------------------------------------------------------------------------------

MANY = b"".join(good(number) for number in (7, 8, 9))
HUGE_HEADER = record(b"x", url="http://a/1", fields=b"X: " + b"y" * (1 << 17) + b"\r\n")
LENGTHS = [
    ("small", len(http(page("1", ""))) - 9, BAD_LENGTH),
    ("zero", 0, BAD_LENGTH),
    ("large", 5_000, None),
    ("negative", -5, CORRUPT),
    ("empty", "", CORRUPT),
    ("absurd", "9" * 30, CORRUPT),
    ("beyond", 10**15, None),
    ("a word", "many", CORRUPT),
]


def of_length(length):
    return record(http(page("1", "")), url="http://a/1", length=length)


@pytest.mark.parametrize(
    ("middle", "reason", "url"),
    [
        *((member(of_length(length)), reason or BAD_LENGTH, "http://a/1") for _, length, reason in LENGTHS),
        (member(GOOD[1])[:-20], CORRUPT, "http://a/1"),
        (member(GOOD[1])[:-8], CORRUPT, "http://a/1"),
        (member(GOOD[1])[:30], CORRUPT, ""),
        (flip(member(GOOD[1]), -8), CORRUPT, "http://a/1"),
        (flip(member(GOOD[1]), -1), CORRUPT, "http://a/1"),
        (flip(member(GOOD[1]), 0), CORRUPT, ""),
        (b"garbage", CORRUPT, ""),
        (bytes(5_000), CORRUPT, ""),
        (member(b"garbage"), CORRUPT, ""),
        (member(b""), CORRUPT, ""),
        (member(b"WARC/1.0\r\n"), CORRUPT, ""),
        (member(HUGE_HEADER), CORRUPT, "http://a/1"),
        (member(MANY), NOT_BY_RECORD, ""),
        (member(MANY + bytes(LIMIT)), NOT_BY_RECORD, ""),
        (member(record(bytes(LIMIT + 1), url="http://a/1")), TOO_LARGE, "http://a/1"),
        (member(record(http(b"x"), url="http://a/1", kind="rasponse")), CORRUPT, "http://a/1"),
        (member(record(http(b"x"), url="http://a/1").replace(b"WARC-Type", b"WARC-Typo")), CORRUPT, "http://a/1"),
    ],
)
def test_damage_to_a_member_costs_no_neighbour(middle, reason, url):
    found = read(member(GOOD[0]) + middle + member(GOOD[2]))
    assert urls(found) == ["http://a/0", "http://a/2"]
    assert bad(found) == [(reason, url)]
    assert all(one.detail and "\n" not in one.detail for one in found if isinstance(one, BadRecord))


@pytest.mark.parametrize(
    ("middle", "reason", "url"),
    [
        *((of_length(length), reason or TRUNCATED, "http://a/1") for _, length, reason in LENGTHS),
        (GOOD[1][:-30], BAD_LENGTH, "http://a/1"),
        (GOOD[1][:20], CORRUPT, ""),
        (flip(GOOD[1], 0), CORRUPT, ""),
        (b"garbage", CORRUPT, ""),
        (b"\nno WARC/1.0 here\r\n", CORRUPT, ""),
        (bytes(5_000), CORRUPT, ""),
        (HUGE_HEADER, CORRUPT, "http://a/1"),
        (record(bytes(LIMIT + 1), url="http://a/1"), TOO_LARGE, "http://a/1"),
    ],
)
def test_damage_to_a_raw_record_costs_no_neighbour(middle, reason, url):
    found = read(GOOD[0] + middle + GOOD[2])
    assert urls(found) == ["http://a/0", "http://a/2"]
    assert bad(found) == [(reason, url)]


def test_details_say_what_was_found():
    (found,) = read(member(record(bytes(LIMIT), url="http://a/1")))
    assert found.detail == f"{len(record(bytes(LIMIT), url='http://a/1'))} bytes, limit {LIMIT}"
    (found,) = read(member(of_length(9)))
    assert found.detail == f"Content-Length 9, the record holds {len(http(page('1', ''))) + 4} bytes"
    (found,) = read(member(MANY))
    assert "recompress the file record by record" in found.detail


@pytest.mark.parametrize("pack", [bytes, member])
def test_any_one_flipped_bit_costs_one_record_at_most(pack):
    parts = [pack(one) for one in GOOD]
    for at in range(len(parts[1])):
        for bit in range(0, 8, 3):
            middle = bytearray(parts[1])
            middle[at] ^= 1 << bit
            found = read(parts[0] + bytes(middle) + parts[2])
            names = [one.url for one in found if isinstance(one, Record) and one.offset != len(parts[0])]
            assert names == ["http://a/0", "http://a/2"], (at, bit)
            assert len(found) >= 3, (at, bit)


@pytest.mark.parametrize("pack", [bytes, member])
def test_any_cut_in_the_middle_costs_one_record(pack):
    parts = [pack(one) for one in GOOD]
    for at in range(1, len(parts[1])):
        found = read(parts[0] + parts[1][:at] + parts[2])
        assert [url for url in urls(found) if url != "http://a/1"] == ["http://a/0", "http://a/2"], at
        assert len(found) >= 3, at


@pytest.mark.parametrize("pack", [bytes, member])
def test_any_cut_at_the_end_is_told(pack):
    parts = [pack(one) for one in GOOD]
    for at in range(1, len(parts[2]) - (4 if pack is bytes else 0)):
        found = read(parts[0] + parts[1] + parts[2][:at])
        assert urls(found) == ["http://a/0", "http://a/1"], at
        assert [reason for reason, _ in bad(found)] in ([TRUNCATED], [CORRUPT]), at
    assert bad(read(member(GOOD[0]) + member(GOOD[1])[:-4])) == [(TRUNCATED, "http://a/1")]
    assert bad(read(GOOD[0] + GOOD[1][:-5])) == [(TRUNCATED, "http://a/1")]


@pytest.mark.parametrize("pack", [bytes, member])
def test_damage_to_the_first_bytes_of_a_file_costs_one_record(pack):
    for at in range(4):
        data = flip(pack(GOOD[0]), at) + pack(GOOD[1]) + pack(GOOD[2])
        assert urls(read(data))[-2:] == ["http://a/1", "http://a/2"], at
        assert len(read(data)) == 3, at


def test_an_empty_file_is_named():
    assert read(b"") == [BadRecord(EMPTY_FILE, "0 bytes", 0, 0)]
    assert read(b"", 0, 1) == [BadRecord(EMPTY_FILE, "0 bytes", 0, 0)]


@pytest.mark.parametrize(
    "data", [b"x", b"%PDF-1.4\n" * 9, b"\x1f\x8b\x08", member(b"<html>"), b"PK\3\4" + bytes(3_000_000), b"WARC/2.0\r\n"]
)
def test_what_is_no_warc_is_named(data):
    assert read(data) == [BadRecord(NOT_A_WARC, f"begins with {data[:12]!r}", 0, len(data))]


def test_a_bomb_costs_bounded_memory():
    head = record(b"", url="http://a/bomb", length=1 << 30)[:-4]
    data = member(GOOD[0]) + zeros_member(head, 1024) + member(GOOD[1])
    assert len(data) < 2_000_000
    tracemalloc.start()
    found = read(data, limit=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert urls(found) == ["http://a/0", "http://a/1"]
    assert bad(found) == [(TOO_LARGE, "http://a/bomb")]
    assert peak < 24 << 20


def test_a_bomb_inside_http_is_refused():
    body = zeros_member(b"<html>", 64)
    data = record(http(body, fields=b"Content-Encoding: gzip\r\n"), url="http://a/bomb")
    tracemalloc.start()
    found = only(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.reason, found.url) == (TOO_LARGE, "http://a/bomb")
    assert found.detail == f"decodes to more than {LIMIT} bytes"
    assert peak < 16 << 20


@given(st.binary(max_size=60), st.sampled_from(["response", "resource", "conversion"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_body_raises(body, kind, as_http):
    content_type = HTTP if as_http else "text/html"
    (found,) = read(record(body, kind=kind, content_type=content_type))
    assert isinstance(found, Record | BadRecord)


@given(
    st.binary(max_size=40),
    st.sampled_from(["Status", "Date", "Target", "Type", "Encoding", "Transfer", "Content-Type"]),
)
@settings(max_examples=300, deadline=None)
def test_no_header_value_raises(value, where):
    value = value.replace(b"\n", b"").replace(b"\r", b"")
    inner = {"Encoding": b"Content-Encoding: ", "Transfer": b"Transfer-Encoding: ", "Content-Type": b"Content-Type: "}
    outer = {"Date": b"WARC-Date: ", "Target": b"WARC-Target-URI: ", "Type": b"WARC-Type: "}
    fields = inner[where] + value + b"\r\n" if where in inner else b""
    body = (b"HTTP/1.1 " + value if where == "Status" else b"HTTP/1.1 200 OK") + b"\r\n" + fields + b"\r\nbody"
    more = outer[where] + value + b"\r\n" if where in outer else b""
    for found in read(record(body, fields=more)):
        assert found.url.encode() is not None
        assert isinstance(found, BadRecord) or found.content_type.encode() is not None
        assert isinstance(found, BadRecord) or found.fetched is None or found.fetched.tzinfo is UTC


# --- splits ----------------------------------------------------------------------------------------------------------

DAMAGED = [
    member(good(0, 5_000), 0),
    member(good(1)),
    member(good(2))[:-9],
    member(good(3, 60_000)),
    b"garbage" * 40,
    member(good(4)),
    member(good(5)),
    flip(member(good(6)), -2),
    member(MANY),
    member(good(10, 9_000), 0),
    member(good(11)),
    member(good(12))[:-3],
]


def marks(found):
    """Tell what was found where; how long a stretch of garbage is depends on where a split ends."""
    return [(one.offset, getattr(one, "reason", ""), one.url) for one in found]


def read_in_splits(data, points):
    bounds = [0, *sorted({point % len(data) for point in points} - {0}), len(data)]
    return [one for start, end in pairwise(bounds) for one in read(data, start, end)]


@given(st.lists(st.integers(0, 10**6), max_size=12))
@settings(max_examples=150, deadline=None)
def test_splits_anywhere_give_each_record_once(points):
    for parts in (DAMAGED, [member(good(number)) for number in range(9)], GOOD, [good(0), b"garbage", good(1)]):
        data = b"".join(parts)
        assert marks(read_in_splits(data, points)) == marks(read(data))


def test_every_single_split_point_gives_each_record_once():
    data = b"".join(member(one) for one in GOOD)
    for point in range(1, len(data)):
        assert urls(read_in_splits(data, [point])) == ["http://a/0", "http://a/1", "http://a/2"], point


@pytest.mark.parametrize("beyond", [-1, 0, 1, 5])
@pytest.mark.parametrize("pack", [bytes, member])
def test_a_record_at_the_edge_of_a_scan_is_found(pack, beyond):
    """The search for the next record reads a stretch at a time; none may fall between two."""
    first = pack(GOOD[0])
    garbage = b"\n" * (warc.SCAN_BYTES + beyond)
    data = first + b"x" + garbage + pack(GOOD[1])
    assert urls(read(data, len(first) + 1)) == ["http://a/1"]
    assert urls(read(data, 1)) == ["http://a/1"]
    assert urls(read(data)) == ["http://a/0", "http://a/1"]


def test_a_split_looks_no_further_than_its_end():
    """Else the splits inside one huge record would each read the file to its end."""
    calls = []

    class Watched(io.BytesIO):
        """Notes down how far it is read."""

        def read(self, size=-1, /):
            data = super().read(size)
            calls.append(self.tell())
            return data

    body = bytes(range(256)) * (64 << 10)
    data = member(record(body, kind="resource"), 0) + member(GOOD[0])
    found = list(frames(Watched(data), 1 << 20, 2 << 20, LIMIT))
    assert found == []
    assert max(calls) <= (3 << 20) + warc.OVERLAP_BYTES


NESTED = [member(good(number)) for number in (20, 21)]


def test_an_archive_inside_a_record_is_not_read_as_records():
    """A member that stores its bytes uncompressed shows the members inside them."""
    outer = member(record(http(b"".join(NESTED), "application/warc"), url="http://a/outer"), 0)
    data = member(GOOD[0]) + outer + member(GOOD[2])
    assert NESTED[0] in data
    found = read(data)
    assert urls(found) == ["http://a/0", "http://a/outer", "http://a/2"]
    assert found[1].payload == b"".join(NESTED)
    assert bad(found) == []


def test_a_split_that_begins_inside_a_nested_archive_reads_it():
    """A known limit: such a split cannot tell. What is inside is read too; no record outside is lost or doubled."""
    outer = member(record(http(b"".join(NESTED), "application/warc"), url="http://a/outer"), 0)
    data = member(GOOD[0]) + outer + member(GOOD[2])
    inside = data.index(NESTED[0])
    found = read_in_splits(data, [inside - 1])
    assert urls(found) == ["http://a/0", "http://a/outer", "http://a/20", "http://a/21", "http://a/2"]
    assert bad(found) == [(CORRUPT, "")]


# --- HTTP ------------------------------------------------------------------------------------------------------------

BODY = page("t", "hello " * 50)
BARE = zlib.compress(BODY)[2:-4]


@pytest.mark.parametrize(
    ("fields", "sent", "expected"),
    [
        ("", BODY, BODY),
        ("", b"", b""),
        ("Transfer-Encoding: chunked", chunked(BODY), BODY),
        ("Transfer-Encoding: Chunked", chunked(BODY), BODY),
        ("Transfer-Encoding: chunked", BODY, BODY),
        ("Content-Encoding: gzip", member(BODY), BODY),
        ("Content-Encoding: GZIP", member(BODY), BODY),
        ("Content-Encoding: x-gzip", member(BODY), BODY),
        ("Content-Encoding: gzip", member(BODY) + b"junk", BODY),
        ("Content-Encoding: gzip", BODY, BODY),
        ("Content-Encoding: deflate", zlib.compress(BODY), BODY),
        ("Content-Encoding: deflate", BARE, BODY),
        ("Content-Encoding: deflate", BODY, BODY),
        ("Content-Encoding: br", brotli.compress(BODY), BODY),
        ("Content-Encoding: br", BODY, BODY),
        ("Content-Encoding: gzip, br", brotli.compress(member(BODY)), BODY),
        ("Content-Encoding: zstd", BODY, BODY),
        ("Content-Encoding: nonsense", BODY, BODY),
        ("Content-Encoding: identity", BODY, BODY),
        ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", chunked(member(BODY)), BODY),
        ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", chunked(BODY), BODY),
        ("Content-Encoding: x-gzip\r\nTransfer-Encoding: chunked", chunked(member(BODY)), BODY),
        ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", member(BODY), BODY),
        ("Content-Length: 3", BODY, BODY),
        ("Content-Length: 99999", BODY, BODY),
    ],
)
def test_bodies_come_free_of_encodings(fields, sent, expected):
    lines = fields.encode() + b"\r\n" if fields else b""
    assert only(record(http(sent, fields=lines))).payload == expected
    assert only(member(record(http(sent, fields=lines)))).payload == expected


def test_a_cut_gzip_body_is_kept_as_far_as_it_goes():
    text = bytes(range(256)) * 40
    found = only(record(http(member(text)[:-9], fields=b"Content-Encoding: gzip\r\n"))).payload
    assert text.startswith(found)
    assert len(found) > 5_000


def test_a_page_that_shrinks_well_is_decoded_whole():
    text = b"<p>hello</p>" * 80_000
    found = only(record(http(member(text), fields=b"Content-Encoding: gzip\r\n")))
    assert found.payload == text


@pytest.mark.parametrize(
    "block", [b"", BODY, b"\0\xff\r\n\r\nx", b"HTTP/1.1 abc\r\n\r\nx", b"HTTP/1.1 99999999999 OK\r\n\r\nx"]
)
def test_a_response_without_http_is_named(block):
    assert only(record(block)) == BadRecord(NOT_HTTP, "no HTTP status line", 0, len(record(block)), "http://a/")


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_http_lines_may_end_with_a_bare_newline(ends):
    header = b"HTTP/1.1 404 Gone\nContent-Type: text/html; charset=latin-1" + ends.join([b"", b"", b""])
    found = only(record(header + BODY))
    assert (found.status, found.content_type, found.payload) == (404, "text/html", BODY)
    assert found.charset == "latin-1"
    assert (found.offset, found.length) == (0, len(record(header + BODY)))


def test_resources_have_no_http():
    found = only(record(b"\xff\xd8", kind="resource", content_type="Image/JPEG; x=y"))
    assert (found.status, found.content_type, found.payload) == (200, "image/jpeg", b"\xff\xd8")


@pytest.mark.parametrize(
    ("url", "expected"),
    [("<http://a/b>", "http://a/b"), (" http://a/ ", "http://a/"), ("", ""), ("http://a/ü", "http://a/ü")],
)
def test_urls_lose_their_brackets(url, expected):
    assert only(record(http(b"x"), url=url)).url == expected
    assert bad(read(member(record(http(b"x"), url=url, length=1)))) == [(BAD_LENGTH, expected)]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (DATE, WHEN),
        ("2026-01-01T05:00:00+05:00", WHEN),
        ("2026-01-01T00:00:00.000001Z", WHEN.replace(microsecond=1)),
        ("yesterday", None),
        ("", None),
        ("2026-13-41T00:00:00Z", None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59-05:00", None),
    ],
)
def test_dates_come_in_utc_or_not_at_all(date, expected):
    assert only(record(http(b"x"), date=date)).fetched == expected


# --- records written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\xff\xd8 picture", b"\r\n\r\nWARC/1.0\r\n", bytes(70_000)])
@pytest.mark.parametrize("url", ["https://example.org/a.jpg", "http://xn--mnchen-3ya.example/%C3%BC?x=1"])
def test_what_is_written_is_read_by_others(payload, url):
    data = format_record(url, "conversion", "image/jpeg", DATE, payload)
    (ours,) = read(data)
    assert ours == Record(url, 200, "image/jpeg", None, WHEN, 0, len(data), payload)
    (theirs,) = [(one, one.reader.read()) for one in FastIterator(io.BytesIO(data)) if one.verify_block_digest()]
    assert (theirs[0].headers["WARC-Target-URI"], theirs[1]) == (url, payload)
    digests = []
    for one in WarcioIterator(io.BytesIO(data), check_digests=True):
        assert one.content_stream().read() == payload
        assert (one.rec_type, one.rec_headers["WARC-Target-URI"]) == ("conversion", url)
        assert one.rec_headers["WARC-Date"] == DATE
        digests += [(one.digest_checker.passed, one.rec_headers["WARC-Block-Digest"])]
    sha1 = b32encode(hashlib.sha1(payload).digest()).decode()
    assert digests == [(True if payload else None, f"sha1:{sha1}")]  # warcio checks nothing in an empty record


def test_written_bytes_depend_on_the_arguments_alone():
    data = format_record("http://a/", "conversion", "image/jpeg", DATE, b"x")
    assert hashlib.sha256(data).hexdigest() == "0133b1b1450a80359c3c854258cca82a3bf1881cfff12a80c4473234e12f78ba"
    assert data != format_record("http://b/", "conversion", "image/jpeg", DATE, b"x")


def test_records_one_after_another_are_found_by_their_places():
    written = [format_record(f"http://a/{n}", "conversion", "image/jpeg", DATE, bytes([n]) * n) for n in range(5)]
    data = b"".join(written)
    assert [one.payload for one in read(data)] == [bytes([n]) * n for n in range(5)]
    at = 0
    for number, one in enumerate(written):
        found = read_record_at(io.BytesIO(data), at, len(one), LIMIT)
        assert (found.url, found.payload) == (f"http://a/{number}", bytes([number]) * number)
        at += len(one)
    assert isinstance(read_record_at(io.BytesIO(data), 3, 50, LIMIT), BadRecord)
    assert all(isinstance(one, Frame) for one in frames(io.BytesIO(data), 0, len(data), LIMIT))
