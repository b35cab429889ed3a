"""What curation costs beside extraction: CPU a page of every rule, of a whole build of real pages.

    python bench/curation.py --corpus FOLDER        the archives of a folder
    python bench/curation.py                        those of the demo's site, drawn on the first call

Stages run as in a build, in this process, one unit after the other: finding duplicates are whole stages with their
files. Rules that are part of a stage with other work are timed where they are called. All rules of the preset m3w are
on, with an evaluation set of 5,000 pictures beside which every picture is held. Extraction is its stage: reading the
archive, extracting, writing the documents. The best of some builds counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline import assemble, media
from pipeline.build import BUILD, DEDUPLICATE, BuildConfig, run_steps
from pipeline.evaluation import EVALUATION_SCHEMA
from pipeline.folder import Folder
from pipeline.perceptual import HASH_BYTES
from pipeline.stage import Job, gather, run_unit
from schemas.config import from_tree

DRAWN = Path(__file__).resolve().parents[1] / "build" / "curation"
PAGES = 300
SET_PICTURES = 5000
EXTRACTION = "extraction"
RULES: dict[str, tuple[Any, str]] = {
    "pages: language": (assemble, "judge_language"),
    "pages: quality and repetition of texts": (assemble, "judge_texts"),
    "paragraphs: repeated within a host": (assemble, "find_repeated"),
    "pictures: size, shape, address": (assemble, "judge_media"),
    "pictures: perceptual hash": (media, "hash_picture"),
    "pictures: evaluation sets": (assemble, "find_copy"),
    "pictures: templates, twice in a page": (assemble, "drop_repeats"),
}
"""Functions that are timed where they are called, by module."""
STAGES = {
    **dict.fromkeys(("address", "same_address"), "duplicates: address"),
    **dict.fromkeys(("sign", "link", "cluster", *(f"star_{turn}" for turn in range(1, 13))), "duplicates: texts"),
    **dict.fromkeys(("repeat", "same_repeat"), "duplicates: paragraphs, sets of pictures"),
    "refer": "duplicates: left out before the fetch",
    "template": "pictures: templates, twice in a page",
}
"""Stages that are curation alone."""
assert {step.stage.name for step in DEDUPLICATE} <= STAGES.keys()


def main() -> None:
    """Read the arguments, build, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder with .warc.gz files")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    archives = sorted(map(str, given.corpus.glob("*.warc.gz"))) if given.corpus else [str(draw_site())]
    if not archives:
        sys.exit(f"{given.corpus}: no .warc.gz file")
    load = os.getloadavg()[0]
    rounds = [build(archives) for _ in range(given.rounds)]
    pages, pictures = rounds[0][1:]
    names = dict.fromkeys([EXTRACTION, *STAGES.values(), *RULES])
    print_table({name: min(took[name] for took, _, _ in rounds) for name in names}, pages, pictures)
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after; {os.cpu_count()} cores, {given.rounds} builds")


def draw_site() -> Path:
    """Draw the demo's site, once."""
    archive = DRAWN / f"site-{PAGES}-0.warc.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pipeline.cli", "demo", "--only-site", "--pages", str(PAGES)]
        subprocess.run([*command, "--out", str(DRAWN)], check=True, stdout=subprocess.DEVNULL)
    return archive


def build(archives: list[str]) -> tuple[Counter[str], int, int]:
    """Build a dataset; gives CPU seconds by rule, documents and stored pictures."""
    took: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        path = Path(folder, "set.parquet")
        write_set(path)
        tree = {"source": {"paths": archives}, "filters": {"evaluation": {"sets": [str(path)]}}}
        job = Job(Folder(str(Path(folder, "dataset"))), from_tree(BuildConfig, tree, "bench"))

        def execute(stage: Any, units: Any, done: int) -> None:
            begun = time.process_time()
            for unit in units:
                run_unit(stage, job, unit, gather(stage, job.folder, unit))
            name = EXTRACTION if stage.name == "extract" else STAGES.get(stage.name, "")
            took[name] += time.process_time() - begun

        plain = {name: getattr(*place) for name, place in RULES.items()}
        for name, (module, function) in RULES.items():
            setattr(module, function, timed(plain[name], name, took))
        try:
            totals = run_steps(job, BUILD, execute)
        finally:
            for name, (module, function) in RULES.items():
                setattr(module, function, plain[name])
    return took, totals.rows["documents"], totals.counts["normalise", "image url", ""]


def timed(function: Callable[..., Any], name: str, took: Counter[str]) -> Callable[..., Any]:
    """Make a function whose CPU time is added up."""

    def call(*given: Any, **named: Any) -> Any:
        begun = time.process_time()
        try:
            return function(*given, **named)
        finally:
            took[name] += time.process_time() - begun

    return call


def write_set(path: Path) -> None:
    """Write the index of an evaluation set of pictures that resemble none."""
    dice = random.Random(0)
    rows = [
        {"name": str(number), "sha256": hashlib.sha256(b"%d" % number).hexdigest(), "look": dice.randbytes(HASH_BYTES)}
        for number in range(SET_PICTURES)
    ]
    pq.write_table(pa.Table.from_pylist([row | {"thumbnail": b""} for row in rows], EVALUATION_SCHEMA), path)


def print_table(took: dict[str, float], pages: int, pictures: int) -> None:
    """Print a line a rule, in milliseconds a page and as a share of extraction."""
    table = Table("", "ms a page", "of extraction", title=f"{pages:,} pages, {pictures:,} pictures")
    rows = took | {"all of curation": sum(took.values()) - took[EXTRACTION]}
    for name, seconds in rows.items():
        table.add_row(name, f"{1000 * seconds / pages:.3f}", f"{seconds / took[EXTRACTION]:.0%}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
