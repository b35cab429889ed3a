"""The clock of trainers: a step comes in, what it took of time, CPU and memory goes out as JSON, on command.

Imports nothing of the project: it runs in the environment of the peers too. A trainer is a process of its own that
says when it is ready, then answers each line of its standard input. So several can take turns on a machine whose
speed changes with what else it does, and be compared by their best turns.

B rows, L tokens, M media, F frames, S pixels a side.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pixels."""
MIB = 1 << 20
Rows = dict[str, Tensor]
"""The tensors of a batch, by the names of their fields."""
Step = Callable[[int], Tensor]
"""Takes the step of the number given and returns its loss."""


def read_batches(path: str) -> list[dict[str, Rows]]:
    """Read the batches of steps, by dataset, that train_batches.py wrote."""
    steps: dict[int, dict[str, Rows]] = {}
    for name, tensor in load_file(path).items():
        step, dataset, field = name.split("/")
        steps.setdefault(int(step), {}).setdefault(dataset, {})[field] = tensor
    return [steps[number] for number in sorted(steps)]


def count(steps: Sequence[dict[str, Rows]]) -> dict[str, int]:
    """Count what the steps hold of all: tokens that are no padding, frames, and tokens that are predicted."""
    batches = [rows for step in steps for rows in step.values()]
    return {
        "tokens": sum(int((rows["segment"] > 0).sum()) for rows in batches),
        "images": sum(len(rows["frames"]) for rows in batches),
        "targets": sum(int(rows["loss"].sum()) for rows in batches),
    }


def parameters(model: nn.Module) -> dict[str, int]:
    """Count the parameters of a model, those of an embedding that is shared once."""
    return {
        "trainable": sum(one.numel() for one in model.parameters() if one.requires_grad),
        "total": sum(one.numel() for one in model.parameters()),
    }


# --- time by part ----------------------------------------------------------------------------------------------------


class Stopwatch:
    """Milliseconds of the stretches of a step, by name: the device's on a GPU, CPU time elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.cuda, self.marks = device.type == "cuda", []
        self.running, self.waited_s = False, 0.0

    def now(self) -> Any:
        """Mark this moment."""
        if not self.cuda:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Take the time of what is done here."""
        if not self.running:
            yield
            return
        begun = self.now()
        yield
        self.marks.append((name, begun, self.now()))

    def watch(self, module: nn.Module, name: str) -> None:
        """Take the time of a module's forward pass."""
        begun: list[Any] = []
        module.register_forward_pre_hook(lambda *_: begun.append(self.now()) if self.running else None)

        def end(*_: Any) -> None:
            if self.running:
                self.marks.append((name, begun.pop(), self.now()))

        module.register_forward_hook(end)

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Make a function whose time is taken."""

        def called(*given: Any, **named: Any) -> Any:
            with self.measure(name):
                return call(*given, **named)

        return called

    def milliseconds(self, steps: int) -> dict[str, float]:
        """Give the mean of a step by name, and forget it."""
        if self.cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for name, begun, ended in self.marks:
            lasted = begun.elapsed_time(ended) if self.cuda else 1000 * (ended - begun)
            found[name] = found.get(name, 0.0) + lasted / steps
        self.marks.clear()
        return found


# --- memory ----------------------------------------------------------------------------------------------------------


def resident_bytes(field: str) -> int:
    """Read `VmRSS`, what this process holds, or `VmHWM`, the most it held (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


class Memory:
    """The most memory that training holds beyond what the process held before the model was made."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.before = 0 if self.cuda else resident_bytes("VmRSS")

    def forget_peak(self) -> None:
        """Begin anew: what compiling took is not counted."""
        gc.collect()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Give the peak since it was forgotten, less what was there before."""
        most = torch.cuda.max_memory_allocated() if self.cuda else resident_bytes("VmHWM") - self.before
        return most / MIB


# --- answering -------------------------------------------------------------------------------------------------------


def serve(step: Step, steps: int, watch: Stopwatch, memory: Memory, facts: dict[str, Any]) -> None:
    """Warm up, say that it is ready, then for each line `time` or `parts` take all steps once and say what they took.

    An answer to `parts` has the stretches that the trainer measures; they are not taken while time is. The end of the
    input is answered with the peak of memory and the losses of the first steps and the last.
    """
    first = [float(step(number)) for number in range(steps)]
    synchronize(watch)
    watch.waited_s = 0.0
    memory.forget_peak()
    say(facts)
    last = first
    for line in sys.stdin:
        watch.running = line.strip() == "parts"
        cpu_s, seconds = time.process_time(), time.perf_counter()
        losses = [step(number) for number in range(steps)]
        synchronize(watch)
        found = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - seconds}
        found["wait_s"], watch.waited_s = watch.waited_s, 0.0
        last = [float(loss) for loss in losses]
        say(watch.milliseconds(steps) if watch.running else found)
    say({"memory_mib": memory.peak_mib(), "losses": [sum(some) / steps for some in (first, last)]})


def synchronize(watch: Stopwatch) -> None:
    if watch.cuda:
        torch.cuda.synchronize()


def say(facts: dict[str, Any]) -> None:
    print("@" + json.dumps(facts), flush=True)
