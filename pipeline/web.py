"""What was got from the web, for good: a WARC log and a ledger, whose rows say what became of every URL asked for.

    entry (Asked, bytes) → web/KIND-NAME-000.warc: the bytes as a record, then the ledger row as a `metadata` record
    a log that ends      → web/KIND-NAME-000.parquet: its ledger rows

On a local disk an entry is written at once and whole, so a killed process loses nothing that it had: `recover` ends
its log. Elsewhere files appear only when they end, so logs are kept short. Nothing here is ever deleted: it cannot be
had again.
"""

from __future__ import annotations

import io
import os
import posixpath
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline import warc
from pipeline.folder import Folder, is_local, locate
from pipeline.stage import Output
from pipeline.tables import ASKED, PartWriter, Table, parts_of
from pipeline.urls import host_of
from schemas.asked import (
    FAILED,
    GOT,
    IMAGE,
    REFUSED,
    Asked,
    asked_from_json,
    asked_from_row,
    asked_to_json,
    asked_to_row,
)
from schemas.page import KEY_CHARS, TIME_TYPE, Origin, key_of

LISTED = Table("work/listed", pa.schema([("key", pa.string()), ("url", pa.string())]))
"""A page of a URL list."""

PAGES = Table("work/pages", pa.schema([("key", pa.string())]))
"""A listed page that was got; `key` is its place in the logs. They may hold pages that no list names any more."""

REQUEST_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("at", pa.string()),
        ("hops", pa.int32()),
        ("tries", pa.int32()),
        ("before", pa.string()),
    ]
)
"""A URL to ask for: `at` is where (elsewhere than `url` after redirects, of which there were `hops`), `before` the
reason of the last passing failure. The first half of `key` names the host that is asked, or its lane."""

LANE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("host", pa.string()),
        ("delay_s", pa.float64()),
        ("connections", pa.int32()),
        ("start_after_s", pa.float64()),
        ("rules", pa.string()),
    ]
)


def requests_table(number: int) -> Table:
    """Give the table of what is to be asked for in a round."""
    return Table(f"work/requests-{number}", REQUEST_SCHEMA)


def queue_table(number: int) -> Table:
    """Give the table of the requests that the hosts allow; the first half of a `key` names the lane."""
    return Table(f"work/queue-{number}", REQUEST_SCHEMA)


def lanes_table(number: int) -> Table:
    """Give the table of the lanes of a round: a lane's share of what its host bears, and the host's rules."""
    return Table(f"work/lanes-{number}", LANE_SCHEMA)


HOSTS = Table(
    "web/hosts",
    pa.schema([("key", pa.string()), ("host", pa.string()), ("rules", pa.string()), ("asked", TIME_TYPE)]),
)
"""What a host allows, as it said when it was `asked`; the first half of `key` names the host, the rest is zeros."""

HOST_CHARS = KEY_CHARS // 2
"""Characters of a request's key that name its host or lane; the others name its URL."""
LOG_BYTES = 64 << 20
LOG_ENTRIES = 50_000
LOG_S = 60.0
"""Seconds after which a log ends where an open one cannot be seen."""
ENTRY_BYTES = 1 << 30
RECORD_END_BYTES = 4
"""Two line ends stand behind every record."""
OPEN = ".open"
ORIGINAL = "original"
"""What logs of images are called that are kept as they came; others are called after what was asked for."""
IN_DATASET = "dataset://"
"""How the names of the dataset's own files begin among sources: it may be moved as a whole."""


