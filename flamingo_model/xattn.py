"""Cross-attention of a language model to visual tokens: the blocks that look, and where they belong.

    hidden [B, T, D], Seen → block → hidden [B, T, D]
    placements(config, layers) → where; hook(block, layers, where, current) puts it there

B rows, T tokens, D width of the language model, M media, R visual tokens of a medium, V their width,
I = heads · head width. SPEC-flamingo, Forward pass, and rows (iii) to (v) of its ablations (v1 4.4.2).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from flamingo_model.presets import XattnConfig
from flamingo_model.resampler import FeedForward, attend, linear
from flamingo_model.seen import Seen


class CrossAttention(nn.Module):
    """Tokens look at the visual tokens that they see; keys and values share one LayerNorm."""

    def __init__(self, config: XattnConfig, width: int, visual_width: int) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.norm, self.norm_visual = nn.LayerNorm(width), nn.LayerNorm(visual_width)
        self.to_q, self.to_kv = linear(width, inner), linear(visual_width, 2 * inner)
        self.out = linear(inner, width)

    def forward(self, hidden: Tensor, seen: Seen) -> Tensor:
        """Give what is to be added to hidden [B, T, D]: zero where a token sees nothing."""
        if seen.blind:
            return torch.zeros_like(hidden)
        keys, values = self.keys_values(seen)
        found: Tensor = self.out(seen.reach.attend(self.to_q(self.norm(hidden)), keys, values, self.heads))
        return found

    def keys_values(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Give keys and values [M, R, I], from the cache if it has them."""
        if seen.cache is not None and self in seen.cache.visual:
            return seen.cache.visual[self]
        keys, values = self.to_kv(self.norm_visual(seen.latents)).chunk(2, -1)
        if seen.cache is not None:
            seen.cache.visual[self] = keys, values
        return keys, values


class CausalAttention(nn.Module):
    """Tokens look at those before them in their segment, as the layers that are grafted on need."""

    def __init__(self, config: XattnConfig, width: int) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.norm = nn.LayerNorm(width)
        self.to_q, self.to_kv = linear(width, inner), linear(width, 2 * inner)
        self.out = linear(inner, width)

    def forward(self, hidden: Tensor, seen: Seen, mask: Tensor) -> Tensor:
        """Give what is to be added to hidden [B, T, D]; `mask` [B, 1, T, S] covers the cached tokens too."""
        normal = self.norm(hidden)
        keys_values = self.to_kv(normal)
        if seen.cache is not None:
            if self in seen.cache.text:
                keys_values = torch.cat([*seen.cache.text[self], keys_values], 1)
            seen.cache.text[self] = (keys_values,)
        keys, values = keys_values.chunk(2, -1)
        found: Tensor = self.out(attend(self.to_q(normal), keys, values, self.heads, mask))
        return found


class Gate(nn.Module):
    """A residual sum whose summand is multiplied by the tanh of a learnt number, 0 at the start."""

    def __init__(self, tanh: bool) -> None:
        super().__init__()
        # A vector of one: FSDP cannot shard a scalar.
        self.weight = nn.Parameter(torch.zeros(1)) if tanh else None

    def forward(self, hidden: Tensor, added: Tensor) -> Tensor:
        """Add to hidden [B, T, D], in its type."""
        if self.weight is None:
            return hidden + added.to(hidden.dtype)
        return torch.addcmul(hidden, torch.tanh(self.weight).to(hidden.dtype), added.to(hidden.dtype))

    def opening(self) -> Tensor:
        """Tell how far it is open [], from 0 to 1 or -1; without a gate 1."""
        return torch.ones(()) if self.weight is None else torch.tanh(self.weight.detach()).squeeze()


