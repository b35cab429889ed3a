"""A training step: ours beside open_flamingo and lucidrains' flamingo-pytorch, built to the same sizes.

    python bench/train.py                                    on the CPU, or on the GPU where there is one
    python bench/train.py --sizes default --only flamingo,open
    python bench/train.py --quick

All take the same steps: interleaved rows of 256 tokens with up to 5 images and twice as many pairs, made by our loader
of the demo corpus. A step is forward, backward, clipping and the optimiser; tokens are those that are no padding.
The peers get images ready-made; ours decodes nothing either, but normalises. The frozen parts are of equal size, the
parts that learn too, but that open_flamingo trains its whole embedding and masks its gradient.

On the CPU one thread works, and tokens are per second of CPU; bf16 is left out where the processor lacks it. Each row
takes turns with open_flamingo, and the best turns of both count, because CPU time depends on what else the machine
does. On a GPU tokens are per second of time, the MFU is of what the step needs, whoever takes it, and the last row
trains from the live loader.

Where they are not installed, the peers get an environment of their own on the first call, which sees torch where the
project has it (network, 0.1 GB). The corpus is built on the first call, and compiling takes minutes as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from train_batches import FOLDER, make_batches
from train_clock import count, read_batches

from flamingo_model.flops import measure_peak, peak_flops

ENVIRONMENT = Path(__file__).resolve().parents[1] / "build" / "peers" / "open_flamingo"
PINS = ("einops==0.8.2", "einops-exts==0.0.4", "ftfy==6.3.1", "regex==2026.11.15", "wcwidth==0.9.4")
BARE = (
    "torchvision==0.28.0", "timm==1.0.31", "open_clip_torch==3.3.0", "open_flamingo==2.0.1", "flamingo-pytorch==0.1.2",
)  # fmt: skip
"""Installed without what they ask for, which would bring other versions of torch and transformers."""
OURS, BASE = "flamingo", "open_flamingo"
WEIGHTS = {"interleaved": 1.0, "pairs": 0.2}
STEPS = {"cpu": 2, "cuda": 8}
TURNS = {"cpu": 3, "cuda": 3}


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of a model, and rows of a step on the CPU and on a GPU; open_flamingo's resampler is as wide as its ViT."""

    layers: int
    width: int
    heads: int
    vocab: int
    vision_layers: int
    vision_width: int
    vision_heads: int
    patch_px: int
    image_px: int
    rows: dict[str, int]
    resampler_layers: int = 6
    latents: int = 64
    images: int = 5
    preset: str = ""


SIZES = {
    "small": Size(4, 256, 4, 8192, 4, 192, 3, 16, 112, {"cpu": 6, "cuda": 32}),
    "default": Size(4, 512, 8, 32_768, 6, 384, 6, 16, 224, {"cpu": 3, "cuda": 32}),
    "3b": Size(24, 2048, 16, 50_304, 24, 1024, 16, 14, 224, {"cpu": 1, "cuda": 32}),
    # The paper's own model, with its NFNet: nobody else's can be built to it.
    "flamingo_3b": Size(24, 2048, 16, 50_304, 0, 0, 0, 0, 320, {"cpu": 1, "cuda": 32}, preset="flamingo_3b"),
}
SIZES_ON = {"cpu": ("small", "default"), "cuda": ("default", "3b", "flamingo_3b")}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to train: whose, and how. Ours may take the datasets apart, packed, with features, from the loader."""

    name: str
    dtype: str = "fp32"
    compiled: bool = False
    separate: bool = False
    packed: bool = False
    cached: bool = False
    live: bool = False

    @property
    def told(self) -> str:
        """Say how, in a few words."""
        parts = [self.dtype, "compiled" if self.compiled else "eager"]
        if self.name == OURS:
            parts.append("separate" if self.separate else "packed" if self.packed else "merged")
            parts += [told for told, on in (("cached features", self.cached), ("live loader", self.live)) if on]
        return ", ".join(parts)


CPU_WAYS = (
    Way(BASE), Way(BASE, compiled=True), Way(BASE, "bf16"), Way("lucidrains"),
    Way(OURS, separate=True), Way(OURS), Way(OURS, packed=True), Way(OURS, compiled=True),
    Way(OURS, compiled=True, cached=True), Way(OURS, "bf16"),
)  # fmt: skip
CUDA_WAYS = (
    Way(BASE), Way(BASE, "bf16"), Way(BASE, "bf16", compiled=True), Way("lucidrains", "bf16"),
    Way(OURS, "bf16", separate=True), Way(OURS, "bf16"), Way(OURS, "bf16", compiled=True),
    Way(OURS, "bf16", compiled=True, packed=True), Way(OURS, "bf16", compiled=True, cached=True),
    Way(OURS, "bf16", compiled=True, live=True),
)  # fmt: skip
WAYS = {"cpu": CPU_WAYS, "cuda": CUDA_WAYS}


@dataclass(frozen=True, slots=True)
class Row:
    """What a way to train took; `base_s` is what open_flamingo took beside it, the same clock for both."""

    size: str
    way: Way
    seconds: float
    base_s: float
    wall_s: float
    tokens: int
    images: int
    memory_mib: float
    facts: dict[str, Any]
    losses: list[float]
    parts_ms: dict[str, float] = field(default_factory=dict)
    wait: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of the clock that counts."""
        return self.tokens / self.seconds


