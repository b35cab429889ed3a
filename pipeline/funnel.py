"""The funnel: what the units counted → what went into every stage and what came out, in the order of the data."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.embed import COUNTED as EMBEDDED
from pipeline.pair_score import COUNTED as PAIR_SCORED
from pipeline.plan import Totals
from pipeline.privacy import COUNTED as MASKED_AS
from pipeline.score import COUNTED as SCORED
from schemas.pair import IMAGE_TEXT
from schemas.sample import INTERLEAVED
from schemas.shard import FunnelRow
from schemas.video import VIDEO_TEXT

FUNNEL = {
    "": (
        *("list", "settle", "read", "extract", "refer", "locate", "normalise"),
        *("score", "embed", "evaluation", "locate_videos", "decode_videos"),
    ),
    INTERLEAVED: ("filter_images", "filter_texts", "select", "mask", "shard"),
    IMAGE_TEXT: ("pair", "pair_mask", "pair_score", "pair_judge", "pair_shard"),
    VIDEO_TEXT: ("clip", "video_mask", "video_shard"),
}
"""The stages of the funnel: those that all kinds of shards share, and those of each kind."""
STAGES = tuple(stage for stages in FUNNEL.values() for stage in stages)
KINDS = (
    *("record", "page", "paragraph", "image url", "image", "video", "track", "clip"),
    *(SCORED, EMBEDDED, PAIR_SCORED),
    *MASKED_AS.values(),
)
"""What is counted in the funnel; other counts are sizes."""
NEAR_MISSES = "near misses"
UNITS = ("images", "words", "bytes", NEAR_MISSES)
"""What sizes are counted in, as `KIND UNIT`."""


def funnel(totals: Totals, kinds_of_shards: Iterable[str] = FUNNEL) -> tuple[FunnelRow, ...]:
    """Tell what went into every stage of these kinds of shards and what came out, in the order of the data."""
    shown = {stage for kind in ("", *kinds_of_shards) for stage in FUNNEL[kind]}
    rows = []
    for stage, kind in sorted({key[:2] for key in totals.counts}, key=lambda k: (STAGES.index(k[0]), k[1])):
        if kind in KINDS and stage in shown:
            reasons = counted(totals, stage, kind)
            kept = reasons.pop("", 0)
            sizes = {unit: counted(totals, stage, f"{kind} {unit}") for unit in UNITS}
            known = {unit: found for unit, found in sizes.items() if found}
            rows.append(FunnelRow(stage, kind, kept + sum(reasons.values()), kept, reasons, known))
    return tuple(rows)


def counted(totals: Totals, stage: str, kind: str) -> dict[str, int]:
    """Give the counts of a kind in a stage by reason, in the order of their names."""
    return {reason: n for (s, k, reason), n in sorted(totals.counts.items()) if (s, k) == (stage, kind)}
