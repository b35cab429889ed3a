"""One machine: a supervisor hands units to worker processes, each of which runs the same Beam stage in memory.

A worker that dies, raises, stands still or outgrows its limit is replaced and its unit tried again. When the same
record does it twice, that record is set aside with the reason and the run goes on; a unit that fails without such
a record stops the build with one line, and the next start resumes from the done markers.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import psutil

from pipeline import stage as stages
from pipeline.folder import Folder, UserError
from pipeline.stage import Job, Stage, Unit, marker_name, skip_name

POLL_S = 0.1
START_S = 120.0
MAX_FAILURES = 6
TOLD = ("page", "image url", "video", "clip", "image", "picture score")
FATAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How the work is done on this machine; none of it changes a byte of the result."""

    workers: int = 0
    """Worker processes; 0 takes one for each processor."""
    worker_memory_bytes: int = 0
    """Resident memory above which a worker is replaced; 0 shares 80 % of the machine's memory, at most 2 GiB each."""
    stall_s: float = 300.0
    """Seconds without a new record after which a worker counts as hung."""
    beam_args: tuple[str, ...] = ()
    """Beam's own options for the runner inside each worker."""

    def resolved(self) -> LocalOptions:
        """Fill in what depends on the machine."""
        workers = self.workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()) or 1
        share = int(psutil.virtual_memory().total * 0.8 / workers)
        memory = self.worker_memory_bytes or min(2 << 30, share)
        return LocalOptions(workers, memory, self.stall_s, self.beam_args)


