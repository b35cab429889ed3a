"""A model made ready for training: types of its weights, checkpoints of activations, compiled blocks, its sizes.

objective, TrainConfig → prepare → the same objective on its device
objective → size_lines → what `--dry-run` prints
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from flamingo_model.objectives import Objective
from flamingo_model.train_config import RunConfig, TrainConfig

SAVED_PER_TOKEN = 34
"""Activations that a block keeps for the backward pass, in widths of it per token (of two bytes in bf16): estimate."""


def prepare(objective: Objective, train: TrainConfig, dtype: torch.dtype, device: torch.device) -> None:
    """Set the types of the weights, move them, and change the blocks as the settings say.

    Trainable weights are float32, frozen ones `dtype` (SPEC-flamingo, Training). Buffers keep their type.
    """
    assert isinstance(objective, nn.Module)
    cast(objective, dtype)
    if train.parallel != "fsdp":  # which takes to the device what is a rank's own
        objective.to(device)
    if train.checkpoint_activations:
        objective.checkpoint_activations()
    if train.compile:
        objective.compile_blocks()


def dtype_of(train: TrainConfig, device: torch.device) -> torch.dtype:
    """Tell what activations and frozen weights are computed with."""
    half = train.dtype == "bf16" or (train.dtype == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


@torch.no_grad()
def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Store frozen weights as `dtype` and those that learn as float32."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)


def sizes(objective: Objective) -> dict[str, tuple[int, int]]:
    """Count the weights of each part: all, and those that learn."""
    return {
        name: (
            sum(parameter.numel() for parameter in part.parameters()),
            sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad),
        )
        for name, part in objective.parts().items()
    }


def size_lines(objective: Objective, run: RunConfig, ranks: int) -> Iterator[str]:
    """Say how large the model and a step are, and about how much memory they take."""
    counted = sizes(objective)
    yield f"{'part':12} {'weights':>16} {'of them learn':>16}"
    for name, (whole, learning) in counted.items():
        yield f"{name:12} {whole:16,} {learning:16,}"
    whole, learning = (sum(row[place] for row in counted.values()) for place in (0, 1))
    yield f"{'all':12} {whole:16,} {learning:16,}"
    rows = tokens_of(run)
    told = ", ".join(f"{name} {batch:,} x {length:,}" for name, (batch, length) in rows.items())
    tokens = sum(batch * length for batch, length in rows.values())
    yield f"a step       {tokens:,} tokens at most ({told}), {ranks} rank(s)"
    yield f"steps        {run.train.steps:,}"
    weights, activations = memory_bytes(whole, learning, objective, run, ranks)
    yield (
        f"memory       about {weights / 1e9:.2f} GB of weights, gradients and moments a rank, and "
        f"{activations / 1e9:.2f} GB of activations"
    )


def tokens_of(run: RunConfig) -> Mapping[str, tuple[int, int]]:
    """Give the rows of each batch of a step and their length."""
    data = run.data
    if data.mix == "mixed":
        return {"mixed": (data.batch, data.tokens)}
    return {name: (dataset.batch, dataset.tokens) for name, dataset in data.datasets.items()}


def memory_bytes(whole: int, learning: int, objective: Objective, run: RunConfig, ranks: int) -> tuple[float, float]:
    """Estimate the memory of a rank: weights, gradients and two moments; and activations, of text alone."""
    kind = (
        "cuda" if run.train.device != "cpu" and torch.cuda.is_available() else run.train.device.replace("auto", "cpu")
    )
    width = dtype_of(run.train, torch.device(kind)).itemsize
    share = ranks if run.train.parallel == "fsdp" else 1
    weights = ((whole - learning) * width + learning * 16) / share
    rows = tokens_of(run)
    tokens = sum(batch * length for batch, length in rows.values()) / ranks
    if run.train.micro_rows:
        tokens = min(tokens, run.train.micro_rows * max(length for _, length in rows.values()))
    kept = 1 if run.train.checkpoint_activations else SAVED_PER_TOKEN
    return weights, tokens * kept * width * sum(width_of(block) for block in objective.blocks())


def width_of(block: nn.Module) -> int:
    """Give the width of a block: that of its norms, which are its shortest vectors."""
    sizes = [parameter.numel() for parameter in block.parameters() if parameter.dim() == 1 and parameter.numel() > 1]
    return min(sizes, default=0)
