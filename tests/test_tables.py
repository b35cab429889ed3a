"""Tables: sorted parts on disk, from which any range of keys comes back whole and in order."""

import hashlib
import io
from itertools import pairwise
from types import SimpleNamespace
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import tables
from pipeline.folder import Folder
from pipeline.tables import (
    CAPTURES,
    DOCUMENTS,
    MEDIA,
    PAIRS,
    PLACEMENTS,
    REFERENCES,
    REJECTED,
    SAMPLES,
    VIDEOS,
    WANTED,
    KeyRange,
    PartWriter,
    Table,
    iter_rows,
    key_ranges,
    parts_of,
    range_of,
    read_range,
    split_part,
)
from schemas.page import key_of

NUMBERS = Table("work/numbers", pa.schema([("key", pa.string()), ("number", pa.int64())]))
KEYS = st.one_of(st.integers(0, 40).map(lambda number: key_of(str(number))), st.sampled_from(["0" * 24, "f" * 24]))
PARTS = st.lists(st.lists(KEYS, max_size=30), max_size=4)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def fresh(tmp_path):
    """Give folders nobody has used, on disk: Hypothesis runs a test many times with one `tmp_path`."""
    return lambda: Folder(str(tmp_path / uuid4().hex))


def write_parts(folder, parts):
    """Write a part for each list of keys; the numbers count all rows. Returns the rows in the order of the parts."""
    rows, number = [], 0
    for index, keys in enumerate(parts):
        writer = PartWriter(folder, NUMBERS, f"unit-{index}")
        mine = [{"key": key, "number": number + place} for place, key in enumerate(keys)]
        for row in mine:
            writer.add(row, 64)
        writer.flush()
        number += len(mine)
        rows += sorted(mine, key=lambda row: row["key"])
    return rows


def in_order(rows, keys):
    found = [row for row in rows if row["key"] >= keys.lo and (not keys.hi or row["key"] < keys.hi)]
    return sorted(found, key=lambda row: row["key"])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 1000])
def test_ranges_cover_every_key_once(count):
    ranges = key_ranges(count)
    assert [one.index for one in ranges] == list(range(count))
    assert ranges[0].lo == "0" * 24
    assert ranges[-1].hi == ""
    assert all(one.hi == other.lo and one.lo < one.hi for one, other in pairwise(ranges))
    for key in ("0" * 24, "f" * 24, *(one.lo for one in ranges), *map(key_of, "abcdefgh")):
        holding = [one for one in ranges if one.lo <= key and (not one.hi or key < one.hi)]
        assert [one.index for one in holding] == [range_of(key, ranges)]
    assert ranges[0].keys is ranges[0]


def test_ranges_are_equal():
    edges = [int(one.lo, 16) for one in key_ranges(7)] + [16**24]
    widths = [end - start for start, end in pairwise(edges)]
    assert max(widths) - min(widths) <= 1
    counts = [0] * 8
    for number in range(8000):
        counts[range_of(key_of(f"http://example.org/{number}"), key_ranges(8))] += 1
    assert 850 < min(counts) < max(counts) < 1150


@quick
@given(PARTS, st.integers(1, 9), st.integers(1, 4096))
def test_a_range_is_what_filtering_gives(fresh, parts, count, group_bytes):
    folder = fresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROW_GROUP_BYTES", group_bytes)
        rows = write_parts(folder, parts)
    for keys in [*key_ranges(count), KeyRange("", ""), KeyRange("8", "8"), KeyRange("~", "")]:
        found = read_range(folder, NUMBERS, keys)
        assert found.schema.equals(NUMBERS.schema)
        assert found.to_pylist() == in_order(rows, keys)


@quick
@given(PARTS, st.integers(1, 9))
def test_dealing_a_part_loses_no_row(fresh, parts, count):
    folder = fresh()
    rows = write_parts(folder, parts)
    ranges = key_ranges(count)
    dealt = {index: [] for index in range(count)}
    for part in parts_of(folder, NUMBERS):
        for index, piece in split_part(folder, NUMBERS, part, ranges):
            assert piece.num_rows > 0
            dealt[index] += piece.to_pylist()
    for keys in ranges:
        assert sorted(dealt[keys.index], key=lambda row: row["key"]) == in_order(rows, keys)


