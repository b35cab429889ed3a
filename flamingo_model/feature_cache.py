"""Frozen vision features kept on disk: a picture that comes again is not encoded again.

    frames [F, 3, S, S] uint8 → FeatureCache → features [F, P, D], read or made

A frame is known by the hash of its pixels, so that a window that shows a picture in another place finds it too. The
folder belongs to one encoder. It grows to a bound and then stays as it is: with few pictures all are in it, with many
a part is. F frames, S pixels a side, P positions, D width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

NAME = "features"


class FeatureCache:
    """Features by the pixels that they are of, within `most_bytes` on disk."""

    def __init__(self, folder: Path, encoder: str, most_bytes: int) -> None:
        """Open the cache of an encoder, which `encoder` tells from others (`encoder_hash`)."""
        self.folder = folder / encoder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.most_bytes = most_bytes
        self.held_bytes = sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors"))
        self.found = self.made = 0

    def __call__(self, frames: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Give the features [F, P, D] of frames on the CPU; `encode` is given those [n, 3, S, S] that are not known.

        They are on the CPU where all were read, else where `encode` left them.
        """
        names = [hash_of_frame(frame) for frame in frames]
        rows = [self.read(name) for name in names]
        missing = [place for place, row in enumerate(rows) if row is None]
        self.found += len(rows) - len(missing)
        self.made += len(missing)
        if not missing:
            return torch.stack([row for row in rows if row is not None])
        made = encode(frames[missing])
        for row, place in zip(made, missing, strict=True):
            self.write(names[place], row)
            rows[place] = row
        return torch.stack([row.to(made.device, made.dtype) for row in rows if row is not None])

    def path(self, name: str) -> Path:
        """Say where the features of a frame are kept."""
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def read(self, name: str) -> Tensor | None:
        """Read the features of a frame; None where there are none, or the file is cut."""
        try:
            with safe_open(self.path(name), "pt") as file:
                found: Tensor = file.get_tensor(NAME)
        except (FileNotFoundError, SafetensorError):
            return None
        return found

    def write(self, name: str, features: Tensor) -> None:
        """Keep the features of a frame, if there is room."""
        size = features.numel() * features.element_size()
        if self.held_bytes + size > self.most_bytes:
            return
        path = self.path(name)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        save_file({NAME: features.detach().to("cpu").contiguous()}, temporary)
        temporary.rename(path)
        self.held_bytes += path.stat().st_size


def hash_of_frame(frame: Tensor) -> str:
    """Hash the pixels [3, S, S] of a frame."""
    # Frames lie with their pixels together (`Buffers.frames`): in this order they are read as they lie.
    pixels: NDArray[np.uint8] = frame.permute(1, 2, 0).contiguous().cpu().numpy()
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def encoder_hash(vision: nn.Module, stats: str) -> str:
    """Tell an encoder, its type of numbers and how it is shown pixels from all others."""
    state = hashlib.blake2b(stats.encode(), digest_size=8)
    for name, tensor in vision.state_dict().items():
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        state.update(values.tobytes())
    return state.hexdigest()
