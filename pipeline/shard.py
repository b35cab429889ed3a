"""The assemble job's last stages: rows of samples × the media store → shards, and their index.

In: the rows of one shard, in order of their keys. Out: `shard-000000.tar` (POSIX ustar, every header field that is
not content fixed), and an index row per sample. What differs between interleaved samples, pairs and videos is a
`Kind`; that of interleaved ones is here, with a view for Hugging Face: `obelics/shard-000000.parquet` has OBELICS's
columns. The others are in `kinds`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.folder import Folder, OpenFiles
from pipeline.stage import Inputs, Output, Unit
from pipeline.store import read_stored
from pipeline.tables import COMPRESSION, SAMPLES, Table
from schemas.media import read_scores, score_rows
from schemas.page import Origin
from schemas.sample import INTERLEAVED, Interleaved, Picture, to_members
from schemas.shard import INDEX_SCHEMA, index_name, shard_name

STAGE = "shard"
OBELICS_VIEW = f"{INTERLEAVED}/obelics"
BLOCK = tarfile.BLOCKSIZE
ROWS_AT_ONCE = 100
Sample = TypeVar("Sample")
Row = dict[str, Any]

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


@dataclass(frozen=True, slots=True)
class View(Generic[Sample]):
    """Another form of the samples of a shard: a Parquet file of its own for each shard."""

    directory: str
    schema: pa.Schema
    row: Callable[[Sample], Row]


@dataclass(frozen=True, slots=True)
class Kind(Generic[Sample]):
    """A kind of samples: the folder `name` of their shards, and how rows of `table` become what is written.

    `index_row` gets a sample and the offsets of its members' bytes; `counts` says what the funnel counts of a sample.
    """

    name: str
    stage: str
    table: Table
    load: Callable[[Row, Folder, OpenFiles], Sample]
    members: Callable[[Sample], list[tuple[str, bytes]]]
    index_schema: pa.Schema
    index_row: Callable[[Sample, Mapping[str, int]], Row]
    counts: Callable[[Sample], Mapping[str, int]]
    view: View[Sample] | None = None

    @property
    def work(self) -> str:
        """The directory of the shards' index parts."""
        return f"work/index/{self.name}"

    @property
    def directories(self) -> tuple[str, ...]:
        """All directories that hold a file for each shard."""
        return (self.name, self.work, *([self.view.directory] if self.view else []))


def write_shard(unit: Unit, inputs: Inputs, output: Output, *, kind: Kind[Any] | None = None) -> None:
    """Write one shard, its index rows and its view; without a `kind` it is an interleaved one."""
    kind = kind or INTERLEAVED_KIND
    name = shard_name(unit.work.keys.index)
    folder, samples = output.folder, 0
    with ExitStack() as stack:
        files = stack.enter_context(OpenFiles())
        index = stack.enter_context(create_rows(folder, f"{kind.work}/{name}.parquet", kind.index_schema))
        view = stack.enter_context(create_view(folder, name, kind.view))
        hashing = HashingStream(stack.enter_context(folder.create(f"{kind.name}/{name}")))
        with tarfile.open(fileobj=cast(Any, hashing), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in inputs[kind.table.directory]:
                output.begin(samples)
                sample = kind.load(row, folder, files)
                index(write_sample(tar, sample, name, kind))
                view(sample)
                for thing, count in kind.counts(sample).items():
                    output.keep(kind.stage, thing, count)
                samples += 1
    output.facts |= {
        "name": name,
        "samples": samples,
        "bytes": hashing.written,
        "sha256": hashing.digest.hexdigest(),
    }


def write_sample(tar: tarfile.TarFile, sample: Any, shard: str, kind: Kind[Any] | None = None) -> Row:
    """Append a sample's members to a shard; returns its index row."""
    kind = kind or INTERLEAVED_KIND
    start = tar.offset
    offsets: dict[str, int] = {}
    for name, data in kind.members(sample):
        info = tarfile.TarInfo(f"{sample.key}.{name}")
        info.size = len(data)
        info.mode = 0o644
        offsets[name] = tar.offset + BLOCK
        tar.addfile(info, io.BytesIO(data))
    return kind.index_row(sample, offsets) | {"shard": shard, "offset": start, "length": tar.offset - start}


@contextmanager
def create_view(folder: Folder, shard: str, view: View[Sample] | None) -> Iterator[Callable[[Sample], None]]:
    """Create the view of a shard, if its kind has one."""
    if view is None:
        yield lambda sample: None
        return
    with create_rows(folder, f"{view.directory}/{shard.removesuffix('.tar')}.parquet", view.schema) as add:
        yield lambda sample: add(view.row(sample))


@contextmanager
def create_rows(folder: Folder, name: str, schema: pa.Schema) -> Iterator[Callable[[Row], None]]:
    """Create a Parquet file of rows, which are written some hundred at a time; it is there when the context ends."""
    with folder.create(name) as stream, pq.ParquetWriter(stream, schema, compression=COMPRESSION) as writer:
        rows: list[Row] = []

        def add(row: Row) -> None:
            rows.append(row)
            if len(rows) >= ROWS_AT_ONCE:
                flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        yield add
        flush()


def merge_index(folder: Folder, shards: list[str], kind: Kind[Any] | None = None) -> None:
    """Join the shards' index parts into `index.parquet`, a shard at a time."""
    kind = kind or INTERLEAVED_KIND
    with (
        folder.create(index_name(kind.name)) as stream,
        pq.ParquetWriter(stream, kind.index_schema, compression=COMPRESSION) as writer,
    ):
        for name in shards:
            with folder.open(f"{kind.work}/{name}.parquet") as part:
                writer.write_table(pq.ParquetFile(part).read(use_threads=False))


# Interleaved samples


def load_sample(row: Row, folder: Folder, files: OpenFiles) -> Interleaved:
    """Fill a sample row with the bytes of its pictures."""
    pictures = []
    for image in row["images"]:
        location = Origin(**image["location"])
        known = {name: value for name, value in image.items() if name not in ("location", "scores")}
        data = read_stored(files, folder, location)
        pictures.append(Picture(**known, data=data, scores=read_scores(image["scores"])))
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


def index_row(sample: Interleaved, offsets: Mapping[str, int]) -> Row:
    """Write what the index says of a sample."""
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
                "scores": score_rows(picture.scores),
            }
            for name, picture in zip(names, sample.images, strict=True)
        ],
    }


def count_images(sample: Interleaved) -> dict[str, int]:
    """Count a page and the places where it shows an image."""
    return {"page": 1, "image": sum(isinstance(item, int) for item in sample.items)}


def obelics_row(sample: Interleaved) -> Row:
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


INTERLEAVED_KIND = Kind(
    name=INTERLEAVED,
    stage=STAGE,
    table=SAMPLES,
    load=load_sample,
    members=to_members,
    index_schema=INDEX_SCHEMA,
    index_row=index_row,
    counts=count_images,
    view=View(OBELICS_VIEW, OBELICS_SCHEMA, obelics_row),
)
