"""The supervisor: whatever happens to a worker, the units get done, or one line says why not."""

import errno
import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.folder import Folder, UserError
from pipeline.local import LocalOptions, supervise
from pipeline.stage import SET_ASIDE, Job, Stage, Unit, run_unit
from pipeline.tables import KeyRange, Table, key_ranges, read_range
from schemas.page import REJECTED_SCHEMA, Rejected

NUMBERS = Table("work/numbers", pa.schema([("key", pa.string()), ("value", pa.int64())]))
RECORDS = 5


def misbehave(unit, inputs, output):
    """Write a few rows; at record 2 of unit 1 do what the job's configuration says, once or always."""
    how, always, folder = output.job.config
    mark = Path(folder, "was-there")
    for record in range(RECORDS):
        why = output.begin(record)
        if why is not None:
            output.reject(Rejected("misbehave", SET_ASIDE, "page", str(record), detail=why))
            continue
        if unit.work.index == 1 and record == 2 and (always or not mark.exists()):
            mark.touch()
            HOW[how]()
        output.write(NUMBERS, {"key": unit.work.lo, "value": record})
        output.keep("misbehave", "page")


def outgrow():
    """Take much memory and stay."""
    hoard = bytearray(900 << 20)
    for index in range(0, len(hoard), 4096):
        hoard[index] = 1
    time.sleep(60)


def fill_disk():
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


HOW = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(3),
    "memory": outgrow,
    "raise": lambda: 1 // 0,
    "disk": fill_disk,
}

STAGE = Stage("misbehave", (), (NUMBERS,), misbehave)


def units():
    return [Unit("misbehave", f"unit{work.index}", work) for work in key_ranges(4)]


def run(tmp_path, how, *, always=False, workers=2):
    """Run the misbehaving stage; returns what came out and how often a worker was replaced."""
    job = Job(Folder(str(tmp_path / "dataset")), (how, always, str(tmp_path)))
    seen = []
    options = LocalOptions(workers, worker_memory_bytes=700 << 20, stall_s=3.0)
    with supervise(job, options, lambda progress: seen.append(progress.failures)) as supervisor:
        supervisor.run(STAGE, units(), 0)
        processes = [worker.process for worker in supervisor.workers]
    assert not any(process.is_alive() for process in processes)
    rows = read_range(job.folder, NUMBERS, KeyRange("", "")).to_pylist()
    return [(row["key"][0], row["value"]) for row in rows], seen[-1], job


ALL = [(first, record) for first in "048c" for record in range(RECORDS)]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "exit", "memory", "raise"])
def test_a_worker_that_fails_once_is_replaced_and_nothing_is_lost(tmp_path, how):
    rows, failures, _ = run(tmp_path, how)
    assert rows == ALL
    assert failures == 1


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("SIGKILL", "worker died (signal 9)"),
        ("exit", "worker died (exit status 3)"),
        ("raise", "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_a_record_that_always_fails_is_set_aside_with_the_reason(tmp_path, how, why):
    rows, failures, job = run(tmp_path, how, always=True)
    assert rows == [row for row in ALL if row != ("4", 2)]
    assert failures == 2
    marker = job.folder.read_json("work/done/misbehave/unit1.json")
    assert ["misbehave", "page", SET_ASIDE, 1] in marker["counts"]
    (part,) = marker["tables"]["rejected"]["parts"]
    rejected = read_range(job.folder, Table("rejected", REJECTED_SCHEMA), KeyRange("", "")).to_pylist()
    assert part.startswith("misbehave-unit1")
    assert [(row["url"], row["detail"]) for row in rejected] == [("2", why)]


def test_a_full_disk_stops_the_run_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^somewhere: No space left on device$"):
        run(tmp_path, "disk")


def test_a_unit_that_fails_before_any_record_stops_the_run(tmp_path):
    job = Job(Folder(str(tmp_path / "dataset")), None)
    with (
        supervise(job, LocalOptions(1), lambda progress: None) as supervisor,
        pytest.raises(UserError, match=r"misbehave: unit unit0 failed 3 times, last: TypeError"),
    ):
        supervisor.run(STAGE, units(), 0)


def test_a_unit_is_done_once(tmp_path):
    job = Job(Folder(str(tmp_path)), ("none", False, str(tmp_path)))
    unit = units()[0]
    assert run_unit(STAGE, job, unit, {}) == {("misbehave", "page", ""): RECORDS}
    assert run_unit(STAGE, job, unit, {}) == {}
    rows = read_range(job.folder, NUMBERS, KeyRange("", ""))
    assert rows.num_rows == RECORDS
