"""What a Flamingo learns: the texts of interleaved documents, pairs and videos, seeing their pictures.

Pass → features of its frames, from the cache where one is kept → Flamingo → losses of its targets
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flamingo_model.augment import normalise
from flamingo_model.batch import Batch
from flamingo_model.feature_cache import FeatureCache, encoder_hash
from flamingo_model.flamingo import Flamingo
from flamingo_model.flops import Work, forward_flops, passes
from flamingo_model.losses import sum_by_source, token_loss
from flamingo_model.objectives import Pass, Sums, lm_work, token_passes
from flamingo_model.optim import Group, split_decay, trainable, whole
from flamingo_model.pixels import STATS
from flamingo_model.train_config import RunConfig
from flamingo_model.xattn import CrossAttention, Gate

FEATURES_FOLDER = "features"


class FlamingoObjective(nn.Module):
    """A Flamingo, and where the features of its frozen encoder are kept."""

    def __init__(self, run: RunConfig, model: Flamingo) -> None:
        super().__init__()
        self.run, self.model = run, model
        self.cache: FeatureCache | None = None

    def open_cache(self) -> None:
        """Open the cache of features, if the settings ask for one; the weights are those that it is to be used with."""
        gigabytes = self.run.train.feature_cache_gb
        if gigabytes:
            vision = self.model.vision
            folder = Path(self.run.train.out, FEATURES_FOLDER)
            self.cache = FeatureCache(folder, encoder_hash(vision, vision.stats), int(gigabytes * 1e9))

    def passes(self, run: RunConfig, batches: Mapping[str, Batch], numbers: Tensor) -> Iterator[Pass]:
        """Make the passes of a step."""
        for given in token_passes(run, batches, numbers):
            # Under FSDP all ranks gather the encoder, also the one whose rows show nothing.
            yield replace(given, batch=with_medium(given.batch)) if run.train.parallel == "fsdp" else given

    def forward(self, given: Pass, blind: bool = False) -> Sums:
        """Predict each token from those before it and the picture that it sees."""
        features = None
        if self.cache is not None and not blind and len(given.batch.frames):
            features = self.cache(given.batch.frames, self.encode)
        hidden = self.model(given.batch, features, blind)
        total, each = token_loss(hidden, given.targets, given.weights, self.model.lm.head)
        return total, sum_by_source(each, given.targets.source, given.datasets)

    def encode(self, frames: Tensor) -> Tensor:
        """Give the features [F, P, V] of frames as they are, neither mirrored nor jittered."""
        vision = self.model.vision
        there = frames.to(self.model.device)
        return self.model.encode(normalise(there, STATS[vision.stats], next(vision.parameters()).dtype))

    def groups(self) -> list[Group]:
        """Put the resampler apart, which has a weight decay of its own."""
        return split_decay(trainable(self.model), self.run.train)

    def parts(self) -> dict[str, nn.Module]:
        """Name the four parts."""
        return {name: getattr(self.model, name) for name in ("vision", "resampler", "xattn", "lm")}

    def blocks(self) -> list[nn.Module]:
        """List the blocks of the language model and those that look at images."""
        return [*self.model.lm.layers, *self.model.xattn.values()]

    def units(self) -> list[nn.Module]:
        """List what FSDP gathers as one."""
        return [self.model.vision, self.model.resampler]

    def compile_blocks(self) -> None:
        """Compile the blocks."""
        self.model.compile_blocks()

    def checkpoint_activations(self) -> None:
        """Keep no activations of the blocks."""
        self.model.checkpoint_activations()

    def work(self) -> Work:
        """Count the operations of a step."""
        model, side_px = self.model, self.run.data.image_px
        learns = [any(weight.requires_grad for weight in part.parameters()) for part in (model.vision, model.resampler)]
        times_vision, times_resampler = (3 if learning else 1 for learning in learns)
        frame = torch.empty(1, 3, side_px, side_px, device="meta")
        per_frame = times_vision * forward_flops(model.vision, frame)
        one, two = (resampler_flops(model, frames) for frames in (1, 2))
        visual = 0.0
        for module in model.xattn.modules():
            if isinstance(module, CrossAttention):
                visual += passes(module.to_kv.parameters(), True)
        latents = self.run.model.resampler.latents
        text = lm_work(model.lm, True)
        return replace(
            text,
            per_token=text.per_token + passes(model.xattn.parameters(), True) - visual,
            per_medium=times_resampler * (2 * one - two) + latents * visual,
            per_frame=per_frame + times_resampler * (two - one),
        )

    def gates(self) -> dict[str, float]:
        """Read the tanh of each gate, by its name; under FSDP all ranks take part."""
        found = {name: module for name, module in self.model.xattn.named_modules() if isinstance(module, Gate)}
        return {
            name: float(torch.tanh(whole(gate.weight.detach())))
            for name, gate in found.items()
            if gate.weight is not None
        }

    def export(self, out: Path) -> str:
        """Nothing but checkpoints is opened later."""
        return ""


def resampler_flops(model: Flamingo, frames: int) -> float:
    """Count the operations of the resampler on a medium of some frames."""
    features = torch.empty(frames, model.vision.positions, model.vision.width, device="meta")
    return forward_flops(model.resampler, features, torch.tensor([frames]))


def with_medium(batch: Batch) -> Batch:
    """Give a batch without any medium one black frame that no token sees."""
    if len(batch.media_row):
        return batch
    side_px = batch.frames.shape[-1]
    return replace(
        batch,
        frames=torch.zeros(1, 3, side_px, side_px, dtype=torch.uint8),
        media_row=torch.zeros(1, dtype=torch.int64),
        media_number=torch.ones(1, dtype=torch.int64),
        media_frames=torch.ones(1, dtype=torch.int64),
        flip=torch.zeros(1, dtype=torch.bool),
        jitter=torch.ones(1, 3),
    )
