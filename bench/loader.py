"""Loading shards for training: ours beside plain webdataset, mosaicml-streaming, litdata and megatron-energon.

    python bench/loader.py
    python bench/loader.py --kinds pairs large --workers 0 --peers webdataset litdata
    python bench/loader.py --quick

All load the same pictures, from page cache: webdataset, energon and ours from the same tars, the others from their own
formats. Every row is one loader in steady state: the CPU of the main process and all of its workers between two
batches, so without the start. The floor is the decoding of the same pictures to 224x224 px, alone, in one thread
(libjpeg-turbo, scaled, and torch's bicubic kernel for uint8). It is measured before and after every row, and ratios
compare rows in units of it, because CPU time depends on what else the machine does. `webdataset` decodes with Pillow,
as most do; `webdataset-fast` and the other peers with the floor's functions. Ours makes tokens too, the peers do not.

Peers get virtual environments of their own on the first call, which see torch where the project has it (network, 0.5
GB; Python 3.11 or 3.12). The shards are drawn on the first call (two minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from shards_made import make_dataset

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "peers"
PINS = {
    "mosaicml": (
        "boto3==1.44.5", "catalogue==2.0.10", "google-cloud-storage==3.17.1", "matplotlib==3.11.2", "paramiko==5.1.0",
        "python-snappy==0.7.3", "transformers==4.57.6", "zstd==1.5.7.2",
    ),
    "litdata": ("boto3==1.44.5", "lightning-utilities==0.15.3", "obstore==0.12.1", "tifffile==2026.3.3"),
    "energon": ("megatron-energon==7.4.1",),
}  # fmt: skip
BARE = {"mosaicml": ("mosaicml-streaming==0.13.0",), "litdata": ("litdata==0.2.76",), "energon": ()}
"""Installed without what they ask for: torchvision, which would bring another torch."""
OURS, BASE = "flamingo", "webdataset"
PEERS = (BASE, "webdataset-fast", *PINS)
DATA = {"pairs": 4000, "large": 600, "interleaved": 600, "videos": 400}
BATCH = {"pairs": 32, "large": 32, "interleaved": 8, "videos": 4}
DECODED = {"pairs": 480, "large": 192, "interleaved": 96, "videos": 60}
ROUNDS = 2
"""Samples of a round of decoding; one of reading takes as many as there are. The best of so many rounds counts."""
LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Row:
    """A loader in a mode; `floor_ms` is of a picture, measured beside it, and `pictures` those of a sample."""

    kind: str
    name: str
    mode: str
    workers: int
    samples_per_s: float
    cpu_ms: float
    pictures: float
    floor_ms: float

    @property
    def floors(self) -> float:
        """CPU of a sample in units of the floor of its pictures."""
        return self.cpu_ms / (self.floor_ms * self.pictures)


def main() -> None:
    """Read the arguments, measure everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=DATA["pairs"], help="pairs in the shards, at least 400")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=DATA, default=["pairs", "interleaved", "videos"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--quick", action="store_true", help="half of the samples, once")
    parser.add_argument("--json", help="write the rows to a file, too")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rows = [row for kind in given.kinds for row in rows_of(kind, given)]
    print_table(rows, load)
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")


# --- running the loaders ---------------------------------------------------------------------------------------------


def rows_of(kind: str, given: argparse.Namespace) -> list[Row]:
    """Measure ours and the peers over samples of a kind."""
    folder = make_dataset(kind, given.pairs if kind == "pairs" else DATA[kind])
    decoded, read = DECODED[kind] // (1 + given.quick), given.pairs if kind == "pairs" else DATA[kind]
    settings = {
        "batch": BATCH[kind],
        # After an epoch of reading, buffers are full and every shard has been opened.
        "warm": {"raw": read, "rows": read, "decoded": decoded // 4},
        "samples": {"raw": read, "rows": read, "decoded": decoded},
        "rounds": 1 if given.quick else ROUNDS,
    }
    scripts = Path(__file__).parent
    ours = [sys.executable, str(scripts / "our_loader.py"), kind, str(folder)]
    rows = []
    for modes, workers in ((["raw"], given.workers), (["rows"], [0]), (["decoded"], given.workers)):
        rows += run(OURS, kind, ours, settings | {"modes": modes, "workers": workers})
    settings["workers"], theirs = given.workers, ["raw", "decoded"]
    for name in given.peers:
        words = [str(peer_python(name)), "-W", "ignore", str(scripts / "peer_loaders.py")]
        words += ["run", name, kind, str(folder), str(converted(name, kind, folder))]
        modes = [mode for mode in theirs if name != "webdataset-fast" or mode == "decoded"]
        rows += run(name, kind, words, settings | {"modes": modes})
    return rows


def run(name: str, kind: str, words: Sequence[str], settings: dict[str, object]) -> list[Row]:
    """Run a loader in a process of its own; nothing that it starts is left when it ends or fails."""
    print(f"{kind}: {name} ...", file=sys.stderr, flush=True)
    command = [*words, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            out, _ = process.communicate(timeout=LIMIT_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        sys.exit(f"{name} failed over {kind}")
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"mode"')]
    return [Row(kind, name, **line) for line in lines]


def converted(name: str, kind: str, folder: Path) -> Path:
    """Give the folder that a peer reads: that of the shards, or one in its own format, made on the first call."""
    if name not in PINS:
        return folder
    target = folder.with_name(f"{name}-{folder.name}")
    if not (stamp := target / "converted").exists():
        shutil.rmtree(target, ignore_errors=True)
        script = Path(__file__).with_name("peer_loaders.py")
        words = [str(peer_python(name)), "-W", "ignore", str(script), "convert", name, kind, str(folder), str(target)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S)
        stamp.touch()
    return target


def peer_python(name: str) -> Path:
    """Give the interpreter of a peer, whose environment is made anew when its pins change."""
    if name not in PINS:
        return Path(sys.executable)
    environment = ENVIRONMENTS / name
    python, noted = environment / "bin" / "python", environment / "pins.txt"
    wanted = "\n".join((*PINS[name], *BARE[name])) + "\n"
    if not noted.exists() or noted.read_text("utf-8") != wanted:
        print(f"installing {name} into {environment} ...", file=sys.stderr, flush=True)
        venv.create(environment, clear=True, with_pip=True)
        own = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
        # What is not in the environment itself is the project's: torch, numpy, Pillow, simplejpeg, webdataset.
        Path(own, "project.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", str(pinned_torch(environment)), *PINS[name]], check=True)
        if BARE[name]:
            subprocess.run([*install, "--no-deps", *BARE[name]], check=True)
        noted.write_text(wanted, "utf-8")
    return python


def pinned_torch(environment: Path) -> Path:
    """Write the constraint that keeps pip from installing another torch."""
    import torch

    path = environment / "torch.txt"
    path.write_text(f"torch=={torch.__version__.partition('+')[0]}\n", "utf-8")
    return path


# --- output ----------------------------------------------------------------------------------------------------------


def print_table(rows: list[Row], load: float) -> None:
    """Print a line a row; ratios are of CPU a sample, in units of the floor."""
    table = Table(box=None, pad_edge=False)
    for head in ("", "of", ""):
        table.add_column(head, no_wrap=True)
    for head in ("workers", "samples/s", "CPU ms\na sample", "webdataset\ntakes", "share of\nthe floor"):
        table.add_column(head, justify="right", no_wrap=True)
    floor_ms = {kind: statistics.median(row.floor_ms for row in rows if row.kind == kind) for kind in kinds_of(rows)}
    for place, row in enumerate(rows):
        table.add_row(
            row.name,
            row.kind,
            row.mode,
            str(row.workers),
            f"{row.samples_per_s:,.0f}",
            f"{row.cpu_ms:.3f}",
            ratio_to_base(row, rows),
            f"{100 / row.floors:.0f} %" if row.mode == "decoded" else "-",
            end_section=place + 1 == len(rows) or rows[place + 1].kind != row.kind,
        )
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(table)
    for kind, cost_ms in floor_ms.items():
        pictures = max(row.pictures for row in rows if row.kind == kind)
        console.print(f"floor of {kind}: {cost_ms:.3f} ms a picture, {pictures:.2f} pictures a sample")
    cores = os.cpu_count()
    console.print(f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after the run, on {cores} cores")


def kinds_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.kind for row in rows))


def ratio_to_base(row: Row, rows: list[Row]) -> str:
    """Say how many times the CPU of this row plain webdataset takes for the same work."""
    bases = [
        base.floors
        for base in rows
        if (base.name, base.kind, base.mode, base.workers) == (BASE, row.kind, row.mode, row.workers)
    ]
    return f"{bases[0] / row.floors:.2f}x" if bases else "-"


if __name__ == "__main__":
    main()
