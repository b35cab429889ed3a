"""The floor under a fetch: decode, shrink and encode pictures that are at hand already, and nothing else.

    python bench/decoders.py pillow build/pictures/2000.bin 256 92 2

Prints JSON: seconds of the whole and CPU seconds of all processes, without their start. `pillow` are the calls of the
project; `simplejpeg` is libjpeg-turbo with OpenCV's resize by areas, run by the interpreter of the peers.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Decode = Callable[[Any, int, int], bytes]


def wanted(width: int, height: int, side_px: int) -> tuple[int, int]:
    short = min(width, height)
    return (width * side_px + short // 2) // short, (height * side_px + short // 2) // short


def load_pillow() -> Decode:
    from PIL.JpegImagePlugin import JpegImageFile

    from pipeline.shrink import shrink

    def decode(data: memoryview, side_px: int, quality: int) -> bytes:
        file = JpegImageFile(io.BytesIO(data))
        size = wanted(*file.size, side_px)
        drafted = file.draft("RGB", size)
        file.load()
        buffer = io.BytesIO()
        picture = shrink(file, drafted[1][2:] if drafted else file.size, size)
        picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        return buffer.getvalue()

    return decode


def load_simplejpeg() -> Decode:
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)

    def decode(data: memoryview, side_px: int, quality: int) -> bytes:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        size = wanted(width, height, side_px)
        picture = simplejpeg.decode_jpeg(data, "BGR", min_width=size[0], min_height=size[1], min_factor=1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return simplejpeg.encode_jpeg(picture, quality, "BGR", "420")

    return decode


LOAD = {"pillow": load_pillow, "simplejpeg": load_simplejpeg}


def work(name: str, pack: Path, share: slice, side_px: int, quality: int) -> tuple[float, float, float, int, int]:
    from picture_server import read_pack

    decode = LOAD[name]()
    pictures = read_pack(pack)[share]
    decode(pictures[0], side_px, quality)
    started, cpu = time.monotonic(), time.process_time()
    size = sum(len(decode(picture, side_px, quality)) for picture in pictures)
    return started, time.monotonic(), time.process_time() - cpu, len(pictures), size


def main() -> None:
    name, pack, side_px, quality, workers = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(work, name, pack, slice(number, None, workers), side_px, quality) for number in range(workers)
        ]
        started, ended, cpu_s, images, size = zip(*(job.result() for job in jobs), strict=True)
    found = {"seconds": max(ended) - min(started), "cpu_s": sum(cpu_s), "images": sum(images), "bytes": sum(size)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
