"""The whole recipe on one dataset: a language model, a vision encoder, then a Flamingo that joins them.

    dataset, steps → learn → OUT/lm, OUT/contrastive, OUT/flamingo: a run each, the last one's folder

Each stage is a `flamingo train` of its own, with settings in a file that stays; one that is done is not done again. The
first two need nothing of each other and run at the same time; the last runs on two ranks. Sizes are those of the preset
`tiny`: its layers are too small for several threads, or for a GPU, so each process has one thread of a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click
import tomli_w

from pipeline.folder import UserError

LM, CONTRASTIVE, FLAMINGO = "lm", "contrastive", "flamingo"
A_MINUTE = {LM: 120, CONTRASTIVE: 50, FLAMINGO: 120}
"""Updates of each stage that take about a minute on two cores."""
A_LESSON = {LM: 900, CONTRASTIVE: 600, FLAMINGO: 2000}
"""Updates that teach what thousands of pages of the demo's world show."""
VOCABULARY = 2048


def recipe(out: Path, dataset: str, steps: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Give the settings of each stage, by its objective."""
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
            "train": {"lr": 1.5e-3, "gate_lr": 10.0, "warmup_steps": 50, "blind_every": 100},
        },
    }
    for objective, run in settings.items():
        run["train"] |= {**train, "out": str(out / objective), "steps": steps[objective]}
    return settings


def learn(out: Path, dataset: str, steps: Mapping[str, int]) -> Path:
    """Run the stages that are not done, and show what they say; gives the folder of the last one."""
    out.mkdir(parents=True, exist_ok=True)
    for objective, run in recipe(out, dataset, steps).items():
        (out / f"{objective}.toml").write_text(tomli_w.dumps(run), "utf-8")
    for stages in ((LM, CONTRASTIVE), (FLAMINGO,)):
        todo = [stage for stage in stages if not (out / stage / f"step-{steps[stage]:06d}").exists()]
        run_side_by_side(out, todo)
    return out / FLAMINGO


def run_side_by_side(out: Path, stages: list[str]) -> None:
    """Train stages at the same time; where one fails, all end with a `UserError`."""
    with ExitStack() as stack:
        running = {stage: stack.enter_context(start(out, stage)) for stage in stages}
        for process in running.values():
            stack.callback(process.terminate)  # of no effect on one that has ended; another writes a checkpoint first
        showing = [threading.Thread(target=show, args=(stage, one.stdout)) for stage, one in running.items()]
        for thread in showing:
            thread.start()
        for thread in showing:
            thread.join()  # a stage that fails early is seen when the others end
        failed = [stage for stage, process in running.items() if process.wait()]
    if failed:
        raise UserError(f"training stopped: {' and '.join(failed)}; the lines above say why")


def start(out: Path, stage: str) -> subprocess.Popen[str]:
    """Start one stage, or go on with it."""
    run = ["-m", "pipeline.cli", "train", str(out / f"{stage}.toml"), "--objective", stage, "--resume"]
    if stage == FLAMINGO:
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *run]
        run += ["--set", "train.parallel='ddp'"]
    click.echo(f"$ python {' '.join(run)}")
    return subprocess.Popen(
        [sys.executable, *run],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def show(stage: str, lines: IO[str] | None) -> None:
    """Show the lines of a stage, each with its name before it."""
    for line in lines or ():
        click.echo(f"{stage:>11} | {line}", nl=False)
