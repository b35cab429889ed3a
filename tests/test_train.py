"""Training: settings, passes and their weights, updates, what stops a run, and what a run tells.

Traps of SPEC-flamingo and of other trainers that have their test here: clipping after every pass, a mean of means,
a rank that skips a batch alone, schedules that ignore accumulation, gradients of frozen weights, features encoded
for nothing.
"""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_runs import losses, records, resolved, run, shards, tree, write

from flamingo_model import train as train_module
from flamingo_model.batch import Batch
from flamingo_model.data import Loader
from flamingo_model.distributed import World
from flamingo_model.feature_cache import FeatureCache
from flamingo_model.flops import Work
from flamingo_model.losses import find_targets
from flamingo_model.merge import FRAMES, TARGETS, count, merge, split_rows
from flamingo_model.optim import Group, clip_groups, clip_units, learning_rate
from flamingo_model.train import make_objective, train
from flamingo_model.train_config import TrainConfig, differing, run_config, run_of_tree, run_tree
from flamingo_model.train_log import duration
from flamingo_model.trainer import Trainer, TrainError
from pipeline.cli import main
from schemas.config import ConfigError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is done ten times faster than by threads that wait for each other
    yield
    torch.set_num_threads(threads)


def trainer_of(given, objective="flamingo"):
    run_settings = resolved(given, objective)
    loader = Loader(run_settings.data)
    torch.manual_seed(run_settings.train.seed)
    return Trainer(run_settings, World(), make_objective(run_settings, loader.tokenizer), loader)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"modle": {}}, "unknown table 'modle' (known: model, data, val, train, contrastive)"),
        ({"train": {"stepz": 1}}, "unknown setting 'train.stepz'"),
        ({"train": {"steps": 0}}, "steps is at least 1, not 0"),
        ({"train": {"parallel": "tp"}}, "parallel is none, ddp, fsdp, not 'tp'"),
        ({"model": {"preset": "big"}}, "there is no preset 'big'"),
        ({"model": {"ablation": "none"}}, "there is no ablation 'none'"),
        ({"data": {"image_px": 16}}, "data.image_px is 16, model.vision.image_px is 320: one size"),
        ({"train": {"feature_cache_gb": 1.0}, "data": {"flip": True}}, "features must be the same"),
        ({"train": {"accumulate": "separate"}, "data": {"mix": "mixed"}}, "there is one batch a step"),
        ({"model": {"ablation": "no_interleaved"}}, "leaves no dataset"),
    ],
)
def test_settings_that_cannot_be_are_named(change, told):
    base = {"model": {}, "data": {"datasets": {"a": {"shards": ["a.tar"]}}}, "train": {}}
    wrong = {name: {**base.get(name, {}), **table} for name, table in {**base, **change}.items()}
    with pytest.raises(ConfigError) as caught:
        run_config(wrong, "run.toml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objectives_have_their_papers_defaults_and_settings_win():
    base = {
        "model": {"preset": "tiny"},
        "data": {"image_px": 64, "datasets": {"a": {"kind": "pairs", "shards": ["a"]}}},
    }
    assert run_config(base, "x").train == TrainConfig()
    ours = run_config({**base, "train": {"lr": 0.5}}, "x", "contrastive")
    assert (ours.train.lr, ours.train.schedule, ours.train.agc, ours.train.clip) == (0.5, "linear", 0.01, 10.0)
    assert ours.contrastive.width == 128
    for objective in ("flamingo", "lm", "contrastive"):
        config = run_config(base, "x", objective)
        assert run_of_tree(json.loads(json.dumps(run_tree(config))), "x") == config


def test_an_ablation_is_laid_over_the_settings():
    datasets = {"a": {"shards": ["a"], "p_next": 0.3}, "b": {"kind": "pairs", "shards": ["b"]}}
    base = {"data": {"datasets": datasets}, "train": {"accumulate": "separate"}}
    kinds = {
        name: run_config({**base, "model": {"ablation": name, "xattn": {"every": 2}}}, "x")
        for name in ("round_robin", "no_image_text", "p_next_1", "every_4th")
    }
    assert kinds["round_robin"].train.accumulate == "round_robin"
    assert list(kinds["no_image_text"].data.datasets) == ["a"]
    assert [dataset.p_next for dataset in kinds["p_next_1"].data.datasets.values()] == [1.0, 0.0]
    assert [kinds[name].model.xattn.every for name in ("p_next_1", "every_4th")] == [2, 4]


def test_what_decides_what_is_learnt_is_compared(written, tmp_path):
    base = tree(written, tmp_path / "run", steps=9)
    config = resolved(base)
    then = run_tree(config)
    free = replace(config, train=replace(config.train, steps=99, micro_rows=1, keep=1, parallel="ddp"))
    assert differing(free, then) == []
    changed = replace(config, train=replace(config.train, clip=2.0), model=replace(config.model))
    assert differing(changed, then) == ["train.clip 1.0, now 2.0"]
    linear = replace(config, train=replace(config.train, schedule="linear"))
    assert differing(replace(linear, train=replace(linear.train, steps=10)), run_tree(linear)) == [
        "train.steps 9, now 10"
    ]


# --- learning rate and clipping --------------------------------------------------------------------------------------


def test_the_learning_rate_rises_and_follows_its_schedule():
    constant = TrainConfig(lr=1.0, warmup_steps=4, steps=12)
    assert [learning_rate(step, constant) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    linear, cosine = (replace(constant, schedule=name) for name in ("linear", "cosine"))
    assert [learning_rate(step, linear) for step in (4, 8, 12)] == [1.0, 0.5, 0.0]
    assert [learning_rate(step, cosine) for step in (4, 8, 12)] == pytest.approx([1.0, 0.5, 0.0])
    assert learning_rate(0, replace(linear, warmup_steps=0)) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6), st.floats(0.01, 10))
