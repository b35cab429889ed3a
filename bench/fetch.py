"""Fetching pictures from a server on loopback: ours beside img2dataset and beside decoding alone, in one run.

    python bench/fetch.py
    python bench/fetch.py --images 2000 --latency-ms 0 200 --tls --workers 2

Every picture is fetched, shrunk to 256 px on its shorter side, and stored as JPEG of the same quality. Ours is the
command as it is: robots.txt and tdmrep.json of each host, at most 4 requests at once and 10 a second to a host,
checks, hashes, WARC and ledger. img2dataset keeps no such rules; its threads suit the latency. CPU is that of the
command and all the processes that it starts. "net" is without the start: what a run takes more than one of 1/20 of
the pictures, for each picture more. The server's own CPU is in no figure but the last column. The floors are measured
after each run of ours and averaged, because CPU time depends on what else the machine does.

img2dataset gets a virtual environment of its own on the first run (network; Python 3.11 or 3.12).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi
import psutil
import pyarrow.parquet as pq
from photographs import make_pack
from picture_server import host_names, make_certificate
from rich.console import Console
from rich.table import Table

from pipeline.warc import format_record
from schemas.media import STORED

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "build" / "peers" / "img2dataset"
PINS = (
    "img2dataset==1.47.0", "albumentations==1.4.24", "numpy==2.4.6", "opencv-python-headless==4.14.0.94",
    "pandas==2.3.3", "pyarrow==26.0.1", "simplejpeg==1.9.0", "wandb==0.31.0", "webdataset==0.2.111",
)  # fmt: skip
SIDE_PX = 256
QUALITY = 92
PART = 20
PAGE_PICTURES = 40
FLOOR = "floor: Pillow"
THREADS = {False: 16, True: 128}
"""Of img2dataset, a process: without latency fewer are cheaper, with latency they are what is in flight."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took; `images` are those that it stored."""

    seconds: float
    cpu_s: float
    images: int
    server_cpu_s: float = 0.0

    def __sub__(self, part: Run) -> Run:
        """Take the start away: what this run took more than a part of it did."""
        return Run(self.seconds - part.seconds, self.cpu_s - part.cpu_s, self.images - part.images)

    def __add__(self, other: Run) -> Run:
        """Take two runs as one."""
        return Run(self.seconds + other.seconds, self.cpu_s + other.cpu_s, self.images + other.images)

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image."""
        return 1000 * self.cpu_s / max(self.images, 1)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    name: str
    latency_ms: float | None
    whole: Run
    net: Run


def main() -> None:
    """Read the arguments, measure everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.0, 200.0])
    parser.add_argument("--errors", type=float, default=0.0, help="share of pictures that are errors")
    parser.add_argument("--slow", type=float, default=0.0, help="share of pictures that come slowly")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true", help="without img2dataset and simplejpeg")
    parser.add_argument("--set", action="append", default=[], help="a setting of ours, such as fetch.delay_s=0")
    given = parser.parse_args()
    peer = None if given.no_peer else peer_python()
    pack, load = make_pack(given.images), os.getloadavg()[0]
    rows: list[Row] = []
    floors = {"pillow": Run(0, 0, 0), "simplejpeg": Run(0, 0, 0)}
    with tempfile.TemporaryDirectory(prefix="flamingo-bench-") as temporary:
        folder = Path(temporary)
        for latency_ms in given.latency_ms:
            with running_server(given, latency_ms) as (server, urls):
                whole = ours(urls, folder / f"all-{latency_ms}", given, server)
                part = ours(urls[: len(urls) // PART], folder / f"part-{latency_ms}", given, server)
                rows.append(Row("flamingo fetch", latency_ms, whole, whole - part))
                for name, python in (("pillow", Path(sys.executable)), ("simplejpeg", peer)):
                    if python:
                        floors[name] += floor(python, name, pack, given.workers)
                if peer:
                    whole = theirs(peer, urls, folder / f"peer-{latency_ms}", given, server, latency_ms > 0)
                    short = urls[: len(urls) // PART]
                    part = theirs(peer, short, folder / f"peer-part-{latency_ms}", given, server, latency_ms > 0)
                    rows.append(Row("img2dataset", latency_ms, whole, whole - part))
    for name, title in (("pillow", FLOOR), ("simplejpeg", "floor: simplejpeg, OpenCV")):
        if floors[name].images:
            rows.append(Row(title, None, floors[name], floors[name]))
    print_table(rows, given, load)


# --- server ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_server(given: argparse.Namespace, latency_ms: float) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Run the server; gives its process and the URL of every picture, spread over the hosts."""
    script = Path(__file__).with_name("picture_server.py")
    options = {"images": given.images, "hosts": given.hosts, "errors": given.errors, "slow": given.slow}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    words += ["--latency-ms", str(latency_ms), *["--tls"] * given.tls]
    process = subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        if not port:
            sys.exit("the server did not start")
        scheme, hosts = "https" if given.tls else "http", host_names(given.hosts)
        urls = [f"{scheme}://{hosts[n % len(hosts)]}:{port}/{n}.jpg" for n in range(given.images)]
        yield psutil.Process(process.pid), urls
    finally:
        process.terminate()
        process.wait()


def timed(command: Sequence[str], server: psutil.Process, log: Path, **environment: str) -> Run:
    """Run a command; returns its seconds and the CPU of all its processes, images not yet counted."""
    before = sum(server.cpu_times()[:2])
    usage, script = log.with_suffix(".json"), Path(__file__).with_name("cpu_of.py")
    with log.open("wb") as out:
        words = [sys.executable, str(script), str(usage), *command]
        done = subprocess.run(words, stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{log.read_text('utf-8', 'replace')[-4000:]}")
    took = json.loads(usage.read_text("utf-8"))
    return Run(took["seconds"], took["cpu_s"], 0, sum(server.cpu_times()[:2]) - before)


def trust(given: argparse.Namespace) -> dict[str, str]:
    """Name the certificates to trust: those of the public web, whose loading costs time, and the server's."""
    if not given.tls:
        return {}
    own = make_certificate(host_names(given.hosts))
    bundle = own.with_name("trusted.pem")
    bundle.write_bytes(Path(certifi.where()).read_bytes() + own.with_suffix(".crt").read_bytes())
    return {"SSL_CERT_FILE": str(bundle)}


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(urls: Sequence[str], folder: Path, given: argparse.Namespace, server: psutil.Process) -> Run:
    """Fetch with the command; the pages that refer to the pictures are extracted before the clock starts."""
    folder.mkdir()
    write_pages(urls, folder / "pages.warc.gz")
    settings = {
        "fetch.allow_private": "true",
        "media.short_side_px": str(SIDE_PX),
        "media.jpeg_quality": str(QUALITY),
        **dict(setting.split("=", 1) for setting in given.set),
    }
    common = ["--source", "pages.warc.gz", "--out", "dataset", "--workers", str(given.workers)]
    common += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    flamingo = [sys.executable, "-m", "pipeline.cli"]
    timed([*flamingo, "extract", *common], server, folder / "extract.log")
    run = timed(
        [*flamingo, "fetch", *common, "--contact", "bench@example.org"], server, folder / "fetch.log", **trust(given)
    )
    media = [pq.read_table(path, columns=["status"]) for path in (folder / "dataset" / "media").rglob("*.parquet")]
    stored = sum(status == STORED for table in media for status in table["status"].to_pylist())
    check_stored(stored, len(urls), given, "ours", folder / "fetch.log")
    return Run(run.seconds, run.cpu_s, stored, run.server_cpu_s)


def write_pages(urls: Sequence[str], path: Path) -> None:
    """Write articles that refer to the pictures, each with a sentence of its own."""
    with path.open("wb") as out:
        for at in range(0, len(urls), PAGE_PICTURES):
            parts = [
                f"<p>Of place {n} it is told that its walls are old, its gardens wide, and its market well known.</p>"
                f'<figure><img src="{url}" alt="Place {n}"><figcaption>Place {n} by day.</figcaption></figure>'
                for n, url in enumerate(urls[at : at + PAGE_PICTURES], start=at)
            ]
            html = f"<!doctype html><title>Places</title><article><h1>Places from {at}</h1>{''.join(parts)}</article>"
            block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}".encode()
            url, kind = f"https://example.org/places/{at}", "application/http; msgtype=response"
            out.write(gzip.compress(format_record(url, "response", kind, "2026-01-01T00:00:00Z", block), mtime=0))


def check_stored(stored: int, asked: int, given: argparse.Namespace, name: str, log: Path) -> None:
    """Stop where a figure would stand for fewer pictures than were asked for."""
    if stored > asked or stored < asked * (1 - given.errors) * 0.98:
        sys.exit(f"{name} stored {stored} of {asked} pictures\n{log.read_text('utf-8', 'replace')[-4000:]}")


# --- the peer and the floor ------------------------------------------------------------------------------------------


def peer_python() -> Path:
    """Find the interpreter of the peers' environment, which is made anew when the pins change."""
    python, noted = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    if not noted.exists() or noted.read_text("utf-8").split() != list(PINS):
        print(f"installing img2dataset into {ENVIRONMENT} ...", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS]
        subprocess.run(command, check=True)
        noted.write_text("\n".join(PINS) + "\n", "utf-8")
    return python


def theirs(
    python: Path, urls: Sequence[str], folder: Path, given: argparse.Namespace, server: psutil.Process, waits: bool
) -> Run:
    """Fetch with img2dataset into webdataset shards, without logging to the net."""
    folder.mkdir()
    (folder / "urls.txt").write_text("\n".join(urls) + "\n", "utf-8")
    settings = {
        "url_list": "urls.txt",
        "input_format": "txt",
        "output_folder": "out",
        "output_format": "webdataset",
        "image_size": SIDE_PX,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "encode_quality": QUALITY,
        "processes_count": given.workers,
        "thread_count": THREADS[waits],
        "number_sample_per_shard": max(len(urls) // (2 * given.workers), 1),
        "extract_exif": False,
        "enable_wandb": False,
    }
    code = f"import img2dataset\nif __name__ == '__main__':\n    img2dataset.download(**{settings!r})\n"
    (folder / "run.py").write_text(code, "utf-8")
    log = folder / "run.log"
    run = timed([str(python), "run.py"], server, log, NO_ALBUMENTATIONS_UPDATE="1", **trust(given))
    counts = [json.loads(path.read_text("utf-8"))["successes"] for path in (folder / "out").glob("*_stats.json")]
    check_stored(sum(counts), len(urls), given, "img2dataset", log)
    return Run(run.seconds, run.cpu_s, sum(counts), run.server_cpu_s)


def floor(python: Path, name: str, pack: Path, workers: int) -> Run:
    """Decode, shrink and encode the pictures of the pack, nothing else."""
    script = Path(__file__).with_name("decoders.py")
    words = [str(python), str(script), name, str(pack), str(SIDE_PX), str(QUALITY), str(workers)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return Run(found["seconds"], found["cpu_s"], found["images"])


# --- output ----------------------------------------------------------------------------------------------------------


def print_table(rows: list[Row], given: argparse.Namespace, load: float) -> None:
    """Print a line a row; ratios compare net CPU an image."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for head in ("latency\nms", "stored\nimages", "images/s\nin all", "net", "CPU ms\nin all", "net"):
        table.add_column(head, justify="right", no_wrap=True)
    for head in ("of the\npeer", "of the\nfloor", "server\nCPU ms"):
        table.add_column(head, justify="right", no_wrap=True)
    base = next(row for row in rows if row.name == FLOOR).net.cpu_ms
    for row in rows:
        peer = [other for other in rows if other.name == "img2dataset" and other.latency_ms == row.latency_ms]
        table.add_row(
            row.name,
            "-" if row.latency_ms is None else f"{row.latency_ms:.0f}",
            str(row.whole.images),
            f"{row.whole.images / row.whole.seconds:.0f}",
            f"{row.net.images / row.net.seconds:.0f}",
            f"{row.whole.cpu_ms:.2f}",
            f"{row.net.cpu_ms:.2f}",
            f"{peer[0].net.cpu_ms / row.net.cpu_ms:.2f}x" if peer else "-",
            f"{100 * base / row.net.cpu_ms:.0f} %",
            f"{1000 * row.whole.server_cpu_s / row.whole.images:.2f}" if row.latency_ms is not None else "-",
        )
    console = Console(width=max(110, Console().width), highlight=False)
    console.print(table)
    console.print(
        f"{given.images} pictures, {given.hosts} hosts, {'https' if given.tls else 'http'}, {given.workers} workers; "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after the run, on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
