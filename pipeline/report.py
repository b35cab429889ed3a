"""What a person is told of a dataset: the funnel, the totals, and text of the web made safe for a terminal.

manifest.json, index.parquet → `print_summary`, `funnel_table`, `manifest_summary_json`. Whatever comes from a page
passes through `printable` or `json_line` first: an escape sequence in a title would steer the reader's terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import posixpath
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import tables
from pipeline.folder import CONFIG_FILE, Folder, UserError
from pipeline.tables import KeyRange
from schemas.sample import INTERLEAVED
from schemas.shard import INDEX_SCHEMA, FunnelRow, Manifest, manifest_from_json

INDEX = tables.Table(INTERLEAVED, INDEX_SCHEMA)
INDEX_FILE = f"{INTERLEAVED}/index.parquet"
MANIFEST_FILE = f"{INTERLEAVED}/manifest.json"
M3W = {"pages": "43.3 M", "images": "185 M", "images a page": "4.3", "text a page": "4.4 KB"}
"""The paper's corpus, for comparison (SPEC-corpus 1, interleaved, 6)."""

HARMFUL = (
    *(code for code in range(0x20) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),  # delete, and the C1 controls: some terminals take 0x9b for ESC [
    *(0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # break lines, turn the direction of writing
    *range(0xD800, 0xE000),  # halves of pairs: no encoding takes them
)
SHOWN = {code: 0x2400 + code if code < 0x20 else 0x2421 if code == 0x7F else 0xFFFD for code in HARMFUL}
ON_ONE_LINE = SHOWN | {ord("\t"): " ", ord("\n"): " "}
ESCAPED = {code: json.dumps(chr(code))[1:-1] for code in HARMFUL}
"""Control characters as their pictures (U+2400...), other characters that do harm as U+FFFD; in JSON as escapes."""


DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What reading JSON of the wrong shape raises."""


class Totals(NamedTuple):
    """What the index adds up to."""

    pages: int = 0
    images: int = 0
    image_bytes: int = 0
    chars: int = 0
    words: int = 0


def printable(text: str, one_line: bool = True) -> str:
    """Replace what could steer a terminal; with `one_line` also tabs and line breaks, by spaces."""
    return text.translate(ON_ONE_LINE if one_line else SHOWN)


def refused(text: str) -> UserError:
    """Make the error of a line that may name things from a page or a shard."""
    return UserError(printable(text))


def json_line(value: Any) -> str:
    """Write JSON on one line, readable where it is safe to read; all that `printable` replaces is escaped."""
    return json.dumps(value, ensure_ascii=False, default=str).translate(ESCAPED)


def say(console: Console, text: str, style: str = "", one_line: bool = False) -> None:
    """Print a line of untrusted text; a terminal wraps it (or cuts it, with `one_line`), a pipe gets it as it is."""
    shown = printable(text, one_line).encode(console.encoding, "backslashreplace").decode(console.encoding)
    cut = one_line and console.is_terminal
    console.print(
        Text(shown),
        style=style,
        no_wrap=cut or None,
        overflow="ellipsis" if cut else None,
        soft_wrap=not console.is_terminal,
        highlight=False,
    )


def funnel_table(rows: Sequence[FunnelRow]) -> Table:
    """Lay out the funnel: what each stage was given, what it kept, and why it dropped the rest."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("seen", justify="right", no_wrap=True)
    table.add_column("kept", justify="right", no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True)
    table.add_column("dropped, by reason", overflow="fold")
    stage = ""
    for row in rows:
        table.add_row(
            Text("" if row.stage == stage else printable(row.stage)),
            Text(printable(row.kind)),
            f"{row.seen:,}",
            f"{row.kept:,}",
            percent(row.kept, row.seen),
            reason_lines(row),
        )
        stage = row.stage
    return table


def reason_lines(row: FunnelRow) -> Text:
    """List a stage's reasons, the most frequent first."""
    ordered = sorted(row.rejected.items(), key=lambda item: (-item[1], item[0]))
    digits = max((len(f"{count:,}") for _, count in ordered), default=0)
    lines = [f"{count:>{digits},} {printable(reason)}" for reason, count in ordered]
    return Text("\n".join(lines), "yellow")


def percent(part: int, whole: int) -> str:
    """Write a share with one decimal; only the whole is 100 and only nothing is 0."""
    if whole == 0 or part in (0, whole):
        return "-" if whole == 0 else "0" if part == 0 else "100"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f}"


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a complete dataset; anything else is told in one line."""
    text = folder.read_text(MANIFEST_FILE)
    if text is None and folder.read_text(CONFIG_FILE) is None:
        raise refused(f"{folder.root}: no dataset (no {MANIFEST_FILE} in it) and no shard (a .tar file)")
    if text is None:
        raise refused(f"{folder.root}: not complete; `flamingo build --out {folder.root}` goes on, `status` tells more")
    try:
        return manifest_from_json(text)
    except DAMAGED as error:
        raise refused(f"{folder.path(MANIFEST_FILE)}: {error}") from None


@contextlib.contextmanager
def reading(folder: Folder, name: str) -> Iterator[None]:
    """Tell in one line what is wrong with a table that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise refused(f"{folder.root}: no {name}; `flamingo build` writes it") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise refused(f"{folder.path(name)}: damaged: {error}") from None