class GatedBlock(nn.Module):
    """GATED XATTN-DENSE: cross-attention and FFW, a gate each. Stands before a block of the language model."""

    def __init__(self, config: XattnConfig, width: int, visual_width: int) -> None:
        super().__init__()
        self.attention = CrossAttention(config, width, visual_width)
        self.gate = Gate(config.tanh_gate)
        self.ffw = FeedForward(width)
        self.gate_ffw = Gate(config.tanh_gate)

    def forward(self, hidden: Tensor, seen: Seen) -> Tensor:
        """Take hidden [B, T, D] to hidden."""
        hidden = self.gate(hidden, self.attention(hidden, seen))
        return self.gate_ffw(hidden, self.ffw(hidden))  # type: ignore[no-any-return]


class VanillaBlock(nn.Module):
    """Cross-attention alone. Stands in a block of the language model, between its self-attention and its FFW.

    It is gated as well, which the paper found to be fairer to it.
    """

    def __init__(self, config: XattnConfig, width: int, visual_width: int) -> None:
        super().__init__()
        self.attention = CrossAttention(config, width, visual_width)
        self.gate = Gate(config.tanh_gate)

    def forward(self, hidden: Tensor, seen: Seen, onto: Tensor | None = None) -> Tensor:
        """Look from hidden [B, T, D], and add to it or `onto` another."""
        added = self.attention(hidden, seen)
        return self.gate(hidden if onto is None else onto, added)  # type: ignore[no-any-return]


class SelfBlock(nn.Module):
    """Self-attention and FFW, as in a gated block."""

    def __init__(self, config: XattnConfig, width: int) -> None:
        super().__init__()
        self.attention = CausalAttention(config, width)
        self.gate = Gate(config.tanh_gate)
        self.ffw = FeedForward(width)
        self.gate_ffw = Gate(config.tanh_gate)

    def forward(self, hidden: Tensor, seen: Seen, mask: Tensor) -> Tensor:
        """Take hidden [B, T, D] to hidden."""
        hidden = self.gate(hidden, self.attention(hidden, seen, mask))
        return self.gate_ffw(hidden, self.ffw(hidden))  # type: ignore[no-any-return]


class Graft(nn.Module):
    """Layers of self- and cross-attention in turn, on top of a language model that is used as it is.

    Stands after the last block; the language model's own norm and head read what comes out.
    """

    def __init__(self, config: XattnConfig, width: int, visual_width: int, pairs: int) -> None:
        super().__init__()
        self.own = nn.ModuleList(SelfBlock(config, width) for _ in range(pairs))
        self.cross = nn.ModuleList(GatedBlock(config, width, visual_width) for _ in range(pairs))

    def forward(self, hidden: Tensor, seen: Seen) -> Tensor:
        """Take hidden [B, T, D] to hidden."""
        mask = self.mask(seen)
        for own, cross in zip(self.own, self.cross, strict=True):
            hidden = cross(own(hidden, seen, mask), seen)
        return hidden

    def mask(self, seen: Seen) -> Tensor:
        """Tell which tokens each one looks at [B, 1, T, S], those of earlier steps included."""
        segment = seen.segment
        if seen.cache is not None:
            if self in seen.cache.text:
                segment = torch.cat([*seen.cache.text[self], segment], 1)
            seen.cache.text[self] = (segment,)
        new, total = seen.segment.shape[1], segment.shape[1]
        causal = torch.ones(new, total, dtype=torch.bool, device=segment.device).tril(total - new)
        return (causal & (seen.segment[:, :, None] == segment[:, None]))[:, None]


