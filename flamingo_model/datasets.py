"""The index of a dataset of ours, which must agree with its manifest and with the shards that are there.

DATASET/KIND/{manifest.json, index.parquet, shard-000000.tar, ...} → `Extents` of one shard after the other
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flamingo_model.places import BadIndex, beneath
from flamingo_model.ranged import CHANGED, CUT, NOT_FOUND
from flamingo_model.storage import Storage, Unreadable, local_path
from schemas.shard import Manifest, Shard, manifest_from_json

MANIFEST, INDEX = "manifest.json", "index.parquet"
COLUMNS = ("shard", "offset", "length")
MAX_MANIFEST_BYTES = 256 << 20
ROWS_AT_ONCE = 1 << 16
BAD_MANIFEST, BAD_INDEX, WRONG_KIND, DISAGREES = "bad_manifest", "bad_index", "wrong_kind", "index_disagrees"
NO_ROWS: NDArray[np.int64] = np.zeros((2, 0), np.int64)


@dataclass(frozen=True, slots=True)
class Extents:
    """A shard and where its samples lie: offsets and lengths in bytes; `size` is -1 where it is not known.

    `damage` is the reason why samples are missing, empty where none are; `told` says it to a person.
    """

    url: str
    size: int
    rows: NDArray[np.int64]  # [2, n]
    damage: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset's folder of shards; `found` are the sizes that local shards have, -1 for those that are not there."""

    folder: str
    shards: tuple[Shard, ...]
    found: tuple[int, ...]
    identity: tuple[Any, ...]
    """All that its rows depend on."""


def open_dataset(place: str, kind: str, **patience: Any) -> Dataset:
    """Find the shards of a kind in a dataset's folder, or in the folder of the shards; raises `BadIndex`."""
    folders = [beneath(place, kind), place]
    for folder in folders:
        files = [beneath(folder, name) for name in (MANIFEST, INDEX)]
        with Storage(files, **patience) as storage:
            try:
                size = storage.stat(0).size
                if size > MAX_MANIFEST_BYTES:
                    raise BadIndex(BAD_MANIFEST, f"{files[0]} has {size} bytes")
                text = storage.read(0, 0, size)
            except Unreadable as error:
                if error.reason == NOT_FOUND:
                    continue
                raise BadIndex(error.reason, str(error)) from None
            manifest = read_manifest(text, files[0], kind)
            try:
                index = storage.stat(1)
            except Unreadable as error:
                raise BadIndex(error.reason, str(error)) from None
        found = sizes_found(folder, manifest.shards)
        identity = (folder, hashlib.sha256(text).hexdigest(), index.size, index.tag, found)
        return Dataset(folder, manifest.shards, found, identity)
    raise BadIndex(
        NOT_FOUND, f"{place} is no shard (.tar), and there is no {MANIFEST} of shards in {' or in '.join(folders)}"
    )


