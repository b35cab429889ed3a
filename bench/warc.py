"""Reading .warc.gz: records/s and MB/s of ours, of FastWARC and warcio, and of inflating alone, in one run.

    python bench/warc.py ../shared/corpus/*.warc.gz

Ours cuts the file into gzip members and parses each, so that damage costs one record and workers can share a file.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fastwarc.warc import ArchiveIterator
from isal import isal_zlib
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from pipeline import warc

LIMIT = 64 << 20
BLOCK = 1 << 16
ROUNDS = 5


def ours(data: bytes) -> tuple[int, int]:
    records = list(warc.payloads(warc.frames(io.BytesIO(data), 0, len(data), LIMIT), LIMIT))
    return len(records), sum(len(record.payload) for record in records if isinstance(record, warc.Record))


def fastwarc(data: bytes) -> tuple[int, int]:
    sizes = [len(record.reader.read()) for record in ArchiveIterator(io.BytesIO(data), auto_decode="all")]
    return len(sizes), sum(sizes)


def warcio(data: bytes) -> tuple[int, int]:
    sizes = [len(record.content_stream().read()) for record in WarcioIterator(io.BytesIO(data))]
    return len(sizes), sum(sizes)


def inflate(data: bytes) -> tuple[int, int]:
    members = size = position = 0
    while position < len(data):
        member, first = isal_zlib.decompressobj(31), position
        while not member.eof:
            size += len(member.decompress(data[position : position + BLOCK]))
            position += BLOCK
        position = position - len(member.unused_data) if position <= len(data) else len(data) - len(member.unused_data)
        members += 1
        assert position > first
    return members, size


def cpu_seconds(read: Callable[[bytes], tuple[int, int]], data: bytes) -> tuple[float, int, int]:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        records, size = read(data)
        best = min(best, time.process_time() - started)
    return best, records, size


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        data = path.read_bytes()
        floor, _, _ = cpu_seconds(inflate, data)
        print(f"{path.name}: {len(data) / 1e6:.1f} MB; inflating alone {floor:.3f} CPU-s")
        for read in (ours, fastwarc, warcio):
            seconds, records, size = cpu_seconds(read, data)
            print(
                f"   {read.__name__:9} {seconds:.3f} CPU-s, {records / seconds:8,.0f} records/s, "
                f"{size / seconds / 1e6:6,.0f} MB/s, {seconds / floor:.2f}x the floor"
            )


if __name__ == "__main__":
    main()
