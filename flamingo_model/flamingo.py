"""The Flamingo: a vision encoder, a resampler, a language model, and cross-attention between its blocks.

    Batch → pixels [F, 3, S, S] → vision → features [F, P, V] → resampler → latents [M, R, W]
    latents, image_of [B, T] → see → Seen; tokens [B, T], Seen → language model → hidden [B, T, D] → lm.head → logits

B rows, T tokens, F frames of M media, S pixels a side, P positions of a frame, V width of the vision encoder, R visual
tokens of a medium, W their width, D width of the language model (SPEC-flamingo, Forward pass). The four parts know
nothing of each other: hooks on the blocks of the language model call the cross-attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_model.augment import augment
from flamingo_model.batch import Batch
from flamingo_model.lm import LanguageModel, make_lm
from flamingo_model.pixels import STATS
from flamingo_model.presets import PAPER_SIZES, FlamingoConfig, VisionConfig, preset
from flamingo_model.resampler import Resampler, make_resampler
from flamingo_model.seen import Seen, see
from flamingo_model.tokens import Tokenizer
from flamingo_model.vision import VisionEncoder, make_vision
from flamingo_model.xattn import VanillaBlock, hook, make_xattn, placements
from schemas.config import ConfigError

RECOMPILE_LIMIT = 64
"""How often a block may be compiled for other shapes: lengths of spans, packed rows and plain ones, the last batch."""


class Flamingo(nn.Module):
    """The four parts, joined."""

    def __init__(
        self,
        vision: VisionEncoder,
        resampler: Resampler,
        lm: LanguageModel,
        xattn: nn.ModuleDict,
        see_all: bool = False,
    ) -> None:
        """Join the parts: hook the blocks of `xattn`, named by their places, into the language model, once for all.

        `ConfigError` where the language model has no part that they could be hooked to.
        """
        super().__init__()
        self.vision, self.resampler, self.lm, self.xattn = vision, resampler, lm, xattn
        self.see_all = see_all
        self.seen: Seen | None = None
        try:
            for place, block in xattn.items():
                hook(block, list(lm.layers), int(place), self.current)
        except ValueError as error:
            raise ConfigError(f"xattn.kind: {error}") from None

    def current(self) -> Seen | None:
        """Tell what the pass that is under way looks at."""
        return self.seen

    @contextmanager
    def looking(self, seen: Seen | None) -> Iterator[None]:
        """Look at something for as long as a pass takes, however it ends."""
        before, self.seen = self.seen, seen
        try:
            yield
        finally:
            self.seen = before

    def forward(self, batch: Batch, features: Tensor | None = None, blind: bool = False) -> Tensor:
        """Give the hidden states [B, T, D] of a batch, of which `lm.head` makes logits.

        `features` [F, P, V] of its frames spare the vision encoder. `blind`: no token sees anything, nor is anything
        encoded. The batch is best left on the CPU: what the device needs goes there, and it waits for nothing.
        """
        image_of, row, number = batch.image_of, batch.media_row, batch.media_number
        frames = batch.media_frames
        if blind:
            image_of, row, number, frames = torch.zeros_like(image_of), row[:0], number[:0], frames[:0]
            features = self.no_features()
        elif features is None:
            features = self.encode(self.pixels(batch))
        latents = self.resample(features, frames)
        lengths = self.resampler.sizes(frames, features.shape[1])
        segment = batch.segment.to(self.device, non_blocking=True)
        seen = see(latents, image_of, row, number, segment, see_all=self.see_all, lengths=lengths, blind=blind)
        tokens = batch.tokens.to(self.device, non_blocking=True)
        if not bool((batch.segment > 1).any()):
            return self.read(tokens, seen)
        return self.read(tokens, seen, batch.position.to(self.device, non_blocking=True), segment)

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return next(self.lm.parameters()).device

    def pixels(self, batch: Batch) -> Tensor:
        """Mirror, jitter and normalise the frames of a batch as it says: [F, 3, S, S], for the vision encoder."""
        frames = batch.frames.to(self.device, non_blocking=True)
        medium = torch.repeat_interleave(batch.media_frames, output_size=len(frames))
        dtype = next(self.vision.parameters()).dtype
        return augment(frames, medium, batch.flip, batch.jitter, STATS[self.vision.stats], dtype)

    def encode(self, pixels: Tensor) -> Tensor:
        """Give the features [F, P, V] of all frames in one call; no gradient unless the encoder learns."""
        if not len(pixels):
            return self.no_features()
        encoded: Tensor = self.vision(pixels)
        return encoded

    def no_features(self) -> Tensor:
        """Give the features of no frames: with them a backward pass reaches all weights that learn all the same."""
        return torch.zeros(0, self.vision.positions, self.vision.width, device=self.device)

    def resample(self, features: Tensor, frames: Tensor) -> Tensor:
        """Give the latents [M, R, W] of features [F, P, V]; `frames` [M] counts those of each medium."""
        features = features.to(self.device, next(self.resampler.parameters()).dtype, non_blocking=True)
        latents: Tensor = self.resampler(features, frames)
        return latents

    def read(
        self,
        tokens: Tensor,
        seen: Seen | None,
        position: Tensor | None = None,
        segment: Tensor | None = None,
        cache: Any = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Give the hidden states [B, T, D] of tokens that look at `seen`; the rest as `LanguageModel.forward` has it.

        Without `seen` it is the language model alone.
        """
        with self.looking(seen):
            hidden: Tensor = self.lm(tokens, position, segment, cache, mask)
        return hidden

    def compile_blocks(self, **options: Any) -> None:
        """Compile each block of the language model with what is hooked to it, and the bodies of the other parts."""
        # Blocks share what is compiled; batches differ in shapes, and what is not compiled anew runs uncompiled.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
        for module in (*self.lm.layers, self.resampler.body, self.vision.tower):
            module.compile(**options)

    def checkpoint_activations(self) -> None:
        """Keep nothing but the input of each block, and compute the rest again in the backward pass."""
        if any(isinstance(block, VanillaBlock) for block in self.xattn.values()):
            raise ConfigError("xattn.kind vanilla stands inside blocks: their activations cannot be computed again")
        for block in (*self.lm.layers, *self.xattn.values()):
            block.forward = MethodType(forward_again, block)