def placements(config: XattnConfig, layers: int) -> list[int]:
    """Tell before (`vanilla`: in) which of the blocks of a language model those of cross-attention stand.

    What is grafted on stands after all, at `layers`.
    """
    if config.kind == "grafting":
        return [layers]
    return [layers // 2] if config.single else list(range(0, layers, config.every))


def make_xattn(config: XattnConfig, lm_width: int, visual_width: int, layers: int) -> nn.Module:
    """Make the block for one of the `placements` in a language model of so many layers.

    A graft has as many layers as there would be gated blocks, half of them cross-attention: the paper does not say.
    """
    if config.kind == "gated":
        return GatedBlock(config, lm_width, visual_width)
    if config.kind == "vanilla":
        return VanillaBlock(config, lm_width, visual_width)
    blocks = 1 if config.single else len(range(0, layers, config.every))
    return Graft(config, lm_width, visual_width, max(1, blocks // 2))


def gates(xattn: nn.Module) -> dict[str, Tensor]:
    """Tell how far each gate below a module is open, by its name: scalars, on their device, to be logged."""
    return {name: module.opening() for name, module in xattn.named_modules() if isinstance(module, Gate)}


def hook(
    block: nn.Module, layers: Sequence[nn.Module], place: int, current: Callable[[], Seen | None]
) -> list[RemovableHandle]:
    """Put a block at one of its `placements` among the blocks of a language model.

    `current` tells what the pass that is under way looks at; with None it goes through the language model alone.
    Raises ValueError where a block of the language model has no part that a vanilla block could stand behind.
    """
    if isinstance(block, Graft):
        return [layers[-1].register_forward_hook(after(block, current))]
    if isinstance(block, VanillaBlock):
        return hook_inside(block, layers[place], current)

    def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        seen = current()
        return None if seen is None else with_hidden(given, named, block(hidden_of(given, named), seen))

    return [layers[place].register_forward_pre_hook(before, with_kwargs=True)]


def after(block: nn.Module, current: Callable[[], Seen | None]) -> Callable[..., Any]:
    """Make the hook that changes the first output of a module."""

    def change(_: nn.Module, __: Any, output: Any) -> Any:
        seen = current()
        if seen is None:
            return None
        return (block(output[0], seen), *output[1:]) if isinstance(output, tuple) else block(output, seen)

    return change


def hook_inside(block: nn.Module, layer: nn.Module, current: Callable[[], Seen | None]) -> list[RemovableHandle]:
    """Put a block behind the self-attention of a block of the language model.

    What comes out of that is added to the block's input, so the stream that both make is what the block reads, and
    what it adds is added to the same output. In blocks whose FFW stands beside their attention (GPT-NeoX, Falcon) the
    FFW does not see it until the next block.
    """
    summand = attention_of(layer)
    stream: list[Tensor] = []

    def remember(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        stream[:] = [hidden_of(given, named)]

    def add(_: nn.Module, __: Any, output: Any) -> Any:
        seen = current()
        hidden = stream.pop()
        if seen is None:
            return None
        first = output[0] if isinstance(output, tuple) else output
        changed = block(hidden + first, seen, onto=first)  # a difference of streams would be rounded
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return [layer.register_forward_pre_hook(remember, with_kwargs=True), summand.register_forward_hook(add)]


def attention_of(layer: nn.Module) -> nn.Module:
    """Find the part of a language model's block whose output is added to the block's input: its self-attention.

    Where a norm stands behind the FFW (Gemma 2 and 3, OLMo 2), there is one behind the attention too.
    """
    parts = dict(layer.named_children())
    if "post_feedforward_layernorm" in parts and "post_attention_layernorm" in parts:
        return parts["post_attention_layernorm"]
    named = [name for name in parts if re.search("attn|attention", name) and not re.search("norm|dropout", name)]
    found = [parts[name] for name in named]
    if len(found) != 1 or "residual" in inspect.signature(found[0].forward).parameters:
        raise ValueError(
            f"vanilla cross-attention stands behind self-attention: {type(layer).__name__} "
            f"({', '.join(parts)}) has not one part whose output is added to the block's input"
        )
    return found[0]


def hidden_of(given: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """Get the hidden states that a block of a language model is called with."""
    hidden: Tensor = given[0] if given else named["hidden_states"]
    return hidden


def with_hidden(
    given: tuple[Any, ...], named: dict[str, Any], hidden: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Call it with others."""
    return ((hidden, *given[1:]), named) if given else (given, {**named, "hidden_states": hidden})
