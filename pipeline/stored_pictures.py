"""The stored pictures, each decoded once for all its URLs, in batches: what models are given to judge.

list_pictures   media rows, by URL → the pictures that are stored, by SHA-256
decoded         pictures, by SHA-256 → each once, decoded, with the URLs that show it → `batches`
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, TypeVar

import pyarrow as pa
from PIL import Image

from pipeline.folder import Folder, OpenFiles
from pipeline.stage import Inputs, Output, Unit
from pipeline.store import read_stored
from pipeline.tables import MEDIA, Table
from schemas.media import STORED
from schemas.page import ORIGIN_TYPE, Origin

Known = TypeVar("Known")
PICTURES = Table(
    "work/pictures",
    pa.schema([("key", pa.string()), ("media", pa.string()), ("url", pa.string()), ("location", ORIGIN_TYPE)]),
)
"""A stored picture by its SHA-256 (`key`); `media` is the key of its URL."""
PICTURES_PER_UNIT = 2_000
MAX_BATCH_PIXELS = 64_000_000
"""Pixels of the pictures that are held at once: 200 MB. One picture may have as many (`media.max_pixels`)."""

MAX_URLS = 1_000
"""URLs of one picture that are held at once."""


def list_pictures(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the stored pictures of a range of URLs."""
    for row in inputs[MEDIA.directory]:
        if row["status"] == STORED:
            told = {"media": row["key"], "url": row["url"], "location": row["location"]}
            output.write(PICTURES, {"key": row["sha256"]} | told)


Shown = list[dict[str, Any]]
"""The rows of `PICTURES` of one picture: the URLs that show it."""


def decoded(inputs: Inputs, files: OpenFiles, output: Output) -> Iterator[tuple[Shown, Image.Image | None]]:
    """Yield each picture of a range once, decoded, with the URLs that show it; `None` where it cannot be had."""
    for number, shown in enumerate(url_chunks(inputs[PICTURES.directory])):
        if output.begin(number) is not None:
            yield shown, None
            continue
        yield shown, decode_stored(shown[0]["location"], files, output.folder)


def decode_stored(location: Mapping[str, Any], files: OpenFiles, folder: Folder) -> Image.Image | None:
    """Decode a stored picture to RGB; `None` where it cannot be."""
    data = read_stored(files, folder, Origin(**location))
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None


def url_chunks(rows: Iterator[dict[str, Any]]) -> Iterator[Shown]:
    """Yield the URLs of each picture, at most `MAX_URLS` at once: a spacer may have a million of them."""
    for _, same in groupby(rows, key=lambda row: str(row["key"])):
        while shown := list(islice(same, MAX_URLS)):
            yield shown


def batches(
    pictures: Iterable[tuple[Known, Image.Image | None]], most: int
) -> Iterator[list[tuple[Known, Image.Image | None]]]:
    """Join pictures, with what is known of each, to batches of at most `most` pictures and `MAX_BATCH_PIXELS`."""
    batch: list[tuple[Known, Image.Image | None]] = []
    pixels = 0
    for shown, picture in pictures:
        more = picture.width * picture.height if picture else 0
        if batch and (len(batch) == most or pixels + more > MAX_BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append((shown, picture))
        pixels += more
    if batch:
        yield batch
