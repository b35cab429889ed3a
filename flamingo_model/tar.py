"""Tar archives as shards have them: the members of a sample, and where in a shard every sample lies.

    bytes of samples → (name, bytes) of each member            a shard → an `Extent` of each sample

Names are read as webdataset reads them: a sample is the run of members whose names are alike up to the first dot of
their last part, what has no dot belongs to none, and neither does `__name__`. So `img.v1.000.jpg` and
`img.v1.001.jpg` are two members of the sample `img`: keys hold no dot. Unlike there, nothing that is cut off or
spoiled is passed over in silence.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from zlib import adler32

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20
"""Of a header that only adds to the next one: a long name, pax records."""
MAX_SAMPLES = 4_000_000
"""In one shard."""
MAX_PADDING_BYTES = 1 << 20
"""Zeros after the two blocks that end an archive; tar fills up its last record, of 10 KB unless told otherwise."""

BAD_HEADER, BAD_SIZE, CUT, NO_END = "bad_header", "bad_size", "cut", "no_end"
AFTER_END, COMPRESSED, UNSUPPORTED = "bytes_after_end", "compressed", "unsupported"
REPEATED_KEY, REPEATED_MEMBER, MIXED_KEYS = "repeated_key", "repeated_member", "mixed_keys"
NO_MEMBERS, TOO_MANY = "no_members", "too_many_samples"

ZEROS = bytes(BLOCK)
FIELDS = struct.Struct("100s24x12s12x8sc100x6s82x155s12x")  # name, size, checksum, type, magic, prefix
SIGNED = struct.Struct("148b8x356b")
CHECKSUM_SPACES = 8 * ord(" ")
ADLER_MODULUS = 65521
REGULAR = frozenset((b"0", b"\0", b"7"))
WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
SPLIT = frozenset((b"S", b"M"))
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL = b"L", b"K", b"x", b"g"
EXTENSIONS = frozenset((LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL))
COMPRESSED_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")
NO_SAMPLE = re.compile(r"__[^/]*__(?:$|/)")

Read = Callable[[int, int], bytes]
"""Gives the bytes from one offset to another, fewer where there are no more."""


class Extent(NamedTuple):
    """A sample in a shard: from its first header to the end of its last member's padding."""

    key: str
    offset: int
    length: int


class DamagedTar(ValueError):  # noqa: N818 (named as BadSample is)
    """Bytes that are no whole tar archive: `reason` is a constant, `offset` where it shows.

    `whole` are the samples that lie before it and are surely complete.
    """

    def __init__(self, reason: str, offset: int, told: str, whole: tuple[Extent, ...] = ()) -> None:
        super().__init__(f"{told} at byte {offset}")
        self.reason, self.offset, self.told, self.whole = reason, offset, told, whole

    def __reduce__(self) -> tuple[type[DamagedTar], tuple[str, int, str, tuple[Extent, ...]]]:
        return DamagedTar, (self.reason, self.offset, self.told, self.whole)


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into the key of its sample and the part; the part of what belongs to none is empty."""
    folder, slash, base = name.rpartition("/")
    key, _, part = base.partition(".")
    if not key or (name[0] == "_" and NO_SAMPLE.match(name)):
        return name, ""
    return folder + slash + key, part


def members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Give name and content of every member of the samples that `data` holds, one whole sample after the other.

    Raises `DamagedTar`. The blocks that end an archive may be there or not.
    """
    for name, _, begin, size in walk(data_reader(data), 0, len(data)):
        if split_name(name)[1]:
            yield name, data[begin : begin + size]


