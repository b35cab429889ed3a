"""What the tests of fetching share: pages and pictures to serve, the real command, and what a dataset says afterwards.

WebServer(routes) and a list of URLs → `build` → `ledger`, `rejected`, `shards`
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from any_text import ANY_PAGES
from PIL import Image
from web_server import Reply

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.folder import Folder
from pipeline.local import LocalOptions
from pipeline.run import run
from pipeline.stage import Job, Stage, Unit, gather, run_unit
from pipeline.tables import ASKED, REJECTED, KeyRange, stream_range
from pipeline.web import newest
from schemas.asked import IMAGE, PAGE
from schemas.config import with_overrides

EVERYTHING = KeyRange("", "")
QUICK = {
    "fetch.allow_private": "true",
    "fetch.delay_s": "0",
    "fetch.backoff_s": "0.05",
    "fetch.tries": "2",
    "filters.images.min_side_px": "10",
    **dict(assignment.split("=", 1) for assignment in ANY_PAGES),
}
WORDS = "".join(f"<p>The quick brown fox number {n} and the lazy dog went over the river again.</p>" for n in range(12))


@cache
def jpeg(seed: int = 0) -> bytes:
    """Draw a small picture, another for each seed."""
    small = Image.frombytes("RGB", (16, 12), random.Random(seed).randbytes(16 * 12 * 3))
    out = io.BytesIO()
    small.resize((160, 120)).save(out, "JPEG")
    return out.getvalue()


def picture(seed: int = 0, **more) -> Reply:
    """Answer with a picture."""
    return Reply(jpeg(seed), "image/jpeg", **more)


def page(title: str, images: list[str] = ()) -> Reply:
    """Answer with a page that shows images."""
    figures = "".join(f"<p>Other words.</p><figure><img src='{url}' width=160 height=120></figure>" for url in images)
    head = f"<html lang=en><head><title>{title}</title></head>"
    return Reply(f"{head}<body><article><h1>{title}</h1>{WORDS}{figures}</article></body></html>".encode())


def command(name: str, out: Path, *sources: Path, **settings: str) -> list[str]:
    """Write a command; settings have `__` for their dot and come on top of `QUICK`."""
    merged = QUICK | {name.replace("__", "."): value for name, value in settings.items()}
    sets = [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]
    given = [word for source in sources for word in ("--source", str(source))]
    start = [sys.executable, "-m", "pipeline.cli", name, "--out", str(out), "--workers", "2"]
    return [*start, *given, *sets]


def build(out: Path, *sources: Path, **settings: str) -> str:
    """Build a dataset from lists of URLs with two workers; gives what the terminal shows."""
    words = [*command("build", out, *sources, **settings), "--contact", "crawl@example.org"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_watched(out: Path, source: Path, **settings: str) -> int:
    """Build a dataset with two workers; gives how many of them were lost."""
    failures = [0]
    run(
        str(out),
        config_of(source, settings),
        BUILD,
        LocalOptions(workers=2),
        lambda progress: failures.append(progress.failures),
    )
    return max(failures)


def config_of(source: Path, settings: Mapping[str, str]) -> BuildConfig:
    """Put a configuration together; settings have `__` for their dot and come on top of `QUICK`."""
    merged = QUICK | {name.replace("__", "."): value for name, value in settings.items()}
    own = [f"source.paths={json.dumps([str(source)])}", "fetch.contact='crawl@example.org'"]
    return with_overrides(BuildConfig(), [*own, *(f"{name}={value}" for name, value in merged.items())])


def build_here(out: Path, source: Path, *, ask: bool = True, **settings: str) -> None:
    """Build a dataset in this process, a unit after the other."""
    job = Job(Folder(str(out)), config_of(source, settings))

    def execute(stage: Stage, units: Sequence[Unit], done: int) -> None:
        for unit in units:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute, ask=ask)


def list_of(folder: Path, urls: list[str]) -> Path:
    """Write a list of URLs."""
    path = folder / "urls.txt"
    path.write_text("\n".join(urls) + "\n")
    return path


def ledger(out: Path) -> dict:
    """Give the last word on every URL that was asked, by kind and URL."""
    rows = defaultdict(list)
    for row in stream_range(Folder(str(out)), ASKED, EVERYTHING):
        rows[row["url"]].append(row)
    said = {(kind, url): newest(found, kind) for url, found in rows.items() for kind in (PAGE, IMAGE)}
    return {key: asked for key, asked in said.items() if asked is not None}


def ledger_rows(out: Path) -> list[dict]:
    """Give every row of the ledger."""
    return list(stream_range(Folder(str(out)), ASKED, EVERYTHING))


def rejected(out: Path) -> list[tuple[str, str, str]]:
    """Give the kind, URL and reason of what was dropped before the rules of the corpus: once each."""
    rows = stream_range(Folder(str(out)), REJECTED, EVERYTHING)
    stages = ("list", "settle", "locate", "normalise")
    return sorted((row["kind"], row["url"], row["reason"]) for row in rows if row["stage"] in stages)


def shards(out: Path) -> dict[str, object]:
    """Give what the shards hold, by member: all but when and where in the log of the web a page was written down."""
    held: dict[str, object] = {}
    for path in sorted(out.glob("interleaved/*.tar")):
        with tarfile.open(path) as shard:
            for member in shard:
                data = shard.extractfile(member).read()
                held[f"{path.name}/{member.name}"] = hashlib.sha256(data).hexdigest()
                if member.name.endswith(".json"):
                    told = json.loads(data)
                    held[f"{path.name}/{member.name}"] = {k: told[k] for k in told.keys() - {"fetched", "origin"}}
    assert held
    return held


def image_of(kind: str) -> str:
    """Say what rejections call a kind of the ledger."""
    return "page" if kind == PAGE else "image url"
