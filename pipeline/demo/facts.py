"""What can truly be said of a scene: a `Scene` comes in, a `Telling` goes out.

A `Fact` is one truth in three forms (a question with its answer and the possible answers, sentences that state it),
so that prose and evaluation draw on the same truth. A `Telling` also names the picture in noun phrases that tell some
or most of it. No name of a thing says more than its scene does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.demo.dice import Dice
from pipeline.demo.world import BACKGROUNDS, COLOURS, CORNERS, SHAPES, SIZES, Scene

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

PLACE_PHRASES = {
    "top left": "in the top left corner",
    "top": "at the top",
    "top right": "in the top right corner",
    "left": "on the left",
    "centre": "in the middle",
    "right": "on the right",
    "bottom left": "in the bottom left corner",
    "bottom": "at the bottom",
    "bottom right": "in the bottom right corner",
}
SIDES = ("left", "right")
THIRDS = ("left", "centre", "right")

COLOUR, COUNT, PLACE, RELATION, STATE, SHAPE, SIZE = "colour", "count", "place", "relation", "state", "shape", "size"


@dataclass(frozen=True, slots=True)
class Fact:
    """One truth about a picture: `answer` is one of `choices`; every statement says it in a whole sentence."""

    kind: str
    question: str
    answer: str
    choices: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """What can be said of one picture.

    `heads` are noun phrases for the whole, `extras` noun phrases that may follow "with", `subject` names a thing whose
    colour is `colour`; `count` things called `counted` (a plural) can be counted in it.
    """

    heads: tuple[str, ...]
    extras: tuple[str, ...]
    facts: tuple[Fact, ...]
    subject: str
    colour: str
    counted: str = ""
    count: int = 0


def an(phrase: str) -> str:
    """Put the indefinite article before a phrase."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def plural(word: str) -> str:
    """Return the plural of one of the world's nouns."""
    if word == "fish":
        return word
    return word + ("es" if word.endswith(("s", "x")) else "s")


def several(count: int, word: str, colour: str = "") -> str:
    """Return a number and a noun: `three red stars`, `one red star`."""
    return " ".join(filter(None, (NUMBERS[count], colour, word if count == 1 else plural(word))))


def upper(sentence: str) -> str:
    """Begin with a capital letter."""
    return sentence[:1].upper() + sentence[1:]


def colour_fact(subject: str, colour: str, many: bool = False) -> Fact:
    """State the colour of `subject`, a noun phrase with its article."""
    verb = "are" if many else "is"
    statements = (
        f"{upper(subject)} {verb} {colour}.",
        f"{upper(subject)} {'have' if many else 'has'} been painted {colour}.",
        f"The colour of {subject} is {colour}.",
        f"For {subject} the painter chose {colour}.",
        f"{upper(colour)} is the colour of {subject}.",
        f"Whoever painted {subject} took {colour}.",
    )
    return Fact(COLOUR, f"What colour {verb} {subject}?", colour, tuple(COLOURS), statements)


def count_fact(count: int, word: str, tail: str, most: int) -> Fact:
    """State how many things of a kind there are; `tail` says where, as in `on the cake`."""
    noun = several(count, word)
    statements = (
        f"There {'is' if count == 1 else 'are'} {noun} {tail}.",
        f"One counts {noun} {tail}.",
        f"The painter put {noun} {tail}.",
        f"{upper(tail)} there {'is' if count == 1 else 'are'} {noun}.",
        f"If you count what is {tail}, you get {noun}.",
    )
    question = f"How many {plural(word)} are {tail}?"
    return Fact(COUNT, question, NUMBERS[count], NUMBERS[1 : most + 1], statements)


def place_fact(subject: str, place: str, places: tuple[str, ...], verb: str = "is") -> Fact:
    """State where a thing is in the picture."""
    where = PLACE_PHRASES[place]
    statements = (
        f"{upper(subject)} {verb} {where}.",
        f"You find {subject} {where}.",
        f"{upper(where)} the painter set {subject}.",
        f"Anybody who looks {where} finds {subject}.",
    )
    return Fact(PLACE, f"Where is {subject}?", place, places, statements)


def choice_fact(kind: str, question: str, answer: str, choices: tuple[str, ...], *statements: str) -> Fact:
    """State anything else; each statement is a whole sentence."""
    return Fact(kind, question, answer, choices, statements)


