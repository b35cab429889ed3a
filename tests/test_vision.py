"""NFNets beside what is published of them, encoders of transformers, and what a frozen encoder must not do."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from flamingo_model.nfnet import (
    GELU_GAIN,
    NFNETS,
    NO_WEIGHTS,
    OTHER_MODEL,
    UNREADABLE_WEIGHTS,
    BadWeights,
    Block,
    Conv,
    Nfnet,
    NfnetShape,
    load_nfnet,
)
from flamingo_model.presets import VisionConfig
from flamingo_model.vision import HF_SIZES, make_vision
from schemas.config import ConfigError

# Millions of parameters with a classifier of 1,000 classes: table 1 of the NFNet paper.
PUBLISHED_M = {"f0": 71.5, "f1": 132.6, "f2": 193.8, "f3": 254.9, "f4": 316.1, "f5": 377.2, "f6": 438.4}
SMALL = NfnetShape(depths=(1, 2, 3, 1), widths=(32, 64, 64, 96), stem=16, group=16, drop=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute with one thread: so small tensors are slower with two, most of all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wave(module):
    """Fill a module with numbers that depend on no generator, near 1 where they multiply."""
    with torch.no_grad():
        for name, value in sorted(module.state_dict().items()):
            numbers = torch.arange(value.numel(), dtype=torch.float64) * math.sqrt(2) + len(name)
            one = name.endswith("gain") or ("norm" in name and name.endswith("weight"))
            value.copy_(0.3 * torch.sin(numbers * numbers).reshape(value.shape) + one)
    return module


def pixels_of(frames, side):
    numbers = torch.arange(frames * 3 * side * side, dtype=torch.float64)
    return torch.sin(numbers * 0.37).reshape(frames, 3, side, side).float()


def same(ours, theirs):
    return float((ours - theirs).detach().abs().max()) < 1e-5 * float(theirs.detach().std())


def signature(features):
    """Sum up features as a few numbers that change with any of them."""
    numbers = torch.arange(features.numel(), dtype=torch.float64)
    flat = features.detach().double().flatten()
    return [float(value) for value in (flat.mean(), flat.std(), (flat * torch.cos(numbers)).mean() * 100)]


# --- NFNet -----------------------------------------------------------------------------------------------------------


def count(variant):
    with torch.device("meta"):
        tower = Nfnet(NFNETS[variant])
    assert (tower.width, tower.stride) == (3072, 32)
    return sum(weight.numel() for weight in tower.parameters()) + tower.width * 1000 + 1000


def test_parameters_are_those_published():
    counted = {variant: count(variant) for variant in ("f0", "f1", "f6")}
    step = counted["f1"] - counted["f0"]
    assert counted["f6"] == counted["f0"] + 6 * step  # each variant has the blocks of F0 once more
    for number, variant in enumerate(PUBLISHED_M):
        assert NFNETS[variant].depths == tuple(depth * (number + 1) for depth in (1, 2, 6, 3))
        assert round((counted["f0"] + number * step) / 1e6, 1) == PUBLISHED_M[variant]


@pytest.mark.parametrize(("side", "grid"), [(64, 2), (65, 3), (96, 3), (31, 1)])
def test_the_grid_has_a_32nd_of_the_side(side, grid):
    tower = Nfnet(SMALL)
    assert tower.stride == 32
    assert tower(torch.zeros(2, 3, side, side)).shape == (2, grid * grid, tower.width)
    assert tower.width == 2 * SMALL.widths[-1]


def test_positions_are_known_before_the_first_picture():
    with torch.device("meta"):
        assert make_vision(VisionConfig(variant="f0", image_px=320)).positions == 100
    encoder = make_vision(VisionConfig(variant="tiny", image_px=70))
    assert encoder(torch.zeros(1, 3, 70, 70)).shape == (1, encoder.positions, encoder.width)


def test_positions_go_row_by_row():
    torch.manual_seed(0)
    encoder = make_vision(VisionConfig(variant="tiny", image_px=64))
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[0, :, :8, 56:] = 3.0  # the upper right corner: the last position of the first row
    changed = (encoder(pixels) - encoder(torch.zeros(1, 3, 64, 64))).abs().sum(2)[0]
    assert int(changed.argmax()) == 3


# The same weights in timm's NormFreeNet gave the same features to 1e-5; bench/nfnet_timm.py compares whole models.
def test_features_are_pinned():
    features = wave(Nfnet(SMALL)).eval()(pixels_of(2, 75))
    assert signature(features) == pytest.approx([0.2301, 0.6372, 0.0287], abs=2e-4)


@given(
    inputs=st.sampled_from([1, 4, 16]),
    outputs=st.integers(1, 6),
    side=st.sampled_from([1, 3]),
    gain=st.floats(0.1, 3.0),
    offset=st.floats(-5.0, 5.0),
)
@settings(max_examples=30, deadline=None)
def test_filters_keep_variance_whatever_the_weights_are(inputs, outputs, side, gain, offset):
    conv = Conv(inputs, outputs, side, scale=2.0)
    if inputs * side * side == 1:
        return  # the deviation of a single number is 0
    with torch.no_grad():
        conv.gain.fill_(gain)
        conv.weight.mul_(10).add_(offset)
        filters = conv.filters()
    sums = filters.sum((1, 2, 3))
    powers = filters.square().sum((1, 2, 3))
    assert torch.allclose(sums, torch.zeros_like(sums), atol=1e-3)
    assert torch.allclose(powers, torch.full_like(powers, (2 * gain) ** 2), rtol=1e-2)


def test_the_gain_of_gelu_makes_a_deviation_of_one():
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    y = nn.functional.gelu(x) * GELU_GAIN
    variance = (density * y * y).sum() - (density * y).sum() ** 2
    assert float(variance) == pytest.approx(1, abs=1e-3)


def variances(tower, pixels):
    """Measure the mean variance of the channels before each block and after the last."""
    found = []
    hooks = [
        block.register_forward_hook(lambda _, given, out: found.append((given[0], out)))
        for stage in tower.stages
        for block in stage
    ]
    with torch.no_grad():
        tower(pixels)
    for hook in hooks:
        hook.remove()
    return [float(x.var((0, 2, 3)).mean()) for x in [*(given for given, _ in found), found[-1][1]]]


def test_variance_grows_by_the_square_of_alpha_with_open_branches():
    torch.manual_seed(0)
    tower = Nfnet(NfnetShape(depths=(6,), widths=(256,), stem=128, group=64, drop=0.0)).eval()
    for block in tower.stages[0]:
        nn.init.ones_(block.skipinit_gain)
    found = variances(tower, torch.randn(16, 3, 48, 48))
    assert found == pytest.approx([1.0 + 0.04 * place for place in range(7)], rel=0.15)
    steps = [after - before for before, after in pairwise(found[1:])]
    assert steps == pytest.approx([0.04] * 5, rel=0.5)
    # What the blocks expect is what they divide by.
    scales = [block.conv1.scale * math.sqrt(block.conv1.weight[0].numel()) / GELU_GAIN for block in tower.stages[0]]
    assert [1 / scale**2 for scale in scales] == pytest.approx([1.0 + 0.04 * place for place in range(6)])


def test_a_stage_begins_with_what_the_last_one_has_come_to():
    scales = [
        block.conv1.scale * math.sqrt(block.conv1.weight[0].numel()) for stage in Nfnet(SMALL).stages for block in stage
    ]
    variance = [GELU_GAIN**2 / scale**2 for scale in scales]
    assert variance == pytest.approx([1.0, 1.04, 1.04, 1.08, 1.04, 1.08, 1.12])


def test_branches_are_closed_at_the_start():
    torch.manual_seed(0)
    tower = Nfnet(SMALL).train()
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(tower.stages[1][1](x), x)
    tower(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert float(tower.stages[1][1].skipinit_gain.grad.abs()) > 0


def test_stochastic_depth_leaves_out_frames_of_a_batch_and_keeps_the_mean():
    torch.manual_seed(0)
    block = Block(16, 16, 1, 8, 1.0, drop=0.25)
    nn.init.ones_(block.skipinit_gain)
    x = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        branch = block.eval()(x) - x
        many = block.train()(x.expand(4000, -1, -1, -1)) - x
    kept = many.flatten(1).abs().sum(1) > 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.allclose(many[kept], branch / 0.75, atol=1e-5)


def test_later_blocks_are_left_out_more_often():
    with torch.device("meta"):
        drops = [block.drop for stage in Nfnet(NFNETS["f0"]).stages for block in stage]
    assert drops[0] == 0
    assert drops == sorted(drops)
    assert drops[-1] == pytest.approx(0.25 * 11 / 12)


# --- frozen ----------------------------------------------------------------------------------------------------------


class Parent(nn.Module):
    """A module that an encoder is a part of."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


