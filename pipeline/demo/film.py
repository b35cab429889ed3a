"""Films of the invented world: an `Animation` comes in, the bytes of an MP4 or WebM file go out.

One thread and no time or version in the file: the same version of FFmpeg writes the same bytes. Another may not, and
an encoder may change what it makes of the same frames; only the frames are the same everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from pipeline.demo.draw import draw_plain
from pipeline.demo.motion import Animation, scene_at

CODINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("mp4", "libx264", {"preset": "superfast", "crf": "30"}),
    "vp8": ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "200k"}),
    "vp9": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"}),
}
"""By the name of a coding: the container, the encoder and its settings, which are the fast ones."""


Planes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def film_bytes(film: Animation, coding: str) -> bytes:
    """Draw and encode an animation; `coding` is a key of `CODINGS`."""
    # Only who draws a film loads FFmpeg.
    import av
    from av.codec.context import Flags

    container_format, codec, options = CODINGS[coding]
    first, buffer = film.poses[0].scene, io.BytesIO()
    with av.open(buffer, "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=film.fps, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = first.width_px, first.height_px, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for planes in draw_frames(film):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    return buffer.getvalue()


def draw_frames(film: Animation) -> Iterator[Planes]:
    """Yield every frame of an animation; a scene that is held is drawn once."""
    drawn = film.poses[0].scene
    planes = studio_planes(draw_plain(drawn, "P"))
    for number in range(film.fps * film.duration_s):
        if (truth := scene_at(film, number / film.fps)) != drawn:
            drawn, planes = truth, studio_planes(draw_plain(truth, "P"))
        yield planes


def studio_planes(image: Image.Image) -> Planes:
    """Return a picture's planes of brightness and colour, one below the other, as encoders take them.

    A drawing has few colours, so these are converted and not its pixels. It is done here because the fast routines of
    FFmpeg's scaler round differently on different processors.
    """
    assert image.palette is not None
    tables = [bytearray(256) for _ in range(3)]
    for colour, index in image.palette.colors.items():
        for table, level in zip(tables, studio_levels(*colour), strict=True):
            table[index] = level
    half_px = (image.width // 2, image.height // 2)
    large, small = image.tobytes(), image.resize(half_px, Image.Resampling.NEAREST).tobytes()
    data = large.translate(tables[0]) + small.translate(tables[1]) + small.translate(tables[2])
    return np.frombuffer(data, np.uint8).reshape(-1, image.width)


def studio_levels(red: int, green: int, blue: int) -> tuple[int, int, int]:
    """Convert a colour by ITU-R BT.601 with brightness in 16..235: what decoders take a small video to be."""
    luma = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    blue_difference = 128 + (-37.797 * red - 74.203 * green + 112.0 * blue) / 255
    red_difference = 128 + (112.0 * red - 93.786 * green - 18.214 * blue) / 255
    return round(luma), round(blue_difference), round(red_difference)
