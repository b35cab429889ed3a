"""The resampler: visual tokens of each picture and clip, from the features of their frames.

    features [F, P, V] of all frames, frames [M] of each medium → latents [M, R, D]

F frames, P positions of a frame, V width of the vision encoder, M media, R visual tokens of a medium, D width,
I = heads · head_width, S = n · P tokens of a medium of n frames. SPEC-flamingo, Forward pass; sizes and ablations of
v1 tables 1 and 7. New linears have no bias; LayerNorm has scale and bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flamingo_model.presets import ResamplerConfig

START = 0.02
"""Deviation of new latents and times, the Perceiver's (arXiv 2103.03206). What all pictures have in common is then
small beside what they show: three quarters of the visual tokens' deviation are the picture's at the start, with a
deviation of 1 a fifth, and the language model is much later to look at them. Latents are normalised before they ask,
so that they still differ in what they see."""


def linear(width: int, out: int) -> nn.Linear:
    """Make a linear without bias whose output is as large as its input."""
    layer = nn.Linear(width, out, bias=False)
    nn.init.normal_(layer.weight, std=width**-0.5)
    return layer


def attend(q_NQI: Tensor, k_NSI: Tensor, v_NSI: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:  # noqa: N803
    """Attend with `heads` heads; `mask` is true where a key is seen. Returns [N, Q, I]."""
    width = q_NQI.shape[-1] // heads
    q, k, v = (part.view(*part.shape[:2], heads, width).transpose(1, 2) for part in (q_NQI, k_NSI, v_NSI))
    return functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """LayerNorm, then a squared-ReLU network of one hidden layer, 4 D wide unless said otherwise."""

    def __init__(self, width: int, inner: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = linear(width, inner or 4 * width)
        self.down = linear(inner or 4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Give what is to be added to hidden [..., D]."""
        # A product and no `square`: autocast would compute that in float32, four widths of it.
        positive = functional.relu(self.up(self.norm(hidden)))
        added: Tensor = self.down(positive * positive)
        return added


class Attention(nn.Module):
    """Attention among tokens that are normalised already."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = linear(width, heads * head_width)
        self.to_kv = linear(width, 2 * heads * head_width)
        self.out = linear(heads * head_width, width)

    def forward(self, queries: Tensor, others: Tensor) -> Tensor:
        """Let queries [m, Q, D] look at others [m, S, D]; gives [m, Q, D]."""
        keys, values = self.to_kv(others).chunk(2, -1)
        found: Tensor = self.out(attend(self.to_q(queries), keys, values, self.heads))
        return found


class PerceiverLayer(nn.Module):
    """Latents look at the features and at themselves: q = LN(x), kv = [LN(x_f); LN(x)]; then the FFW."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.norm_features, self.norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, config.head_width)
        self.ffw = FeedForward(config.width)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """Take latents [m, R, D] and features [m, S, D] to latents."""
        normal = self.norm(latents)
        latents = latents + self.attention(normal, torch.cat([self.norm_features(features), normal], 1))
        added: Tensor = self.ffw(latents)
        return latents + added


class QformerLayer(nn.Module):
    """Queries look at each other, in a layer that is `crossing` at the features, and pass through the FFW."""

    def __init__(self, config: ResamplerConfig, crossing: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, config.head_width)
        self.crossing = crossing
        if crossing:
            self.norm_features, self.norm_cross = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
            self.cross = Attention(config.width, config.heads, config.head_width)
        self.ffw = FeedForward(config.width)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """Take latents [m, R, D] and features [m, S, D] to latents."""
        normal = self.norm(latents)
        latents = latents + self.attention(normal, normal)
        if self.crossing:
            latents = latents + self.cross(self.norm_cross(latents), self.norm_features(features))
        added: Tensor = self.ffw(latents)
        return latents + added


