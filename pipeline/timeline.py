"""Bytes that claim to be a video → the coded frames of one stream and their times, or the reason for refusing it.

    data → name_container → open_video (FFmpeg's reader of that one format) → choose_stream → read_timeline

FFmpeg is given bytes, never a name: it can open nothing else. The times are those of the packets, whatever a header
says, and limits come first: by the first bytes, the tables' sizes, the frame's size, the count and the times.
"""

from __future__ import annotations

import io
import mmap
import re
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipeline.media import CORRUPT, EMPTY, TOO_MANY_BYTES, TOO_MANY_PIXELS, TRUNCATED, UNSUPPORTED_FORMAT, UnfitError
from schemas.video import MAX_FRAMES

NOT_A_VIDEO = "not_a_video"
NO_VIDEO_STREAM = "no_video_stream"
UNSUPPORTED_CODEC = "unsupported_codec"
TOO_LONG = "too_long"
TOO_SHORT = "too_short"
TOO_MANY_FRAMES = "too_many_frames"
NO_FRAMES = "no_frames"
TOO_SLOW = "too_slow"
STILL = "still"

NONE = "none"
FRAMES = "frames"
CLIPS = "clips"
MAX_SAMPLES = 10_000_000  # that an MP4's tables declare, 24 bytes of FFmpeg's index each; raw sound has 44,100 a second
MAX_BOXES = 100_000  # of an MP4 walked in Python; an hour of fragments of a second has 7,200
PROBED_PIXELS = 8192 * 4352  # of a frame that FFmpeg decodes on opening; above it a video is called corrupt
MAX_LAST_S = 1.0  # that a last frame is shown, whatever it says: else one frame makes a video of hours


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """Which videos are cut and how they are stored; a `ValueError` says what cannot be.

    Flamingo takes 8 frames at 1 frame a second (SPEC-flamingo, T = 8): a loader takes 8 frames in a row of a clip, from
    any first one, and repeats the last frame of a shorter clip.
    """

    keep: str = NONE
    """What is written: "none", "frames" (JPEGs) or "clips" (MP4s, not encoded anew, without sound)."""
    fps: float = 1.0
    """Frames a second of a clip (SPEC-corpus 1, VTP)."""
    min_clip_s: float = 2.0
    """Seconds of a clip; a shorter one is left out."""
    max_clip_s: float = 24.0
    """Seconds of a clip (SPEC-corpus 1: VTP clips are about 22 s long)."""
    max_clips: int = 16
    """Clips of a video; of more, so many are taken, evenly spread."""
    max_bytes: int = 100_000_000
    """Bytes of a file; a larger one is not looked at. Decoding holds about the file once more."""
    max_pixels: int = 9_437_184
    """Pixels of a frame as coded: 4096 x 2304, so that 8K is refused."""
    max_side_px: int = 8_192
    """Pixels of the longer side as shown."""
    max_duration_s: float = 3_600.0
    """Seconds from the first to the last frame."""
    max_frames: int = 250_000
    """Coded frames of a file: an hour at 60 a second and some more."""
    max_decode_s: float = 120.0
    """CPU seconds of a video. One that takes longer gives no clip, so that what is stored is the same everywhere."""
    short_side_px: int = 320
    """Pixels of the shorter side of stored frames, 0 for no shrinking: Flamingo trains at it (SPEC-flamingo)."""

    def __post_init__(self) -> None:
        if self.keep not in (NONE, FRAMES, CLIPS):
            raise ValueError(f"keep is {NONE}, {FRAMES} or {CLIPS}, not {self.keep}")
        if not 0.01 <= self.fps <= 60 or not 0 <= self.min_clip_s <= self.max_clip_s <= 600:
            raise ValueError("fps is 0.01..60, min_clip_s at most max_clip_s and that at most 600")
        if self.max_clip_s * self.fps < 1 or self.max_clips < 1 or self.short_side_px < 0:
            raise ValueError("max_clip_s holds a frame or more, max_clips is 1 or more, short_side_px 0 or more")
        if int(self.max_clip_s * self.fps) > MAX_FRAMES:
            raise ValueError(f"max_clip_s holds at most {MAX_FRAMES} frames, so that fps times max_clip_s is no more")


