"""The ranks of a run: what torchrun starts, what they add up, and how a model is spread over them.

    start() → World (rank, size, device)
    spread(objective, world, parallel) → the module to call: itself, DDP around it, or FSDP2 inside it

What ranks tell each other is tensors and JSON, never pickles. Without torchrun there is one rank and no group.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from schemas.config import ConfigError

CPU = torch.device("cpu")
TIMEOUT = timedelta(minutes=10)
"""Longest wait for another rank: loading a shard or writing a checkpoint may take minutes."""


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of a run, and the device of this one."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Tell whether this rank writes files and the log."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the values of all ranks, as JSON has them."""
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        lengths = [int(size) for size in sizes]
        filled = torch.zeros(max(lengths), dtype=torch.uint8)
        filled[: len(data)] = data
        parts = [torch.empty_like(filled) for _ in range(self.size)]
        dist.all_gather(parts, filled)
        return [json.loads(bytes(part[:length].numpy())) for part, length in zip(parts, lengths, strict=True)]

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)


@contextmanager
def start(device: str, parallel: str) -> Iterator[World]:
    """Join the ranks that torchrun started, for as long as the context lasts; `ConfigError` where that cannot be."""
    size, rank, local = (int(os.environ.get(name, default)) for name, default in (
        ("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")
    ))  # fmt: skip
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise ConfigError(f"train.device is cuda, rank {rank} needs GPU {local}, there are {torch.cuda.device_count()}")
    if size > 1 and parallel == "none":
        raise ConfigError(f"torchrun started {size} ranks and train.parallel is none: set it to ddp or fsdp")
    if kind == "cuda":
        torch.cuda.set_device(local)
        torch.set_float32_matmul_precision("high")  # TF32, for what is left in fp32
    there = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if size == 1 and parallel != "fsdp":
        yield World(device=there)
        return
    alone = size == 1 and "MASTER_ADDR" not in os.environ
    store = torch._C._distributed_c10d.HashStore() if alone else None
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
        rank=rank,
        world_size=size,
        timeout=TIMEOUT,
        store=store,
        device_id=there if kind == "cuda" else None,
    )
    try:
        yield World(rank, size, there)
    finally:
        dist.destroy_process_group()


def spread(module: nn.Module, units: Sequence[nn.Module], world: World, parallel: str, dtype: torch.dtype) -> nn.Module:
    """Spread a module over the ranks: `units` are the parts that FSDP gathers one by one, innermost first.

    Gradients are averaged over the ranks; a loss divided by a global count is multiplied by their number. Under FSDP
    a rank computes with `dtype`, and gradients are added up in float32; weights go to the device part by part.
    """
    if parallel == "fsdp":
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for unit in (*units, module):
            fully_shard(unit, mp_policy=policy, ignored_params=scalars(unit))
        for parameter in scalars(module):
            parameter.data = parameter.data.to(world.device)
        return module
    if parallel == "ddp" and world.size > 1:
        # Buffers are the same everywhere: none is learnt from batches. Later versions of torch call this otherwise.
        named = inspect.signature(DistributedDataParallel).parameters
        unsent = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        settings: dict[str, Any] = {unsent: False}
        # Of a filter of one pixel, in memory the same with channels last or first.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **settings)
    return module


def scalars(module: nn.Module) -> set[nn.Parameter]:
    """Find the parameters that FSDP cannot spread: every rank has them whole."""
    return {parameter for parameter in module.parameters() if not parameter.dim()}


def average_scalars(module: nn.Module, world: World) -> None:
    """Average over the ranks the gradients that FSDP does not."""
    if isinstance(module, FSDPModule):
        for parameter in module.parameters():
            if not parameter.dim() and parameter.grad is not None:
                world.sum(parameter.grad).div_(world.size)


@contextmanager
def last_of(module: nn.Module, last: bool) -> Iterator[None]:
    """Let the gradients be reduced over the ranks in the last backward pass of a step alone."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    with module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext():
        yield
