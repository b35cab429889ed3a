"""Tables: rows that pass from stage to stage as Parquet parts sorted by `key`, so that any range of keys can be read.

A unit of work writes its rows as parts named after itself; a later stage gathers the rows of a key range from all
parts. That is a shuffle through files: it needs memory for one range, whatever the size of the corpus.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.folder import Folder, open_input
from schemas.asked import ASKED_SCHEMA
from schemas.document import DOCUMENT_SCHEMA, SAID_TYPE
from schemas.media import MEDIA_SCHEMA, SCORES_TYPE
from schemas.page import KEY_CHARS, ORIGIN_TYPE, REJECTED_SCHEMA, TIME_TYPE

ROW_GROUP_BYTES = 1 << 18
FLUSH_BYTES = 16 << 20
CHUNK_BYTES = 8 << 20
PLACE_CHARS = 15
"""Digits of a key that tell where it lies among others."""
COMPRESSION = "zstd"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the dataset: the directory of its parts, and its columns, of which `key` is the first.

    A table that is read may name some of the columns only: the others are not decoded.
    """

    directory: str
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys `lo <= key < hi`; an empty `hi` has no end. `index` is its place in the plan."""

    lo: str
    hi: str
    index: int = 0

    @property
    def keys(self) -> KeyRange:
        """A unit's work says which keys it covers; a range covers itself."""
        return self


DOCUMENTS = Table("documents", DOCUMENT_SCHEMA)
HEADS = Table(
    DOCUMENTS.directory,
    pa.schema([DOCUMENT_SCHEMA.field(name) for name in ("key", "url", "canonical", "fetched", "origin")]),
)
"""Documents without what they say, for stages that only look at addresses and times."""
MEDIA = Table("media", MEDIA_SCHEMA)
REJECTED = Table("rejected", REJECTED_SCHEMA)

REFERENCES = Table(
    "work/references",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("document", pa.string()),
            ("position", pa.int32()),
        ]
    ),
)
"""An image that a document refers to that stays: `key` of the image's URL, the document's key, the item."""

VIDEO_REFERENCES = Table(
    "work/video_references",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("video", pa.string()),
            ("kind", pa.string()),
            ("rank", pa.int32()),
            ("page_url", pa.string()),
            ("texts", pa.list_(SAID_TYPE)),
            ("language", pa.string()),
            ("licence", pa.string()),
            ("origin", ORIGIN_TYPE),
            ("fetched", TIME_TYPE),
        ]
    ),
)
"""A video that a document refers to that stays, or a track of the video at `video`; `key` is of its own `url`. The
`rank` of a track is 0 for the one that is read best with its page."""
CAPTURES = Table(
    "work/captures",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("status", pa.int32()),
            ("content_type", pa.string()),
            ("place", pa.string()),
            ("source", ORIGIN_TYPE),
            ("fetched", TIME_TYPE),
            ("refused", pa.string()),
            ("refusal", pa.string()),
        ]
    ),
)
"""What the sources hold beside pages: `key` of its URL, HTTP status, and where it lies (`place` sorts as it lies);
`refused` is the reason why it must not be used as an image, and `refusal` what says so."""

WANTED = Table(
    "work/wanted",
    pa.schema([("key", pa.string()), ("url", pa.string()), ("source", ORIGIN_TYPE), ("fetched", TIME_TYPE)]),
)
"""A capture that some document refers to; `key` is its place."""

ASKED = Table("web", ASKED_SCHEMA)
"""The ledger of the web: what became of every URL that was asked for. Rows are added, never taken away."""