def read_manifest(text: bytes, url: str, kind: str) -> Manifest:
    """Read a manifest that anyone may have written."""
    try:
        manifest = manifest_from_json(text.decode())
        sound = all(
            type(shard.name) is str and type(shard.samples) is int and type(shard.bytes) is int
            for shard in manifest.shards
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadIndex(BAD_MANIFEST, f"{url}: {error or type(error).__name__}") from None
    if not sound or any(shard.samples < 0 or shard.bytes < 0 or not is_plain(shard.name) for shard in manifest.shards):
        raise BadIndex(BAD_MANIFEST, f"{url} does not name its shards with their samples and bytes")
    if len({shard.name for shard in manifest.shards}) < len(manifest.shards):
        raise BadIndex(BAD_MANIFEST, f"{url} names a shard twice")
    if manifest.kind != kind:
        raise BadIndex(WRONG_KIND, f"{url}: its shards are {manifest.kind!r}, {kind!r} were asked for")
    return manifest


def is_plain(name: str) -> bool:
    """Tell whether a name stays in its folder."""
    return name.endswith(".tar") and not any(sign in name for sign in "/\\:?#\0")


def sizes_found(folder: str, shards: tuple[Shard, ...]) -> tuple[int, ...]:
    """Give the sizes of local shards; remote ones are measured when they are read."""
    if local_path(folder) is None:
        return tuple(shard.bytes for shard in shards)
    found = []
    with Storage([beneath(folder, shard.name) for shard in shards], retries=0) as storage:
        for number in range(len(shards)):
            try:
                found.append(storage.stat(number).size)
            except Unreadable as error:
                if error.reason != NOT_FOUND:
                    raise BadIndex(error.reason, str(error)) from None
                found.append(-1)
    return tuple(found)


def dataset_extents(dataset: Dataset, **patience: Any) -> Iterator[Extents]:
    """Read the rows of a dataset's index, a shard at a time; raises `BadIndex`."""
    url = beneath(dataset.folder, INDEX)
    parts = runs(url, **patience)
    name, part = next(parts, ("", NO_ROWS))
    for shard, found in zip(dataset.shards, dataset.found, strict=True):
        rows, count = [NO_ROWS], 0
        while name == shard.name and count <= shard.samples:
            rows.append(part)
            count += part.shape[1]
            name, part = next(parts, ("", NO_ROWS))
        if count != shard.samples:
            more = "more than " if count > shard.samples else ""
            raise BadIndex(
                DISAGREES,
                f"{url} has {more}{min(count, shard.samples)} rows of {shard.name} where they should stand, "
                f"{MANIFEST} says {shard.samples} samples: one of them is of another run",
            )
        yield usable(beneath(dataset.folder, shard.name), shard, found, np.concatenate(rows, axis=1))
    if name:
        raise BadIndex(DISAGREES, f"{url} has rows of {name!r}, which {MANIFEST} does not name there")


def runs(url: str, **patience: Any) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Give a shard's name and offsets and lengths, int64 [2, n], for rows that stand together in an index."""
    with Storage([url], **patience) as storage:
        try:
            with storage.file(0) as stream, pq.ParquetFile(stream, read_dictionary=["shard"]) as table:
                for batch in table.iter_batches(ROWS_AT_ONCE, columns=list(COLUMNS), use_threads=False):
                    yield from runs_of(batch, url)
        except Unreadable as error:
            raise BadIndex(error.reason, str(error)) from None
        except (pa.ArrowException, OSError, KeyError) as error:
            raise BadIndex(BAD_INDEX, f"{url} is no index of shards: {str(error).partition(chr(10))[0]}") from None


def runs_of(batch: pa.RecordBatch, url: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Split rows where the shard changes."""
    if set(COLUMNS) - set(batch.schema.names):
        raise BadIndex(BAD_INDEX, f"{url} lacks one of the columns {', '.join(COLUMNS)}")
    names, *numbers = (batch.column(name) for name in COLUMNS)
    if any(column.null_count for column in (names, *numbers)):
        raise BadIndex(BAD_INDEX, f"{url} has rows that do not say where their sample lies")
    if not pa.types.is_dictionary(names.type) or any(column.type != pa.int64() for column in numbers):
        raise BadIndex(BAD_INDEX, f"{url}: {', '.join(COLUMNS)} are not text and whole numbers")
    places = np.stack([column.to_numpy() for column in numbers])
    codes = names.indices.to_numpy()
    starts = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    for begin, stop in pairwise(starts):
        if stop > begin:
            yield str(names.dictionary[int(codes[begin])]), places[:, begin:stop]


def usable(url: str, shard: Shard, found: int, rows: NDArray[np.int64]) -> Extents:
    """Keep the rows of a shard that it can still have, and say why not all of them, if so."""
    if found == shard.bytes:
        return Extents(url, found, rows)
    told = f"{url} has {found} bytes, {MANIFEST} says {shard.bytes}" if found >= 0 else f"{url} is not there"
    if not 0 <= found < shard.bytes:
        return Extents(url, found, NO_ROWS, NOT_FOUND if found < 0 else CHANGED, told)
    offset, length = rows
    return Extents(url, found, rows[:, (offset <= found) & (length <= found - offset)], CUT, told)
