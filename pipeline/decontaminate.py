"""The index of an evaluation set, which builds keep out of the corpus: a folder of pictures, or shards → SET.parquet.

    write_set: read_pictures(path) → index_pictures → Known(sha256, look, name, thumbnail, embedding) → write_index

Files pass through the limits of `media` before they are decoded; what is refused there is counted and left out of the
index. Builds read it in `evaluation`.
"""

from __future__ import annotations

import io
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console

from pipeline.embed import NOT_EMBEDDED, Embedder, Vector, hold_embedder, parse_embedder
from pipeline.evaluation import EVALUATION_SCHEMA
from pipeline.folder import Folder, locate, open_input
from pipeline.inspect import scan
from pipeline.media import MediaConfig, normalise_image
from pipeline.nearest import EMBEDDING, index_metadata
from pipeline.picture_models import digest_of
from pipeline.report import counted, refused, say
from pipeline.score import ScoreConfig
from pipeline.stored_pictures import batches
from schemas.media import STORED

SUFFIXES = frozenset(["jpg", "jpeg", "png", "gif", "webp", "bmp", "avif"])
THUMBNAIL_PX = 96
THUMBNAIL_QUALITY = 70
ROWS_AT_ONCE = 1024
TOLD_EVERY_S = 2.0
PLAIN_EVERY_S = 10.0
"""Seconds between lines of progress where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Known:
    """A picture of an evaluation set: a row of `EVALUATION_SCHEMA`."""

    sha256: str
    look: bytes
    name: str
    thumbnail: bytes
    embedding: Vector | None = None


def write_set(source: str, out: str, model: str = "", providers: tuple[str, ...] = ()) -> None:
    """Write the index of the pictures at `source` to the file `out`, whole or not at all, and say what is in it.

    With a model, as `filters.evaluation.model` names one, it holds an embedding of each picture, too.

    Progress and the closing line go to stderr. What cannot be read or written, and a source without a picture, is a
    `UserError`.
    """
    console = Console(stderr=True)
    config, refusals = MediaConfig(), dict[str, int]()
    parsed = parse_embedder(model, "--model") if model else None
    embedder = hold_embedder(parsed, digest_of(parsed), providers or ScoreConfig().providers) if parsed else None
    try:
        with (
            Folder(posixpath.dirname(out)).create(posixpath.basename(out)) as stream,
            console.status("reading pictures") as status,
        ):
            files = tell_progress(read_pictures(source, config), console, status.update)
            known = index_pictures(files, config, refusals, embedder)
            count = write_index(known, stream, (model, digest_of(parsed)) if parsed else None)
            told = ", ".join(f"{number:,} {reason}" for reason, number in sorted(refusals.items()))
            if not count:
                raise refused(f"{source}: no picture that can be read" + (f"; refused: {told}" if told else ""))
    except OSError as error:
        raise refused(f"{error.filename or out}: {error.strerror or error}") from None
    say(console, f"wrote {out}: {counted(count, 'picture')}; refused: {told or 'none'}")


def tell_progress(
    files: Iterable[tuple[str, bytes]], console: Console, show: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    """Pass files on and say every few seconds how many there were: by `show` on a terminal, else in lines."""
    begun = time.monotonic()
    every_s = TOLD_EVERY_S if console.is_terminal else PLAIN_EVERY_S
    due = begun + every_s
    for number, file in enumerate(files):
        now = time.monotonic()
        if now >= due:
            due = now + every_s
            line = f"{number:,} pictures read, {number / (now - begun):,.0f}/s"
            if console.is_terminal:
                show(line)
            else:
                say(console, line)
        yield file


def read_pictures(path: str, config: MediaConfig) -> Iterator[tuple[str, bytes]]:
    """Yield the picture files of a folder, of the shards in it or of one shard: (name, bytes), ordered by name.

    No more than one byte over `config.max_bytes` is read of a file, so that a longer one is refused as such.
    """
    system, inside = locate(path)
    if system.isfile(inside):
        yield from read_file(path, posixpath.basename(inside), config)
        return
    if not system.exists(inside):
        raise refused(f"{path}: no such file or folder")
    protocol = path.partition("://")[0] + "://" if "://" in path else ""
    for found in sorted(system.find(inside)):
        yield from read_file(protocol + found, posixpath.relpath(found, inside), config)


def read_file(path: str, name: str, config: MediaConfig) -> Iterator[tuple[str, bytes]]:
    """Yield a file that has a picture's suffix, or the pictures of a shard; other files are passed over."""
    if name.lower().endswith(".tar"):
        with open_input(path) as stream, open_input(path) as jump:
            yield from read_shard(stream, jump, path, name, config)
    elif is_picture(name):
        with open_input(path) as stream:
            yield name, stream.read(config.max_bytes + 1)