def test_gradients_are_clipped_by_their_common_norm(values, limit):
    first, second, free = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    for place, parameter in enumerate((first, second, free)):
        parameter.grad = torch.tensor(values[2 * place : 2 * place + 2])
    norm = math.hypot(*values[:4])
    groups = [Group("a", {"first": first}, clip=limit), Group("b", {"second": second}, clip=limit)]
    told = clip_groups([*groups, Group("c", {"free": free})])
    scale = min(1.0, limit / (norm + 1e-6))
    assert told.item() == pytest.approx(math.hypot(*values), abs=1e-5)
    assert torch.cat([first.grad, second.grad]).tolist() == pytest.approx([v * scale for v in values[:4]], abs=1e-5)
    assert free.grad.tolist() == pytest.approx(values[4:])


def test_units_are_clipped_by_the_norm_of_their_weights():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]))
    weight.grad = torch.tensor([[10.0, 0.0], [1.0, 0.0], [0.01, 0.0]])
    clip_units([weight], 0.01)
    assert weight.grad[:, 0].tolist() == pytest.approx([0.05, 1e-5, 0.01])


# --- passes ----------------------------------------------------------------------------------------------------------


def tokens_seen(batch: Batch):
    """List, for each target of a batch, its token, the samples that are seen before it, and the frame that it sees."""
    rows = []
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), batch.media_frames.cumsum(0)])
    media = {
        (int(row), int(number)): batch.frames[int(starts[m]) : int(starts[m + 1])].sum().item()
        for m, (row, number) in enumerate(zip(batch.media_row, batch.media_number, strict=True))
    }
    found = find_targets(batch)
    for place, label, source in zip(found.place.tolist(), found.label.tolist(), found.source.tolist(), strict=True):
        row, at = divmod(place, batch.tokens.shape[1])
        same = batch.segment[row] == batch.segment[row, at]
        before = batch.tokens[row][same][: int(batch.position[row, at]) + 1].tolist()
        sees = media.get((row, int(batch.image_of[row, at + 1])))
        rows.append((batch.names[source], label, tuple(before), sees))
    return sorted(rows, key=repr)


