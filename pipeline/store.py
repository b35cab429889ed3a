"""The media store: images, frames and clips as WARC `conversion` records, each found by (file, offset, length)."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import BinaryIO

from pipeline import warc
from pipeline.folder import Folder, OpenFiles
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
        """Append an image or clip; returns where it lies, the file relative to the dataset."""
        if self.stream is None:
            self.stream = self.exit.enter_context(self.folder.create(self.name))
        date = fetched.strftime("%Y-%m-%dT%H:%M:%SZ") if fetched else UNDATED
        content_type = f"{'video' if media.format == 'mp4' else 'image'}/{media.format}"
        record = warc.format_record(media.url, "conversion", content_type, date, data)
        self.stream.write(record)
        location = Origin(self.name, self.offset, len(record))
        self.offset += len(record)
        return location

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.exit.__exit__(kind, error, trace)


def read_stored(files: OpenFiles, folder: Folder, location: Origin) -> bytes:
    """Read the bytes of an image back; a store that does not hold it is damaged, which is an error."""
    record = warc.read_record_at(files.get(folder.path(location.file)), location.offset, location.length, 1 << 30)
    if not isinstance(record, warc.Record):
        raise ValueError(f"{location.file}: no image at {location.offset} ({record})")
    return record.payload
