"""The media store: normalised images as WARC `conversion` records, each found by (file, offset, length)."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from types import TracebackType
from typing import BinaryIO

from pipeline import warc
from pipeline.folder import Folder, open_input
from schemas.media import Media
from schemas.page import Origin

UNDATED = "1970-01-01T00:00:00Z"
"""WARC-Date of images whose capture has none (files of a folder): a clock would change the bytes."""


class MediaStore:
    """Writes one WARC file of the store; nothing of it exists before the context ends well."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = f"media/{name}.warc"
        self.offset = 0
        self.stream: BinaryIO | None = None
        self.exit = ExitStack()

    def __enter__(self) -> MediaStore:
        return self

    def add(self, media: Media, data: bytes, fetched: datetime | None) -> Origin:
        """Append an image; returns where it lies, the file relative to the dataset."""
        if self.stream is None:
            self.stream = self.exit.enter_context(self.folder.create(self.name))
        date = fetched.strftime("%Y-%m-%dT%H:%M:%SZ") if fetched else UNDATED
        record = warc.format_record(media.url, "conversion", f"image/{media.format}", date, data)
        self.stream.write(record)
        location = Origin(self.name, self.offset, len(record))
        self.offset += len(record)
        return location

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.exit.__exit__(kind, error, trace)


class StoredImages(AbstractContextManager["StoredImages"]):
    """Reads images back from the store, keeping a few of its files open."""

    def __init__(self, folder: Folder, open_files: int = 16) -> None:
        self.folder = folder
        self.open_files = open_files
        self.streams: dict[str, tuple[ExitStack, BinaryIO]] = {}

    def read(self, location: Origin) -> bytes:
        """Read the bytes of an image; a store that does not hold it is damaged, which is an error."""
        stream = self.open(location.file)
        record = warc.read_record_at(stream, location.offset, location.length, 1 << 30)
        if not isinstance(record, warc.Record):
            raise ValueError(f"{location.file}: no image at {location.offset} ({record})")
        return record.payload

    def open(self, name: str) -> BinaryIO:
        """Open a file of the store, closing the one opened longest ago when there are too many."""
        if name not in self.streams:
            if len(self.streams) >= self.open_files:
                oldest = next(iter(self.streams))
                self.streams.pop(oldest)[0].close()
            stack = ExitStack()
            self.streams[name] = (stack, stack.enter_context(open_input(self.folder.path(name))))
        return self.streams[name][1]

    def __exit__(self, *_: object) -> None:
        for stack, _stream in self.streams.values():
            stack.close()
