"""A clip, stored as JPEG frames or as one short video → T frames of the training size, at even times.

    Medium → which frames (by their rate and `roll`) → only those decoded → out [T, 3, S, S] uint8, how many

A video is bytes of an unknown hand: limits of its size, tables, duration and frames come before decoding, FFmpeg is
given one format's reader and no name to open, and CPU time is bounded. One thread decodes.
"""

from __future__ import annotations

import bisect
import io
import math
import re
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from flamingo_model.pixels import (
    EMPTY,
    SIDEWAYS,
    TOO_LARGE,
    TRUNCATED,
    UNREADABLE,
    BadImage,
    Codes,
    Colour,
    decode_image,
    halvings,
    place,
    turned,
    wanted_size,
)
from flamingo_model.samples import Medium

TOO_LONG = "too_long"
TOO_SLOW = "too_slow"
NO_FRAMES = "no_frames"
CODECS = "h264,hevc,vp8,vp9,libdav1d,av1,mpeg4"
MAX_SAMPLES = 1_000_000  # that the tables of an MP4 declare, sound included: 24 bytes of FFmpeg's index each
PROBED_PIXELS = 8192 * 4352  # of a frame that FFmpeg decodes on opening; above it no size is known
MAX_BOXES = 100_000  # of an MP4 walked in Python
MAX_LAST_S = 1.0  # that a last frame is shown, whatever it says
ROUNDING_S = 1e-6  # times that are whole in the file's ticks need not be in binary


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """Which videos are decoded."""

    max_bytes: int = 100_000_000
    """Bytes of a file."""
    max_pixels: int = 9_437_184
    """Pixels of a coded frame: 4096 x 2304."""
    max_duration_s: float = 600.0
    """Seconds from the first to the last frame: clips are cut already."""
    max_frames: int = 40_000
    """Coded frames: ten minutes at 60 a second and some more."""
    max_decode_s: float = 20.0
    """CPU seconds of a clip."""


VIDEOS = ClipLimits()


def clip_frames(
    medium: Medium,
    frames: int,
    fps: float,
    roll: float,
    out: Codes,
    fit: str,
    fill: Colour,
    limits: ClipLimits = VIDEOS,
) -> int:
    """Decode up to `frames` frames in a row, `fps` to a second, into `out` [T, 3, S, S] and tell how many.

    A clip that is shorter gives fewer: what stands behind them in `out` is not touched. `roll` (0 <= roll < 1)
    chooses the first one among all that leave as many. Each frame is what is shown at its time, so that of frames
    stored at a whole multiple of `fps` every so-many-th is taken; frames whose rate is unknown (0) are taken in a row.
    A `BadImage` says why a clip is refused, which may be after some frames were written.
    """
    if not medium.data:
        raise BadImage(EMPTY, "a clip without data")
    if medium.kind == "video":
        return video_frames(bytes(medium.data[0]), frames, fps, roll, out, fit, fill, limits)
    each = medium.fps / fps if medium.fps > 0 else 1.0
    last, (count, room) = len(medium.data) - 1, row(len(medium.data), each, frames)
    start = min(int(roll * room), math.ceil(room) - 1)  # a roll of nearly 1 may be rounded up
    for number in range(count):
        index = min(last, math.floor(start + number * each + ROUNDING_S))
        try:
            decode_image(medium.data[index], out[number], fit, fill)
        except BadImage as error:
            raise BadImage(error.reason, f"frame {index} of 0..{last}: {error}") from None
    return count


def row(length: float, step: float, most: int) -> tuple[int, float]:
    """Tell how many points that are `step` apart fit into [0, length), up to `most`, and the room for the first one."""
    count = max(1, min(most, math.ceil(length / step - ROUNDING_S)))
    return count, max(0.0, length - (count - 1) * step)


