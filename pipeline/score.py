"""Scores of pictures: stored pictures × models → a score for each, and the thresholds that are applied to them.

score   stored pictures, by SHA-256: decode once, score in batches → a row for each URL and model

A picture is scored once, however many URLs and pages show it. Thresholds are applied where pictures are judged
(`place`, `pair`), so that another threshold scores nothing anew; another model file does.

Beam has RunInference for this. What it does is done here too: pictures go through the model in batches, and the model
is loaded once a process (`hold_models`). But its BatchElements fits the size of batches to the time they take, so that
the last digits of a score would depend on the machine; a stage of units reads the same pictures in the same order, in
batches that the settings and pixels alone decide, and resumes after each unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.folder import OpenFiles
from pipeline.picture_models import Model, OnnxRows, load_rows, parse_model, stamp_of
from pipeline.report import refused
from pipeline.stage import Inputs, Output, Unit
from pipeline.stored_pictures import Shown, batches, decoded
from pipeline.tables import Table
from schemas.media import Score
from schemas.page import Refusal

Scorer = Callable[[list[Image.Image]], list[float | None]]
"""Gives a score for each picture, or `None` for one that cannot be scored."""
SCORE = "score"
COUNTED = "picture score"
SCORE_ABOVE, SCORE_BELOW, NOT_SCORED = "score_above", "score_below", "not_scored"
SCORES = Table(
    "work/scores",
    pa.schema([("key", pa.string()), ("url", pa.string()), ("model", pa.string()), ("score", pa.float64())]),
)
"""What a model gave the picture at `url`; null where it could not score it."""


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """Which models score the pictures, and which scores leave a picture out."""

    models: tuple[str, ...] = ()
    """NAME=FILE.onnx (with FILE.onnx.toml beside it), NAME=module:function or NAME=FILE.py:function. A function is
    given a list of Pillow pictures (RGB) and gives a number for each, or None."""
    drop_above: tuple[str, ...] = ()
    """NAME=VALUE, such as nsfw=0.7: pictures with a higher score are left out, and those without a score."""
    drop_below: tuple[str, ...] = ()
    """NAME=VALUE, such as aesthetic=4.5: pictures with a lower score are left out, and those without a score."""
    batch: int = 16
    """Pictures that a model is given at once, at most; large ones are fewer."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """Execution providers of ONNX Runtime; the first one that is there is taken."""

    def __post_init__(self) -> None:
        names = [parse_model(text).name for text in self.models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two models are called {twice[0]}")
        for setting, given in (("drop_above", self.drop_above), ("drop_below", self.drop_below)):
            limited = [parse_limit(setting, text, names)[0] for text in given]
            if twice := [name for name in limited if limited.count(name) > 1]:
                raise ValueError(f"{setting} has two values for {twice[0]}")
        if self.batch < 1:
            raise ValueError("batch is 1 or more")


def parse_limit(setting: str, text: str, names: Sequence[str]) -> tuple[str, float]:
    """Read `NAME=VALUE` for one of the models; anything else is a `ValueError`."""
    name, _, number = text.partition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"{setting} is NAME=VALUE, such as nsfw=0.7, not {text!r}")
    if name not in names:
        raise ValueError(f"{setting} names {name}, and the models are {', '.join(names) or 'none'}")
    return name, limit


# Models of the settings


@dataclass(frozen=True, slots=True)
class Scorers:
    """What decides scores: the models with their stamps, and how they are run."""

    models: tuple[str, ...]
    batch: int
    providers: tuple[str, ...]


def stamped_models(config: ScoreConfig) -> Scorers:
    """Name each model with a stamp that changes when its content does."""
    stamped = tuple(f"{text} {stamp}" for text, (_, stamp) in zip(config.models, stamps(config), strict=True))
    return Scorers(stamped, config.batch, config.providers)


def stamps(config: ScoreConfig) -> tuple[tuple[Model, str], ...]:
    """Give each model and its stamp."""
    models = [parse_model(text) for text in config.models]
    return tuple((model, stamp_of(model)) for model in models)


def hold(config: ScoreConfig) -> dict[str, Scorer]:
    """Give the models of a run by name, loaded once a process; one that cannot be used is a `UserError`."""
    return hold_models(stamps(config), config.providers) if config.models else {}


@lru_cache(maxsize=1)
def hold_models(models: tuple[tuple[Model, str], ...], providers: tuple[str, ...]) -> dict[str, Scorer]:
    """Load models once a process, by name; another stamp loads them anew."""
    return {model.name: load_scorer(model, providers) for model, _ in models}


def load_scorer(model: Model, providers: Sequence[str]) -> Scorer:
    """Load a model; what is wrong with it is a `UserError`."""
    rows = load_rows(model, providers)

    def score(pictures: list[Image.Image]) -> list[float | None]:
        given = onnx_scores(rows, pictures) if isinstance(rows, OnnxRows) else rows(pictures)
        return check_scores(model, given, len(pictures))

    if isinstance(rows, OnnxRows):
        score([Image.new("RGB", (8, 8))])  # a wrong index is told before the work
    return score


def onnx_scores(model: OnnxRows, pictures: list[Image.Image]) -> Sequence[Any]:
    """Give the value that is the score of each picture."""
    values, settings = model(pictures), model.settings
    if settings.index >= values.shape[1]:
        raise refused(f"{model.where}: value {settings.index} of {values.shape[1]} a picture")
    if settings.softmax:
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    scores: list[Any] = values[:, settings.index].tolist()
    return scores


def check_scores(model: Model, scores: Sequence[Any], wanted: int) -> list[float | None]:
    """Insist on a finite number, or `None`, for each picture."""
    if len(scores) != wanted:
        raise refused(f"{model.where}: gave {len(scores)} scores for {wanted} pictures")
    for score in scores:
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float | np.number)):
            raise refused(f"{model.where}: gave {score!r:.60}, which is no number")
        if score is not None and not math.isfinite(score):
            raise refused(f"{model.where}: gave {score} for a picture; a score is a finite number or None")
    return [None if score is None else float(score) for score in scores]


def files_of(config: ScoreConfig) -> list[str]:
    """List the files of the models."""
    return [model.place for model in map(parse_model, config.models) if model.is_file]


# Thresholds


def judge_scores(rows: Iterable[Mapping[str, Any]], config: ScoreConfig) -> Refusal | None:
    """Judge a picture by its rows of `SCORES`; `None` keeps it. A missing score refuses it where a threshold asks."""
    given = {row["model"]: row["score"] for row in rows}
    names = [parse_model(text).name for text in config.models]
    above = [parse_limit("drop_above", text, names) for text in config.drop_above]
    below = [parse_limit("drop_below", text, names) for text in config.drop_below]
    for name, _ in (*above, *below):
        if given.get(name) is None:
            return Refusal(NOT_SCORED, name)
    for name, limit in above:
        if given[name] > limit:
            return Refusal(SCORE_ABOVE, f"{name} {given[name]:.6g} > {limit:g}")
    for name, limit in below:
        if given[name] < limit:
            return Refusal(SCORE_BELOW, f"{name} {given[name]:.6g} < {limit:g}")
    return None


def scores_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Score, ...]:
    """Give the scores of a picture from its rows of `SCORES`, by model."""
    return tuple(sorted(Score(row["model"], row["score"]) for row in rows if row["score"] is not None))


# Stages


def score_pictures(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Score the pictures of a range of hashes."""
    config = output.job.config.scores
    models = hold(config)
    with OpenFiles() as files:
        for batch in batches(decoded(inputs, files, output), config.batch):
            pictures = [picture for _, picture in batch if picture is not None]
            given = {name: iter(model(pictures) if pictures else ()) for name, model in models.items()}
            for shown, picture in batch:
                for name in models:
                    score = next(given[name]) if picture is not None else None
                    write_score(name, score, shown, output)


def write_score(name: str, score: float | None, shown: Shown, output: Output) -> None:
    """Write the score of a picture for each of its URLs; the picture is counted once."""
    for row in shown:
        output.write(SCORES, {"key": row["media"], "url": row["url"], "model": name, "score": score})
    counts: Counter[tuple[str, str, str]] = output.counts
    counts[SCORE, COUNTED, "" if score is not None else f"{NOT_SCORED}: {name}"] += 1
