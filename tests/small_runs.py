"""Training runs of the tests: tiny models on small shards, in seconds."""

import json
from pathlib import Path

import tomli_w
from shards_written import write_shards

from flamingo_model.train import train
from flamingo_model.train_config import run_config

TINY = {
    "preset": "tiny",
    "vision": {"image_px": 32},
    "resampler": {"layers": 1, "width": 32, "heads": 2, "head_width": 16, "latents": 4},
    "xattn": {"heads": 2, "head_width": 16},
    "lm": {"layers": 2, "width": 32, "heads": 2, "vocab": 272, "tokens": 128},
}
"""A Flamingo of 0.5 M weights, nearly all of them the vision encoder's."""


def shards(folder):
    """Write the shards of all kinds once, and give their names by kind."""
    kinds = ("interleaved", "pairs", "videos")
    return {kind: [*write_shards(Path(folder, kind), kind, 24, per_shard=12)] for kind in kinds}


def data(written, *kinds, **settings):
    """Give the `[data]` of a run over some kinds of shards."""
    rows = {"interleaved": 2, "pairs": 4, "videos": 2}
    datasets = {
        kind: {
            "kind": kind,
            "shards": written[kind],
            "batch": rows[kind],
            "tokens": 64 if kind == "interleaved" else 32,
        }
        | ({"frames": 2} if kind == "videos" else {})
        for kind in kinds or rows
    }
    given = {"image_px": 32, "mean": "imagenet", "threads": 1, "shuffle_samples": 16, "lanes": 2, **settings}
    return {**given, "datasets": datasets}


def tree(written, out, *kinds, model=None, **train_settings):
    """Give the settings of a run in float32 on the CPU."""
    given = {"out": str(out), "device": "cpu", "dtype": "fp32", "lr": 0.01, "warmup_steps": 2, "log_every": 1}
    given |= {"save_every": 100, "blind_every": 0, "val_every": 0, **train_settings}
    return {"model": {**TINY, **(model or {})}, "data": data(written, *kinds), "train": given}


def write(settings, path):
    """Write settings as TOML; gives the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(settings))
    return str(path)


def run(settings, objective="flamingo", **given):
    """Train; gives the lines that were told."""
    lines = []
    path = write(settings, Path(settings["train"]["out"]).with_suffix(".toml"))
    train(path, objective, tell=lines.append, **given)
    return lines


def records(out, kind="train"):
    """Read the log of a run."""
    rows = [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def losses(out):
    """Give the losses of each step by dataset."""
    return [row["loss"] for row in records(out)]


def resolved(settings, objective="flamingo"):
    """Give settings as the run has them."""
    return run_config(settings, "test", objective)
