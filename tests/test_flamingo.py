"""The Flamingo: four parts joined by hooks, which begin as the frozen language model and leave nothing behind.

Traps of SPEC-flamingo and of other trainers that concern the whole model, each with its test here:

    frozen parts in train mode                       test_frozen_parts_never_train
    images of padded slots encoded                   test_only_frames_that_are_there_are_encoded_and_once
    state left by a pass that failed                 test_a_pass_that_fails_leaves_nothing_behind
    text that sees an image behind it                test_a_token_sees_its_image_and_no_other
    samples of a packed row that see each other      test_packed_samples_come_out_as_they_do_alone
    parts without gradient where a batch has no image, at which ranks hang
                                                     test_a_batch_without_images_reaches_all_that_learns
    a new token's row that does not learn            test_lm.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from lms_made import FAMILIES, VOCAB, made_lm
from torch import Tensor, nn
from torch._dynamo.utils import counters

from flamingo_model.batch import Batch
from flamingo_model.flamingo import Flamingo, make_blocks, make_flamingo, size_table, sizes
from flamingo_model.lm import LanguageModel
from flamingo_model.losses import find_targets, token_loss
from flamingo_model.presets import ABLATIONS, PAPER_SIZES, FlamingoConfig, preset
from flamingo_model.resampler import make_resampler
from flamingo_model.tokens import ByteTokenizer
from flamingo_model.vision import make_vision
from schemas.config import ConfigError

SIDE_PX, COUNT = 32, 16
SMALL: Mapping[str, Any] = {
    "vision.image_px": SIDE_PX, "resampler.layers": 1, "resampler.width": 16, "resampler.heads": 2,
    "resampler.head_width": 8, "resampler.latents": 3, "xattn.heads": 2, "xattn.head_width": 8,
    "lm.layers": 2, "lm.width": 32, "lm.vocab": 300, "lm.tokens": 32,
}  # fmt: skip


def small_config(**changes: Any) -> FlamingoConfig:
    return preset("tiny", {**SMALL, **{name.replace("__", "."): value for name, value in changes.items()}})


def small_flamingo(family: str = "llama", **changes: Any) -> Flamingo:
    torch.manual_seed(2)
    config, lm = small_config(**changes), LanguageModel(made_lm(family), [VOCAB])
    vision = make_vision(config.vision)
    resampler = make_resampler(config.resampler, vision.width)
    return Flamingo(vision, resampler, lm, make_blocks(config, lm.width, len(lm.layers)), config.xattn.see_all)


def opened(model: Flamingo) -> Flamingo:
    """Open the gates, so that images matter."""
    for name, weight in model.xattn.named_parameters():
        if "gate" in name:
            nn.init.constant_(weight, 0.7)
    return model


def made_batch(media: list[list[int]], rows: list[list[tuple[int, int, int]]], seed: int = 0) -> Batch:
    """Make rows of segments (tokens, medium before the middle, medium from there) that see media of so many frames."""
    chance = torch.Generator().manual_seed(seed)
    shape = (len(rows), COUNT)
    segment, position, image_of = (torch.zeros(shape, dtype=torch.int32) for _ in range(3))
    for row, parts in enumerate(rows):
        at = 0
        for number, (length, early, late) in enumerate(parts, 1):
            here = slice(at, at + length)
            segment[row, here], position[row, here] = number, torch.arange(length, dtype=torch.int32)
            image_of[row, here] = torch.where(torch.arange(length) < length // 2, early, late).int()
            at += length
    tokens = torch.randint(3, VOCAB, shape, generator=chance).masked_fill(segment == 0, 0)
    counts = [count for row in media for count in row]
    frames = torch.randint(256, (sum(counts), 3, SIDE_PX, SIDE_PX), generator=chance, dtype=torch.uint8)
    return Batch(
        tokens=tokens,
        loss=(segment > 0) & (position > 0),
        image_of=image_of,
        segment=segment,
        position=position,
        source=torch.zeros(shape, dtype=torch.int32),
        frames=frames,
        media_row=torch.tensor([row for row, counts in enumerate(media) for _ in counts], dtype=torch.int64),
        media_number=torch.tensor([number for counts in media for number in range(1, len(counts) + 1)]).long(),
        media_frames=torch.tensor(counts, dtype=torch.int64),
        flip=torch.zeros(len(counts), dtype=torch.bool),
        jitter=torch.ones(len(counts), 3),
        keys=tuple(tuple("k" for _ in parts) for parts in rows),
        names=("some",),
    )


PLAIN = made_batch([[1, 3], [1]], [[(16, 1, 2)], [(12, 0, 1)]])
PACKED = made_batch([[1, 3], [1]], [[(7, 0, 1), (9, 0, 2)], [(12, 1, 1)]])
TEXT = made_batch([[], []], [[(16, 0, 0)], [(12, 0, 0)]])


def loss_of(model: Flamingo, batch: Batch, features: Tensor | None = None) -> Tensor:
    targets = find_targets(batch)
    return token_loss(model(batch, features), targets, torch.ones(len(targets.label)), model.lm.head)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_start_the_logits_are_those_of_the_frozen_language_model(family: str) -> None:
    model = small_flamingo(family)
    with torch.no_grad():
        logits = model.lm.head(model(PLAIN))[..., :VOCAB]
        assert torch.equal(logits, model.lm.model(PLAIN.tokens).logits)
        opened(model)
        assert not torch.allclose(model.lm.head(model(PLAIN))[..., :VOCAB], logits, atol=1e-3)


@pytest.mark.parametrize("kind", ["vanilla", "grafting"])
@pytest.mark.parametrize("family", ["gpt_neox", "opt", "gpt2"])
def test_so_are_they_of_the_ablations(family: str, kind: str) -> None:
    model = small_flamingo(family, xattn__kind=kind)
    with torch.no_grad():
        logits = model.lm.head(model(PLAIN))[..., :VOCAB]
        assert torch.equal(logits, model.lm.model(PLAIN.tokens).logits)
        opened(model)
        assert not torch.allclose(model.lm.head(model(PLAIN))[..., :VOCAB], logits, atol=1e-3)


def test_a_token_sees_its_image_and_no_other() -> None:
    model = opened(small_flamingo())
    frames = PLAIN.frames.clone()
    frames[1:4] = 255 - frames[1:4]  # the clip, which the second half of the first row sees
    with torch.no_grad():
        before, after = model(PLAIN), model(replace(PLAIN, frames=frames))
    changed = (before != after).any(-1)
    assert changed.nonzero().tolist() == [[0, column] for column in range(8, 16)]


@pytest.mark.parametrize("changes", [{}, {"xattn__see_all": True}, {"xattn__kind": "grafting"}, {"xattn__every": 2}])
def test_packed_samples_come_out_as_they_do_alone(changes: dict[str, Any]) -> None:
    model = opened(small_flamingo("gpt_neox", **changes))
    alone = made_batch([[1], [3], [1]], [[(7, 0, 1)], [(9, 0, 1)], [(12, 1, 1)]])
    tokens = alone.tokens.clone()
    tokens[0, :7], tokens[1, :9], tokens[2] = PACKED.tokens[0, :7], PACKED.tokens[0, 7:], PACKED.tokens[1]
    alone = replace(alone, tokens=tokens, frames=PACKED.frames)
    with torch.no_grad():
        packed, single = model(PACKED), model(alone)
    for part, expected in (
        (packed[0, :7], single[0, :7]),
        (packed[0, 7:], single[1, :9]),
        (packed[1, :12], single[2, :12]),
    ):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


class Counting(nn.Module):
    """Notes how many frames each call encodes, and in which mode."""

    def __init__(self, vision: nn.Module) -> None:
        super().__init__()
        self.calls: list[int] = []
        vision.register_forward_pre_hook(self.note)

    def note(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        assert not module.training
        self.calls.append(len(given[0]))


def test_only_frames_that_are_there_are_encoded_and_once() -> None:
    model = opened(small_flamingo()).train()
    noted = Counting(model.vision)
    hidden = model(PLAIN)
    assert noted.calls == [len(PLAIN.frames)] == [5]
    model(TEXT)
    model(PLAIN, blind=True)
    assert noted.calls == [5]
    features = model.encode(model.pixels(PLAIN))
    assert not features.requires_grad
    assert torch.equal(model(PLAIN, features), hidden)
    assert noted.calls == [5, 5]


def test_blind_it_reads_as_if_no_token_saw_anything() -> None:
    model = opened(small_flamingo())
    nothing = replace(PLAIN, image_of=torch.zeros_like(PLAIN.image_of))
    with torch.no_grad():
        blind = model(PLAIN, blind=True)
        assert torch.equal(blind, model(nothing))
        assert not torch.allclose(blind, model(PLAIN), atol=1e-3)


def test_frozen_parts_never_train() -> None:
    model = small_flamingo("gpt_neox").train()  # which has dropout
    assert model.training
    assert not any(module.training for part in (model.vision, model.lm) for module in part.modules())
    assert all(module.training for part in (model.resampler, model.xattn) for module in part.modules())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in learnt} == {"resampler", "xattn", "lm"}
    assert {name for name in learnt if name.startswith("lm.")} == {"lm.new_input", "lm.new_output"}
    optimizer = torch.optim.AdamW(opened(model).parameters(), lr=0.1)
    shown = replace(PLAIN, tokens=PLAIN.tokens.masked_fill(PLAIN.position == 3, VOCAB))
    loss_of(model, shown).backward()
    optimizer.step()
    frozen = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert frozen == before.keys() - learnt.keys()


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    model = opened(small_flamingo())
    with torch.no_grad():
        hidden, alone = model(PLAIN), model.lm(PLAIN.tokens)

        def fail(*_: Any) -> None:
            raise RuntimeError("out of memory")

        failing = model.lm.layers[1].register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            model(PLAIN)
        failing.remove()
        assert model.current() is None
        assert torch.equal(model.lm(PLAIN.tokens), alone)  # by itself, as before
        assert torch.equal(model(PLAIN), hidden)


@pytest.mark.parametrize("kind", ["gated", "vanilla", "grafting"])
def test_a_batch_without_images_reaches_all_that_learns(kind: str) -> None:
    model = opened(small_flamingo(xattn__kind=kind))
    loss_of(model, TEXT).backward()
    assert [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []


@pytest.mark.parametrize("kind", ["gated", "grafting"])
def test_activations_computed_again_give_the_same_gradients(kind: str) -> None:
    model = opened(small_flamingo("gpt_neox", xattn__kind=kind))
    kept: list[int] = []

    def gradients() -> list[Tensor]:
        kept.clear()
        learnt = [weight for weight in model.parameters() if weight.requires_grad]
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            loss = loss_of(model, PACKED)
        return list(torch.autograd.grad(loss, learnt))

    expected, all_kept = gradients(), sum(kept)
    model.checkpoint_activations()
    found = gradients()
    assert sum(kept) < all_kept / 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_activations_of_blocks_with_something_inside_cannot_be_computed_again() -> None:
    with pytest.raises(ConfigError, match=r"xattn\.kind vanilla stands inside blocks"):
        small_flamingo(xattn__kind="vanilla").checkpoint_activations()


# torch looks at each tensor's gradient while it traces, and warns of that itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_give_the_same_gradients_also_where_they_compute_activations_again() -> None:
    torch._dynamo.reset()
    counters.clear()
    model = opened(small_flamingo("gpt_neox"))
    assert len(model.lm.layers) > 2
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    batches = [PACKED, made_batch([[1, 1], [1, 1]], [[(5, 1, 1), (9, 2, 2)], [(7, 2, 1)]], seed=1)]
    features = [model.encode(model.pixels(batch)) for batch in batches]  # compiling the encoder takes longest
    given = list(zip(batches, features, strict=True))
    expected = [torch.autograd.grad(loss_of(model, *both), learnt) for both in given]
    model.compile_blocks(fullgraph=True, backend="eager")
    for both, gradients in zip(given, expected, strict=True):
        for one, other in zip(torch.autograd.grad(loss_of(model, *both), learnt), gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        model.checkpoint_activations()
    # For each batch one of the blocks of the language model, one of those of the cross-attention, and the resampler's.
    assert counters["stats"]["unique_graphs"] <= 2 * 4
    torch._dynamo.reset()


def test_in_bf16_it_begins_as_the_language_model_in_bf16_and_learns_in_float32() -> None:
    torch.manual_seed(0)
    model = make_flamingo(small_config(), ByteTokenizer(), torch.bfloat16)
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            theirs = model.lm.model(PLAIN.tokens).logits
            assert torch.equal(model.lm.head(model(PLAIN)), theirs)
        loss = loss_of(opened(model), PACKED)
    loss.backward()
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learnt)


def test_a_tokenizer_with_more_tokens_than_the_language_model_is_refused() -> None:
    config = small_config(lm__vocab=257)
    with pytest.raises(ConfigError, match="the tokenizer has 261 tokens, the language model rows for 257"):
        make_flamingo(config, ByteTokenizer())


def test_a_language_model_without_a_place_for_the_blocks_is_refused() -> None:
    config, lm = small_config(xattn__kind="vanilla"), LanguageModel(made_lm("llama"))
    for layer in lm.layers:
        layer.other_attention = nn.Identity()
    vision = make_vision(config.vision)
    resampler = make_resampler(config.resampler, vision.width)
    with pytest.raises(ConfigError, match=r"xattn\.kind: vanilla cross-attention stands behind .* LlamaDecoderLayer"):
        Flamingo(vision, resampler, lm, make_blocks(config, lm.width, len(lm.layers)))


BILLIONS = {
    "base": 3.2, "vanilla": 2.4, "grafting": 3.3, "single_in_middle": 2.0, "every_4th": 2.3, "every_2nd": 2.6,
    "clip_l14": 3.1, "nfnet_f0": 2.9, "resampler_small": 3.1, "resampler_large": 3.4,
}  # fmt: skip
"""Parameters of rows (iv) to (vii) of the ablations, as the paper has them."""


@pytest.mark.parametrize(("row", "billions"), BILLIONS.items())
def test_the_rows_of_the_ablations_have_the_papers_sizes(row: str, billions: float) -> None:
    assert sizes(preset("flamingo_3b", of_model(row))).total == pytest.approx(billions * 1e9, abs=0.1e9)


def of_model(row: str) -> dict[str, Any]:
    return {name: value for name, value in ABLATIONS[row].items() if name.split(".")[0] not in ("data", "train")}


@pytest.mark.parametrize("part", ["lm", "vision", "xattn", "resampler"])
def test_the_parts_of_the_3b_have_the_papers_sizes(part: str) -> None:
    assert getattr(sizes(preset("flamingo_3b")), part) == pytest.approx(PAPER_SIZES["flamingo_3b"][part], abs=0.1e9)


def test_the_larger_presets_are_told_beside_the_papers_figures() -> None:
    lines = size_table()
    told = {tuple(line.split()[:2]): line.split()[2:] for line in lines[1:]}
    assert len(told) == 15
    assert told["flamingo_9b", "xattn"] == ["1,804M", "1,600M"]  # SPEC-flamingo, Sizes: they contradict each other
    assert told["flamingo_80b", "xattn"] == ["8,355M", "10,000M"]


@pytest.mark.parametrize("row", [row for row in ABLATIONS if of_model(row) and row not in ("clip_l14", "nfnet_f0")])
def test_every_row_of_the_ablations_makes_a_model_that_runs(row: str) -> None:
    config = preset("tiny", {**SMALL, "lm.layers": 4, **of_model(row)})
    model = make_flamingo(config, ByteTokenizer())
    loss = loss_of(model, PACKED)
    loss.backward()
    assert loss.isfinite()