def video_frames(
    data: bytes, frames: int, fps: float, roll: float, out: Codes, fit: str, fill: Colour, limits: ClipLimits
) -> int:
    """Decode frames of a video, as `clip_frames` does."""
    format = name_container(data, limits)
    reader = Reader(data, limits.max_decode_s)
    try:
        with open_video(reader, format, limits) as container:
            stream = choose_stream(container, limits)
            timeline = read_timeline(container, stream, reader, limits)
            times = [float((pts - timeline.shown[0][0]) * timeline.tick_s) for pts, _ in timeline.shown]
            count, room_s = row(timeline.length_s, 1 / fps, frames)
            points = [roll * room_s + number / fps for number in range(count)]
            wanted = [timeline.shown[bisect.bisect_right(times, point + ROUNDING_S) - 1][1] for point in points]
            Decoder(stream, timeline, reader, Drawer(stream, fit, fill)).decode(wanted, out)
            return len(wanted)
    except (FFmpegError, IndexError) as error:  # PyAV's own list of streams may lack one that appeared meanwhile
        reader.check_time()
        raise BadImage(UNREADABLE, f"{format}: {error}") from None


def name_container(data: bytes, limits: ClipLimits) -> str:
    """Name FFmpeg's reader by the first bytes; a file that is cut short, or declares too much, is refused."""
    if not data:
        raise BadImage(EMPTY, "no bytes")
    if len(data) > limits.max_bytes:
        raise BadImage(TOO_LARGE, f"{len(data)} bytes, at most {limits.max_bytes}")
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        check_boxes(data)
        return "mov"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        check_segment(data)
        return "matroska"
    raise BadImage(UNREADABLE, f"no MP4 or WebM; starts with {data[:8]!r}")


TABLE = re.compile(rb"(?P<sizes>stsz|stz2)|(?P<runs>stts|ctts)|(?P<fragment>trun)|(?P<packed>cmov)")


def check_boxes(data: bytes) -> None:
    """Walk the outer boxes of an MP4: FFmpeg takes memory for as many samples as their tables declare."""
    at = declared = 0
    for _ in range(MAX_BOXES):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        end = at + max(size, 8)
        if end > len(data):
            raise BadImage(TRUNCATED, f"an MP4 of {len(data)} bytes whose box {kind!r} ends at {end}")
        for table in () if kind == b"mdat" else TABLE.finditer(data, at, end):
            declared += samples_in(data, table)
            if declared > MAX_SAMPLES * 3:  # one sample may stand in three tables
                raise BadImage(TOO_LARGE, f"tables of more than {MAX_SAMPLES} samples")
        if end == len(data):
            return
        at = end
    raise BadImage(TOO_LARGE, f"an MP4 of more than {MAX_BOXES} boxes")


