"""Checkpoints: written whole or not at all, refused by name where they do not fit, and gone on from to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import losses, resolved, run, shards, tree

from flamingo_model import checkpoint as checkpoint_module
from flamingo_model import train as train_module
from flamingo_model.checkpoint import (
    STATE,
    checkpoints,
    load_flamingo,
    load_weights,
    open_checkpoint,
    prune,
    save,
    state_of,
    tokenizer_hash,
)
from flamingo_model.data import Loader
from flamingo_model.tokens import ByteTokenizer, FastTokenizer, open_tokenizer, train_tokenizer
from flamingo_model.train import make_objective
from schemas.config import ConfigError

GO_ON = """
import sys, torch
from flamingo_model.train import train
torch.set_num_threads(1)
train(sys.argv[1], resume=True, assignments=sys.argv[2:], tell=print)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config(written, tmp_path):
    return resolved(tree(written, tmp_path / "run", steps=9))


def fake(out, step, config, tokenizer=None, **tensors):
    """Write a checkpoint of a few numbers."""
    model = {"weight": torch.arange(3.0), **tensors}
    state = state_of(config, {"step": step}, {"tokens": 1})
    return save(out, step, model, {"weight.step": torch.ones(())}, state, tokenizer or ByteTokenizer())


def same_files(one, other):
    """Compare the tensors of two checkpoints, bit by bit."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    return True


def test_a_run_goes_on_to_the_bit_in_a_new_process(written, tmp_path):
    """Three steps, then three in a process of its own, are the six of a run that was not interrupted."""
    for name, steps in (("straight", 6), ("parts", 3)):
        run(tree(written, tmp_path / name, steps=steps, accumulate="merged", keep=0))
    lines = subprocess.run(
        [sys.executable, "-c", GO_ON, str(tmp_path / "parts.toml"), "train.steps=6"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert lines[0] == f"going on from {tmp_path / 'parts' / 'step-000003'}"
    assert losses(tmp_path / "parts") == losses(tmp_path / "straight")
    ours, theirs = (checkpoints(tmp_path / name)[-1] for name in ("parts", "straight"))
    assert same_files(ours, theirs)
    states = [json.loads((path / STATE).read_text()) for path in (ours, theirs)]
    assert states[0]["loader"] == states[1]["loader"]
    assert states[0]["counters"] == states[1]["counters"]


def test_a_run_goes_on_amid_a_round(written, tmp_path):
    for name, steps in (("straight", 5), ("parts", 2)):
        run(tree(written, tmp_path / name, steps=steps, accumulate="round_robin"))
    run(tree(written, tmp_path / "parts", steps=5, accumulate="round_robin"), resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "straight")
    assert same_files(checkpoints(tmp_path / "parts")[-1], checkpoints(tmp_path / "straight")[-1])


def test_a_folder_that_holds_a_run_is_not_begun_anew(written, tmp_path):
    run(tree(written, tmp_path / "run", "pairs", steps=1))
    with pytest.raises(ConfigError, match="run holds step-000001: go on from it with --resume"):
        run(tree(written, tmp_path / "run", "pairs", steps=2))


def test_a_checkpoint_of_other_settings_is_refused(written, tmp_path):
    run(tree(written, tmp_path / "run", "pairs", steps=1))
    other = tree(written, tmp_path / "run", "pairs", steps=2, lr=0.5, model={"xattn": {"heads": 2, "every": 2}})
    with pytest.raises(ConfigError) as caught:
        run(other, resume=True)
    told = str(caught.value)
    assert "step-000001 is of other settings: " in told
    assert "train.lr 0.01, now 0.5" in told
    assert "model.xattn.every 1, now 2" in told
    assert "\n" not in told
    assert "steps" not in told


def test_a_trained_flamingo_is_opened_as_it_was(written, tmp_path):
    settings = tree(written, tmp_path / "run", "pairs", steps=3)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "make_objective", lambda *given: seen.append(make_objective(*given)) or seen[0])
        run(settings)
    torch.manual_seed(5)
    model, tokenizer, config = load_flamingo(tmp_path / "run")
    assert config == resolved(settings).model
    assert isinstance(tokenizer, ByteTokenizer)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with Loader(resolved(settings).data) as loader, torch.no_grad():
        batch = next(loader)["pairs"]
        logits = [one.lm.head(one(batch)) for one in (seen[0].model.eval(), model)]
    assert torch.equal(*logits)
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        load_flamingo(tmp_path / "none")


def test_an_interrupted_write_leaves_the_last_checkpoint(config, tmp_path, monkeypatch):
    fake(tmp_path, 1, config)
    calls = []

    def full(*given, **more):
        calls.append(given)
        if len(calls) == 2:
            raise OSError("no space left on device")
        return save_file(*given, **more)

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        fake(tmp_path, 2, config)
    assert open_checkpoint(tmp_path).step == 1
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000001"]
    prune(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_the_latest_checkpoints_stay(config, tmp_path):
    for step in (2, 10, 9, 1_000_000):
        fake(tmp_path, step, config)
    (tmp_path / "step-x").mkdir()
    prune(tmp_path, 2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000010", "step-1000000"]
    assert open_checkpoint(tmp_path).step == 1_000_000
    assert open_checkpoint(tmp_path / "step-000010").step == 10


def test_a_step_written_again_replaces_the_first(config, tmp_path):
    fake(tmp_path, 1, config)
    folder = fake(tmp_path, 1, config, more=torch.ones(1))
    assert set(open_checkpoint(tmp_path).tensors("model.safetensors")) == {"weight", "more"}
    assert folder == tmp_path / "step-000001"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no state of a run"),
        ("[1]", "version None, this program reads 1"),
        ('{"version": 9}', "version 9, this program reads 1"),
        ('{"version": 1, "step": "3"}', "step, config, loader, tokenizer is missing or of another type"),
        ("[" * 200_000, "no state of a run"),
    ],
)
def test_a_state_that_is_none_is_one_line(config, tmp_path, text, told):
    folder = fake(tmp_path, 1, config)
    (folder / STATE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        open_checkpoint(tmp_path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_none_are_one_line(config, tmp_path):
    folder = fake(tmp_path, 1, config)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ConfigError, match="no file of weights"):
        open_checkpoint(folder).tensors("model.safetensors")


def test_weights_of_another_model_are_refused_by_name():
    model = torch.nn.Linear(2, 3)
    fitting = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    load_weights(model, fitting, Path("a.safetensors"))
    assert model.weight.sum() == 6
    for change, told in (
        ({"bias": None}, "a.safetensors lacks bias"),
        ({"more": torch.ones(1)}, "the model has no place for more"),
        ({"bias": torch.ones(4)}, "a.safetensors has another shape of bias"),
    ):
        tensors = {name: tensor for name, tensor in {**fitting, **change}.items() if tensor is not None}
        with pytest.raises(ConfigError, match=told):
            load_weights(model, tensors, Path("a.safetensors"))


def test_a_tokenizer_travels_with_the_checkpoint(config, tmp_path):
    tokenizer = FastTokenizer(train_tokenizer(["a heron in the reeds"] * 9, 280), {"eos_token": "</s>"})
    folder = fake(tmp_path, 1, config, tokenizer)
    opened = open_tokenizer(str(folder / "tokenizer"))
    assert opened.encode("a heron <image>") == tokenizer.encode("a heron <image>")
    assert tokenizer_hash(opened) == tokenizer_hash(tokenizer) != tokenizer_hash(ByteTokenizer())


def test_settings_are_written_and_read_back(written, config, tmp_path):
    fake(tmp_path, 1, config)
    opened = checkpoint_module.opened_run(open_checkpoint(tmp_path))
    assert opened == config
    with Loader(opened.data) as loader:
        assert make_objective(opened, loader.tokenizer).parts().keys() == {"vision", "resampler", "xattn", "lm"}
