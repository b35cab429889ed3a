"""Bytes that claim to be a video → clips, as JPEG frames at even times or as cut MP4s, or the reason for refusing it.

data → read_timeline → plan_samples or plan_cuts → Decoder (what wanted frames need) → Clip, ..., Unfit
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import mmap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from pipeline.frames import Shape, describe, draw, shape_of
from pipeline.media import CORRUPT, EMPTY, TRUNCATED, MediaConfig, UnfitError
from pipeline.timeline import (
    CLIPS,
    NO_FRAMES,
    STILL,
    TOO_SHORT,
    TOO_SLOW,
    Reader,
    Timeline,
    VideoConfig,
    check_boxes,
    choose_stream,
    is_segment_cut,
    name_container,
    open_video,
    read_timeline,
)
from schemas.media import Media

__all__ = ["Clip", "Unfit", "VideoConfig", "sample_clips"]

MP4_CODECS = frozenset({"h264", "hevc", "vp9", "libdav1d", "av1", "mpeg4"})


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a video; times are seconds from the video's beginning, sizes those of the original as shown.

    `frames` stand at `start_s`, `start_s + 1 / fps`, ...; each is what is shown at that time. Their URLs are the
    video's with the time as a fragment (`#t=12`). Where `data` holds an MP4, `frames` is its first frame only.
    """

    start_s: float
    end_s: float
    fps: float
    width_px: int
    height_px: int
    frames: tuple[tuple[Media, bytes], ...]
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a video, or a part of it, gave no clip; `clips` are those that are lost, what damage hides as one."""

    reason: str
    detail: str
    clips: int = 1


def sample_clips(
    url: str, data: bytes | Path, config: VideoConfig, media_config: MediaConfig
) -> Iterator[Clip | Unfit]:
    """Cut a video into clips.

    Clips come in their order and before the `Unfit`, if there is one: what was whole before damage is kept. Where
    "clips" are wanted and MP4 cannot hold them (its codec, missing times), the video is given as frames. Whatever
    `data` holds, nothing but `MemoryError` is raised.
    """
    try:
        if isinstance(data, bytes):
            yield from cut(url, data, config, media_config)
        elif not data.stat().st_size:
            raise UnfitError(EMPTY, "no bytes")
        else:
            with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                parts = cut(url, mapped, config, media_config)
            yield from parts
    except UnfitError as unfit:
        yield Unfit(*unfit.args)


def cut(url: str, data: bytes | mmap.mmap, config: VideoConfig, media_config: MediaConfig) -> list[Clip | Unfit]:
    """Cut a video into clips, all at once: a late one gives none."""
    format = name_container(data, config)
    cut_short = check_boxes(data) if format == "mov" else format == "matroska" and is_segment_cut(data)
    reader = Reader(data, config.max_decode_s)
    try:
        with open_video(reader, format, config) as container:
            stream = choose_stream(container, config)
            timeline = read_timeline(container, stream, reader, cut_short, config)
            runs = plan_cuts(timeline, config) if can_cut(stream, timeline, config) else plan_samples(timeline, config)
            decoder = Decoder(stream, timeline, reader, config, media_config, hashlib.sha256(data).hexdigest())
            decoder.decode([index for run in runs for index in run.wanted])
            return collect(url.partition("#")[0], runs, decoder)
    except FFmpegError as error:
        if reader.is_late():
            raise UnfitError(TOO_SLOW, f"more than {config.max_decode_s} CPU-s") from error
        detail = f"{format}: {' '.join(str(error).split())}"[:200]
        ended = NO_FRAMES if isinstance(error, av.error.EOFError) else CORRUPT
        raise UnfitError(TRUNCATED if cut_short else ended, detail) from error


@dataclass(frozen=True, slots=True)
class Run:
    """A clip to be made: its pts, the packets whose frames it takes, and those that its MP4 takes, if it is one."""

    start: Fraction | int
    end: Fraction | int
    wanted: tuple[int, ...]
    packets: range = range(0)


def spread(runs: Sequence[Run], timeline: Timeline, config: VideoConfig) -> list[Run]:
    """Leave out what is too short or shows one picture all the time, and of many take `max_clips`, evenly spread."""
    long = [run for run in runs if (run.end - run.start) * timeline.tick_s >= config.min_clip_s]
    if not long:
        shown_s = float((timeline.end - timeline.shown[0][0]) * timeline.tick_s)
        raise UnfitError(timeline.damage or TOO_SHORT, f"{shown_s:.3f} s, at least {config.min_clip_s}")
    kept = [run for run in long if len(run.wanted) == len({*run.wanted}) or run.wanted[0] != run.wanted[-1]]
    if not kept:
        raise UnfitError(timeline.damage or STILL, "one picture all the time")
    taken = min(len(kept), config.max_clips)
    return [kept[number * len(kept) // taken] for number in range(taken)]


def plan_samples(timeline: Timeline, config: VideoConfig) -> list[Run]:
    """Divide the video into nearly equal clips; at each time the last frame is taken whose time has come."""
    start, end = timeline.shown[0][0], timeline.end
    step = 1 / (Fraction(config.fps).limit_denominator(1000) * timeline.tick_s)
    count = -int((start - end) // step)
    parts = -(-count // int(config.max_clip_s * config.fps))
    times = [pts for pts, _ in timeline.shown]
    runs = []
    for part in range(parts):
        first, last = part * count // parts, (part + 1) * count // parts
        shown = [bisect.bisect_right(times, start + number * step) - 1 for number in range(first, last)]
        wanted = tuple(timeline.shown[place][1] for place in shown)
        runs.append(Run(start + first * step, min(start + last * step, Fraction(end)), wanted))
    return spread(runs, timeline, config)


def can_cut(stream: VideoStream, timeline: Timeline, config: VideoConfig) -> bool:
    """Tell whether MP4s are wanted and can hold these packets: their codec, and times that grow in decoding order."""
    times = [packet.dts for packet in timeline.packets if packet.dts is not None and packet.pts is not None]
    grows = len(times) == len(timeline.packets) and all(a < b for a, b in itertools.pairwise(times))
    return config.keep == CLIPS and grows and stream.codec_context.codec.name in MP4_CODECS


def plan_cuts(timeline: Timeline, config: VideoConfig) -> list[Run]:
    """Divide the video at key frames; where they stand too far apart, what follows a full clip is left out."""
    times = [pts for pts, _ in timeline.shown]
    keys = [(pts, index) for pts, index in timeline.shown if timeline.packets[index].is_keyframe]
    key_times, longest, number, runs = [pts for pts, _ in keys], int(config.max_clip_s / timeline.tick_s), 0, []
    while number < len(keys):
        start, first = keys[number]
        following = bisect.bisect_right(key_times, start + longest) - 1
        following = len(keys) if timeline.end <= start + longest else max(following, number + 1)
        limit = min(start + longest, key_times[following] if following < len(keys) else timeline.end)
        stop = keys[following][1] if following < len(keys) else len(timeline.packets)
        inside = timeline.shown[bisect.bisect_left(times, start) : bisect.bisect_left(times, limit)]
        last = max((index for _, index in inside if index < stop), default=first)
        runs.append(Run(start, limit, (first,), range(first, last + 1)))
        number = following
    return spread(runs, timeline, config)


class Decoder:
    """Decodes and draws wanted frames; `found` holds them by their packet's number."""

    def __init__(
        self,
        stream: VideoStream,
        timeline: Timeline,
        reader: Reader,
        config: VideoConfig,
        media_config: MediaConfig,
        digest: str,
    ) -> None:
        self.stream = stream
        self.timeline = timeline
        self.reader = reader
        self.config = config
        self.media_config = media_config
        self.digest = digest
        self.scaler = VideoReformatter()
        self.shape: Shape | None = None
        self.found: dict[int, tuple[Media, bytes]] = {}

    def decode(self, wanted: Sequence[int]) -> None:
        """Decode by key frames, and what that does not find once more without leaving anything out."""
        for plain in (False, True):
            missing = dict.fromkeys(sorted({*wanted} - self.found.keys()))
            places = {self.timeline.packets[index].pts: index for index in missing}
            for frame in self.frames(missing, plain) if missing else ():
                index = places.get(frame.pts)
                if index is not None and index not in self.found and not frame.is_corrupt:
                    self.found[index] = self.draw(frame)

    def frames(self, wanted: Collection[int], plain: bool) -> Iterator[VideoFrame]:
        """Give the frames from a key frame on: where the first one that comes out is none, the packet's flag lied."""
        context, fresh, sound = self.stream.codec_context, True, False
        for number in self.feeds(wanted, plain):
            # What no other frame refers to is passed over, where the codec tells.
            context.skip_frame = "DEFAULT" if plain or number is None or number in wanted else "NONREF"
            for frame in self.send(None if number is None else self.timeline.packets[number]):
                sound, fresh = sound or (frame.key_frame and (fresh or plain)), False
                if sound:
                    yield frame
            if number is None:
                context.flush_buffers()
                fresh, sound = True, False

    def feeds(self, wanted: Collection[int], plain: bool) -> Iterator[int | None]:
        """Give the numbers of the packets to be decoded, with `None` before each leap and at the end."""
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
        if self.reader.is_late():
            raise UnfitError(TOO_SLOW, f"more than {self.config.max_decode_s} CPU-s")
        try:
            return self.stream.codec_context.decode(packet)
        except FFmpegError:
            return []

    def draw(self, frame: VideoFrame) -> tuple[Media, bytes]:
        """Draw a frame in the shape of the first one."""
        if self.shape is None:
            aspect = self.stream.sample_aspect_ratio
            self.shape = shape_of(frame, aspect, self.config.short_side_px, self.config.max_side_px)
        return describe("", self.digest, self.shape, draw(frame, self.shape, self.scaler), self.media_config)