def forward_again(block: nn.Module, *given: Any, **named: Any) -> Any:
    """Run a block so that its activations are computed again; a function for all, or each would be compiled."""
    return checkpoint(type(block).forward, block, *given, use_reentrant=False, **named)


def make_flamingo(config: FlamingoConfig, tokenizer: Tokenizer, dtype: torch.dtype = torch.float32) -> Flamingo:
    """Make a model, or load its parts; frozen ones are kept in `dtype`, those that learn in float32.

    Only `<EOC>` is a new token, whatever the tokenizer calls `<image>` (SPEC-flamingo, Sizes). Under
    `torch.device("meta")` no memory is taken. `ConfigError` says what does not fit.
    """
    vision = make_vision(config.vision)
    if not config.vision.trainable:
        vision.to(dtype)
    lm = make_lm(config.lm, [tokenizer.eoc], dtype)
    rows = len(lm.head.weight)
    if any(token >= rows and token != tokenizer.eoc for token in range(rows, tokenizer.vocab_size)):
        raise ConfigError(f"the tokenizer has {tokenizer.vocab_size} tokens, the language model rows for {rows}")
    resampler = make_resampler(config.resampler, vision.width)
    xattn = make_blocks(config, lm.width, len(lm.layers))
    return Flamingo(vision, resampler, lm, xattn, config.xattn.see_all)


def make_blocks(config: FlamingoConfig, width: int, layers: int) -> nn.ModuleDict:
    """Make the blocks of cross-attention for a language model, by their places in it."""
    places = placements(config.xattn, layers)
    return nn.ModuleDict(
        {str(place): make_xattn(config.xattn, width, config.resampler.width, layers) for place in places}
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of the parts."""

    lm: int
    vision: int
    xattn: int
    resampler: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.lm + self.vision + self.xattn + self.resampler


def sizes(config: FlamingoConfig) -> Sizes:
    """Count parameters without taking memory; rows of new tokens are left out."""
    vision, width = vision_size(config.vision)
    with torch.device("meta"):
        lm, resampler = make_lm(config.lm), make_resampler(config.resampler, width)
        xattn = make_blocks(config, lm.width, len(lm.layers))
    return Sizes(count(lm), vision, count(xattn), count(resampler))


@cache
def vision_size(config: VisionConfig) -> tuple[int, int]:
    """Count the parameters of a vision encoder, and tell its width."""
    with torch.device("meta"):
        vision = make_vision(config)
    return count(vision), vision.width


def count(part: nn.Module) -> int:
    """Count parameters."""
    return sum(weight.numel() for weight in part.parameters())


def size_table() -> list[str]:
    """Write the parameters of the presets beside those of the paper, whose own tables contradict each other."""
    lines = [f"{'':14}{'part':>10}{'computed':>12}{'paper':>12}"]
    for name, paper in PAPER_SIZES.items():
        counted = sizes(preset(name))
        for part, told in paper.items():
            count = getattr(counted, part)
            lines.append(f"{name:14}{part:>10}{count / 1e6:>11,.0f}M{told / 1e6:>11,.0f}M")
    return lines
