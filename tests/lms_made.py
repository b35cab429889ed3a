"""Tiny random language models of Hugging Face's, by family: in, a name; out, a model whose weights matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

VOCAB, WIDTH, LAYERS, TOKENS = 64, 32, 3, 64
COMMON = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODERN = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": TOKENS,
    "intermediate_size": 48,
}  # fmt: skip
GROUPED = {**MODERN, "num_key_value_heads": 2, "head_dim": 8}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "gpt_neox": {**MODERN, "hidden_dropout": 0.1},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "opt": {**MODERN, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": TOKENS},
    "gemma": GROUPED,
    "gemma2": {**GROUPED, "sliding_window": 4},
    "mpt": {"d_model": WIDTH, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": TOKENS},
    "falcon": {**MODERN, "new_decoder_architecture": True},
    "phi": {**MODERN, "resid_pdrop": 0.1},
    "granite": {**GROUPED, "logits_scaling": 6.0, "embedding_multiplier": 2.0},
}
"""Rotary, learnt and linear positions; blocks in parallel and in turn; heads tied or not, with a bias, a scale, a cap;
windows in all blocks or in some."""


def made_lm(family: str, **settings: Any) -> nn.Module:
    """Make a model; `settings` change its configuration."""
    torch.manual_seed(0)
    known = {**COMMON, **FAMILIES.get(family, {}), **settings}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **known))
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.3)
    assert isinstance(model, nn.Module)
    return model
