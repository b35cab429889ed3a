"""The texts that a page gives a picture or video, and what each is worth as its description."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.document import ALT, CAPTION, DESCRIPTION, FIGCAPTION, GALLERY, NAME, TITLE, TRANSCRIPT

LINKED, ANNOUNCED = "linked", "announced"
PLACES = {
    FIGCAPTION: FIGCAPTION,
    CAPTION: CAPTION,
    LINKED: DESCRIPTION,
    ANNOUNCED: DESCRIPTION,
    ALT: ALT,
    TITLE: TITLE,
    NAME: NAME,
    TRANSCRIPT: TRANSCRIPT,
    GALLERY: GALLERY,
}
"""Where a text stands, and what kind of text it is there; `linked` is JSON-LD, `announced` is Open Graph.

A text that stands earlier says more, as a rule.
"""

FILE_NAME, PROMPT, REFERENCE, SHARED, CREDIT, GENERAL = (
    "file_name",
    "prompt",
    "reference",
    "shared",
    "credit",
    "general",
)
"""What is wrong with a text: it is a file's name, asks for a click, points at the caption, stands on other pictures as
well, names who made the picture, or speaks of the gallery as a whole."""


@dataclass(frozen=True, slots=True)
class Told:
    """A text and its place, a key of `PLACES`.

    `truth` are those of its words that tell what is seen, but for capitals; empty where none do. `dirt` is what is
    wrong with the text, empty for nothing: a caption with a credit has both.
    """

    place: str
    text: str
    truth: str = ""
    dirt: str = ""

    @property
    def kind(self) -> str:
        """The kind of the text, as `schemas.document.Said` has it."""
        return PLACES[self.place]


def text_at(texts: tuple[Told, ...], *places: str) -> str:
    """Return the text that stands at the first of the places that has one, empty where none has."""
    return next((told.text for place in places for told in texts if told.place == place), "")


def best_of(texts: tuple[Told, ...]) -> Told | None:
    """Return the true text at the place that says most, `None` where no text is true."""
    true = [told for told in texts if told.truth]
    return min(true, key=lambda told: list(PLACES).index(told.place), default=None)