def way_fact(subject: str, verb: str, side: str, many: bool = False) -> Fact:
    """State to which side something goes or looks; `verb` is the plain form."""
    doing = verb if many else {"go": "goes"}.get(verb, verb + "s")
    question = f"To which side {'do' if many else 'does'} {subject} {verb}?"
    statements = (
        f"{upper(subject)} {doing} to the {side}.",
        f"It is to the {side} that {subject} {doing}.",
        f"Seen from where we stand, {subject} {doing} to the {side}.",
    )
    return choice_fact(RELATION, question, side, SIDES, *statements)


def tell_single(scene: Scene) -> Telling:
    """Tell of one shape."""
    (thing,) = scene.things
    size, place = thing.detail.split("|")
    where, name = PLACE_PHRASES[place], f"the {thing.kind}"
    heads = (
        f"{an(thing.colour)} {thing.kind}",
        f"a single {thing.kind}",
        f"{an(f'{size} {thing.kind}')}",
        f"{an(thing.kind)} {where}",
        f"{an(f'{size} {thing.colour}')} {thing.kind} {where}",
    )
    facts = (
        colour_fact(name, thing.colour),
        place_fact(name, place, tuple(PLACE_PHRASES)),
        choice_fact(
            SHAPE,
            "Which shape is in the picture?",
            thing.kind,
            SHAPES,
            f"The only shape is {an(thing.kind)}.",
            f"It shows {an(thing.kind)} and nothing else.",
        ),
        choice_fact(
            SIZE,
            f"Is {name} small, medium or large?",
            size,
            tuple(SIZES),
            f"{upper(name)} is of {size} size.",
            f"Somebody decided that a {size} {thing.kind} would do.",
        ),
    )
    return Telling(heads, (), facts, name, thing.colour)


def tell_pair(scene: Scene) -> Telling:
    """Tell of two shapes and how they stand to each other."""
    first, second = scene.things
    sizes = [thing.detail.split("|")[0] for thing in scene.things]
    beside = first.detail.endswith("beside")
    one, other = f"the {first.kind}", f"the {second.kind}"
    relation, reverse = ("to the left of", "to the right of") if beside else ("above", "below")
    heads = (
        f"{an(first.colour)} {first.kind} {relation} {an(second.colour)} {second.kind}",
        f"{an(first.kind)} and {an(second.kind)}",
        f"{an(second.kind)} {reverse} {an(first.colour)} {first.kind}",
        f"{an(f'{sizes[0]} {first.kind}')} and {an(f'{sizes[1]} {second.kind}')}",
        "two shapes",
    )
    question = f"Is {one} {relation} or {reverse} {other}?"
    facts = [
        colour_fact(one, first.colour),
        colour_fact(other, second.colour),
        choice_fact(
            RELATION,
            question,
            relation,
            tuple(sorted((relation, reverse))),
            f"{upper(one)} is {relation} {other}.",
            f"{upper(other)} is {reverse} {one}.",
            f"{upper(relation)} {other} stands {one}.",
        ),
    ]
    if sizes[0] != sizes[1]:
        larger, smaller = (first.kind, second.kind) if sizes[0] == "large" else (second.kind, first.kind)
        facts.append(
            choice_fact(
                SIZE,
                f"Which is larger, {one} or {other}?",
                larger,
                tuple(sorted((first.kind, second.kind))),
                f"The {larger} is larger than the {smaller}.",
                f"Next to the {larger}, the {smaller} looks small.",
            )
        )
    return Telling(heads, (), tuple(facts), one, first.colour)


def tell_row(scene: Scene) -> Telling:
    """Tell of a row of equal shapes."""
    (row,) = scene.things
    name = f"the {plural(row.kind)}"
    heads = (several(row.count, row.kind, row.colour), several(row.count, row.kind), f"a row of {plural(row.kind)}")
    facts = (
        colour_fact(name, row.colour, many=True),
        count_fact(row.count, row.kind, "in the row", 6),
        choice_fact(
            SHAPE, "Which shape is repeated?", row.kind, SHAPES, f"The shape that is repeated is {an(row.kind)}."
        ),
    )
    return Telling(heads, (), facts, name, row.colour, plural(row.kind), row.count)