class WebLog:
    """Writes entries of one unit; use it as a context."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name
        self.number = len([part for part in folder.names(ASKED.directory) if part.startswith(name)])
        self.local = is_local(locate(folder.path(ASKED.directory))[0])
        self.log: OpenLog | None = None
        self.entries = 0

    def __enter__(self) -> WebLog:
        return self

    def add(self, asked: Asked, record: tuple[str, str, bytes] | None = None) -> Asked:
        """Append what became of a URL; `record` is the type, content type and block of the bytes that are kept."""
        if self.log is None:
            self.log = OpenLog(self.folder, f"{self.name}-{self.number:03d}", self.local)
            self.number += 1
        self.entries += 1
        asked = self.log.add(asked, record)
        stale = not self.local and time.monotonic() - self.log.begun >= LOG_S
        if stale or self.log.offset >= LOG_BYTES or len(self.log.rows) >= LOG_ENTRIES:
            self.end()
        return asked

    def end(self) -> None:
        """End the open log; the next entry begins another."""
        if self.log is not None:
            self.log.end()
            self.log = None

    def __exit__(self, *_: object) -> None:
        # Also when something failed: what was asked for stays asked for.
        self.end()


class OpenLog:
    """One WARC file of the log while it is written."""

    def __init__(self, folder: Folder, name: str, local: bool) -> None:
        self.folder = folder
        self.file = f"{ASKED.directory}/{name}.warc"
        self.rows: list[Asked] = []
        self.offset = 0
        self.begun = time.monotonic()
        self.local = local
        self.stream: BinaryIO = io.BytesIO()
        if local:
            path = open_path(folder, self.file)
            os.makedirs(posixpath.dirname(path), exist_ok=True)
            self.stream = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `end`

    def add(self, asked: Asked, record: tuple[str, str, bytes] | None) -> Asked:
        """Write an entry; returns the row with the place of its record."""
        date = (asked.asked or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        block = b""
        if record is not None:
            kind, content_type, payload = record
            block = warc.format_record(asked.final_url or asked.url, kind, content_type, date, payload)
            asked = replace(asked, location=Origin(self.file, self.offset, len(block)))
        entry = block + warc.format_record(asked.url, "metadata", "application/json", date, asked_to_json(asked))
        written = self.stream.write(entry)
        if written != len(entry):
            raise OSError(28, os.strerror(28), self.file)
        self.offset += len(entry)
        self.rows.append(asked)
        return asked

    def end(self) -> None:
        """Write the rows and give the file its name; elsewhere than on a local disk the file comes first.

        A process that is killed between the two leaves no rows there, and what the log holds is asked for again.
        """
        if self.local:
            self.stream.close()
        else:
            assert isinstance(self.stream, io.BytesIO)
            with self.folder.create(self.file) as stream:
                stream.write(self.stream.getbuffer())
        publish_log(self.folder, self.file, self.rows, self.local)


def open_path(folder: Folder, file: str) -> str:
    """Name the local file of a log while it is written; a leading dot hides it from every listing."""
    _, path = locate(folder.path(file))
    return posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}{OPEN}")


def publish_log(folder: Folder, file: str, rows: Iterable[Asked], local: bool) -> None:
    """Write the rows of a log, then give it its name: a log that has its name has its rows."""
    writer = PartWriter(folder, ASKED, posixpath.basename(file).removesuffix(".warc"))
    for asked in rows:
        writer.add(asked_to_row(asked), 1024)
    writer.flush()
    if local:
        os.replace(open_path(folder, file), locate(folder.path(file))[1])


def recover(folder: Folder, name: str = "") -> None:
    """End the logs that killed processes left, of all units or of the one of a name; a torn last entry is cut off."""
    system, directory = locate(folder.path(ASKED.directory))
    if not is_local(system) or not os.path.isdir(directory):
        return
    for found in sorted(os.listdir(directory)):
        if found.startswith(f".{name}") and found.endswith(OPEN):
            path = posixpath.join(directory, found)
            rows, end = read_log(path)
            with open(path, "r+b") as stream:
                stream.truncate(end)
            publish_log(folder, f"{ASKED.directory}/{found[1:].removesuffix(OPEN)}", rows, True)


def read_log(path: str) -> tuple[list[Asked], int]:
    """Read the rows of a log as far as it is whole; returns them and where its last whole entry ends."""
    rows: list[Asked] = []
    end = 0
    with open(path, "rb") as stream:
        if not stream.read(1):
            return rows, end
        for frame in warc.frames(stream, 0, 1 << 62, ENTRY_BYTES):
            if not isinstance(frame, warc.Frame) or frame.length < len(frame.data) + RECORD_END_BYTES:
                break
            header = warc.HEADER_END.search(frame.data)
            assert header is not None
            if b"\r\nWARC-Type: metadata\r\n" in frame.data[: header.end()]:
                rows.append(asked_from_json(frame.data[header.end() :]))
                end = frame.offset + len(frame.data) + RECORD_END_BYTES
    return rows, end


def newest(rows: Iterable[dict[str, Any]], kind: str) -> Asked | None:
    """Give the last word on a URL from its ledger rows: what was got, or else what was said last."""
    said = [asked for asked in map(asked_from_row, rows) if asked.kind == kind]
    return max(
        said, key=lambda asked: (asked.outcome == GOT, asked.asked or datetime.min.replace(tzinfo=UTC)), default=None
    )


def last_said(rows: Iterable[dict[str, Any]], kind: str) -> Asked | None:
    """Give what was said last of a URL, also where something was got before."""
    said = [asked for asked in map(asked_from_row, rows) if asked.kind == kind]
    return max(said, key=lambda asked: asked.asked or datetime.min.replace(tzinfo=UTC), default=None)


def is_settled(asked: Asked | None, settings: str) -> bool:
    """Tell whether asking again would bring nothing: only a passing failure, or other settings, would."""
    if asked is None or asked.outcome not in (GOT, REFUSED, FAILED):
        return False
    return asked.media is None or asked.settings == settings


def log_files(folder: Folder, kind: str) -> list[str]:
    """Name the finished logs of a kind."""
    names = folder.names(ASKED.directory)
    return [f"{ASKED.directory}/{name}" for name in names if name.startswith(f"{kind}-") and name.endswith(".warc")]


def ledger_stamp(folder: Folder, kind: str) -> list[str]:
    """Name all that the ledger holds of a kind: its parts are never written twice."""
    kinds = (f"{kind}-", f"{ORIGINAL}-") if kind == IMAGE else (f"{kind}-",)
    return [part for part in parts_of(folder, ASKED) if part.startswith(kinds)]


def write_request(
    output: Output, table: Table, url: str, at: str, hops: int = 0, tries: int = 0, before: str = ""
) -> None:
    """Write a request for `at`, which stands for `url`, under the key of its host."""
    key = key_of(host_of(at))[:HOST_CHARS] + key_of(url)[:HOST_CHARS]
    output.write(table, {"key": key, "url": url, "at": at, "hops": hops, "tries": tries, "before": before})


def in_dataset(name: str) -> str:
    """Name a file of the dataset as a source."""
    return IN_DATASET + name


def resolve(file: str, folder: Folder) -> str:
    """Give the path of a source's file."""
    return folder.path(file.removeprefix(IN_DATASET)) if file.startswith(IN_DATASET) else file
