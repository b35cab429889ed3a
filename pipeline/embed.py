"""Stored pictures → the nearest pictures of the evaluation sets, by embeddings that a model of the user makes.

embed   stored pictures, by SHA-256: decode once, embed in batches, compare with the sets → a row for each URL

Only the nearest picture and its cosine are written: where the thresholds lie decides `evaluation`, and another
threshold embeds nothing anew. The vectors of a stretch of pictures are held, the sets are read past them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline.evaluation import EvaluationRules, stamps
from pipeline.folder import OpenFiles
from pipeline.nearest import Embedded, check_embedded, embedded_sets, find_nearest
from pipeline.picture_models import FORMS, Model, digest_of, load_rows, parse_place
from pipeline.report import refused
from pipeline.score import ScoreConfig
from pipeline.stage import Inputs, Output, Unit
from pipeline.stored_pictures import Shown, batches, decoded
from pipeline.tables import Table

EMBED = "embed"
COUNTED = "picture embedding"
NOT_EMBEDDED = "not_embedded"
SETTING = "filters.evaluation.model"
NEAREST = Table(
    "work/nearest",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("set", pa.string()),
            ("name", pa.string()),
            ("cosine", pa.float64()),
        ]
    ),
)
"""The picture of the evaluation sets whose embedding is nearest to that of the picture at `url`, and their cosine."""
MAX_DIMENSIONS = 8_192
HELD_PICTURES = 2_000
"""Pictures whose vectors are held before they are compared: 65 MB of `MAX_DIMENSIONS`."""
HELD_URLS = 20_000
"""URLs of them that are held, 1,000 more at most: about a KB each."""
Vector = NDArray[np.float32]
Embedder = Callable[[list[Image.Image]], list[Vector | None]]
"""Gives a vector of length 1 for each picture, or `None` for one that cannot be embedded."""


# The model


def parse_embedder(text: str, setting: str = SETTING) -> Model:
    """Read the model of a setting or option; what is none is a `UserError`."""
    model = parse_place(text, setting)
    if model is None:
        raise refused(f"{setting}: a model is {FORMS[0]}, {FORMS[1]} or {FORMS[2]}, not {text!r}")
    return model


@lru_cache(maxsize=1)
def hold_embedder(model: Model, digest: str, providers: tuple[str, ...]) -> Embedder:
    """Load a model once a process; another content loads it anew."""
    rows = load_rows(model, providers)

    def embed(pictures: list[Image.Image]) -> list[Vector | None]:
        return check_vectors(model, list(rows(pictures)), len(pictures))

    return embed


def check_vectors(model: Model, given: Sequence[Any], wanted: int) -> list[Vector | None]:
    """Insist on a vector of finite numbers, or `None`, for each picture, and bring each to length 1.

    A vector of zeros points nowhere and counts as none.
    """
    if len(given) != wanted:
        raise refused(f"{model.where}: gave {len(given)} embeddings for {wanted} pictures")
    vectors = [None if one is None else to_unit(model, one) for one in given]
    lengths = sorted({len(vector) for vector in vectors if vector is not None})
    if len(lengths) > 1:
        raise refused(f"{model.where}: gave embeddings of {lengths[0]} and of {lengths[-1]} numbers")
    return vectors


def to_unit(model: Model, given: Any) -> Vector | None:
    """Bring a vector to length 1; `None` for one of zeros."""
    try:
        values = np.asarray(given)
    except (ValueError, TypeError):
        values = np.empty(0, object)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not 1 <= len(values) <= MAX_DIMENSIONS:
        raise refused(
            f"{model.where}: gave {given!r:.60} for a picture; an embedding is 1..{MAX_DIMENSIONS:,} numbers or None"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise refused(f"{model.where}: gave an embedding with a number that is not finite")
    largest = np.abs(values).max()
    if largest == 0:
        return None
    scaled = values / largest
    unit: Vector = (scaled / np.sqrt((scaled * scaled).sum())).astype(np.float32)
    return unit


# The settings


@dataclass(frozen=True, slots=True)
class Embedding:
    """What decides the nearest pictures: the model and the sets with embeddings by content, and how it is run."""

    model: str
    sets: tuple[str, ...]
    batch: int
    providers: tuple[str, ...]


def stamped_embedding(rules: EvaluationRules, scores: ScoreConfig) -> Embedding:
    """Name the model with its digest, and each set that has embeddings with its stamp."""
    sets = tuple(f"{path} {stamp}" for path, stamp in stamps([one.path for one in embedded_sets(rules.sets)]))
    return Embedding(f"{rules.model} {digest_of(parse_embedder(rules.model))}", sets, scores.batch, scores.providers)


def check_model(rules: EvaluationRules, scores: ScoreConfig) -> list[str]:
    """Refuse a model that cannot be used with the sets, before work is done; tells which sets have no embeddings."""
    if not rules.model:
        return []
    model = parse_embedder(rules.model)
    digest = digest_of(model)
    embedded = embedded_sets(rules.sets)
    if not embedded:
        raise refused(f"{SETTING}: no set has embeddings; flamingo decontaminate-index --model writes them")
    check_embedded(embedded, rules.model, digest)
    tried = hold_embedder(model, digest, scores.providers)([Image.new("RGB", (64, 64), (128, 96, 64))])
    check_lengths(model, [vector for vector in tried if vector is not None], embedded)
    by_hash = [path for path in rules.sets if path not in {one.path for one in embedded}]
    return [f"{path}: has no embeddings: its pictures are found by hash alone" for path in by_hash]


def check_lengths(model: Model, vectors: Sequence[Vector], sets: Sequence[Embedded]) -> None:
    """Refuse vectors of another length than those of the sets."""
    for one in sets:
        if wrong := next((len(vector) for vector in vectors if len(vector) != one.dimensions), 0):
            raise refused(f"{model.where}: embeddings have {wrong} numbers, those of {one.path} {one.dimensions}")


def files_of_embedder(rules: EvaluationRules) -> list[str]:
    """List the file of the model, where it is one."""
    return [model.place for model in map(parse_embedder, filter(None, [rules.model])) if model.is_file]


# The stage


def embed_pictures(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Embed the pictures of a range of hashes, and write the nearest picture of the sets for each of their URLs."""
    config = output.job.config
    rules, scores = config.filters.evaluation, config.scores
    model = parse_embedder(rules.model)
    embedder = hold_embedder(model, digest_of(model), scores.providers)
    sets = embedded_sets(rules.sets)
    with OpenFiles() as files:
        for held in stretches(inputs, files, output, embedder, scores.batch):
            write_nearest(model, held, sets, output)


