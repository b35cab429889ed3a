"""The whole recipe on one dataset: a language model, a vision encoder, then a Flamingo that joins them.

    dataset, steps → learn → OUT/lm, OUT/contrastive, OUT/flamingo: a run each, the last one's folder

Each stage is a `flamingo train` of its own, with settings in a file that stays; one that is done is not done again.
Sizes are those of the preset `tiny`: its layers are too small for several threads, or for a GPU, so a stage runs on two
ranks, each with one thread of a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import tomli_w

from pipeline.folder import UserError

LM, CONTRASTIVE, FLAMINGO = "lm", "contrastive", "flamingo"
A_MINUTE = {LM: 120, CONTRASTIVE: 50, FLAMINGO: 120}
"""Updates of each stage that take about a minute on two cores."""
A_LESSON = {LM: 900, CONTRASTIVE: 450, FLAMINGO: 2200}
"""Updates that teach what thousands of pages of the demo's world show."""
VOCABULARY = 2048
RANKS = 2
LAUNCHER = "torch/distributed/elastic"
"""What torch's launcher begins with when a rank has failed, which has said why before: a page of tracebacks follows."""


def recipe(out: Path, dataset: str, steps: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Give the settings of each stage, by its objective; batches are those of all ranks."""
    pages = {"kind": "interleaved", "shards": [dataset], "batch": 8, "tokens": 128, "weight": 0.5}
    pairs = {"kind": "pairs", "shards": [dataset], "batch": 64, "tokens": 24, "weight": 1.0}
    videos = {"kind": "videos", "shards": [dataset], "batch": 2, "tokens": 32, "frames": 4, "weight": 0.1}
    data = {"image_px": 64, "mean": "imagenet", "threads": 1}
    model = {"preset": "tiny"}
    learnt = {
        "lm": {"weights": str(out / LM / "lm")},
        "vision": {"weights": str(out / CONTRASTIVE / "vision.safetensors")},
    }
    train = {"device": "cpu", "dtype": "fp32", "schedule": "cosine", "log_every": 25, "save_every": 100}
    settings: dict[str, dict[str, Any]] = {
        LM: {
            "model": model,
            "data": {**data, "datasets": {"pages": pages, "pairs": {**pairs, "batch": 32}}},
            "train": {"train_tokenizer": VOCABULARY, "lr": 4e-3, "warmup_steps": 30},
        },
        CONTRASTIVE: {
            "model": model,
            "data": {**data, "datasets": {"pairs": {**pairs, "batch": 96}}},
            "train": {"train_tokenizer": VOCABULARY, "lr": 2e-3, "warmup_steps": 50},
        },
        FLAMINGO: {
            "model": {**model, **learnt},
            "data": {
                **data,
                "tokenizer": str(out / LM / "tokenizer"),
                "datasets": {"pairs": pairs, "pages": {**pages, "batch": 2, "tokens": 96}, "videos": videos},
            },
            "train": {"lr": 1.5e-3, "gate_lr": 10.0, "warmup_steps": 50, "blind_every": 100, "feature_cache_gb": 2.0},
        },
    }
    for objective, run in settings.items():
        run["train"] |= {**train, "out": str(out / objective), "steps": steps[objective]}
    return settings


def learn(out: Path, dataset: str, steps: Mapping[str, int]) -> Path:
    """Run the stages that are not done, one after the other, and show what they say; gives the last one's folder.

    Raises `UserError` where one fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    for stage, run in recipe(out, dataset, steps).items():
        (out / f"{stage}.toml").write_text(tomli_w.dumps(run), "utf-8")
        if not (out / stage / f"step-{steps[stage]:06d}").exists():
            train(out, stage)
    return out / FLAMINGO


def train(out: Path, stage: str) -> None:
    """Run a stage, each line that it says with its name before it; when it is interrupted it writes a checkpoint."""
    with start(out, stage) as process:
        over = False
        try:
            for line in process.stdout or ():
                over = over or LAUNCHER in line
                if not over:
                    click.echo(f"{stage:>11} | {line}", nl=False)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise UserError(f"training stopped: {stage}; the lines above say why")


def start(out: Path, stage: str) -> subprocess.Popen[str]:
    """Start a stage, or go on with it."""
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", "-m", "pipeline.cli", "train"]
    run += [str(out / f"{stage}.toml"), "--objective", stage, "--resume", "--set", "train.parallel='ddp'"]
    click.echo(f"$ python {' '.join(run)}")
    return subprocess.Popen(
        [sys.executable, *run],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