@pytest.mark.parametrize("pack", [False, True])
def test_one_merged_batch_predicts_what_its_batches_do(written, tmp_path, pack):
    config = resolved(tree(written, tmp_path / "run")).data
    with Loader(replace(config, datasets={n: replace(d, pack=pack) for n, d in config.datasets.items()})) as loader:
        for _ in range(3):
            batches = next(loader)
            whole = merge(batches)
            assert whole.tokens.shape == (2 + 2 + 1, 64)
            apart = sorted((row for batch in batches.values() for row in tokens_seen(batch)), key=repr)
            assert tokens_seen(whole) == apart
            parts = list(split_rows(whole, 2))
            assert [len(part.tokens) for part in parts] == [2, 2, 1]
            assert sorted((row for part in parts for row in tokens_seen(part)), key=repr) == apart
            numbers = count(batches, tuple(config.datasets))
            assert torch.equal(count({"all": whole}, tuple(config.datasets)), numbers)
            assert numbers[TARGETS].sum() == len(apart)
            assert [key for row in whole.keys for key in row] == [
                k for b in batches.values() for row in b.keys for k in row
            ]


@pytest.mark.parametrize("loss_over", ["mean", "sum"])
def test_merged_separate_and_split_passes_learn_the_same(written, tmp_path, loss_over):
    ways = {"merged": {}, "separate": {"accumulate": "separate"}, "split": {"micro_rows": 2}}
    found = {}
    for name, way in ways.items():
        trainer = trainer_of(tree(written, tmp_path / name, steps=2, loss_over=loss_over, **way))
        steps = [trainer.update() for _ in range(2)]
        weights = torch.cat([p.flatten() for group in trainer.groups for p in group.parameters.values()])
        found[name] = steps, weights.detach()
        trainer.loader.close()
    for name in ("separate", "split"):
        for ours, theirs in zip(found["merged"][0], found[name][0], strict=True):
            assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
            assert ours.norm == pytest.approx(theirs.norm, rel=1e-4)
        # AdamW divides by the size of a gradient: where that is rounding, so is the step. Most weights are not there.
        close = torch.isclose(found["merged"][1], found[name][1], atol=1e-5)
        assert close.float().mean() > 0.99


# --- updates ---------------------------------------------------------------------------------------------------------

CURVE = [
    *(5.6375, 5.6350, 5.5936),  # interleaved, pairs, videos of a step
    *(5.6246, 5.6189, 5.5855),
    *(5.5181, 5.5379, 5.4990),
    *(5.4582, 5.4738, 5.4813),
    *(5.4098, 5.4736, 5.4505),
]


def test_the_loss_curve_is_pinned(written, tmp_path):
    """Other orders of summation (threads, passes) change it by 1e-6; 1e-3 leaves room for other processors' kernels."""
    run(tree(written, tmp_path / "run", steps=5))
    told = [value for row in losses(tmp_path / "run") for value in row.values()]
    assert told == pytest.approx(CURVE, abs=1e-3)


def test_frozen_weights_have_no_gradient_and_do_not_move(written, tmp_path):
    trainer = trainer_of(tree(written, tmp_path / "run", steps=3, dtype="bf16", weight_decay=0.5))
    model = trainer.objective.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls, shown = [], []
    model.vision.register_forward_hook(lambda module, given, out: calls.append((len(given[0]), module.training)))
    for _ in range(3):
        trainer.ready = trainer.ready or trainer.make_ready()
        shown.append((int(trainer.ready.numbers[FRAMES].sum()), False))
        trainer.update()
    trainer.loader.close()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved == learning
    assert {name.partition(".")[0] for name in learning} == {"resampler", "xattn", "lm"}
    assert all(parameter.grad is None for parameter in model.parameters())
    types = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    assert calls == shown  # one call a step, all datasets in it, and no frame but those that are shown


def test_one_dataset_in_turn(written, tmp_path):
    run(tree(written, tmp_path / "run", steps=4, accumulate="round_robin"))
    assert [list(row) for row in losses(tmp_path / "run")] == [["interleaved"], ["pairs"], ["videos"], ["interleaved"]]


def test_activations_made_again_change_nothing(written, tmp_path):
    for name, setting in (("kept", False), ("again", True)):
        run(tree(written, tmp_path / name, "pairs", steps=2, checkpoint_activations=setting))
    assert losses(tmp_path / "kept") == losses(tmp_path / "again")


