"""Cross-attention: every path against loops, the gated block against its formula, caches, and hooks in real models.

Traps of SPEC-flamingo that are kept out here: a cache that a second candidate finds changed, and a start that is not
the frozen language model exactly.
"""

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from flamingo_model.presets import XattnConfig, preset
from flamingo_model.seen import Cache, see
from flamingo_model.xattn import attention_of, gates, hook, make_xattn, placements

HEADS, INNER, WIDTH, VISUAL, LATENTS = 2, 8, 12, 10, 3
CONFIG = {"heads": HEADS, "head_width": INNER // HEADS}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def block_of(kind="gated", layers=4, opened=None, **settings):
    torch.manual_seed(0)
    block = make_xattn(XattnConfig(kind=kind, **CONFIG | settings), WIDTH, VISUAL, layers).double()
    for name, weight in block.named_parameters():
        if opened is not None and "gate" in name:
            torch.nn.init.constant_(weight, opened)
        if "norm" in name:
            torch.nn.init.normal_(weight)
    return block


def text_of(*shape, width=WIDTH):
    return torch.randn(*shape, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@st.composite
def batches(draw, packed=False):
    """Draw rows of media in any order, and tokens that see them, or none, in any order."""
    rows, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    numbers = [draw(st.integers(0, 3)) for _ in range(rows)]
    media = draw(st.permutations([(row, number + 1) for row in range(rows) for number in range(numbers[row])]))
    row, number = torch.tensor(media, dtype=torch.int64).reshape(-1, 2).unbind(1)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    segment = np.zeros((rows, tokens), np.int32)
    image = np.zeros((rows, tokens), np.int32)
    for at in range(rows):
        if packed:
            segment[at] = np.sort(rng.integers(1, 4, tokens))
            home = np.sort(rng.integers(1, 4, numbers[at]))  # media belong to segments in their order
            for token in range(tokens):
                own = np.flatnonzero(home == segment[at, token]) + 1
                image[at, token] = rng.choice([0, *own])
            for medium, where in enumerate(home, start=1):  # each is named by a token of its segment
                named = np.flatnonzero(segment[at] == where)
                if medium not in image[at] and len(named):
                    image[at, named[rng.integers(len(named))]] = medium
        else:
            segment[at] = rng.integers(0, 2, tokens)
            image[at] = rng.integers(0, numbers[at] + 1, tokens) * segment[at]
    return torch.from_numpy(image), row, number, torch.from_numpy(segment)


def naive(queries, keys, values, image_of, row, number, segment, see_all=False, lengths=None):
    """Attend token by token and head by head."""
    found = []
    for at in range(queries.shape[0]):
        for token in range(queries.shape[1]):
            named = int(image_of[at, token])
            shown = [m for m in range(len(row)) if row[m] == at and named > 0 and number[m] == named]
            if see_all:
                homes = [
                    {int(s) for s, k in zip(segment[at], image_of[at], strict=True) if k == number[m]}
                    for m in range(len(row))
                ]
                shown = [
                    m for m in range(len(row))
                    if row[m] == at and number[m] <= named and (not homes[m] or int(segment[at, token]) in homes[m])
                ]  # fmt: skip
            if not shown:
                found.append(queries[at, token] * 0)
                continue
            sizes = [keys.shape[1] if lengths is None else int(lengths[m]) for m in shown]
            k = torch.cat([keys[m, :size] for m, size in zip(shown, sizes, strict=True)])
            v = torch.cat([values[m, :size] for m, size in zip(shown, sizes, strict=True)])
            parts = zip(queries[at, token].chunk(HEADS), k.chunk(HEADS, 1), v.chunk(HEADS, 1), strict=True)
            found.append(torch.cat([torch.softmax(kh @ qh / len(qh) ** 0.5, 0) @ vh for qh, kh, vh in parts]))
    return torch.stack(found).view_as(queries)


def check_against_naive(batch, lengths=None, **path):
    image_of, row, number, segment = batch
    torch.manual_seed(0)
    latents = torch.zeros(len(row), LATENTS, VISUAL)
    seen = see(latents, image_of, row, number, segment, lengths=lengths, **path)
    shapes = ((*image_of.shape, INNER), (len(row), LATENTS, INNER), (len(row), LATENTS, INNER))
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found = seen.reach.attend(*given, HEADS)
    wanted = naive(*given, *batch, see_all=path.get("see_all", False), lengths=lengths)
    torch.testing.assert_close(found, wanted)
    assert not found[image_of == 0].any()
    weights = torch.randn(found.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((out * weights).sum(), given, allow_unused=True) for out in (found, wanted)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs)


@settings(max_examples=40, deadline=None)
@given(batches(), st.booleans())
def test_a_token_sees_the_medium_it_names_on_every_path(batch, dense):
    check_against_naive(batch, dense=dense)


@settings(max_examples=30, deadline=None)
@given(batches(packed=True), st.sampled_from([{}, {"dense": True}, {"see_all": True}]), st.data())
def test_packed_rows_and_media_of_different_lengths(batch, path, data):
    lengths = torch.tensor([data.draw(st.integers(1, LATENTS)) for _ in batch[1]], dtype=torch.int64)
    check_against_naive(batch, lengths=lengths, **path)


def test_a_long_span_among_short_ones_is_cut_up():
    image_of = torch.cat([torch.arange(1, 32).repeat_interleave(16), torch.full((1552,), 32)])[None]
    seen = see(torch.zeros(32, 64, 8), image_of, torch.zeros(32, dtype=torch.int64), torch.arange(1, 33), image_of)
    assert len(seen.reach.slot_token) < 2 * image_of.numel()
    check_against_naive((image_of[:, 400:600], torch.zeros(32, dtype=torch.int64), torch.arange(1, 33), image_of))
    # A medium that nobody sees and one of two pieces: as many pieces as media, yet not one each.
    image_of = torch.tensor([2] * 32 + [number for number in range(3, 13) for _ in range(16)])[None]
    check_against_naive((image_of, torch.zeros(12, dtype=torch.int64), torch.arange(1, 13), image_of))


@pytest.mark.parametrize("path", [{}, {"dense": True}, {"see_all": True}])
def test_rows_may_see_the_media_of_others(path):
    latents = torch.zeros(3, LATENTS, VISUAL)
    media = torch.tensor([0, 1, 1]), torch.tensor([1, 1, 2])
    image_of = torch.tensor([[0, 2], [1, 1], [1, 2]])
    seen = see(latents, image_of, *media, torch.ones(3, 2), rows=torch.tensor([1, 0, 1]), **path)
    queries, keys, values = (torch.randn(3, size, INNER, dtype=torch.float64) for size in (2, LATENTS, LATENTS))
    found = seen.reach.attend(queries, keys, values, HEADS)
    # The same by copies: each row has its own media.
    rows, numbers, copies = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 2, 1, 1, 2]), torch.tensor([1, 2, 0, 1, 2])
    batch = image_of, rows, numbers, torch.ones(3, 2)
    wanted = naive(queries, keys[copies], values[copies], *batch, see_all=path.get("see_all", False))
    torch.testing.assert_close(found, wanted)


