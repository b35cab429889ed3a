"""What is learnt: text, text about pictures, or which text belongs to which picture; one form for the trainer.

    batches of a step → passes → Pass → objective(pass) → loss to descend [], sums of losses by dataset [S]

A loss is Σ λ_m / n_m · Σ -log p over targets of dataset m, n_m counted over all ranks and passes (SPEC-flamingo,
Data and Training), so that neither ranks nor passes change the gradient. S datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_model.augment import to_device
from flamingo_model.batch import Batch
from flamingo_model.config import DataConfig
from flamingo_model.flops import Work, passes
from flamingo_model.lm import LanguageModel
from flamingo_model.losses import Targets, find_targets, sum_by_source, token_loss, token_weights
from flamingo_model.merge import merge, split_rows
from flamingo_model.optim import Group, split_decay, trainable
from flamingo_model.train_config import RunConfig


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass: rows, their targets, and the weight of each target [N] float32."""

    batch: Batch
    targets: Targets
    weights: Tensor
    datasets: int
    """Count of the datasets of the data, S."""
    packed: bool
    """Whether some row holds several samples."""

    def to(self, device: torch.device) -> Pass:
        """Move the targets; of the batch an objective moves what it needs there, and reads the rest without waiting."""
        if device.type == "cpu":
            return self
        weights = to_device(self.weights, device)
        return replace(self, targets=self.targets.to(device), weights=weights)


LM_FOLDER = "lm"
Sums = tuple[Tensor, Tensor]
"""The loss to descend [], and the unweighted losses of each dataset added up [S], both float32."""


class Objective(Protocol):
    """What the trainer asks of an objective, which is an `nn.Module` besides."""

    @property
    def model(self) -> nn.Module:
        """The model: its trainable weights are what a checkpoint holds."""

    def passes(self, run: RunConfig, batches: Mapping[str, Batch], numbers: Tensor) -> Iterator[Pass]:
        """Make the passes of a step of the run's data; `numbers` [5, S] are `merge.count`'s, of all ranks."""

    def __call__(self, given: Pass, blind: bool = False) -> Sums:
        """Give the losses of a pass; `blind`: without looking at images."""

    def groups(self) -> list[Group]:
        """Put the trainable parameters into groups of the optimiser."""

    def parts(self) -> dict[str, nn.Module]:
        """Name the parts of the model, whose sizes are told."""

    def blocks(self) -> list[nn.Module]:
        """List what FSDP gathers one by one."""

    def units(self) -> list[nn.Module]:
        """List what else it gathers, each as one."""

    def compile_blocks(self) -> None:
        """Compile the blocks."""

    def checkpoint_activations(self) -> None:
        """Keep no activations of the blocks for the backward pass."""

    def open_cache(self) -> None:
        """Open what is kept on disk between steps, with the weights as they are trained with."""

    def work(self) -> Work:
        """Count the operations of a step."""

    def gates(self) -> dict[str, float]:
        """Read the gates of the cross-attention."""

    def export(self, out: Path) -> str:
        """Write what later stages open; gives the line that says so, or nothing."""


def dataset_weights(data: DataConfig) -> Tensor:
    """Give each dataset's λ [S]; of a mixture it has decided already what is drawn."""
    weights = [1.0 if data.mix == "mixed" else dataset.weight for dataset in data.datasets.values()]
    return torch.tensor(weights)


def token_passes(run: RunConfig, batches: Mapping[str, Batch], numbers: Tensor) -> Iterator[Pass]:
    """Make the passes of an objective that predicts tokens."""
    datasets, factors = tuple(run.data.datasets), dataset_weights(run.data)
    totals = numbers[0] if run.train.loss_over == "mean" else numbers[1]
    given = [merge(batches)] if run.train.accumulate == "merged" else list(batches.values())
    for batch in given:
        place = torch.tensor([datasets.index(name) for name in batch.names])
        for part in split_rows(batch, run.train.micro_rows):
            found = find_targets(part)
            targets = replace(found, source=place[found.source])
            weights = token_weights(targets.source, factors, totals)
            yield Pass(part, targets, weights, len(datasets), packed=bool((part.segment > 1).any()))


class TextObjective(nn.Module):
    """A language model learns the texts of the data, without their pictures."""

    def __init__(self, run: RunConfig, lm: LanguageModel) -> None:
        super().__init__()
        self.train_config, self.model = run.train, lm

    def passes(self, run: RunConfig, batches: Mapping[str, Batch], numbers: Tensor) -> Iterator[Pass]:
        """Make the passes of a step."""
        return token_passes(run, batches, numbers)

    def forward(self, given: Pass, blind: bool = False) -> Sums:
        """Predict each token from those before it."""
        batch = given.batch
        packed = (batch.position, batch.segment) if given.packed else ()
        hidden = self.model(*(to_device(tensor, given.weights.device) for tensor in (batch.tokens, *packed)))
        total, each = token_loss(hidden, given.targets, given.weights, self.model.head)
        return total, sum_by_source(each, given.targets.source, given.datasets)

    def groups(self) -> list[Group]:
        """Decay and clip all alike."""
        return split_decay(trainable(self.model), self.train_config)

    def parts(self) -> dict[str, nn.Module]:
        """Name the one part."""
        return {"lm": self.model}

    def blocks(self) -> list[nn.Module]:
        """List the decoder blocks."""
        return list(self.model.layers)

    def units(self) -> list[nn.Module]:
        """List nothing: the rest is gathered with the root."""
        return []

    def compile_blocks(self) -> None:
        """Compile each decoder block."""
        for layer in self.model.layers:
            layer.compile()

    def checkpoint_activations(self) -> None:
        """Keep nothing of a decoder block but its input."""
        for layer in self.model.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

    def open_cache(self) -> None:
        """Nothing is kept."""

    def work(self) -> Work:
        """Count the operations of a step."""
        return lm_work(self.model, True)

    def gates(self) -> dict[str, float]:
        """There are none."""
        return {}

    def export(self, out: Path) -> str:
        """Write the language model as a folder of Hugging Face's, which `model.lm.weights` takes."""
        folder = out / LM_FOLDER
        whole: Any = self.model.model
        whole.save_pretrained(folder)
        return f"model.lm.weights = '{folder}' is the language model"


def lm_work(lm: LanguageModel, flows: bool) -> Work:
    """Count the operations of a language model; `flows`: gradients go through it."""
    blocks = passes(lm.layers.parameters(), flows)
    head = lm.head.weight
    pairs = len(lm.layers) * 2 * lm.width * 3  # scores and their sum over values, causal: half of each
    return Work(per_token=blocks, per_target=head.numel() * (4 + 2 * head.requires_grad), per_token_pair=pairs)
