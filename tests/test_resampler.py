"""The resamplers: their formula, their sizes, media of different lengths in one call, and what no medium leaves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flamingo_model.presets import RESAMPLERS, ResamplerConfig, preset
from flamingo_model.resampler import make_resampler, time_rows

VISION, POSITIONS = 12, 5


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(kind="perceiver", **settings):
    torch.manual_seed(0)
    config = ResamplerConfig(
        kind=kind, **{"layers": 2, "width": 16, "heads": 2, "head_width": 4, "latents": 3} | settings
    )
    return make_resampler(config, VISION).double()


def pixels_of(counts):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(counts), POSITIONS, VISION, generator=generator, dtype=torch.float64)


def attention(module, queries, others):
    """Attend as the formula says, head by head."""
    q, (k, v) = module.to_q(queries), module.to_kv(others).chunk(2, -1)
    heads = []
    for q_head, k_head, v_head in zip(*(part.chunk(module.heads, -1) for part in (q, k, v)), strict=True):
        heads.append(torch.softmax(q_head @ k_head.mT / q_head.shape[-1] ** 0.5, -1) @ v_head)
    return module.out(torch.cat(heads, -1))


def ffw(module, hidden):
    return module.down(torch.relu(module.up(module.norm(hidden))) ** 2)


def test_the_perceiver_is_the_formula_of_the_paper():
    resampler, features = made(), pixels_of([3])
    x_f = torch.cat([resampler.project(frame) + resampler.time[at] for at, frame in enumerate(features)])
    x = resampler.body.latents
    for layer in resampler.body.layers:
        kv = torch.cat([layer.norm_features(x_f), layer.norm(x)])
        x = x + attention(layer.attention, layer.norm(x), kv)
        x = x + ffw(layer.ffw, x)
    torch.testing.assert_close(resampler(features, torch.tensor([3]))[0], x)


@pytest.mark.parametrize(("kind", "million"), [("perceiver", 193.6), ("mlp", 193.5), ("transformer", 193.5)])
def test_the_parameters_are_those_of_the_paper_and_its_ablations_have_as_many(kind, million):
    with torch.device("meta"):
        resampler = make_resampler(preset("flamingo_3b", {"resampler.kind": kind}).resampler, 3072)
    assert round(sum(weight.numel() for weight in resampler.parameters()) / 1e6, 1) == million


@pytest.mark.parametrize("kind", RESAMPLERS)
def test_linears_have_no_bias_and_norms_have_all(kind):
    modules = list(made(kind).modules())
    assert all(module.bias is None for module in modules if isinstance(module, nn.Linear))
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    assert norms
    assert all(norm.weight is not None and norm.bias is not None for norm in norms)


@pytest.mark.parametrize("kind", RESAMPLERS)
@settings(max_examples=8, deadline=None)
@given(counts=st.lists(st.sampled_from([1, 2, 8, 11]), min_size=1, max_size=6))
def test_media_of_any_lengths_together_are_what_each_is_alone(kind, counts):
    resampler, features = made(kind), pixels_of(counts)
    frames = torch.tensor(counts)
    together = resampler(features, frames)
    sizes = resampler.sizes(frames, POSITIONS)
    for medium, frames_alone in enumerate(features.split(counts)):
        alone = resampler(frames_alone, torch.tensor([len(frames_alone)]))[0]
        size = len(alone)
        torch.testing.assert_close(together[medium, :size], alone)
        assert size == (resampler.body.latents.shape[0] if sizes is None else int(sizes[medium]))
        assert not together[medium, size:].any()


@pytest.mark.parametrize("kind", RESAMPLERS)
def test_without_media_there_are_no_latents_and_gradients_of_zero(kind):
    resampler = made(kind)
    latents = resampler(pixels_of([]), torch.zeros(0, dtype=torch.int64))
    assert latents.shape[0] == 0
    assert latents.shape[2] == resampler.width
    latents.sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in resampler.parameters())


@pytest.mark.parametrize("kind", ["perceiver", "qformer"])
def test_places_in_a_frame_have_no_embedding_and_frames_have(kind):
    resampler, features, frames = made(kind), pixels_of([4]), torch.tensor([4])
    plain = resampler(features, frames)
    torch.testing.assert_close(resampler(features[:, torch.randperm(POSITIONS)], frames), plain)
    assert (resampler(features.flip(0), frames) - plain).abs().max() > 1e-3


def test_an_mlp_mixes_no_tokens_and_a_transformer_those_of_a_medium():
    features, frames = pixels_of([2, 1]), torch.tensor([2, 1])
    changed = features.clone()
    changed[0, 0] += 1
    for kind, reached in (("mlp", {0}), ("transformer", set(range(2 * POSITIONS)))):
        resampler = made(kind)
        difference = (resampler(changed, frames) - resampler(features, frames)).abs().amax(2)
        assert set(difference[0].nonzero().flatten().tolist()) == reached
        assert not difference[1].any()


def test_times_are_the_first_rows_or_all_of_them_interpolated():
    time = torch.randn(8, 4)
    for count in range(1, 9):
        assert torch.equal(time_rows(time, count), time[:count])
    longer = time_rows(time, 30)
    assert torch.equal(longer[0], time[0])
    torch.testing.assert_close(longer[-1], time[-1])
    torch.testing.assert_close(time_rows(time, 15)[::2], time)
    torch.testing.assert_close(time_rows(time, 15)[1::2], (time[1:] + time[:-1]) / 2)
    assert torch.equal(time_rows(time[:1], 3), time[:1].expand(3, -1))


@pytest.mark.parametrize("counts", [[1, 1], [4], [3, 0], [4, -1]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match=r"do not make 3 frames"):
        made()(pixels_of([3]), torch.tensor(counts))
