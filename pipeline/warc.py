"""WARC files: records out, whole or in part and also from damaged files; records in.

In: a binary stream and a range of offsets. Out: every record that begins in the range, or a `BadRecord` for what
cannot be read. The way is two steps: `frames` cuts the file into records (in a `.warc.gz` each is a gzip member of
its own, as the standard asks), so that workers can share one file and damage costs only the record it hits;
`parse_frame` reads a frame with FastWARC.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
import zlib
from base64 import b32encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal

from fastwarc.warc import WarcRecord, WarcRecordType
from isal import isal_zlib

EMPTY_FILE = "empty_file"
NOT_A_WARC = "not_a_warc"
CORRUPT = "corrupt_record"
TRUNCATED = "truncated_record"
BAD_LENGTH = "bad_record_length"
TOO_LARGE = "record_too_large"
NOT_BY_RECORD = "not_compressed_by_record"

GZIP_MAGIC = b"\x1f\x8b\x08"
RAW_START = re.compile(rb"(?:\A|(?<=\n))WARC/[01]\.\d")
CONTENT_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
HEADER_END = re.compile(rb"\r?\n\r?\n")
INFLATE_ERRORS: Any = (isal_zlib.error, EOFError)
BLOCK_BYTES = 1 << 16
SCAN_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16
CAPTURES = (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion)


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes of one record, uncompressed, and the stretch of the file that they stand in."""

    offset: int
    length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A stretch of the file that holds no readable record; `url` where it could still be read."""

    reason: str
    detail: str
    offset: int
    length: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A captured resource; `payload` is free of transfer and content encodings."""

    url: str
    status: int
    content_type: str
    charset: str | None
    fetched: datetime | None
    offset: int
    length: int
    payload: bytes