def test_weights_that_are_not_finite_stop_the_run_before_the_step(written, tmp_path):
    trainer = trainer_of(tree(written, tmp_path / "run", "interleaved", "pairs", steps=3, micro_rows=1))
    assert trainer.update() is not None
    gate = trainer.objective.model.xattn["0"].gate.weight
    gate.data.fill_(float("nan"))
    before = {name: p.detach().clone() for group in trainer.groups for name, p in group.parameters.items()}
    keys = {key for given in trainer.ready.passes for row in given.batch.keys for key in row}
    with pytest.raises(
        TrainError, match=r"step 2: the loss is not finite .* no weight was changed; its samples: rank 0:"
    ) as told:
        trainer.update()
    trainer.loader.close()
    assert any(repr(key) in str(told.value) for key in keys)
    after = {name: p for group in trainer.groups for name, p in group.parameters.items()}
    assert all(
        torch.equal(
            after[name],
            before[name],
        )
        or name.endswith("0.gate.weight")
        for name in before
    )
    assert trainer.step == 1


def test_a_gradient_that_is_not_finite_stops_the_run(written, tmp_path):
    trainer = trainer_of(tree(written, tmp_path / "run", "pairs", steps=3))
    weight = trainer.objective.model.resampler.project.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weight.detach().clone()
    with pytest.raises(TrainError, match="step 1: the gradient is not finite"):
        trainer.update()
    trainer.loader.close()
    assert torch.equal(weight, before)


# --- what a run writes and how it ends -------------------------------------------------------------------------------


def test_a_run_tells_what_it_does(written, tmp_path):
    settings_of = tree(written, tmp_path / "run", steps=4, log_every=2, blind_every=4, val_every=2, val_steps=1)
    pairs = {"kind": "pairs", "shards": written["pairs"], "batch": 4, "tokens": 32}
    settings_of["val"] = {"lanes": 2, "threads": 1, "datasets": {"held_out": pairs}}
    lines = run(settings_of)
    rows = records(tmp_path / "run")
    assert [row["step"] for row in rows] == [2, 4]
    assert set(rows[0]["loss"]) == {"interleaved", "pairs", "videos"}
    assert set(rows[1]["gates"]) == {"0.gate", "0.gate_ffw", "1.gate", "1.gate_ffw"}
    assert rows[0]["blind"] is None
    assert set(rows[1]["blind"]) == set(rows[1]["loss"])
    assert all(rows[0][name] > 0 for name in ("tokens_per_s", "images_per_s", "mfu", "memory_gb", "left_s", "norm"))
    assert [row["step"] for row in records(tmp_path / "run", "val")] == [2, 4]
    assert lines[0].startswith("step 2/4 | loss interleaved ")
    assert "| blind interleaved " in "\n".join(lines)
    assert lines[-1] == f"done after step 4 of 4; {tmp_path / 'run' / 'step-000004'}"


def test_the_blind_loss_is_that_of_seeing_nothing(written, tmp_path):
    """Gates are closed at the start, so that at first nothing is lost by it; afterwards something is."""
    run(tree(written, tmp_path / "run", "pairs", steps=3, blind_every=1, warmup_steps=0, lr=0.05))
    rows = records(tmp_path / "run")
    assert rows[0]["blind"] == rows[0]["looked"]
    assert rows[2]["blind"] != rows[2]["looked"]


def test_a_signal_ends_a_run_with_a_checkpoint(written, tmp_path):
    settings_of = tree(written, tmp_path / "run", "pairs", steps=50)
    lines = []

    def tell(line):
        lines.append(line)
        if line.startswith("step 2/"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    train(write(settings_of, tmp_path / "run.toml"), tell=tell)
    assert signal.getsignal(signal.SIGTERM) is before
    assert lines[-1] == f"stopped as asked after step 3 of 50; {tmp_path / 'run' / 'step-000003'}"


def test_a_run_ends_when_its_time_is_up(written, tmp_path):
    lines = run(tree(written, tmp_path / "run", "pairs", steps=50, max_minutes=1e-9))
    assert lines[-1].startswith("stopped after step 1 of 50")


def test_times_are_told_in_two_units():
    assert [duration(s) for s in (5, 65, 3700, 90_000)] == ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]


