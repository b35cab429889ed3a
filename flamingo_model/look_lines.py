"""Batches in a terminal: the rows' texts on a few lines, pictures in place where the terminal can draw them.

Batch → RowView (`look`) → lines, coloured by the image that a token sees, dim where it is no target
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console
from rich.text import Text

from flamingo_model.look import (
    IMAGE,
    PADDING,
    SPECIAL,
    TEXT,
    Clean,
    RowView,
    Span,
    Steps,
    facts_of,
    sample_name,
    view_rows,
)

if TYPE_CHECKING:
    from flamingo_model.batch import Batch
    from flamingo_model.tokens import Tokenizer

COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red", "bright_cyan", "bright_yellow")
"""Of the images of a row, in turn."""


def show_batches(
    steps: Steps,
    tokenizer: Tokenizer,
    console: Console,
    clean: Clean,
    draw: Callable[[Image.Image], None] | None = None,
    rows: int | None = None,
) -> None:
    """Print batches; `draw` draws a picture where the terminal can, else a line stands for it."""
    hidden = "dim" if console.color_system else "~between tildes~"
    say(console, Text(clean(f"a colour or ⟨k⟩: sees image k · {hidden}: no target · ↵ a line break"), "dim"))
    for step, batches in enumerate(steps):
        for name, batch in batches.items():
            title, facts = headline(step, name, batch)
            say(console, Text(clean(f"\n{title}"), "bold"))
            say(console, Text(clean(facts)))
            for row in view_rows(batch, tokenizer, rows):
                show_row(row, console, clean, draw)
            if rows is not None and len(batch.tokens) > rows:
                say(console, Text(f"\nand {len(batch.tokens) - rows:,} more rows (--rows)", "dim"))


def headline(step: int, name: str, batch: Batch) -> tuple[str, str]:
    """Name a batch, and say in one line what it holds."""
    facts = facts_of(batch)
    told = [
        f"{facts['rows']:,} rows of {facts['length']:,} tokens",
        f"{facts['tokens']:,} tokens, {facts['targets']:,} of them targets",
        f"{facts['padding']:.1%} padding",
        f"{facts['media']:,} images or clips, {facts['frames']:,} frames of {facts['side_px']} px",
    ]
    if facts["samples"] > facts["rows"]:
        told.append(f"{facts['samples']:,} samples, {facts['samples'] / facts['rows']:.1f} a row")
    return f"step {step} · {name}", " · ".join(told)


def show_row(row: RowView, console: Console, clean: Clean, draw: Callable[[Image.Image], None] | None) -> None:
    """Print a row: its samples, each below its key, with their pictures in place."""
    say(console, Text(clean(f"\nrow {row.number}"), "bold"))
    for problem in row.problems:
        say(console, Text(clean(problem), "bold red"))
    line, segment, announced = Text(), 0, 0
    for run in row.runs():
        if run[0].segment not in (0, segment):
            say(console, line)
            segment, announced = run[0].segment, 0
            line = Text().append(clean(f"{sample_name(row, segment)}\n"), "dim")
        for part in group_text(run):
            medium = row.media.get(part.image_of)
            if part.what == IMAGE:
                announced = part.image_of
                line.append(clean(f"[{medium.told if medium else 'no image'}]"), f"{colour_of(part)} reverse")
                if draw and medium:
                    say(console, line)
                    draw(medium.thumbnail())
                    line = Text()
            elif part.what == PADDING:
                line.append(clean(f" … {part.stop - part.start} padding"), "dim")
            else:
                if part.image_of != announced:
                    line.append(clean(f"⟨{part.image_of}⟩"), "dim")
                    announced = part.image_of
                line.append(clean(plain(part, console)), style_of(part))
    say(console, line)


def group_text(run: Sequence[Span]) -> Iterator[Span]:
    """Join the spans of a run that are text."""
    for what, spans in groupby(run, key=lambda span: span.what):
        alike = list(spans)
        if what != TEXT:
            yield from alike
            continue
        yield Span(alike[0].start, alike[-1].stop, TEXT, "".join(span.text for span in alike), *alike[0].state)


def plain(span: Span, console: Console) -> str:
    """Write a span's text on one line; without colours, marks say what is no target."""
    text = span.text.replace("\n", "↵ ")
    return text if span.loss or console.color_system else f"~{text}~"


def style_of(span: Span) -> str:
    """Choose how a span's text is written: what is no target is dim."""
    return " ".join([colour_of(span), "" if span.loss else "dim", "bold" if span.what == SPECIAL else ""]).strip()


def colour_of(span: Span) -> str:
    """Choose the colour of the image that a span sees."""
    return COLOURS[(span.image_of - 1) % len(COLOURS)] if span.image_of else ""


def say(console: Console, line: Text) -> None:
    """Print a line, wrapped in a terminal and whole in a pipe."""
    if line:
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)
