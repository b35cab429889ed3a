"""Tables: the cells of an open table → its pieces rewritten as rows of data, or each caption after its pictures.

A table of neither kind is there for layout, and its cells stay blocks of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipeline.dom import Tree
from pipeline.nesting import words
from pipeline.pieces import Frame, Piece

TABLE_PARTS = words("table tr td th")

MAX_CELL_CHARS = 500
"""Characters of a cell from which a table is there for layout."""

MAX_WAITING = 200
"""Cells that wait for a caption below them."""

MAX_SPAN = 1_000
"""Columns or rows that a cell can claim (HTML standard)."""

MAX_COVERED = 32
"""Columns that are looked at for cells reaching down from rows above; more would cost more than linear time."""


@dataclass(slots=True)
class Cell:
    """A table cell: its frame, the columns it covers, `first` to `last`."""

    frame: int
    first: int
    last: int


@dataclass(slots=True)
class Table:
    """An open table: its cells row by row; `columns` maps a column to the last row a cell of it reaches down to."""

    rows: list[list[Cell]] = field(default_factory=list)
    columns: dict[int, int] = field(default_factory=dict)
    nested: bool = False


def open_part(tables: list[Table], tree: Tree, frame: Frame, number: int) -> None:
    """Note where a table, a row or a cell begins."""
    if frame.tag == "table":
        if tables:
            tables[-1].nested = True
        tables.append(Table())
    elif frame.tag == "tr" and tables:
        tables[-1].rows.append([])
    elif tables and tables[-1].rows:
        rows, columns = tables[-1].rows, tables[-1].columns
        first = rows[-1][-1].last + 1 if rows[-1] else 0
        while columns.get(first, 0) >= len(rows):
            first += 1
        last = first + read_span(tree, frame.node, "colspan") - 1
        bottom = len(rows) + read_span(tree, frame.node, "rowspan") - 1
        columns |= dict.fromkeys(range(first, min(last + 1, MAX_COVERED)), bottom)
        rows[-1].append(Cell(number, first, last))


def read_span(tree: Tree, cell: int, name: str) -> int:
    """Read how many columns or rows a cell covers."""
    span = tree.attributes[cell].get(name) or ""
    return min(int(span), MAX_SPAN) if re.fullmatch(r"[1-9][0-9]{0,3}", span) else 1


def lay_out(table: Table, number: int, frames: list[Frame], pieces: list[Piece]) -> None:
    """Rewrite the pieces of a table of data (its rows as lines) or of figures (each caption after its pictures).

    Any other table is there for layout: its cells stay blocks of their own.
    """
    rows = [row for row in table.rows if row]
    if table.nested or not rows:
        return
    first = frames[number].first
    inside = pieces[first:]
    if frames[number].media:
        pieces[first:] = order_figures(rows, frames, inside, first)
        return
    cells = {cell.frame: cell_text(frames[cell.frame], pieces) for row in rows for cell in row}
    if len(rows) < 2 or max(map(len, rows)) < 2 or max(map(len, cells.values())) > MAX_CELL_CHARS:
        return
    titles = [piece for piece in inside if frames[piece.frame].tag == "caption"]
    lines = ["\t".join(cells[cell.frame] for cell in row).strip() for row in rows]
    text = "\n".join(line for line in lines if line)
    pieces[first:] = titles
    if text:
        linked = min(len(text), sum(piece.linked for piece in inside))
        pieces.append(Piece(frames[number].node, number, text, linked))
    for frame in frames[number + 1 :]:
        frame.first = frame.stop = first
    for position, piece in enumerate(titles, first):
        frames[piece.frame].first, frames[piece.frame].stop = position, position + 1


def cell_text(frame: Frame, pieces: list[Piece]) -> str:
    """Read what a cell shows on one line."""
    return " ".join(" ".join(piece.text for piece in pieces[frame.first : frame.stop]).split())


def order_figures(rows: list[list[Cell]], frames: list[Frame], inside: list[Piece], first: int) -> list[Piece]:
    """Order a table that lays out pictures over their captions.

    A caption cell ends the figure made of the cells above it, so that it stands right after its pictures.
    """
    held = {
        cell.frame: inside[frames[cell.frame].first - first : frames[cell.frame].stop - first]
        for row in rows
        for cell in row
    }
    captions = {number for number, found in held.items() if is_caption_cell(frames, number, found)}
    if not captions:
        return inside
    waiting: list[Cell] = []
    in_cells = {at for number in held for at in range(frames[number].first - first, frames[number].stop - first)}
    ordered = [piece for at, piece in enumerate(inside) if at not in in_cells]
    for row in rows:
        waiting += [cell for cell in row if cell.frame not in captions]
        for caption in (cell for cell in row if cell.frame in captions):
            above = [cell for cell in waiting if cell.first <= caption.last and caption.first <= cell.last]
            if not above or len(waiting) > MAX_WAITING:
                above = waiting
            numbers = {cell.frame for cell in above}
            waiting = [cell for cell in waiting if cell.frame not in numbers]
            for cell in (*above, caption):
                for piece in held[cell.frame]:
                    piece.figure = frames[caption.frame].node
                    ordered.append(piece)
    return ordered + [piece for cell in waiting for piece in held[cell.frame]]


def is_caption_cell(frames: list[Frame], number: int, found: list[Piece]) -> bool:
    """Say whether a cell is a caption by its class, or by that of the first element in it."""
    if not found or frames[number].media:
        return False
    return frames[number].caption or frames[found[0].frame].caption
