"""Small videos made with PyAV for the tests: pictures in, a file's bytes out."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
SHARP = {"b": "20M", "qmin": "1", "qmax": "1", "sc_threshold": "1000000000"}
"""Options of FFmpeg's own encoders: each frame as it is, key frames where they are asked for."""
OWN = {"mpeg4", "mpeg2video", "flv"}
SHADE = 3  # levels of grey from one frame to the next, far enough apart to be told from each other


def shade(number):
    """Draw a frame in a grey that tells its number, 0..79."""
    return np.full((HEIGHT, WIDTH, 3), 8 + SHADE * number, np.uint8)


def quarters(_number):
    """Draw red and green over blue and white."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2, 0] = picture[: HEIGHT // 2, WIDTH // 2 :, 1] = 255
    picture[HEIGHT // 2 :, : WIDTH // 2, 2] = picture[HEIGHT // 2 :, WIDTH // 2 :] = 255
    picture[HEIGHT // 2 :, : WIDTH // 2, :2] = 0
    return picture


def noise(number):
    """Draw a frame that no codec makes small."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def add_stream(container, codec, picture, rate, pixels, options, context):
    height, width = picture.shape[:2]
    stream = container.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, pixels
    stream.codec_context.thread_count = 1
    for name, value in context.items():
        setattr(stream.codec_context, name, value)
    return stream


def encode(
    codec="mpeg4",
    format="mp4",
    draw=shade,
    frames=75,
    rate=25,
    pixels="yuv420p",
    times=None,
    options=None,
    container_options=None,
    turn=None,
    matrix=None,
    **context,
):
    """Encode `frames` pictures; `times` are in 1000ths of a second, `turn` is what `set_display_rotation` takes."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=container_options or {}) as container:
        stream = add_stream(
            container, codec, draw(0), rate, pixels, (SHARP if codec in OWN else {}) | (options or {}), context
        )
        if turn is not None:
            stream.set_display_rotation(*turn)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def copy(data, change, format="mp4", streams=1, **options):
    """Write the packets of a video anew, each as `change(number, packet)` gives it; `None` leaves one out."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=format, **options) as container:
        copies = [container.add_stream_from_template(source.streams.video[0], opaque=True) for _ in range(streams)]
        container.start_encoding()
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            changed = change(number, packet)
            if changed is not None:
                changed.stream = copies[0]
                container.mux_one(changed)
    return file.getvalue()
