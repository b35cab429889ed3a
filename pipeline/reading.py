"""The walk: a region of a tree → its text blocks and media, in reading order.

Every block of text stands alone, a picture splits the block around it, and each piece remembers the block and the
figure it stands in, which `captions` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from pipeline import dom
from pipeline.content import (
    IMAGES,
    VIDEOS,
    BoilerplateLimits,
    Sums,
    check_time,
    count_within,
    is_boilerplate,
    within,
    words_at,
)
from pipeline.dom import TEXT, Tree
from pipeline.nesting import words
from pipeline.pictures import find_image, find_video
from schemas.document import Item, Text

BLOCKS = words(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu ol optgroup option p"
    " plaintext pre section summary table tbody td tfoot th thead tr ul xmp"
)
MUTED = frozenset(["button", "noscript"])
"""Elements whose text is not content but whose pictures may be."""

CAPTION_WORDS = words("caption captions figcaption credit credits cutline legend")
FIGURE_WORDS = words(
    "figure fig figcenter figleft figright image img photo picture illustration thumb thumbnail caption"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """An open block: up to which node, which element, of which figure (0: none), within a caption, keeping lines."""

    end: int
    node: int
    figure: int = 0
    caption: bool = False
    lines: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """An item of the document with the block it stands in, which captions are found by."""

    item: Item
    frame: Frame


@dataclass(slots=True)
class Writer:
    """What a walk reads, and the pieces written so far.

    `beside` is the parent of the last picture while nothing else followed it, and whether that picture came from a
    `noscript`: the same picture often stands there twice, once for scripts and once without.
    """

    tree: Tree
    sums: Sums
    region: int
    base: str
    deadline: float
    limits: BoilerplateLimits
    image_width_px: int
    max_caption_chars: int
    pieces: list[Piece] = field(default_factory=list)
    buffer: list[str] = field(default_factory=list)
    beside: tuple[int, bool] | None = None


LINE = "\0"
"""Stands for `<br>` in the buffer; a decoded page holds no NUL."""


def flush(writer: Writer, frame: Frame) -> None:
    """Write the text gathered so far as one block."""
    text = "".join(writer.buffer)
    writer.buffer.clear()
    lines = text.replace(LINE, "\n").split("\n") if frame.lines else text.split(LINE)
    folded = "\n".join(line.rstrip() if frame.lines else " ".join(line.split()) for line in lines)
    folded = folded.strip("\n") if folded.strip() else ""
    if folded:
        writer.pieces.append(Piece(Text(folded), frame))
        writer.beside = None


def write_range(writer: Writer, start: int, stop: int, frame: Frame) -> None:
    """Write the nodes `start` to `stop`, each block on its own."""
    tree = writer.tree
    tags, ends, buffer = tree.tags, tree.ends, writer.buffer
    frames: list[Frame] = []
    muted_until, index = 0, start
    while index < stop:
        if not index % dom.CHECK_EVERY:
            check_time(writer.deadline)
        while frames and index >= frame.end:
            flush(writer, frame)
            frame = frames.pop()
        tag = tags[index]
        if tag == TEXT:
            if index >= muted_until:
                buffer.append(tree.texts[index])
            index += 1
            continue
        if tag == "br":
            buffer.append(LINE)
        elif index in writer.sums.skipped:
            index = ends[index]
            continue
        elif tag in IMAGES or tag in VIDEOS:
            flush(writer, frame)
            write_media(writer, index, frame)
            index = ends[index]
            continue
        elif index != start and is_boilerplate(tree, writer.sums, writer.region, index, writer.limits):
            index = ends[index]
            continue
        if is_muted(tree, index, tag):
            muted_until = max(muted_until, ends[index])
        if opens_block(tree, index, tag):
            flush(writer, frame)
            if tag == "table" and write_table(writer, index, frame):
                index = ends[index]
                continue
            frames.append(frame)
            frame = open_frame(writer, index, tag, frame)
        index += 1
    for outer in [frame, *reversed(frames)]:
        flush(writer, outer)


def is_muted(tree: Tree, index: int, tag: str) -> bool:
    """Say whether an element's text is not read out, though its pictures may be content."""
    return tag in MUTED or tree.attributes[index].get("aria-hidden") == "true"


def opens_block(tree: Tree, index: int, tag: str) -> bool:
    """Say whether an element begins a text of its own: a block, or an inline element that is a caption by its class."""
    return tag in BLOCKS or not CAPTION_WORDS.isdisjoint(words_at(tree, index))


def open_frame(writer: Writer, index: int, tag: str, outer: Frame) -> Frame:
    """Describe a block that begins."""
    tree, sums = writer.tree, writer.sums
    names = words_at(tree, index)
    has_media = count_within(sums.media, tree, index) > 0
    figure = outer.figure
    named = not figure and not FIGURE_WORDS.isdisjoint(names) and tag not in ("html", "body", "article", "main")
    small = within(sums.chars, tree, index) <= writer.max_caption_chars
    if tag == "figure" or (named and has_media and small):
        figure = index
    is_caption = tag == "figcaption" or (not has_media and not CAPTION_WORDS.isdisjoint(names))
    return Frame(tree.ends[index], index, figure, outer.caption or is_caption, outer.lines or tag in ("pre", "listing"))