def read_shard(
    stream: BinaryIO, jump: BinaryIO, path: str, name: str, config: MediaConfig
) -> Iterator[tuple[str, bytes]]:
    """Yield the pictures of a tar, whatever program wrote it; `jump` is the same file, opened again."""
    for members in scan(stream, path):
        for part, (offset, size) in members.places.items():
            if is_picture(part):
                jump.seek(offset)
                yield f"{name}/{members.key}.{part}", jump.read(min(size, config.max_bytes + 1))


def is_picture(name: str) -> bool:
    """Tell by its suffix whether a file is to be read as a picture."""
    return name.lower().rpartition(".")[2] in SUFFIXES


def index_pictures(
    files: Iterable[tuple[str, bytes]], config: MediaConfig, refusals: dict[str, int], embedder: Embedder | None = None
) -> Iterator[Known]:
    """Hash pictures as builds do, embed them and make thumbnails.

    What `media` refuses is counted in `refusals`, by reason, and so is what the model gives no embedding of, which
    stays in the index. All embeddings have one length.
    """
    dimensions: set[int] = set()
    for batch in batches(hash_pictures(files, config, refusals), ScoreConfig().batch):
        pictures = [picture for _, picture in batch if picture is not None]
        vectors = embedder(pictures) if embedder else [None] * len(pictures)
        dimensions |= {len(vector) for vector in vectors if vector is not None}
        if len(dimensions) > 1:
            raise refused(f"--model: gave embeddings of {min(dimensions)} and of {max(dimensions)} numbers")
        for (known, _), picture, vector in zip(batch, pictures, vectors, strict=True):
            if embedder and vector is None:
                refusals[NOT_EMBEDDED] = refusals.get(NOT_EMBEDDED, 0) + 1
            yield replace(known, thumbnail=make_thumbnail(picture), embedding=vector)


def hash_pictures(
    files: Iterable[tuple[str, bytes]], config: MediaConfig, refusals: dict[str, int]
) -> Iterator[tuple[Known, Image.Image | None]]:
    """Hash pictures as builds do, and give them as builds store them."""
    for name, data in files:
        media, stored = normalise_image("", data, config)
        if media.status != STORED:
            refusals[media.reason] = refusals.get(media.reason, 0) + 1
            continue
        picture = Image.open(io.BytesIO(stored)).convert("RGB")
        yield Known(media.sha256_original, bytes.fromhex(media.phash), name, b""), picture


def make_thumbnail(picture: Image.Image) -> bytes:
    """Write a JPEG of at most `THUMBNAIL_PX` a side; the picture itself is shrunk."""
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def write_index(pictures: Iterable[Known], stream: BinaryIO, model: tuple[str, str] | None = None) -> int:
    """Write an index, some rows at a time; returns how many pictures it holds.

    `model` is what embedded them and its SHA-256; it is told in the metadata. No embedding at all is a `UserError`.
    """
    rest, count = iter(pictures), 0
    first = list(islice(rest, ROWS_AT_ONCE))
    schema = EVALUATION_SCHEMA
    if model and first:
        length = next((len(one.embedding) for one in first if one.embedding is not None), 0)
        if not length:
            raise refused(f"--model: {model[0]} gave no embedding of the first {counted(len(first), 'picture')}")
        schema = schema.append(EMBEDDING).with_metadata(index_metadata(*model, length))
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for known in chain([first] if first else [], iter(lambda: list(islice(rest, ROWS_AT_ONCE)), [])):
            # Names of files may hold bytes that are no UTF-8.
            rows = [
                {
                    "sha256": one.sha256,
                    "look": one.look,
                    "name": one.name.encode("utf-8", "replace").decode(),
                    "thumbnail": one.thumbnail,
                    "embedding": one.embedding,
                }
                for one in known
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(known)
    return count
