"""Scores of pairs: chosen pictures and texts × models → a score for each, and the thresholds that are applied to them.

pair_score   chosen pairs, by picture: decode, score in batches with the texts → a row for each pair and model
pair_judge   chosen pairs × scores → the pairs that the thresholds of all models keep, and why the others are dropped

The text that is scored is the one that is written, masked where masking is on. With models of pairs `pair` leaves all
thresholds to `pair_judge`, so that another threshold, of a picture or a pair, scores nothing anew. Without them there
is neither stage, and `pair` writes the pairs itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.fetch import by_key
from pipeline.folder import OpenFiles
from pipeline.plan import Totals, by_shard
from pipeline.score import (
    NOT_SCORED,
    SCORES,
    hold_pairs,
    judge_limits,
    pair_models,
    picture_models,
    scores_of,
)
from pipeline.stage import Inputs, Job, Output, Unit
from pipeline.stored_pictures import Shown, batches, decode_stored
from pipeline.tables import PAIRS, Table
from schemas.media import read_scores, score_rows
from schemas.page import Rejected

PAIR, PAIR_SCORE, PAIR_JUDGE = "pair", "pair_score", "pair_judge"
COUNTED = "pair score"
CHOSEN = Table("work/chosen", PAIRS.schema.append(pa.field("bytes", pa.int64())))
"""A picture with the text that was chosen, to be scored: a row of `PAIRS`, and the bytes of the stored picture."""
TO_SCORE = Table(
    CHOSEN.directory, pa.schema([CHOSEN.schema.field(name) for name in ("key", "url", "text", "location")])
)
"""What of these a model is given."""
PAIR_SCORES = Table("work/pair_scores", SCORES.schema)
"""What a model gave the pair of the picture at `url`; null where it could not score it."""


def score_pairs(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Score the chosen pairs of a range of pictures."""
    config = output.job.config.scores
    models = hold_pairs(config)
    with OpenFiles() as files:
        for batch in batches(decoded_pairs(inputs, files, output), config.batch):
            shown = [(row, picture) for (row,), picture in batch if picture is not None]
            pictures, texts = [picture for _, picture in shown], [str(row["text"]) for row, _ in shown]
            given = {name: iter(model(pictures, texts) if shown else ()) for name, model in models.items()}
            for (row,), picture in batch:
                for name in models:
                    score = next(given[name]) if picture is not None else None
                    output.write(PAIR_SCORES, {"key": row["key"], "url": row["url"], "model": name, "score": score})
                    output.counts[PAIR_SCORE, COUNTED, "" if score is not None else f"{NOT_SCORED}: {name}"] += 1


def decoded_pairs(inputs: Inputs, files: OpenFiles, output: Output) -> Iterator[tuple[Shown, Image.Image | None]]:
    """Yield each chosen pair of a range with its picture; `None` where that cannot be had."""
    for number, row in enumerate(inputs[TO_SCORE.directory]):
        set_aside = output.begin(number) is not None
        yield [row], None if set_aside else decode_stored(row["location"], files, output.folder)


def judge_pairs(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the chosen pairs of a range that the thresholds keep, with the scores of picture and pair."""
    config = output.job.config.scores
    models = [*picture_models(config), *pair_models(config)]
    for number, ((row,), found) in enumerate(by_key(inputs, CHOSEN.directory, PAIR_SCORES.directory)):
        output.begin(number)
        scores = (*read_scores(row["scores"]), *scores_of(found))
        refusal = judge_limits({one.model: one.score for one in scores}, models, config)
        size, words = row["bytes"], len(row["text"].split())
        if refusal is not None:
            refused = Rejected(PAIR_JUDGE, refusal.reason, "image", row["url"], row["page_url"], refusal.detail)
            output.reject(refused, bytes=size, words=words)
        else:
            output.keep(PAIR_JUDGE, "image", bytes=size, words=words)
            pair = {name: row[name] for name in PAIRS.schema.names} | {"scores": score_rows(sorted(scores))}
            output.write(PAIRS, pair, pair_size(row))


def pair_size(row: Mapping[str, Any]) -> int:
    """Estimate the bytes of a pair's row."""
    return 1024 + sum(len(text["text"]) for text in row["texts"])


def plan_pair_shards(totals: Totals, job: Job) -> Sequence[Any]:
    """Plan the shards of pairs, by what the last stage kept that judges them."""
    judged = PAIR_JUDGE if job.config.scores.pair_models else PAIR
    return by_shard(PAIRS, judged, "image", "image bytes")(totals, job)