PLACEMENTS = Table(
    "work/placements",
    pa.schema(
        [
            ("key", pa.string()),
            ("position", pa.int32()),
            ("url", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("sha256", pa.string()),
            ("phash", pa.string()),
            ("format", pa.string()),
            ("width_px", pa.int32()),
            ("height_px", pa.int32()),
            ("bytes", pa.int64()),
            ("location", ORIGIN_TYPE),
            ("scores", SCORES_TYPE),
        ]
    ),
)
"""What stands at a position of a document (`key`): the stored image, or the reason why there is none. `bytes` are
those of the store, 0 where it has none."""

NEAR_MISSES = Table("work/near_misses", REJECTED_SCHEMA)
"""Images that are kept and look a little like one of an evaluation set, in the form of what is rejected."""

IMAGE_TYPE = pa.struct(
    [
        ("url", pa.string()),
        ("alt", pa.string()),
        ("caption", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("format", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("location", ORIGIN_TYPE),
        ("scores", SCORES_TYPE),
    ]
)
SAMPLES = Table(
    "work/samples",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("canonical", pa.string()),
            ("title", pa.string()),
            ("language", pa.string()),
            ("published", TIME_TYPE),
            ("author", pa.string()),
            ("licence", pa.string()),
            ("items", pa.list_(pa.struct([("text", pa.string()), ("image", pa.int32())]))),
            ("images", pa.list_(IMAGE_TYPE)),
            ("origin", ORIGIN_TYPE),
            ("fetched", TIME_TYPE),
        ]
    ),
)
"""A document that is kept, with its pictures by location: a sample without its bytes."""

STORED_FIELDS = [
    ("sha256", pa.string()),
    ("phash", pa.string()),
    ("format", pa.string()),
    ("width_px", pa.int32()),
    ("height_px", pa.int32()),
    ("location", ORIGIN_TYPE),
]
CAPTIONED_FIELDS = [
    ("key", pa.string()),
    ("url", pa.string()),
    ("page_url", pa.string()),
    ("text", pa.string()),
    ("kind", pa.string()),
    ("texts", pa.list_(SAID_TYPE)),
    ("language", pa.string()),
    ("licence", pa.string()),
    ("origin", ORIGIN_TYPE),
    ("fetched", TIME_TYPE),
]
PAIRS = Table("work/pairs", pa.schema([*CAPTIONED_FIELDS, *STORED_FIELDS, ("scores", SCORES_TYPE)]))
"""A picture (`url`, `key` of it) with the text that was chosen of `texts`, the kind of that text, and the page that
says it: a pair without its bytes."""

VIDEOS = Table(
    "work/videos",
    pa.schema(
        [
            *CAPTIONED_FIELDS,
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("fps", pa.float64()),
            ("parts", pa.list_(pa.struct(STORED_FIELDS))),
        ]
    ),
)
"""A clip of the video at `url` with its text, as in `PAIRS`: `key` is of the clip (`schemas.video.clip_key`), `parts`
are its JPEG frames in order or one MP4, and `fps` is how many frames there are to a second of it."""


def key_ranges(count: int) -> list[KeyRange]:
    """Cut the space of hashed keys into `count` equal ranges."""
    space = 16**KEY_CHARS
    bounds = [f"{index * space // count:0{KEY_CHARS}x}" for index in range(count)]
    return [KeyRange(lo, hi, index) for index, (lo, hi) in enumerate(zip(bounds, [*bounds[1:], ""], strict=True))]


def range_of(key: str, ranges: Sequence[KeyRange]) -> int:
    """Find which of the sorted, adjoining ranges holds a key."""
    return bisect.bisect_right(ranges, key, key=lambda candidate: candidate.lo) - 1


@dataclass(slots=True)
class PartWriter:
    """Collects rows of one table and writes them as sorted parts of bounded size.

    The names and bytes of the parts depend only on the rows and their order.
    """

    folder: Folder
    table: Table
    prefix: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    waiting_bytes: int = 0
    parts: list[str] = field(default_factory=list)
    total_rows: int = 0
    total_bytes: int = 0

    def add(self, row: Mapping[str, Any], size: int) -> None:
        """Take a row of about `size` bytes."""
        self.rows.append(row)
        self.waiting_bytes += size
        if self.waiting_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows as a part; the sort keeps the order of rows with the same key."""
        if not self.rows:
            return
        self.rows.sort(key=lambda row: row["key"])
        table = pa.Table.from_pylist(self.rows, schema=self.table.schema)
        name = f"{self.prefix}-{len(self.parts):03d}.parquet"
        with self.folder.create(f"{self.table.directory}/{name}") as stream:
            rows_per_group = max(1, len(self.rows) * ROW_GROUP_BYTES // max(1, table.nbytes))
            pq.write_table(table, stream, row_group_size=rows_per_group, compression=COMPRESSION)
        self.parts.append(name)
        self.total_rows += len(self.rows)
        self.total_bytes += table.nbytes
        self.rows, self.waiting_bytes = [], 0


def parts_of(folder: Folder, table: Table) -> list[str]:
    """List the parts of a table."""
    return [name for name in folder.names(table.directory) if name.endswith(".parquet")]


def read_range(folder: Folder, table: Table, keys: KeyRange) -> pa.Table:
    """Gather the rows whose key lies in a range from all parts, sorted by key, ties in order of the parts."""
    pieces = [piece for part in parts_of(folder, table) for piece in read_part(folder, table, part, keys)]
    return sort_rows(pa.concat_tables(pieces) if pieces else table.schema.empty_table())


def stream_range(folder: Folder, table: Table, keys: KeyRange) -> Iterator[dict[str, Any]]:
    """Yield the rows of a key range in order, reading a few MiB of them at a time."""
    parts = parts_of(folder, table)
    size = sum(held_bytes(folder, table, part, keys) for part in parts)
    for piece in cut_range(keys, max(1, -(-size // CHUNK_BYTES))):
        yield from iter_rows(read_range(folder, table, piece))


def held_bytes(folder: Folder, table: Table, part: str, keys: KeyRange) -> int:
    """Estimate the uncompressed bytes that a part holds of a key range, by its row groups.

    A group counts by its share of rows: many parts hold little each of a range, and whole groups of them would make
    the range seem larger the more parts there are.
    """
    with open_input(folder.path(table.directory, part)) as stream:
        parquet = pq.ParquetFile(stream)
        column = parquet.schema_arrow.get_field_index("key")
        groups = (parquet.metadata.row_group(group) for group in groups_in(parquet, keys))
        sizes = (one.total_byte_size * share_in(one.column(column).statistics, keys) for one in groups)
        size: float = sum(sizes)
        return math.ceil(size)


def share_in(statistics: Any, keys: KeyRange) -> float:
    """Estimate the share of rows with keys of a range, by the smallest and the largest: hashes are evenly spread."""
    try:
        first, last, lo = map(place_of_key, (statistics.min, statistics.max, keys.lo))
        hi = place_of_key(keys.hi) if keys.hi else last
    except ValueError:  # keys that are no hashes
        return 1.0
    return max(0, min(last, hi) - max(first, lo)) / (last - first) if first < last else 1.0


def place_of_key(key: str) -> int:
    """Read the first digits of a hexadecimal key as a number."""
    return int(key[:PLACE_CHARS].ljust(PLACE_CHARS, "0"), 16)


def groups_in(parquet: pq.ParquetFile, keys: KeyRange) -> Iterator[int]:
    """Yield the row groups of a part that can hold keys of a range."""
    column = parquet.schema_arrow.get_field_index("key")
    for group in range(parquet.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(column).statistics
        if statistics.max >= keys.lo and (not keys.hi or statistics.min < keys.hi):
            yield group


def cut_range(keys: KeyRange, count: int) -> list[KeyRange]:
    """Cut a range of keys, read as hexadecimal numbers, into `count` equal ranges."""
    if count == 1:
        return [keys]
    width = max(len(keys.lo), len(keys.hi), KEY_CHARS)
    first = int(keys.lo.ljust(width, "0"), 16)
    last = int(keys.hi.ljust(width, "0"), 16) if keys.hi else 16**width
    inner = [f"{first + (last - first) * index // count:0{width}x}" for index in range(1, count)]
    return [KeyRange(lo, hi) for lo, hi in zip([keys.lo, *inner], [*inner, keys.hi], strict=True)]


def sort_rows(rows: pa.Table) -> pa.Table:
    """Sort by key; rows with the same key keep their order."""
    numbered = rows.append_column("order", pa.array(range(rows.num_rows), pa.int64()))
    return numbered.sort_by([("key", "ascending"), ("order", "ascending")]).drop_columns(["order"])


def read_part(folder: Folder, table: Table, part: str, keys: KeyRange) -> Iterator[pa.Table]:
    """Read the rows of a range from one part, touching only the row groups that can hold them."""
    with open_input(folder.path(table.directory, part)) as stream:
        parquet = pq.ParquetFile(stream)
        for group in groups_in(parquet, keys):
            rows = parquet.read_row_group(group, columns=table.schema.names, use_threads=False)
            found = rows["key"].to_pylist()
            first = bisect.bisect_left(found, keys.lo)
            last = bisect.bisect_left(found, keys.hi) if keys.hi else len(found)
            # A slice would keep its whole row group in memory; with many parts that adds up.
            yield rows.take(pa.array(range(first, last), pa.int64()))


def split_part(folder: Folder, table: Table, part: str, ranges: Sequence[KeyRange]) -> Iterator[tuple[int, pa.Table]]:
    """Deal the rows of a part to the sorted ranges that hold them: what a cluster's shuffle is fed with.

    Rows that no range holds belong to units that an earlier run has done.
    """
    with open_input(folder.path(table.directory, part)) as stream:
        parquet = pq.ParquetFile(stream)
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=table.schema.names, use_threads=False)
            found = rows["key"].to_pylist()
            for index in range(max(0, range_of(found[0], ranges)), range_of(found[-1], ranges) + 1):
                lo, hi = ranges[index].lo, ranges[index].hi
                first = bisect.bisect_left(found, lo)
                last = bisect.bisect_left(found, hi) if hi else len(found)
                if first < last:
                    yield index, rows.slice(first, last - first)


def iter_rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield rows as dictionaries, which are many times as large as their columns, about a MiB of columns at a time."""
    at_once = max(1, rows.num_rows * (1 << 20) // max(1, rows.nbytes))
    for batch in rows.to_batches(max_chunksize=at_once):
        yield from batch.to_pylist()
