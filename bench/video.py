"""Sampling videos: frames a second of a core of ours, beside plain PyAV decoding of the same files as the floor.

    python bench/video.py [SECONDS]

"decode" decodes the whole video frame by frame to the same times and keeps nothing; "decode, draw, encode" also scales
and encodes the frame of each time. Ours reads the times first, decodes what the wanted frames need, and
gives described JPEGs. All run on one thread, and the least CPU time of five rounds counts.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from pipeline.clips import Clip, VideoConfig, sample_clips
from pipeline.frames import draw, shape_of
from pipeline.media import MediaConfig, encode

ROUNDS = 5
FPS = 30
CONFIG = VideoConfig(keep="frames")
KINDS = (
    ("h264", "libx264", "mp4", {"preset": "medium", "crf": "23"}),
    ("vp9", "libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8", "b": "1500k"}),
)


def landscape(width: int, height: int) -> np.ndarray:
    """Draw a view with detail of every size, twice as wide as the frame."""
    chance, view = np.random.default_rng(1), np.zeros((height, 2 * width, 3), np.float32)
    for size in (64, 32, 16, 8, 4, 2):
        spots = chance.integers(0, 256, (height // size + 1, 2 * width // size + 1, 3), dtype=np.uint8)
        view += np.asarray(Image.fromarray(spots).resize((2 * width, height), Image.Resampling.BICUBIC)) * size**0.8
    return (255 * (view - view.min()) / (view.max() - view.min())).astype(np.uint8)


def film(codec: str, format: str, options: dict[str, str], width: int, height: int, seconds: int) -> bytes:
    """Film the view: the camera pans, a thing crosses it, the sensor's grain changes from frame to frame."""
    view, file = landscape(width, height), io.BytesIO()
    grains = np.random.default_rng(2).integers(-3, 4, (8, height, width, 1), dtype=np.int16)
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * FPS):
            left = int((np.sin(number / 70) + 1) * width / 2)
            picture = view[:, left : left + width] + grains[number % 8]
            at = number * 4 % (width - height // 4)
            picture[height // 3 : height // 2, at : at + height // 4] //= 3
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def plain(data: bytes, drawn: bool) -> int:
    scaler, taken = VideoReformatter(), 0
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.time >= taken:
                taken += 1
                if drawn:
                    encode(draw(frame, shape_of(frame, None, CONFIG.short_side_px, 8192), scaler), MediaConfig())
    return taken


def ours(data: bytes) -> int:
    return sum(len(clip.frames) for clip in sample_clips("", data, CONFIG, MediaConfig()) if isinstance(clip, Clip))


def decoded(data: bytes) -> int:
    return plain(data, False)


def decoded_and_stored(data: bytes) -> int:
    return plain(data, True)


def cpu_seconds(ways: Sequence[Callable[[bytes], int]], data: bytes) -> tuple[list[float], int]:
    """Take the ways in turn, so that a busy machine slows all of them."""
    best, frames = [float("inf")] * len(ways), set()
    for _ in range(ROUNDS):
        for number, way in enumerate(ways):
            started = time.process_time()
            frames.add(way(data))
            best[number] = min(best[number], time.process_time() - started)
    assert len(frames) == 1
    return best, frames.pop()


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for name, codec, format, options in KINDS:
        for width, height in ((640, 360), (1280, 720)):
            data = film(codec, format, options, width, height, seconds)
            spent, frames = cpu_seconds((decoded, decoded_and_stored, ours), data)
            print(f"{name} {width}x{height}, {seconds} s at {FPS} frames/s, {len(data) / 1e6:.1f} MB:")
            for label, cpu_s in zip(("decode", "decode, draw, encode", "ours"), spent, strict=True):
                print(f"   {label:20} {frames / cpu_s:6.1f} frames/s of a core, {spent[0] / cpu_s:4.0%} of the floor")


if __name__ == "__main__":
    main()