Held = list[tuple[Shown, Vector]]
"""Pictures, by the URLs that show them, with their vectors."""


def stretches(inputs: Inputs, files: OpenFiles, output: Output, embedder: Embedder, most: int) -> Iterator[Held]:
    """Yield pictures with their vectors, as many at once as may be held; what has no vector is counted."""
    counts: Counter[tuple[str, str, str]] = output.counts
    held: Held = []
    urls = 0
    for batch in batches(decoded(inputs, files, output), most):
        pictures = [picture for _, picture in batch if picture is not None]
        given = iter(embedder(pictures) if pictures else [])
        for shown, picture in batch:
            vector = next(given) if picture is not None else None
            counts[EMBED, COUNTED, "" if vector is not None else NOT_EMBEDDED] += 1
            if vector is not None:
                held.append((shown, vector))
                urls += len(shown)
        if len(held) >= HELD_PICTURES or urls >= HELD_URLS:
            yield held
            held, urls = [], 0
    if held:
        yield held


def write_nearest(model: Model, held: Held, sets: Sequence[Embedded], output: Output) -> None:
    """Write what is nearest to each picture."""
    check_lengths(model, [vector for _, vector in held], sets)
    found = find_nearest(np.stack([vector for _, vector in held]), sets)
    for (shown, _), nearest in zip(held, found, strict=True):
        for row in shown:
            output.write(NEAREST, {"key": row["media"], "url": row["url"]} | nearest._asdict())
