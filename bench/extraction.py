"""Extraction beside trafilatura, readability and resiliparse: text, pictures, captions and speed, in one run.

    python bench/extraction.py --corpus ../shared/corpus
    python bench/extraction.py --fast                         ours alone, one timed round
    python bench/extraction.py --fast --parser beautifulsoup

What is scored and how is in scoring.py; "unseen sites" are the same pages, each judged by weights that
fit_extraction.py learns without the pages of its site. Speed is pages per CPU-second of one process, after a page to
warm up, decoding and parsing included, the best of three rounds. The peers that are no dependency of the project get
a virtual environment of their own in .peers/ on the first run (network); one that cannot run leaves its row empty.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fit_extraction
from peers import PEERS, cpu_seconds
from rich.console import Console
from rich.table import Table
from scoring import (
    ARTICLES,
    DEV,
    FILES,
    Extracted,
    LabelledPage,
    Picture,
    Scores,
    read_articles,
    read_dev,
    score_extracted,
    simplify,
)
from selectolax.lexbor import LexborHTMLParser

from pipeline import dom
from pipeline.extract import ExtractConfig, extract_document

ROUNDS = 3
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".peers" / "extraction"
PINS = (
    "babel==2.18.0", "certifi==2026.10.18", "chardet==5.2.0", "charset-normalizer==3.5.2", "courlan==1.4.0",
    "cssselect==1.3.0", "dateparser==1.5.0", "htmldate==1.11.0", "jusText==3.0.2", "lxml==6.1.3",
    "lxml_html_clean==0.4.6", "python-dateutil==4.0.0", "pytz==2026.6", "readability-lxml==0.9", "regex==2026.11.15",
    "tld==0.13.2", "trafilatura==2.3.1", "tzdata==2026.6", "tzlocal==5.4.5", "urllib3==2.8.0",
)  # fmt: skip
"""Both peers and all they need, installed as named."""
IN_THE_PROJECT = ("resiliparse",)

Sets = dict[str, list[LabelledPage]]


@dataclass(frozen=True, slots=True)
class Row:
    """What is printed of one extractor; None where it has no such thing.

    `speeds` are pages per CPU-second, `failed` the pages on which it raised.
    """

    name: str
    scores: Scores | None = None
    speeds: dict[str, float] | None = None
    has_pictures: bool = False
    failed: int = 0

    def figures(self) -> dict[str, float | None]:
        """Name every figure of the row, in the order of the columns."""
        scored = (self.scores or Scores()).figures()
        found: dict[str, float | None] = {}
        for name, value in scored.items():
            about_pictures = "pictures" in name or name == "captions"
            found[name] = value if self.scores and (self.has_pictures or not about_pictures) else None
        return found | {f"{dataset} pages/s": (self.speeds or {}).get(dataset) for dataset in (DEV, ARTICLES)}


def main() -> None:
    """Read the arguments, run every extractor, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--parser", default="", help="extract.parser of our row; the default one if not given")
    parser.add_argument("--fast", action="store_true", help="ours alone, one timed round")
    parser.add_argument("--json", action="store_true", help="print JSON with the counts instead of a table")
    given = parser.parse_args()
    if missing := [name for name in FILES if not (given.corpus / name).exists()]:
        sys.exit(f"{given.corpus}: no {', '.join(missing)}; give the folder of the corpus with --corpus")
    load = os.getloadavg()[0]
    sets = {DEV: read_dev(given.corpus), ARTICLES: read_articles(given.corpus)}
    rounds = 1 if given.fast else ROUNDS
    rows = [measure_ours(sets, given.parser, rounds)]
    if not given.fast:
        every = [fit_extraction.prepare(page) for pages in sets.values() for page in pages]
        rows.append(Row("ours, unseen sites", fit_extraction.score_unseen(every), has_pictures=True))
        rows += [*measure_peers(sets, rounds), measure_floor(sets, rounds)]
    print_json(rows, load) if given.json else print_table(rows, load)


def measure_ours(sets: Sets, parser: str, rounds: int) -> Row:
    """Score and time our extractor."""
    settings: dict[str, Any] = {"parser": parser} if parser else {}
    try:
        config = ExtractConfig(**settings)
    except (TypeError, ValueError) as error:
        sys.exit(str(error))
    scores, speeds = Scores(), {}
    for name, pages in sets.items():
        documents, seconds = cpu_seconds(
            lambda page: extract_document(page, config), [labelled.page for labelled in pages], rounds
        )
        scores += score_extracted(pages, map(simplify, documents))
        speeds[name] = len(pages) / seconds
    return Row(f"ours ({parser})" if parser else "ours", scores, speeds, has_pictures=True)