# FFmpeg knows 350 formats: playlists, scripts and lists of files among them. These are what browsers play and played.
MAGIC = re.compile(
    rb"(?P<mov>.{4}(?:ftyp|moov|mdat|moof|free|skip|wide|pnot))|(?P<matroska>\x1a\x45\xdf\xa3)|(?P<ogg>OggS)"
    rb"|(?P<avi>RIFF.{4}AVI )|(?P<flv>FLV\x01)|(?P<mpegts>\x47.{187}\x47.{187}\x47)|(?P<mpeg>\x00\x00\x01\xba)"
    rb"|(?P<asf>\x30\x26\xb2\x75\x8e\x66\xcf\x11)|(?P<real_media>\.RMF)",
    re.DOTALL,
)
FORMATS = frozenset({"mov", "matroska", "ogg", "avi", "flv", "mpegts", "mpeg"})
CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "theora", "mpeg4", "mpeg1video", "mpeg2video"})
CODECS |= {"mjpeg", "flv", "vp6", "vp6f", "h263"}
MP4_CODECS = frozenset({"h264", "hevc", "vp9", "libdav1d", "av1", "mpeg4"})


def name_container(data: bytes | mmap.mmap, config: VideoConfig) -> str:
    """Name FFmpeg's reader by the first bytes, whatever the URL or a header said."""
    if not len(data):
        raise UnfitError(EMPTY, "no bytes")
    if len(data) > config.max_bytes:
        raise UnfitError(TOO_MANY_BYTES, f"{len(data)} bytes, at most {config.max_bytes}")
    magic = MAGIC.match(data)
    if magic is None:
        raise UnfitError(NOT_A_VIDEO, f"starts with {data[:8]!r}")
    if magic.lastgroup not in FORMATS:
        raise UnfitError(UNSUPPORTED_FORMAT, str(magic.lastgroup))
    return magic.lastgroup


SAMPLE_TABLE = re.compile(rb"stsz|stz2|trun|stts|ctts|cmov")


