"""The clock of the loaders: batches come in, what a sample took of CPU and time goes out, without the start.

Imports nothing of the project: it runs in the environments of the peers too. The CPU is that of this process and of
all that it started. It is read between batches, so that neither the start nor the end of the workers is in it; what
they hold ready is as much when the clock starts as when it stops.
"""

from __future__ import annotations

import os
import resource
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import psutil

Count = Callable[[Any], tuple[int, int]]
"""Says the samples and pictures of a batch."""
Found = dict[str, float]
"""`samples_per_s`, `cpu_ms` of a sample, `pictures` of a sample: of the round that took the least CPU."""


def cpu_s_of_tree() -> float:
    """Give the CPU seconds of this process, of its living descendants and of those that it has waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            # The clock of another process has the number ~pid, shifted: nanoseconds, all threads, ended ones too.
            found += time.clock_gettime((~child.pid << 3) | 2)
        except OSError:
            continue
    return found


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from loader


def measure(batches: Iterator[Any], count: Count, warm: int, samples: int, rounds: int) -> Found:
    """Take so many samples to warm up, and then so many a round."""
    take(batches, count, warm)
    best: Found = {}
    for _ in range(rounds):
        cpu_s, seconds = cpu_s_of_tree(), time.perf_counter()
        taken, pictures = take(batches, count, samples)
        seconds, cpu_s = time.perf_counter() - seconds, cpu_s_of_tree() - cpu_s
        if not best or 1000 * cpu_s / taken < best["cpu_ms"]:
            best = {"samples_per_s": taken / seconds, "cpu_ms": 1000 * cpu_s / taken, "pictures": pictures / taken}
    return best


def take(batches: Iterator[Any], count: Count, samples: int) -> tuple[int, int]:
    taken = pictures = 0
    while taken < samples:
        of_batch = count(next(batches))
        taken, pictures = taken + of_batch[0], pictures + of_batch[1]
    return taken, pictures


def in_child(work: Callable[[], Found]) -> Found:
    """Do the work in a fork: what is imported here need not be imported again, and nothing of it is left behind."""
    context = get_context("fork")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=work_and_end, args=(work, far))
    process.start()
    far.close()
    try:
        return near.recv()
    except EOFError:
        raise SystemExit("the loader failed") from None
    finally:
        process.join()


def work_and_end(work: Callable[[], Found], far: Connection) -> None:
    """Send what the work found, and end at once: some loaders' workers outlive them, or wait for each other."""
    status = 1
    try:
        far.send(work())
        status = 0
    except Exception:
        traceback.print_exc()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(status)