def measure_floor(sets: Sets, rounds: int) -> Row:
    """Time the parser alone, on pages that are in UTF-8 already."""
    speeds = {}
    for name, pages in sets.items():
        written = [dom.to_utf8(labelled.page.html, labelled.page.charset) for labelled in pages]
        _, seconds = cpu_seconds(parse_only, written, rounds)
        speeds[name] = len(pages) / seconds
    return Row("lexbor alone", speeds=speeds)


def parse_only(markup: bytes) -> None:
    """Parse a page and forget it."""
    LexborHTMLParser(markup)


# --- peers -----------------------------------------------------------------------------------------------------------


def measure_peers(sets: Sets, rounds: int) -> list[Row]:
    """Run each peer in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="flamingo-bench-") as folder:
        pages = Path(folder, "pages.json")
        pages.write_text(
            json.dumps(
                {
                    name: [(one.page.url, one.page.html.decode("latin-1")) for one in labelled]
                    for name, labelled in sets.items()
                }
            ),
            "utf-8",
        )
        for name in PEERS:
            try:
                rows.append(measure_peer(name, sets, rounds, pages))
            except (subprocess.CalledProcessError, OSError) as error:
                lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                print(f"{name}: did not run ({lines[-1] if lines else error})", file=sys.stderr)
                rows.append(Row(name))
    return rows


def measure_peer(name: str, sets: Sets, rounds: int, pages: Path) -> Row:
    """Score and time one peer."""
    python = Path(sys.executable) if name in IN_THE_PROJECT else peer_python()
    result = pages.with_name("result.json")
    script = Path(__file__).with_name("peers.py")
    run_quietly([str(python), str(script), name, str(rounds), str(pages), str(result)])
    found = json.loads(result.read_text("utf-8"))
    scores = Scores()
    for dataset, labelled in sets.items():
        texts, pictures = found[dataset]["texts"], found[dataset]["pictures"]
        scores += score_extracted(
            labelled,
            [
                Extracted(text, tuple(Picture(*picture) for picture in of_page))
                for text, of_page in zip(texts, pictures or [()] * len(texts), strict=True)
            ],
        )
    return Row(
        name,
        scores,
        {dataset: len(labelled) / found[dataset]["seconds"] for dataset, labelled in sets.items()},
        has_pictures=all(one["pictures"] is not None for one in found.values()),
        failed=sum(one["failed"] for one in found.values()),
    )


def peer_python() -> Path:
    """Find the interpreter of the peers' environment, which is made anew when the pins change."""
    python, noted = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    if not noted.exists() or noted.read_text("utf-8").split() != list(PINS):
        print(f"installing the peers into {ENVIRONMENT} ...", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        # The list is complete: resolving anew would let versions drift.
        run_quietly([str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", *PINS])
        noted.write_text("\n".join(PINS) + "\n", "utf-8")
    return python


def run_quietly(command: list[str]) -> None:
    """Run a command; what it says is kept for the case that it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True)


# --- output ----------------------------------------------------------------------------------------------------------

HEADS = (
    ("segments", "P"), ("", "R"), ("", "F1"), ("shingles", "F1"), ("pictures", "R"), ("", "P"),
    ("articles'", "R"), ("", "P"), ("captions", "R"), ("pages per", "dev"), ("CPU-second", "articles"),
)  # fmt: skip
WIDTH = 132


def print_table(rows: list[Row], load: float) -> None:
    """Print a line a row."""
    table = Table(box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    for of_many, of_one in HEADS:
        table.add_column(f"{of_many}\n{of_one}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(write(name, value) for name, value in row.figures().items()))
    console = Console(width=max(WIDTH, Console().width), highlight=False)
    console.print(table)
    for row in rows:
        if row.failed:
            console.print(f"{row.name} raised on {row.failed} pages; they count as empty")
    console.print(f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after the run, on {os.cpu_count()} cores")


def write(name: str, value: float | None) -> str:
    """Write a figure; speeds as whole numbers, shares without the zero."""
    if value is None:
        return "-"
    return f"{value:.0f}" if name.endswith("pages/s") else f"{value:.3f}".removeprefix("0")


def print_json(rows: list[Row], load: float) -> None:
    """Print everything that was counted."""
    found = [
        {
            "name": row.name,
            "figures": row.figures(),
            "counts": asdict(row.scores) if row.scores else None,
            "failed": row.failed,
        }
        for row in rows
    ]
    print(json.dumps({"load": load, "cores": os.cpu_count(), "rows": found}, indent=1))


if __name__ == "__main__":
    main()
