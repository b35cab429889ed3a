"""Two ranks that train together over gloo, one killed with -9, and the run gone on by four."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shards_written import small, write_shards

from flamingo_model.config import data_config
from flamingo_model.data import Loader, merge_states
from schemas.config import to_tree

RANK = """
import json, os, sys, time, warnings
import torch, torch.distributed as dist
from flamingo_model.config import data_config
from flamingo_model.data import Loader, merge_states

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = data_config(json.loads(open(f"{folder}/config.json").read()), "test")
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
with Loader(config, rank, world) as loader:
    for step, batches in enumerate(loader, start=1):
        total = torch.stack([batch.loss.sum() for batch in batches.values()])
        dist.all_reduce(total)                                  # as the gradients of a step are
        states = [None] * world
        dist.all_gather_object(states, loader.state_dict())
        if rank == 0:
            with open(f"{folder}/state.tmp", "w") as stream:
                json.dump({"state": merge_states(states), "targets": total.tolist()}, stream)
            os.replace(f"{folder}/state.tmp", f"{folder}/state-{step}.json")
        time.sleep(0.05)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "cache"))


def rank_of(folder, rank):
    return subprocess.Popen(
        [sys.executable, "-c", RANK, str(folder), str(rank), "2"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def keys(step):
    return {name: [key for row in batch.keys for key in row] for name, batch in step.items()}


@pytest.mark.usefixtures("cache")
def test_a_killed_rank_loses_nothing(tmp_path):
    datasets = {
        "pages": {"shards": write_shards(tmp_path / "pages", "interleaved", 60), "batch": 8, "tokens": 64},
        "pairs": {"kind": "pairs", "shards": write_shards(tmp_path / "pairs", "pairs", 60), "batch": 8, "pack": True},
    }
    tree = to_tree(small(datasets))
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = data_config(tree, "test")

    with Loader(config) as loader:
        alone = [next(loader) for _ in range(60)]
    ranks = [rank_of(tmp_path, rank) for rank in range(2)]
    try:
        until = time.monotonic() + 90
        while not Path(tmp_path, "state-4.json").exists():
            assert time.monotonic() < until, "no rank came to its fourth step"
            time.sleep(0.02)
        ranks[1].send_signal(signal.SIGKILL)
        assert ranks[0].wait(60) != 0  # its next collective fails: it neither hangs nor goes on alone
    finally:
        for process in ranks:
            process.kill()
            process.wait()

    saved = [json.loads(path.read_text()) for path in tmp_path.glob("state-*.json")]
    for one in saved:
        targets = [int(batch.loss.sum()) for batch in alone[one["state"]["step"] - 1].values()]
        assert one["targets"] == targets
    last = max((one["state"] for one in saved), key=lambda state: state["step"])
    done = last["step"]
    assert done >= 4
    found = []
    for rank in range(4):
        with Loader(config, rank, 4) as loader:
            loader.load_state_dict(last)
            found.append([keys(next(loader)) for _ in range(5)])
    for step in range(5):
        for name in config.datasets:
            joined = sorted(key for rank in found for key in rank[step][name])
            assert joined == sorted(keys(alone[done + step])[name])
    assert merge_states([last])["step"] == done
