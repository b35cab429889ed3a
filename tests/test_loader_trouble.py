"""The loader in trouble: data that is all bad, stages and processes that fail, servers that stall, states that lie."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
from shards_written import jpeg, small, write_shards, write_tar
from web_server import Reply, WebServer

from flamingo_model import lanes
from flamingo_model.config import data_config
from flamingo_model.data import Loader
from flamingo_model.skips import DataError
from flamingo_model.workers import received
from schemas.config import ConfigError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pairs(tmp_path):
    return write_shards(tmp_path / "pairs", "pairs", 100)


def of_pairs(shards, **settings):
    return small({"p": {"kind": "pairs", "shards": shards, "batch": 8, "tokens": 64, "layout": "pair"}}, **settings)


def keys(step):
    return [key for batch in step.values() for row in batch.keys for key in row]


def one_sample(tmp_path, **members):
    """Write a shard of eight samples of the same members."""
    path = tmp_path / "same.tar"
    named = [(name.replace("_dot_", "."), data) for name, data in members.items()]
    write_tar(path, ((f"k{number}", named) for number in range(8)))
    return (str(path),)


# Data of which nothing comes


@pytest.mark.parametrize("workers", [0, 2])
def test_an_endless_stream_of_damage_ends_in_one_line(tmp_path, workers):
    shards = one_sample(tmp_path, jpg=jpeg(1), txt=b" ")
    config = of_pairs(shards, workers=workers)
    with (
        Loader(config) as loader,
        pytest.raises(DataError, match=r"^17 samples lost of \d+ read, more than .*") as told,
    ):
        next(loader)
    assert "\n" not in str(told.value)
    with Loader(replace(config, on_damage="raise")) as loader, pytest.raises(DataError, match=r"^no_text: .*on_dam"):
        next(loader)


def test_a_step_that_lost_too_much_is_not_taken_for_delivered(tmp_path, pairs):
    shards = (*pairs[:1], *one_sample(tmp_path, jpg=b"no picture", txt=b"said"))
    with Loader(of_pairs(shards, on_damage="raise", shuffle=False, lanes=1)) as loader:
        whole = [keys(next(loader)) for _ in range(2)]
        for _ in range(2):
            with pytest.raises(DataError, match="unreadable"):
                next(loader)
        state = loader.state_dict()
    with Loader(of_pairs(shards, shuffle=False, lanes=1)) as loader:
        loader.load_state_dict(state)
        assert [key[0] == "k" for key in keys(next(loader))] == [False] * 4 + [True] * 4
    assert sum(map(len, whole)) == 8 * state["step"] == 16


def let_none_pass(samples):
    return (sample for sample in samples if not sample)


def test_stages_that_let_nothing_pass_end_in_one_line(pairs, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_FRUITLESS", 300)
    told = "p: no row came of 300 samples, read one after the other: a stage drops"
    with Loader(of_pairs(pairs), stages=[let_none_pass]) as loader, pytest.raises(DataError, match=told):
        next(loader)
    with Loader(of_pairs(pairs, once=True), stages=[let_none_pass]) as loader:
        assert not any(keys(step) for step in loader)


def test_a_mixture_goes_on_to_its_end_when_one_dataset_has_ended(tmp_path, pairs):
    few = write_shards(tmp_path / "few", "pairs", 7)
    datasets = {
        name: {"kind": "pairs", "shards": shards, "batch": 8} for name, shards in (("few", few), ("many", pairs))
    }
    config = small(datasets, mix="mixed", batch=8, tokens=64, once=True, lanes=2)
    with Loader(config) as loader:
        steps = [(loader.state_dict(), keys(step)) for step in loader]
    assert len([key for _, step in steps for key in step]) == 107
    state = json.loads(json.dumps(steps[-3][0]))
    with Loader(config) as loader:
        loader.load_state_dict(state)
        assert [keys(step) for step in loader] == [step for _, step in steps[-2:]]


# Hostile samples


def test_a_part_may_be_called_anything(tmp_path):
    shards = one_sample(tmp_path, jpg=jpeg(1), txt=b"said", __key__=b"else", __url__=b"u", __visit__=b"v")
    with Loader(of_pairs(shards, once=True)) as loader:
        assert Counter(keys(next(loader))) == Counter(f"k{number}" for number in range(8))


def test_a_frame_rate_may_be_any_number(tmp_path):
    header = b'{"caption": "said", "fps": 1e-309}'
    members = {"000_dot_jpg": jpeg(1), "001_dot_jpg": jpeg(2), "json": header}
    dataset = {"kind": "videos", "shards": one_sample(tmp_path, **members), "batch": 8}
    with Loader(small({"v": dataset})) as loader:
        assert len(keys(next(loader))) == 8


def test_a_sample_too_large_to_hold_is_not_read(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_SAMPLE_BYTES", 4096)
    shards = (*pairs, *one_sample(tmp_path, jpg=jpeg(1), txt=b"a" * 9000))
    with Loader(of_pairs(shards, once=True)) as loader:
        assert len([key for step in loader for key in keys(step)]) == 100
        assert loader.stats.skipped == {("p", "too_large"): 8}


def test_what_is_secret_in_a_url_is_not_told(tmp_path, pairs):
    data = Path(pairs[0]).read_bytes()

    def route(seen):
        begin, end = map(int, seen.headers["range"].removeprefix("bytes=").split("-"))
        if end > 1:
            return Reply(b"", status=403)
        return Reply(
            data[begin : end + 1], headers=(("Content-Range", f"bytes {begin}-{end}/{len(data)}"),), status=206
        )

    with WebServer() as server:
        server.routes = {"/a.tar": route, "/a.tar?key=hidden": route}
        with pytest.raises(ConfigError) as told:
            Loader(of_pairs((server.url("/a.tar?key=hidden"),)))
    assert "forbidden" in str(told.value)
    assert "hidden" not in str(told.value)


# What fails in a thread or a process


def fail(samples):
    for sample in samples:
        if sample["__key__"]:
            raise ZeroDivisionError("of one's own")
        yield sample


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_stage_is_seen_as_often_as_one_asks(pairs, workers):
    with Loader(of_pairs(pairs, workers=workers), stages=[fail]) as loader:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="of one's own"):
                next(loader)


def kill(samples):
    for number, sample in enumerate(samples):
        if number > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield sample


def test_a_killed_worker_is_seen(pairs):
    begun = time.monotonic()
    with Loader(of_pairs(pairs, workers=2), stages=[kill]) as loader, pytest.raises(RuntimeError, match="exited unexp"):
        list(loader)
    assert time.monotonic() - begun < 40


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_killed_while_it_hands_over_is_seen(error):
    def broken():
        yield 1
        raise error

    items = received(broken())
    assert next(items) == 1
    with pytest.raises(RuntimeError, match="exited unexp"):
        next(items)


def wait_in_vain(loader):
    with contextlib.suppress(OSError, RuntimeError):
        next(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_does_not_wait_for_a_server_that_stalls(pairs, workers):
    data, stalled = Path(pairs[0]).read_bytes(), threading.Event()

    def route(seen):
        begin, _, end = seen.headers["range"].removeprefix("bytes=").partition("-")
        part = data[int(begin) : int(end) + 1]
        headers = (("Content-Range", f"bytes {begin}-{int(begin) + len(part) - 1}/{len(data)}"),)
        if not opened.is_set():
            return Reply(part, headers=headers, status=206)
        stalled.set()
        return Reply(part, headers=headers, status=206, delay_s=60)

    opened = threading.Event()
    with WebServer() as server:
        server.routes = {"/a.tar": route}
        loader = Loader(of_pairs((server.url("/a.tar"),), workers=workers, timeout_s=20.0))
        state = loader.state_dict()
        opened.set()
        waiting = threading.Thread(target=wait_in_vain, args=(loader,))
        waiting.start()
        assert stalled.wait(30)
        begun = time.monotonic()
        loader.load_state_dict(state)
        assert time.monotonic() - begun < 12
        waiting.join(10)
        assert not waiting.is_alive()
        opened.clear()
        assert len(keys(next(loader))) == 8  # what was cut off can be read again
        loader.close()
        assert not [child for child in active_children() if child.is_alive()]


LEFT_BEHIND = """
import sys, time
from flamingo_model.config import data_config
from flamingo_model.data import Loader
import json
loader = Loader(data_config(json.loads(sys.argv[1]), "test"))
next(loader)
from multiprocessing import active_children
print(*(child.pid for child in active_children()), flush=True)
time.sleep(600)
"""


def test_no_process_outlives_a_killed_trainer(pairs):
    tree = {"datasets": {"p": {"kind": "pairs", "shards": list(pairs), "batch": 8}}, "image_px": 16, "workers": 2}
    trainer = subprocess.Popen([sys.executable, "-c", LEFT_BEHIND, json.dumps(tree)], stdout=subprocess.PIPE)
    left = [int(pid) for pid in trainer.stdout.readline().split()]
    trainer.kill()
    trainer.communicate()
    assert len(left) == 2
    until = time.monotonic() + 20
    while any(alive(pid) for pid in left):
        assert time.monotonic() < until, "workers go on without their trainer"
        time.sleep(0.1)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


# States and endings


def test_a_closed_loader_says_so(pairs):
    with Loader(of_pairs(pairs)) as loader:
        next(loader)
    with pytest.raises(DataError, match="the loader was closed"):
        next(loader)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_loader_goes_back_and_forth_beside_another(pairs, workers):
    config = of_pairs(pairs, workers=workers)
    with Loader(config) as one, Loader(config) as other:
        states, steps = [one.state_dict()], []
        for _ in range(4):
            steps.append(keys(next(one)))
            states.append(json.loads(json.dumps(one.state_dict())))
            assert keys(next(other)) == steps[-1]
        for at in (2, 0, 3):
            one.load_state_dict(states[at])
            assert keys(next(one)) == steps[at]


def test_a_state_of_other_batches_cannot_end_an_epoch_early(pairs):
    config = of_pairs(pairs, once=True)
    with Loader(config) as loader:
        next(loader)
        state = loader.state_dict()
    larger = replace(config, datasets={"p": replace(config.datasets["p"], batch=16)})
    with Loader(larger) as loader, pytest.raises(DataError, match="once 1, now 2"):
        loader.load_state_dict(state)
    with Loader(replace(config, once=False)) as loader, pytest.raises(DataError, match="once 1, now 0"):
        loader.load_state_dict(state)


def test_a_dataset_that_was_taken_out_leaves_the_state(tmp_path, pairs):
    other = {"kind": "pairs", "shards": write_shards(tmp_path / "other", "pairs", 9), "batch": 8}
    both = small({"p": {"kind": "pairs", "shards": pairs, "batch": 8}, "other": other})
    with Loader(both) as loader:
        next(loader)
        state = loader.state_dict()
    with Loader(replace(both, datasets={"p": both.datasets["p"]})) as loader:
        loader.load_state_dict(state)
        assert list(loader.state_dict()["lanes"]) == ["p"]
        next(loader)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout_s": 0}, "timeout_s is from"),
        ({"image_px": 100_000}, "image_px is from"),
        ({"jitter": 1.0}, "jitter is from"),
        ({"datasets": {"p": {"shards": ["a"], "layout": "wds"}}}, "layout is auto or interleaved or mmc4"),
        ({"datasets": {"p": {"shards": ["a"], "kind": "pairs", "layout": "m4"}}}, "layout is auto or pair where kind"),
        ({"datasets": {"p": {"shards": ["a"], "weight": 1e308}}}, "weight is from"),
        ({"datasets": {"p": {"shards": ["a"], "weight": 0}}}, "weight is from"),
        ({"datasets": {"p": {"shards": ["a"], "fps": 1e-310}}}, "fps is from"),
        ({"datasets": {"p": {"shards": []}}}, "shards names no shard"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(settings, told):
    with pytest.raises(ConfigError, match=told) as error:
        data_config({"datasets": {"p": {"shards": ["a"]}}, **settings}, "data.toml")
    assert str(error.value).startswith("data.toml: data")
    assert "\n" not in str(error.value)
