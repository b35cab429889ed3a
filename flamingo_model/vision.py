"""The vision encoder: an NFNet of our own, or the vision part of a CLIP or SigLIP, and what it gives of a frame.

    pixels [F, 3, S, S], normalised → VisionEncoder → features [F, P, D_v], a grid row by row

F frames, S pixels a side, P positions of a frame, D_v width. What a position holds:

    nfnet    the final 1x1 convolution and its GELU (what a classifier would average); normalised as `imagenet`
    clip     the last hidden state without the class token, before any final LayerNorm: CLIP has one for the
             class token only, and it is not applied
    siglip   the last hidden state after the final LayerNorm, which SigLIP applies to every position

A frozen encoder stays in eval mode whatever mode its parent is set to, and no gradient passes through it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from flamingo_model.nfnet import (
    NFNETS,
    NO_WEIGHTS,
    OTHER_MODEL,
    UNREADABLE_WEIGHTS,
    BadWeights,
    Conv,
    Nfnet,
    load_nfnet,
)
from flamingo_model.pixels import STATS
from flamingo_model.presets import VisionConfig
from schemas.config import ConfigError

MAX_JSON_BYTES = 1 << 20


class VisionEncoder(nn.Module):
    """An encoder of frames; `tower` is an `Nfnet` or a vision model of transformers."""

    def __init__(self, tower: nn.Module, width: int, positions: int, stats: str, skip: int = 0, **options: Any) -> None:
        super().__init__()
        self.tower, self.width, self.positions, self.stats = tower, width, positions, stats
        self.skip, self.options = skip, options
        self.frozen = False

    def freeze(self) -> VisionEncoder:
        """Stop learning for good. Then `.to(torch.bfloat16)` loses nothing but the filters' last digits."""
        self.frozen = True
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, Conv):
                module.fold()
        return self.eval()

    def train(self, mode: bool = True) -> VisionEncoder:
        """Set the mode; a frozen encoder stays as it is evaluated (SPEC-flamingo, Traps)."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Give features [F, P, D_v] of normalised pixels [F, 3, S, S], of the type of the weights."""
        pixels = pixels.to(next(self.parameters()).dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if isinstance(self.tower, Nfnet):
                out: Tensor = self.tower(pixels)
                return out
            hidden: Tensor = self.tower(pixel_values=pixels, **self.options).last_hidden_state
            return hidden[:, self.skip :]

    def check_mean(self, mean: str) -> None:
        """Refuse a loader's `mean` by which the pixels are not as the encoder knows them (`ConfigError`)."""
        if STATS[mean] != STATS[self.stats]:
            raise ConfigError(f"data.mean is {mean!r}, but the vision encoder wants pixels as {self.stats!r} has them")


def make_vision(config: VisionConfig) -> VisionEncoder:
    """Make the encoder: with its weights if it has any, frozen unless it is to learn.

    `ConfigError` for what there is not, `BadWeights` for weights that do not fit.
    """
    encoder = hf_encoder(config) if config.kind == "hf" else nfnet_encoder(config)
    return encoder if config.trainable else encoder.freeze()


def nfnet_encoder(config: VisionConfig) -> VisionEncoder:
    """Make an NFNet."""
    if config.variant not in NFNETS:
        raise ConfigError(f"vision.variant is {', '.join(NFNETS)}, not {config.variant!r}")
    if config.weights:
        with torch.device("meta"):  # the memory of the weights is taken once, when they are read
            tower = Nfnet(NFNETS[config.variant])
        load_nfnet(tower, config.weights)
    else:
        tower = Nfnet(NFNETS[config.variant])
    return VisionEncoder(tower, tower.width, math.ceil(config.image_px / tower.stride) ** 2, "imagenet")


# --- CLIP and SigLIP -------------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """How transformers has a family of vision models."""

    model: str
    """Its class."""
    skip: int
    """Tokens before those of the patches."""
    stats: str
    """What its pixels are normalised by, unless its folder says otherwise."""
    settings: Mapping[str, Any]
    """Settings that leave out what is not used."""


FAMILIES: Mapping[str, Family] = {
    "clip_vision_model": Family("CLIPVisionModel", 1, "clip", {}),
    "siglip_vision_model": Family("SiglipVisionModel", 0, "siglip", {"vision_use_head": False}),
}
HF_SIZES: Mapping[str, Mapping[str, Any]] = {
    "clip_l14": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
    },
}  # fmt: skip
"""Vision models by the name of their sizes, for random weights (SPEC-flamingo, Ablations, row vii)."""


