"""The nearest picture of evaluation sets by embedding: vectors × indexes with embeddings → set, name and cosine.

    SET.parquet, ... → embedded_sets → Embedded → find_nearest(vectors, ...) → Nearest for each vector

The indexes are read a block of rows at a time past all vectors, so that memory does not grow with them. A product of
float32 matrices finds what may be nearest, and that is compared again in float64: the last digits of the product depend
on the processor and on the size of blocks, those of what is told do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.evaluation import no_such_set, set_name
from pipeline.folder import open_input
from pipeline.report import refused

EMBEDDING = pa.field("embedding", pa.list_(pa.float32()))
"""The vector of a picture, of length 1; null where the model gave none."""
MODEL, DIGEST, DIMENSIONS = "flamingo.model", "flamingo.model_sha256", "flamingo.dimensions"
"""Names in the metadata of an index with embeddings: the model as it was named, its content, numbers a vector."""
ROWS_AT_ONCE = 1_024
VALUES_AT_ONCE = 1 << 20
"""Numbers that are compared again at once: 16 MB."""
DIGITS = 6
"""Decimals of a cosine; what is equal to that many is equally near, and the first one of the sets is named."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """An index with embeddings: the model that made them, the SHA-256 of its files, and the numbers of a vector."""

    path: str
    model: str
    digest: str
    dimensions: int


class Nearest(NamedTuple):
    """The picture of an evaluation set that is nearest to a vector."""

    set: str
    name: str
    cosine: float


def index_metadata(model: str, digest: str, dimensions: int) -> dict[str, str]:
    """Write what the metadata of an index says of its embeddings."""
    return {MODEL: model, DIGEST: digest, DIMENSIONS: str(dimensions)}


def embedded_sets(paths: Iterable[str]) -> list[Embedded]:
    """Name the indexes that have embeddings, in their order; one that cannot be read is a `UserError`."""
    return [found for found in map(read_metadata, paths) if found is not None]


def read_metadata(path: str) -> Embedded | None:
    """Read which model embedded a set; `None` where none did."""
    try:
        with open_input(path) as stream:
            schema = pq.ParquetFile(stream).schema_arrow
            told = {name.decode(): text.decode() for name, text in (schema.metadata or {}).items() if name.isascii()}
            if DIGEST not in told:
                return None
            if schema.field(EMBEDDING.name).type != EMBEDDING.type:
                raise ValueError("embeddings of another type")
            return Embedded(path, told[MODEL], told[DIGEST], int(told[DIMENSIONS]))
    except FileNotFoundError:
        raise no_such_set(path) from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from None


def damaged(path: str, error: Exception) -> Exception:
    """Say that the embeddings of an index cannot be read."""
    return refused(f"{path}: its embeddings are damaged: {error}")


def check_embedded(sets: Sequence[Embedded], model: str, digest: str) -> None:
    """Refuse sets that another model has embedded, or another version of it."""
    for one in sets:
        if one.digest != digest:
            raise refused(
                f"{one.path}: embedded by {one.model} (sha256 {one.digest[:12]}), and filters.evaluation.model is "
                f"{model} (sha256 {digest[:12]}); flamingo decontaminate-index --model embeds it anew"
            )
        if one.dimensions != sets[0].dimensions:
            raise refused(
                f"{one.path}: embeddings of {one.dimensions} numbers, those of {sets[0].path} have {sets[0].dimensions}"
            )


def find_nearest(vectors: Vectors, sets: Iterable[Embedded]) -> list[Nearest]:
    """Find the nearest picture to each vector of length 1: the first one of those that are equally near."""
    found = [Nearest("", "", -2.0)] * len(vectors)
    best = np.full(len(vectors), -2.0)
    slack = vectors.shape[1] * 2.0**-23 + 10.0**-DIGITS
    for one in sets:
        for names, block in read_blocks(one):
            products = vectors @ block.T
            bar = np.maximum(products.max(axis=1), best) - slack
            at, places = np.nonzero(products >= bar[:, None])
            cosines = compare(vectors, block, at, places)
            for number, place, cosine in zip(at.tolist(), places.tolist(), cosines.tolist(), strict=True):
                if cosine > best[number]:
                    best[number] = cosine
                    found[number] = Nearest(set_name(one.path), names[place], cosine)
    return found


def compare(vectors: Vectors, block: Vectors, at: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the cosines of pairs of rows in float64, to `DIGITS` decimals, each by itself."""
    step = max(1, VALUES_AT_ONCE // vectors.shape[1])
    cosines = np.empty(len(at), np.float64)
    for begin in range(0, len(at), step):
        some = slice(begin, begin + step)
        products = vectors[at[some]].astype(np.float64) * block[places[some]]
        cosines[some] = np.clip(np.round(products.sum(axis=1), DIGITS), -1, 1)
    return cosines


def read_blocks(one: Embedded) -> Iterator[tuple[list[str], Vectors]]:
    """Yield names and vectors of an index, some rows at a time; damage is a `UserError`."""
    try:
        with open_input(one.path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(
                ROWS_AT_ONCE, columns=["name", EMBEDDING.name], use_threads=False
            ):
                rows = batch.filter(pc.is_valid(batch.column(EMBEDDING.name)))
                column = rows.column(EMBEDDING.name)
                if rows.num_rows == 0:
                    continue
                if pc.any(pc.not_equal(pc.list_value_length(column), one.dimensions)).as_py():
                    raise ValueError(f"not each has {one.dimensions} numbers")
                vectors: Vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, one.dimensions)
                lengths = np.einsum("ij,ij->i", vectors, vectors)
                if not (np.abs(lengths - 1) < 1e-3).all():
                    raise ValueError("not each is of length 1")
                yield rows.column("name").to_pylist(), vectors
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(one.path, error) from None
