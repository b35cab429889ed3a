"""What a run tells: a line for a person every so many steps, JSONL always, TensorBoard or W&B on request.

Step (counts, losses, times of one update) → Log.add → at every `log_every`-th step a line and a record
"""

from __future__ import annotations

import importlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from flamingo_model.train_config import TrainConfig
from schemas.config import ConfigError

Tell = Callable[[str], None]
LOG_FILE = "log.jsonl"
WANDB = "wandb"
"""A package that only those need who ask for it."""
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""The unit of the largest resident memory that the system tells."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one update was, over all ranks; `losses` are means over the targets of each dataset that had any."""

    number: int
    losses: Mapping[str, float]
    lr: float
    norm: float
    tokens: int
    media: int
    flops: float
    wait_s: float
    blind: Mapping[str, float] | None = None
    gates: Mapping[str, float] | None = None


class Log:
    """Writes the log of a run; on ranks other than the first it is not used."""

    def __init__(self, out: Path, train: TrainConfig, peak_flops: float, tell: Tell) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.train, self.peak_flops, self.tell = train, peak_flops, tell
        self.scalars = open_scalars(out, train)
        self.stream: TextIO = (out / LOG_FILE).open("a", encoding="utf-8")
        self.steps: list[Step] = []
        self.begun = time.monotonic()

    def close(self) -> None:
        """Close the file and what else was written to."""
        self.stream.close()
        for write in self.scalars:
            write(None, {})

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Write one line of JSON, and its numbers as scalars; what is not finite is written as null."""
        finite = finite_only(values)
        self.stream.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        self.stream.flush()
        flat = {f"{kind}/{name}": value for name, value in flatten(finite) if isinstance(value, int | float)}
        for write in self.scalars:
            write(step, flat)

    def add(self, step: Step) -> None:
        """Take in an update, and write about those since the last line where one is due."""
        self.steps.append(step)
        done = step.number
        if not is_told(done, self.train):
            return
        took_s = max(time.monotonic() - self.begun, 1e-9)
        told = self.summary(took_s)
        self.record("train", done, **told, gates=dict(step.gates or {}))
        self.tell(line(told, done, self.train.steps))
        self.steps, self.begun = [], time.monotonic()

    def summary(self, took_s: float) -> dict[str, Any]:
        """Sum up the updates since the last line."""
        steps = self.steps
        names = dict.fromkeys(name for step in steps for name in step.losses)
        means = {name: [step.losses[name] for step in steps if name in step.losses] for name in names}
        return {
            "loss": {name: sum(values) / len(values) for name, values in means.items()},
            "blind": steps[-1].blind and dict(steps[-1].blind),
            "looked": steps[-1].blind and {name: steps[-1].losses[name] for name in steps[-1].blind},
            "lr": steps[-1].lr,
            "norm": steps[-1].norm,
            "tokens_per_s": sum(step.tokens for step in steps) / took_s,
            "images_per_s": sum(step.media for step in steps) / took_s,
            "mfu": sum(step.flops for step in steps) / took_s / self.peak_flops if self.peak_flops else None,
            "wait": sum(step.wait_s for step in steps) / took_s,
            "memory_gb": memory_bytes() / 1e9,
            "step_s": took_s / len(steps),
            "left_s": took_s / len(steps) * (self.train.steps - steps[-1].number),
        }

    def validated(self, step: int, losses: Mapping[str, float]) -> None:
        """Write the losses on other data; the time that it took is not counted into the next line."""
        self.record("val", step, loss=dict(losses))
        self.tell(f"step {step:,} | val {' '.join(f'{name} {value:.4f}' for name, value in losses.items())}")
        if not self.steps:
            self.begun = time.monotonic()


def is_told(step: int, train: TrainConfig) -> bool:
    """Tell whether the log has a line at a step."""
    blind = bool(train.blind_every) and step % train.blind_every == 0
    return step % train.log_every == 0 or step == train.steps or blind


def line(told: Mapping[str, Any], step: int, steps: int) -> str:
    """Write the line of some updates."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in told["loss"].items())
    blind = ""
    if told["blind"]:
        gains = (f"{name} {value - told['looked'][name]:+.4f}" for name, value in told["blind"].items())
        blind = f" | blind {' '.join(gains)}"
    mfu = f" | MFU {told['mfu']:.1%}" if told["mfu"] is not None else ""
    return (
        f"step {step:,}/{steps:,} | loss {losses}{blind} | lr {told['lr']:.2e} | norm {told['norm']:.3f}"
        f" | {told['tokens_per_s']:,.0f} tokens/s {told['images_per_s']:,.1f} images/s{mfu}"
        f" | wait {told['wait']:.1%} | {told['memory_gb']:.2f} GB | {duration(told['left_s'])} left"
    )


def duration(seconds: float) -> str:
    """Write a time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def memory_bytes() -> int:
    """Give the most memory used so far: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


def finite_only(value: Any) -> Any:
    """Replace what JSON cannot write as a number."""
    if isinstance(value, Mapping):
        return {name: finite_only(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flatten(values: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """List nested values by their whole names."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [(prefix + name, value)]
    return rows


Write = Callable[[int | None, Mapping[str, float]], None]
"""Takes a step's scalars; None in place of the step closes it."""


def open_scalars(out: Path, train: TrainConfig) -> list[Write]:
    """Open what else the settings ask for; `ConfigError` where its package is missing."""
    found = []
    if train.tensorboard:
        found.append(open_tensorboard(out))
    if train.wandb:
        found.append(open_wandb(out, train.wandb))
    return found


def open_tensorboard(out: Path) -> Write:
    """Write scalars for TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("train.tensorboard needs its package: pip install tensorboard") from None
    writer = SummaryWriter(str(out))

    def write(step: int | None, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        if step is None:
            writer.close()

    return write


def open_wandb(out: Path, project: str) -> Write:
    """Send scalars to Weights & Biases."""
    try:
        wandb = importlib.import_module(WANDB)
    except ImportError:
        raise ConfigError(f"train.wandb needs its package: pip install {WANDB}") from None
    sent = wandb.init(project=project, dir=str(out), resume="allow", name=out.name)

    def write(step: int | None, values: Mapping[str, float]) -> None:
        if step is None:
            sent.finish()
        else:
            sent.log(dict(values), step=step)

    return write
