"""Pages/s, images/s, peak memory of all processes, and where the time of a build goes, for 1 and 2 workers.

    python bench/build.py books --corpus ../shared/corpus
    python bench/build.py demo --pages 10000
    python bench/build.py repeat --corpus ../shared/corpus --gigabytes 2 --workers 2

`repeat` packs the corpus again and again under new URLs until the archive is as large as asked for: memory must not
grow with it. Everything is written under a temporary folder that is removed at the end.
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
import time
from pathlib import Path
from threading import Event, Thread

import psutil
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.build import BUILD
from pipeline.demo import site, write_warc
from pipeline.warc import format_record

STAGES = [step.stage.name for step in BUILD]


def main() -> None:
    """Read the arguments, make the input, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", choices=["books", "demo", "repeat"])
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the fastest counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flamingo-bench-") as folder:
        source = make_input(given, Path(folder))
        print(f"{given.input}: {source.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}", flush=True)
        runs = {}
        for workers in given.workers:
            tries = [measure(source, Path(folder, f"out-{workers}-{n}"), workers) for n in range(given.rounds)]
            runs[workers] = min(tries, key=lambda run: run["seconds"])
            print_run(workers, runs[workers])
        if {1, 2} <= set(runs):
            whole = runs[1]["seconds"] / runs[2]["seconds"]
            work = runs[1]["work"] / runs[2]["work"]
            print(f"2 workers / 1 worker: {whole:.2f}x in all, {work:.2f}x without the start of the processes")


def make_input(given: argparse.Namespace, folder: Path) -> Path:
    """Give the archive to build from."""
    if given.input == "books":
        return Path(given.corpus, "books.warc.gz")
    path = folder / "input.warc.gz"
    if given.input == "demo":
        started = time.monotonic()
        write_warc(site(given.pages, 0), str(path))
        print(f"drew {given.pages} pages in {time.monotonic() - started:.0f} s", flush=True)
    else:
        repeat(sorted(given.corpus.glob("*.warc.gz")), path, int(given.gigabytes * 1e9))
    return path


def repeat(archives: list[Path], path: Path, wanted_bytes: int) -> None:
    """Pack the responses of the archives again and again, each round under hosts of its own."""
    records = []
    for archive in archives:
        with archive.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False):
                records.append((record.headers["WARC-Target-URI"], record.reader.read()))
    with path.open("wb") as out:
        number = 0
        while out.tell() < wanted_bytes:
            for url, block in records:
                scheme, _, rest = url.partition("://")
                changed = f"{scheme}://r{number}.{rest}" if rest else f"http://r{number}.example/{url}"
                kind = "application/http; msgtype=response"
                data = format_record(changed, "response", kind, "2026-01-01T00:00:00Z", block)
                out.write(gzip.compress(data, compresslevel=1, mtime=0))
            number += 1


def measure(source: Path, out: Path, workers: int) -> dict:
    """Run the command once; returns its seconds, peak memory and what it made."""
    command = [sys.executable, "-m", "pipeline.cli", "build", "--source", str(source), "--out", str(out)]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--workers", str(workers)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    done, peaks = Event(), {}
    watcher = Thread(target=watch_memory, args=(process.pid, out, done, peaks))
    watcher.start()
    _, err = process.communicate()
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(err)
    manifest = json.loads(Path(out, "interleaved/manifest.json").read_text())
    stages = json.loads(Path(out, "work/seconds.json").read_text())
    rows = {(row["stage"], row["kind"]): row for row in manifest["funnel"]}
    return {
        "seconds": seconds,
        "work": sum(stages.values()),
        "stages": stages,
        "peaks": peaks,
        "pages": rows["extract", "page"]["seen"],
        "images": rows["normalise", "image url"]["seen"] if ("normalise", "image url") in rows else 0,
        "samples": sum(shard["samples"] for shard in manifest["shards"]),
    }


def watch_memory(pid: int, out: Path, done: Event, peaks: dict[str, int]) -> None:
    """Keep the highest sum of the resident memory of a process and all its children, by stage of the build."""
    while not done.wait(0.05):
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        total = 0
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        begun = [path.name for path in (out / "work/done").glob("*")]
        stage = max(begun, key=STAGES.index, default="extract")
        peaks[stage] = max(peaks.get(stage, 0), total)


def print_run(workers: int, run: dict) -> None:
    """Print the figures of one run."""
    peak = max(run["peaks"].values()) / 1e6
    print(
        f"{workers} worker(s): {run['seconds']:.1f} s, {run['pages'] / run['seconds']:.0f} pages/s, "
        f"{run['images'] / run['seconds']:.0f} images/s, {run['samples']} samples, peak {peak:.0f} MB"
    )
    other = run["seconds"] - run["work"]
    shares = {**run["stages"], "start and end": other}
    print("   time: " + ", ".join(f"{stage} {100 * part / run['seconds']:.0f} %" for stage, part in shares.items()))
    print("   peak: " + ", ".join(f"{stage} {size / 1e6:.0f} MB" for stage, size in run["peaks"].items()), flush=True)


if __name__ == "__main__":
    main()
