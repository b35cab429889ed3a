"""Pairs and clips as `flamingo inspect` shows them.

a row of the index, or the JSON of a sample  → a line of a list
the members of a sample                      → its text, its picture or frames, and all texts it was chosen of
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pipeline.drawing import choose_drawing, show_picture
from pipeline.report import counted, human_bytes, say
from schemas.media import Score
from schemas.page import KEY_CHARS
from schemas.pair import PICTURE_NAME, ImageText, Part
from schemas.video import VideoText, video_part_names


@dataclass(frozen=True, slots=True)
class Captioned:
    """A pair or clip in one line; `parts` are its stored files, `start_s` and `end_s` are `None` for a picture."""

    key: str
    url: str
    page_url: str
    text: str
    text_kind: str
    language: str
    parts: int
    width_px: int
    height_px: int
    chars: int
    words: int
    shard: str
    start_s: float | None = None
    end_s: float | None = None


def captioned_of_row(row: Mapping[str, Any]) -> Captioned:
    """Read a line from a row of the index."""
    names = ("key", "url", "page_url", "text", "text_kind", "language", "width_px", "height_px", "chars", "words")
    times = {name: row[name] for name in ("start_s", "end_s") if name in row}
    return Captioned(parts=len(row["parts"]), shard=row["shard"], **{name: row[name] for name in names}, **times)


def captioned_of_header(header: Mapping[str, Any], path: str) -> Captioned:
    """Read a line from the JSON of a sample in the shard at `path`."""
    times: dict[str, Any] = {name: seconds(header[name]) for name in ("start_s", "end_s") if name in header}
    return Captioned(
        **{name: str(header[name]) for name in ("key", "url", "page_url", "text_kind", "language")},  # type: ignore[arg-type]
        text=str(header["caption"]),
        parts=len(header["parts"]),
        width_px=int(f"{header['width']:d}"),
        height_px=int(f"{header['height']:d}"),
        chars=len(header["caption"]),
        words=len(header["caption"].split()),
        shard=posixpath.basename(path),
        **times,
    )


def told_scores(scores: Sequence[Score]) -> str:
    """Write the scores of a picture: `nsfw 0.02, aesthetic 5.1`; empty where it has none."""
    return ", ".join(f"{one.model} {one.score:.4g}" for one in scores)


def seconds(value: Any) -> float:
    """Insist that a time is a number; an integer would do, but might be too large for what is done with it."""
    if not isinstance(value, float):
        raise TypeError(f"{value!r} is no time in seconds")
    return value


def list_captioned(samples: Sequence[Captioned], console: Console) -> None:
    """Print pairs or clips a line each: key, size, for a clip its seconds, words, text."""
    timed = any(sample.start_s is not None for sample in samples)
    column = f"{'seconds':>15} " if timed else ""
    say(console, f"{'key':{KEY_CHARS}} {'size':>9} {column}words  text", "bold")
    for sample in samples:
        size = f"{sample.width_px}x{sample.height_px}"
        times = f"{sample.start_s:.1f}-{sample.end_s:.1f}" if sample.start_s is not None else ""
        column = f"{times:>15} " if timed else ""
        line = f"{sample.key:{KEY_CHARS}} {size:>9} {column}{sample.words:5,}  {sample.text}"
        say(console, line, one_line=True)


def check_types(sample: ImageText | VideoText) -> None:
    """Insist that what is shown of a sample has the types that it should have; what has not raises."""
    own = (sample.key, sample.url, sample.page_url, sample.text, sample.kind, sample.language, sample.licence)
    "".join((*own, sample.origin.file, *(word for said in sample.texts for word in (said.kind, said.text))))
    for part in parts_of(sample):
        assert f"{part.width_px:d}{part.height_px:d}"
    if isinstance(sample, VideoText):
        assert [seconds(time) for time in (sample.start_s, sample.end_s, sample.fps)]


def parts_of(sample: ImageText | VideoText) -> tuple[Part, ...]:
    """Give the stored files of a sample."""
    return sample.parts if isinstance(sample, VideoText) else (sample.picture,)


def show_captioned(sample: ImageText | VideoText, path: str, console: Console) -> None:
    """Show a pair or clip: its text, facts, its picture or frames, and the texts that there are of it."""
    facts = [sample.kind, counted(len(sample.text.split()), "word")]
    if isinstance(sample, VideoText):
        facts += [f"{sample.start_s:.1f} to {sample.end_s:.1f} s", f"{sample.fps:g} frames a second"]
    else:
        facts.append(told_scores(sample.scores))
    facts += [sample.language, f"captured {sample.fetched:%Y-%m-%d}" if sample.fetched else "", sample.licence]
    say(console, sample.text or "(no text)", "bold")
    say(console, sample.url, "cyan")
    say(console, " · ".join(filter(None, facts)), "dim")
    say(console, f"sample {sample.key} of {path}", "dim")
    say(console, f"text of {sample.page_url}, read from {sample.origin.file} at byte {sample.origin.offset}", "dim")
    way = choose_drawing(console, os.environ)
    names = video_part_names(sample.parts) if isinstance(sample, VideoText) else [PICTURE_NAME]
    for name, part in zip(names, parts_of(sample), strict=True):
        told = f"{name} {part.width_px}x{part.height_px}"
        if part.format == "jpeg":
            show_picture(told, "", part.data, way, console)
        else:
            say(console, f"[clip {told}, {human_bytes(len(part.data))}]")
    for said in sample.texts:
        say(console, f"{said.kind:12} {said.text}")