def check_boxes(data: bytes | mmap.mmap) -> bool:
    """Refuse an MP4 whose tables declare more than they could hold, which FFmpeg takes memory for; is it cut short?"""
    at, declared = 0, 0
    for _ in range(MAX_BOXES):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        end = at + max(size, 8)
        for table in () if kind == b"mdat" else SAMPLE_TABLE.finditer(data, at, min(end, len(data))):
            name, head = table[0], data[table.end() : table.end() + 12]
            if name == b"cmov":
                raise UnfitError(UNSUPPORTED_FORMAT, "a compressed header")
            if name in (b"stts", b"ctts"):
                rows = data[table.end() + 8 : table.end() + 8 + 8 * int.from_bytes(head[4:8], "big")]
                count = int(np.frombuffer(rows[: len(rows) // 8 * 8], ">u4")[::2].sum(dtype=np.int64))
                declared = max(declared, count)
            else:
                count = int.from_bytes(head[4:8] if name == b"trun" else head[8:12], "big")
                declared = declared + count if name == b"trun" else max(declared, count)
            if declared > MAX_SAMPLES:
                raise UnfitError(TOO_MANY_FRAMES, f"a table of {declared} samples, at most {MAX_SAMPLES}")
        if end >= len(data):
            return end > len(data)
        at = end
    raise UnfitError(CORRUPT, f"an MP4 of more than {MAX_BOXES} boxes")


def is_segment_cut(data: bytes | mmap.mmap) -> bool:
    """Tell whether a Matroska file ends before its segment does; one that was written live names no size."""
    header_bytes, at = read_number(data, 4)
    at += header_bytes
    if data[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    size, at = read_number(data, at + 4)
    return at + size > len(data)


def read_number(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """Read an EBML size, 0 where it is unknown, and tell where it ends."""
    length = 9 - data[at].bit_length() if at < len(data) else 1
    number = int.from_bytes(data[at : at + length], "big") & ~(-1 << 7 * length)
    return (0 if number == ~(-1 << 7 * length) else number), at + length


class Reader:
    """A file of given bytes for FFmpeg, which ends early when the time is up: an exception would be lost on its way."""

    def __init__(self, data: bytes | mmap.mmap, limit_s: float) -> None:
        self.data = data
        self.at = 0
        self.until_s = time.thread_time() + limit_s

    def is_late(self) -> bool:
        """Look at this thread's CPU time."""
        return time.thread_time() > self.until_s

    def read(self, size: int) -> bytes:
        """Read up to so many bytes."""
        part = b"" if self.is_late() else self.data[self.at : self.at + size]
        self.at += len(part)
        return part

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, which may lie behind the end."""
        self.at = max(0, offset + (0, self.at, len(self.data))[whence & 3])
        return self.at

    def tell(self) -> int:
        """Tell the place."""
        return self.at


def open_video(reader: Reader, format: str, config: VideoConfig) -> InputContainer:
    """Open a video with one format's reader, which may decode the first frames to learn of the stream."""
    options = {
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(sorted(CODECS)),
        "max_pixels": str(max(config.max_pixels, PROBED_PIXELS)),
        "max_streams": "16",
        "fpsprobesize": "0",
    }
    return av.open(reader, "r", format=format, options=options, buffer_size=1 << 16, metadata_errors="replace")


def choose_stream(container: InputContainer, config: VideoConfig) -> VideoStream:
    """Choose the default video stream, else the first; cover pictures are none."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        raise UnfitError(NO_VIDEO_STREAM, f"{len(container.streams)} streams")
    stream = min(streams, key=lambda stream: (not stream.disposition & Disposition.default, stream.index))
    context = stream.codec_context
    if context is None or context.codec.name not in CODECS:
        raise UnfitError(UNSUPPORTED_CODEC, context.codec.name if context else "unknown to FFmpeg")
    if context.width * context.height > config.max_pixels:
        raise UnfitError(TOO_MANY_PIXELS, f"{context.width}x{context.height} px, at most {config.max_pixels} in all")
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    context.thread_count = 1
    context.flags |= Flags.bitexact
    context.options = {"max_pixels": str(config.max_pixels)}
    return stream


@dataclass(frozen=True, slots=True)
class Timeline:
    """The coded frames of a video from its first key frame on, in decoding order, and when each is shown.

    `shown` holds the pts and the packet of each frame that is shown, by pts; `end` is the pts where the last one ends.
    `lead_s` is how long after the video's beginning the first one is shown, `damage` a reason or empty.
    """

    packets: list[Packet[VideoStream]]
    shown: list[tuple[int, int]]
    end: int
    tick_s: Fraction
    lead_s: Fraction
    damage: str

    def second(self, pts: Fraction | int) -> float:
        """Tell the seconds from the video's beginning, to a thousandth."""
        return round(float((pts - self.shown[0][0]) * self.tick_s + self.lead_s), 3)

    def key_before(self, index: int, lowest: int) -> int:
        """Find the key frame that a packet's decoding starts from, not below `lowest`.

        Frames that are shown before their key frame need the one before it.
        """
        pts = self.packets[index].pts or 0
        while index > lowest and not (self.packets[index].is_keyframe and (self.packets[index].pts or 0) <= pts):
            index -= 1
        return index


def read_timeline(
    container: InputContainer, stream: VideoStream, reader: Reader, cut_short: bool, config: VideoConfig
) -> Timeline:
    """Read all packets without decoding them. Behind a damaged one, frames count again from the next key frame on."""
    packets: list[Packet[VideoStream]] = []
    damage, whole = TRUNCATED if cut_short else "", False
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                damage, whole = damage or (TRUNCATED if reader.at >= len(reader.data) else CORRUPT), False
                continue
            whole = whole or packet.is_keyframe
            if packet.size and whole:
                packet.pts = packet.dts if packet.pts is None else packet.pts
                packets.append(packet)
            if len(packets) > config.max_frames:
                raise UnfitError(TOO_MANY_FRAMES, f"more than {config.max_frames}")
    except FFmpegError:
        damage = damage or CORRUPT
    except IndexError:
        pass  # at the end, of PyAV: a stream that appeared meanwhile may be in its list of flags and not of streams
    if reader.is_late():
        raise UnfitError(TOO_SLOW, f"more than {config.max_decode_s} CPU-s")
    first = packets[0].pts if packets else None
    shown = sorted(
        (packet.pts, index)
        for index, packet in enumerate(packets)
        if packet.pts is not None and first is not None and packet.pts >= first and not packet.is_discard
    )
    tick_s = stream.time_base
    if not shown or not tick_s:
        raise UnfitError(damage or NO_FRAMES, "no frame can be decoded and placed in time")
    (start, _), (last, index) = shown[0], shown[-1]
    if (last - start) * tick_s > config.max_duration_s:
        raise UnfitError(TOO_LONG, f"{float((last - start) * tick_s):.0f} s, at most {config.max_duration_s}")
    shows = packets[index].duration or (last - start) // max(1, len(shown) - 1)
    lead_s = start * tick_s - Fraction(container.start_time or 0, av.time_base)
    lead_s = lead_s if 0 <= lead_s <= config.max_duration_s else Fraction(0)
    return Timeline(packets, shown, last + min(shows, int(MAX_LAST_S / tick_s)), tick_s, lead_s, damage)
