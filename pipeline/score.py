"""Scores of pictures: stored pictures × models → a score for each, and the thresholds that are applied to them.

score   stored pictures, by SHA-256: decode once, score in batches → a row for each URL and model

A picture is scored once, however many URLs and pages show it. Thresholds are applied where pictures are judged
(`place`, `pair`), so that another threshold scores nothing anew; another model file does. Models of pairs are named
here, too, and run in `pair_score`.

Beam has RunInference for this. What it does is done here too: pictures go through the model in batches, and the model
is loaded once a process (`hold_models`). But its BatchElements fits the size of batches to the time they take, so that
the last digits of a score would depend on the machine; a stage of units reads the same pictures in the same order, in
batches that the settings and pixels alone decide, and resumes after each unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.folder import OpenFiles
from pipeline.picture_models import (
    Model,
    OnnxRows,
    call_function,
    load_function,
    load_rows,
    parse_model,
    parse_pair_model,
    stamp_of,
)
from pipeline.report import refused
from pipeline.stage import Inputs, Output, Unit
from pipeline.stored_pictures import Shown, batches, decoded
from pipeline.tables import Table
from schemas.media import Score
from schemas.page import Refusal

Scorer = Callable[[list[Image.Image]], list[float | None]]
"""Gives a score for each picture, or `None` for one that cannot be scored."""
PairScorer = Callable[[list[Image.Image], list[str]], list[float | None]]
"""Gives a score for each picture and its text."""
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
    """Which models score the pictures and the pairs, and which scores leave them out."""

    models: tuple[str, ...] = ()
    """NAME=FILE.onnx (with FILE.onnx.toml beside it), NAME=module:function or NAME=FILE.py:function. A function is
    given a list of Pillow pictures (RGB) and gives a number for each, or None."""
    drop_above: tuple[str, ...] = ()
    """NAME=VALUE, such as nsfw=0.7: pictures, or pairs, with a higher score are left out, and those without a score."""
    drop_below: tuple[str, ...] = ()
    """NAME=VALUE, such as clip=0.28: pictures, or pairs, with a lower score are left out, and those without a score."""
    pair_models: tuple[str, ...] = ()
    """NAME=module:function or NAME=FILE.py:function, for pairs alone: a function is given a list of Pillow pictures
    (RGB) and a list of their texts, as they are written, and gives a number for each pair, or None."""
    batch: int = 16
    """Pictures, or pairs, that a model is given at once, at most; large ones are fewer."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """Execution providers of ONNX Runtime; the first one that is there is taken."""

    def __post_init__(self) -> None:
        names = [model.name for model in (*picture_models(self), *pair_models(self))]
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


def picture_models(config: ScoreConfig) -> list[Model]:
    """Read the models that score pictures."""
    return [parse_model(text) for text in config.models]


def pair_models(config: ScoreConfig) -> list[Model]:
    """Read the models that score pairs."""
    return [parse_pair_model(text) for text in config.pair_models]


def for_pictures(config: ScoreConfig) -> ScoreConfig:
    """Give what is about pictures alone: what decides the stages that know no pairs."""
    names = {model.name for model in picture_models(config)}
    above, below = (
        tuple(text for text in given if text.partition("=")[0] in names)
        for given in (config.drop_above, config.drop_below)
    )
    return replace(config, pair_models=(), drop_above=above, drop_below=below)


# Models of the settings


@dataclass(frozen=True, slots=True)
class Scorers:
    """What decides scores: the models with their stamps, and how they are run."""

    models: tuple[str, ...]
    batch: int
    providers: tuple[str, ...]


def stamped_models(config: ScoreConfig) -> Scorers:
    """Name each model of pictures with a stamp that changes when its content does."""
    return Scorers(stamped(config.models, picture_models(config)), config.batch, config.providers)


def stamped_pair_models(config: ScoreConfig) -> Scorers:
    """Name each model of pairs with a stamp that changes when its content does."""
    return Scorers(stamped(config.pair_models, pair_models(config)), config.batch, ())


def stamped(texts: Iterable[str], models: Sequence[Model]) -> tuple[str, ...]:
    """Name models with their stamps."""
    return tuple(f"{text} {stamp}" for text, (_, stamp) in zip(texts, stamps(models), strict=True))


def stamps(models: Sequence[Model]) -> tuple[tuple[Model, str], ...]:
    """Give each model and its stamp."""
    return tuple((model, stamp_of(model)) for model in models)


def hold(config: ScoreConfig) -> dict[str, Scorer]:
    """Give the models of pictures by name, loaded once a process; one that cannot be used is a `UserError`."""
    return hold_models(stamps(picture_models(config)), config.providers) if config.models else {}


def hold_pairs(config: ScoreConfig) -> dict[str, PairScorer]:
    """Give the models of pairs by name, loaded once a process; one that cannot be used is a `UserError`."""
    return hold_pair_models(stamps(pair_models(config))) if config.pair_models else {}


def check_models(config: ScoreConfig) -> None:
    """Refuse models that cannot be used, before work is done."""
    hold(config)
    hold_pairs(config)


@lru_cache(maxsize=1)
def hold_pair_models(models: tuple[tuple[Model, str], ...]) -> dict[str, PairScorer]:
    """Load models of pairs once a process, by name; another stamp loads them anew."""
    return {model.name: load_pair_scorer(model) for model, _ in models}


def load_pair_scorer(model: Model) -> PairScorer:
    """Load a model of pairs; what is wrong with it is a `UserError`."""
    function = load_function(model)

    def score(pictures: list[Image.Image], texts: list[str]) -> list[float | None]:
        return check_scores(model, call_function(model, function, pictures, list(texts)), len(pictures))

    return score


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
    return [model.place for model in (*picture_models(config), *pair_models(config)) if model.is_file]


# Thresholds


def judge_scores(rows: Iterable[Mapping[str, Any]], config: ScoreConfig) -> Refusal | None:
    """Judge a picture by its rows of `SCORES`; `None` keeps it. A missing score refuses it where a threshold asks."""
    return judge_limits({row["model"]: row["score"] for row in rows}, picture_models(config), config)


def judge_limits(given: Mapping[str, float | None], models: Sequence[Model], config: ScoreConfig) -> Refusal | None:
    """Judge scores, by model, by the thresholds of some models; `None` keeps what has them."""
    names = {model.name for model in models}
    above, below = (
        [(name, float(limit)) for name, _, limit in (text.partition("=") for text in texts) if name in names]
        for texts in (config.drop_above, config.drop_below)
    )
    scores: dict[str, float] = {}
    for name, _ in (*above, *below):
        if (score := given.get(name)) is None:
            return Refusal(NOT_SCORED, name)
        scores[name] = score
    for name, limit in above:
        if scores[name] > limit:
            return Refusal(SCORE_ABOVE, f"{name} {scores[name]:.6g} > {limit:g}")
    for name, limit in below:
        if scores[name] < limit:
            return Refusal(SCORE_BELOW, f"{name} {scores[name]:.6g} < {limit:g}")
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
