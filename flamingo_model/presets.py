"""What a model is made of: its sizes, the presets, and the paper's ablations as rows of overrides.

    FlamingoConfig = VisionConfig + ResamplerConfig + XattnConfig + LmConfig

Numbers are those of SPEC-flamingo, Sizes and Ablations (v2 tables 4 and 5, v1 tables 1, 10 and 13 of the paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.config import with_overrides

VISION_KINDS = ("nfnet", "hf")
RESAMPLERS = ("perceiver", "mlp", "transformer", "qformer")
XATTN_KINDS = ("gated", "vanilla", "grafting")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {', '.join(allowed)}, not {value!r}")


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The encoder of images, frozen while the Flamingo learns."""

    kind: str = "nfnet"
    """`nfnet`, our own, or `hf`: the vision part of a CLIP or SigLIP of transformers."""
    variant: str = "f6"
    """Of the NFNet: f0 to f6, or `tiny`; of `hf` without weights: `clip_l14`."""
    weights: str = ""
    """A safetensors file or a folder; for `hf` a folder or a name on the hub. Empty: random."""
    image_px: int = 320
    """Side of the images."""
    trainable: bool = False
    """Learn it too."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, VISION_KINDS)


@dataclass(frozen=True, slots=True)
class ResamplerConfig:
    """What makes a fixed number of visual tokens of an image or clip."""

    kind: str = "perceiver"
    """`perceiver`, or an ablation: `mlp`, `transformer` or `qformer`."""
    layers: int = 6
    """Layers."""
    width: int = 1536
    """Width of the visual tokens."""
    heads: int = 16
    """Attention heads."""
    head_width: int = 128
    """Width of a head (v1; v2's text has 96, from which the paper's counts do not come out)."""
    latents: int = 64
    """Visual tokens of an image or clip."""
    frames: int = 8
    """Rows of the temporal embedding, interpolated for longer clips."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, RESAMPLERS)


@dataclass(frozen=True, slots=True)
class XattnConfig:
    """How the language model is shown the visual tokens."""

    kind: str = "gated"
    """`gated` blocks between those of the language model, or an ablation: `vanilla` cross-attention inside them, or
    `grafting` layers of self- and cross-attention on top of it."""
    every: int = 1
    """Before every so-many-th block of the language model, the first one included."""
    single: bool = False
    """Only before the middle block."""
    heads: int = 16
    """Attention heads."""
    head_width: int = 128
    """Width of a head."""
    tanh_gate: bool = True
    """Gates that are closed at the start; without them the blocks add their output as it is."""
    see_all: bool = False
    """A token sees all images before it, not the last one alone."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, XATTN_KINDS)
        if self.every < 1:
            raise ValueError(f"every is at least 1, not {self.every}")


@dataclass(frozen=True, slots=True)
class LmConfig:
    """The causal language model, frozen while the Flamingo learns."""

    weights: str = ""
    """A folder or a name on the hub. Empty: a GPT-NeoX of the sizes below, with random weights."""
    layers: int = 24
    """Blocks, of a model without `weights`; so are the following."""
    width: int = 2048
    """Width of the blocks."""
    heads: int = 16
    """Attention heads."""
    vocab: int = 50_304
    """Rows of the embedding."""
    tokens: int = 2048
    """Most positions."""
    trainable: bool = False
    """Learn it too (ablation)."""
    random: bool = False
    """Begin from random weights, of the sizes that `weights` has (ablation)."""


@dataclass(frozen=True, slots=True)
class FlamingoConfig:
    """A whole model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    """The vision encoder."""
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    """The resampler."""
    xattn: XattnConfig = field(default_factory=XattnConfig)
    """The cross-attention."""
    lm: LmConfig = field(default_factory=LmConfig)
    """The language model."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "vision.variant": "tiny", "vision.image_px": 64,
        "resampler.layers": 1, "resampler.width": 96, "resampler.heads": 4, "resampler.head_width": 24,
        "resampler.latents": 8,
        "xattn.heads": 4, "xattn.head_width": 24,
        "lm.layers": 3, "lm.width": 96, "lm.heads": 4, "lm.vocab": 2048, "lm.tokens": 512,
    },
    "flamingo_3b": {},
    "flamingo_9b": {"xattn.every": 4, "xattn.heads": 32, "lm.layers": 40, "lm.width": 4096, "lm.heads": 32},
    "flamingo_80b": {"xattn.every": 7, "xattn.heads": 64, "lm.layers": 80, "lm.width": 8192, "lm.heads": 64},
}  # fmt: skip
"""Models by name, as overrides of the defaults, which are those of Flamingo-3B."""

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "no_video": {"data.without": "videos"},
    "no_image_text": {"data.without": "pairs"},
    "no_interleaved": {"data.without": "interleaved"},
    "round_robin": {"train.accumulate": "round_robin"},
    "no_tanh_gate": {"xattn.tanh_gate": False},
    "vanilla": {"xattn.kind": "vanilla"},
    "grafting": {"xattn.kind": "grafting"},
    "single_in_middle": {"xattn.single": True},
    "every_4th": {"xattn.every": 4},
    "every_2nd": {"xattn.every": 2},
    "resampler_mlp": {"resampler.kind": "mlp"},
    "resampler_transformer": {"resampler.kind": "transformer"},
    "resampler_small": {"resampler.layers": 3},
    "resampler_large": {"resampler.layers": 12},
    "resampler_qformer": {"resampler.kind": "qformer"},
    "clip_l14": {
        "vision.kind": "hf", "vision.variant": "clip_l14", "vision.image_px": 224, "data.image_px": 224,
        "data.mean": "clip",
    },
    "nfnet_f0": {"vision.variant": "f0"},
    "lm_unfrozen_random": {"lm.trainable": True, "lm.random": True},
    "lm_unfrozen": {"lm.trainable": True},
    "see_all": {"xattn.see_all": True},
    "p_next_0": {"data.interleaved.p_next": 0.0},
    "p_next_1": {"data.interleaved.p_next": 1.0},
}  # fmt: skip
"""The rows of the paper's ablation table, and the Q-Former, as overrides (SPEC-flamingo, Ablations).

Names that begin with `data.` or `train.` are settings of the run: `data.without` leaves out the datasets of a kind,
`data.KIND.NAME` is a setting of all datasets of that kind. LAION for the image-text pairs is other shards and no
setting. The paper does not say how large the small and the large resampler are; these have its totals of 3.1 and 3.4B.
"""

PAPER_SIZES: Mapping[str, Mapping[str, float]] = {
    "flamingo_3b": {"lm": 1.4e9, "vision": 435e6, "xattn": 1.2e9, "resampler": 194e6, "total": 3.2e9},
    "flamingo_9b": {"lm": 7.1e9, "vision": 435e6, "xattn": 1.6e9, "resampler": 194e6, "total": 9.3e9},
    "flamingo_80b": {"lm": 70e9, "vision": 435e6, "xattn": 10e9, "resampler": 194e6, "total": 80e9},
}
"""Parameters as the paper's table 5 has them (SPEC-flamingo, Sizes)."""


def preset(name: str, overrides: Mapping[str, Any] | None = None) -> FlamingoConfig:
    """Give the settings of a preset, with further overrides (`{"xattn.every": 4}`)."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r} (known: {', '.join(PRESETS)})")
    rows = {**PRESETS[name], **(overrides or {})}
    return with_overrides(FlamingoConfig(), [f"{key}={toml_of(value)}" for key, value in rows.items()])


def toml_of(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else f'"{value}"'