def test_a_frozen_encoder_stays_in_eval_mode_and_learns_nothing():
    encoder = make_vision(VisionConfig(variant="tiny", image_px=32))
    parent = Parent(encoder).train()
    assert parent.training
    assert not any(module.training for module in encoder.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())
    pixels = torch.randn(1, 3, 32, 32, requires_grad=True)
    assert not encoder(pixels).requires_grad


def test_a_trainable_encoder_follows_its_parent():
    encoder = make_vision(VisionConfig(variant="tiny", image_px=32, trainable=True))
    assert encoder.tower.stages[0].training
    assert not Parent(encoder).eval().encoder.tower.training
    encoder(torch.randn(2, 3, 32, 32)).mean().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_freezing_changes_no_feature_and_survives_bf16():
    encoder = make_vision(VisionConfig(variant="tiny", image_px=64, trainable=True)).eval()
    wave(encoder)
    pixels = pixels_of(2, 64)
    with torch.no_grad():
        before = encoder(pixels)
    after = encoder.freeze()(pixels)
    assert same(after, before)
    assert not any(name.endswith("conv1.gain") for name in encoder.state_dict())
    halved = encoder.to(torch.bfloat16)(pixels)
    assert halved.dtype == torch.bfloat16
    assert float((halved.float() - after).std() / after.std()) < 0.02


