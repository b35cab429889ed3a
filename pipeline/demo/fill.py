"""Sentences from templates: a template and the dice of a place come in, a sentence goes out.

Every page has a small cast of people; what else stands in a template's slots falls by lot.
"""

from __future__ import annotations

import re

from pipeline.demo import words
from pipeline.demo.dice import Dice
from pipeline.demo.facts import upper
from pipeline.demo.world import page_dice

CAST = 4


def cast_of(seed: int, index: int) -> tuple[str, ...]:
    """Return the people of a page."""
    return page_dice(seed, index).order("cast", words.SLOTS["name"])[:CAST]


def fill(template: str, dice: Dice, cast: tuple[str, ...], **given: str) -> str:
    """Fill a template's slots by lot; `name` and `other` are different people of the cast."""
    name, other = dice.order("names", cast)[:2]
    values = {slot: dice.pick(slot, options) for slot, options in words.SLOTS.items() if f"{{{slot}}}" in template}
    values |= {"name": name, "other": other} | given
    if "phrase" in given:
        values["Phrase"] = upper(given["phrase"])
    text = template.format(**values)
    return upper(re.sub(r"\b([Aa]) (?=[aeio]|uncle|honest)", r"\1n ", text))
