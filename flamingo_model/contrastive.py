"""The contrastive stage: a vision encoder learns which text belongs to which picture, and a text encoder with it.

    Batch of pairs → Contrastive → loss []                             descended; the vision encoder alone is kept
    pixels [M, 3, S, S] → images → [M, D]      tokens [B, T] → texts → [B, D]       of length 1, float32

B rows, one pair each, T tokens, M pictures, S pixels a side, D width of the common space, G rows of all ranks. Every
picture is told from all others of the batch on all ranks (SPEC-flamingo, Training: Contrastive stage).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from flamingo_model.augment import augment
from flamingo_model.batch import Batch
from flamingo_model.pixels import STATS
from flamingo_model.presets import VisionConfig
from flamingo_model.vision import VisionEncoder, make_vision
from schemas.config import ConfigError


@dataclass(frozen=True, slots=True)
class ContrastiveConfig:
    """What stands beside the vision encoder. Sources: SPEC-flamingo, Training, unless another is named."""

    width: int = 1376
    """Width of the space that pictures and texts share."""
    smoothing: float = 0.1
    """Label smoothing: the share of the target that is spread over all texts (or pictures) of the batch."""
    inverse_temperature: float = 1 / 0.07
    """What similarities are multiplied by at the start; it is learnt (the start is CLIP's, the paper has none)."""
    text_layers: int = 12
    """Layers of the text encoder, a BERT from scratch; the sizes are those of BERT-base (the paper names none)."""
    text_width: int = 768
    """Width of its layers; four times that in their middle."""
    text_heads: int = 12
    """Attention heads."""
    text_tokens: int = 64
    """Most tokens of a text."""
    text_dropout: float = 0.1
    """Dropout in it."""

    def __post_init__(self) -> None:
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width is a multiple of text_heads ({self.text_heads}), not {self.text_width}")
        for name in ("smoothing", "text_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is from 0 to below 1, not {getattr(self, name)}")
        if self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature is more than 0, not {self.inverse_temperature}")


SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"width": 128, "text_layers": 1, "text_width": 128, "text_heads": 4, "text_dropout": 0.0},
    "flamingo_3b": {},
    "flamingo_9b": {},
    "flamingo_80b": {},
}
"""Overrides of the defaults for the presets of `presets.PRESETS`."""


