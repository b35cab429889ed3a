"""Pictures of the world that no site shows, and whether a text tells the truth about one: what a model is asked.

    seed, count → pictures_of → Shown: a JPEG and its scene
    a text, a scene → marks → Marks

What is true of a scene is all that `tell` and `facts_of` say of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pipeline.demo.draw import draw_scene
from pipeline.demo.files import encode
from pipeline.demo.tell import facts_of, tell
from pipeline.demo.world import COLOURS, SHAPES, Scene, scene

THINGS = frozenset(
    (
        *SHAPES,
        *("house", "boat", "car", "vase", "light", "clock", "balloon", "face", "tree", "bowl", "flag", "train"),
        *("die", "cake"),
    )
)
"""The words for what a scene shows: a shape, or what each other kind of scene is of."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, coded, and its scene."""

    data: bytes
    scene: Scene

    @property
    def name(self) -> str:
        """What a person would call it."""
        return tell(self.scene).heads[0]


@dataclass(frozen=True, slots=True)
class Marks:
    """How many colours a text names and how many of them rightly; the same for things."""

    colours: int
    right_colours: int
    things: int
    right_things: int

    @property
    def colour(self) -> bool:
        """Whether a colour is named, and none wrongly."""
        return 0 < self.colours == self.right_colours

    @property
    def thing(self) -> bool:
        """Whether a thing is named, and none wrongly."""
        return 0 < self.things == self.right_things


def pictures_of(seed: int, count: int) -> Iterator[Shown]:
    """Draw the first picture of each of `count` pages."""
    for page in range(count):
        shown = scene(seed, page, 0)
        yield Shown(encode(draw_scene(shown), "jpeg"), shown)


def marks(text: str, shown: Scene) -> Marks:
    """Judge a text about a scene: a colour is right before the word before which the truth has it too.

    "A red sail" is wrong where the boat alone is red. At the end of a text it is right where anything has it.
    """
    telling = tell(shown)
    truth = [*telling.heads, *telling.extras, *(said for fact in facts_of(shown) for said in fact.statements)]
    true_pairs = {pair for sentence in truth for pair in pairwise(words_of(sentence))}
    true_pairs |= {(thing.colour, "") for thing in shown.things}
    said = words_of(text)
    colours = {pair for pair in pairwise([*said, ""]) if pair[0] in COLOURS}
    things = THINGS & set(said)
    true_things = {word for pair in true_pairs for word in pair}
    return Marks(len(colours), len(colours & true_pairs), len(things), len(things & true_things))


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case, those for things without the s of plurals."""
    words = re.findall(r"[a-z]+", text.lower())
    return [PLURALS.get(word, word) for word in words]


PLURALS = {"crosses": "cross"} | {f"{thing}s": thing for thing in THINGS}