def main() -> None:
    """Read the arguments, measure everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=found)
    parser.add_argument("--sizes", nargs="+", choices=SIZES)
    parser.add_argument("--only", default="", help="only rows that name one of these, as flamingo,bf16")
    parser.add_argument("--rows", type=int, default=0, help="interleaved rows of a step")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true", help="the small size, one step, eager and in fp32 alone")
    parser.add_argument("--json", help="write the rows to a file, too")
    given = parser.parse_args()
    sizes = given.sizes or (("small",) if given.quick else SIZES_ON[given.device])
    load = os.getloadavg()[0]
    rows: list[Row] = []
    for row in (row for size in sizes for row in rows_of(size, given)):
        rows.append(row)
        print(f"  {row.tokens_per_s:,.0f} tokens/s, {ratio(row, rows, given.device)}", file=sys.stderr, flush=True)
        if given.json:
            # A run takes long: what it has measured is there also when it is stopped.
            Path(given.json).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    print_table(rows, given.device, load)


# --- running the trainers --------------------------------------------------------------------------------------------


def rows_of(name: str, given: argparse.Namespace) -> Iterator[Row]:
    """Measure ours and the peers at a size."""
    size, device = SIZES[name], given.device
    rows, steps = given.rows or size.rows[device], 1 if given.quick else STEPS[device]
    settings = {"size": {key: value for key, value in asdict(size).items() if key != "rows"}, "rows": rows}
    path = make_batches(size.image_px, rows, steps)
    settings |= {"batches": str(path), "steps": steps, "device": device, "weights": WEIGHTS}
    settings |= {"threads": 1 if device == "cpu" else 8}
    counts = count(read_batches(str(path)))
    for way in ways(name, given):
        yield measure(name, way, settings, counts, alone=device == "cuda" or bool(size.preset) or given.no_peers)


def ways(size: str, given: argparse.Namespace) -> list[Way]:
    """Choose the ways to train that are to be measured."""
    peers = not given.no_peers and not SIZES[size].preset
    chosen = [way for way in WAYS[given.device] if way.name == OURS or peers]
    if given.device == "cpu" and not bf16_pays():
        print("no bf16: this processor multiplies it slower than fp32", file=sys.stderr)
        chosen = [way for way in chosen if way.dtype != "bf16"]
    if given.quick:
        chosen = [way for way in chosen if way.dtype == "fp32" and not way.compiled]
    words = [word for word in given.only.split(",") if word]
    return [way for way in chosen if not words or any(word in f"{way.name} {way.told}" for word in words)]


def bf16_pays() -> bool:
    """Tell whether the processor has instructions for bf16, without which a step takes ten times as long."""
    cpu = torch.device("cpu")
    return measure_peak(cpu, torch.bfloat16) > measure_peak(cpu, torch.float32)


def measure(size: str, way: Way, settings: dict[str, Any], counts: dict[str, int], alone: bool) -> Row:
    """Take turns with the base, or go alone where nothing else is at work."""
    clock = "cpu_s" if settings["device"] == "cpu" else "wall_s"
    best: list[dict[str, float]] = [{}, {}]
    with running(way, settings) as mine:
        with running(Way(BASE), settings) if not alone and way != Way(BASE) else running(None, settings) as base:
            for _ in range(TURNS[settings["device"]]):
                for place, trainer in enumerate((mine, base)):
                    took = trainer.ask("time") if trainer else {}
                    if took and (not best[place] or took[clock] < best[place][clock]):
                        best[place] = took
            parts = split(mine.ask("parts"))
        ended = mine.end()
    took = best[0]
    return Row(
        size, way, took[clock], best[1].get(clock, 0.0), took["wall_s"], counts["tokens"], counts["images"],
        ended["memory_mib"], mine.facts, ended["losses"], parts, took["wait_s"] / took["wall_s"],
    )  # fmt: skip


def split(took_ms: dict[str, float]) -> dict[str, float]:
    """Tell the parts of a step apart: what is measured are a step, its passes, and what happens in them."""
    parts = {name: took_ms[name] for name in ("vision", "resampler", "optimiser") if name in took_ms}
    if "resampler" in parts:
        parts["lm forward"] = took_ms["forward"] - parts.get("vision", 0.0) - parts["resampler"]
    parts["backward"] = took_ms["passes"] - took_ms["forward"]
    parts["rest"] = took_ms["step"] - took_ms["passes"] - took_ms["optimiser"]
    return parts


class Trainer:
    """A trainer in a process of its own, which answers lines."""

    def __init__(self, command: list[str], process: subprocess.Popen) -> None:
        self.command, self.process = command, process
        self.facts = self.answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for what it is answered with."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> dict[str, Any]:
        """Send no more lines."""
        self.process.stdin.close()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Read the next answer."""
        for line in self.process.stdout:
            # What a package prints itself comes between.
            if line.startswith("@"):
                return json.loads(line[1:])
        sys.exit(f"{' '.join(self.command[-3:])[:200]} failed")