class Compressor(nn.Module):
    """Learnt latents that go through layers beside the features: R of them whatever S."""

    def __init__(self, config: ResamplerConfig, layers: list[nn.Module]) -> None:
        super().__init__()
        self.latents = nn.Parameter(START * torch.randn(config.latents, config.width))
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Take features [m, S, D] to latents [m, R, D]."""
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features)
        return latents


class TransformerLayer(nn.Module):
    """Self-attention and FFW, of as many parameters as a layer of the Perceiver."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, config.head_width)
        self.ffw = FeedForward(config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Take hidden [m, S, D] to hidden."""
        normal = self.norm(hidden)
        hidden = hidden + self.attention(normal, normal)
        added: Tensor = self.ffw(hidden)
        return hidden + added


class MlpLayer(nn.Module):
    """A wider FFW on each token, of as many parameters as a layer of the Perceiver: 2 D (4 D + 2 I)."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.ffw = FeedForward(config.width, 4 * config.width + 2 * config.heads * config.head_width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Take hidden [m, S, D] to hidden."""
        added: Tensor = self.ffw(hidden)
        return hidden + added


class Resampler(nn.Module):
    """Projected features with the embedding of their time (none of space), then `body`.

    A Perceiver or Q-Former gives R latents of every medium. An MLP or Transformer keeps the S tokens it is given, as
    in the paper, which calls the Perceiver the faster one because it alone compresses (v1 4.4.2): their media are
    filled up to the longest, and `sizes` tells how many tokens are each one's.
    """

    def __init__(self, config: ResamplerConfig, vision_width: int) -> None:
        super().__init__()
        self.width, self.compresses = config.width, config.kind in ("perceiver", "qformer")
        self.project = linear(vision_width, config.width)
        self.time = nn.Parameter(START * torch.randn(config.frames, config.width))
        self.body = make_body(config)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Take features [F, P, V] to latents [M, R, D]; `frames` [M] counts those of each medium, in their order.

        Counts on the CPU make the device wait for nothing. Raises ValueError for counts that do not fit.
        """
        groups = groups_of(frames, len(features))
        features = self.project(features)
        parts: list[Tensor] = [self.body(self.with_time(features, starts, count)) for count, _, starts in groups]
        if len(parts) == 1:
            return parts[0]
        longest = max(part.shape[1] for part in parts)
        joined = torch.cat([functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
        places = torch.cat([media for _, media, _ in groups])
        return joined.index_select(0, places.argsort().to(joined.device))

    def with_time(self, features: Tensor, starts: Tensor, count: int) -> Tensor:
        """Give the features [m, S, D] of media of `count` frames, with their time; `starts` [m] are the first ones."""
        if len(starts) * count == len(features):
            chosen = features.view(len(starts), count, *features.shape[1:])
        else:
            chosen = features[(starts[:, None] + torch.arange(count)).to(features.device)]
        return (chosen + time_rows(self.time, count)[:, None]).flatten(1, 2)

    def sizes(self, frames: Tensor, positions: int) -> Tensor | None:
        """Tell how many visual tokens each medium has [M], where that is not the same for all."""
        return None if self.compresses else frames.cpu() * positions


def groups_of(frames: Tensor, total: int) -> list[tuple[int, Tensor, Tensor]]:
    """Group media by their number of frames: (frames of each, the media [m], their first frames [m]).

    Without media there is one empty group, so that a backward pass reaches every weight all the same.
    """
    frames = frames.cpu().long()
    starts = frames.cumsum(0) - frames
    counts = sorted(set(frames.tolist())) or [1]
    if counts[0] < 1 or int(frames.sum()) != total:
        raise ValueError(f"media of {frames.tolist()} frames do not make {total} frames")
    media = [(frames == count).nonzero().flatten() for count in counts]
    return [(count, chosen, starts[chosen]) for count, chosen in zip(counts, media, strict=True)]


def time_rows(time: Tensor, count: int) -> Tensor:
    """Give the embeddings [count, D] of so many frames: the first rows, or all of them linearly interpolated."""
    rows = len(time)
    if count <= rows:
        return time[:count]
    at = torch.linspace(0, rows - 1, count, device=time.device)
    below = at.floor().clamp(max=max(rows - 2, 0)).long()
    above = (below + 1).clamp(max=rows - 1)
    return torch.lerp(time[below], time[above], (at - below).to(time.dtype)[:, None])


def make_body(config: ResamplerConfig) -> nn.Module:
    """Make what follows the projection: [m, S, D] → [m, R, D]."""
    layers = range(config.layers)
    if config.kind == "perceiver":
        return Compressor(config, [PerceiverLayer(config) for _ in layers])
    if config.kind == "qformer":
        return Compressor(config, [QformerLayer(config, crossing=layer % 2 == 0) for layer in layers])
    kind = TransformerLayer if config.kind == "transformer" else MlpLayer
    return nn.Sequential(*(kind(config) for _ in layers))


def make_resampler(config: ResamplerConfig, vision_width: int) -> Resampler:
    """Make the resampler of a configuration, for features of a width."""
    return Resampler(config, vision_width)
