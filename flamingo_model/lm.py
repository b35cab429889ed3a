"""The language model: any causal one of Hugging Face's with a list of decoder blocks, and the rows of new tokens.

    LmConfig, ids of new tokens → make_lm → LanguageModel
    tokens [B, T] → LanguageModel → hidden [B, T, D] → its head → logits [B, T, W]

B rows, T tokens, D width, V rows of the embedding, K new tokens; W is V, or more where new tokens lie beyond it. The
parts are found by their structure, not by names of classes. Frozen unless the settings say otherwise: no gradients,
and never in train mode (SPEC-flamingo, Forward pass and its traps).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from flamingo_model.presets import LmConfig
from schemas.config import ConfigError

WANTED = ("inputs_embeds", "attention_mask", "past_key_values")
"""What a decoder must take."""
WINDOWED, WHOLE = "sliding_attention", "full_attention"
"""Kinds of self-attention, as configurations name them."""


@dataclass(frozen=True, slots=True)
class Head:
    """What makes logits of hidden states: the language model's own rows, and those of new tokens."""

    weight: Tensor
    """[V, D]: the output embedding."""
    bias: Tensor | None = None
    """[V]."""
    rows: Tensor | None = None
    """[K, D]: the rows of new tokens, learnt."""
    ids: tuple[int, ...] = ()
    """The new tokens; one of less than V stands for the embedding's row, others lie behind it."""
    divisor: float = 1.0
    """What the language model divides its logits by."""
    cap: float | None = None
    """What it bounds them by, with a tanh."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Give the logits [..., W] of hidden [..., D]; an id that neither has a row has -inf."""
        known, new = self.parts(hidden)
        if new is None:
            return known
        logits = functional.pad(known, (0, max(0, max(self.ids) + 1 - len(self.weight))), value=-torch.inf)
        for number, id in enumerate(self.ids):
            logits[..., id] = new[..., number]
        return logits

    def is_new(self, tokens: Tensor) -> Tensor:
        """Tell which of the new tokens each token [...] is: bool [..., K]."""
        # No tensor of ids: to a device it would have to be copied each time.
        return torch.stack([tokens == id for id in self.ids], -1)

    def parts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give the logits of the embedding's rows [..., V] and those of new tokens [..., K]."""
        hidden = hidden.to(self.weight.dtype)
        known = self.finish(functional.linear(hidden, self.weight, self.bias))
        if self.rows is None:
            return known, None
        return known, self.finish(functional.linear(hidden, self.rows.to(self.weight.dtype)))

    def finish(self, logits: Tensor) -> Tensor:
        """Scale and bound logits as the language model does."""
        if self.divisor != 1:
            logits = logits / self.divisor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def slope(self, logits: Tensor) -> Tensor | None:
        """Tell how much the bound lets through at finished logits; None where there is no bound."""
        return None if self.cap is None else 1 - (logits / self.cap) ** 2

    def inside(self) -> list[int]:
        """List the new tokens that stand for rows of the embedding."""
        return [id for id in self.ids if id < len(self.weight)]


