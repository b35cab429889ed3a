"""What pages say of themselves: the index of interleaved samples → languages, licences, hosts and dates.

Names are counted in bounded memory, whatever their number: where there are too many to hold, a first pass finds those
that may be among the most frequent (Misra and Gries, 1982) and a second one counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.folder import Folder
from pipeline.report import INDEX_FILE, reading
from pipeline.tables import DOCUMENTS, parts_of
from pipeline.urls import host_of

SHOWN = 10
HELD = 100_000
"""Names that are held at once. A name that stands on more than one of so many pages is counted exactly."""
UNNAMED = "(none)"


@dataclass(frozen=True, slots=True)
class Frequent:
    """The most frequent names with their numbers of pages; `different` is None where there are too many to count."""

    names: tuple[tuple[str, int], ...]
    different: int | None


@dataclass(frozen=True, slots=True)
class Composition:
    """What the pages of a dataset say of themselves. Dates are ISO 8601, empty where no page has one.

    `published` is what the pages say, `captured` when the documents that were read were captured.
    """

    languages: Frequent
    licences: Frequent
    hosts: Frequent
    published: tuple[str, str]
    captured: tuple[str, str]


def describe(folder: Folder) -> Composition:
    """Read what the index of a complete dataset says, a batch of rows at a time."""
    return Composition(
        languages=most_frequent(lambda: column(folder, "language")),
        licences=most_frequent(lambda: column(folder, "licence")),
        hosts=most_frequent(lambda: map(host_of, column(folder, "url"))),
        published=span(dates(folder)),
        captured=captured(folder),
    )


def column(folder: Folder, name: str) -> Iterator[str]:
    """Yield a column of the index."""
    with reading(folder, INDEX_FILE), folder.open(INDEX_FILE) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=[name], use_threads=False):
            yield from (value or "" for value in batch.column(0).to_pylist())


def most_frequent(names: Callable[[], Iterable[str]], shown: int = SHOWN, held: int = HELD) -> Frequent:
    """Count names that can be read twice; ties go by name."""
    counts: Counter[str] = Counter()
    pruned = False
    for name in names():
        counts[name] += 1
        if len(counts) > 2 * held:
            prune(counts, held)
            pruned = True
    if pruned:
        candidates = frozenset(counts)
        counts = Counter(name for name in names() if name in candidates)
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:shown]
    return Frequent(tuple((name or UNNAMED, count) for name, count in first), None if pruned else len(counts))


def prune(counts: Counter[str], held: int) -> None:
    """Take the count of the first name that is too many from all, and drop those that have nothing left."""
    least = nlargest(held + 1, counts.values())[-1]
    for name, count in list(counts.items()):
        if count > least:
            counts[name] = count - least
        else:
            del counts[name]


def dates(folder: Folder) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and last date of publication of each batch of the index that has any."""
    with reading(folder, INDEX_FILE), folder.open(INDEX_FILE) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=["published"], use_threads=False):
            ends = pc.min_max(batch.column(0)).as_py()
            if ends["min"] is not None:
                yield ends["min"], ends["max"]


def captured(folder: Folder) -> tuple[str, str]:
    """Give the first and last time of capture of the documents, by what their files say of themselves."""
    return span(ends for part in parts_of(folder, DOCUMENTS) for ends in captured_in(folder, part))


def captured_in(folder: Folder, part: str) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and last time of capture of each row group of a part."""
    name = f"{DOCUMENTS.directory}/{part}"
    with reading(folder, name), folder.open(name) as stream:
        metadata: Any = pq.ParquetFile(stream).metadata
        # Columns of the file are leaves: a list of structs has one for each of its fields.
        leaf = metadata.schema.names.index("fetched")
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group).column(leaf).statistics
            if found is not None and found.has_min_max:
                yield found.min, found.max


def span(ends: Iterable[tuple[datetime, datetime]]) -> tuple[str, str]:
    """Join spans of time; the days of the first and of the last one."""
    whole: tuple[datetime, datetime] | None = None
    for first, last in ends:
        whole = (first, last) if whole is None else (min(first, whole[0]), max(last, whole[1]))
    return ("", "") if whole is None else (whole[0].date().isoformat(), whole[1].date().isoformat())
