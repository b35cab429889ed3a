"""The optimiser: groups of parameters, the learning rate of a step, gradients judged and clipped once before it.

    Groups (named parameters, decay, how they are clipped) → AdamW, fused; its state by the parameters' names
    gradients → clip_groups → norm [] float32, not finite where one of the gradients is not

AdamW, decay, warm-up and clipping: SPEC-flamingo, Training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from flamingo_model.train_config import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
AGC_EPS = 1e-3
"""Least norm of a unit's weights, so that weights of zero can leave it."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are treated alike.

    `clip` is the largest norm of the group's whole gradient, `agc` the largest ratio of the norms of a unit's gradient
    and weights; 0 is no limit.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    weight_decay: float = 0.0
    clip: float = 0.0
    agc: float = 0.0
    lr: float = 1.0
    """Multiple of the learning rate."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name the parameters that learn; one that has several names has the first."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def split_decay(parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> list[Group]:
    """Put the resampler's parameters and the gates apart, which decay or learn otherwise; all are clipped together."""
    found: dict[str, dict[str, nn.Parameter]] = {"resampler": {}, "gates": {}, "rest": {}}
    for name, parameter in parameters.items():
        parts = name.split(".")
        kind = "resampler" if "resampler" in parts else "gates" if parts[-2:-1] in (["gate"], ["gate_ffw"]) else "rest"
        found[kind][name] = parameter
    decays, rates = {"resampler": config.resampler_decay}, {"gates": config.gate_lr}
    return [
        Group(name, given, decays.get(name, config.weight_decay), config.clip, lr=rates.get(name, 1.0))
        for name, given in found.items()
        if given
    ]


def make_optimizer(groups: Sequence[Group], config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW over the groups; its learning rate is set before every step."""
    rows = [
        {"params": list(group.parameters.values()), "weight_decay": group.weight_decay, "times": group.lr}
        for group in groups
    ]
    if not rows:
        raise ValueError("nothing is trainable")
    # lr as a tensor would be read back from the device by the fused kernel's checks.
    return torch.optim.AdamW(rows, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Give the learning rate of a step, counted from 0: the first step of a warm-up already moves."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    left = max(0.0, 1.0 - done)
    return config.lr * (left if config.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each times its own factor."""
    for row in optimizer.param_groups:
        row["lr"] = lr * row["times"]


def clip_groups(groups: Sequence[Group]) -> Tensor:
    """Clip the gradients, groups with one limit together; gives the norm of all before it, [] float32.

    No value is read back to the host. Where the norm is not finite the gradients are spoilt, and no step may follow.
    """
    norms = []
    for limit in sorted({group.clip for group in groups}):
        parameters = [p for group in groups if group.clip == limit for p in group.parameters.values()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            continue
        norm = whole(get_total_norm(gradients, foreach=True))
        norms.append(norm)
        if limit:
            clip_grads_with_norm_(parameters, limit, norm, foreach=True)
    for group in groups:
        if group.agc:
            clip_units(group.parameters.values(), group.agc)
    return torch.stack(norms).square().sum().sqrt() if norms else torch.zeros(())


def whole(tensor: Tensor) -> Tensor:
    """Join a tensor that is spread over ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def clip_units(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale down the gradient of each unit (row of a matrix, filter of a convolution) by the norm of its weights."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        axes = tuple(range(1, parameter.dim())) or (0,)
        weight = torch.linalg.vector_norm(parameter, dim=axes, keepdim=True).clamp_min(AGC_EPS)
        gradient = torch.linalg.vector_norm(parameter.grad, dim=axes, keepdim=True)
        parameter.grad.mul_((most * weight / gradient.clamp_min(1e-12)).clamp_max(1.0))


def optimizer_tensors(optimizer: torch.optim.Optimizer, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Give the moments by the names of their parameters, `NAME.exp_avg`, and the count of updates, `NAME.step`."""
    out: dict[str, Tensor] = {}
    for group in groups:
        for name, parameter in group.parameters.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                out[f"{name}.{key}"] = value
    return out


@torch.no_grad()
def load_optimizer(optimizer: torch.optim.Optimizer, groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> None:
    """Take the moments back; a parameter without any has not been updated yet."""
    for group in groups:
        for name, parameter in group.parameters.items():
            if f"{name}.step" not in tensors:
                continue
            state = {"step": tensors[f"{name}.step"].to(parameter.device, torch.float32).clone()}
            for key in MOMENTS:
                state[key] = like(parameter, tensors[f"{name}.{key}"])
            optimizer.state[parameter] = state


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """Give a whole tensor the type, device and spread over ranks of a parameter."""
    if value.shape != parameter.shape:
        raise ValueError(f"shape {tuple(value.shape)}, {tuple(parameter.shape)} is expected")
    if isinstance(parameter, DTensor):
        from torch.distributed.tensor import distribute_tensor

        given = value.to(parameter.device, parameter.dtype)
        return distribute_tensor(given, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value.detach().to(parameter.device, parameter.dtype, copy=True)