# --- weights of an NFNet ---------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """Weights as timm stores them, with a classifier."""
    tower = wave(Nfnet(NFNETS["tiny"]))
    head = {"head.fc.weight": torch.zeros(10, tower.width), "head.fc.bias": torch.zeros(10)}
    path = tmp_path / "weights.safetensors"
    save_file({**tower.state_dict(), **head}, path)
    return path


def test_weights_are_loaded_by_their_names(stored):
    config = VisionConfig(variant="tiny", image_px=32, weights=str(stored))
    want = wave(Nfnet(NFNETS["tiny"])).eval()(pixels_of(1, 32))
    assert same(make_vision(config)(pixels_of(1, 32)), want)
    folder = VisionConfig(variant="tiny", image_px=32, weights=str(stored.parent), trainable=True)
    loaded = make_vision(folder)
    assert torch.equal(loaded.eval()(pixels_of(1, 32)), want)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in loaded.parameters())


def test_half_precision_and_the_checkpoint_of_the_contrastive_stage_are_loaded(stored, tmp_path):
    tensors = {f"vision.tower.{name}": value.half() for name, value in load_file(stored).items()}
    tensors["text.bert.encoder"] = torch.zeros(3)
    tensors["head.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "other.safetensors")
    tower = Nfnet(NFNETS["tiny"])
    load_nfnet(tower, tmp_path / "other.safetensors")
    want = {name: value.half().float() for name, value in wave(Nfnet(NFNETS["tiny"])).state_dict().items()}
    assert all(torch.equal(value, want[name]) for name, value in tower.state_dict().items())


def spoil(stored, how):
    tensors = load_file(stored)
    match how:
        case "missing":
            del tensors["stem.conv2.bias"]
        case "shape":
            tensors["stages.0.0.conv2.gain"] = torch.ones(7, 1, 1, 1)
        case "more":
            tensors["stages.2.2.conv1.weight"] = torch.ones(3)
        case "nothing":
            tensors = {"head.fc.bias": torch.zeros(3)}
    save_file(tensors, stored)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "stem.conv2.bias is missing, in the model (8,)"),
        ("shape", "stages.0.0.conv2.gain is (7, 1, 1, 1), in the model (32, 1, 1, 1)"),
        ("more", "stages.2.2.conv1.weight is (3,), in the model missing"),
        ("nothing", "is missing"),
    ],
)
def test_weights_of_another_model_are_refused(stored, how, told):
    spoil(stored, how)
    with pytest.raises(BadWeights) as found:
        load_nfnet(Nfnet(NFNETS["tiny"]), stored)
    assert found.value.reason == OTHER_MODEL
    assert told in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("data", [b"", b"no tensors at all", b"\xff" * 64, b"PK\x03\x04"])
