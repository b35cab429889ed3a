"""What became of a media URL: a row of the media index for every URL ever asked for; and the scores of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.page import ORIGIN_TYPE, Origin, key_of, origin_to_row

STORED = "stored"
REJECTED = "rejected"
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Media:
    """A media URL's fate.

    `status` is `stored`, `rejected` (the bytes were there but unfit) or `missing` (no bytes were had); `reason`
    says why where it is not `stored`, and the fields below it are then empty. `width_px` and `height_px` are those
    of the original after its orientation is applied, `stored_*` those of the bytes at `location` (a WARC record
    of the media store, whose payload is the normalised image). `colour_range` is the widest span of any
    colour channel, 0..255: about 0 for a single-colour picture. `phash` is 64 hex digits: the
    256 bits of `pipeline.perceptual`, of which copies of a picture share nearly all.
    """

    url: str
    status: str
    reason: str = ""
    detail: str = ""
    sha256_original: str = ""
    sha256: str = ""
    phash: str = ""
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    stored_width_px: int = 0
    stored_height_px: int = 0
    stored_bytes: int = 0
    colour_range: int = 0
    source: Origin | None = None
    location: Origin | None = None

    @property
    def key(self) -> str:
        """The name of the URL in every table."""
        return key_of(self.url)


class Score(NamedTuple):
    """What a model of the settings (`scores.models`) gave a picture."""

    model: str
    score: float


SCORES_TYPE = pa.list_(pa.struct([("model", pa.string()), ("score", pa.float64())]))


def score_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Write scores as structs of `SCORES_TYPE`."""
    return [{"model": score.model, "score": float(score.score)} for score in scores]


def read_scores(rows: Iterable[Mapping[str, Any]] | None) -> tuple[Score, ...]:
    """Read structs of `SCORES_TYPE`; a `TypeError` says that one is none."""
    scores = tuple(Score(row["model"], row["score"]) for row in rows or ())
    if any(not isinstance(one.model, str) or not isinstance(one.score, float) for one in scores):
        raise TypeError("a score is a name and a number")
    return scores


MEDIA_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("sha256_original", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("format", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("stored_width_px", pa.int32()),
        ("stored_height_px", pa.int32()),
        ("stored_bytes", pa.int64()),
        ("colour_range", pa.int32()),
        ("source", ORIGIN_TYPE),
        ("location", ORIGIN_TYPE),
    ]
)


def media_to_row(media: Media) -> dict[str, object]:
    """Write a row of `MEDIA_SCHEMA`."""
    row: dict[str, object] = {name: getattr(media, name) for name in MEDIA_SCHEMA.names}
    return row | {"source": origin_to_row(media.source), "location": origin_to_row(media.location)}


def media_from_row(row: dict[str, Any]) -> Media:
    """Read a row of `MEDIA_SCHEMA`."""
    fields = {name: row[name] for name in MEDIA_SCHEMA.names if name != "key"}
    for name in ("source", "location"):
        fields[name] = fields[name] and Origin(**fields[name])
    return Media(**fields)
