"""The same picture again: placements of a page → those that it has shown before; shown pictures → those of templates.

    placed pictures, in order     → same_in_page → what is left out, by position, and why
    SHOWN rows, by picture        → settle_templates → TEMPLATES, by document

`place` writes a row of SHOWN for each place of a picture that the image rules keep. Rows of a picture come in order of
their documents, as their keys end in them, so a picture on any number of pages is passed through and never held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.duplicates import repeated_paragraphs
from pipeline.perceptual import bits_apart, to_words
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import Table
from schemas.page import KEY_CHARS, Refusal

SAME_IMAGE = "same_image_in_page"
TEMPLATE_IMAGE = "template_image"
MAX_HELD = 256
"""Pictures of a page, the first ones, that those after them are compared with by look; equal bytes are always found."""

SHOWN = Table("work/shown", pa.schema([("key", pa.string())]))
"""`key` is of a picture (`picture_name`), followed by the key of a document that shows it."""
TEMPLATES = Table("work/templates", pa.schema([("key", pa.string()), ("picture", pa.string())]))
"""A document (`key`) and a picture that it shows, which too many pages show."""


def picture_name(sha256: str) -> str:
    """Name a picture by the beginning of its hash: 96 bits."""
    return sha256[:KEY_CHARS]


def same_in_page(placed: Mapping[int, Mapping[str, Any]], max_bits: int) -> dict[int, Refusal]:
    """Find the pictures, by position, that the page has shown before: the first one stands.

    `placed` are rows of placements without a reason. The same are equal files, and pictures whose hashes of 256 bits
    differ in at most `max_bits`; below 0 nothing is the same. A picture of a single colour has no look to compare.
    """
    found: dict[int, Refusal] = {}
    files: dict[str, int] = {}
    places: list[int] = []
    held = np.empty((MAX_HELD, 4), np.uint64)
    for position in sorted(placed) if max_bits >= 0 else ():
        row = placed[position]
        if (first := files.setdefault(row["sha256"], position)) != position:
            found[position] = Refusal(SAME_IMAGE, f"as item {first}, the same file")
            continue
        look = bytes.fromhex(row["phash"])
        if not any(look):
            continue
        (words,) = to_words([look])
        apart = np.bitwise_count(held[: len(places)] ^ words).sum(axis=1, dtype=np.int64)
        if len(near := np.flatnonzero(apart <= max_bits)):
            first = places[int(near[0])]
            bits = bits_apart(look, bytes.fromhex(placed[first]["phash"]))
            found[position] = Refusal(SAME_IMAGE, f"as item {first}, {bits} bits apart")
        elif len(places) < MAX_HELD:
            held[len(places)] = words
            places.append(position)
    return found


def template_in_page(placed: Mapping[int, Mapping[str, Any]], names: Iterable[str]) -> dict[int, Refusal]:
    """Find the pictures, by position, that are named as those of templates."""
    known = frozenset(names)
    return {
        position: Refusal(TEMPLATE_IMAGE, "on too many pages")
        for position, row in placed.items()
        if picture_name(row["sha256"]) in known
    }


def settle_templates(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Tell documents which of their pictures more than `max_pages` pages show."""
    most = output.job.config.filters.pages.max_pages
    for row in repeated_paragraphs(inputs[SHOWN.directory], most + 1):
        output.write(TEMPLATES, {"key": row["key"], "picture": row["paragraph"]}, 128)