def write_media(writer: Writer, index: int, frame: Frame) -> None:
    """Write a picture or video, unless it stands beside its own twin in a `noscript`."""
    tree = writer.tree
    if tree.tags[index] in VIDEOS:
        video = find_video(tree, index, writer.base)
        if video is not None:
            writer.pieces.append(Piece(video, frame))
            writer.beside = None
        return
    image = find_image(tree, index, writer.base, writer.image_width_px)
    if image is None:
        return
    place = tree.parents[index]
    if tree.tags[place] == "picture":
        place = tree.parents[place]
    fallback = tree.tags[place] == "noscript"
    if fallback:
        place = tree.parents[place]
    if writer.beside == (place, not fallback):
        writer.beside = None
        return
    writer.pieces.append(Piece(image, frame))
    writer.beside = (place, fallback)


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: its element and the columns it covers, `first` to `last`."""

    node: int
    first: int
    last: int


MAX_CELL_CHARS = 500
"""Characters of a cell from which a table is there for layout."""

MAX_WAITING = 200
"""Cells that wait for a caption below them."""

MAX_SPAN = 1_000
"""Columns or rows that a cell can claim (HTML standard)."""

MAX_COVERED = 32
"""Columns that are looked at for cells reaching down from rows above; more would cost more than linear time."""


def read_rows(tree: Tree, table: int, skipped: set[int]) -> list[list[Cell]] | None:
    """Read the cells of a table row by row; None if it holds another table."""
    rows: list[list[Cell]] = []
    covered: dict[int, int] = {}  # column → the last row that a cell above reaches down to, counted from 1
    index, stop = table + 1, tree.ends[table]
    while index < stop:
        tag = tree.tags[index]
        if index in skipped:
            index = tree.ends[index]
            continue
        if tag == "table":
            return None
        if tag == "tr":
            rows.append([])
        if tag in ("td", "th") and rows:
            first = rows[-1][-1].last + 1 if rows[-1] else 0
            while covered.get(first, 0) >= len(rows):
                first += 1
            last = first + read_span(tree, index, "colspan") - 1
            below = len(rows) + read_span(tree, index, "rowspan") - 1
            covered |= dict.fromkeys(range(first, min(last + 1, MAX_COVERED)), below)
            rows[-1].append(Cell(index, first, last))
        index += 1
    return [row for row in rows if row]


def read_span(tree: Tree, cell: int, name: str) -> int:
    """Read how many columns or rows a cell covers."""
    span = tree.attributes[cell].get(name) or ""
    return min(int(span), MAX_SPAN) if re.fullmatch(r"[1-9][0-9]{0,3}", span) else 1


def write_table(writer: Writer, table: int, frame: Frame) -> bool:
    """Write a table of figures or of data; False if it is only there for layout, and its cells are blocks."""
    tree, sums = writer.tree, writer.sums
    rows = read_rows(tree, table, sums.skipped)
    if not rows:
        return False
    if count_within(sums.media, tree, table):
        return write_figures(writer, rows, frame)
    sizes = [within(sums.chars, tree, cell.node) for row in rows for cell in row]
    if len(rows) < 2 or max(map(len, rows)) < 2 or max(sizes) > MAX_CELL_CHARS:
        return False
    node = Frame(tree.ends[table], table, frame.figure, frame.caption)
    for index in range(table, rows[0][0].node):
        if tree.tags[index] == "caption" and (title := cell_text(writer, index)):
            writer.pieces.append(Piece(Text(title), node))
    lines = ["\t".join(cell_text(writer, cell.node) for cell in row).strip() for row in rows]
    if text := "\n".join(line for line in lines if line):
        writer.pieces.append(Piece(Text(text), node))
    return True


def cell_text(writer: Writer, index: int) -> str:
    """Read what a cell shows on one line."""
    tree = writer.tree
    parts, stop = [], tree.ends[index]
    while index < stop:
        tag = tree.tags[index]
        if tag == TEXT:
            parts.append(tree.texts[index])
        elif index in writer.sums.skipped or is_muted(tree, index, tag):
            index = tree.ends[index]
            continue
        elif tag == "br" or tag in BLOCKS:
            parts.append(" ")
        index += 1
    return " ".join("".join(parts).split())


def write_figures(writer: Writer, rows: list[list[Cell]], frame: Frame) -> bool:
    """Write a table that lays out pictures over their captions; False if no cell is a caption.

    A caption cell ends the figure made of the cells above it, so that it stands right after its pictures.
    """
    captions = {cell.node for row in rows for cell in row if is_caption_cell(writer, cell)}
    if not captions:
        return False
    waiting: list[Cell] = []
    for row in rows:
        waiting += [cell for cell in row if cell.node not in captions]
        for caption in (cell for cell in row if cell.node in captions):
            above = [cell for cell in waiting if cell.first <= caption.last and caption.first <= cell.last]
            if not above or len(waiting) > MAX_WAITING:
                above = waiting
            nodes = {cell.node for cell in above}
            waiting = [cell for cell in waiting if cell.node not in nodes]
            for cell in (*above, caption):
                write_cell(writer, cell, replace(frame, figure=caption.node))
    for cell in waiting:
        write_cell(writer, cell, frame)
    return True


def is_caption_cell(writer: Writer, cell: Cell) -> bool:
    """Say whether a cell is a caption by its class, or by that of the first element in it."""
    tree = writer.tree
    first = next((node for node in range(cell.node + 1, tree.ends[cell.node]) if tree.tags[node] != TEXT), cell.node)
    named = not CAPTION_WORDS.isdisjoint(words_at(tree, cell.node) | words_at(tree, first))
    return named and count_within(writer.sums.media, writer.tree, cell.node) == 0


def write_cell(writer: Writer, cell: Cell, frame: Frame) -> None:
    """Write what a cell holds."""
    stop = writer.tree.ends[cell.node]
    write_range(writer, cell.node, stop, replace(frame, end=stop, node=cell.node))