@contextmanager
def running(way: Way | None, settings: dict[str, Any]) -> Iterator[Trainer | None]:
    """Start a trainer and wait until it has taken its first steps; nothing of it is left behind."""
    if way is None:
        yield None
        return
    print(f"{way.name}: {way.told} ...", file=sys.stderr, flush=True)
    script = Path(__file__).with_name("our_trainer.py" if way.name == OURS else "peer_trainers.py")
    python = sys.executable if way.name == OURS else str(peer_python())
    command = [python, "-W", "ignore", str(script), way.name, json.dumps({**settings, **asdict(way)})]
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(FOLDER / "inductor"), "OMP_NUM_THREADS": str(settings["threads"])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | cache, **pipes) as process:
        try:
            yield Trainer(command, process)
        finally:
            process.kill()


def peer_python() -> Path:
    """Give an interpreter that has the peers: this one, or that of an environment made anew when its pins change."""
    if all(find_spec(name) for name in ("open_flamingo", "flamingo_pytorch", "open_clip", "einops_exts", "ftfy")):
        return Path(sys.executable)
    python, noted = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    wanted = "\n".join((*PINS, *BARE)) + "\n"
    if not noted.exists() or noted.read_text("utf-8") != wanted:
        print(f"installing the peers into {ENVIRONMENT} ...", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        own = sysconfig.get_path("purelib", vars={"base": str(ENVIRONMENT), "platbase": str(ENVIRONMENT)})
        # What is not in the environment itself is the project's: torch, transformers, numpy, Pillow.
        Path(own, "project.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, *PINS, *BARE], check=True)
        noted.write_text(wanted, "utf-8")
    return python


# --- output ----------------------------------------------------------------------------------------------------------

PARTS = ("vision", "resampler", "lm forward", "backward", "optimiser", "rest")


def print_table(rows: list[Row], device: str, load: float) -> None:
    """Print a line a row, and the parts of its step."""
    table = Table(box=None, pad_edge=False)
    for head in ("", "of", ""):
        table.add_column(head, no_wrap=True)
    heads = ["tokens/s" if device == "cuda" else "tokens/\nCPU s", "times\nopen_f.", "memory\nMiB"]
    heads += ["learn\nM", "all\nM"]
    heads += ["MFU", "loader\nwait"] if device == "cuda" else []
    for head in (*heads, *(f"{part}\nms" for part in PARTS)):
        table.add_column(head, justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        table.add_row(*cells(row, rows, device), end_section=place + 1 == len(rows) or rows[place + 1].size != row.size)
    console = Console(width=max(160, Console().width), highlight=False)
    console.print(table)
    console.print(f"open_flamingo: eager, {'bf16' if device == 'cuda' else 'fp32'}; parts by a run of their own")
    console.print(f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after the run, on {os.cpu_count()} cores")


def cells(row: Row, rows: list[Row], device: str) -> list[str]:
    facts = row.facts
    told = [row.way.name, row.size, row.way.told, f"{row.tokens_per_s:,.0f}", ratio(row, rows, device)]
    told += [f"{row.memory_mib:,.0f}", f"{facts['trainable'] / 1e6:,.1f}", f"{facts['total'] / 1e6:,.1f}"]
    if device == "cuda":
        told += [f"{mfu(row, rows):.1%}", f"{row.wait:.1%}" if row.way.live else "-"]
    return told + [f"{row.parts_ms[part]:,.0f}" if part in row.parts_ms else "-" for part in PARTS]


def mfu(row: Row, rows: list[Row]) -> float:
    """Give the share of the GPU's peak that a row's step uses of what the same step needs in our trainer."""
    same = [other for other in rows if other.size == row.size and other.way.name == OURS]
    needed = [other.facts["flops"] for other in same if other.way.live == row.way.live]
    return needed[0] / row.wall_s / peak_flops(torch.device("cuda"), torch.bfloat16) if needed else 0.0


def ratio(row: Row, rows: list[Row], device: str) -> str:
    """Say how many times the tokens of open_flamingo a row takes in a second."""
    if device == "cpu":
        return f"{row.base_s / row.seconds:.2f}x" if row.base_s else "1" if row.way == Way(BASE) else "-"
    base = [other for other in rows if other.size == row.size and other.way == Way(BASE, "bf16")]
    return f"{base[0].seconds / row.seconds:.2f}x" if base else "-"


if __name__ == "__main__":
    main()
