"""Where every sample lies: the shards of a dataset, and offset and length of each sample in them.

    dataset folders, tar files, URLs → Index: sample number → (shard, offset, length)

A dataset of ours has an index, which must agree with its manifest and its shards. Of any other shard the headers are
read once. What was found is kept in a cache, under a name that depends on everything that it was found from, and its
arrays are mapped into memory, so that all processes share them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flamingo_model.datasets import Dataset, Extents, dataset_extents, open_dataset
from flamingo_model.foreign import scanned, stats_of
from flamingo_model.places import REPEATED_SHARD, BadIndex, is_tar, places
from flamingo_model.storage import Stat, Unreadable
from flamingo_model.tar import BLOCK

CACHE_VERSION = 1
OFFSETS, LENGTHS, DESCRIPTION = "offsets.bin", "lengths.bin", "index.json"
BAD_ROWS, NO_CACHE = "bad_rows", "no_cache"
NUMBER = np.dtype("<i8")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A shard that does not give all of its samples."""

    url: str
    reason: str
    samples_kept: int


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The samples of shards, numbered through: shard s has `first[s]` to `first[s + 1]`, in the order of their offsets.

    `sizes` are bytes of the shards, -1 where that is not known. `damage` names the shards that are damaged, whose
    other samples are left out. It is pickled as the name of its files.
    """

    urls: tuple[str, ...]
    first: NDArray[np.int64]  # [S + 1]
    sizes: NDArray[np.int64]  # [S]
    offset: NDArray[np.int64]  # [n]
    length: NDArray[np.int64]  # [n]
    damage: tuple[Damage, ...]
    digest: str
    folder: str
    starts: list[int]
    """`first` once more, as a list is searched faster."""

    def __len__(self) -> int:
        return self.starts[-1]

    def __reduce__(self) -> tuple[Callable[[str], Index], tuple[str]]:
        return load, (self.folder,)

    def locate(self, sample: int) -> tuple[int, int, int]:
        """Give the shard of a sample, and its offset and length there, in bytes."""
        if not 0 <= sample < self.starts[-1]:
            raise IndexError(f"sample {sample} of {self.starts[-1]}")
        return bisect_right(self.starts, sample) - 1, int(self.offset[sample]), int(self.length[sample])

    def same(self) -> str:
        """Give a digest that is the same where shards of the same names hold samples at the same places."""
        return self.digest


def open_index(
    shards: Sequence[str],
    kind: str,
    *,
    cache: str | None = None,
    on_damage: str = "raise",
    progress: Progress | None = None,
    retries: int = 4,
    timeout_s: float = 30.0,
) -> Index:
    """Find the samples of all `shards`, each a dataset's folder, a tar, or a pattern of them; raises `BadIndex`.

    A folder holds shards of `kind` (`interleaved`, `pairs`, `videos`), in DATASET/KIND or itself; the samples of a
    tar may be anything. With `on_damage` "skip" the whole samples of a damaged shard are kept, and `Index.damage`
    tells of the loss. `progress` is told how many shards of how many were looked at. The cache is `cache`,
    FLAMINGO_CACHE or ~/.cache/flamingo/index.
    """
    assert on_damage in ("raise", "skip")
    patience = {"retries": retries, "timeout_s": timeout_s}
    root = Path(cache or os.environ.get("FLAMINGO_CACHE") or Path.home() / ".cache" / "flamingo" / "index")
    sources = list(sources_of(places(shards), kind, patience))
    key = digest_of([CACHE_VERSION, [identity(source) for source in sources]])
    folder = root / "joined" / key
    try:
        return load(str(folder))
    except (OSError, ValueError, KeyError):
        pass  # not there yet, or not whole
    total = sum(len(source.urls if isinstance(source, Tars) else source.shards) for source in sources)
    try:
        return build(extents_of(sources, root / "shards", patience, counter(progress, total)), folder, on_damage)
    except OSError as error:
        raise BadIndex(NO_CACHE, f"{error}: set FLAMINGO_CACHE to a folder for what was found of shards") from None


@dataclass(frozen=True, slots=True)
class Tars:
    """Shards without an index that stand next to each other."""

    urls: tuple[str, ...]
    stats: tuple[Stat | Unreadable, ...]


def sources_of(found: Iterable[str], kind: str, patience: dict[str, Any]) -> Iterator[Dataset | Tars]:
    """Open what is named: each folder, and all tars that follow each other at once."""
    for tar, group in groupby(found, is_tar):
        if tar:
            urls = tuple(group)
            yield Tars(urls, tuple(stats_of(urls, **patience)))
        else:
            yield from (open_dataset(place, kind, **patience) for place in group)


def identity(source: Dataset | Tars) -> Any:
    """Give all that the samples of a source depend on."""
    if isinstance(source, Dataset):
        return source.identity
    return [
        [url, stat.reason] if isinstance(stat, Unreadable) else [url, stat.size, stat.tag]
        for url, stat in zip(source.urls, source.stats, strict=True)
    ]


def extents_of(
    sources: Iterable[Dataset | Tars], cache: Path, patience: dict[str, Any], on_shard: Callable[[], None]
) -> Iterator[Extents]:
    """Give the samples of all shards, one shard after the other."""
    for source in sources:
        if isinstance(source, Tars):
            yield from scanned(source.urls, source.stats, cache, on_shard, **patience)
        else:
            for extents in dataset_extents(source, **patience):
                on_shard()
                yield extents


def counter(progress: Progress | None, total: int) -> Callable[[], None]:
    """Count what was done, and tell it."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return one_more


