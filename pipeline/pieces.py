"""What the walk writes: the pieces of a page in reading order, and the frames (block-level elements) they stand in."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.document import Item


@dataclass(slots=True)
class Frame:
    """A block-level element: its node, the number of the frame around it, and its pieces, `first` to `stop` - 1.

    `media` counts the media in it (while it is open: those before it); `caption`: it is a caption, or within one;
    `figure`: the element that groups its pieces into a picture and its caption, 0 for none; `lines`: it keeps lines.
    """

    node: int
    tag: str
    outer: int
    first: int
    media: int = 0
    stop: int = 0
    lines: bool = False
    caption: bool = False
    figure: int = 0


@dataclass(slots=True)
class Piece:
    """A block of text or a medium (`text` is empty): its element and its frame.

    `linked` and `set_off` count its characters in links, and in italics or small print. `figure` is the element that
    groups a picture with its caption where that is no frame around it.
    """

    node: int
    frame: int
    text: str = ""
    linked: int = 0
    set_off: int = 0
    figure: int = 0


@dataclass(slots=True)
class Reading:
    """What a page shows: pieces in reading order and frames in document order; frame 0 is the whole page."""

    pieces: list[Piece]
    frames: list[Frame]


def figure_of(reading: Reading, piece: Piece) -> int:
    """Find the element that groups a piece into a figure; 0 for none."""
    return piece.figure or reading.frames[piece.frame].figure


@dataclass(frozen=True, slots=True)
class Chosen:
    """A piece that is content, as an item: the node of its block, that of its figure (0: none), and what it is.

    A `caption` says what a picture shows, a `credit` only whose it is; `bold` is a short line beside one, all
    in bold. `position` is that of the piece in the reading; `in_figure`: its figure is a `figure` element.
    """

    item: Item
    block: int
    figure: int
    caption: bool
    credit: bool = False
    bold: bool = False
    position: int = 0
    in_figure: bool = False
