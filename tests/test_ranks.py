"""Two ranks learn what one does, by DDP and FSDP2, stop together, and leave a checkpoint that one rank goes on from."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from small_runs import losses, records, run, shards, tree, write

from flamingo_model.distributed import World
from schemas.config import ConfigError

RANK = """
import os, sys, torch
torch.set_num_threads(1)
from flamingo_model.train import train
for given in sys.argv[1:]:
    os.environ["MASTER_PORT"], _, path = given.partition(":")  # a store of its own for every run
    try:
        train(path, tell=print)
    except ValueError as error:  # a ConfigError
        print(error, flush=True)
"""
STEPS = 3


def free_ports(count):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def ranks(paths, world=2):
    """Run some configurations one after the other on ranks of their own; gives what each rank printed."""
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    given = [f"{port}:{path}" for port, path in zip(free_ports(len(paths)), paths, strict=True)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *given],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        return [process.communicate(timeout=150)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run all that needs two ranks in one pair of processes, and the same on one rank."""
    out = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAMINGO_CACHE", str(out / "cache"))
        written = shards(out)
        ways = {
            "ddp": tree(written, out / "ddp", steps=STEPS, parallel="ddp", micro_rows=2, blind_every=2),
            "fsdp": tree(written, out / "fsdp", steps=STEPS, parallel="fsdp", accumulate="separate", blind_every=2),
            "nan": tree(written, out / "nan", "pairs", steps=STEPS, parallel="ddp", lr=1e30, clip=0.0, warmup_steps=0),
        }
        told = ranks([write(settings, out / f"{name}.toml") for name, settings in ways.items()])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        run(tree(written, out / "one", steps=STEPS, blind_every=2))
        yield out, written, told
        torch.set_num_threads(threads)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_ranks_have_the_losses_of_one(finished, way):
    out, _, told = finished
    assert f"step-{STEPS:06d}" in told[0]
    ours, theirs = losses(out / way), losses(out / "one")
    assert len(ours) == STEPS
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=2e-5)
    for mine, other in zip(records(out / way), records(out / "one"), strict=True):
        assert mine["norm"] == pytest.approx(other["norm"], rel=1e-3)
        assert mine["gates"] == pytest.approx(other["gates"], abs=1e-4)
    assert records(out / way)[1]["blind"] == pytest.approx(records(out / "one")[1]["blind"], abs=2e-5)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_ranks_write_one_whole_checkpoint(finished, way):
    out, _, _ = finished
    ours, theirs = (load_file(out / name / f"step-{STEPS:06d}" / "model.safetensors") for name in (way, "one"))
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}
    close = [torch.isclose(ours[name], theirs[name], atol=1e-4).float().mean() for name in ours]
    assert sum(close) / len(close) > 0.98
    loaders = [json.loads((out / n / f"step-{STEPS:06d}" / "state.json").read_text())["loader"] for n in (way, "one")]
    assert loaders[0] == loaders[1]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_one_rank_goes_on_from_two(finished, way):
    out, written, _ = finished
    accumulate = "separate" if way == "fsdp" else "merged"
    run(tree(written, out / way, steps=STEPS + 1, accumulate=accumulate), resume=True)
    if len(losses(out / "one")) == STEPS:
        run(tree(written, out / "one", steps=STEPS + 1), resume=True)
    assert losses(out / way)[-1] == pytest.approx(losses(out / "one")[-1], abs=1e-4)


def test_both_ranks_stop_where_the_loss_is_not_finite(finished):
    _, _, told = finished
    stopped = [[line for line in text.splitlines() if "is not finite" in line] for text in told]
    assert len(stopped[0]) == len(stopped[1]) == 1
    assert stopped[0] == stopped[1]
    assert "rank 0:" in stopped[0][0]
    assert "no weight was changed" in stopped[0][0]


def test_ranks_without_a_way_to_share_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"torchrun started 2 ranks and train\.parallel is none"):
        run(tree(shards(tmp_path), tmp_path / "run", "pairs"))


def test_one_rank_gathers_what_it_has():
    assert World().gather({"a": (1, 2)}) == [{"a": (1, 2)}]