class TextEncoder(nn.Module):
    """A BERT whose tokens are averaged."""

    def __init__(self, config: ContrastiveConfig, vocab: int) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        self.width, self.most = config.text_width, config.text_tokens
        sizes = BertConfig(
            vocab_size=vocab,
            hidden_size=config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=config.text_heads,
            intermediate_size=4 * config.text_width,
            max_position_embeddings=config.text_tokens,
            hidden_dropout_prob=config.text_dropout,
            attention_probs_dropout_prob=config.text_dropout,
            type_vocab_size=1,
            pad_token_id=None,
        )
        self.bert = BertModel(sizes, add_pooling_layer=False)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Give the mean [B, D] over those tokens [B, T] that are `real` [B, T] bool, of what the last layer makes."""
        if tokens.shape[1] > self.most:
            raise ConfigError(f"texts have {tokens.shape[1]} tokens, contrastive.text_tokens is {self.most}")
        seen = real.clone()
        seen[:, 0] = True  # a row without text would have nothing to attend to, and its softmax no value
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        weights = seen[:, :, None].to(hidden.dtype)
        mean: Tensor = (hidden * weights).sum(1) / weights.sum(1)
        return mean


class Contrastive(nn.Module):
    """Two encoders into one space; gradients of `vision.tower` are clipped by unit (AGC), the others by their norm."""

    def __init__(self, vision: VisionEncoder, text: TextEncoder, config: ContrastiveConfig) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        self.image_projection = nn.Linear(vision.width, config.width, bias=False)
        self.text_projection = nn.Linear(text.width, config.width, bias=False)
        # As a logarithm it stays positive. Label smoothing bounds it: the best similarities are finite.
        self.log_inverse_temperature = nn.Parameter(torch.tensor(math.log(config.inverse_temperature)))
        self.smoothing = config.smoothing

    def forward(self, batch: Batch) -> Tensor:
        """Give this rank's part of the loss [] of a batch of pairs; those of all ranks add up to the loss.

        The ranks' batches have equally many rows. What `check_pairs` refuses is not seen again here.
        """
        images = self.images(self.pixels(batch))
        rows = torch.zeros(len(batch.tokens), images.shape[1], device=images.device)
        rows = rows.index_copy(0, batch.media_row.to(images.device, non_blocking=True), images)
        device = images.device
        texts = self.texts(batch.tokens.to(device), (batch.segment > 0).to(device))
        # A row without a picture, or with one that could not be decoded, has no targets.
        whole = batch.loss.any(1).to(device)
        return pair_loss(rows, texts, whole, self.log_inverse_temperature.float().exp(), self.smoothing)

    def pixels(self, batch: Batch) -> Tensor:
        """Mirror, jitter and normalise the pictures of a batch as it says: [M, 3, S, S]."""
        weight = self.image_projection.weight
        frames = batch.frames.to(weight.device, non_blocking=True)
        medium = torch.arange(len(frames), device=weight.device)
        return augment(frames, medium, batch.flip, batch.jitter, STATS[self.vision.stats], weight.dtype)

    def images(self, pixels: Tensor) -> Tensor:
        """Embed pictures [M, 3, S, S], normalised as `vision.stats` says: the mean of their positions, projected."""
        return functional.normalize(self.image_projection(self.vision(pixels).mean(1)).float(), dim=-1)

    def texts(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Embed texts [B, T], of which those that are not `real` [B, T] are padding."""
        return functional.normalize(self.text_projection(self.text(tokens, real)).float(), dim=-1)

    def split_parameters(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Name the parameters of the vision encoder, clipped by unit, and all others, clipped by their norm."""
        named = dict(self.named_parameters())
        vision = {name: parameter for name, parameter in named.items() if name.startswith("vision.tower.")}
        return vision, {name: parameter for name, parameter in named.items() if name not in vision}


def make_contrastive(config: ContrastiveConfig, vision: VisionConfig, vocab: int) -> Contrastive:
    """Make both encoders; the vision encoder learns whatever its settings say, the text encoder begins at random."""
    return Contrastive(make_vision(replace(vision, trainable=True)), TextEncoder(config, vocab), config)


def check_pairs(batch: Batch) -> None:
    """Refuse rows that are not one text and at most one picture (`ConfigError`); asked while they are on the CPU."""
    if len(batch.media_row) != len(batch.frames) or bool((batch.media_number > 1).any()):
        raise ConfigError(f"contrastive learning takes pairs of a text and one image, not {' or '.join(batch.names)}")
    if bool((batch.segment > 1).any()):
        raise ConfigError(f"contrastive learning takes one pair a row: no pack = true for {' and '.join(batch.names)}")


def pair_loss(images: Tensor, texts: Tensor, whole: Tensor, inverse_temperature: Tensor, smoothing: float) -> Tensor:
    """Add up both InfoNCE losses of pairs of embeddings [B, D], as this rank's part of the mean over pairs.

    Rows that are not `whole` [B] bool are no pairs, and nothing is told from them. The target of a row is its pair,
    with `smoothing` of it spread evenly over all pairs. Gradients reach the rows of other ranks.
    """
    with torch.autocast(images.device.type, enabled=False):
        both = torch.cat([images, texts, whole[:, None].to(images.dtype)], 1)
        width = images.shape[1]
        all_images, all_texts, flags = gather_rows(both).tensor_split((width, 2 * width), 1)
        others = flags.detach()[:, 0] > 0
        own = torch.arange(len(images), device=images.device) + len(images) * rank()
        losses = [
            smoothed_loss(inverse_temperature * queries @ keys.T, own, others, smoothing)
            for queries, keys in ((images, all_texts), (texts, all_images))
        ]
        total = torch.where(whole, losses[0] + losses[1], 0.0).sum()
        return total / others.sum().clamp(min=1)


def smoothed_loss(logits: Tensor, target: Tensor, others: Tensor, smoothing: float) -> Tensor:
    """Give the cross-entropy [B] of logits [B, G] over those columns that count, `others` [G] bool."""
    log_sum = logits.masked_fill(~others, -torch.finfo(logits.dtype).max).logsumexp(1)
    mean = torch.where(others, logits, 0.0).sum(1) / others.sum().clamp(min=1)
    right = logits.gather(1, target[:, None])[:, 0]
    loss: Tensor = log_sum - (1 - smoothing) * right - smoothing * mean
    return loss


def rank() -> int:
    """Tell which rank this is."""
    return dist.get_rank() if dist.is_initialized() else 0


# Versions of torch before 2.13 call these otherwise, later ones warn of the old names.
gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows [B, D] of all ranks to [G, D]; gradients flow back to the ranks that they come from."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    joined: Tensor = GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return joined


class GatherRows(torch.autograd.Function):
    """`gather_rows`: without a gradient through it each rank would learn from its own rows alone."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Join the ranks' rows."""
        joined = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
        gather_single(joined, rows.contiguous())
        return joined

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Add up what all ranks' losses say of this rank's rows."""
        own = gradient.new_empty(len(gradient) // dist.get_world_size(), *gradient.shape[1:])
        scatter_single(own, gradient.contiguous())
        return own


def recall_at_1(images: Tensor, texts: Tensor) -> tuple[float, float]:
    """Tell how often the text [N, D] nearest to a picture [N, D] is its own, and the picture nearest to a text."""
    similarity, own = images @ texts.T, torch.arange(len(images), device=images.device)
    return float((similarity.argmax(1) == own).float().mean()), float((similarity.argmax(0) == own).float().mean())
