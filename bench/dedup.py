"""Near-duplicate pages: clusters found among synthetic documents whose clusters are known, beside datasketch.

    python bench/dedup.py --corpus FOLDER
    python bench/dedup.py --corpus FOLDER --sizes 10000 100000 --no-peer

Documents are about 200 words of Markov text (the word that follows a word, learnt from the articles of the corpus),
the same ones in every run. Of ten, six stand alone. The others are pairs and small clusters with a Jaccard similarity
of 0.5 to 1.0 to their first document, chains of which each document is similar only to those beside it, and two big
clusters: one of the same text, one of a text with small changes. A document's true cluster are those that it is
connected with by pairs with a similarity of 0.8 or more.

Ours are the stages of the pipeline with their files, in one process; CPU seconds are of the stages without making the
documents. The peer gets a virtual environment of its own on the first call (network). Each runs in a process of its
own; memory is the peak of that process above what it held before, with what it imports and for the peer the texts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import venv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from peer_dedup import memory_mib
from rich.console import Console
from rich.table import Table as Printed

from pipeline.clusters import BANDS, CLUSTER_STAGES, LINKS, link_bands, sign_documents
from pipeline.duplicates import (
    ADDRESSES,
    NEAR,
    OLDER,
    DuplicateConfig,
    settle_addresses,
    write_addresses,
)
from pipeline.folder import Folder
from pipeline.plan import Step, Totals, add_totals, by_any_rows, by_rows, plan_units
from pipeline.stage import Job, Stage, gather, run_unit
from pipeline.tables import DOCUMENTS, HEADS, KeyRange, PartWriter, stream_range
from schemas.document import Document, ImageRef, Text, document_to_row
from schemas.page import Origin, key_of

ENVIRONMENT = Path(__file__).resolve().parents[1] / "build" / "peers" / "dedup"
PINS = ("datasketch==2.0.0",)
SIZES = (10_000, 100_000)
WORDS = (100, 300)
THRESHOLD = 0.8
BINS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
STEPS = (
    Step(Stage("address", (HEADS,), (ADDRESSES,), write_addresses), lambda c: [], by_rows(DOCUMENTS.directory)),
    Step(Stage("same_address", (ADDRESSES,), (OLDER,), settle_addresses), lambda c: [], by_rows(ADDRESSES.directory)),
    Step(
        Stage("sign", (DOCUMENTS, OLDER), (BANDS,), sign_documents),
        lambda c: [c.duplicates.near],
        by_rows(DOCUMENTS.directory),
    ),
    Step(Stage("link", (BANDS,), (LINKS[0], NEAR), link_bands), lambda c: [], by_rows(BANDS.directory)),
    *(Step(stage, lambda c: [], by_any_rows(stage.reads[0].directory)) for stage in CLUSTER_STAGES),
)


# --- documents with known clusters -----------------------------------------------------------------------------------


class Writer:
    """Writes Markov text from a fixed seed."""

    def __init__(self, corpus: Path) -> None:
        self.random = random.Random(8)
        self.after: dict[str, list[str]] = defaultdict(list)
        for article in json.loads((corpus / "articles.json").read_text("utf-8")).values():
            words = article["text"].split()
            for word, following in pairwise(words):
                self.after[word].append(following)
        self.starts = sorted(self.after)

    def write(self, count: int) -> list[str]:
        """Write so many words."""
        word, words = self.random.choice(self.starts), []
        while len(words) < count:
            following = self.after.get(word) or self.starts
            word = following[int(self.random.random() * len(following))]
            words.append(word)
        return words

    def new(self) -> list[str]:
        """Write a document."""
        return self.write(self.random.randint(*WORDS))

    def change(self, words: list[str], jaccard: float) -> list[str]:
        """Write another run of words into a text, as long as makes the two about so similar."""
        shingles = len(words) - 4
        changed = round(shingles * (1 - jaccard) / (1 + jaccard)) - 4
        if changed < 1:
            return list(words)
        at = self.random.randint(0, len(words) - changed)
        return [*words[:at], *self.write(changed), *words[at + changed :]]


def make_documents(writer: Writer, count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Write documents, and name the pairs of them that may be similar."""
    texts: list[list[str]] = [writer.new() for _ in range(count * 6 // 10)]
    pairs: list[tuple[int, int]] = []
    for size in (count // 20, count // 50):  # the same text, and small changes of one
        first = len(texts)
        texts.append(writer.new())
        for _ in range(size - 1):
            changed = texts[first] if size == count // 20 else writer.change(texts[first], 0.93)
            pairs.append((first, len(texts)))
            texts.append(changed)
    while len(texts) < count:
        first, size = len(texts), writer.random.choice((2, 2, 2, 3, 5, 20))
        texts.append(writer.new())
        for number in range(1, min(size, count - first)):
            base, jaccard = (-1, 0.87) if size == 20 else (first, writer.random.uniform(0.5, 1.0))
            texts.append(writer.change(texts[base], jaccard))
            others = [len(texts) - 2] if size == 20 else range(first, first + number)
            pairs += [(other, first + number) for other in others]
    return [" ".join(words) for words in texts], pairs


def shingles(text: str) -> set[tuple[str, ...]]:
    """Give the shingles of a text, as it is written but for case."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def jaccard(first: str, second: str) -> float:
    """Compute the similarity of two texts."""
    if first == second:
        return 1.0
    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other)


def join(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Name the cluster of each document by its first one."""
    parents = list(range(count))

    def find(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in pairs:
        first, second = find(one), find(other)
        parents[max(first, second)] = min(first, second)
    return [find(number) for number in range(count)]


def joined(clusters: Sequence[int], within: Sequence[int]) -> tuple[int, int]:
    """Count the links that `clusters` needs, and those of them that `within` has, too."""
    pieces = len(set(zip(clusters, within, strict=True)))
    return len(clusters) - len(set(clusters)), len(clusters) - pieces


# --- ours ------------------------------------------------------------------------------------------------------------


def url_of(number: int) -> str:
    return f"https://h{number % 1000}.example/{number}"


def run_ours(texts: list[str], root: str) -> dict[str, Any]:
    """Run the stages over documents; gives the clusters, the CPU of each stage and the peak of memory."""
    folder = Folder(root)
    job = Job(folder, SimpleNamespace(duplicates=DuplicateConfig()))
    totals, count = write_documents(folder, texts), len(texts)
    texts.clear()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak is that of the stages, not of making their input
    held_mib = memory_mib("VmRSS")
    stages: Counter[str] = Counter()
    for step in STEPS:
        started = time.process_time()
        units = plan_units(step, totals, job)
        for unit in units:
            run_unit(step.stage, job, unit, gather(step.stage, folder, unit))
        add_totals(folder, step.stage, units, totals)
        stages["star" if step.stage.name.startswith("star") else step.stage.name] += time.process_time() - started
    peak = memory_mib("VmHWM") - held_mib
    number = {key_of(url_of(index)): index for index in range(count)}
    rows = stream_range(folder, NEAR, KeyRange("", ""))
    dropped = [(number[row["kept"]], number[row["key"]]) for row in rows]
    return {"clusters": join(count, dropped), "stages": stages, "peak_mib": peak}


def write_documents(folder: Folder, texts: Sequence[str]) -> Totals:
    """Write the texts as documents, a capture each."""
    writer, start = PartWriter(folder, DOCUMENTS, "extract-0"), datetime(2026, 1, 1, tzinfo=UTC)
    for number, text in enumerate(texts):
        items = (Text(text), ImageRef(f"{url_of(number)}.jpg"))
        origin, fetched = Origin("synthetic", number), start + timedelta(seconds=number)
        writer.add(document_to_row(Document(url_of(number), "", "en", items, origin, fetched)), 400 + len(text))
    writer.flush()
    totals = Totals()
    totals.rows[DOCUMENTS.directory] = writer.total_rows
    totals.bytes[DOCUMENTS.directory] = writer.total_bytes
    return totals


# --- the run ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the arguments, measure, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with articles.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="documents, at least 1000")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        texts = json.loads(Path(given.worker[0]).read_text("utf-8"))
        with TemporaryDirectory() as root:
            Path(given.worker[1]).write_text(json.dumps(run_ours(texts, root)), "utf-8")
        return
    for size in given.sizes:
        measure(size, given)


def measure(size: int, given: argparse.Namespace) -> None:
    """Make so many documents and print what is found among them."""
    texts, pairs = make_documents(Writer(given.corpus), size)
    similar = [(jaccard(texts[first], texts[second]), first, second) for first, second in pairs]
    true = join(size, [(first, second) for value, first, second in similar if value >= THRESHOLD])
    script = Path(__file__)
    runs = {"flamingo": [sys.executable, str(script), "--corpus", str(given.corpus), "--worker"]}
    if not given.no_peer:
        runs["datasketch"] = [str(peer_python()), str(script.with_name("peer_dedup.py"))]
    table = Printed("", "recall", "precision", "CPU s", "documents/CPU-s", "peak MiB", title=f"{size:,} documents")
    bins = Printed("similarity", "pairs", *runs, title="share of pairs found in one cluster")
    found: dict[str, list[int]] = {}
    with TemporaryDirectory() as root:
        Path(root, "texts.json").write_text(json.dumps(texts), "utf-8")
        for name, words in runs.items():
            subprocess.run([*words, f"{root}/texts.json", f"{root}/{name}.json"], check=True)
            result = json.loads(Path(root, f"{name}.json").read_text("utf-8"))
            found[name] = result["clusters"]
            wanted, hit = joined(true, found[name])
            made, right = joined(found[name], true)
            seconds = sum(result["stages"].values())
            shares = [f"{hit / wanted:.4f}", f"{right / made:.4f}", f"{seconds:.1f}", f"{size / seconds:,.0f}"]
            table.add_row(name, *shares, f"{result['peak_mib']:,.0f}")
            print(name, {stage: round(spent, 2) for stage, spent in result["stages"].items()})
    for low, high in zip(BINS, [*BINS[1:], 1.01], strict=True):
        inside = [(first, second) for value, first, second in similar if low <= value < high]
        shares = [sum(of[a] == of[b] for a, b in inside) / max(1, len(inside)) for of in found.values()]
        bins.add_row(f"{low:.2f} to {min(high, 1):.2f}", f"{len(inside):,}", *(f"{share:.3f}" for share in shares))
    console = Console(width=100)
    console.print(table)
    console.print(bins)


def peer_python() -> Path:
    """Give the interpreter of the peer's environment, which is made anew when the pins change."""
    python, marker = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    if not marker.exists() or marker.read_text("utf-8") != "\n".join(PINS):
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PINS], check=True)
        marker.write_text("\n".join(PINS), "utf-8")
    return python


if __name__ == "__main__":
    main()
