"""How many floating-point operations a step needs, and how many the device could do: their ratio is the MFU.

    sizes of the four parts → Work (operations per token, label, medium, frame) → of the counts of a step: operations

Only products of matrices are counted, each multiplication and addition as one: 2 forward, 2 for the gradient of what
goes in, 2 for that of a weight that learns. What is computed twice (activation checkpoints) counts once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

PEAKS = {
    "GB200": 2500e12, "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12,
    "H20": 148e12, "A100": 312e12, "A800": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10G": 70e12,
    "A10": 125e12, "V100": 125e12, "T4": 65e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
"""Dense bf16 (fp16 where there is none) operations a second, by a part of the device's name: makers' data sheets."""
MEASURED_SIDE = 512
"""Rows of the matrices that a device not in the table is measured with."""


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of a forward and backward pass."""

    per_token: float = 0.0
    per_target: float = 0.0
    per_medium: float = 0.0
    per_frame: float = 0.0
    per_token_pair: float = 0.0
    """Of a token and another one of its row that it may look at."""

    def of(self, tokens: float, targets: float, media: float, frames: float, length: int) -> float:
        """Count those of a step whose rows have `length` tokens."""
        alone = self.per_token * tokens + self.per_target * targets
        return alone + self.per_medium * media + self.per_frame * frames + self.per_token_pair * tokens * length


def passes(parts: Iterable[nn.Parameter], flows: bool) -> float:
    """Give operations of linear weights for one row of their input; `flows`: a gradient is handed on."""
    return sum(
        parameter.numel() * (2 + 2 * flows + 2 * parameter.requires_grad) for parameter in parts if parameter.dim() > 1
    )


def forward_flops(module: nn.Module, *given: Tensor) -> float:
    """Count the operations of a module's forward pass; `given` are inputs on the meta device, nothing is computed."""
    names = [*module.named_parameters(), *module.named_buffers()]
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in names}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(module, state, given)
    return float(counter.get_total_flops())


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Give the operations a second that a device can do: from the table, or measured."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, peak in PEAKS.items():
            if known in name:
                return peak
    return measure_peak(device, dtype)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Time a product of matrices, the best of five."""
    side = MEASURED_SIDE * (16 if device.type == "cuda" else 1)
    left = torch.ones(side, side, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        (left @ left)[0, 0].item()
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best
