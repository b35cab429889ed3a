"""Captions: the pieces of a page → its items, each picture with the caption that the page prints for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from pipeline.pieces import Chosen
from schemas.document import CAPTION, FIGCAPTION, ImageRef, Item, Said, Text

MAX_CAPTION_CHARS = 5_000
"""Characters above which a text is no caption (it would be repeated for every picture of its figure)."""

MAX_CAPTION_TEXTS = 3
"""Texts right after a picture that can be its caption: the caption, a credit, a place."""

MIN_LINES_ABOVE = 3
"""Pictures from which lines in bold above all of them are their captions."""


@dataclass(frozen=True, slots=True)
class Run:
    """Pictures that follow each other, and the marked texts right after them, all by position."""

    images: list[int]
    texts: list[int]


def attach_captions(pieces: list[Chosen]) -> tuple[Item, ...]:
    """Give each picture the caption that the page prints for it: its figure's, or the one right after its block.

    A caption that floats one block below its picture is put back right after it. A line that only says whose the
    picture is stays with the picture: it is no text to read.
    """
    captions, unmarked = figure_captions(pieces)
    marked = frozenset(captions)
    runs = find_runs(pieces)
    for run in runs:
        # Pictures in blocks of their own do not share what follows the last of them.
        block = pieces[run.images[-1]].block
        beside = [image for image in run.images if pieces[image].block == block]
        set_caption(captions, beside, caption_of(pieces, run.texts))
    moved = floating_captions(pieces, runs, captions)
    of_figure = marked | (unmarked.keys() - captions.keys())
    captions = (unmarked | captions) or captions_above(pieces)
    order = sorted(range(len(pieces)), key=lambda position: (moved.get(position, position), position))
    said = {position for run in runs for position in run.texts} | moved.keys()
    figures = {pieces[position].figure for position in captions} - {0}
    items: list[Item] = []
    for position in order:
        piece = pieces[position]
        stays_with_picture = piece.credit and (position in said or piece.figure in figures)
        twice = piece.caption and items[-1:] == [piece.item]
        if not stays_with_picture and not twice:
            kind = FIGCAPTION if piece.in_figure and position in of_figure else CAPTION
            items.append(with_caption(piece.item, captions.get(position, ""), kind))
    return tuple(items)


def with_caption(item: Item, caption: str, kind: str) -> Item:
    """Set the caption of a picture, also as one of its texts; anything else stays as it is."""
    if isinstance(item, ImageRef) and caption:
        return replace(item, caption=caption, texts=(*item.texts, Said(kind, caption)))
    return item


def caption_of(pieces: list[Chosen], texts: list[int]) -> str:
    """Join the texts of a caption into one line; empty where they are too long to be one."""
    parts = dict.fromkeys(item.text for item in (pieces[position].item for position in texts) if isinstance(item, Text))
    return " ".join(" ".join(parts).split()) if sum(map(len, parts)) <= MAX_CAPTION_CHARS else ""


def set_caption(captions: dict[int, str], images: list[int], caption: str) -> None:
    """Caption the pictures that have none yet."""
    if caption:
        for image in images:
            captions.setdefault(image, caption)


def figure_captions(pieces: list[Chosen]) -> tuple[dict[int, str], dict[int, str]]:
    """Find the captions of pictures in figures, by position: those marked, and all text of the figures without one."""
    marked: dict[int, list[int]] = defaultdict(list)
    plain: dict[int, list[int]] = defaultdict(list)
    images: dict[int, list[int]] = defaultdict(list)
    for position, piece in enumerate(pieces):
        figure = piece.figure
        if figure and isinstance(piece.item, ImageRef):
            images[figure].append(position)
        elif figure and isinstance(piece.item, Text):
            (marked if piece.caption else plain)[figure].append(position)
    captions: dict[int, str] = {}
    unmarked: dict[int, str] = {}
    for figure, positions in images.items():
        found = captions if figure in marked else unmarked
        set_caption(found, positions, caption_of(pieces, marked.get(figure) or plain.get(figure, [])))
    return captions, unmarked


def find_runs(pieces: list[Chosen]) -> list[Run]:
    """Find the runs of pictures, each with the marked texts that follow it and are of no other figure."""
    runs: list[Run] = []
    last = -1
    for position, piece in enumerate(pieces):
        if isinstance(piece.item, ImageRef):
            if not runs or last != position - 1 or runs[-1].texts:
                runs.append(Run([], []))
            runs[-1].images.append(position)
            last = position
        elif last == position - 1 and runs and is_loose_caption(piece, pieces[runs[-1].images[-1]]):
            if len(runs[-1].texts) < MAX_CAPTION_TEXTS:
                runs[-1].texts.append(position)
            last = position
    return runs


def is_loose_caption(piece: Chosen, image: Chosen) -> bool:
    """Say whether a piece is a marked caption that can belong to a picture outside its own figure."""
    # What follows a picture in a figure that begins before the picture's is in a figure around it; a figure that is the
    # caption's own block holds no picture.
    fits = piece.figure <= image.figure or piece.figure == piece.block
    return isinstance(piece.item, Text) and piece.caption and fits


def floating_captions(pieces: list[Chosen], runs: list[Run], captions: dict[int, str]) -> dict[int, int]:
    """Find captions one block below pictures without one, caption these, and say after which picture each goes."""
    moved: dict[int, int] = {}
    for run in runs:
        late = run.images[-1] + 2
        if late >= len(pieces) or run.texts or any(image in captions for image in run.images):
            continue
        between, caption, after = pieces[late - 1], pieces[late], pieces[late + 1 : late + 2]
        if not isinstance(between.item, Text) or not isinstance(caption.item, Text) or not caption.caption:
            continue
        if caption.figure == 0 and not any(isinstance(piece.item, ImageRef) for piece in after):
            set_caption(captions, run.images, caption_of(pieces, [late]))
            moved[late] = run.images[-1]
    return moved


def captions_above(pieces: list[Chosen]) -> dict[int, str]:
    """Caption the pictures of a page that sets a line in bold right above each of them, and none below the last."""
    images = [position for position, piece in enumerate(pieces) if isinstance(piece.item, ImageRef)]
    if len(images) < MIN_LINES_ABOVE or any(piece.bold for piece in pieces[images[-1] + 1 : images[-1] + 2]):
        return {}
    if not all(position > 0 and pieces[position - 1].bold for position in images):
        return {}
    return {position: caption_of(pieces, [position - 1]) for position in images}
