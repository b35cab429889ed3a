"""The loop: batches in, updates of an objective's parameters out, checkpoints and a log beside it.

    Trainer(run, world, objective, loader).run() → how it ended

One update: passes forward and backward, gradients reduced once, clipped once, judged on all ranks, one step of AdamW.
While a GPU computes, the next batch is made ready (SPEC-flamingo, Training; convention: research of trainers, 1.1).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_model.batch import Batch
from flamingo_model.checkpoint import MODEL, OPTIMIZER, Checkpoint, gathered, load_weights, prune, save, state_of
from flamingo_model.config import DataConfig
from flamingo_model.data import Loader, merge_states
from flamingo_model.distributed import World, average_scalars, last_of, spread
from flamingo_model.merge import COUNTED, FRAMES, MEDIA, TARGETS, TOKENS, count
from flamingo_model.objectives import Objective, Pass
from flamingo_model.optim import (
    clip_groups,
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
    trainable,
)
from flamingo_model.order import hash_of
from flamingo_model.prepare import dtype_of, prepare
from flamingo_model.train_config import RunConfig
from flamingo_model.train_log import Log, Step, is_told
from schemas.config import ConfigError

TOLD_KEYS = 8
"""Keys of a step that are named for each rank where its loss is not finite."""


class TrainError(ConfigError):
    """Training cannot go on; the text is one line that says why and what would help."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A step before it is made: its passes on the CPU, what it counts over all ranks, and where the loader stands."""

    passes: list[Pass]
    numbers: Tensor
    loader: Mapping[str, Any]
    wait_s: float