def one_medium(tokens=4, **more):
    latents = torch.randn(1, LATENTS, VISUAL, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    image_of = torch.tensor([[0] + [1] * (tokens - 1)], dtype=torch.int32)
    return see(latents, image_of, torch.tensor([0]), torch.tensor([1]), torch.ones_like(image_of), **more)


def test_the_gated_block_is_the_formula_of_the_paper():
    block, seen, y = block_of(opened=0.3), one_medium(), text_of(1, 4)
    torch.nn.init.constant_(block.gate_ffw.weight, -0.7)
    part = block.attention
    keys, values = part.to_kv(part.norm_visual(seen.latents)).chunk(2, -1)
    found = naive(part.to_q(part.norm(y)), keys, values, torch.tensor([[0, 1, 1, 1]]), [0], [1], None)
    wanted = y + np.tanh(0.3) * part.out(found)
    dense = block.ffw
    wanted = wanted + np.tanh(-0.7) * dense.down(torch.relu(dense.up(dense.norm(wanted))) ** 2)
    torch.testing.assert_close(block(y, seen), wanted)
    opened = {name: round(float(value), 6) for name, value in gates(block).items()}
    assert opened == {"gate": round(np.tanh(0.3), 6), "gate_ffw": round(np.tanh(-0.7), 6)}


@pytest.mark.parametrize("kind", ["gated", "vanilla", "grafting"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_the_start_a_block_changes_nothing_and_without_gates_it_does(kind, dtype):
    seen, y = one_medium(), text_of(1, 4).to(dtype)
    seen.latents.data = seen.latents.to(dtype)
    assert torch.equal(block_of(kind).to(dtype)(y, seen), y)
    assert not torch.equal(block_of(kind, tanh_gate=False).to(dtype)(y, seen), y)
    assert all(float(value) == 1 for value in gates(block_of(kind, tanh_gate=False)).values())


def test_gates_have_a_gradient_at_the_start():
    block, seen = block_of(), one_medium()
    (block(text_of(1, 4), seen) ** 2).sum().backward()
    assert block.gate.weight.grad.abs() > 0
    assert block.gate_ffw.weight.grad.abs() > 0


def test_what_sees_nothing_and_what_is_blind_gets_the_ffw_alone():
    block, seen, y = block_of(opened=0.5), one_medium(), text_of(1, 4)
    alone = block.gate_ffw(y, block.ffw(y))
    torch.testing.assert_close(block(y, seen)[:, 0], alone[:, 0], rtol=0, atol=0)
    assert (block(y, seen) - alone)[:, 1:].abs().min(2).values.max() > 0
    assert torch.equal(block(y, seen.blinded()), alone)
    assert torch.equal(block(y, one_medium(blind=True)), alone)


@pytest.mark.parametrize("path", [{}, {"dense": True}])
@pytest.mark.parametrize("media", [0, 2])
def test_a_batch_that_shows_nothing_leaves_gradients_of_zero(path, media):
    block, nobody = block_of(opened=0.5), torch.zeros(2, 3, dtype=torch.int32)
    latents = torch.randn(media, LATENTS, VISUAL, dtype=torch.float64)
    seen = see(latents, nobody, torch.zeros(media, dtype=torch.int64), torch.arange(1, media + 1), nobody, **path)
    out = block(text_of(2, 3), seen)
    torch.testing.assert_close(out, block(text_of(2, 3), seen.blinded()), rtol=0, atol=0)
    out.sum().backward()
    assert all(weight.grad is not None for weight in block.parameters())
    assert not block.attention.to_kv.weight.grad.any()


def test_the_parameters_of_a_block_are_those_of_the_paper():
    with torch.device("meta"):
        block = make_xattn(preset("flamingo_3b").xattn, 2048, 1536, 24)
        vanilla = make_xattn(preset("flamingo_3b", {"xattn.kind": "vanilla"}).xattn, 2048, 1536, 24)
        graft = make_xattn(preset("flamingo_3b", {"xattn.kind": "grafting"}).xattn, 2048, 1536, 24)
    sizes = [sum(weight.numel() for weight in part.parameters()) for part in (block, vanilla, graft)]
    inner = 16 * 128
    linears = 2 * 2048 * inner + 2 * 1536 * inner + 8 * 2048**2
    assert sizes[0] == linears + 2 * (2 * 2048 + 1536) + 2  # three norms, two gates
    assert [round(size / 1e6, 1) for size in sizes] == [48.2, 14.7, 1183.0]


def test_blocks_stand_where_the_paper_has_them():
    assert placements(preset("flamingo_3b").xattn, 24) == list(range(24))
    assert placements(preset("flamingo_9b").xattn, 40) == list(range(0, 40, 4))
    assert len(placements(preset("flamingo_80b").xattn, 80)) == 12
    assert placements(XattnConfig(single=True), 24) == [12]
    assert placements(XattnConfig(kind="grafting"), 24) == [24]


def test_indices_that_do_not_fit_are_refused():
    latents, one, ones = torch.zeros(1, LATENTS, VISUAL), torch.ones(1, dtype=torch.int64), torch.ones(2, 2)
    row = one - 1
    with pytest.raises(ValueError, match="a token of row 1 sees image 1, which is not there"):
        see(latents, ones.int(), row, one, ones)
    with pytest.raises(ValueError, match="a token sees image 2: no row has more than 1"):
        see(latents, ones.int() * 2, row, one, ones)
    with pytest.raises(ValueError, match="there are 1 media, of which 2 have a row"):
        see(latents, ones.int(), torch.tensor([0, 1]), torch.tensor([1, 1]), ones)
    cache = Cache()
    see(latents, ones[:1].int(), row, one, ones, cache=cache)
    with pytest.raises(ValueError, match="other latents"):
        see(latents.clone(), ones[:1].int(), row, one, ones, cache=cache)


@pytest.mark.parametrize("kind", ["gated", "grafting"])
@pytest.mark.parametrize("see_all", [False, True])
def test_steps_with_a_cache_are_the_whole_pass_and_keys_are_made_once(kind, see_all):
    block, tokens = block_of(kind, opened=0.5), 6
    latents = torch.randn(3, LATENTS, VISUAL, dtype=torch.float64)
    media = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1])
    image_of = torch.tensor([[0, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1]])
    segment = torch.tensor([[1] * 6, [0] * 2 + [1] * 4])  # the second row is filled up on the left
    y = text_of(2, tokens)
    whole = block(y, see(latents, image_of, *media, segment, see_all=see_all))
    calls, cache, steps = [], Cache(), []
    part = block if kind == "gated" else block.cross[0]
    part.attention.to_kv.register_forward_hook(lambda *_: calls.append(1))
    for at in (slice(0, 3), slice(3, 4), slice(4, 6)):
        seen = see(latents, image_of[:, at], *media, segment[:, at], see_all=see_all, cache=cache)
        steps.append(block(y[:, at], seen))
    torch.testing.assert_close(torch.cat(steps, 1)[segment > 0], whole[segment > 0])
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["gated", "grafting"])
def test_a_candidate_leaves_the_cache_as_it_was_for_the_next(kind):
    block, cache = block_of(kind, opened=0.5), Cache()
    latents, media = torch.randn(1, LATENTS, VISUAL, dtype=torch.float64), (torch.tensor([0]), torch.tensor([1]))
    ones = torch.ones(1, 3, dtype=torch.int64)
    block(text_of(1, 3), see(latents, ones, *media, ones, cache=cache))
    kept = [tensor for pair in (*cache.visual.values(), *cache.text.values()) for tensor in pair]
    before = [tensor.clone() for tensor in kept]
    rows = torch.tensor([0, 0])
    candidates = text_of(2, 2)
    twice = ones[:, :2].expand(2, -1)

    def scored(cache):
        return block(candidates, see(latents, twice, *media, twice, rows=rows, cache=cache))

    first, second = scored(cache.fork(rows)), scored(cache.fork(rows))
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, before, strict=True))
    whole = torch.cat([text_of(1, 3).expand(2, -1, -1), candidates], 1)
    five = ones[:, :1].expand(2, 5)
    torch.testing.assert_close(first, block(whole, see(latents, five, *media, five, rows=rows))[:, 3:])