def samples_in(data: bytes, table: re.Match[bytes]) -> int:
    """Tell how many samples a table declares."""
    at = table.end()
    if table.lastgroup == "packed":
        raise BadImage(UNREADABLE, "an MP4 with a compressed header")
    if table.lastgroup == "sizes":
        return int.from_bytes(data[at + 8 : at + 12], "big")
    count = int.from_bytes(data[at + 4 : at + 8], "big")
    if table.lastgroup == "fragment":
        return count
    rows = data[at + 8 : at + 8 + 8 * min(count, MAX_SAMPLES)]
    return sum(samples for samples, _ in struct.iter_unpack(">II", rows[: len(rows) // 8 * 8]))


def check_segment(data: bytes) -> None:
    """Refuse a WebM that ends before its segment does; one that was written live names no size."""
    at = 4
    for name in (b"", b"\x18\x53\x80\x67"):
        if not data.startswith(name, at):
            return
        at += len(name)
        length = 9 - data[at].bit_length() if at < len(data) else 1
        size = int.from_bytes(data[at : at + length], "big") & ~(-1 << 7 * length)
        at += length + (size if not name else 0)
    if size != ~(-1 << 7 * length) and at + size > len(data):
        raise BadImage(TRUNCATED, f"a WebM of {len(data)} bytes that should end at {at + size}")


class Reader(io.BytesIO):
    """The file for FFmpeg, which ends early when the time is up: an exception would be lost on its way."""

    def __init__(self, data: bytes, limit_s: float) -> None:
        super().__init__(data)
        self.limit_s = limit_s
        self.until_s = time.thread_time() + limit_s

    def check_time(self) -> None:
        """Refuse a file that takes too long."""
        if time.thread_time() > self.until_s:
            raise BadImage(TOO_SLOW, f"more than {self.limit_s} CPU-s")

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to so many bytes."""
        return b"" if time.thread_time() > self.until_s else super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; FFmpeg adds flags of its own to `whence`."""
        return super().seek(offset, whence & 3)


def open_video(reader: Reader, format: str, limits: ClipLimits) -> InputContainer:
    """Open a video with one format's reader, which may decode a first frame to learn of the stream."""
    options = {
        "protocol_whitelist": "none",
        "codec_whitelist": CODECS,
        "max_pixels": str(max(limits.max_pixels, PROBED_PIXELS)),
        "max_streams": "16",
        "fpsprobesize": "0",  # only the frames that tell the size are decoded on opening
    }
    container: InputContainer = av.open(reader, "r", format=format, options=options, metadata_errors="replace")
    return container


def choose_stream(container: InputContainer, limits: ClipLimits) -> VideoStream:
    """Choose the first video stream that is no cover picture."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    stream = next((stream for stream in container.streams.video if not stream.disposition & pictures), None)
    if stream is None:
        raise BadImage(NO_FRAMES, f"no video among {len(container.streams)} streams")
    context = stream.codec_context
    if context is None or context.codec.name not in CODECS.split(","):
        raise BadImage(UNREADABLE, f"the codec {context.codec.name if context else 'is unknown'}")
    if (pixels := context.width * context.height) > limits.max_pixels:
        raise BadImage(TOO_LARGE, f"{pixels} px, at most {limits.max_pixels}")
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    context.thread_count = 1
    context.options = {"max_pixels": str(limits.max_pixels)}
    return stream


@dataclass(frozen=True, slots=True)
class Timeline:
    """The packets in decoding order from the first key frame on; `shown`: the pts and packet of each frame, by pts."""

    packets: list[Packet[VideoStream]]
    shown: list[tuple[int, int]]
    tick_s: Fraction
    length_s: float

    def key_before(self, index: int, lowest: int) -> int:
        """Find the key frame that a packet's decoding starts from: not below `lowest`, nor shown after it."""
        pts = self.packets[index].pts or 0
        while index > lowest and not (self.packets[index].is_keyframe and (self.packets[index].pts or 0) <= pts):
            index -= 1
        return index


def read_timeline(container: InputContainer, stream: VideoStream, reader: Reader, limits: ClipLimits) -> Timeline:
    """Read all packets without decoding them."""
    packets: list[Packet[VideoStream]] = []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise BadImage(UNREADABLE, f"packet {len(packets)} is damaged")
        if packet.size and (packets or packet.is_keyframe):
            packet.pts = packet.dts if packet.pts is None else packet.pts
            packets.append(packet)
        if len(packets) > limits.max_frames:
            raise BadImage(TOO_LARGE, f"more than {limits.max_frames} frames")
    reader.check_time()
    first, tick_s = packets[0].pts if packets else None, stream.time_base
    shown = sorted(
        (packet.pts, index)
        for index, packet in enumerate(packets)
        if packet.pts is not None and first is not None and packet.pts >= first and not packet.is_discard
    )
    if not shown or not tick_s:
        raise BadImage(NO_FRAMES, "no frame can be decoded and placed in time")
    (start, _), (last, index) = shown[0], shown[-1]
    length_s = float((last - start) * tick_s)
    if length_s > limits.max_duration_s:
        raise BadImage(TOO_LONG, f"{length_s:.0f} s, at most {limits.max_duration_s}")
    last_s = float((packets[index].duration or 0) * tick_s) or length_s / max(1, len(shown) - 1)
    return Timeline(packets, shown, tick_s, length_s + min(last_s, MAX_LAST_S))


ORIENTATIONS = {"-00+": 2, "-00-": 3, "+00-": 4, "0++0": 5, "0+-0": 6, "0--0": 7, "0-+0": 8}
"""EXIF's orientation by the signs of a display matrix's a, b, c, d."""
MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
HD_HEIGHT_PX = 720  # from here on players take an unnamed colour matrix for BT.709, below for BT.601
WIDEST_PIXEL = 4  # times as wide as high, or the other way; what claims more is square
SCALING = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class Drawer:
    """Draws decoded frames of a stream into squares: scaled by halves and to RGB by FFmpeg, then as pictures are."""

    def __init__(self, stream: VideoStream, fit: str, fill: Colour) -> None:
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.aspect = float(aspect) if Fraction(1, WIDEST_PIXEL) <= aspect <= WIDEST_PIXEL else 1.0
        self.fit, self.fill = fit, fill
        self.scaler = VideoReformatter()

    def draw(self, frame: VideoFrame, out: Codes) -> None:
        """Draw a frame into `out` [3, S, S], upright, its pixels made square."""
        turn = orientation_of(frame)
        shown = (frame.height, frame.width * self.aspect)
        high, wide = wanted_size(shown, out.shape[-1], self.fit)
        factor = min(halvings(frame.height, high), halvings(frame.width, wide))
        unnamed = Colorspace.ITU709 if frame.height >= HD_HEIGHT_PX else Colorspace.ITU601
        rgb = self.scaler.reformat(
            frame,
            -(-frame.width // factor),
            -(-frame.height // factor),
            "rgb24",
            src_colorspace=None if frame.format.is_rgb else MATRICES.get(frame.colorspace, unnamed),
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        pixels = turned(np.asarray(rgb.to_ndarray(), dtype=np.uint8), turn)
        place(pixels, pixels.shape[:2], shown[::-1] if turn in SIDEWAYS else shown, out, self.fit, self.fill)


def orientation_of(frame: VideoFrame) -> int:
    """Read a frame's display matrix as EXIF's orientation; angles that are no quarters are shown as they come."""
    found = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]  # typed by name
    matrix = b"" if found is None else bytes(found)
    a, b, _, c, d = struct.unpack("=5i", matrix[:20].ljust(20, b"\0"))
    return ORIENTATIONS.get("".join("0+-"[(value > 0) - (value < 0)] for value in (a, b, c, d)), 1)


class Decoder:
    """Decodes wanted frames of a timeline, each from its key frame on, leaving out what nothing refers to."""

    def __init__(self, stream: VideoStream, timeline: Timeline, reader: Reader, drawer: Drawer) -> None:
        self.context, self.timeline, self.reader, self.drawer = stream.codec_context, timeline, reader, drawer

    def decode(self, wanted: Sequence[int], out: Codes) -> None:
        """Draw the frames of the packets `wanted` into `out`, in that order; a frame wanted twice is copied."""
        first = {index: number for number, index in reversed([*enumerate(wanted)])}
        missing = {self.timeline.packets[index].pts: index for index in first}
        for plain in (False, True):  # some key frames are none: then once more, from the beginning on
            for frame in self.frames(sorted(missing.values()), plain) if missing else ():
                index = None if frame.is_corrupt else missing.pop(frame.pts, None)
                if index is not None:
                    self.drawer.draw(frame, out[first[index]])
        if missing:
            raise BadImage(UNREADABLE, f"{len(missing)} of {len(first)} frames cannot be decoded")
        for number, index in enumerate(wanted):
            if first[index] != number:
                out[number] = out[first[index]]

    def frames(self, wanted: Sequence[int], plain: bool) -> Iterator[VideoFrame]:
        """Give the frames from a key frame on: where the first one that comes out is none, the packet's flag lied."""
        fresh, sound = True, False
        for number in self.feeds(wanted, plain):
            self.context.skip_frame = "DEFAULT" if plain or number is None or number in wanted else "NONREF"
            for frame in self.send(None if number is None else self.timeline.packets[number]):
                sound, fresh = sound or (frame.key_frame and (fresh or plain)), False
                if sound:
                    yield frame
            if number is None:
                self.context.flush_buffers()
                fresh, sound = True, False

    def feeds(self, wanted: Sequence[int], plain: bool) -> Iterator[int | None]:
        """Give the numbers of the packets to decode, with `None` before each leap and at the end."""
        fed = 0
        for index in wanted:
            start = fed if plain else self.timeline.key_before(index, fed)
            if start > fed:
                yield None
            yield from range(start, index + 1)
            fed = index + 1
        yield None

    def send(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Decode a packet, or what is still to come; what cannot be decoded gives nothing."""
        self.reader.check_time()
        try:
            return self.context.decode(packet)
        except FFmpegError:
            return []