class LanguageModel(nn.Module):
    """A causal language model of Hugging Face's, whose blocks can be hooked and to which tokens can be added.

    `layers` are its decoder blocks in order, `width` is theirs, `max_tokens` the most positions that it has. `packs`
    says whether it takes packed rows.
    """

    def __init__(self, model: nn.Module, new_tokens: Sequence[int] = (), trainable: bool = False) -> None:
        """Find the parts of `model`, and add rows for tokens; `ConfigError` says which part it has not."""
        super().__init__()
        self.model, self.trainable = model, trainable
        self.settings: Any = model.config
        self.body_name, self.layers_name = find_body(model), find_layers(model)
        self.takes_position = "position_ids" in inspect.signature(self.body.forward).parameters
        inner, outer = embedding_of(model).weight, head_of(model).weight
        self.new_tokens = tuple(new_tokens)
        model.requires_grad_(trainable)
        self.new_input = nn.Parameter(new_rows(inner, self.new_tokens)) if new_tokens else None
        # A language model that has one matrix for both sides has one row of a token for both sides.
        self.new_output = nn.Parameter(new_rows(outer, self.new_tokens)) if new_tokens and outer is not inner else None
        self.packs = True
        self.train()

    @property
    def body(self) -> nn.Module:
        """What makes hidden states: the model less its head."""
        return self.model.get_submodule(self.body_name)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder blocks."""
        layers = self.model.get_submodule(self.layers_name)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def width(self) -> int:
        """Width of the blocks."""
        return int(self.settings.hidden_size)

    @property
    def max_tokens(self) -> int | None:
        """The most positions of a row; None where nothing bounds them."""
        named = (getattr(self.settings, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        return next((int(most) for most in named if most is not None), None)

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return max(len(embedding_of(self.model).weight), *(id + 1 for id in self.new_tokens), 0)

    @property
    def head(self) -> Head:
        """What makes logits of hidden states."""
        head = head_of(self.model)
        rows = self.new_input if self.new_output is None else self.new_output
        divisor, cap = scaling_of(self.settings)
        return Head(head.weight, head.bias, rows, self.new_tokens, divisor, cap)

    def train(self, mode: bool = True) -> LanguageModel:
        """Change the mode, which for a frozen model is never that of training: it has dropout."""
        super().train(mode and self.trainable)
        return self

    def forward(
        self,
        tokens: Tensor,
        position: Tensor | None = None,
        segment: Tensor | None = None,
        cache: Any = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Give the hidden states [B, T, D] that the head takes, of tokens [B, T].

        Without more, rows are plain: causal attention, positions from 0 or from the end of `cache`, one of
        transformers', which grows. Padding may then stand at the end of a row. `segment` [B, T] says which sample of a
        packed row a token belongs to, 0 for padding: samples do not see each other, and `position` [B, T] restarts
        with each. `mask` [B, past + T] is for padding at the beginning of rows, 0 where it is, and also needs
        `position`.
        """
        given: dict[str, Any] = {"inputs_embeds": self.embed(tokens), "use_cache": cache is not None}
        if cache is not None:
            given["past_key_values"] = cache
        if segment is not None:
            if not self.packs:
                made_by = "which data.pack and train.accumulate = merged make"
                raise ConfigError(f"{name_of(self.model)} cannot take packed rows, {made_by}")
            if position is None:
                raise ValueError("packed rows need the positions of their tokens")
            mask = self.packed_mask(segment, given["inputs_embeds"].dtype)
        if mask is not None:
            given["attention_mask"] = mask
            if position is not None and self.takes_position:
                given["position_ids"] = position.long()
        hidden = self.body(**given)[0]
        assert isinstance(hidden, Tensor)
        return hidden

    def embed(self, tokens: Tensor) -> Tensor:
        """Give the embeddings [B, T, D] of tokens, new ones from their own rows."""
        table = embedding_of(self.model)
        if self.new_input is None:
            return table(tokens)  # type: ignore[no-any-return]
        which = self.head.is_new(tokens)
        is_new = which.any(-1, keepdim=True)
        known = table(tokens.masked_fill(is_new[..., 0], 0))
        # Gemma's table multiplies what it holds.
        rows = self.new_input * getattr(table, "embed_scale", 1.0)
        return torch.where(is_new, (which.to(rows.dtype) @ rows).to(known.dtype), known)

    def packed_mask(self, segment: Tensor, dtype: torch.dtype) -> Any:
        """Make the mask [B, 1, T, T] of packed rows: causal, within a segment, and within the model's window.

        Padding sees padding, for a softmax over nothing is not a number.
        """
        place = torch.arange(segment.shape[1], device=segment.device)
        before = place[:, None] - place
        together = (segment[:, :, None] == segment[:, None, :]) & (before >= 0)
        window = getattr(self.settings, "sliding_window", None)
        kinds = kinds_of(self.settings)
        masks = {WHOLE: together, WINDOWED: together if window is None else together & (before < window)}
        shaped = {kind: masks[kind][:, None] for kind in kinds}
        if self.settings._attn_implementation == "eager":
            shaped = {kind: added(mask, dtype) for kind, mask in shaped.items()}
        return shaped if len(shaped) > 1 else shaped.popitem()[1]


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Write a mask as what is added to scores, for attention that is not of one kernel."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def name_of(model: nn.Module) -> str:
    """Name a model in messages."""
    return f"the language model {type(model).__name__}"


def kinds_of(settings: Any) -> set[str]:
    """Tell the kinds of self-attention of a model's layers."""
    named = getattr(settings, "layer_types", None)
    if named:
        return set(named)
    return {WHOLE if getattr(settings, "sliding_window", None) is None else WINDOWED}


def find_body(model: nn.Module) -> str:
    """Find what makes hidden states of embeddings, by its name in the model."""
    body = getattr(model, "base_model", model)
    if body is model:
        raise ConfigError(f"{name_of(model)} has no decoder apart from its head (looked for base_model)")
    taken = inspect.signature(body.forward).parameters
    if lacking := [name for name in WANTED if name not in taken]:
        raise ConfigError(f"{name_of(model)} has a decoder that takes no {', '.join(lacking)}")
    return str(next(name for name, module in model.named_modules() if module is body))