def hf_encoder(config: VisionConfig) -> VisionEncoder:
    """Make the vision part of a CLIP or SigLIP, from a folder or the hub; pickled weights are never read."""
    import transformers

    sizes, stats = hf_sizes(config), None
    family = FAMILIES.get(sizes.model_type)
    if family is None:
        raise BadWeights(OTHER_MODEL, f"{config.weights} is a {sizes.model_type}, not {' or '.join(FAMILIES)}")
    for name, value in family.settings.items():
        setattr(sizes, name, value)
    model = getattr(transformers, family.model)
    if config.weights:
        stats = hf_stats(config.weights)
        tower = hf_tower(model, config.weights, sizes)
    else:
        tower = model(sizes)
    options = {"interpolate_pos_encoding": True} if config.image_px != sizes.image_size else {}
    positions = (config.image_px // sizes.patch_size) ** 2
    return VisionEncoder(tower, sizes.hidden_size, positions, stats or family.stats, family.skip, **options)


def hf_sizes(config: VisionConfig) -> Any:
    """Give the configuration of transformers for the vision part."""
    from transformers import AutoConfig

    if not config.weights:
        if config.variant not in HF_SIZES:
            detail = f"or vision.variant {', '.join(HF_SIZES)} for random ones, not {config.variant!r}"
            raise ConfigError(f"a vision.kind of hf needs vision.weights (a folder or a name on the hub), {detail}")
        return AutoConfig.for_model(**HF_SIZES[config.variant])
    try:
        whole = AutoConfig.from_pretrained(config.weights, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadWeights(NO_WEIGHTS, f"{config.weights}: {error}") from None
    return getattr(whole, "vision_config", whole)


def hf_tower(model: Any, weights: str, sizes: Any) -> nn.Module:
    """Load a model of transformers whole: a part that its files lack is an error, not a random one."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list all parts of the text encoder, which are not wanted
    try:
        tower, told = model.from_pretrained(
            weights, config=sizes, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadWeights(UNREADABLE_WEIGHTS, f"{weights}: {error}") from None
    finally:
        logging.set_verbosity(level)
    if told["missing_keys"]:
        raise BadWeights(OTHER_MODEL, f"{weights} lacks {min(told['missing_keys'])}")
    whole: nn.Module = tower
    return whole


def hf_stats(weights: str) -> str | None:
    """Tell by which of `STATS` a model's own files say that its pixels are normalised; None where they do not."""
    from transformers.utils import cached_file

    found = cached_file(weights, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if found is None:
        return None
    path = Path(found)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadWeights(UNREADABLE_WEIGHTS, f"{path} has more than {MAX_JSON_BYTES} bytes")
    try:
        told = json.loads(path.read_bytes())
        numbers = [float(number) for name in ("image_mean", "image_std") for number in told.get(name) or ()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadWeights(UNREADABLE_WEIGHTS, f"{path}: {error}") from None
    if not numbers:
        return None
    for name, stats in STATS.items():
        theirs = (*stats.mean, *stats.std)
        if len(numbers) == 6 and all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(theirs, numbers, strict=True)):
            return name
    raise BadWeights(OTHER_MODEL, f"{path} normalises pixels by {numbers}: none of {', '.join(STATS)}")