def collect(url: str, runs: Sequence[Run], decoder: Decoder) -> list[Clip | Unfit]:
    """Make the clips of the frames that were found; one that lacks a frame is left out."""
    clips: list[Clip | Unfit] = []
    timeline, shape, fps = decoder.timeline, decoder.shape, decoder.config.fps
    if shape is None:
        raise UnfitError(timeline.damage or CORRUPT, "no frame can be decoded")
    for run in runs:
        if not decoder.found.keys() >= {*run.wanted}:
            continue
        start_s = timeline.second(run.start)
        frames = tuple(
            (replace(media, url=f"{url}#t={round(start_s + number / fps, 3):g}"), stored)
            for number, (media, stored) in enumerate(decoder.found[index] for index in run.wanted)
        )
        data = mux(decoder.stream, timeline, run) if run.packets else b""
        rate = fps if not data else round(float(len(run.packets) / ((run.end - run.start) * timeline.tick_s)), 3)
        clips.append(Clip(start_s, timeline.second(run.end), rate, shape.width_px, shape.height_px, frames, data))
    lost = len(runs) - len(clips)
    if lost or timeline.damage:
        clips.append(Unfit(timeline.damage or CORRUPT, f"{lost} of {len(runs)} clips lost", max(1, lost)))
    return clips


def mux(stream: VideoStream, timeline: Timeline, run: Run) -> bytes:
    """Write a clip's packets as an MP4 that begins at 0; frames that are shown before its key frame are left out."""
    file = io.BytesIO()
    start = int(run.start)
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        copy = container.add_stream_from_template(stream, opaque=True)
        for packet in timeline.packets[run.packets.start : run.packets.stop]:
            if packet.pts is not None and packet.dts is not None and packet.pts >= start:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                container.mux_one(packet)
    return file.getvalue()
