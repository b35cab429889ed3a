"""Rows of a table by key: parts → the row groups that can hold the keys → rows."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.folder import Folder
from pipeline.report import reading
from pipeline.tables import Table, iter_rows, parts_of


def rows_of(
    folder: Folder, table: Table, keys: Collection[str], columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows with these keys, part by part, from the row groups that can hold them."""
    wanted = sorted(set(keys))
    for part in parts_of(folder, table) if wanted else []:
        path = f"{table.directory}/{part}"
        with reading(folder, path), folder.open(path) as stream:
            parquet = pq.ParquetFile(stream)
            for group in groups_with(parquet.metadata, parquet.schema_arrow.get_field_index("key"), wanted):
                rows = parquet.read_row_group(group, columns=columns, use_threads=False)
                yield from iter_rows(rows.filter(pc.is_in(rows["key"], pa.array(wanted))))


def groups_with(metadata: Any, column: int, wanted: Sequence[str]) -> Iterator[int]:
    """Yield the row groups whose smallest and largest key have one of the sorted keys between them."""
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            yield group
            continue
        first = bisect.bisect_left(wanted, statistics.min)
        if first < len(wanted) and wanted[first] <= statistics.max:
            yield group