def frames(stream: BinaryIO, start: int, end: int, max_bytes: int) -> Iterator[Frame | BadRecord]:
    """Cut the file into the records that begin in [start, end); after damage, go on at the next sound one."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(BLOCK_BYTES)
    if not head:
        yield BadRecord(EMPTY_FILE, "0 bytes", 0, 0)
        return
    if not (begins_member(head) or RAW_START.match(head)) and start == 0:
        yield BadRecord(NOT_A_WARC, f"begins with {head[:12]!r}", 0, size)
    compressed = head.startswith(GZIP_MAGIC)
    position = next_start(stream, start, compressed)
    while position is not None and position < min(end, size):
        frame = read_member(stream, position, max_bytes) if compressed else read_raw(stream, position, max_bytes)
        yield frame
        position += max(1, frame.length)
        if position < size and (isinstance(frame, BadRecord) or not begins_record(stream, position, compressed)):
            position = next_start(stream, position, compressed)


def begins_member(data: bytes) -> bool:
    """Tell whether a gzip member that holds a WARC record begins with `data`."""
    if not data.startswith(GZIP_MAGIC):
        return False
    try:
        return zlib.decompressobj(31).decompress(data, 5) == b"WARC/"
    except zlib.error:
        return False


def begins_record(stream: BinaryIO, position: int, compressed: bool) -> bool:
    """Tell whether a record stands at `position`."""
    stream.seek(position)
    return begins_member(stream.read(4096)) if compressed else RAW_START.match(stream.read(8)) is not None


def next_start(stream: BinaryIO, start: int, compressed: bool) -> int | None:
    """Find the first record that begins at or after `start`; `None` where there is none."""
    position = start
    overlap = 4096
    while True:
        stream.seek(position)
        data = stream.read(SCAN_BYTES + overlap)
        found = find_member(data) if compressed else find_raw(data, fresh=position == start)
        if found is not None and (found < SCAN_BYTES or len(data) < SCAN_BYTES + overlap):
            return position + found
        if len(data) < SCAN_BYTES + overlap:
            return None
        position += SCAN_BYTES


def find_member(data: bytes) -> int | None:
    """Find the first gzip member with a WARC record in `data`."""
    found = data.find(GZIP_MAGIC)
    while found >= 0 and not begins_member(data[found : found + 4096]):
        found = data.find(GZIP_MAGIC, found + 1)
    return found if found >= 0 else None


def find_raw(data: bytes, fresh: bool) -> int | None:
    """Find the first line of `data` that opens a record; its first bytes count as a line only where `fresh`."""
    match = RAW_START.search(data, 0 if fresh else 1)
    return match.start() if match else None


def read_member(stream: BinaryIO, offset: int, max_bytes: int) -> Frame | BadRecord:
    """Inflate the gzip member at `offset`; what passes `max_bytes` is inflated only to find its end."""
    stream.seek(offset)
    inflate = isal_zlib.decompressobj(31)
    pieces: list[bytes] = []
    inflated = read = 0
    try:
        while not inflate.eof and (block := stream.read(BLOCK_BYTES)):
            read += len(block)
            while True:
                piece = inflate.decompress(block, SCAN_BYTES)
                inflated += len(piece)
                if inflated <= max_bytes:
                    pieces.append(piece)
                block = inflate.unconsumed_tail
                if inflate.eof or not block:
                    break
    except INFLATE_ERRORS as error:
        return BadRecord(CORRUPT, f"gzip: {error}", offset, 1)
    length = read - len(inflate.unused_data)
    if not inflate.eof:
        return BadRecord(TRUNCATED, "the file ends inside a gzip member", offset, 1)
    if inflated > max_bytes:
        return BadRecord(TOO_LARGE, f"{inflated} bytes, limit {max_bytes}", offset, length)
    return check_frame(Frame(offset, length, b"".join(pieces)))


def check_frame(frame: Frame) -> Frame | BadRecord:
    """Refuse a gzip member that does not hold exactly the record that its header announces."""
    header = HEADER_END.search(frame.data, 0, MAX_HEADER_BYTES)
    length = header and CONTENT_LENGTH.search(frame.data, 0, header.end())
    if header is None or length is None:
        return BadRecord(CORRUPT, "no WARC header with a Content-Length", frame.offset, frame.length)
    rest = len(frame.data) - header.end() - int(length[1])
    if rest in (0, 4) or (rest > 0 and not frame.data[-rest:].strip(b"\r\n")):
        return frame
    if rest > 4 and RAW_START.match(frame.data[-rest:].lstrip(b"\r\n")):
        hint = "several records in one gzip member: recompress the file record by record (warcio recompress)"
        return BadRecord(NOT_BY_RECORD, hint, frame.offset, frame.length)
    detail = f"Content-Length {int(length[1])}, the record holds {len(frame.data) - header.end()} bytes"
    return BadRecord(BAD_LENGTH, detail, frame.offset, frame.length, url_in_header(frame.data[: header.end()]))


def read_raw(stream: BinaryIO, offset: int, max_bytes: int) -> Frame | BadRecord:
    """Read the uncompressed record at `offset`, whose end must be followed by another record or by nothing."""
    stream.seek(offset)
    head = stream.read(MAX_HEADER_BYTES)
    header = HEADER_END.search(head)
    length = header and CONTENT_LENGTH.search(head, 0, header.end())
    if header is None or length is None:
        return BadRecord(CORRUPT, "no WARC header with a Content-Length", offset, 1)
    bytes_of_record = header.end() + int(length[1])
    url = url_in_header(head[: header.end()])
    stream.seek(offset + bytes_of_record)
    tail = stream.read(SCAN_BYTES)
    following = tail.lstrip(b"\r\n")
    size = stream.seek(0, io.SEEK_END)
    if offset + bytes_of_record > size:
        return BadRecord(TRUNCATED, f"Content-Length {int(length[1])} passes the end of the file", offset, 1, url)
    if following and not RAW_START.match(following):
        return BadRecord(BAD_LENGTH, f"no record follows its Content-Length of {int(length[1])}", offset, 1, url)
    whole = bytes_of_record + len(tail) - len(following)
    if bytes_of_record > max_bytes:
        return BadRecord(TOO_LARGE, f"{bytes_of_record} bytes, limit {max_bytes}", offset, whole, url)
    stream.seek(offset)
    return Frame(offset, whole, stream.read(bytes_of_record))


def url_in_header(header: bytes) -> str:
    """Read the target URL of a record whose body cannot be trusted."""
    match = re.search(rb"^warc-target-uri:[ \t]*<?([^\r\n>]*)", header, re.IGNORECASE | re.MULTILINE)
    return match[1].decode("utf-8", "replace").strip() if match else ""


def payloads(pieces: Iterable[Frame | BadRecord]) -> Iterator[Record | BadRecord]:
    """Parse frames, leaving out the records that capture nothing."""
    for piece in pieces:
        parsed = parse_frame(piece) if isinstance(piece, Frame) else piece
        if parsed is not None:
            yield parsed


def parse_frame(frame: Frame) -> Record | BadRecord | None:
    """Read a captured resource; `None` for records of other types (requests, metadata, ...)."""
    try:
        raw = WarcRecord.from_bytes(frame.data)
    except OSError as error:
        return BadRecord(CORRUPT, str(error), frame.offset, frame.length)
    if raw.record_type not in CAPTURES:
        return None
    url = (raw.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    block_type = (raw.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    try:
        if block_type == "application/http":
            return http_record(frame, url)
        payload = raw.reader.read()
    except OSError as error:
        return BadRecord(CORRUPT, str(error), frame.offset, frame.length, url)
    return Record(url, 200, block_type, None, capture_time(raw), frame.offset, frame.length, payload)


def http_record(frame: Frame, url: str) -> Record:
    """Read an HTTP response; where a declared encoding is a lie, the body is taken as it is."""
    raw, body = http_body(frame.data, "all")
    if body is None:
        raw, body = http_body(frame.data, "none")
    content_type = (raw.http_content_type or "").strip().lower()
    return Record(
        url=url,
        status=raw.http_headers.status_code or 0,
        content_type=content_type,
        charset=raw.http_charset,
        fetched=capture_time(raw),
        offset=frame.offset,
        length=frame.length,
        payload=body or b"",
    )


def http_body(data: bytes, decode: Literal["all", "none"]) -> tuple[Any, bytes | None]:
    """Parse the HTTP part of a record and read its body, `None` where it does not decode within its bounds."""
    raw = WarcRecord.from_bytes(data)
    try:
        raw.parse_http(auto_decode=decode)
        limit = max(16 * len(data), SCAN_BYTES)
        body = raw.reader.read(limit + 1)
    except OSError:
        return raw, None
    return raw, body if len(body) <= limit or decode == "none" else None


def capture_time(raw: Any) -> datetime | None:
    """Read the WARC-Date; `None` where it is missing or unreadable."""
    date: datetime | None = raw.record_date
    return date


def read_record_at(stream: BinaryIO, offset: int, length: int, max_bytes: int) -> Record | BadRecord | None:
    """Read the one record of a (file, offset, length) that an earlier pass noted down."""
    stream.seek(offset)
    window = io.BytesIO(stream.read(length))
    found = next(frames(window, 0, length, max_bytes))
    return parse_frame(found) if isinstance(found, Frame) else found


def format_record(url: str, record_type: str, content_type: str, date: str, payload: bytes) -> bytes:
    """Write an uncompressed WARC/1.1 record; its bytes depend on the arguments alone.

    `date` is in the form 2026-01-01T00:00:00Z.
    """
    digest = "sha1:" + b32encode(hashlib.sha1(payload, usedforsecurity=False).digest()).decode()
    record_id = uuid.UUID(bytes=hashlib.blake2b(f"{url}\n{digest}".encode(), digest_size=16).digest(), version=4)
    header = (
        f"WARC/1.1\r\nWARC-Type: {record_type}\r\nWARC-Record-ID: <urn:uuid:{record_id}>\r\n"
        f"WARC-Date: {date}\r\nWARC-Target-URI: {url}\r\nWARC-Block-Digest: {digest}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return header.encode() + payload + b"\r\n\r\n"