def test_a_graft_keeps_packed_samples_apart_and_looks_at_nothing_later():
    block, y = block_of("grafting", opened=0.5), text_of(1, 5)
    segment = torch.tensor([[1, 1, 1, 2, 2]])
    none = torch.zeros(0, dtype=torch.int64)
    latents = torch.zeros(0, LATENTS, VISUAL, dtype=torch.float64)

    def out(y, segment):
        return block(y, see(latents, torch.zeros_like(segment), none, none, segment))

    together = out(y, segment)
    torch.testing.assert_close(together[:, 3:], out(y[:, 3:], segment[:, 3:]))
    torch.testing.assert_close(together[:, :2], out(y[:, :2], segment[:, :2]))
    assert (together[:, 2] - out(y[:, 2:3], segment[:, 2:3])[:, 0]).abs().max() > 1e-6


SIZES = {"vocab_size": 31, "hidden_size": WIDTH, "num_attention_heads": 2}
DEEP = SIZES | {"num_hidden_layers": 2, "intermediate_size": 16, "bos_token_id": 0, "eos_token_id": 1}
GEMMA = DEEP | {"num_key_value_heads": 1, "head_dim": 6, "pad_token_id": 0}
OPT = SIZES | {"num_hidden_layers": 2, "ffn_dim": 16, "word_embed_proj_dim": WIDTH}
GPT2 = {"vocab_size": 31, "n_embd": WIDTH, "n_head": 2, "n_layer": 2, "bos_token_id": 0, "eos_token_id": 1}
LMS = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig(**DEEP), "post_attention_layernorm"),
    "neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**DEEP, use_parallel_residual=False), "post_attention_layernorm"),
    "beside": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**DEEP), ""),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(**GPT2), "ln_2"),
    "opt": (hf.OPTForCausalLM, hf.OPTConfig(**OPT), "final_layer_norm"),
    "gemma2": (hf.Gemma2ForCausalLM, hf.Gemma2Config(**GEMMA), "pre_feedforward_layernorm"),
}
"""Families, and the norm before the FFW of their blocks; that of `beside` stands beside the attention."""


