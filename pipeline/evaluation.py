"""Pictures of evaluation sets, kept out of the corpus: indexes → a picture's nearest copy or near miss, or none.

    SET.parquet, ... → load_sets → EvaluationSets → find_copy(media, ...) → Match | None

SPEC-corpus 1 (Flamingo A.3.4) asks for this. The indexes are made by `decontaminate`.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.folder import UserError, open_input
from pipeline.near import NearHashes
from pipeline.perceptual import HASH_BYTES
from pipeline.report import refused
from pipeline.sources import stat
from schemas.media import Media
from schemas.page import Refusal

IN_EVALUATION_SET = "in_evaluation_set"
NEAR_EVALUATION_SET = "near_evaluation_set"
NEAR_MISS = "near_miss"
EVALUATION_SCHEMA = pa.schema(
    [("sha256", pa.string()), ("look", pa.binary(HASH_BYTES)), ("name", pa.string()), ("thumbnail", pa.binary())]
)
"""`sha256` is of the file as it was given, `look` the perceptual hash, `thumbnail` a JPEG for people to compare."""
Row = tuple[str, str, str, bytes]
"""Set, name, SHA-256 and look of a picture."""


@dataclass(frozen=True, slots=True)
class EvaluationRules:
    """Which pictures count as copies of an evaluation set's."""

    sets: tuple[str, ...] = ()
    """Indexes of evaluation sets, as `flamingo decontaminate-index` writes them; copies of their pictures are left out
    (Flamingo A.3.4). A set is named after its file."""
    max_bits: int = 47
    """Bits of 256 in which a copy may differ. Of 141,207 pairs of distinct real pictures none came nearer than 59
    (bench/hashes.py)."""
    near_miss_bits: int = 11
    """Bits above `max_bits` up to which a picture is kept and counted as a near miss, to look at; 0 counts none. With
    the defaults that is 48..58, below all pairs of distinct pictures that were measured."""
    mirrored: bool = True
    """Whether mirrored copies count too."""
    model: str = ""
    """FILE.onnx (with FILE.onnx.toml beside it), module:function or FILE.py:function that embeds pictures, the one that
    the sets were embedded by (`flamingo decontaminate-index --model`); a function gives a sequence of numbers for each
    picture, or None. `scores.batch` and `scores.providers` hold for it, too. Without it hashes alone find copies."""
    min_cosine: float = 0.95
    """Cosine of its embedding and one of a set, at least, of a picture that is left out. It depends on the model: look
    at the near misses first (DataComp: 0.604 with a model that was trained to find copies)."""
    near_miss_cosine: float = 0.05
    """Cosine below `min_cosine` down to which a picture is kept and counted as a near miss; 0 counts none."""

    @property
    def reach(self) -> int:
        """Bits up to which pictures are looked for."""
        return min(self.max_bits + self.near_miss_bits, HASH_BYTES * 8 - 1)

    def __post_init__(self) -> None:
        if self.near_miss_bits < 0:
            raise ValueError(f"near_miss_bits is 0 or more, not {self.near_miss_bits}")
        if not 0 <= self.max_bits < HASH_BYTES * 8:
            raise ValueError(f"max_bits is 0..{HASH_BYTES * 8 - 1}, not {self.max_bits}")
        if not -1 <= self.min_cosine <= 1:
            raise ValueError(f"min_cosine is -1..1, not {self.min_cosine}")
        if not 0 <= self.near_miss_cosine <= 2:
            raise ValueError(f"near_miss_cosine is 0..2, not {self.near_miss_cosine}")


@dataclass(frozen=True, slots=True)
class Match:
    """The picture of an evaluation set that a picture looks like, by its hash (`bits`) or its embedding (`cosine`).

    Where the files are equal both are None. A `near_miss` is no copy of it, only near to being one.
    """

    set: str
    name: str
    bits: int | None
    near_miss: bool = False
    cosine: float | None = None

    @property
    def reason(self) -> str:
        """Name what the picture is to the set."""
        if self.bits is None and self.cosine is None:
            return IN_EVALUATION_SET
        return NEAR_MISS if self.near_miss else NEAR_EVALUATION_SET

    @property
    def detail(self) -> str:
        """Name the set, its picture, and the bits or the cosine."""
        apart = "" if self.bits is None else f", {self.bits} bits apart"
        return f"{self.set}: {self.name}{apart}" + ("" if self.cosine is None else f", cosine {self.cosine:.6f}")

    def refusal(self) -> Refusal | None:
        """Say why the picture is left out; a near miss is kept."""
        return None if self.near_miss else Refusal(self.reason, self.detail)


