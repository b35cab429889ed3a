"""The pages of a TIFF, each as a TIFF of its own: strips and tiles are copied as they are, nothing is decoded.

    bytes of a TIFF of n pages → n times the bytes of a TIFF of one page

A file of many pages is a chain of directories; every entry has a value of 4 bytes or the offset of a longer one.
Offsets are read from strangers: each is checked, and all pages together copy at most twice the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value by its type (TIFF 6.0, section 2)."""
STRIPS, TILES = (273, 279), (324, 325)
"""The tags of where the pixels are and of how many bytes they have."""
POINTERS = (330, 34665, 34853, 40965)
"""Tags whose value is the offset of another directory (sub-images, EXIF, GPS): no page needs them."""
MAX_ENTRIES = 1000
MAX_CHUNKS = 100_000
"""Strips or tiles of a page."""

Entry = tuple[int, int, bytes]
"""Tag, type, value."""


class BadTiff(ValueError):  # noqa: N818 (named as BadSample is)
    """A TIFF that cannot be split; its text says why."""


def split_pages(data: bytes, max_pages: int) -> list[bytes]:
    """Give each page as a file of its own; raises `BadTiff`, also for BigTIFF and JPEG of the old kind."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise BadTiff("no TIFF of the classic kind")
    pages: list[bytes] = []
    left = 2 * len(data)
    (offset,) = struct.unpack(order + "I", cut(data, 4, 4))
    while offset:
        if len(pages) == max_pages:
            raise BadTiff(f"more than {max_pages} pages")
        entries, offset = read_directory(data, offset, order)
        pages.append(build_page(data, entries, order, left))
        left -= len(pages[-1])
    return pages


def read_directory(data: bytes, offset: int, order: str) -> tuple[list[Entry], int]:
    """Read the entries of a directory and the offset of the next, 0 after the last."""
    (count,) = struct.unpack(order + "H", cut(data, offset, 2))
    if count > MAX_ENTRIES:
        raise BadTiff(f"a directory of {count} entries")
    rows = cut(data, offset + 2, 12 * count + 4)
    entries = []
    for at in range(0, 12 * count, 12):
        tag, kind, values, start = struct.unpack_from(order + "HHII", rows, at)
        length = TYPE_BYTES.get(kind, 0) * values
        if length and tag not in POINTERS:
            value = rows[at + 8 : at + 8 + length] if length <= 4 else cut(data, start, length)
            entries.append((tag, kind, value))
    return entries, struct.unpack_from(order + "I", rows, 12 * count)[0]


def build_page(data: bytes, entries: Sequence[Entry], order: str, max_bytes: int) -> bytes:
    """Write a file of one page: its pixels, then the values that are longer than 4 bytes, then the directory."""
    values = {tag: (kind, value) for tag, kind, value in entries}
    places = STRIPS if STRIPS[0] in values else TILES
    if not all(tag in values for tag in places):
        raise BadTiff("a page without strips or tiles")
    starts, sizes = (unpack(*values[tag], order) for tag in places)
    if len(starts) != len(sizes) or len(starts) > MAX_CHUNKS or sum(sizes) > max_bytes:
        raise BadTiff(f"{len(starts)} strips or tiles of {sum(sizes)} bytes")
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    moved = []
    for start, size in zip(starts, sizes, strict=True):
        moved.append(len(out))
        out += cut(data, start, size)
    values[places[0]] = 4, struct.pack(f"{order}{len(moved)}I", *moved)
    rows = bytearray(struct.pack(order + "H", len(values)))
    for tag, (kind, value) in sorted(values.items()):
        rows += struct.pack(order + "HHI", tag, kind, len(value) // TYPE_BYTES[kind])
        if len(value) > 4:
            out += bytes(len(out) % 2)
            rows += struct.pack(order + "I", len(out))
            out += value
        else:
            rows += value.ljust(4, b"\0")
    out += bytes(len(out) % 2)
    struct.pack_into(order + "I", out, 4, len(out))
    if len(out) + len(rows) + 4 > max_bytes:
        raise BadTiff("pages that share their bytes")
    out += rows + bytes(4)
    return bytes(out)


def unpack(kind: int, value: bytes, order: str) -> tuple[int, ...]:
    """Read offsets or sizes, of 16 or 32 bits."""
    if kind not in (3, 4):
        raise BadTiff(f"offsets of type {kind}")
    return struct.unpack(f"{order}{len(value) // TYPE_BYTES[kind]}{'H' if kind == 3 else 'I'}", value)


def cut(data: bytes, start: int, length: int) -> bytes:
    """Take bytes that must all be there."""
    if start + length > len(data):
        raise BadTiff(f"{length} bytes at {start} of {len(data)}")
    return data[start : start + length]
