"""Learn the demo's world from nothing, on two cores in a quarter of an hour: text, pictures, what pictures show.

    python bench/learn.py                        site → shards → language model ∥ vision encoder → Flamingo → captions
    python bench/learn.py --pages 300 --share 0.2

The model then captions pictures of the world that no page has, and as many with the pictures exchanged: what it gets
right then, it gets right without looking. Colours count as right with the thing that has them. What is done already is
not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flamingo_model.chat import captions
from pipeline.command import HELD_OUT_SEED
from pipeline.demo.exam import Marks, Shown, marks, pictures_of
from pipeline.folder import UserError
from pipeline.recipe import A_LESSON, learn
from schemas import SCHEMA_VERSION

TOKENS = 28
SHARES = ("of the colours named", "of the things named", "captions: thing", "captions: colour and thing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/learn"))
    parser.add_argument("--pages", type=int, default=4000, help="pages of the site that is learnt from")
    parser.add_argument("--share", type=float, default=1.0, help="of the updates of each stage")
    parser.add_argument("--pictures", type=int, default=300, help="held-out pictures that are captioned")
    given = parser.parse_args()
    out = given.out / f"schema-{SCHEMA_VERSION}"
    dataset = make_dataset(out, given.pages)
    steps = {stage: round(given.share * count) for stage, count in A_LESSON.items()}
    begun = time.perf_counter()
    run = learn(out / f"model-{given.pages}-{given.share:g}", str(dataset), steps)
    print(f"\ntrained in {(time.perf_counter() - begun) / 60:.1f} minutes, load {os.getloadavg()[0]:.1f}", flush=True)
    show(examine(run, given.pictures))


def make_dataset(out: Path, pages: int) -> Path:
    """Draw a site and build its dataset, as `flamingo demo` does."""
    dataset = out / f"dataset-{pages}-0"
    if not (dataset / "pairs" / "index.parquet").exists():
        words = ["demo", "--pages", str(pages), "--no-train", "--out", str(out)]
        print("$ flamingo", *words, flush=True)
        subprocess.run([sys.executable, "-m", "pipeline.cli", *words], check=True, stdout=subprocess.DEVNULL)
    return dataset


def examine(run: Path, count: int) -> dict[str, list[tuple[Shown, str, Marks]]]:
    """Let the model caption pictures, and each the picture of another."""
    shown = list(pictures_of(HELD_OUT_SEED, count))
    images = [picture.data for picture in shown]
    others = images[count // 2 :] + images[: count // 2]
    said = captions(str(run), images + others, tokens=TOKENS)
    return {
        name: [
            (picture, text, marks(text, picture.scene))
            for picture, text in zip(shown, said[start : start + count], strict=True)
        ]
        for name, start in (("its own picture", 0), ("another picture", count))
    }


def show(found: dict[str, list[tuple[Shown, str, Marks]]]) -> None:
    """Print the shares that are right, and some captions."""
    table = Table("captions of held-out pictures", *(f"{name} right" for name in SHARES))
    shares = {}
    for name, rows in found.items():
        told = [given for _, _, given in rows]
        shares[name] = {
            "of the colours named": share(sum(row.right_colours for row in told), sum(row.colours for row in told)),
            "of the things named": share(sum(row.right_things for row in told), sum(row.things for row in told)),
            "captions: thing": share(sum(row.thing for row in told), len(told)),
            "captions: colour and thing": share(sum(row.thing and row.colour for row in told), len(told)),
        }
        table.add_row(name, *(f"{value:.0%}" for value in shares[name].values()))
    console = Console()
    console.print(table)
    for picture, text, _ in found["its own picture"][:12]:
        console.print(f"  {picture.name}: {text!r}", highlight=False)
    print(json.dumps(shares))


def share(part: int, whole: int) -> float:
    """Divide, where there is something to divide by."""
    return part / whole if whole else 0.0


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"learn: {error}")
