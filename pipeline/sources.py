"""Sources: what the user points at → splits that workers read → pages and captures.

    *.warc, *.warc.gz      responses; a large .warc.gz is split at gzip members
    a folder               saved pages with the files beside them; `file://NAME/path` is their URL, unless told or
                           unless it is a mirror, whose folders are named like hosts
    *.parquet              columns `url` and `html`
    *.txt                  URLs of pages, a line each: they are asked for, and what was got is an archive as above

In: paths, globs or URLs of any fsspec file system. Out: `Page`, `Capture` (anything that is no page) or `Rejected`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import warc
from pipeline.folder import Folder, OpenFiles, UserError, is_local, locate, open_input
from pipeline.tables import KeyRange
from pipeline.urls import clean_url
from pipeline.web import in_dataset, log_files, resolve
from schemas.page import Origin, Page, Rejected, key_of

STAGE = "read"
HTTP_STATUS = "http_status"
NO_URL = "no_url"
NOT_A_FILE = "not_a_file"
OUTSIDE = "outside_folder"
TOO_LARGE = "file_too_large"
WARC, FOLDER, MIRROR, PARQUET, LIST = "warc", "folder", "mirror", "parquet", "list"
IN_HOST_FOLDER = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}/")
PAGE_TYPES = ("text/html", "application/xhtml+xml")
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
FILES_PER_SPLIT = 256
LIST_BYTES = 8 << 20
TEXTS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
ROWS_PER_SPLIT = 2_000
SPLITS_PER_GROUP = 16  # a split reads its row group from the start, so that more of them would cost their square


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """What is read, and within which bounds."""

    paths: tuple[str, ...] = ()
    """WARC files, Parquet files, folders of saved pages, lists of URLs; globs and any fsspec URL are welcome."""
    base_url: str = ""
    """URL that the root of a folder of saved pages stands for; empty: `file://NAME-OF-THE-FOLDER/`, and `https://`
    where everything in it lies in folders named like hosts, as wget leaves a mirror."""
    split_bytes: int = 0
    """Bytes of a .warc.gz that one unit reads; 0 takes a 32nd of all input, within 1 and 64 MiB."""
    max_record_bytes: int = 64 << 20
    """Bytes of one archive record or file, uncompressed; larger ones are rejected unread."""
    url_column: str = "url"
    """Column of Parquet sources with the page's URL."""
    html_column: str = "html"
    """Column of Parquet sources with the page, as bytes or text."""

    def __post_init__(self) -> None:
        if self.split_bytes < 0 or self.max_record_bytes < 1:
            raise ValueError("split_bytes is 0 or more and max_record_bytes 1 or more")
        if self.base_url and clean_url(self.base_url) is None:
            raise ValueError(f"base_url is a URL such as https://example.org/, not {self.base_url!r}")


@dataclass(frozen=True, slots=True)
class Split:
    """A stretch of a source: bytes of an archive, files of a folder or row groups of a Parquet file.

    `stamp` is the size and time or tag of the file, so that a changed file is read again.
    """

    kind: str
    file: str
    start: int
    end: int
    stamp: str
    files: tuple[str, ...] = ()

    @property
    def keys(self) -> KeyRange:
        """The places (`place_of`) that lie in the split."""
        return KeyRange(place_of(self.file, self.start), place_of(self.file, self.end))


@dataclass(frozen=True, slots=True)
class Capture:
    """A resource that is no page, where it lies in the sources."""

    url: str
    status: int
    content_type: str
    place: str
    source: Origin
    fetched: datetime | None
    headers: tuple[tuple[str, str], ...] = ()


def place_of(file: str, offset: int) -> str:
    """Write a place so that places sort as they lie in their file."""
    return f"{key_of(file)}{offset:016x}"


