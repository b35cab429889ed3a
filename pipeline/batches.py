"""The first steps of a loader, shown: batches and the ways to write them → a page, JSON lines, or the terminal.

The loader and its ways come from the trainer, which this package does not import: `cli` passes them on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import click
from rich.console import Console

from pipeline.command import write_pieces
from pipeline.drawing import choose_drawing, draw
from pipeline.report import json_line, printable

SHOWN_ROWS = 16


@dataclass(frozen=True, slots=True)
class Ways:
    """How the trainer shows batches: as the pieces of a page, as rows of JSON, or in a terminal."""

    page: Callable[..., Iterable[str]]
    rows_json: Callable[..., Iterable[Any]]
    show_batches: Callable[..., None]


def show_steps(
    loader: Any, ways: Ways, title: str, limit: int, rows: int | None, out: str | None, as_json: bool
) -> None:
    """Show the first `limit` steps of a loader, up to `rows` rows of each batch."""
    console = Console()
    way = choose_drawing(console, os.environ)
    safe = partial(printable, one_line=False)

    def clean(text: str) -> str:
        return safe(text).encode(console.encoding, "backslashreplace").decode(console.encoding)

    steps = islice(loader, limit)
    if out:
        write_pieces(out, ways.page(steps, loader.tokenizer, title, safe, rows or SHOWN_ROWS))
    elif as_json:
        for row in ways.rows_json(steps, loader.tokenizer, rows):
            click.echo(json_line(row))
    else:
        drawn = None if way == "line" else partial(draw, way=way, console=console)
        ways.show_batches(steps, loader.tokenizer, console, clean, drawn, rows or SHOWN_ROWS)
    for (dataset, reason), count in loader.stats.skipped.items():
        click.echo(f"skipped: {dataset} {reason} {count:,}", err=True)