def lm_of(name):
    torch.manual_seed(0)
    kind, config, _ = LMS[name]
    model = kind(config).double().eval()
    stacks = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == 2]
    return model, stacks[0]


IDS = torch.tensor([[3, 7, 2, 9]])


@pytest.mark.parametrize("name", LMS)
@pytest.mark.parametrize("kind", ["gated", "vanilla", "grafting"])
def test_hooked_into_a_language_model_closed_gates_are_that_model_exactly(name, kind):
    model, layers = lm_of(name)
    plain = model(IDS).logits
    now = [None]
    for place in placements(XattnConfig(kind=kind), 2):
        block = block_of(kind, layers=2)
        hook(block, layers, place, lambda: now[0])
    assert torch.equal(model(IDS).logits, plain)
    now[0] = one_medium()
    assert torch.equal(model(IDS).logits, plain)
    torch.nn.init.constant_(block.get_parameter("gate.weight" if kind != "grafting" else "cross.0.gate.weight"), 0.5)
    assert (model(IDS).logits - plain).abs().max() > 1e-6
    now[0] = None
    assert torch.equal(model(IDS).logits, plain)


@pytest.mark.parametrize("name", LMS)
def test_a_vanilla_block_stands_between_self_attention_and_ffw(name, monkeypatch):
    model, layers = lm_of(name)
    layer, norm = layers[1], LMS[name][2]
    caught = {}
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: caught.update(x=(*args, *kwargs.values())[0]), with_kwargs=True
    )
    layer.register_forward_hook(lambda _, __, out: caught.update(y=out[0] if isinstance(out, tuple) else out))
    attention_of(layer).register_forward_hook(
        lambda _, __, out: caught.update(a=out[0] if isinstance(out, tuple) else out)
    )
    model(IDS)
    plain = caught["y"]
    block = block_of("vanilla")

    def push(hidden, seen, onto):
        caught["stream"] = hidden
        return onto + 0.25

    monkeypatch.setattr(block, "forward", push)
    hook(block, layers, 1, one_medium)
    model(IDS)
    torch.testing.assert_close(caught["stream"], caught["x"] + caught["a"])
    stream = caught["x"] + caught["a"] + 0.25
    if name == "beside":
        wanted = plain + 0.25
    elif name == "opt":
        wanted = stream + layer.fc2(functional.relu(layer.fc1(layer.final_layer_norm(stream))))
    else:
        wanted = layer.mlp(getattr(layer, norm)(stream))
        wanted = stream + (layer.post_feedforward_layernorm(wanted) if name == "gemma2" else wanted)
    torch.testing.assert_close(caught["y"], wanted)


def test_a_block_whose_attention_keeps_the_stream_to_itself_is_refused():
    model = hf.BloomForCausalLM(hf.BloomConfig(vocab_size=31, hidden_size=WIDTH, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="BloomBlock"):
        hook(block_of("vanilla"), model.transformer.h, 0, lambda: None)
    with pytest.raises(ValueError, match=r"Linear \(\) has not one part"):
        hook(block_of("vanilla"), [torch.nn.Linear(2, 2)], 0, lambda: None)
