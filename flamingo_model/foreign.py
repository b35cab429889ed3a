"""The samples of shards that come without an index, found by reading their headers once.

tar files and URLs → `Extents` of one shard after the other; what was found is kept, a file for each shard
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flamingo_model.datasets import NO_ROWS, Extents
from flamingo_model.storage import FAILED, Stat, Storage, Unreadable, local_path, plain
from flamingo_model.tar import DamagedTar, Extent, scan

SCANNED_AT_ONCE = 8
CACHE_VERSION = 1
"""Of what a scan finds: another way of reading headers needs another number."""


def stats_of(urls: Sequence[str], **patience: Any) -> list[Stat | Unreadable]:
    """Ask for size and tag of every shard; an error stands for one that could not be asked."""

    def ask(shard: int) -> Stat | Unreadable:
        try:
            return storage.stat(shard)
        except Unreadable as error:
            return error

    with Storage(urls, **patience) as storage, scanners(urls) as pool:
        return list(pool.map(ask, range(len(urls))))


def scanned(
    urls: Sequence[str], stats: Sequence[Stat | Unreadable], cache: Path, on_scan: Callable[[], None], **patience: Any
) -> Iterator[Extents]:
    """Find the samples of every shard, in order; what is damaged or cannot be read says so."""
    sizes = [-1 if isinstance(stat, Unreadable) else stat.size for stat in stats]

    def find(shard: int) -> Extents:
        stat = stats[shard]
        if isinstance(stat, Unreadable):
            return Extents(urls[shard], -1, NO_ROWS, stat.reason, str(stat))
        kept = cache / f"{name_of(urls[shard], stat)}.npy"
        rows = read_kept(kept)
        if rows is not None:
            return Extents(urls[shard], stat.size, rows)
        try:
            with storage.file(shard) as stream:
                rows = as_rows(scan(stream, stat.size))
        except DamagedTar as error:
            told = f"{plain(urls[shard])}: {error}"
            return Extents(urls[shard], stat.size, as_rows(error.whole), error.reason, told)
        except OSError as error:
            reason = error.reason if isinstance(error, Unreadable) else FAILED
            return Extents(urls[shard], stat.size, NO_ROWS, reason, str(error))
        keep(kept, rows)
        return Extents(urls[shard], stat.size, rows)

    with Storage(urls, sizes, **patience) as storage, scanners(urls) as pool:
        try:
            for extents in pool.map(find, range(len(urls))):
                on_scan()
                yield extents
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def scanners(urls: Sequence[str]) -> ThreadPoolExecutor:
    """Make the threads that wait for many shards; a local disk keeps one busy."""
    return ThreadPoolExecutor(1 if all(local_path(url) is not None for url in urls) else SCANNED_AT_ONCE, "scan")


def as_rows(found: Sequence[Extent]) -> NDArray[np.int64]:
    """Write offsets and lengths as int64 [2, n]."""
    return np.array([(extent.offset, extent.length) for extent in found], np.int64).reshape(-1, 2).T


def name_of(url: str, stat: Stat) -> str:
    """Name what was found in a shard by all that it depends on: two shards of one name are two."""
    text = json.dumps([CACHE_VERSION, url, stat.size, stat.tag])
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def read_kept(path: Path) -> NDArray[np.int64] | None:
    """Read what was kept; None where there is nothing, or nothing that can be used."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    sound = isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 2 and len(rows) == 2
    return rows if sound else None


def keep(path: Path, rows: NDArray[np.int64]) -> None:
    """Write what was found, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as stream:
        np.save(stream, np.ascontiguousarray(rows), allow_pickle=False)
    os.replace(stream.name, path)
