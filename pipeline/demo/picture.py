"""One picture of a page: (seed, page, index) comes in, what it shows, its files and its texts go out.

Most of a picture's texts are true of it. Some are what the web is full of instead: file names, prompts, credits.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.demo import words
from pipeline.demo.dice import Dice
from pipeline.demo.facts import upper
from pipeline.demo.fill import fill
from pipeline.demo.tell import facts_of, phrase_of, tell
from pipeline.demo.told import (
    ANNOUNCED,
    CREDIT,
    FILE_NAME,
    GENERAL,
    LINKED,
    PROMPT,
    REFERENCE,
    SHARED,
    Told,
    best_of,
    text_at,
)
from pipeline.demo.world import Scene
from schemas.document import ALT, CAPTION, FIGCAPTION, GALLERY, TITLE

SUFFIXES = {"jpeg": "jpg", "cmyk": "jpg", "rotated": "jpg", "png": "png", "alpha": "png", "gif": "gif", "webp": "webp"}
FIGURE_LAYOUTS = ("article", "gallery")
"""The layouts in which a caption stands in a figure; in the others it stands in a paragraph of a caption's class."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One file of a picture; `coding` is a key of `SUFFIXES`."""

    url: str
    width_px: int
    coding: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that belongs to the page's content; the first of its copies is the largest."""

    index: int
    scene: Scene
    copies: tuple[Copy, ...]
    texts: tuple[Told, ...]

    @property
    def alt(self) -> str:
        """The alternative text."""
        return text_at(self.texts, ALT)

    @property
    def caption(self) -> str:
        """The printed caption."""
        return text_at(self.texts, FIGCAPTION, CAPTION)

    @property
    def pair(self) -> Told | None:
        """The text that makes the best pair with the picture, `None` where the page says nothing true of it."""
        return best_of(self.texts)


@dataclass(frozen=True, slots=True)
class PictureTeller:
    """The dice, people and truth that the texts of one picture are made of."""

    dice: Dice
    cast: tuple[str, ...]
    scene: Scene

    def phrase(self, name: str) -> str:
        """Name the picture by a noun phrase; another name of the choice may tell other parts of it."""
        return phrase_of(tell(self.scene), self.dice.sub(name) if name else self.dice)

    def fill(self, name: str, templates: tuple[str, ...], **given: str) -> str:
        """Fill one of the templates."""
        return fill(self.dice.pick(name, templates), self.dice.sub(name), self.cast, **given)

    def alt(self, captioned: bool, site: str) -> Told:
        """Write the alternative text: true, or what a careless page has instead."""
        lot = self.dice.unit("alt dirt")
        if lot < 0.06:
            shot = str(self.dice.between("shot", 1000, 9999))
            return Told(ALT, self.fill("file name", words.FILE_NAMES, shot=shot), dirt=FILE_NAME)
        if lot < 0.1:
            return Told(ALT, self.dice.pick("prompt", words.PROMPTS), dirt=PROMPT)
        if lot < 0.14:
            return Told(ALT, site, dirt=SHARED)
        if lot < 0.18 and captioned:
            return Told(ALT, self.dice.pick("reference", words.REFERENCES), dirt=REFERENCE)
        phrase = self.phrase("alt phrase")
        return Told(ALT, self.fill("alt", words.ALTS, phrase=phrase), phrase)

    def caption(self, place: str, site: str) -> Told:
        """Write the caption: true, in some cases with a credit, in few a credit alone."""
        lot, phrase = self.dice.unit("caption dirt"), self.phrase("")
        text = self.fill("caption", words.CAPTIONS, phrase=phrase)
        credit = self.fill("credit", words.CREDITS, site=site)
        if lot < 0.05:
            return Told(place, credit, dirt=CREDIT)
        if lot < 0.2:
            return Told(place, f"{text.rstrip('.')}. {credit}", phrase, CREDIT)
        return Told(place, text, phrase)

    def title(self) -> Told:
        """Write the tooltip: true, or a prompt."""
        if self.dice.unit("title dirt") < 0.3:
            return Told(TITLE, self.dice.pick("title prompt", words.PROMPTS), dirt=PROMPT)
        phrase = self.phrase("title phrase")
        return Told(TITLE, upper(phrase), phrase)

    def description(self) -> Told:
        """Write what the page's linked data say: the picture in three sentences or so."""
        phrase = self.phrase("linked phrase")
        facts = self.dice.order("linked facts", facts_of(self.scene))[:2]
        said = [self.dice.pick(f"linked {number}", fact.statements) for number, fact in enumerate(facts)]
        return Told(LINKED, " ".join((upper(phrase) + ".", *said)), phrase)


def coding_of(dirt: str, index: int, dice: Dice) -> str:
    """Return how the picture at `index` is coded; only the first picture of a page carries the page's dirt."""
    special = {"alpha": "alpha", "cmyk": "cmyk", "rotated": "rotated", "animated": "gif"}
    if index == 0 and dirt in special:
        return special[dirt]
    if dirt in ("srcset", "webp"):
        return "jpeg"
    lot = dice.unit("coding")
    return "jpeg" if lot < 0.9 else "png" if lot < 0.95 else "webp"


def copies_of(dirt: str, folder: str, index: int, width_px: int, dice: Dice) -> tuple[Copy, ...]:
    """Return the files of a picture; their names are hashes that tell nothing of what they show."""
    coding, name = coding_of(dirt, index, dice), dice.hex("file", 20)
    if dirt == "srcset":
        widths_px = (width_px, width_px * 2 // 3, width_px // 3)
        return tuple(Copy(f"{folder}/{name}-{width}w.jpg", width, coding) for width in widths_px)
    main = Copy(f"{folder}/{name}.{SUFFIXES[coding]}", width_px, coding)
    if dirt == "webp":
        return main, Copy(f"{folder}/{name}.webp", width_px, "webp")
    if dirt == "repeated" and index == 0:
        return main, Copy(f"{folder}/{dice.hex('twin', 20)}.{SUFFIXES[coding]}", width_px, coding)
    return (main,)


def texts_of(teller: PictureTeller, index: int, layout: str, site: str, page: Dice) -> tuple[Told, ...]:
    """Write the texts of a picture but for its gallery's; `page` are the dice of the texts of the whole page.

    A page's linked data tell of all its pictures or of none; its first picture may be announced.
    """
    own = teller.dice
    found: list[Told] = []
    captioned = own.unit("has caption") < 0.65
    if own.unit("has alt") < 0.8:
        found.append(teller.alt(captioned, site))
    if captioned:
        found.append(teller.caption(FIGCAPTION if layout in FIGURE_LAYOUTS else CAPTION, site))
    if own.unit("has title") < 0.25:
        found.append(teller.title())
    if page.unit("linked") < 0.3:
        found.append(teller.description())
    if index == 0 and page.unit("announced") < 0.4:
        phrase = teller.phrase("announced phrase")
        found.append(Told(ANNOUNCED, upper(phrase), phrase))
    return tuple(found)


def gallery_heading(pictures: tuple[Picture, ...], dice: Dice, cast: tuple[str, ...]) -> Told | None:
    """Head a gallery of two pictures or more: a series is named by what all of it shows."""
    kinds = {picture.scene.kind for picture in pictures}
    if len(pictures) < 2:
        return None
    if len(kinds) > 1:
        return Told(GALLERY, fill(dice.pick("gallery", words.GALLERIES), dice, cast), dirt=GENERAL)
    noun = words.SERIES[kinds.pop()]
    return Told(GALLERY, f"A gallery of {noun}", noun)
