"""Files of timed text → cues, and the text of a stretch of time: WebVTT as browsers read it, and SubRip.

bytes → parse_cues → Cue(start_s, end_s, text), ... → text_between(cues, start_s, end_s) → one text
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_BYTES = 4_000_000
"""Bytes that are read: ten hours of speech take about one million."""
MAX_CUES = 50_000
MAX_CUE_CHARS = 2_000
"""Characters of a cue's text; the rest is cut off."""

MAX_REPEATED_LINES = 100
"""Lines of a cue among which those that were said before are looked for; captions have two or three."""
MAX_SAID_CHARS = 10_000
"""Characters that are said in a stretch of time, about ten minutes of speech; cues behind them are left out."""

TIME = r"(?:(\d{1,4}):)?([0-5]\d):([0-5]\d)[.,](\d{3})"
TIMING = re.compile(rf"[ \t]*{TIME}[ \t]*-->[ \t]*{TIME}(?!\d)", re.ASCII)
TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")  # of WebVTT, and the placing of SubRip
LINE_END = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text that is shown from one time to another: plain, its lines separated by a newline."""

    start_s: float
    end_s: float
    text: str


def parse_cues(data: bytes) -> list[Cue]:
    """Read the cues in the file's order; what is none is passed over, and so is one that is empty or ends as it begins.

    A file may lack the `WEBVTT` line, and times may have a comma, as in SubRip. Notes, styles and regions hold no
    arrow, and what stands before the arrow of its block is no text.
    """
    cues: list[Cue] = []
    timing: re.Match[str] | None = None
    lines: list[str] = []
    for line in [*LINE_END.split(decode(data)), ""]:
        if line and "-->" not in line:
            lines.append(line)
            continue
        cue = make_cue(timing, lines) if timing else None
        cues += [cue] if cue else []
        timing, lines = TIMING.match(line), []
        if len(cues) == MAX_CUES:
            break
    return cues


def decode(data: bytes) -> str:
    """Decode up to the last line end within `MAX_BYTES`: UTF-8, or what SubRip files are also written in."""
    if len(data) > MAX_BYTES:
        data = data[:MAX_BYTES].rpartition(b"\n")[0]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        web = data.removeprefix(b"\xef\xbb\xbf").startswith(b"WEBVTT")
        return data.decode("utf-8-sig" if web else "windows-1252", "replace")


def make_cue(timing: re.Match[str], lines: Sequence[str]) -> Cue | None:
    """Make a cue of its timing and its lines, if it says anything at any time."""
    start_s, end_s = seconds(timing.groups()[:4]), seconds(timing.groups()[4:])
    marked = "\n".join(lines)[:MAX_CUE_CHARS].replace("\0", "\ufffd")
    plain = html.unescape(TAG.sub("", marked)).split("\n")
    text = "\n".join(words for line in plain if (words := " ".join(line.split())))
    return Cue(start_s, end_s, text) if text and start_s < end_s else None


def seconds(parts: Sequence[str | None]) -> float:
    """Add up hours, minutes, seconds and thousandths."""
    hours, minutes, whole, thousandths = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60 + whole) + thousandths / 1000


def text_between(cues: Sequence[Cue], start_s: float, end_s: float) -> str:
    """Join what is said in a stretch of time: cues that share with it half of the shorter of the two, or more.

    Captions that roll up repeat the lines before: lines that stand at the end of what was said are not said again.
    """
    said: list[str] = []
    chars = 0
    for cue in sorted(cues, key=lambda cue: cue.start_s):
        shared_s = min(cue.end_s, end_s) - max(cue.start_s, start_s)
        if shared_s > 0 and shared_s >= min(cue.end_s - cue.start_s, end_s - start_s) / 2:
            lines = cue.text.split("\n")
            longest = min(len(lines), MAX_REPEATED_LINES)
            repeated = (size for size in range(longest, 0, -1) if said[-size:] == lines[:size])
            new = lines[next(repeated, 0) :]
            chars += sum(len(line) + 1 for line in new)
            if chars > MAX_SAID_CHARS:
                break
            said += new
    return " ".join(said)