def test_dealing_spans_row_groups(fresh, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_BYTES", 1 << 12)
    folder = fresh()
    rows = write_parts(folder, [[key_of(str(number)) for number in range(1_000)]])
    dealt = list(split_part(folder, NUMBERS, "unit-0-000.parquet", key_ranges(3)))
    assert len(dealt) > 5
    assert [row for _, piece in dealt for row in piece.to_pylist()] == rows


def test_rows_of_units_that_are_done_are_not_dealt(fresh):
    folder = fresh()
    rows = write_parts(folder, [[key_of(str(number)) for number in range(100)]])
    _, second, _, fourth = key_ranges(4)
    dealt = list(split_part(folder, NUMBERS, "unit-0-000.parquet", [second, fourth]))
    assert [index for index, _ in dealt] == [0, 1]
    for keys, (_, piece) in zip((second, fourth), dealt, strict=True):
        assert piece.to_pylist() == in_order(rows, keys)
    assert list(split_part(folder, NUMBERS, "unit-0-000.parquet", [KeyRange("zz", "")])) == []


def test_parts_are_sorted_and_rows_of_one_key_keep_their_order(fresh):
    folder = fresh()
    writer = PartWriter(folder, NUMBERS, "unit")
    for number, key in enumerate("cabacb"):
        writer.add({"key": key, "number": number}, 8)
    writer.flush()
    assert writer.parts == ["unit-000.parquet"]
    rows = read_range(folder, NUMBERS, KeyRange("", "")).to_pylist()
    assert [(row["key"], row["number"]) for row in rows] == [("a", 1), ("a", 3), ("b", 2), ("b", 5), ("c", 0), ("c", 4)]


def test_parts_are_bounded_and_counted(fresh, monkeypatch):
    monkeypatch.setattr(tables, "FLUSH_BYTES", 100)
    folder = fresh()
    writer = PartWriter(folder, NUMBERS, "unit")
    for number in range(7):
        writer.add({"key": key_of(str(number)), "number": number}, 40)
    assert writer.parts == ["unit-000.parquet", "unit-001.parquet"]
    writer.flush()
    writer.flush()
    assert writer.parts == parts_of(folder, NUMBERS) == [f"unit-00{index}.parquet" for index in range(3)]
    assert (writer.total_rows, writer.rows) == (7, [])
    assert writer.total_bytes > 7 * 32
    found = [pq.read_table(folder.path(NUMBERS.directory, part)).num_rows for part in writer.parts]
    assert found == [3, 3, 1]


def test_no_row_no_part(fresh):
    folder = fresh()
    PartWriter(folder, NUMBERS, "unit").flush()
    assert parts_of(folder, NUMBERS) == []
    assert read_range(folder, NUMBERS, KeyRange("", "")).num_rows == 0


def test_only_the_row_groups_of_a_range_are_read(fresh, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_BYTES", 400)
    folder = fresh()
    write_parts(folder, [[key_of(str(number)) for number in range(1000)]])
    opened = pq.ParquetFile(folder.path(NUMBERS.directory, "unit-0-000.parquet"))
    assert opened.num_row_groups > 50
    opened.close()
    groups = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda *given, **named: groups.append(1) or read(*given, **named)
    )
    read_range(folder, NUMBERS, key_ranges(50)[7])
    assert 1 <= len(groups) <= 4


@pytest.mark.parametrize(
    ("low", "high", "lo", "hi", "share"),
    [
        ("0" * 24, "8" + "0" * 23, "0" * 24, "4" + "0" * 23, 0.5),
        ("0" * 24, "8" + "0" * 23, "6" + "0" * 23, "", 0.25),
        ("4" + "0" * 23, "6" + "0" * 23, "", "", 1.0),
        ("4" + "0" * 23, "6" + "0" * 23, "0", "f", 1.0),
        ("4" + "0" * 23, "4" + "0" * 23, "4", "5", 1.0),  # all rows have one key
        ("http://a", "http://b", "0", "8", 1.0),
    ],
)
def test_a_group_counts_by_its_share_of_a_range(low, high, lo, hi, share):
    assert tables.share_in(SimpleNamespace(min=low, max=high), KeyRange(lo, hi)) == pytest.approx(share)


def test_many_parts_do_not_make_a_range_larger(fresh):
    """A range that is thought larger is read in more pieces, each of which looks into every part."""
    folder = fresh()
    write_parts(folder, [[key_of(f"{part} {number}") for number in range(300)] for part in range(20)])
    held = [
        sum(tables.held_bytes(folder, NUMBERS, part, keys) for part in parts_of(folder, NUMBERS))
        for keys in (KeyRange("", ""), *key_ranges(10))
    ]
    assert sum(held[1:]) == pytest.approx(held[0], rel=0.1)


def test_a_table_of_some_columns_decodes_no_others(fresh):
    folder = fresh()
    rows = write_parts(folder, [["b", "a"], ["c"]])
    keys = Table(NUMBERS.directory, pa.schema([("key", pa.string())]))
    assert read_range(folder, keys, KeyRange("", "")).to_pylist() == [{"key": row["key"]} for row in rows]
    dealt = [piece for part in parts_of(folder, keys) for _, piece in split_part(folder, keys, part, key_ranges(1))]
    assert {name for piece in dealt for name in piece.schema.names} == {"key"}


def test_the_same_rows_make_the_same_bytes(fresh):
    digests = set()
    for _ in range(2):
        folder = fresh()
        write_parts(folder, [[key_of(str(number)) for number in range(500)]])
        with folder.open(f"{NUMBERS.directory}/unit-0-000.parquet") as stream:
            digests.add(hashlib.sha256(stream.read()).hexdigest())
    assert len(digests) == 1


def test_tables_lie_in_memory_as_well():
    folder = Folder(f"memory://{uuid4().hex}/data")
    rows = write_parts(folder, [["b", "a"], ["c", "a"]])
    assert parts_of(folder, NUMBERS) == ["unit-0-000.parquet", "unit-1-000.parquet"]
    assert read_range(folder, NUMBERS, KeyRange("", "")).to_pylist() == in_order(rows, KeyRange("", ""))
    dealt = [piece.to_pylist() for _, piece in split_part(folder, NUMBERS, "unit-0-000.parquet", [KeyRange("", "")])]
    assert dealt == [rows[:2]]


def test_files_that_are_no_parts_are_passed_over(fresh):
    folder = fresh()
    rows = write_parts(folder, [["a"]])
    folder.write_text(f"{NUMBERS.directory}/notes.txt", "x")
    folder.write_text(f"{NUMBERS.directory}/.unit-9.parquet.0123.tmp", "x")
    assert read_range(folder, NUMBERS, KeyRange("", "")).to_pylist() == rows


@pytest.mark.parametrize("count", [0, 1, 1024, 2500])
def test_rows_come_as_dictionaries(count):
    rows = [{"key": str(number), "number": number} for number in range(count)]
    assert list(iter_rows(pa.Table.from_pylist(rows, schema=NUMBERS.schema))) == rows


TABLES = (CAPTURES, DOCUMENTS, MEDIA, PAIRS, PLACEMENTS, REFERENCES, REJECTED, SAMPLES, VIDEOS, WANTED)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_begins_with_its_key(table):
    assert table.schema.names[0] == "key"
    assert table.schema.field("key").type == pa.string()
    sink = io.BytesIO()
    pq.write_table(table.schema.empty_table(), sink)
    assert pq.read_table(sink).schema.equals(table.schema)


def test_tables_have_directories_of_their_own():
    found = [table.directory for table in TABLES]
    assert len(set(found)) == len(found)