def index_rows(folder: Folder, start: str, count: int) -> list[dict[str, Any]]:
    """Read up to `count` rows of the index whose key begins with `start`, from the row groups that can hold them."""
    with reading(folder, INDEX_FILE):
        pieces = tables.read_part(folder, INDEX, posixpath.basename(INDEX_FILE), KeyRange(start, start + "~"))
        return list(islice((row for piece in pieces for row in tables.iter_rows(piece)), count))


def add_up(folder: Folder) -> Totals:
    """Add up the index of a dataset, a batch of rows at a time."""
    totals = Totals()
    with reading(folder, INDEX_FILE), folder.open(INDEX_FILE) as stream:
        parquet = pq.ParquetFile(stream)
        leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema.names))]
        sizes = [leaf for leaf in leaves if leaf.startswith("parts.") and leaf.endswith(".bytes")]
        for batch in parquet.iter_batches(columns=["chars", "words", *sizes], use_threads=False):
            totals = Totals(*map(sum, zip(totals, batch_totals(batch), strict=True)))
    return totals


def batch_totals(batch: pa.RecordBatch) -> Totals:
    """Add up some rows of the index."""
    sizes = batch.column("parts").flatten().field("bytes")
    sums = [pc.sum(column).as_py() or 0 for column in (sizes, batch.column("chars"), batch.column("words"))]
    return Totals(batch.num_rows, len(sizes), *sums)


def print_summary(console: Console, manifest: Manifest, folder: Folder) -> None:
    """Print the funnel of a dataset, its size, and its averages beside those of M3W."""
    totals = add_up(folder)
    console.print(funnel_table(manifest.funnel))
    console.print(size_table(manifest, totals))


def size_table(manifest: Manifest, totals: Totals) -> Table:
    """Lay out what a dataset holds beside the paper's corpus."""
    ours = {
        "shards": f"{len(manifest.shards):,}",
        "bytes": human_bytes(sum(shard.bytes for shard in manifest.shards)),
        "pages": f"{totals.pages:,}",
        "images": f"{totals.images:,} ({human_bytes(totals.image_bytes)})",
        "images a page": mean(totals.images, totals.pages),
        "words a page": mean(totals.words, totals.pages),
        "text a page": mean(totals.chars, totals.pages, " characters"),
    }
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("here", justify="right")
    table.add_column("M3W", justify="right", style="dim")
    for name, value in ours.items():
        table.add_row(name, value, M3W.get(name, ""))
    return table


def mean(total: int, count: int, unit: str = "") -> str:
    """Write an average, `-` of nothing."""
    if not count:
        return "-"
    value = total / count
    return (f"{value:,.1f}" if value < 100 else f"{value:,.0f}") + unit


def human_bytes(count: int) -> str:
    """Write a number of bytes in powers of a thousand, as storage is sold."""
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        # 999.95 would be rounded to 1000.0 of the smaller unit.
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count:,} B" if unit == "B" else f"{size:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """Write a number of things."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def manifest_summary(manifest: Manifest) -> dict[str, Any]:
    """Say what a manifest says, shards as their sums."""
    return {
        "kind": manifest.kind,
        "schema": manifest.schema,
        "version": manifest.version,
        "shards": len(manifest.shards),
        "samples": sum(shard.samples for shard in manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "funnel": [dataclasses.asdict(row) for row in manifest.funnel],
    }


def manifest_summary_json(manifest: Manifest) -> str:
    """Write what a manifest says as one JSON object on one line, shards as their sums."""
    return json_line(manifest_summary(manifest))