class Trainer:
    """A run from its first update, or from a checkpoint, to its last."""

    def __init__(
        self, run: RunConfig, world: World, objective: Objective, loader: Loader, log: Log | None = None
    ) -> None:
        self.run_config, self.train, self.world = run, run.train, world
        self.objective, self.loader, self.log = objective, loader, log
        self.datasets = tuple(run.data.datasets)
        self.dtype = dtype_of(run.train, world.device)
        assert isinstance(objective, nn.Module)
        prepare(objective, run.train, self.dtype, world.device)
        objective.open_cache()
        self.work = objective.work()
        self.module = spread(
            objective, [*objective.units(), *objective.blocks()], world, run.train.parallel, self.dtype
        )
        objective.train()
        self.groups = objective.groups()
        self.optimizer = make_optimizer(self.groups, run.train)
        self.step = 0
        self.asked = self.ended = False
        self.begun = time.monotonic()
        self.counters: dict[str, int] = {"tokens": 0, "media": 0}
        self.ready: Ready | None = None
        self.turn = 0
        self.held: dict[str, Batch] = {}
        self.before: Mapping[str, Any] = {}
        self.state: Mapping[str, Any] = loader.state_dict()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights, moments, place in the data."""
        assert isinstance(self.objective, nn.Module)
        load_weights(self.objective.model, checkpoint.tensors(MODEL), checkpoint.folder / MODEL)
        load_optimizer(self.optimizer, self.groups, checkpoint.tensors(OPTIMIZER))
        self.loader.load_state_dict(checkpoint.state["loader"])
        self.step = checkpoint.step
        self.counters = dict(checkpoint.state["counters"])

    def make_ready(self) -> Ready | None:
        """Read the batches of the next step and prepare its passes; None where the data has ended."""
        waited = self.loader.stats.wait_s
        batches = self.next_batches()
        if batches is None:
            return None
        numbers = self.world.sum(count(batches, self.datasets))
        passes = list(self.objective.passes(self.run_config, batches, numbers))
        if self.world.device.type == "cuda":
            # What was joined lies in memory that copies would wait for.
            passes = [replace(given, batch=given.batch.pinned()) for given in passes]
        return Ready(passes, numbers, self.loader_state(), self.loader.stats.wait_s - waited)

    def next_batches(self) -> dict[str, Batch] | None:
        """Take the batches of a step from the loader: all of them, or in turn the one of each dataset."""
        if self.train.accumulate != "round_robin":
            return next(self.loader, None)
        names = list(self.datasets)
        self.turn = turn = (self.step + (self.ready is not None)) % len(names)
        if not turn or not self.held:
            self.before = self.loader.state_dict()
            held = next(self.loader, None)
            if held is None:
                return None
            self.held = held
        return {names[turn]: self.held[names[turn]]}

    def loader_state(self) -> Mapping[str, Any]:
        """Give where the loader stands; amid a round, where it stood before, for the round's batches come again."""
        if self.train.accumulate == "round_robin" and self.turn < len(self.datasets) - 1:
            return self.before
        return self.loader.state_dict()

    def update(self) -> Step | None:
        """Make one update; None where the data has ended."""
        if self.ready is None:
            self.ready = self.make_ready()
        ready = self.ready
        if ready is None:
            return None
        number = self.step + 1
        torch.manual_seed(hash_of(self.train.seed, self.step, self.world.rank) >> 1)
        blind = None
        if self.train.blind_every and number % self.train.blind_every == 0:
            # The same batch with nothing seen (SPEC-flamingo, Training).
            sums = self.world.sum(self.sums_of(ready.passes, len(self.datasets), blind=True))
            blind = means(self.datasets, sums, ready.numbers)
        sums, losses = self.backward(ready)
        norm = clip_groups(self.groups)
        # What the ranks have to agree on, in one sum and one read: losses, bad passes, a wish to stop.
        bad = (~torch.isfinite(losses)).sum()[None]
        told = self.world.sum(torch.cat([sums, bad, bad.new_tensor([self.wants_to_stop()])]).double())
        more = self.step + 1 < self.train.steps
        self.ready = self.make_ready() if more else None
        *totals, bad_passes, stops, norm_now = torch.cat([told, norm.double()[None]]).tolist()
        if bad_passes or norm_now != norm_now or norm_now == float("inf"):
            self.refuse(ready, losses, norm_now)
        self.ended = stops > 0 or (more and self.ready is None)
        lr = learning_rate(self.step, self.train)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = number
        self.state = ready.loader
        return self.told(ready, totals, lr, norm_now, blind)

    def backward(self, ready: Ready) -> tuple[Tensor, Tensor]:
        """Run the passes forward and backward; gives the datasets' sums of losses [S] and each pass's loss."""
        sums, losses = None, []
        for place, given in enumerate(ready.passes):
            with last_of(self.module, place == len(ready.passes) - 1), self.autocast():
                loss, by_dataset = self.module(given.to(self.world.device))
                # Ranks' gradients are averaged; the loss is divided by a count over all of them already.
                (loss * self.world.size).backward()
            sums = by_dataset.detach() if sums is None else sums + by_dataset.detach()
            losses.append(loss.detach())
        average_scalars(self.module, self.world)
        assert sums is not None
        return sums, torch.stack(losses)

    def autocast(self) -> Any:
        """Compute in bf16 where the settings say so."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def sums_of(self, passes: Iterable[Pass], datasets: int, blind: bool = False) -> Tensor:
        """Add up the losses of each dataset [S] on this rank, without learning from them."""
        sums = torch.zeros(datasets, dtype=torch.float64, device=self.world.device)
        for given in passes:
            with self.autocast():
                sums += self.module(given.to(self.world.device), blind)[1]
        return sums

    def validate(self, data: DataConfig) -> dict[str, float]:
        """Measure the mean loss of each dataset of `[val]`, always on its first batches."""
        datasets = tuple(data.datasets)
        run = replace(self.run_config, data=data)
        sums = torch.zeros(len(datasets), dtype=torch.float64, device=self.world.device)
        numbers = torch.zeros(len(COUNTED), len(datasets), dtype=torch.float64)
        objective = self.objective
        assert isinstance(objective, nn.Module)
        objective.eval()
        with Loader(data, self.world.rank, self.world.size, device=self.world.device) as loader:
            for batches in islice(loader, self.train.val_steps):
                here = self.world.sum(count(batches, datasets))
                sums += self.sums_of(objective.passes(run, batches, here), len(datasets))
                numbers += here
        objective.train()
        return means(datasets, self.world.sum(sums), numbers)

    def told(self, ready: Ready, sums: list[float], lr: float, norm: float, blind: dict[str, float] | None) -> Step:
        """Say what an update was."""
        numbers = ready.numbers.sum(1).tolist()
        tokens, media = int(numbers[TOKENS]), int(numbers[MEDIA])
        self.counters["tokens"] += tokens
        self.counters["media"] += media
        length = max(given.batch.tokens.shape[1] for given in ready.passes)
        flops = self.work.of(tokens, numbers[TARGETS], media, numbers[FRAMES], length) / self.world.size
        # All ranks read the gates: FSDP gathers them.
        gates = self.objective.gates() if is_told(self.step, self.train) else None
        losses = means(self.datasets, torch.tensor(sums), ready.numbers)
        return Step(self.step, losses, lr, norm, tokens, media, flops, ready.wait_s, blind, gates)

    def refuse(self, ready: Ready, losses: Tensor, norm: float) -> None:
        """Stop all ranks before the step, naming what the batch held where its loss was not finite."""
        finite = torch.isfinite(losses).tolist()
        # All losses may be finite and a gradient not: then any rank's rows can be why.
        wrong = [given for given, fine in zip(ready.passes, finite, strict=True) if not fine]
        keys = [key for given in wrong or ready.passes for row in given.batch.keys for key in row]
        gathered_keys = self.world.gather([not all(finite), keys[:TOLD_KEYS], len(keys)])
        some = any(bad for bad, _, _ in gathered_keys)
        told = [
            f"rank {rank}: {', '.join(map(repr, shown))}" + (f" and {number - len(shown)} more" * (number > len(shown)))
            for rank, (bad, shown, number) in enumerate(gathered_keys)
            if bad or not some
        ]
        what = "loss" if some else "gradient"
        raise TrainError(
            f"step {self.step + 1:,}: the {what} is not finite (norm of the gradient {norm}); no weight was changed; "
            f"its samples: {'; '.join(told)}"
        )

    def wants_to_stop(self) -> bool:
        """Tell whether this rank was asked to stop, or its time is up."""
        minutes = (time.monotonic() - self.begun) / 60
        return self.asked or bool(self.train.max_minutes and minutes >= self.train.max_minutes)

    def save(self) -> Path | None:
        """Write a checkpoint; all ranks take part, the first one writes and names it."""
        assert isinstance(self.objective, nn.Module)
        model = gathered(trainable(self.objective.model), self.world.first)
        moments = gathered(optimizer_tensors(self.optimizer, self.groups), self.world.first)
        loader = merge_states(self.world.gather(self.state))
        folder = None
        if self.world.first:
            out = Path(self.train.out)
            state = state_of(self.run_config, loader, self.counters)
            folder = save(out, self.step, model, moments, state, self.loader.tokenizer)
            prune(out, self.train.keep)
        self.world.wait()
        return folder


def means(datasets: Iterable[str], sums: Tensor, numbers: Tensor) -> dict[str, float]:
    """Divide sums of losses [S] by targets; a dataset without any is left out."""
    rows = zip(datasets, sums.tolist(), numbers[TARGETS].tolist(), strict=True)
    return {name: total / targets for name, total, targets in rows if targets}


@contextmanager
def stopping_gently(trainer: Trainer) -> Iterator[None]:
    """Have SIGTERM end the run after the update that is being made, with a checkpoint."""

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.asked = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