def find_layers(model: nn.Module) -> str:
    """Find the list of decoder blocks, by its name in the model: as many as there are layers, all of one class."""
    count = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and len({type(block) for block in module}) == 1:
            return str(name)
    raise ConfigError(f"{name_of(model)} has no list of decoder blocks (looked for {count} modules of one class)")


def embedding_of(model: Any) -> nn.Embedding:
    """Give the table of tokens' embeddings."""
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise ConfigError(f"{name_of(model)} has no table of embeddings (looked for get_input_embeddings)")
    return table


def head_of(model: Any) -> nn.Linear:
    """Give the output embedding."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"{name_of(model)} has no linear head (looked for get_output_embeddings)")
    return head


def scaling_of(settings: Any) -> tuple[float, float | None]:
    """Tell what a model divides its logits by and bounds them by: Granite, Cohere, Gemma 2."""
    divisor = getattr(settings, "logits_scaling", None) or 1 / (getattr(settings, "logit_scale", None) or 1)
    return float(divisor), getattr(settings, "final_logit_softcapping", None)


def new_rows(table: Tensor, tokens: Sequence[int]) -> Tensor:
    """Make the first rows of new tokens, float32 [K, D]: what the table has for them, and else its mean."""
    inside = [id for id in tokens if id < len(table)]
    mean = table.detach().float().mean(0) if len(inside) < len(tokens) else None
    return torch.stack([table[id].detach().float() if mean is None or id < len(table) else mean for id in tokens])


def make_lm(config: LmConfig, new_tokens: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load or make a language model; a frozen one is kept in `dtype`, one that learns in float32.

    `ConfigError` says what is wrong with the weights, or which part the model lacks.
    """
    model = load_model(config, torch.float32 if config.trainable else dtype)
    lm = LanguageModel(model, new_tokens, config.trainable)
    if next(model.parameters()).device.type != "meta":
        check_logits(lm)
        lm.packs = takes_packed(lm)
    return lm


def load_model(config: LmConfig, dtype: torch.dtype) -> nn.Module:
    """Load a model of transformers, from safetensors only and without code of its own, or make one at random."""
    import transformers

    if not config.weights:
        settings = transformers.GPTNeoXConfig(
            vocab_size=config.vocab,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            max_position_embeddings=config.tokens,
            bos_token_id=None,
            eos_token_id=None,
        )
        return made(settings, dtype)
    try:
        if config.random:
            return made(transformers.AutoConfig.from_pretrained(config.weights), dtype)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            config.weights, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"lm.weights: {config.weights!r} is no model in safetensors: {why}") from None
    if lacking := sorted(info["missing_keys"]):
        raise ConfigError(f"lm.weights: {config.weights!r} lacks {len(lacking)} tensors, as {lacking[0]}")
    assert isinstance(model, nn.Module)
    return model


def made(settings: Any, dtype: torch.dtype) -> nn.Module:
    """Make a model of its settings, with random weights."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=dtype)
    assert isinstance(model, nn.Module)
    return model


@torch.no_grad()
def check_logits(lm: LanguageModel) -> None:
    """Refuse a model whose logits are not those that its head makes of its decoder's hidden states."""
    tokens = torch.arange(4, device=embedding_of(lm.model).weight.device)[None]
    theirs = lm.model.eval()(tokens).logits
    ours = replace(lm.head, rows=None, ids=())(lm.body(tokens)[0])
    lm.train()
    if not agree(theirs, ours):
        raise ConfigError(f"{name_of(lm.model)} makes logits otherwise than by a linear head of its hidden states")


@torch.no_grad()
def takes_packed(lm: LanguageModel) -> bool:
    """Tell whether samples of a packed row come out as they do alone: not of a model that overlooks what it is told."""
    if not kinds_of(lm.settings) <= {WHOLE, WINDOWED}:
        return False
    device = embedding_of(lm.model).weight.device
    tokens = torch.tensor([[1, 2, 3, 3, 2, 1, 0]], device=device)
    segment = torch.tensor([[1, 1, 1, 2, 2, 2, 2]], device=device)
    position = torch.tensor([[0, 1, 2, 0, 1, 2, 3]], device=device)
    lm.model.eval()
    alone = lm(tokens[:, 3:])
    try:
        packed = lm(tokens, position, segment)[:, 3:]
    except (ValueError, RuntimeError):  # it takes no mask of such a shape
        return False
    finally:
        lm.train()
    return agree(packed, alone)


def agree(one: Tensor, other: Tensor) -> bool:
    """Tell whether two results are the same but for rounding, which in bf16 is coarse."""
    distance, size = (one.float() - other.float()).norm(), other.float().norm()
    return bool(distance <= (1e-3 if one.dtype == torch.float32 else 5e-2) * size)
