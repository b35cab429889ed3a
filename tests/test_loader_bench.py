"""What the loader's benchmark counts: CPU of all processes, ratios, the quality of an order, the peers' columns."""

import random
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("simplejpeg")

import psutil
from loader import Row, ratio_to_base
from loader_clock import cpu_s_of_tree, in_child, measure
from loader_rows import BATCH, SHARD_SAMPLES, SHARDS, by_lanes, by_webdataset, quality
from peer_loaders import from_columns, from_members, to_columns

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
BURN = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\nsys.stdin.read()"


def test_the_clock_counts_a_process_that_runs_and_one_that_has_ended():
    before = cpu_s_of_tree()
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        running = cpu_s_of_tree() - before
        process.stdin.close()
    ended = cpu_s_of_tree() - before
    assert running >= 0.29
    assert ended >= running - 0.01


def test_measuring_leaves_out_what_came_before():
    def batches():
        started = time.process_time()
        while time.process_time() < started + 0.3:
            pass
        while True:
            yield [7] * 8

    found = measure(batches(), lambda batch: (len(batch), 2 * len(batch)), warm=8, samples=20, rounds=2)
    assert found["pictures"] == 2
    assert found["cpu_ms"] * 24 < 100


@forks
def test_a_loader_in_a_child_gives_its_result_and_leaves_no_process():
    def work():
        return {"pid": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid}

    pid = in_child(work)["pid"]
    # Killed, though whoever inherited it may not have waited for it yet.
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@forks
def test_a_loader_that_fails_ends_the_benchmark(capfd):
    with pytest.raises(SystemExit, match="failed"):
        in_child(lambda: {"cpu_ms": 1 / 0})
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_ratios_are_in_units_of_the_floor_beside_each_row():
    base = Row("pairs", "webdataset", "decoded", 0, 1.0, cpu_ms=3.0, pictures=1.0, floor_ms=1.0)
    # Measured while everything took twice as long.
    ours = Row("pairs", "flamingo", "decoded", 0, 1.0, cpu_ms=2.4, pictures=1.0, floor_ms=2.0)
    other = Row("pairs", "flamingo", "decoded", 2, 1.0, cpu_ms=2.4, pictures=1.0, floor_ms=2.0)
    assert ours.floors == pytest.approx(1.2)
    assert ratio_to_base(ours, [base, ours]) == "2.50x"
    assert ratio_to_base(other, [base, ours]) == "-"


def test_quality_of_an_order_in_a_row_and_of_one_by_chance():
    everything = list(range(SHARDS * SHARD_SAMPLES))
    shards_a_batch, same, wrong = quality(everything)
    assert (1 <= shards_a_batch < 1.3, same > 0.998, wrong) == (True, True, 0)
    random.Random(1).shuffle(everything)
    shards_a_batch, same, wrong = quality(everything)
    assert shards_a_batch == pytest.approx(SHARDS * (1 - (1 - 1 / SHARDS) ** BATCH), abs=1)
    assert same == pytest.approx(1 / SHARDS, abs=0.001)
    assert wrong == 0
    everything[5] = everything[6]
    assert quality(everything)[2] == 2


def test_both_orders_read_every_sample_once_and_ours_mixes_better():
    ours, theirs = quality(by_lanes(1024)), quality(by_webdataset(1000))
    assert ours[2] == theirs[2] == 0
    assert ours[0] > 3 * theirs[0]


@pytest.mark.parametrize(
    ("kind", "members", "text", "images"),
    [
        ("pairs", {"jpg": b"j", "txt": b"A bridge."}, "A bridge.", [b"j"]),
        ("videos", {f"{n:03d}.jpg": bytes(n) for n in range(8)} | {"txt": b"c"}, "c", [bytes(n) for n in range(8)]),
        (
            "interleaved",
            {
                "json": b'{"texts": ["one", null, null], "images": [null, "m000.jpg", "m001.jpg"]}',
                "m001.jpg": b"second",
                "m000.jpg": b"first",
            },
            ["one", 0, 1],
            [b"first", b"second"],
        ),
    ],
)
def test_peers_get_the_same_samples_from_their_own_columns(kind, members, text, images):
    assert from_members(kind, members) == (text, images)
    assert from_columns(to_columns(kind, text, images)) == (text, images)
