"""The assemble job's last stage: samples × the media store → shards, their index, and a view for Hugging Face.

In: the sample rows of one shard, in order of their keys. Out: `shard-000000.tar` (POSIX ustar, every header field
that is not content fixed), an index row per sample, and `obelics/shard-000000.parquet` with OBELICS's columns.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.folder import Folder, OpenFiles
from pipeline.stage import Inputs, Output, Unit
from pipeline.store import read_stored
from pipeline.tables import COMPRESSION, SAMPLES
from schemas.page import Origin
from schemas.sample import INTERLEAVED, Interleaved, Picture, to_members
from schemas.shard import INDEX_SCHEMA, shard_name

STAGE = "shard"
OBELICS_VIEW = f"{INTERLEAVED}/obelics"
BLOCK = tarfile.BLOCKSIZE
ROWS_AT_ONCE = 100

OBELICS_SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.string())),
        ("texts", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("general_metadata", pa.string()),
    ]
)
"""The columns of HuggingFaceM4/OBELICS: parallel lists of image URLs and texts, and JSON with the rest."""


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """How large a shard is."""

    samples: int = 1_000
    """Samples in a shard, on average: keys are dealt to shards by their hash (SPEC-corpus section 7)."""
    max_bytes: int = 500_000_000
    """Bytes of a shard, on average, where samples are large."""


class HashingStream(io.RawIOBase):
    """Passes bytes on to a stream, counting and hashing them."""

    def __init__(self, target: BinaryIO) -> None:
        self.target = target
        self.digest = hashlib.sha256()
        self.written = 0

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        self.target.write(data)
        self.digest.update(data)
        self.written += len(data)
        return len(data)

    def tell(self) -> int:
        """Give the position, as tarfile asks for it."""
        return self.written


def write_shard(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write one shard, its index rows and its view."""
    name = shard_name(unit.work.keys.index)
    folder, samples = output.folder, 0
    with (
        OpenFiles() as files,
        create_rows(folder, f"work/index/{name}.parquet", INDEX_SCHEMA) as index,
        create_rows(folder, f"{OBELICS_VIEW}/{name.removesuffix('.tar')}.parquet", OBELICS_SCHEMA) as view,
        folder.create(f"{INTERLEAVED}/{name}") as stream,
    ):
        hashing = HashingStream(stream)
        with tarfile.open(fileobj=cast(Any, hashing), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in inputs[SAMPLES.directory]:
                output.begin(samples)
                sample = load_sample(row, folder, files)
                index(write_sample(tar, sample, name))
                view(obelics_row(sample))
                output.keep(STAGE, "page")
                output.keep(STAGE, "image", sum(isinstance(item, int) for item in sample.items))
                samples += 1
    output.facts |= {
        "name": name,
        "samples": samples,
        "bytes": hashing.written,
        "sha256": hashing.digest.hexdigest(),
    }


def load_sample(row: dict[str, Any], folder: Folder, files: OpenFiles) -> Interleaved:
    """Fill a sample row with the bytes of its pictures."""
    pictures = []
    for image in row["images"]:
        location = Origin(**image["location"])
        known = {name: value for name, value in image.items() if name != "location"}
        pictures.append(Picture(**known, data=read_stored(files, folder, location)))
    return Interleaved(
        key=row["key"],
        url=row["url"],
        title=row["title"],
        language=row["language"],
        items=tuple(item["text"] if item["image"] is None else item["image"] for item in row["items"]),
        images=tuple(pictures),
        origin=Origin(**row["origin"]),
        fetched=row["fetched"],
        canonical=row["canonical"],
        published=row["published"],
        author=row["author"],
        licence=row["licence"],
    )


def write_sample(tar: tarfile.TarFile, sample: Interleaved, shard: str) -> dict[str, Any]:
    """Append a sample's members to a shard; returns its index row."""
    start = tar.offset
    offsets: dict[str, int] = {}
    for name, data in to_members(sample):
        info = tarfile.TarInfo(f"{sample.key}.{name}")
        info.size = len(data)
        info.mode = 0o644
        offsets[name] = tar.offset + BLOCK
        tar.addfile(info, io.BytesIO(data))
    names = [name for name in offsets if name != "json"]
    texts = [item for item in sample.items if isinstance(item, str)]
    return {
        "key": sample.key,
        "url": sample.url,
        "canonical": sample.canonical,
        "title": sample.title,
        "language": sample.language,
        "published": sample.published,
        "author": sample.author,
        "licence": sample.licence,
        "shard": shard,
        "offset": start,
        "length": tar.offset - start,
        "texts": len(texts),
        "chars": sum(map(len, texts)),
        "words": sum(len(text.split()) for text in texts),
        "parts": [
            {
                "name": name,
                "offset": offsets[name],
                "bytes": len(picture.data),
                "width_px": picture.width_px,
                "height_px": picture.height_px,
                "sha256": picture.sha256,
                "phash": picture.phash,
                "url": picture.url,
            }
            for name, picture in zip(names, sample.images, strict=True)
        ],
    }


def obelics_row(sample: Interleaved) -> dict[str, Any]:
    """Write a sample in the columns of OBELICS."""
    pictures = [sample.images[item] if isinstance(item, int) else None for item in sample.items]
    metadata = [
        picture
        and {
            "document_url": sample.url,
            "src": picture.url,
            "unformatted_src": picture.url,
            "alt_text": picture.alt,
            "original_width": picture.width_px,
            "original_height": picture.height_px,
            "format": picture.format,
        }
        for picture in pictures
    ]
    general = {
        "url": sample.url,
        "warc_filename": sample.origin.file,
        "warc_record_offset": sample.origin.offset,
        "warc_record_length": sample.origin.length,
    }
    return {
        "images": [picture and picture.url for picture in pictures],
        "texts": [item if isinstance(item, str) else None for item in sample.items],
        "metadata": json.dumps(metadata, ensure_ascii=False),
        "general_metadata": json.dumps(general, ensure_ascii=False),
    }


@contextmanager
def create_rows(folder: Folder, name: str, schema: pa.Schema) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Create a Parquet file of rows, which are written some hundred at a time; it is there when the context ends."""
    with folder.create(name) as stream, pq.ParquetWriter(stream, schema, compression=COMPRESSION) as writer:
        rows: list[dict[str, Any]] = []

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) >= ROWS_AT_ONCE:
                flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        yield add
        flush()


def merge_index(folder: Folder, shards: list[str]) -> None:
    """Join the shards' index parts into `index.parquet`, a shard at a time."""
    with (
        folder.create(f"{INTERLEAVED}/index.parquet") as stream,
        pq.ParquetWriter(stream, INDEX_SCHEMA, compression=COMPRESSION) as writer,
    ):
        for name in shards:
            with folder.open(f"work/index/{name}.parquet") as part:
                writer.write_table(pq.read_table(part))