def sample_parts(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Read the one sample that `data` holds: its key, and its members by part.

    Raises `DamagedTar` also where `data` holds members of two samples, one member twice, or none.
    """
    found: dict[str, bytes] = {}
    key = ""
    for name, first, begin, size in walk(data_reader(data), 0, len(data)):
        own, part = split_name(name)
        if not part:
            continue
        if own != key and found:
            raise DamagedTar(MIXED_KEYS, first, f"sample {own!r} begins within sample {key!r}")
        if part in found:
            raise DamagedTar(REPEATED_MEMBER, first, f"member {name!r} comes a second time")
        key, found[part] = own, data[begin : begin + size]
    if not found:
        raise DamagedTar(NO_MEMBERS, 0, "no member of a sample")
    return key, found


def data_reader(data: bytes) -> Read:
    """Read bytes in memory by offsets."""
    return lambda start, stop: data[start:stop]


def scan(stream: BinaryIO, size: int | None = None) -> list[Extent]:
    """Find the samples of a whole shard, reading no more than its headers where the stream can seek.

    `size` is the stream's in bytes, where it is known. Raises `DamagedTar`, with the samples that are whole: those
    before the damage, but for the last one if no whole member after it shows that it was complete.
    """
    found: list[Extent] = []
    try:
        for extent in extents(reader(stream), stream_size(stream, size)):
            found.append(extent)
            if len(found) > MAX_SAMPLES:
                raise DamagedTar(TOO_MANY, extent.offset, f"more than {MAX_SAMPLES} samples")
    except DamagedTar as error:
        raise DamagedTar(error.reason, error.offset, error.told, tuple(found)) from None
    return found


def extents(read: Read, size: int) -> Iterator[Extent]:
    """Give each sample of a shard as soon as it is surely whole."""
    seen: set[str] = set()
    parts: set[str] = set()
    key, offset, stop = "", 0, 0
    for name, first, begin, length in walk(read, 0, size):
        own, part = split_name(name)
        if length < 0:
            if parts:
                yield Extent(key, offset, stop - offset)
            check_end(read, begin, size)
            return
        if not part:
            continue
        if own != key or not parts:
            if parts:
                yield Extent(key, offset, stop - offset)
            if own in seen:
                raise DamagedTar(REPEATED_KEY, first, f"sample {own!r} comes a second time")
            seen.add(own)
            parts.clear()
            key, offset = own, first
        elif part in parts:
            raise DamagedTar(REPEATED_MEMBER, first, f"member {name!r} comes a second time")
        parts.add(part)
        stop = begin + padded(length)
    raise DamagedTar(NO_END, stop, "the blocks that end an archive are not there: it was cut")


def walk(read: Read, at: int, end: int) -> Iterator[tuple[str, int, int, int]]:
    """Give name, offset of its first header, offset of its data, and size of every regular member from `at` on.

    The blocks that end an archive are given as a member without a name, of size -1, and nothing after them.
    """
    first, name, told_size = at, "", -1
    while at < end:
        block = read(at, at + BLOCK)
        if block == ZEROS:
            yield "", at, at, -1
            return
        if not block:
            return
        own_name, size, kind = read_header(block, at)
        if kind in EXTENSIONS:
            begin, at = at + BLOCK, at + BLOCK + padded(size)
            if size > MAX_EXTENSION_BYTES or at > end:
                raise DamagedTar(BAD_HEADER, begin - BLOCK, f"a header's extension of {size} bytes")
            if kind in (LONG_NAME, PAX):
                name, told_size = extend(kind, read(begin, begin + size), begin, name, told_size)
            elif kind == PAX_GLOBAL and not name and told_size < 0:
                first = at
            continue
        if told_size >= 0:
            size = told_size
        begin = at + BLOCK
        at = begin if kind in WITHOUT_DATA else begin + (size + 511 & -512)
        if at > end:
            raise DamagedTar(CUT, end, f"the archive ends within member {name or own_name!r}")
        if kind in REGULAR:
            yield name or own_name, first, begin, size
        elif kind in SPLIT:
            raise DamagedTar(UNSUPPORTED, first, f"member {name or own_name!r} is sparse or of several volumes")
        first, name, told_size = at, "", -1


def padded(size: int) -> int:
    """Round up to whole blocks."""
    return size + BLOCK - 1 & -BLOCK


def read_header(block: bytes, at: int) -> tuple[str, int, bytes]:
    """Give name, size and type of a header block whose checksum is right."""
    if len(block) < BLOCK:
        raise DamagedTar(CUT, at, "the archive ends within a header")
    name, size_field, told, kind, magic, prefix = FIELDS.unpack(block)
    # Adler-32 begins as the sum of all bytes and 1: the checksum of tar at the speed of C.
    if adler32(block) & 0xFFFF != adler_of(told):
        check_signed(block, told, at)
    try:
        size = int(size_field[:11], 8)
    except ValueError:
        size = unusual_size(size_field)
    else:
        size = size if size_field[11] in b"\0 " else unusual_size(size_field)
    if size < 0:
        raise DamagedTar(BAD_SIZE, at, "a member's size is no number")
    text = name.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    if prefix[0] and magic == b"ustar\0":
        text = prefix.partition(b"\0")[0].decode("utf-8", "backslashreplace") + "/" + text
    return text, size, kind


@lru_cache(1 << 15)
def adler_of(told: bytes) -> int:
    """Give the low half of the Adler-32 that a header with this checksum field has; -1 for what is no checksum."""
    checksum = checksum_of(told)
    return (checksum - CHECKSUM_SPACES + sum(told) + 1) % ADLER_MODULUS if checksum >= 0 else -1


def checksum_of(told: bytes) -> int:
    """Read a checksum field; -1 for what is none."""
    try:
        return int(told.partition(b"\0")[0], 8)
    except ValueError:
        return -1


def check_signed(block: bytes, told: bytes, at: int) -> None:
    """Refuse a header but for the sum of old archivers, which took bytes as signed."""
    if checksum_of(told) != sum(SIGNED.unpack(block)) + CHECKSUM_SPACES:
        if at == 0 and block.startswith(COMPRESSED_STARTS):
            raise DamagedTar(COMPRESSED, at, "the archive is compressed: unpack it, so that samples can be read alone")
        raise DamagedTar(BAD_HEADER, at, "a header is spoiled (its checksum is wrong)")


def unusual_size(field: bytes) -> int:
    """Read a size that is not eleven octal digits; -1 for what is none."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return -1


def extend(kind: bytes, data: bytes, at: int, name: str, size: int) -> tuple[str, int]:
    """Read what an extension says of the next member: its name, and its size or -1."""
    if kind == LONG_NAME:
        return data.partition(b"\0")[0].decode("utf-8", "backslashreplace"), size
    begin = 0
    while begin < len(data) and data[begin] != 0:
        digits, _, rest = data[begin : begin + 20].partition(b" ")
        length = int(digits) if digits.isdigit() and rest else 0
        record = data[begin + len(digits) + 1 : begin + length]
        key, equals, value = record[:-1].partition(b"=")
        if length > len(data) - begin or record[-1:] != b"\n" or not equals:
            raise DamagedTar(BAD_HEADER, at + begin, "a pax record is spoiled")
        if key == b"path":
            name = value.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise DamagedTar(BAD_SIZE, at + begin, "a member's size is no number")
            size = int(value)
        elif key.startswith(b"GNU.sparse."):
            raise DamagedTar(UNSUPPORTED, at + begin, "a member is sparse")
        begin += length
    return name, size


def check_end(read: Read, at: int, size: int) -> None:
    """Look at what follows the last member: two blocks of zeros, then padding."""
    if read(at + BLOCK, at + 2 * BLOCK) != ZEROS:
        raise DamagedTar(NO_END, at + BLOCK, "the second of the blocks that end an archive is not there")
    begin = at + 2 * BLOCK
    rest = read(begin, min(size, begin + MAX_PADDING_BYTES + 1))
    if len(rest) > MAX_PADDING_BYTES or rest.count(0) != len(rest):
        raise DamagedTar(AFTER_END, begin, "the archive goes on after its end (several in one file?)")


def stream_size(stream: BinaryIO, size: int | None) -> int:
    """Give the size of a stream; one that is not known is taken for endless."""
    if size is None:
        return stream.seek(0, 2) if stream.seekable() else 1 << 62
    return size


def reader(stream: BinaryIO) -> Read:
    """Read a stream by offsets, which only grow where it cannot seek."""
    seekable = stream.seekable()
    at = -1 if seekable else 0

    def read(start: int, stop: int) -> bytes:
        nonlocal at
        if seekable:
            if start != at:
                stream.seek(start)
        else:
            while at < start and (skipped := len(stream.read(min(start - at, MAX_PADDING_BYTES)))):
                at += skipped
            if at < start:
                return b""
        data = stream.read(stop - start)
        while len(data) < stop - start and (more := stream.read(stop - start - len(data))):
            data += more
        at = start + len(data)
        return data

    return read
