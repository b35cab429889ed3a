"""The contrastive stage: its loss, over ranks too, rows that are no pairs, and that it learns."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional

from flamingo_model.batch import Batch
from flamingo_model.contrastive import (
    SIZES,
    ContrastiveConfig,
    TextEncoder,
    check_pairs,
    make_contrastive,
    pair_loss,
    recall_at_1,
)
from flamingo_model.presets import PRESETS, VisionConfig
from flamingo_model.vision import make_vision
from schemas.config import ConfigError

SMALL = ContrastiveConfig(width=32, text_layers=1, text_width=32, text_heads=2, text_dropout=0.0)
VISION = VisionConfig(variant="tiny", image_px=24)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute with one thread: so small tensors are slower with two, most of all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def embeddings(rows, width, seed, dtype=torch.float64):
    made = torch.Generator().manual_seed(seed)
    return [
        functional.normalize(torch.randn(rows, width, generator=made, dtype=dtype), dim=1).requires_grad_()
        for _ in range(2)
    ]


# --- the loss --------------------------------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 9),
    seed=st.integers(0, 1000),
    scale=st.floats(0.1, 50.0),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_the_loss_is_the_sum_of_two_smoothed_cross_entropies_over_whole_rows(rows, seed, scale, smoothing, data):
    images, texts = embeddings(rows, 6, seed)
    whole = torch.tensor(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    loss = pair_loss(images, texts, whole, torch.tensor(scale), smoothing)
    loss.backward()
    loss = loss.detach()
    found = [images.grad.clone(), texts.grad.clone()]
    if not whole.any():
        assert float(loss) == 0
        assert not any(gradient.any() for gradient in found)
        return
    images.grad = texts.grad = None
    logits = scale * images[whole] @ texts[whole].T
    target = torch.arange(len(logits))
    want = functional.cross_entropy(logits, target, label_smoothing=smoothing) + functional.cross_entropy(
        logits.T, target, label_smoothing=smoothing
    )
    want.backward()
    assert torch.allclose(loss, want.detach())
    assert torch.allclose(found[0], images.grad)
    assert torch.allclose(found[1], texts.grad)


def test_smoothing_bounds_the_temperature():
    images = embeddings(8, 16, 0)[0].detach()
    losses = [float(pair_loss(images, images, torch.ones(8, dtype=torch.bool), torch.tensor(t), 0.1)) for t in (5, 1e4)]
    assert losses[1] > losses[0]


def test_half_precision_around_it_does_not_reach_the_loss():
    images, texts = embeddings(8, 16, 0, torch.float32)
    whole = torch.ones(8, dtype=torch.bool)
    want = pair_loss(images, texts, whole, torch.tensor(20.0), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = pair_loss(images, texts, whole, torch.tensor(20.0), 0.1)
    assert torch.equal(found, want)


RANK = """
import sys
import torch, torch.distributed as dist
from safetensors.torch import load_file, save_file
from flamingo_model.contrastive import pair_loss

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
given = load_file(f"{folder}/given.safetensors")
model = torch.nn.Linear(5, 4, bias=False).double()
model.weight.data.copy_(given["weight"])
scale = given["scale"].requires_grad_()
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
images, texts, whole = (given[name].chunk(world)[rank] for name in ("images", "texts", "whole"))
loss = pair_loss(model(images), model(texts), whole, scale, 0.1)
(loss * world).backward()
results = [loss.detach()[None], model.weight.grad.flatten() / world, scale.grad[None] / world]
total = torch.cat(results)
dist.all_reduce(total)                                      # DDP averages gradients; parts of the loss add up
save_file({"total": total}, f"{folder}/found-{rank}.safetensors")
"""


def test_ranks_learn_what_one_big_batch_teaches(tmp_path):
    made = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(8, 5, generator=made, dtype=torch.float64) for _ in range(2))
    weight = torch.randn(4, 5, generator=made, dtype=torch.float64)
    scale = torch.tensor(3.0, dtype=torch.float64)
    # The ranks have three and two whole rows: each row counts alike all the same.
    whole = torch.tensor([1, 1, 0, 1, 0, 1, 0, 1], dtype=torch.bool)
    given_all = {"images": images, "texts": texts, "whole": whole, "weight": weight, "scale": scale}
    save_file(given_all, tmp_path / "given.safetensors")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(rank), "2"], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    weight.requires_grad_()
    scale.requires_grad_()
    loss = pair_loss(images @ weight.T, texts @ weight.T, whole, scale, 0.1)
    loss.backward()
    want = torch.cat([loss.detach()[None], weight.grad.flatten(), scale.grad[None]])
    for rank in range(2):
        assert torch.allclose(load_file(tmp_path / f"found-{rank}.safetensors")["total"], want)


# --- the two encoders ------------------------------------------------------------------------------------------------


def test_padding_changes_no_text():
    torch.manual_seed(0)
    text = TextEncoder(SMALL, 20).eval()
    tokens = torch.tensor([[3, 4, 5], [6, 7, 0]])
    real = torch.tensor([[True, True, True], [True, True, False]])
    padded = functional.pad(tokens, (0, 4), value=9)
    assert torch.allclose(text(tokens, real), text(padded, functional.pad(real, (0, 4))), atol=1e-6)
    assert torch.allclose(text(tokens, real)[1], text(tokens[1:, :2], real[1:, :2])[0], atol=1e-6)
    hidden = text.bert(input_ids=tokens[:1]).last_hidden_state
    assert torch.allclose(text(tokens, real)[0], hidden.mean(1)[0], atol=1e-6)


def test_texts_longer_than_the_encoder_are_refused():
    text = TextEncoder(SMALL, 20)
    with pytest.raises(ConfigError, match=r"texts have 65 tokens, contrastive.text_tokens is 64"):
        text(torch.zeros(1, 65, dtype=torch.int64), torch.ones(1, 65, dtype=torch.bool))


def batch_of(rows, tokens=4, shown=None, segment=None, names=("pairs",), loss=None):
    """Make a batch; `shown` are the rows that have a picture."""
    shown = list(range(rows)) if shown is None else shown
    segments = torch.ones(rows, tokens, dtype=torch.int32) if segment is None else segment
    made = torch.Generator().manual_seed(0)
    return Batch(
        tokens=torch.randint(1, 20, (rows, tokens), generator=made),
        loss=(segments > 0) if loss is None else loss,
        image_of=torch.ones(rows, tokens, dtype=torch.int32),
        segment=segments,
        position=torch.arange(tokens, dtype=torch.int32).expand(rows, -1),
        source=torch.zeros(rows, tokens, dtype=torch.int32),
        frames=torch.randint(0, 256, (len(shown), 3, 24, 24), dtype=torch.uint8, generator=made),
        media_row=torch.tensor(shown, dtype=torch.int64),
        media_number=torch.ones(len(shown), dtype=torch.int64),
        media_frames=torch.ones(len(shown), dtype=torch.int64),
        flip=torch.zeros(len(shown), dtype=torch.bool),
        jitter=torch.ones(len(shown), 3),
        keys=tuple((f"k{row}",) for row in range(rows)),
        names=names,
    )


def without_row(batch, row):
    """Take a row out of a batch in which every row has its picture."""
    rows = [number for number in range(len(batch.tokens)) if number != row]
    made = batch_of(len(rows))
    for name in ("tokens", "loss", "segment", "frames"):
        getattr(made, name).copy_(getattr(batch, name)[rows])
    return made


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_contrastive(SMALL, VISION, 20)


def gradients(model, batch):
    model.zero_grad()
    loss = model(batch)
    loss.backward()
    return float(loss.detach()), [parameter.grad.clone() for parameter in model.parameters()]


def test_rows_without_a_picture_are_as_if_they_were_not_there(model):
    whole = batch_of(5)
    loss, want = gradients(model, without_row(whole, 2))
    spoilt = whole.loss.clone()
    spoilt[2] = False  # as the loader says of a picture that cannot be decoded
    undecoded = batch_of(5, loss=spoilt)
    missing = batch_of(5, shown=[0, 1, 3, 4], loss=spoilt)
    missing.frames.copy_(whole.frames[[0, 1, 3, 4]])
    empty = batch_of(5, shown=[0, 1, 3, 4], segment=whole.segment * spoilt, loss=spoilt)  # nor has it a text
    empty.frames.copy_(missing.frames)
    for batch in (undecoded, missing, empty):
        found, of_weights = gradients(model, batch)
        assert found == pytest.approx(loss, rel=1e-5)
        for ours, theirs in zip(of_weights, want, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_batch_of_nothing_has_gradients_of_nothing(model):
    batch = batch_of(2, shown=[], segment=torch.zeros(2, 4, dtype=torch.int32))
    loss, found = gradients(model, batch)
    assert loss == 0
    assert not any(gradient.any() for gradient in found)


def test_only_pairs_are_taken():
    check_pairs(batch_of(3))
    check_pairs(batch_of(3, shown=[0, 2]))
    packed = batch_of(2)
    packed.segment[:, 2:] = 2
    with pytest.raises(ConfigError, match=r"one pair a row: no pack = true for pairs"):
        check_pairs(packed)
    several = batch_of(2, names=("pages",))
    several.media_number[1] = 2
    with pytest.raises(ConfigError, match=r"a text and one image, not pages"):
        check_pairs(several)
    clips = batch_of(2, names=("clips",))
    clips.frames.resize_(4, 3, 24, 24)
    with pytest.raises(ConfigError, match=r"not clips"):
        check_pairs(clips)


def test_the_parameters_are_clipped_in_two_ways(model):
    by_unit, by_norm = model.split_parameters()
    assert {name.partition(".")[0] for name in by_unit} == {"vision"}
    assert {name.partition(".")[0] for name in by_norm} == {
        "text", "image_projection", "text_projection", "log_inverse_temperature"
    }  # fmt: skip
    assert len(by_unit) + len(by_norm) == len(list(model.parameters()))


def test_the_sizes_of_the_paper_and_of_every_preset():
    assert set(SIZES) == set(PRESETS)
    with torch.device("meta"):
        whole = make_contrastive(ContrastiveConfig(), VisionConfig(variant="f0"), 32_000)
    assert whole.image_projection.weight.shape == (1376, 3072)
    assert whole.smoothing == 0.1
    text = sum(parameter.numel() for parameter in whole.text.parameters())
    embedding = 32_000 * 768 + 64 * 768 + 768 + 2 * 768
    assert text == embedding + 12 * (12 * 768**2 + 13 * 768)  # BERT-base, with our vocabulary
    tiny = make_contrastive(ContrastiveConfig(**SIZES["tiny"]), VISION, 4096)
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 2e6


@pytest.mark.parametrize("wrong", [{"text_heads": 5}, {"smoothing": 1.0}, {"inverse_temperature": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ContrastiveConfig(**wrong)


# --- learning --------------------------------------------------------------------------------------------------------

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.1, 0.1, 0.9), "yellow": (0.9, 0.9, 0.1)}
SHAPES = ("disc", "square", "cross", "bar")
THINGS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
WORDS = torch.tensor([[1, 2 + list(COLOURS).index(colour), 6 + SHAPES.index(shape)] for colour, shape in THINGS])


def draw(chance, colour, shape, side=24):
    """Draw a thing on grey, of some size at some place, with noise."""
    y, x = np.mgrid[:side, :side]
    radius = side * chance.uniform(0.3, 0.4)
    down, across = (np.abs(axis - side * chance.uniform(0.45, 0.55)) for axis in (y, x))
    inside = {
        "disc": down**2 + across**2 < radius**2,
        "square": np.maximum(down, across) < 0.85 * radius,
        "cross": (np.minimum(down, across) < radius / 3) & (np.maximum(down, across) < radius),
        "bar": (down < radius / 3) & (across < 1.2 * radius),
    }[shape]
    picture = np.full((3, side, side), 0.5) + chance.normal(0, 0.05, (3, 1, 1))
    picture[:, inside] = np.array(COLOURS[colour])[:, None]
    return 4 * (picture + chance.normal(0, 0.03, picture.shape)) - 2


def one_of_each(seed):
    chance = np.random.default_rng(seed)
    return torch.tensor(np.stack([draw(chance, *thing) for thing in THINGS]), dtype=torch.float32)


def test_coloured_shapes_find_their_words_and_the_encoder_is_kept(model, tmp_path):
    real = torch.ones_like(WORDS, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters())
    steps = 60
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min((step + 1) / 10, 1 - step / steps)
        images, texts = model.images(one_of_each(step)), model.texts(WORDS, real)
        loss = pair_loss(
            images, texts, torch.ones(len(WORDS), dtype=torch.bool), model.log_inverse_temperature.exp(), 0.1
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    held_out = [one_of_each(1000 + number) for number in range(4)]
    with torch.no_grad():
        texts = model.texts(WORDS, real)
        of_images, of_texts = np.mean([recall_at_1(model.images(pixels), texts) for pixels in held_out], 0)
        shuffled = np.mean([recall_at_1(model.images(pixels[torch.randperm(16)]), texts) for pixels in held_out], 0)
    # Chance is 1 in 16; colour without shape gives 1 in 4.
    assert min(of_images, of_texts) > 0.5
    assert max(shuffled) < 0.25

    save_file(model.state_dict(), tmp_path / "model.safetensors")
    kept = make_vision(VisionConfig(variant="tiny", image_px=24, weights=str(tmp_path)))
    with torch.no_grad():
        want = model.vision(held_out[0])
    assert torch.allclose(kept(held_out[0]), want, atol=1e-4)