@dataclass(slots=True)
class Progress:
    """How far a stage is in this run: records that the workers began, and what its finished units counted.

    `counts` is by (stage, kind, reason), the reason empty for what was kept.
    """

    stage: str
    units_done: int
    units: int
    records: int = 0
    failures: int = 0
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def kept_and_dropped(self) -> tuple[int, int]:
        """Count what the stage kept and dropped of the first of `TOLD` that it counts."""
        kinds = {kind for stage, kind, _ in self.counts if stage == self.stage}
        kind = next((kind for kind in TOLD if kind in kinds), "")
        chosen = {reason: n for (stage, k, reason), n in self.counts.items() if (stage, k) == (self.stage, kind)}
        kept = chosen.pop("", 0)
        return kept, sum(chosen.values())


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process, the unit it has, and what is known of how it fares."""

    process: Any
    pipe: Any
    cells: Any
    """What the worker shares: records begun, the record it is at, and whether it is up."""
    unit: Unit | None = None
    beats: int = 0
    moved_at: float = 0.0
    counted: int = 0
    up: bool = False

    def position(self) -> int:
        """Tell which record the worker is at; -1 before the first."""
        return int(self.cells[1])


@dataclass(slots=True)
class Supervisor:
    """Keeps the worker processes of a run; use it as a context."""

    job: Job
    options: LocalOptions
    watch: Callable[[Progress], None]
    workers: list[Worker] = field(default_factory=list)
    failures: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def run(self, stage: Stage, units: Sequence[Unit], done: int) -> None:
        """Do all units of a stage that are not done yet; `done` others are."""
        progress = Progress(stage.name, done, done + len(units))
        waiting = deque(units)
        while waiting or any(worker.unit for worker in self.workers):
            self.hand_out(stage, waiting)
            busy = [worker for worker in self.workers if worker.unit]
            for ready in connection.wait([w.pipe for w in busy] + [w.process.sentinel for w in busy], POLL_S):
                worker = next(w for w in busy if ready in (w.pipe, w.process.sentinel))
                if worker.unit is not None:
                    self.hear(worker, stage, waiting, progress)
            for worker in [w for w in self.workers if w.unit is not None]:
                progress.records += self.check(worker, stage, waiting, progress)
            self.watch(progress)

    def hand_out(self, stage: Stage, waiting: deque[Unit]) -> None:
        """Give every idle worker a unit, starting workers as they are needed."""
        idle = [worker for worker in self.workers if worker.unit is None]
        while waiting and (idle or len(self.workers) < self.options.workers):
            worker = idle.pop() if idle else self.start()
            worker.unit = unit = waiting.popleft()
            worker.cells[1] = -1
            worker.moved_at = time.monotonic()
            try:
                worker.pipe.send((stage, unit))
            except OSError:
                waiting.appendleft(unit)
                self.stop(worker)

    def start(self) -> Worker:
        """Start a worker process; it dies with this one."""
        context = worker_context()
        here, there = context.Pipe()
        cells = context.RawArray("q", 3)
        process = context.Process(
            target=serve, args=(there, cells, self.job, self.options.beam_args), daemon=True, name="flamingo-worker"
        )
        process.start()
        there.close()
        worker = Worker(process, here, cells)
        self.workers.append(worker)
        return worker

    def hear(self, worker: Worker, stage: Stage, waiting: deque[Unit], progress: Progress) -> None:
        """Take a worker's answer, or its death."""
        try:
            kind, text = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            self.fail(worker, stage, waiting, progress, f"worker died ({describe_exit(worker.process.exitcode)})")
            return
        if kind == "done":
            progress.records += worker.cells[0] - worker.counted
            worker.counted = worker.cells[0]
            progress.units_done += 1
            assert worker.unit is not None
            marker = self.job.folder.read_json(marker_name(stage.name, worker.unit.name))
            progress.counts.update({(name, what, why): count for name, what, why, count in marker["counts"]})
            worker.unit = None
        elif kind == "fatal":
            raise UserError(text)
        else:
            self.fail(worker, stage, waiting, progress, text)

    def check(self, worker: Worker, stage: Stage, waiting: deque[Unit], progress: Progress) -> int:
        """Replace a worker that is stuck or too large; returns how many records it began since the last look."""
        now = time.monotonic()
        beats = int(worker.cells[0])
        up = bool(worker.cells[2])
        if beats != worker.beats or up != worker.up:
            worker.beats, worker.up, worker.moved_at = beats, up, now
        patience_s = self.options.stall_s if up else max(START_S, self.options.stall_s)
        try:
            memory = psutil.Process(worker.process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return 0
        if memory > self.options.worker_memory_bytes:
            limit = self.options.worker_memory_bytes >> 20
            self.fail(worker, stage, waiting, progress, f"worker outgrew {limit} MiB of memory")
        elif now - worker.moved_at > patience_s:
            self.fail(worker, stage, waiting, progress, f"worker stood still for {patience_s:g} s")
        new, worker.counted = beats - worker.counted, beats
        return new

    def fail(self, worker: Worker, stage: Stage, waiting: deque[Unit], progress: Progress, why: str) -> None:
        """Replace a worker, and decide what becomes of its unit."""
        unit, position = worker.unit, worker.position()
        assert unit is not None
        self.stop(worker)
        progress.failures += 1
        failures = self.failures.setdefault(unit.name, [])
        failures.append((position, why))
        at_same = [reason for place, reason in failures if place == position]
        if len(failures) >= MAX_FAILURES or (position < 0 and len(at_same) >= 3):
            where = f"work/errors/{stage.name}-{unit.name}.txt"
            what = getattr(unit.work, "file", f"unit {unit.name}")
            raise UserError(f"{stage.name}: {what} failed {len(failures)} times, last: {why} ({where})")
        if position >= 0 and len(at_same) >= 2:
            set_aside(self.job.folder, stage.name, unit.name, position, why)
        waiting.appendleft(unit)

    def stop(self, worker: Worker) -> None:
        """Kill a worker."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        worker.unit = None
        self.workers.remove(worker)

    def close(self) -> None:
        """Kill all workers; what they had not finished has not happened."""
        for worker in list(self.workers):
            self.stop(worker)


def worker_context() -> Any:
    """Give the way in which workers start: forked from a server that has imported Beam once, for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.warm"])
    return context


@contextmanager
def supervise(job: Job, options: LocalOptions, watch: Callable[[Progress], None]) -> Iterator[Supervisor]:
    """Keep a supervisor while a build lasts."""
    supervisor = Supervisor(job, options.resolved(), watch)
    try:
        yield supervisor
    finally:
        supervisor.close()


def set_aside(folder: Folder, stage: str, unit: str, position: int, why: str) -> None:
    """Note a record that the next try of its unit must reject instead of working on it."""
    name = skip_name(stage, unit)
    folder.write_json(name, {**(folder.read_json(name) or {}), str(position): why})


def describe_exit(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit status {code}"


def serve(pipe: Any, cells: Any, job: Job, beam_args: tuple[str, ...]) -> None:
    """Be a worker: do the units that come through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the supervisor too, which ends its workers
    threading.Thread(target=die_with_parent, daemon=True).start()

    class SharedPulse(stages.Pulse):
        """Writes the position where the supervisor can see it."""

        def beat(self, position: int) -> None:
            cells[1] = position
            cells[0] += 1

    stages.PULSE = SharedPulse()
    import pipeline.runner  # noqa: F401 - the clock of a unit starts when Beam is there

    cells[2] = 1
    while True:
        try:
            stage, unit = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(stage, job, unit, beam_args))


def attempt(stage: Stage, job: Job, unit: Unit, beam_args: tuple[str, ...]) -> tuple[str, str]:
    """Run a unit and say how it went: done, failed (try again) or fatal (nobody can).

    Whatever a record does to its worker is a reason to set that record aside, so everything is caught here.
    """
    from pipeline.runner import run_in_memory

    try:
        run_in_memory(stage, job, unit, beam_args)
    except Exception as error:
        cause = without_beam(error)
        text = next(iter(str(cause).splitlines()), "")
        if isinstance(cause, UserError):
            return "fatal", text
        if isinstance(cause, OSError) and cause.errno in FATAL_ERRNOS:
            return "fatal", f"{cause.filename or job.folder.root}: {cause.strerror}"
        job.folder.write_text(f"work/errors/{stage.name}-{unit.name}.txt", "".join(traceback.format_exception(cause)))
        return "failed", f"{type(cause).__name__}: {text}"
    return "done", ""


def without_beam(error: BaseException) -> BaseException:
    """Give what was raised, not the copies that Beam makes of it to name its steps."""
    while getattr(error, "_tagged_with_step", False) and error.__context__ is not None:
        error = error.__context__
    return error


def die_with_parent() -> None:
    """End this process as soon as the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
