"""WARC files: records out, whole or in part and also from damaged files; records in.

In: a binary stream and a range of offsets. Out: every record that begins in the range, or a `BadRecord` for what
cannot be read. The way is two steps: `frames` cuts the file into records (in a `.warc.gz` each is a gzip member of
its own, as the standard asks), so that workers can share one file and damage costs only the record it hits;
`parse_frame` reads a frame with FastWARC.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import uuid
import zlib
from base64 import b32encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Literal

from fastwarc.warc import WarcRecord, WarcRecordType
from isal import isal_zlib

from pipeline.rights import RIGHTS_HEADERS

EMPTY_FILE = "empty_file"
NOT_A_WARC = "not_a_warc"
CORRUPT = "corrupt_record"
TRUNCATED = "truncated_record"
BAD_LENGTH = "bad_record_length"
TOO_LARGE = "record_too_large"
NOT_BY_RECORD = "not_compressed_by_record"
NOT_HTTP = "not_http"
NO_HEADER = "no WARC header with a Content-Length"

GZIP_MAGIC = b"\x1f\x8b\x08"
RAW_START = re.compile(rb"WARC/[01]\.\d{1,2}\r?\n(?=[A-Za-z])")
CONTENT_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
TARGET_URI = re.compile(rb"^warc-target-uri:[ \t]*<?([^\r\n>]*)>?[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)
HEADER_END = re.compile(rb"\r?\n\r?\n")
BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
INFLATE_ERRORS: Any = (isal_zlib.error, EOFError)
BLOCK_BYTES = 1 << 16
SCAN_BYTES = 1 << 20
OVERLAP_BYTES = 1 << 12
MAX_HEADER_BYTES = 1 << 16
MAX_RIGHTS_HEADERS = 50
UNKNOWN_LENGTH = 1
"""Length of a `BadRecord` whose end cannot be known: the reader goes on from its next byte."""
DECODINGS: tuple[Literal["all", "transfer", "none"], ...] = ("all", "transfer", "none")
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
    headers: tuple[tuple[str, str], ...] = ()
    """Those of the HTTP answer that say what it may be used for, names in lower case."""


def frames(stream: BinaryIO, start: int, end: int, max_bytes: int) -> Iterator[Frame | BadRecord]:
    """Cut the file into the records that begin in [start, end); after damage, go on at the next sound one."""
    size = stream.seek(0, io.SEEK_END)
    end = min(end, size)
    stream.seek(0)
    head = stream.read(BLOCK_BYTES)
    if not head:
        yield BadRecord(EMPTY_FILE, "0 bytes", 0, 0)
        return
    sound = begins_member(head) or RAW_START.match(head) is not None
    if not sound and start == 0:
        yield BadRecord(NOT_A_WARC, f"begins with {head[:12]!r}", 0, size)
    # Where the first bytes are damaged, a sound member further on tells that the file is compressed.
    compressed = head.startswith(GZIP_MAGIC) or (not sound and next_start(stream, start, end, True) is not None)
    position = next_start(stream, start, end, compressed)
    while position is not None and position < end:
        frame = read_member(stream, position, max_bytes) if compressed else read_raw(stream, position, max_bytes)
        yield frame
        position += frame.length
        lost = frame.length == UNKNOWN_LENGTH
        if lost or (position < size and not begins_record(stream, position, compressed)):
            found = next_start(stream, position, end, compressed)
            if not lost:
                length = (end if found is None else found) - position
                yield BadRecord(CORRUPT, "bytes that begin no record", position, max(UNKNOWN_LENGTH, length))
            position = found


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
    return begins_member(stream.read(4096)) if compressed else RAW_START.match(stream.read(16)) is not None


def next_start(stream: BinaryIO, start: int, end: int, compressed: bool) -> int | None:
    """Find the first record that begins in [start, end); `None` where there is none."""
    position = start
    while position < end:
        stream.seek(position)
        data = stream.read(SCAN_BYTES + OVERLAP_BYTES)
        last = len(data) < SCAN_BYTES + OVERLAP_BYTES
        found = find_member(data) if compressed else find_raw(data)
        if found is not None and (found < SCAN_BYTES or last):
            return position + found if position + found < end else None
        position = end if last else position + SCAN_BYTES
    return None


def find_member(data: bytes) -> int | None:
    """Find the first gzip member with a WARC record in `data`."""
    found = data.find(GZIP_MAGIC)
    while found >= 0 and not begins_member(data[found : found + OVERLAP_BYTES]):
        found = data.find(GZIP_MAGIC, found + 1)
    return found if found >= 0 else None


def find_raw(data: bytes) -> int | None:
    """Find the first bytes of `data` that open a record; after a cut they need not begin a line."""
    match = RAW_START.search(data)
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
        url = url_in_header(first_bytes(stream, offset))
        return BadRecord(CORRUPT, f"gzip: {error}", offset, UNKNOWN_LENGTH, url)
    if not inflate.eof:
        url = url_in_header(first_bytes(stream, offset))
        return BadRecord(TRUNCATED, "the file ends inside a gzip member", offset, UNKNOWN_LENGTH, url)
    checked = check_frame(Frame(offset, read - len(inflate.unused_data), b"".join(pieces)))
    if inflated > max_bytes and not (isinstance(checked, BadRecord) and checked.reason == NOT_BY_RECORD):
        url = url_in_header(first_bytes(stream, offset))
        return BadRecord(TOO_LARGE, f"{inflated} bytes, limit {max_bytes}", offset, checked.length, url)
    return checked


def first_bytes(stream: BinaryIO, offset: int) -> bytes:
    """Inflate the first bytes of a member up to its damage, so that its record can be named."""
    stream.seek(offset)
    inflate = zlib.decompressobj(31)
    found = b""
    with contextlib.suppress(zlib.error):
        while len(found) < MAX_HEADER_BYTES and not inflate.eof and (block := stream.read(64)):
            found += inflate.decompress(block)
    return found


def check_frame(frame: Frame) -> Frame | BadRecord:
    """Refuse a gzip member that does not hold exactly the record that its header announces."""
    header = HEADER_END.search(frame.data, 0, MAX_HEADER_BYTES)
    length = header and CONTENT_LENGTH.search(frame.data, 0, header.end())
    if header is None or length is None:
        return BadRecord(CORRUPT, NO_HEADER, frame.offset, frame.length, url_in_header(frame.data))
    end = header.end() + int(length[1])
    rest = frame.data[end:].lstrip(b"\r\n")
    if end <= len(frame.data) and not rest:
        return frame
    if RAW_START.match(rest):
        hint = "several records in one gzip member: recompress the file record by record (warcio recompress)"
        return BadRecord(NOT_BY_RECORD, hint, frame.offset, frame.length)
    detail = f"Content-Length {int(length[1])}, the record holds {len(frame.data) - header.end()} bytes"
    return BadRecord(BAD_LENGTH, detail, frame.offset, frame.length, url_in_header(frame.data))


def read_raw(stream: BinaryIO, offset: int, max_bytes: int) -> Frame | BadRecord:
    """Read the uncompressed record at `offset`; an empty line, another record or nothing must follow it."""
    stream.seek(offset)
    head = stream.read(MAX_HEADER_BYTES)
    header = HEADER_END.search(head)
    length = header and CONTENT_LENGTH.search(head, 0, header.end())
    if header is None or length is None:
        return BadRecord(CORRUPT, NO_HEADER, offset, UNKNOWN_LENGTH, url_in_header(head))
    if RAW_START.search(head, 1, header.end()):
        return BadRecord(CORRUPT, "another record begins inside its header", offset, UNKNOWN_LENGTH)
    bytes_of_record = header.end() + int(length[1])
    url = url_in_header(head)
    if offset + bytes_of_record > stream.seek(0, io.SEEK_END):
        detail = f"Content-Length {int(length[1])} passes the end of the file"
        return BadRecord(TRUNCATED, detail, offset, UNKNOWN_LENGTH, url)
    stream.seek(offset + bytes_of_record)
    tail = stream.read(OVERLAP_BYTES)
    following = tail.lstrip(b"\r\n")
    if following and not tail.startswith(b"\r\n\r\n") and not RAW_START.match(following):
        detail = f"no record follows its Content-Length of {int(length[1])}"
        return BadRecord(BAD_LENGTH, detail, offset, UNKNOWN_LENGTH, url)
    whole = bytes_of_record + len(tail) - len(following)
    if bytes_of_record > max_bytes:
        return BadRecord(TOO_LARGE, f"{bytes_of_record} bytes, limit {max_bytes}", offset, whole, url)
    stream.seek(offset)
    return Frame(offset, whole, stream.read(bytes_of_record))


def url_in_header(data: bytes) -> str:
    """Read the target URL of a record whose body cannot be trusted; empty where its line is not whole."""
    header = HEADER_END.search(data, 0, MAX_HEADER_BYTES)
    end = header.end() if header else min(len(data), MAX_HEADER_BYTES)
    match = TARGET_URI.search(data, 0, end)
    return match[1].decode("utf-8", "replace").strip() if match else ""


def payloads(pieces: Iterable[Frame | BadRecord], max_bytes: int) -> Iterator[Record | BadRecord]:
    """Parse frames, leaving out the records that capture nothing; `max_bytes` bounds a decoded body."""
    for piece in pieces:
        parsed = parse_frame(piece, max_bytes) if isinstance(piece, Frame) else piece
        if parsed is not None:
            yield parsed


def parse_frame(frame: Frame, max_bytes: int) -> Record | BadRecord | None:
    """Read a captured resource; `None` for records of other types (requests, metadata, ...)."""
    try:
        raw = WarcRecord.from_bytes(frame.data)
    except OSError as error:
        return BadRecord(CORRUPT, str(error), frame.offset, frame.length)
    if raw.record_type in (WarcRecordType.unknown, WarcRecordType.no_type):
        detail = f"WARC-Type {raw.headers.get('WARC-Type')!r} is none that is known"
        return BadRecord(CORRUPT, detail, frame.offset, frame.length, url_in_header(frame.data))
    if raw.record_type not in CAPTURES:
        return None
    url = (raw.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    block_type = (raw.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    try:
        if block_type == "application/http":
            return http_record(frame, url, max_bytes)
        payload = raw.reader.read()
    except OSError as error:
        return BadRecord(CORRUPT, str(error), frame.offset, frame.length, url)
    return Record(url, 200, block_type, None, capture_time(raw), frame.offset, frame.length, payload)


def http_record(frame: Frame, url: str, max_bytes: int) -> Record | BadRecord:
    """Read an HTTP response; where a declared encoding is a lie, the body is taken as it is."""
    data = with_line_ends(frame.data)
    raw, body = http_body(data, max_bytes)
    if not 100 <= (raw.http_headers.status_code or 0) <= 999:
        return BadRecord(NOT_HTTP, "no HTTP status line", frame.offset, frame.length, url)
    if len(body) > max_bytes:
        return BadRecord(TOO_LARGE, f"decodes to more than {max_bytes} bytes", frame.offset, frame.length, url)
    return Record(
        url=url,
        status=raw.http_headers.status_code,
        content_type=(raw.http_content_type or "").strip().lower(),
        charset=raw.http_charset,
        fetched=capture_time(raw),
        offset=frame.offset,
        length=frame.length,
        payload=body,
        headers=rights_headers(raw),
    )


def rights_headers(raw: Any) -> tuple[tuple[str, str], ...]:
    """Pick the headers of an answer that say what it may be used for."""
    named = ((name.lower(), value) for name, value in raw.http_headers)
    return tuple(islice(((name, value) for name, value in named if name in RIGHTS_HEADERS), MAX_RIGHTS_HEADERS))


def with_line_ends(data: bytes) -> bytes:
    """Give a record whose HTTP header ends its lines with bare newlines the line ends that FastWARC asks for."""
    start = HEADER_END.search(data)
    end = start and HEADER_END.search(data, start.end(), start.end() + MAX_HEADER_BYTES)
    if start is None or end is None or not BARE_NEWLINE.search(data, start.end(), end.end()):
        return data
    header = BARE_NEWLINE.sub(b"\r\n", data[start.end() : end.end()])
    length = len(header) + len(data) - end.end()
    fields = CONTENT_LENGTH.sub(b"Content-Length: %d\r" % length, data[: start.end()])
    return fields + header + data[end.end() :]


def http_body(data: bytes, max_bytes: int) -> tuple[Any, bytes]:
    """Parse the HTTP part of a record and decode its body as far as it keeps its word, to `max_bytes` and one more."""
    for decode in DECODINGS:
        raw: Any = WarcRecord.from_bytes(data)
        try:
            raw.parse_http(auto_decode=decode)
            # Room for the whole limit would be made for every record; few bodies are larger decoded.
            body: bytes = raw.reader.read(min(len(data), max_bytes) + 1)
            if len(body) > len(data):
                body += raw.reader.read(max_bytes + 1 - len(body))
        except OSError:
            continue
        return raw, inflate_body(body, raw.http_headers.get("Content-Encoding") or "", decode, max_bytes)
    raise OSError("the HTTP part cannot be read")


def inflate_body(body: bytes, coding: str, decoded: str, max_bytes: int) -> bytes:
    """Inflate what FastWARC leaves alone and browsers read: x-gzip, bytes after gzip's end, deflate without a frame."""
    bare = coding.strip().lower() == "deflate" and decoded != "all"
    if not bare and not (coding.strip().lower() in ("gzip", "x-gzip") and body.startswith(GZIP_MAGIC)):
        return body
    try:
        return zlib.decompressobj(-15 if bare else 31).decompress(body, max_bytes + 1)
    except zlib.error:
        return body


def capture_time(raw: Any) -> datetime | None:
    """Read the WARC-Date in UTC; `None` where it is missing, unreadable or out of the range of dates."""
    date: datetime | None = raw.record_date
    try:
        return date and date.astimezone(UTC)
    except OverflowError:
        return None


def read_record_at(stream: BinaryIO, offset: int, length: int, max_bytes: int) -> Record | BadRecord | None:
    """Read the one record of a (file, offset, length) that an earlier pass noted down."""
    stream.seek(offset)
    window = io.BytesIO(stream.read(length))
    found = next(frames(window, 0, length, max_bytes))
    return parse_frame(found, max_bytes) if isinstance(found, Frame) else found


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
