"""Video-text pairs: clips of videos, and the tar members they are written as.

    VideoText → KEY.000.jpg, KEY.001.jpg, ..., KEY.json, KEY.txt   video_from_members(video_to_members(v)) == v
    VideoText → KEY.json, KEY.mp4, KEY.txt

The members stand in the order of their names. Nothing in the JSON is null, as in `schemas.pair`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.document import Said
from schemas.page import Origin, key_of
from schemas.pair import (
    CAPTIONED_FIELDS,
    TEXT_NAME,
    Part,
    captioned_fields,
    captioned_header,
    json_bytes,
    part_rows,
    read_captioned,
)

VIDEO_TEXT = "videos"
CLIP_NAME = "mp4"
VIDEO_FIELDS = (*CAPTIONED_FIELDS, "start_s", "end_s", "fps")
MAX_FRAMES = 1000
"""Frames of a clip: the order of three digits is that of the frames."""


@dataclass(frozen=True, slots=True)
class VideoText:
    """A clip of a video, `start_s` to `end_s` of it, and a text that says what it shows.

    `url` is the video's. `parts` are the clip's frames in order, as JPEG and `fps` to a second, or the clip itself as
    one MP4, of whose frames `fps` says how many there are to a second. `text`, `kind`, `texts` and what is known of
    the page are as in `ImageText`.
    """

    key: str
    url: str
    page_url: str
    text: str
    kind: str
    texts: tuple[Said, ...]
    start_s: float
    end_s: float
    fps: float
    parts: tuple[Part, ...]
    language: str
    licence: str
    origin: Origin
    fetched: datetime | None = None


def clip_key(url: str, start_s: float, end_s: float) -> str:
    """Name a clip by the media fragment that it is, to the millisecond: spread as keys of other things are."""
    return key_of(f"{url}#t={start_s:.3f},{end_s:.3f}")


def video_part_names(parts: Sequence[Part]) -> list[str]:
    """Name the members of a clip without its key; a `ValueError` says that the parts are none of a clip."""
    formats = [part.format for part in parts]
    if formats == ["mp4"]:
        return [CLIP_NAME]
    if set(formats) != {"jpeg"} or len(formats) > MAX_FRAMES:
        told = f"{len(formats)} parts of {', '.join(sorted(set(formats))) or 'nothing'}"
        raise ValueError(f"a clip is one mp4 or 1 to {MAX_FRAMES} jpeg frames, not {told}")
    return [f"{index:03d}.jpg" for index in range(len(parts))]


def video_to_members(video: VideoText) -> list[tuple[str, bytes]]:
    """Write a clip as its tar members, (name without the key, bytes), in order."""
    names = video_part_names(video.parts)
    header = captioned_header(video, VIDEO_TEXT)
    # A reader that takes a column's type from its first rows must not find whole numbers among them.
    header |= {"start_s": float(video.start_s), "end_s": float(video.end_s), "fps": float(video.fps)}
    header |= part_rows(names, video.parts)
    stored = zip(names, (part.data for part in video.parts), strict=True)
    return sorted([*stored, ("json", json_bytes(header)), (TEXT_NAME, video.text.encode())])


def video_from_members(members: Iterable[tuple[str, bytes]]) -> VideoText:
    """Read a clip from its members; a `ValueError` says what is wrong with them."""
    header, parts, text = read_captioned(members, VIDEO_TEXT, VIDEO_FIELDS)
    if [part["name"] for part in header["parts"]] != video_part_names(parts):
        raise ValueError(f"sample {header['key']} names its parts in another way than a clip's")
    return VideoText(
        text=text,
        parts=parts,
        start_s=header["start_s"],
        end_s=header["end_s"],
        fps=header["fps"],
        **captioned_fields(header),
    )