def test_files_that_are_no_safetensors_are_refused(tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadWeights) as found:
        load_nfnet(Nfnet(NFNETS["tiny"]), path)
    assert found.value.reason == UNREADABLE_WEIGHTS


def test_a_file_cut_short_is_refused(stored):
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(BadWeights, match=UNREADABLE_WEIGHTS):
        load_nfnet(Nfnet(NFNETS["tiny"]), stored)


def test_weights_that_are_not_there_or_not_one_file_are_refused(stored):
    with pytest.raises(BadWeights, match=NO_WEIGHTS):
        load_nfnet(Nfnet(NFNETS["tiny"]), stored.parent / "none.safetensors")
    (stored.parent / "second.safetensors").write_bytes(stored.read_bytes())
    with pytest.raises(BadWeights, match=r"has 2 safetensors files"):
        load_nfnet(Nfnet(NFNETS["tiny"]), stored.parent)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match=r"vision.variant is tiny, f0, .*, not 'f7'"):
        make_vision(VisionConfig(variant="f7"))


# --- CLIP and SigLIP -------------------------------------------------------------------------------------------------

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 8}
TEXT = {**TOWER, "vocab_size": 50, "max_position_embeddings": 8}


def model_of(family):
    import transformers

    name = {"clip": "CLIP", "siglip": "Siglip"}[family]
    config = getattr(transformers, f"{name}Config")(text_config=TEXT, vision_config={**TOWER, **PICTURE})
    return wave(getattr(transformers, f"{name}Model")(config)).eval()


@pytest.fixture(params=["clip", "siglip"])
def folder(request, tmp_path):
    """Write a model with a text part, as people publish them."""
    model_of(request.param).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def hf(folder, **settings):
    return VisionConfig(kind="hf", weights=str(folder), **{"image_px": 32, **settings})


SIGNATURES = {"clip": [-0.2774, 3.6946, 0.5078], "siglip": [-0.0922, 0.9285, -0.2085]}


def test_features_of_transformers_are_pinned(folder):
    encoder = make_vision(hf(folder))
    pixels = pixels_of(2, 32)
    features = encoder(pixels)
    assert features.shape == (2, 16, 32) == (2, encoder.positions, encoder.width)
    tower = model_of(folder.name).vision_model
    with torch.no_grad():
        last = tower(pixels, output_hidden_states=True).hidden_states[-1]
        normed = tower.post_layernorm(last)
    # CLIP before its final LayerNorm and without the class token, SigLIP after it.
    want, other = (last[:, 1:], normed[:, 1:]) if folder.name == "clip" else (normed, last)
    assert same(features, want)
    assert float((features - other).abs().mean()) > 0.1
    assert signature(features) == pytest.approx(SIGNATURES[folder.name], abs=2e-4)


def test_the_vision_part_alone_gives_the_same(folder, tmp_path):
    model_of(folder.name).vision_model.save_pretrained(tmp_path / "part")
    pixels = pixels_of(1, 32)
    assert torch.equal(make_vision(hf(tmp_path / "part"))(pixels), make_vision(hf(folder))(pixels))


def test_other_sides_interpolate_the_positions(folder):
    encoder = make_vision(hf(folder, image_px=48))
    assert encoder(pixels_of(1, 48)).shape == (1, 36, 32) == (1, encoder.positions, encoder.width)