def tell_groups(scene: Scene) -> Telling:
    """Tell of two rows of shapes."""
    top, low = scene.things
    words = [thing.kind if thing.count == 1 else plural(thing.kind) for thing in scene.things]
    heads = (
        f"{several(top.count, top.kind, top.colour)} above {several(low.count, low.kind, low.colour)}",
        f"{several(low.count, low.kind)} below {several(top.count, top.kind)}",
        f"{top.colour} {words[0]} and {low.colour} {words[1]}"
        if min(top.count, low.count) > 1
        else "two rows of shapes",
    )
    facts = [
        count_fact(top.count, top.kind, "in the upper row", 5),
        count_fact(low.count, low.kind, "in the lower row", 5),
        colour_fact(f"the upper {words[0]}", top.colour, many=top.count > 1),
        colour_fact(f"the lower {words[1]}", low.colour, many=low.count > 1),
    ]
    if top.count != low.count:
        more = "upper" if top.count > low.count else "lower"
        less = "lower" if more == "upper" else "upper"
        facts.append(
            choice_fact(
                COUNT,
                "Which row is longer, the upper or the lower one?",
                more,
                ("lower", "upper"),
                f"The {more} row holds more shapes than the {less} one.",
                f"Of the two rows, the {more} one has more in it.",
            )
        )
    return Telling(heads, (), tuple(facts), f"the upper {words[0]}", top.colour, plural(top.kind), top.count)


def tell_corners(scene: Scene) -> Telling:
    """Tell of four shapes in four corners."""
    by_lot = Dice(scene.key).order("corners", scene.things)
    first, second = by_lot[:2]
    heads = (
        "four shapes, each in a corner of its own",
        f"{an(first.colour)} {first.kind}, {an(second.colour)} {second.kind} and two other shapes",
        f"{an(first.kind)} {PLACE_PHRASES[first.detail]} and {an(second.kind)} {PLACE_PHRASES[second.detail]}",
    )
    facts = [colour_fact(f"the {thing.kind}", thing.colour) for thing in by_lot]
    facts += [place_fact(f"the {thing.kind}", thing.detail, CORNERS) for thing in by_lot]
    facts += [
        choice_fact(
            SHAPE,
            f"Which shape is {PLACE_PHRASES[thing.detail]}?",
            thing.kind,
            SHAPES,
            f"The shape {PLACE_PHRASES[thing.detail]} is {an(thing.kind)}.",
        )
        for thing in by_lot
    ]
    return Telling(heads, (), tuple(facts), f"the {first.kind}", first.colour)


def tell_nested(scene: Scene) -> Telling:
    """Tell of a shape inside another."""
    outer, inner = scene.things
    heads = (
        f"{an(inner.colour)} {inner.kind} inside {an(outer.colour)} {outer.kind}",
        f"{an(inner.kind)} inside {an(outer.kind)}",
        f"{an(outer.colour)} {outer.kind} around a smaller shape",
    )
    facts = (
        colour_fact(f"the {outer.kind}", outer.colour),
        colour_fact(f"the {inner.kind}", inner.colour),
        choice_fact(
            RELATION,
            f"What is inside the {outer.kind}?",
            inner.kind,
            SHAPES,
            f"Inside the {outer.kind} there is {an(inner.kind)}.",
            f"The {inner.kind} sits inside the {outer.kind}.",
            f"The {outer.kind} holds {an(inner.kind)}.",
        ),
    )
    return Telling(heads, (), facts, f"the {outer.kind}", outer.colour)


def background_fact(scene: Scene) -> Fact:
    """State the colour of the paper."""
    return Fact(
        "background",
        "What colour is the background?",
        scene.background,
        tuple(BACKGROUNDS),
        (
            f"The background is {scene.background}.",
            f"All of it stands on {scene.background} paper.",
            f"Behind everything lies {scene.background} paper.",
            f"The sheet itself is {scene.background}.",
            f"{upper(scene.background)} was the paper chosen for it.",
        ),
    )


Tell = Callable[[Scene], Telling]

SHAPE_TELLINGS: dict[str, Tell] = {
    "single": tell_single,
    "pair": tell_pair,
    "row": tell_row,
    "groups": tell_groups,
    "corners": tell_corners,
    "nested": tell_nested,
}
