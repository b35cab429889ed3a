"""The video of a page: (seed, page) comes in, what it shows, its files and its texts go out.

One page in four or five has one; where a page's dirt is a broken image, its video is broken in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.demo import words
from pipeline.demo.dice import Dice
from pipeline.demo.facts import upper
from pipeline.demo.fill import fill
from pipeline.demo.motion import Animation, animation
from pipeline.demo.narrate import Narration, narrate
from pipeline.demo.told import CREDIT, FILE_NAME, LINKED, PROMPT, Told, best_of
from pipeline.demo.world import page_dice
from schemas.document import FIGCAPTION, NAME, TITLE, TRANSCRIPT

BROKEN = {"truncated": "truncated", "html_as_image": "html", "gone": "gone", "absent": "absent"}
"""What is wrong with the video of a page, by the page's dirt: it ends too early, is an HTML page, is answered with
status 404, is not in the archive."""

WITHOUT = ("no_pictures", "little_text", "german", "french")
PERIOD = 6
CODINGS = ("h264", "vp9", "h264", "vp8")
SUFFIXES = {"h264": "mp4", "vp8": "webm", "vp9": "webm"}
FIRST_UPLOAD = datetime(2024, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VideoCopy:
    """One file of a video; `coding` is a key of `SUFFIXES`."""

    url: str
    coding: str


@dataclass(frozen=True, slots=True)
class Cue:
    """A sentence that is true from one second of a video to another."""

    start_s: int
    end_s: int
    text: str


@dataclass(frozen=True, slots=True)
class Video:
    """A video of a page's content; its copies are in the order in which the page offers them.

    `poster` and `track` are URLs, empty where it has none. `cues` are what happens; the page gives them to readers in
    its track, if any. `linked` says whether JSON-LD describes it, by the address of the last copy. `unfit` is why it
    cannot be used, a value of `BROKEN`; empty for a whole one.
    """

    animation: Animation
    copies: tuple[VideoCopy, ...]
    poster: str
    track: str
    linked: bool
    uploaded: datetime
    texts: tuple[Told, ...]
    cues: tuple[Cue, ...]
    unfit: str

    @property
    def url(self) -> str:
        """The address of the copy that the page offers first."""
        return self.copies[0].url

    @property
    def duration_s(self) -> int:
        """How long it lasts."""
        return self.animation.duration_s

    @property
    def pair(self) -> Told | None:
        """The text that makes the best pair with the video, `None` where the page says nothing true of it."""
        return best_of(self.texts)


def has_video(page: int, dirt: str) -> bool:
    """Tell whether a page has a video: one in six and the broken ones."""
    # Every six pages and every round of dirt shift the choice, so that all kinds of dirt and all layouts come to it.
    return dirt in BROKEN or (dirt not in WITHOUT and (page + page // 6 + page // 36) % PERIOD == 1)


def video_of(seed: int, page: int, dirt: str, root: str, cast: tuple[str, ...]) -> Video | None:
    """Plan the video of a page; the same one in all captures of the page."""
    if not has_video(page, dirt):
        return None
    dice, film = page_dice(seed, page).sub("video"), animation(seed, page)
    story, unfit = narrate(film), BROKEN.get(dirt, "")
    spans = zip(film.spans, story.lines, strict=True)
    linked = dice.unit("linked") < 0.6
    name = f"{root}/videos/{dice.hex('file', 20)}"
    coding = CODINGS[page // 6 % len(CODINGS)]
    codings = ("vp8", "h264") if coding == "vp8" else (coding,)
    return Video(
        animation=film,
        copies=tuple(VideoCopy(f"{name}.{SUFFIXES[some]}", some) for some in (("h264",) if unfit else codings)),
        poster=f"{root}/videos/{dice.hex('poster', 20)}.jpg" if dice.unit("poster") < 0.8 else "",
        track=f"{root}/videos/{dice.hex('track', 20)}.vtt" if dice.unit("track") < 0.7 else "",
        linked=linked,
        uploaded=FIRST_UPLOAD + timedelta(days=page % 200),
        texts=tuple(video_texts(story, linked, dice.sub("texts"), cast)),
        cues=tuple(Cue(start_s, end_s, line) for (start_s, end_s), line in spans),
        unfit=unfit,
    )


def video_texts(story: Narration, linked: bool, dice: Dice, cast: tuple[str, ...]) -> list[Told]:
    """Write the texts of a video but for its cues."""
    found = []
    phrase = dice.pick("caption phrase", story.phrases)
    if dice.unit("has caption") < 0.75:
        caption = fill(dice.pick("caption", words.FILM_CAPTIONS), dice.sub("caption"), cast, phrase=phrase)
        credited = dice.unit("credit") < 0.15
        credit = fill(dice.pick("credit text", words.FILM_CREDITS), dice.sub("credit"), cast)
        found.append(
            Told(FIGCAPTION, f"{caption} {credit}" if credited else caption, phrase, CREDIT if credited else "")
        )
    if dice.unit("has title") < 0.3:
        found.append(Told(TITLE, dice.pick("prompt", words.FILM_PROMPTS), dirt=PROMPT))
    elif dice.unit("has title") < 0.5:
        found.append(Told(TITLE, upper(phrase), phrase))
    if not linked:
        return found
    name = dice.pick("name phrase", story.phrases)
    if dice.unit("name") < 0.15:
        found.append(Told(NAME, dice.pick("file name", words.FILM_FILE_NAMES), dirt=FILE_NAME))
    else:
        found.append(Told(NAME, upper(name), name))
    told = dice.pick("description phrase", story.phrases)
    found.append(Told(LINKED, f"{upper(told)}. {story.lines[0]} {story.lines[-1]}", told))
    transcript = " ".join(story.lines)
    found.append(Told(TRANSCRIPT, transcript, transcript))
    return found


def web_vtt(cues: tuple[Cue, ...]) -> bytes:
    """Write cues as a WebVTT file."""
    blocks = ["WEBVTT", "NOTE What happens, for those who cannot see it."]
    for number, cue in enumerate(cues, 1):
        times = f"{clock_time(cue.start_s)} --> {clock_time(cue.end_s)}"
        blocks.append(f"{number}\n{times} align:center\n{cue.text}")
    return ("\n\n".join(blocks) + "\n").encode()


def clock_time(seconds: int) -> str:
    """Write a time of a track, which is far below an hour."""
    return f"{seconds // 60:02d}:{seconds % 60:02d}.000"