class EvaluationSets:
    """The pictures of any number of evaluation sets, to be searched; about 300 bytes of memory a picture."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Take the pictures; where files are equal, the first one is named."""
        self.names = [(row[0], row[1]) for row in rows]
        self.places: Mapping[bytes, int] = {bytes.fromhex(rows[at][2]): at for at in reversed(range(len(rows)))}
        self.hashes = NearHashes([row[3] for row in rows])

    def find(self, digests: Iterable[str], look: bytes, rules: EvaluationRules) -> Match | None:
        """Find the nearest copy or near miss: an equal file first, then by look, ties by the order of the sets.

        `digests` are SHA-256 in hex, of the file as fetched and as stored. A picture of a single colour has no look.
        """
        for digest in digests:
            if (place := self.places.get(bytes.fromhex(digest))) is not None:
                return Match(*self.names[place], None)
        if not any(look):
            return None
        found = self.hashes.within(look, rules.reach, rules.mirrored)
        if not found:
            return None
        bits, place = found[0]
        return Match(*self.names[place], bits, near_miss=bits > rules.max_bits)


def find_copy(
    media: Media, sets: EvaluationSets | None, rules: EvaluationRules, nearest: Iterable[Mapping[str, Any]] = ()
) -> Match | None:
    """Find the picture of an evaluation set that a stored one is a copy of, or nearly; without sets there is none.

    `nearest` is what `embed` wrote of the picture. A copy goes before a near miss, and what the hash says before
    what the embedding says.
    """
    if sets is None:
        return None
    by_hash = sets.find((media.sha256_original, media.sha256), bytes.fromhex(media.phash), rules)
    if by_hash is not None and not by_hash.near_miss:
        return by_hash
    by_embedding = next((judge_nearest(row, rules) for row in nearest), None)
    if by_embedding is not None and not by_embedding.near_miss:
        return by_embedding
    return by_hash or by_embedding


def judge_nearest(row: Mapping[str, Any], rules: EvaluationRules) -> Match | None:
    """Judge a picture by the cosine of its embedding and the nearest one of the sets."""
    cosine = row["cosine"]
    if cosine >= rules.min_cosine:
        return Match(row["set"], row["name"], None, cosine=cosine)
    if rules.near_miss_cosine and cosine >= round(rules.min_cosine - rules.near_miss_cosine, 12):
        return Match(row["set"], row["name"], None, near_miss=True, cosine=cosine)
    return None


# Reading indexes


def hold_sets(rules: EvaluationRules) -> EvaluationSets | None:
    """Give the sets of a run, read once a process and again when one has changed; `None` where none is named."""
    return hold_stamped(stamps(rules.sets)) if rules.sets else None


def stamped(rules: EvaluationRules) -> EvaluationRules:
    """Name each set with a stamp that changes when its content does."""
    return replace(rules, sets=tuple(f"{path} {stamp}" for path, stamp in stamps(rules.sets)))


def check_sets(rules: EvaluationRules) -> None:
    """Refuse sets that cannot be read or hold nothing, before work is done, and two of one name."""
    names = [set_name(path) for path in rules.sets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise refused(f"filters.evaluation.sets: two sets are called {twice[0]}; give their files different names")
    for path in rules.sets:
        read_set(path)


def stamps(paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give each path and the stamp of its file."""
    return tuple((path, stamp_of(path)) for path in paths)


def stamp_of(path: str) -> str:
    """Give the stamp of a file."""
    try:
        return stat(path)[1]
    except FileNotFoundError:
        raise no_such_set(path) from None


def no_such_set(path: str) -> UserError:
    """Say that a set is missing."""
    return refused(f"{path}: no such file; `flamingo decontaminate-index` writes it")


@lru_cache(maxsize=1)
def hold_stamped(stamped_paths: tuple[tuple[str, str], ...]) -> EvaluationSets:
    """Read sets by path and stamp."""
    return load_sets([path for path, _ in stamped_paths])


def load_sets(paths: Iterable[str]) -> EvaluationSets:
    """Load indexes; one that cannot be read is a `UserError`."""
    return EvaluationSets([row for path in paths for row in read_set(path)])


def set_name(path: str) -> str:
    """Name a set after its file, without suffix."""
    return posixpath.basename(path).removesuffix(".parquet")


def read_set(path: str) -> list[Row]:
    """Read the rows of an index; what is none, or damaged, is a `UserError`."""
    try:
        with open_input(path) as stream:
            table = pq.ParquetFile(stream).read(columns=["name", "sha256", "look"], use_threads=False)
        names, digests, looks = (table[column].to_pylist() for column in ("name", "sha256", "look"))
        check_rows(digests, looks)
    except FileNotFoundError:
        raise no_such_set(path) from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise refused(f"{path}: no index of an evaluation set, or a damaged one: {error}") from None
    return [(set_name(path), *row) for row in zip(names, digests, looks, strict=True)]


def check_rows(digests: Sequence[str], looks: Sequence[bytes]) -> None:
    """Insist on rows, and on the lengths of what is compared."""
    if not looks:
        raise ValueError("it holds no picture")
    if any(len(bytes.fromhex(digest)) != hashlib.sha256().digest_size for digest in digests):
        raise ValueError("a sha256 of the wrong length")
    if any(len(look) != HASH_BYTES for look in looks):
        raise ValueError(f"a look that has not {HASH_BYTES} bytes")