def test_operations_of_a_linear_model_are_counted():
    assert Work(2.0, 3.0, 5.0, 7.0, 11.0).of(10, 100, 1000, 10_000, 2) == 20 + 300 + 5000 + 70_000 + 220


def test_kept_features_change_nothing_and_are_found_again(written, tmp_path, monkeypatch):
    encoded = []
    call = FeatureCache.__call__

    def spy(self, frames, encode):
        out = call(self, frames, encode)
        encoded.append((self.found, self.made))
        return out

    monkeypatch.setattr(FeatureCache, "__call__", spy)
    run(tree(written, tmp_path / "kept", "pairs", steps=8, feature_cache_gb=1.0))
    run(tree(written, tmp_path / "plain", "pairs", steps=8))
    for kept, plain in zip(losses(tmp_path / "kept"), losses(tmp_path / "plain"), strict=True):
        assert kept == pytest.approx(plain, rel=1e-5)
    found, made = encoded[-1]
    assert made == 24
    assert found == 8 * 4 - 24


def test_the_cache_of_features_is_bounded_and_survives_cut_files(tmp_path):
    frames = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)

    def encode(given):
        return given.float().flatten(2).transpose(1, 2)

    wanted = encode(frames)
    cache = FeatureCache(tmp_path, "encoder", 150)  # of features of 48 bytes in files of some more
    assert torch.equal(cache(frames, encode), wanted)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert 0 < len(files) < 4
    assert sum(file.stat().st_size for file in files) <= cache.held_bytes
    files[0].write_bytes(files[0].read_bytes()[:20])
    assert torch.equal(FeatureCache(tmp_path, "encoder", 150)(frames, encode), wanted)


# --- other objectives ------------------------------------------------------------------------------------------------


def test_a_language_model_of_the_corpus_becomes_a_flamingos(written, tmp_path):
    settings_of = tree(written, tmp_path / "lm", "interleaved", "pairs", steps=6, train_tokenizer=300, lr=0.003)
    settings_of["model"]["lm"] = {**settings_of["model"]["lm"], "vocab": 260}
    lines = run(settings_of, "lm")
    assert lines[-1] == f"model.lm.weights = '{tmp_path / 'lm' / 'lm'}' is the language model"
    rows = records(tmp_path / "lm")
    assert rows[-1]["loss"]["interleaved"] < rows[0]["loss"]["interleaved"] - 0.1
    assert all(row["images_per_s"] == 0 for row in rows)  # nothing is decoded for text
    trained = load_file(tmp_path / "lm" / "lm" / "model.safetensors")
    assert trained["gpt_neox.embed_in.weight"].shape[0] == 300

    flamingo = tree(written, tmp_path / "run", "pairs", steps=1, model={"lm": {"weights": str(tmp_path / "lm" / "lm")}})
    flamingo["data"]["tokenizer"] = str(tmp_path / "lm" / "tokenizer")
    run(flamingo)
    assert losses(tmp_path / "run")[0]["pairs"] < math.log(300)


def test_the_contrastive_stage_makes_the_vision_encoder(written, tmp_path):
    settings_of = tree(written, tmp_path / "run", "pairs", steps=3, lr=0.001, accumulate="separate")
    settings_of["contrastive"] = {"width": 16, "text_layers": 1, "text_width": 16, "text_heads": 2}
    lines = run(settings_of, "contrastive")
    assert losses(tmp_path / "run")[0]["pairs"] == pytest.approx(2 * math.log(4), abs=1.5)
    file = tmp_path / "run" / "vision.safetensors"
    assert lines[-1] == f"model.vision.weights = '{file}' is the vision encoder"
    run(tree(written, tmp_path / "next", "pairs", steps=1, model={"vision": {"image_px": 32, "weights": str(file)}}))


