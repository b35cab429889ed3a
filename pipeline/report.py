"""What a person is told of a dataset: the funnel, the totals, and text of the web made safe for a terminal.

manifest.json and index.parquet of each kind of shards → `print_summary`, `funnel_table`, `manifest_summary_json`.
Whatever comes from a page passes through `printable` or `json_line` first: an escape sequence in a title would steer
the reader's terminal.
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
from schemas.pair import IMAGE_TEXT
from schemas.sample import INTERLEAVED
from schemas.shard import INDEX_SCHEMA, FunnelRow, Manifest, index_name, manifest_from_json, manifest_name
from schemas.video import VIDEO_TEXT

KINDS = (INTERLEAVED, IMAGE_TEXT, VIDEO_TEXT)
"""The folders of shards that a dataset may hold, in the order in which they are shown."""
INDEX = tables.Table(INTERLEAVED, INDEX_SCHEMA)
INDEX_FILE = index_name(INTERLEAVED)
MANIFEST_FILE = manifest_name(INTERLEAVED)
PAPER = {
    INTERLEAVED: ("M3W", {"pages": "43.3 M", "images": "185 M", "images a page": "4.3", "text a page": "4.4 KB"}),
    IMAGE_TEXT: ("LTIP", {"pairs": "312 M", "words a text": "20.5 tokens"}),
    VIDEO_TEXT: ("VTP", {"clips": "27 M", "seconds a clip": "22"}),
}
"""The paper's corpora, for comparison (SPEC-corpus 1)."""

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
    """What an index adds up to; `parts` are the stored images, frames or clips, `seconds` how long the clips last."""

    samples: int = 0
    parts: int = 0
    part_bytes: int = 0
    chars: int = 0
    words: int = 0
    seconds: float = 0.0


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


def read_manifests(folder: Folder) -> dict[str, Manifest]:
    """Read the manifests of a complete dataset, by kind; anything else is told in one line."""
    texts = {kind: folder.read_text(manifest_name(kind)) for kind in KINDS}
    found = {kind: text for kind, text in texts.items() if text is not None}
    if not found and folder.read_text(CONFIG_FILE) is None:
        raise refused(f"{folder.root}: no dataset (no {MANIFEST_FILE} in it) and no shard (a .tar file)")
    if not found:
        raise refused(f"{folder.root}: not complete; `flamingo build --out {folder.root}` goes on, `status` tells more")
    return {kind: parse_manifest(folder, kind, text) for kind, text in found.items()}


def parse_manifest(folder: Folder, kind: str, text: str) -> Manifest:
    """Read a manifest; what is wrong with it is told in one line."""
    try:
        manifest = manifest_from_json(text)
        if manifest.kind != kind:
            raise ValueError(f"manifest of {manifest.kind}, not of {kind}")
        return manifest
    except DAMAGED as error:
        raise refused(f"{folder.path(manifest_name(kind))}: {error}") from None


@contextlib.contextmanager
def reading(folder: Folder, name: str) -> Iterator[None]:
    """Tell in one line what is wrong with a table that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise refused(f"{folder.root}: no {name}; `flamingo build` writes it") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise refused(f"{folder.path(name)}: damaged: {error}") from None


def index_rows(folder: Folder, start: str, count: int, kind: str = INTERLEAVED) -> list[dict[str, Any]]:
    """Read up to `count` rows of the index whose key begins with `start`, from the row groups that can hold them."""
    name = index_name(kind)
    index = tables.Table(kind, INDEX_SCHEMA)
    with reading(folder, name):
        pieces = tables.read_part(folder, index, posixpath.basename(name), KeyRange(start, start + "~"))
        return list(islice((row for piece in pieces for row in tables.iter_rows(piece)), count))


def add_up(folder: Folder, kind: str = INTERLEAVED) -> Totals:
    """Add up the index of a kind of shards, a batch of rows at a time."""
    totals = Totals()
    name = index_name(kind)
    with reading(folder, name), folder.open(name) as stream:
        parquet = pq.ParquetFile(stream)
        leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema.names))]
        sizes = [leaf for leaf in leaves if leaf.startswith("parts.") and leaf.endswith(".bytes")]
        times = ["start_s", "end_s"] if kind == VIDEO_TEXT else []
        for batch in parquet.iter_batches(columns=["chars", "words", *sizes, *times], use_threads=False):
            sums: list[Any] = [sum(pair) for pair in zip(totals, batch_totals(batch), strict=True)]
            totals = Totals(*sums)
    return totals


def batch_totals(batch: pa.RecordBatch) -> Totals:
    """Add up some rows of an index."""
    sizes = batch.column("parts").flatten().field("bytes")
    columns = [sizes, batch.column("chars"), batch.column("words")]
    if "end_s" in batch.schema.names:
        columns.append(pc.subtract(batch.column("end_s"), batch.column("start_s")))
    return Totals(batch.num_rows, len(sizes), *(pc.sum(column).as_py() or 0 for column in columns))


def print_summary(console: Console, manifest: Manifest, folder: Folder) -> None:
    """Print the funnel of a dataset, and the size of each kind of shards that it holds beside the paper's."""
    manifests = {manifest.kind: manifest} | read_others(folder, manifest.kind)
    console.print(funnel_table(join_funnels(list(manifests.values()))))
    for kind, one in manifests.items():
        console.print(size_table(kind, one, add_up(folder, kind)))


def read_others(folder: Folder, kind: str) -> dict[str, Manifest]:
    """Read the manifests of the other kinds of shards that a dataset holds."""
    texts = {other: folder.read_text(manifest_name(other)) for other in KINDS if other != kind}
    return {other: parse_manifest(folder, other, text) for other, text in texts.items() if text is not None}


def join_funnels(manifests: Sequence[Manifest]) -> list[FunnelRow]:
    """Put funnels together: the stages that several share are told once."""
    rows: dict[tuple[str, str], FunnelRow] = {}
    for manifest in manifests:
        for row in manifest.funnel:
            rows.setdefault((row.stage, row.kind), row)
    return list(rows.values())


def size_table(kind: str, manifest: Manifest, totals: Totals) -> Table:
    """Lay out what the shards of a kind hold beside the paper's corpus."""
    name, paper = PAPER[kind]
    ours = {
        "shards": f"{len(manifest.shards):,}",
        "bytes": human_bytes(sum(shard.bytes for shard in manifest.shards)),
    } | contents(kind, totals)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("" if kind == INTERLEAVED else kind)
    table.add_column("here", justify="right")
    table.add_column(name, justify="right", style="dim")
    for fact, value in ours.items():
        table.add_row(fact, value, paper.get(fact, ""))
    return table


def contents(kind: str, totals: Totals) -> dict[str, str]:
    """Say what the samples of a kind add up to."""
    parts = f"{totals.parts:,} ({human_bytes(totals.part_bytes)})"
    if kind == IMAGE_TEXT:
        return {"pairs": parts, "words a text": mean(totals.words, totals.samples)}
    if kind == VIDEO_TEXT:
        return {
            "clips": f"{totals.samples:,}",
            "frames or MP4": parts,
            "seconds a clip": mean(totals.seconds, totals.samples),
            "words a text": mean(totals.words, totals.samples),
        }
    return {
        "pages": f"{totals.samples:,}",
        "images": parts,
        "images a page": mean(totals.parts, totals.samples),
        "words a page": mean(totals.words, totals.samples),
        "text a page": mean(totals.chars, totals.samples, " characters"),
    }


def mean(total: float, count: int, unit: str = "") -> str:
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