def plan_splits(config: SourceConfig) -> list[Split]:
    """List the splits of all sources, lists of URLs too, in an order that does not depend on how they were given."""
    if not config.paths:
        raise UserError("no source: give --source with WARC files, Parquet files, saved pages or a list of URLs")
    # One file under two names (a glob and its path, with and without `./`) is read once, under the first of them.
    names = sorted({file for path in config.paths for file in expand(path)}, reverse=True)
    found = sorted({locate(file)[1]: file for file in names}.values())
    check_folders([file for file in found if kind_of(file) == FOLDER], config)
    sizes = {file: stat(file) for file in found}
    total = sum(size for size, _ in sizes.values())
    split_bytes = config.split_bytes or min(64 << 20, max(1 << 20, total // 32))
    splits: list[Split] = []
    for file in found:
        size, stamp = sizes[file]
        kind = kind_of(file)
        if kind == FOLDER:
            splits.extend(folder_splits(file))
        elif kind == PARQUET:
            splits.extend(parquet_splits(file, stamp, config))
        elif kind == LIST:
            starts = range(0, max(1, size), LIST_BYTES)
            splits.extend(Split(LIST, file, start, min(size, start + LIST_BYTES), stamp) for start in starts)
        elif file.endswith(".gz"):
            starts = range(0, max(1, size), split_bytes)
            splits.extend(Split(WARC, file, start, min(size, start + split_bytes) or 1, stamp) for start in starts)
        else:
            splits.append(Split(WARC, file, 0, max(1, size), stamp))
    return splits


def check_folders(folders: list[str], config: SourceConfig) -> None:
    """Refuse folders of saved pages whose pages would have the same URLs."""
    seen: dict[str, str] = {}
    for folder in folders:
        other = seen.setdefault(config.base_url or folder_url(folder), folder)
        if other != folder:
            raise UserError(f"{folder} and {other}: their pages would have the same URLs; build them one by one")


def expand(path: str) -> list[str]:
    """Resolve a path or glob to files and folders; nothing there is an error."""
    system, inside = locate(path)
    scheme = path.partition("://")[0] + "://" if "://" in path else ""
    if not system.exists(inside):
        if not any(sign in path for sign in "*?["):
            raise UserError(f"{path}: no such file or folder")
        found = [scheme + match for match in sorted(system.glob(inside))]
        if not found:
            raise UserError(f"{path}: no file matches")
        return [file for match in found for file in (expand(match) if system.isdir(locate(match)[1]) else [match])]
    if system.isdir(inside):
        files = system.find(inside)
        archives = [name for name in files if name.endswith((".warc", ".warc.gz"))]
        pages = any(name.lower().endswith(PAGE_SUFFIXES) for name in files)
        if archives and not pages:
            return [scheme + name for name in sorted(archives)]
        if not pages:
            raise UserError(f"{path}: holds neither .html pages nor .warc files; give the files, or a glob")
        return [path.rstrip("/") + "/"]
    return [path]


def kind_of(file: str) -> str:
    """Tell the kind of a source by its name."""
    if file.endswith("/"):
        return FOLDER
    if file.endswith(".parquet"):
        return PARQUET
    if file.endswith((".warc", ".warc.gz")):
        return WARC
    if file.endswith(".txt"):
        return LIST
    raise UserError(f"{file}: not a source; known are .warc, .warc.gz, .parquet, .txt and folders of saved pages")


def web_splits(folder: Folder, kind: str) -> list[Split]:
    """List the logs of what was got from the web, a split each: they are short."""
    return [Split(WARC, in_dataset(file), 0, 1 << 40, "") for file in log_files(folder, kind)]


def stat(file: str) -> tuple[int, str]:
    """Give a file's size and a stamp that changes when its content does."""
    if file.endswith("/"):
        return 0, ""
    system, path = locate(file)
    info = system.info(path)
    return int(info.get("size") or 0), stamp_of(info)


def stamp_of(info: Mapping[str, Any]) -> str:
    """Write a file's size and what its file system has to tell versions apart: a tag or a time."""
    versions = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    return f"{info.get('size')} {next(filter(None, versions), None)}"


def folder_splits(root: str) -> list[Split]:
    """Deal the files of a folder, in the order of their names."""
    system, path = locate(root)
    details = system.find(path, detail=True, withdirs=False)
    names, stamps = [], []
    for name, info in sorted(details.items()):
        # A name that is not UTF-8 is written so that tables can hold it; reading then rejects it.
        names.append(os.fsencode(posixpath.relpath(name, path)).decode("utf-8", "backslashreplace"))
        stamps.append(stamp_of(info))
    kind = MIRROR if names and all(map(IN_HOST_FOLDER.match, names)) else FOLDER
    return [
        Split(
            kind,
            root,
            first,
            min(first + FILES_PER_SPLIT, len(names)),
            ";".join(stamps[first : first + FILES_PER_SPLIT]),
            tuple(names[first : first + FILES_PER_SPLIT]),
        )
        for first in range(0, len(names), FILES_PER_SPLIT)
    ]


def parquet_splits(file: str, stamp: str, config: SourceConfig) -> list[Split]:
    """Split a Parquet file into rows, after a look at its columns."""
    try:
        with open_input(file) as stream:
            parquet = pq.ParquetFile(stream)
            schema, told = parquet.schema_arrow, parquet.metadata
            rows = told.num_rows
            largest = max((told.row_group(group).num_rows for group in range(told.num_row_groups)), default=0)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a Parquet file ({str(error).splitlines()[0]})") from None
    for name in (config.url_column, config.html_column):
        if name not in schema.names:
            raise UserError(
                f"{file}: no column '{name}' (has: {', '.join(schema.names)}); name yours with "
                "--set source.url_column=... and --set source.html_column=..."
            )
        if schema.field(name).type not in TEXTS:
            raise UserError(f"{file}: column '{name}' holds {schema.field(name).type}, not text or bytes")
    step = max(ROWS_PER_SPLIT, -(-largest // SPLITS_PER_GROUP))
    return [Split(PARQUET, file, first, min(first + step, rows), stamp) for first in range(0, rows, step)]


def read_split(split: Split, config: SourceConfig, folder: Folder) -> Iterator[Page | Capture | Rejected]:
    """Read everything in a split; `folder` is the dataset's."""
    match split.kind:
        case "warc":
            yield from read_archive(split, config, folder)
        case "folder" | "mirror":
            yield from read_folder(split, config)
        case _:
            yield from read_parquet(split, config)


def read_archive(split: Split, config: SourceConfig, folder: Folder) -> Iterator[Page | Capture | Rejected]:
    """Read the records of an archive that begin in the split."""
    with open_input(resolve(split.file, folder)) as stream:
        limit = config.max_record_bytes
        for record in warc.payloads(warc.frames(stream, split.start, split.end, limit), limit):
            origin = Origin(split.file, record.offset, record.length)
            if isinstance(record, warc.BadRecord):
                yield Rejected(STAGE, record.reason, "record", record.url, detail=record.detail, origin=origin)
            else:
                yield from sort_record(record, origin)


def sort_record(record: warc.Record, origin: Origin) -> Iterator[Page | Capture | Rejected]:
    """Tell pages from other captures."""
    url = clean_url(record.url) or record.url
    if not url:
        yield Rejected(STAGE, NO_URL, "record", "", detail="no WARC-Target-URI", origin=origin)
        return
    kind = record.content_type.partition(";")[0].strip()
    is_page = kind in PAGE_TYPES or (not kind and looks_like_html(record.payload))
    yield Capture(
        url, record.status, kind, place_of(origin.file, origin.offset), origin, record.fetched, record.headers
    )
    if is_page and record.status == 200:
        yield Page(url, record.payload, record.charset, record.fetched, origin, record.headers)
    elif is_page:
        yield Rejected(STAGE, HTTP_STATUS, "page", url, detail=f"HTTP {record.status}", origin=origin)


def looks_like_html(payload: bytes) -> bool:
    """Tell a page by its first bytes, where nobody said what they are."""
    return any(sign in payload[:1024].lower() for sign in (b"<!doctype html", b"<html", b"<head", b"<body"))


def read_folder(split: Split, config: SourceConfig) -> Iterator[Page | Capture | Rejected]:
    """Read pages of a folder; the files beside them are captures that are read when a page refers to them."""
    base = config.base_url or ("https://" if split.kind == MIRROR else folder_url(split.file))
    for index, name in enumerate(split.files, split.start):
        url = clean_url(posixpath.join(base, quote_path(name)))
        path = posixpath.join(split.file, name)
        origin = Origin(path, 0, 0)
        if url is None:
            detail = f"{path}: its name makes no URL under {base}"
            yield Rejected(STAGE, NO_URL, "record", "", detail=detail, origin=origin)
            continue
        if refusal := refuse_file(split.file, path):
            yield Rejected(STAGE, refusal, "record", url, origin=origin)
            continue
        yield Capture(url, 200, "", place_of(split.file, index), origin, None)
        if name.lower().endswith(PAGE_SUFFIXES):
            data = read_file(path, config.max_record_bytes)
            if data is None:
                detail = f"limit {config.max_record_bytes} bytes"
                yield Rejected(STAGE, TOO_LARGE, "page", url, detail=detail, origin=origin)
            else:
                yield Page(url, data, None, None, Origin(path, 0, len(data)))


def folder_url(root: str) -> str:
    """Make a URL of a folder's name; what cannot stand in a host's name becomes a hyphen."""
    name = re.sub(r"[^\w-]+", "-", posixpath.basename(root.rstrip("/")))
    # A host that begins with a digit may be taken for an IP address.
    return clean_url(f"file://{'folder-' * name[:1].isdigit()}{name}/") or "file://folder/"


def refuse_file(root: str, path: str) -> str:
    """Say why a path of a local folder is not read: no regular file, or a link that leads out; empty if it is."""
    system, inside = locate(path)
    if not is_local(system):
        return ""
    real = os.path.realpath(inside)
    if not real.startswith(os.path.join(os.path.realpath(locate(root)[1]), "")):
        return OUTSIDE
    return "" if os.path.isfile(real) else NOT_A_FILE


def quote_path(name: str) -> str:
    """Write a file's name as the path of a URL."""
    return quote(name, safe="/!$&'()*+,;=:@~")


def read_file(path: str, max_bytes: int) -> bytes | None:
    """Read a file of bounded size; `None` where it is larger."""
    with open_input(path) as stream:
        data = stream.read(max_bytes + 1)
    return data if len(data) <= max_bytes else None


def read_parquet(split: Split, config: SourceConfig) -> Iterator[Page | Rejected]:
    """Read the rows of a Parquet file that lie in the split, touching only the row groups that hold them."""
    columns = [config.url_column, config.html_column]
    with open_input(split.file) as stream:
        parquet = pq.ParquetFile(stream)
        first = 0
        for group in range(parquet.num_row_groups):
            last = first + parquet.metadata.row_group(group).num_rows
            if first < split.end and last > split.start:
                row = first
                for batch in parquet.iter_batches(64, [group], columns, use_threads=False):
                    if row >= split.end:
                        return
                    text = batch.schema.field(columns[1]).type in (pa.string(), pa.large_string())
                    # As bytes, because nobody checks that the text of a Parquet file is UTF-8.
                    urls, pages = (batch[name].cast(pa.large_binary()).to_pylist() for name in columns)
                    for url, html in zip(urls, pages, strict=True):
                        if split.start <= row < split.end:
                            yield parquet_page(url, html, "utf-8" if text else None, Origin(split.file, row), config)
                        row += 1
            first = last


def parquet_page(
    url: bytes | None, html: bytes | None, charset: str | None, origin: Origin, config: SourceConfig
) -> Page | Rejected:
    """Make a page of a row."""
    if not url or html is None:
        return Rejected(STAGE, NO_URL, "record", "", detail=f"row {origin.offset} lacks its URL or page", origin=origin)
    name = url.decode("utf-8", "replace")
    name = clean_url(name) or name
    if len(html) > config.max_record_bytes:
        detail = f"{len(html)} bytes, limit {config.max_record_bytes}"
        return Rejected(STAGE, TOO_LARGE, "page", name, detail=detail, origin=origin)
    return Page(name, html, charset, None, origin)


def read_capture(files: OpenFiles, source: Origin, config: SourceConfig, folder: Folder) -> bytes | str:
    """Read the bytes of a capture again; a string says why they cannot be had."""
    if source.length == 0:
        data = read_file(source.file, config.max_record_bytes)
        return TOO_LARGE if data is None else data
    file = files.get(resolve(source.file, folder))
    record = warc.read_record_at(file, source.offset, source.length, config.max_record_bytes)
    if isinstance(record, warc.Record):
        return record.payload
    return record.reason if record is not None else warc.CORRUPT