def test_contrastive_settings_that_cannot_be_are_refused(written, tmp_path):
    with pytest.raises(ConfigError, match="compares the rows of a batch"):
        resolved(tree(written, tmp_path / "run", "pairs", micro_rows=2, accumulate="separate"), "contrastive")


# --- what a person can mend ------------------------------------------------------------------------------------------


def command(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_command_describes_a_run_without_making_anything(written, tmp_path):
    told = command(write(tree(written, tmp_path / "run", steps=7), tmp_path / "run.toml"), "--dry-run")
    assert told.exit_code == 0, told.output
    assert [line.split()[0] for line in told.stdout.splitlines()] == [
        "part", "vision", "resampler", "xattn", "lm", "all", "a", "steps", "memory",
    ]  # fmt: skip
    assert "384 tokens at most (interleaved 2 x 64, pairs 4 x 32, videos 2 x 32)" not in told.stdout
    assert "320 tokens at most (interleaved 2 x 64, pairs 4 x 32, videos 2 x 32), 1 rank(s)" in told.stdout
    assert not (tmp_path / "run").exists()


def no_memory(*given):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--set", "data.datasets.pairs.shards=['{tmp}/none.tar']"], "data.datasets.pairs: "),
        (["--set", "train.lr"], "--set train.lr: write it as train.lr=0.001"),
        (["--set", "train.parallel=fast"], "parallel is none, ddp, fsdp, not 'fast'"),
        (["--set", "data.mean=clip"], "data.mean is 'clip', but the vision encoder wants"),
        (["--set", "model.lm.weights={tmp}/none"], "none"),
        (["--set", "train.wandb=mine"], "train.wandb needs its package"),
        (["--set", "train.init={tmp}"], "there is no checkpoint"),
        (["--set", "model.vision.weights={tmp}/none.safetensors"], "none.safetensors"),
    ],
)
def test_what_a_person_can_mend_is_one_line(written, tmp_path, change, told):
    file = write(tree(written, tmp_path / "run", "pairs", steps=1), tmp_path / "run.toml")
    found = command(file, *(part.replace("{tmp}", str(tmp_path)) for part in change))
    assert found.exit_code == 2, found.output
    assert len(found.stderr.splitlines()) == 1
    assert told in found.stderr


def test_memory_that_runs_out_is_told_with_what_takes_less(written, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "make_objective", no_memory)
    found = command(write(tree(written, tmp_path / "run", "pairs", steps=1), tmp_path / "run.toml"))
    assert found.exit_code == 2
    assert found.stderr == (
        "flamingo: out of memory: lower train.micro_rows (now 4) or set train.checkpoint_activations = true or set "
        "train.dtype = 'bf16' or set train.parallel = 'fsdp' under torchrun (CUDA out of memory. Tried to allocate "
        "20 GiB.)\n"
    )


def test_other_errors_are_bugs_and_keep_their_traceback(written, tmp_path, monkeypatch):
    def broken(*given):
        raise RuntimeError("a bug")

    monkeypatch.setattr(train_module, "make_objective", broken)
    found = command(write(tree(written, tmp_path / "run", "pairs", steps=1), tmp_path / "run.toml"))
    assert isinstance(found.exception, RuntimeError)


def test_init_begins_from_the_weights_of_another_run(written, tmp_path):
    run(tree(written, tmp_path / "first", "pairs", steps=2))
    saved = Path(tmp_path, "first", "step-000002", "model.safetensors")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(saved).items()}
    save_file(zeros, saved)
    run(tree(written, tmp_path / "second", "pairs", steps=1, lr=0.0, weight_decay=0.0, init=str(saved.parent)))
    there = load_file(Path(tmp_path, "second", "step-000001", "model.safetensors"))
    assert not any(tensor.any() for tensor in there.values())


def test_gates_may_learn_faster(written, tmp_path):
    opened = []
    for name, gate_lr in (("as_the_rest", 1.0), ("faster", 20.0)):
        run(tree(written, tmp_path / name, steps=4, gate_lr=gate_lr))
        opened.append(max(abs(value) for value in records(tmp_path / name)[-1]["gates"].values()))
    assert opened[1] > 5 * opened[0] > 0
