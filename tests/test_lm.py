"""The language model: every family's parts are found, packed rows come out as their samples alone, new tokens learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lms_made import FAMILIES, LAYERS, VOCAB, WIDTH, made_lm
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flamingo_model.lm import LanguageModel, check_logits, make_lm, takes_packed
from flamingo_model.presets import LmConfig
from schemas.config import ConfigError

NEW = VOCAB + 2
SMALL = LmConfig(layers=2, width=32, heads=4, vocab=VOCAB, tokens=32)


def some_tokens(*shape: int) -> Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_make_the_logits_of_the_whole_exactly(family: str) -> None:
    model = made_lm(family)
    lm, tokens = LanguageModel(model, [NEW]), some_tokens(2, 9)
    with torch.no_grad():
        theirs = model(tokens).logits
        logits = lm.head(lm(tokens))
    assert torch.equal(logits[..., :VOCAB], theirs)
    assert logits[..., VOCAB:NEW].eq(-torch.inf).all()
    assert logits[..., NEW].isfinite().all()
    assert logits.shape[-1] == lm.vocab_size == NEW + 1
    assert len(lm.layers) == LAYERS
    assert lm.width == WIDTH
    check_logits(lm)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_of_a_packed_row_come_out_as_they_do_alone(family: str) -> None:
    lm = LanguageModel(made_lm(family), [NEW])
    one, other, third = some_tokens(1, 7), some_tokens(1, 9), some_tokens(1, 16)
    one[0, 3] = NEW
    tokens = torch.cat([torch.cat([one, other, torch.zeros(1, 2, dtype=torch.int64)], 1), third[:, [*range(16), 0, 0]]])
    segment = torch.tensor([[1] * 7 + [2] * 9 + [0] * 2, [1] * 16 + [0] * 2], dtype=torch.int32)
    position = torch.tensor([[*range(7), *range(9), 0, 0], [*range(16), 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        hidden = lm(tokens, position, segment)
        parts = (hidden[0, :7], hidden[0, 7:16], hidden[1, :16])
        for part, alone in zip(parts, (one, other, third), strict=True):
            torch.testing.assert_close(part, lm(alone)[0], rtol=1e-5, atol=1e-5)
    assert hidden.isfinite().all()
    assert takes_packed(lm)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_and_padding_before_rows_change_nothing(family: str) -> None:
    lm, tokens = LanguageModel(made_lm(family)), some_tokens(1, 9)
    with torch.no_grad():
        whole = lm(tokens)[0]
        cache = transformers.DynamicCache(config=lm.settings)
        steps = [lm(part, cache=cache)[0] for part in (tokens[:, :6], tokens[:, 6:7], tokens[:, 7:])]
        torch.testing.assert_close(torch.cat(steps), whole, rtol=1e-5, atol=1e-5)
        if not lm.takes_position:
            return  # distances are counted from the end, wherever a row begins
        padded = torch.cat([torch.zeros(1, 3, dtype=torch.int64), tokens], 1)
        mask = torch.tensor([[0] * 3 + [1] * 9])
        position = (mask.cumsum(1) - 1).clamp(min=0)
        late = lm(padded, position, mask=mask)[0, 3:]
    torch.testing.assert_close(late, whole, rtol=1e-5, atol=1e-5)


def test_plain_rows_need_no_mask_and_padding_at_their_end_changes_nothing() -> None:
    lm, tokens = LanguageModel(made_lm("llama")), some_tokens(2, 9)
    given: dict[str, Any] = {}

    def note(_: nn.Module, __: Any, named: dict[str, Any]) -> None:
        given.update(named)

    lm.layers[0].register_forward_pre_hook(note, with_kwargs=True)
    whole = lm(tokens)
    assert given["attention_mask"] is None
    padded = torch.cat([tokens, torch.zeros(2, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(lm(padded)[:, :9], whole, rtol=1e-5, atol=1e-5)


def test_packed_rows_need_positions_and_a_model_that_takes_them() -> None:
    tokens = some_tokens(1, 4)
    segment = torch.tensor([[1, 1, 2, 2]])
    with pytest.raises(ValueError, match="packed rows need the positions"):
        LanguageModel(made_lm("llama"))(tokens, None, segment)
    deaf = LanguageModel(made_lm("bloom", hidden_size=WIDTH, n_layer=LAYERS, n_head=4))
    check_logits(deaf)
    assert not takes_packed(deaf)
    deaf.packs = False
    with pytest.raises(ConfigError, match=r"BloomForCausalLM cannot take packed rows, which data\.pack"):
        deaf(tokens, torch.tensor([[0, 1, 0, 1]]), segment)


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "opt", "phi"])
def test_a_frozen_model_is_never_in_train_mode(family: str) -> None:
    """Trap: `model.train()` turns on the dropout of the frozen language model."""
    lm, tokens = LanguageModel(made_lm(family), [NEW]), some_tokens(1, 9)
    whole = nn.ModuleDict({"lm": lm}).train()
    assert whole.training
    assert not any(module.training for module in lm.modules())
    assert torch.equal(lm(tokens), lm(tokens))
    assert {name for name, weight in lm.named_parameters() if weight.requires_grad} <= {"new_input", "new_output"}
    learning = LanguageModel(made_lm(family), trainable=True).train()
    assert not torch.equal(learning(tokens), learning(tokens))
    assert all(weight.requires_grad for weight in learning.parameters())


@pytest.mark.parametrize("new", [5, VOCAB, NEW])
@pytest.mark.parametrize(("family", "sides"), [("gpt2", 1), ("gemma", 1), ("gpt_neox", 2), ("llama", 2)])
def test_of_a_frozen_model_only_the_rows_of_new_tokens_change(family: str, sides: int, new: int) -> None:
    """Trap: with an untied head the output row of a new token stays as it was, random."""
    model = made_lm(family)
    frozen = {name: weight.clone() for name, weight in model.state_dict().items()}
    lm, tokens = LanguageModel(model, [new]), some_tokens(2, 9).masked_fill(some_tokens(2, 9) == 5, 6)
    old = [id for id in range(VOCAB) if id != new]
    with torch.no_grad():
        before = lm.head(lm(tokens))
    learnt = [weight for weight in lm.parameters() if weight.requires_grad]
    assert len(learnt) == sides
    assert all(weight.shape == (1, model.get_input_embeddings().weight.shape[1]) for weight in learnt)
    rows = [weight.detach().clone() for weight in learnt]
    optimizer = torch.optim.AdamW(learnt, lr=0.1)
    shown = tokens.clone()
    shown[:, 4] = new
    lm.head(lm(shown))[..., new].sum().backward()
    optimizer.step()
    assert all((row != weight).any() for row, weight in zip(rows, learnt, strict=True))
    assert all(torch.equal(weight, frozen[name]) for name, weight in model.state_dict().items())
    with torch.no_grad():
        after = lm.head(lm(tokens))
    assert torch.equal(before[..., old], after[..., old])
    assert not torch.equal(before[..., new], after[..., new])


@pytest.mark.parametrize("family", ["gemma", "opt", "llama"])
def test_a_token_that_has_a_row_already_begins_as_it_was(family: str) -> None:
    model, tokens = made_lm(family), some_tokens(1, 9)
    tokens[0, 2] = 5
    lm = LanguageModel(model, [5])
    with torch.no_grad():
        torch.testing.assert_close(lm.head(lm(tokens)), model(tokens).logits, rtol=1e-5, atol=1e-5)


def test_a_model_without_the_parts_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="MambaForCausalLM has a decoder that takes no past_key_values"):
        LanguageModel(made_lm("mamba", hidden_size=WIDTH, num_hidden_layers=2))
    headless = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=VOCAB, **FAMILIES["llama"]))
    with pytest.raises(ConfigError, match="LlamaModel has no decoder apart from its head"):
        LanguageModel(headless)
    fewer = made_lm("llama")
    fewer.config.num_hidden_layers = 7
    with pytest.raises(ConfigError, match=r"no list of decoder blocks \(looked for 7 modules of one class\)"):
        LanguageModel(fewer)
    other = made_lm("gemma2")
    lm = LanguageModel(other)
    other.config.logits_scaling = 2.0
    with pytest.raises(ConfigError, match="Gemma2ForCausalLM makes logits otherwise"):
        check_logits(lm)


def test_without_weights_it_is_a_gpt_neox_of_the_sizes() -> None:
    lm = make_lm(SMALL, [VOCAB])
    assert isinstance(lm.model, transformers.GPTNeoXForCausalLM)
    assert (len(lm.layers), lm.width, lm.max_tokens, lm.packs) == (2, 32, 32, True)
    half = make_lm(SMALL, [VOCAB], torch.bfloat16)
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    assert half.new_input is not None
    assert half.new_input.dtype == torch.float32
    assert half.packs
    assert half.head(half(some_tokens(1, 5))).dtype == torch.bfloat16
    learning = make_lm(LmConfig(**{**settings(SMALL), "trainable": True}), dtype=torch.bfloat16)
    assert {weight.dtype for weight in learning.parameters()} == {torch.float32}


def settings(config: LmConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in LmConfig.__slots__}


def test_weights_are_read_from_a_folder_of_safetensors(tmp_path: Path) -> None:
    model = made_lm("llama")
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    tokens = some_tokens(1, 9)
    lm = make_lm(LmConfig(weights=str(tmp_path)), [NEW])
    with torch.no_grad():
        assert torch.equal(lm(tokens), LanguageModel(model)(tokens))
        anew = make_lm(LmConfig(weights=str(tmp_path), random=True, trainable=True))
        assert not torch.allclose(anew(tokens), lm(tokens), atol=1e-3)
    assert len(anew.layers) == LAYERS


def test_weights_that_are_not_there_or_not_whole_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lm\.weights: .* is no model in safetensors"):
        make_lm(LmConfig(weights=str(tmp_path / "none")))
    model = made_lm("llama")
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 tensors, as model\.layers\.1\.mlp\.up_proj\.weight"):
        make_lm(LmConfig(weights=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="is no model in safetensors"):
        make_lm(LmConfig(weights=str(tmp_path)))
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")  # pickled weights are not read
    with pytest.raises(ConfigError, match="is no model in safetensors"):
        make_lm(LmConfig(weights=str(tmp_path)))


def test_on_the_meta_device_it_takes_no_memory() -> None:
    with torch.device("meta"):
        lm = make_lm(LmConfig(layers=80, width=8192, heads=64), [1])
    assert sum(weight.numel() for weight in lm.parameters()) > 60e9