def test_frozen_towers_of_transformers_have_no_dropout(tmp_path):
    import transformers

    sizes = transformers.CLIPVisionConfig(**TOWER, **PICTURE, attention_dropout=0.9)
    transformers.CLIPVisionModel(sizes).save_pretrained(tmp_path)
    encoder = Parent(make_vision(hf(tmp_path))).train().encoder
    pixels = pixels_of(1, 32)
    assert torch.equal(encoder(pixels), encoder(pixels))
    assert not encoder(pixels).requires_grad
    trained = Parent(make_vision(hf(tmp_path, trainable=True))).train().encoder
    assert not torch.equal(trained(pixels), trained(pixels))


def test_pickled_weights_are_never_read(folder):
    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()
    with pytest.raises(BadWeights, match=UNREADABLE_WEIGHTS):
        make_vision(hf(folder))


def test_a_part_that_is_missing_is_no_random_one(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if key.startswith("vision_model") and key.endswith("k_proj.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, file, metadata={"format": "pt"})
    with pytest.raises(BadWeights, match=f"{OTHER_MODEL}.*k_proj.weight"):
        make_vision(hf(folder))


def test_other_models_and_empty_folders_are_refused(tmp_path):
    import transformers

    transformers.ViTConfig(**TOWER, **PICTURE).save_pretrained(tmp_path / "vit")
    with pytest.raises(BadWeights, match=f"{OTHER_MODEL}.* is a vit, not clip_vision_model"):
        make_vision(hf(tmp_path / "vit"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadWeights, match=NO_WEIGHTS):
        make_vision(hf(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "clip_vision_model", "hidden_size": ')
    with pytest.raises(BadWeights, match=NO_WEIGHTS) as found:
        make_vision(hf(tmp_path / "empty"))
    assert "\n" not in str(found.value)


def test_sizes_by_name_make_a_random_one():
    with torch.device("meta"):
        encoder = make_vision(VisionConfig(kind="hf", variant="clip_l14", image_px=224))
        assert encoder(torch.empty(1, 3, 224, 224)).shape == (1, 256, 1024)
    count = sum(weight.numel() for weight in encoder.parameters())
    assert round(count / 1e9, 2) == 0.30  # the image part of CLIP ViT-L/14
    with pytest.raises(ConfigError, match=f"needs vision.weights.*{next(iter(HF_SIZES))}"):
        make_vision(VisionConfig(kind="hf"))


# --- how pixels are normalised ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "stats"),
    [
        (None, None),
        ({}, None),
        ({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}, "imagenet"),
        ({"image_mean": [0.4815, 0.4578, 0.4082], "image_std": [0.2686, 0.2613, 0.2758]}, "clip"),
    ],
)
def test_pixels_are_as_the_models_files_say(folder, told, stats):
    if told is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(told))
    assert make_vision(hf(folder)).stats == (stats or folder.name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}', OTHER_MODEL),
        ('{"image_mean": [0.5], "image_std": [0.5]}', OTHER_MODEL),
        ('{"image_mean": [[]]}', UNREADABLE_WEIGHTS),
        ('{"image_mean": "abc"}', UNREADABLE_WEIGHTS),
        ("[1]", UNREADABLE_WEIGHTS),
        ("[" * 100_000, UNREADABLE_WEIGHTS),
        (" " * (1 << 20) + "{}", UNREADABLE_WEIGHTS),
    ],
)
def test_files_that_say_nothing_of_use_are_refused(tmp_path, text, reason):
    model_of("clip").vision_model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(BadWeights) as found:
        make_vision(hf(tmp_path))
    assert found.value.reason == reason


def test_the_loaders_mean_is_checked():
    encoder = make_vision(VisionConfig(variant="tiny", image_px=32))
    encoder.check_mean("imagenet")
    with pytest.raises(ConfigError, match=r"data.mean is 'clip'.*'imagenet'"):
        encoder.check_mean("clip")
    encoder.stats = "siglip"
    encoder.check_mean("half")  # another name for the same numbers
