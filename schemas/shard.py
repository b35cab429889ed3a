"""A set of shards: its names, its index (a row per sample) and its manifest.

In a dataset: KIND/shard-000000.tar ...   KIND/index.parquet   KIND/manifest.json   (interleaved, pairs, videos)
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas import SCHEMA_VERSION
from schemas.media import SCORES_TYPE
from schemas.page import TIME_TYPE

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("canonical", pa.string()),
        ("title", pa.string()),
        ("language", pa.string()),
        ("published", TIME_TYPE),
        ("author", pa.string()),
        ("licence", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("texts", pa.int32()),
        ("chars", pa.int64()),
        ("words", pa.int64()),
        (
            "parts",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("offset", pa.int64()),
                        ("bytes", pa.int64()),
                        ("width_px", pa.int32()),
                        ("height_px", pa.int32()),
                        ("sha256", pa.string()),
                        ("phash", pa.string()),
                        ("url", pa.string()),
                        ("scores", SCORES_TYPE),
                    ]
                )
            ),
        ),
    ]
)
"""`offset` and `length` cover all tar members of a sample; `parts[].offset` is where an image's own bytes begin."""


PART_TYPE = pa.struct(
    [
        ("name", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
    ]
)
CAPTIONED_FIELDS = [
    ("key", pa.string()),
    ("url", pa.string()),
    ("page_url", pa.string()),
    ("text", pa.string()),
    ("text_kind", pa.string()),
    ("words", pa.int64()),
    ("chars", pa.int64()),
    ("language", pa.string()),
    ("licence", pa.string()),
    ("width_px", pa.int32()),
    ("height_px", pa.int32()),
    ("shard", pa.string()),
    ("offset", pa.int64()),
    ("length", pa.int64()),
    ("parts", pa.list_(PART_TYPE)),
]
PAIR_INDEX_SCHEMA = pa.schema(
    [*CAPTIONED_FIELDS, ("sha256", pa.string()), ("phash", pa.string()), ("scores", SCORES_TYPE)]
)
"""`sha256`, `phash` and `scores` are the picture's, `parts` has it alone; the rest is as in `INDEX_SCHEMA`."""
VIDEO_INDEX_SCHEMA = pa.schema(
    [*CAPTIONED_FIELDS, ("start_s", pa.float64()), ("end_s", pa.float64()), ("fps", pa.float64())]
)
"""`parts` are the frames of the clip, or the clip as one MP4."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard file."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """What a stage was given and what it let through; `rejected` counts by reason.

    `sizes` says how large that was, by unit (`words`, `bytes`, `images`) and reason; what was kept stands under "".
    The unit `near misses` counts by evaluation set.
    """

    stage: str
    kind: str
    seen: int
    kept: int
    rejected: dict[str, int]
    sizes: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of shards holds and how it came to be; its bytes depend on nothing else."""

    kind: str
    shards: tuple[Shard, ...]
    funnel: tuple[FunnelRow, ...]
    config: dict[str, Any]
    version: str
    schema: int = SCHEMA_VERSION


def shard_name(index: int) -> str:
    """Name a shard by its number in the plan."""
    return f"shard-{index:06d}.tar"


def index_name(kind: str) -> str:
    """Name the index of the shards of a kind in a dataset."""
    return f"{kind}/index.parquet"


def manifest_name(kind: str) -> str:
    """Name the manifest of the shards of a kind in a dataset."""
    return f"{kind}/manifest.json"


def manifest_to_json(manifest: Manifest) -> str:
    """Write a manifest for people and programs."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n"


def manifest_from_json(text: str) -> Manifest:
    """Read a manifest; another schema version is refused by name."""
    tree = json.loads(text)
    if tree.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"manifest schema {tree.get('schema')}, this version of flamingo reads {SCHEMA_VERSION}")
    return Manifest(
        kind=tree["kind"],
        shards=tuple(Shard(**shard) for shard in tree["shards"]),
        funnel=tuple(FunnelRow(**row) for row in tree["funnel"]),
        config=tree["config"],
        version=tree["version"],
    )