def build(found: Iterable[Extents], folder: Path, on_damage: str) -> Index:
    """Write the files of an index, and open it.

    An index with damage gets a name of its own, which nobody looks for: what was lost may be there the next time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        description = write(found, made, on_damage)
        if description["damage"]:
            folder = folder.with_name(digest_of([folder.name, description["damage"]]))
        publish(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return load(str(folder))


def write(found: Iterable[Extents], made: Path, on_damage: str) -> dict[str, Any]:
    """Write the arrays of an index, a shard at a time, and what describes them."""
    urls, sizes, counts, damage = [], [], [], []
    with open(made / OFFSETS, "wb") as offsets, open(made / LENGTHS, "wb") as lengths:
        places_seen = hashlib.sha256()
        for extents in found:
            if extents.damage and on_damage == "raise":
                raise BadIndex(extents.damage, f"{extents.told} ({extents.rows.shape[1]} samples of it are whole)")
            check_rows(extents)
            urls.append(extents.url)
            sizes.append(extents.size)
            counts.append(extents.rows.shape[1])
            for numbers, stream in zip(extents.rows, (offsets, lengths), strict=True):
                data = np.ascontiguousarray(numbers, NUMBER).tobytes()
                places_seen.update(data)
                stream.write(data)
            if extents.damage:
                damage.append([extents.url, extents.damage, counts[-1]])
    if len(set(urls)) < len(urls):
        twice = next(url for number, url in enumerate(urls) if url in urls[:number])
        raise BadIndex(REPEATED_SHARD, f"{twice} is named twice, by itself and by its dataset")
    names = [url.rpartition("/")[2] for url in urls]
    description = {"urls": urls, "sizes": sizes, "counts": counts, "damage": damage}
    description["digest"] = digest_of([names, counts, places_seen.hexdigest()])
    (made / DESCRIPTION).write_text(json.dumps(description))
    return description


def publish(made: Path, folder: Path) -> None:
    """Give a folder its name; where another process was faster, its folder stays."""
    try:
        os.rename(made, folder)
    except OSError:
        try:
            load(str(folder))
        except (OSError, ValueError, KeyError):
            spoiled = made.with_name(f"{made.name}-spoiled")
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, spoiled)
            os.rename(made, folder)
            shutil.rmtree(spoiled, ignore_errors=True)


def load(folder: str) -> Index:
    """Open the files of an index; an OSError, ValueError or KeyError says that they are not all there."""
    with open(os.path.join(folder, DESCRIPTION), encoding="utf-8") as stream:
        described = json.load(stream)
    starts = [0, *accumulate(described["counts"])]
    with (
        open(os.path.join(folder, OFFSETS), "rb") as offsets,
        open(os.path.join(folder, LENGTHS), "rb") as lengths,
    ):
        arrays = [mapped(stream, starts[-1]) for stream in (offsets, lengths)]
    return Index(
        tuple(described["urls"]),
        np.array(starts, np.int64),
        np.array(described["sizes"], np.int64),
        arrays[0],
        arrays[1],
        tuple(Damage(*row) for row in described["damage"]),
        described["digest"],
        folder,
        starts,
    )


def mapped(stream: BinaryIO, count: int) -> NDArray[np.int64]:
    """Map whole numbers into memory, to be read only."""
    size = os.fstat(stream.fileno()).st_size
    if size != count * NUMBER.itemsize:
        raise ValueError(f"{size} bytes instead of {count} numbers")
    if not count:
        return np.zeros(0, np.int64)
    # A plain array over the map: numpy's own class for maps makes looking up one number many times slower.
    return np.asarray(np.memmap(stream, NUMBER, "r", shape=(count,)))


def check_rows(extents: Extents) -> None:
    """Refuse samples that overlap, stand out of order or reach beyond their shard."""
    offset, length = extents.rows
    end = extents.size if extents.size >= 0 else np.iinfo(np.int64).max
    wrong = (offset < 0) | (length <= 0) | (offset % BLOCK != 0) | (length % BLOCK != 0)
    wrong |= (length > end) | (offset > end - np.minimum(length, end))
    wrong[1:] |= offset[1:] - offset[:-1] < length[:-1]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadIndex(
            BAD_ROWS,
            f"{extents.url}: the index says that sample {row} lies at byte {offset[row]} with {length[row]} bytes, "
            f"which overlaps another, is out of order or reaches beyond the shard ({extents.size} bytes)",
        )


def digest_of(tree: Any) -> str:
    """Give a name that depends on everything in a tree of JSON."""
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:40]
