"""The invented world of `flamingo demo`: what each of its pictures shows, drawn by lot.

(seed, page, image) comes in, a `Scene` goes out. Every attribute hangs on a hash of its own name, so that attributes
are independent of each other, of the page's number and of how many pages there are. Nothing is drawn here.

Coordinates: the origin is the middle of the picture, x to the right, y down, the unit is the shorter side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.demo.dice import Dice

COLOURS = {
    "red": (212, 38, 42),
    "orange": (243, 132, 24),
    "yellow": (248, 212, 44),
    "green": (44, 152, 66),
    "blue": (38, 96, 212),
    "purple": (128, 54, 168),
    "pink": (244, 138, 186),
    "brown": (122, 74, 38),
    "black": (28, 28, 32),
    "white": (248, 248, 248),
    "grey": (136, 138, 142),
}
BACKGROUNDS = {
    "cream": (250, 238, 208),
    "pale blue": (198, 224, 246),
    "pale green": (206, 238, 202),
    "pale pink": (252, 216, 224),
    "light grey": (216, 217, 220),
    "dark blue": (28, 38, 86),
}
SHAPES = ("circle", "square", "triangle", "star", "hexagon", "ring", "cross", "heart", "diamond")
SIZES = {"small": 0.10, "medium": 0.165, "large": 0.24}
PLACES = {
    "top left": (-1, -1),
    "top": (0, -1),
    "top right": (1, -1),
    "left": (-1, 0),
    "centre": (0, 0),
    "right": (1, 0),
    "bottom left": (-1, 1),
    "bottom": (0, 1),
    "bottom right": (1, 1),
}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
MOODS = ("happy", "sad", "surprised")
ASPECTS = ((1, 1), (4, 3), (3, 2), (3, 4), (4, 3), (5, 4))
LONG_SIDES_PX = (320, 360, 400, 440, 480, 512, 560, 640)
TEXTURES = 4
"""Kinds of paper; no sentence speaks of them."""

MAX_PICTURES = 6


@dataclass(frozen=True, slots=True)
class Thing:
    """One object, or a group of equal objects (`count`), of a scene.

    `x`, `y` and `radius` are in units of the shorter side (see the module). `detail` is what else is told apart: a
    side, a place, a size, a mood; empty where there is nothing. `count` is also the hour of a clock.
    """

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    count: int = 1
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is known of a picture: a pure function of (seed, page, image), and all that drawing it needs.

    `kind` is a key of `SCENES`, `background` one of `BACKGROUNDS`; `key` seeds shades and texture only.
    """

    kind: str
    background: str
    things: tuple[Thing, ...]
    width_px: int
    height_px: int
    texture: int
    key: str

    def thing(self, kind: str) -> Thing:
        """Return the first thing of a kind; a `KeyError` names one that the scene lacks."""
        for thing in self.things:
            if thing.kind == kind:
                return thing
        raise KeyError(f"a scene of kind {self.kind!r} has no {kind!r}")


Build = Callable[[Dice, float, float], tuple[Thing, ...]]


def colour_of(dice: Dice, name: str) -> str:
    """Draw a colour for the thing called `name`."""
    return dice.pick(f"colour of {name}", tuple(COLOURS))


def build_single(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out one shape of some size at one of nine places."""
    size, place = dice.pick("size", tuple(SIZES)), dice.pick("place", tuple(PLACES))
    radius = SIZES[size] * (1 + dice.spread("radius", 0.06))
    column, line = PLACES[place]
    x = column * (half_width - radius - 0.05) + dice.spread("x", 0.015)
    y = line * (half_height - radius - 0.05) + dice.spread("y", 0.015)
    return (Thing(dice.pick("shape", SHAPES), colour_of(dice, "shape"), x, y, radius, 1, f"{size}|{place}"),)


def build_pair(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out two different shapes, side by side or one above the other; the first is the left or upper one."""
    shapes = dice.order("shapes", SHAPES)
    beside = dice.pick("arrangement", ("beside", "above")) == "beside"
    things = []
    for index, sign in enumerate((-1, 1)):
        size = dice.pick(f"size {index}", ("small", "large"))
        along, across = sign * 0.5, dice.spread(f"across {index}", 0.12)
        x, y = (along * half_width, across) if beside else (across, along * half_height)
        radius = {"small": 0.11, "large": 0.19}[size]
        colour = colour_of(dice, f"shape {index}")
        things.append(Thing(shapes[index], colour, x, y, radius, 1, f"{size}|{'beside' if beside else 'above'}"))
    return tuple(things)


def spread_row(thing: Thing) -> tuple[tuple[float, float], ...]:
    """Return the middle of each object of a group that stands in a row, from left to right."""
    step = thing.radius * 2.5
    return tuple((thing.x + (index - (thing.count - 1) / 2) * step, thing.y) for index in range(thing.count))


def row_of(dice: Dice, name: str, shape: str, count: int, half_width: float, y: float) -> Thing:
    """Lay `count` equal shapes in a row that fits the width."""
    radius = min(0.15, 0.9 * half_width / (1.25 * count)) * (1 - 0.15 * dice.unit(f"radius of {name}"))
    return Thing(shape, colour_of(dice, name), dice.spread(f"x of {name}", 0.02), y, radius, count)


def build_row(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out two to six equal shapes in a row."""
    shape, count = dice.pick("shape", SHAPES), dice.between("count", 2, 6)
    return (row_of(dice, "row", shape, count, half_width, dice.spread("y", half_height - 0.25)),)


def build_groups(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a row of one shape above a row of another."""
    shapes = dice.order("shapes", SHAPES)
    counts = [dice.between(f"count {index}", 1, 5) for index in (0, 1)]
    return tuple(
        row_of(dice, f"row {index}", shapes[index], counts[index], half_width, (index - 0.5) * half_height)
        for index in (0, 1)
    )


def build_corners(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out four different shapes, one in each corner."""
    shapes = dice.order("shapes", SHAPES)
    things = []
    for index, corner in enumerate(CORNERS):
        column, line = PLACES[corner]
        radius = 0.14 + dice.spread(f"radius {index}", 0.025)
        x = column * half_width * 0.52 + dice.spread(f"x {index}", 0.02)
        y = line * half_height * 0.52 + dice.spread(f"y {index}", 0.02)
        things.append(Thing(shapes[index], colour_of(dice, f"shape {index}"), x, y, radius, 1, corner))
    return tuple(things)


def build_nested(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a small shape inside a large one of another colour."""
    outer = dice.pick("outer", ("circle", "square", "hexagon", "diamond"))
    inner = dice.pick("inner", tuple(shape for shape in SHAPES if shape != outer))
    colours = dice.order("colours", tuple(COLOURS))
    x, y = dice.spread("x", half_width - 0.4), dice.spread("y", half_height - 0.4)
    radius = 0.12 + dice.spread("radius", 0.015)
    return (Thing(outer, colours[0], x, y, 0.36, 1, "outer"), Thing(inner, colours[1], x, y, radius, 1, "inner"))


def build_house(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a house with a roof, a door and windows, a tree on one side, sun or moon on one side."""
    x, y = dice.spread("x", 0.03), 0.16 + dice.spread("y", 0.03)
    sky, tree = dice.pick("side of the sky", ("left", "right")), dice.pick("side of the tree", ("left", "right"))
    sign = {"left": -1, "right": 1}
    return (
        Thing(dice.pick("sky", ("sun", "moon")), "yellow", sign[sky] * (half_width - 0.13), -0.34, 0.09, 1, sky),
        Thing("tree", "green", x + sign[tree] * 0.36, y + 0.01, 0.1, 1, tree),
        Thing("house", colour_of(dice, "house"), x, y, 0.21),
        Thing("roof", colour_of(dice, "roof"), x, y - 0.27, 0.25),
        Thing("door", colour_of(dice, "door"), x, y + 0.125, 0.045),
        Thing("window", colour_of(dice, "windows"), x, y - 0.06, 0.036, dice.between("windows", 1, 4)),
    )


def build_boat(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a sailing boat on water with birds above it."""
    place = dice.pick("place", ("left", "centre", "right"))
    x = PLACES[place][0] * (half_width - 0.27) + dice.spread("x", 0.02)
    return (
        Thing("water", "blue", 0.0, half_height * 0.72, 0.5),
        Thing("hull", colour_of(dice, "hull"), x, 0.2, 0.2, 1, place),
        Thing("sail", colour_of(dice, "sail"), x, -0.02, 0.17),
        Thing("bird", "black", 0.0, -0.37, 0.04, dice.between("birds", 1, 5)),
    )


def build_car(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a car on a road under clouds."""
    x, side = dice.spread("x", half_width - 0.36), dice.pick("side", ("left", "right"))
    return (
        Thing("cloud", "white", 0.0, -0.33, 0.075, dice.between("clouds", 1, 4)),
        Thing("road", "grey", 0.0, 0.36, 0.5),
        Thing("car", colour_of(dice, "car"), x, 0.14, 0.28, 1, side),
    )


def build_vase(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out flowers in a vase on a table."""
    x = dice.spread("x", max(0.03, half_width - 0.42))
    return (
        Thing("table", colour_of(dice, "table"), 0.0, 0.42, 0.5),
        Thing("flower", colour_of(dice, "flowers"), x, -0.2, 0.062, dice.between("flowers", 1, 7)),
        Thing("vase", colour_of(dice, "vase"), x, 0.19, 0.13),
    )


def build_signal(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a traffic light with one of its three lamps lit."""
    place, lit = dice.pick("place", ("left", "centre", "right")), dice.pick("lit", ("red", "yellow", "green"))
    x = PLACES[place][0] * (half_width - 0.2)
    lamp_y = {"red": -0.27, "yellow": -0.1, "green": 0.07}[lit]
    return (
        Thing("case", colour_of(dice, "case"), x, -0.1, 0.15, 1, place),
        Thing("lamp", lit, x, lamp_y, 0.066),
    )


def build_clock(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a clock that shows a full or a half hour."""
    x, y = dice.spread("x", half_width - 0.42), dice.spread("y", half_height - 0.42)
    radius = 0.36 + dice.spread("radius", 0.03)
    half = dice.pick("half", ("full", "half"))
    colours = dice.order("colours", tuple(COLOURS))
    return (
        Thing("rim", colours[0], x, y, radius),
        Thing("face", colours[1], x, y, radius * 0.84, dice.between("hour", 1, 12), half),
    )


def build_balloons(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out one to six balloons of one colour, tied to a basket or to a stone."""
    weight = dice.pick("weight", ("basket", "stone"))
    return (
        Thing("balloon", colour_of(dice, "balloons"), 0.0, -0.17, 0.085, dice.between("balloons", 1, 6)),
        Thing(weight, {"basket": "brown", "stone": "grey"}[weight], dice.spread("x", 0.1), 0.36, 0.08),
    )


def build_face(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a round face in some mood that wears a hat, or none."""
    x, y = dice.spread("x", half_width - 0.35), 0.12
    face = Thing("face", colour_of(dice, "face"), x, y, 0.29 + dice.spread("radius", 0.02), 1, dice.pick("mood", MOODS))
    hat = Thing("hat", colour_of(dice, "hat"), x, y - 0.36, 0.2)
    return (face, hat) if dice.unit("hat") < 0.5 else (face,)


def build_orchard(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a tree that bears one to eight fruits."""
    x = dice.spread("x", half_width - 0.36)
    colours = dice.order("colours", tuple(COLOURS))
    return (
        Thing("trunk", "brown", x, 0.28, 0.05),
        Thing("crown", colours[0], x, -0.1, 0.3),
        Thing("fruit", colours[1], x, -0.1, 0.036, dice.between("fruits", 1, 8)),
    )


def build_bowl(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out fish that swim to one side in a round bowl."""
    x, side = dice.spread("x", half_width - 0.42), dice.pick("side", ("left", "right"))
    return (
        Thing("bowl", "white", x, 0.02, 0.38),
        Thing("fish", colour_of(dice, "fish"), x, 0.07, 0.07, dice.between("fish", 1, 5), side),
    )


def build_flag(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a flag of three stripes, from left to right or from top to bottom."""
    x, y = dice.spread("x", half_width - 0.4), -0.08 + dice.spread("y", 0.06)
    stripes = dice.pick("stripes", ("vertical", "horizontal"))
    colours = dice.order("colours", tuple(COLOURS))
    step_x, step_y = (0.22, 0.0) if stripes == "vertical" else (0.0, 0.15)
    return tuple(
        Thing("stripe", colours[index], x + (index - 1) * step_x, y + (index - 1) * step_y, 0.33, 1, stripes)
        for index in range(3)
    )


def build_train(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out an engine that pulls one to four wagons to one side."""
    side = dice.pick("side", ("left", "right"))
    sign = {"left": -1, "right": 1}[side]
    y = 0.14 + dice.spread("y", 0.08)
    return (
        Thing("engine", colour_of(dice, "engine"), sign * 0.36, y, 0.095, 1, side),
        Thing("wagon", colour_of(dice, "wagons"), sign * 0.36, y, 0.08, dice.between("wagons", 1, 4), side),
    )


def build_die(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out the face of a die."""
    x, y = dice.spread("x", half_width - 0.38), dice.spread("y", half_height - 0.38)
    radius = 0.28 + dice.spread("radius", 0.05)
    return (Thing("die", colour_of(dice, "die"), x, y, radius, dice.between("pips", 1, 6)),)


def build_cake(dice: Dice, half_width: float, half_height: float) -> tuple[Thing, ...]:
    """Lay out a cake with candles on a plate."""
    x = dice.spread("x", half_width - 0.4)
    return (
        Thing("plate", colour_of(dice, "plate"), x, 0.3, 0.38),
        Thing("cake", colour_of(dice, "cake"), x, 0.13, 0.29),
        Thing("candle", colour_of(dice, "candles"), x, -0.13, 0.02, dice.between("candles", 1, 6)),
    )


SCENES: dict[str, Build] = {
    "single": build_single,
    "pair": build_pair,
    "row": build_row,
    "groups": build_groups,
    "corners": build_corners,
    "nested": build_nested,
    "house": build_house,
    "boat": build_boat,
    "car": build_car,
    "vase": build_vase,
    "signal": build_signal,
    "clock": build_clock,
    "balloons": build_balloons,
    "face": build_face,
    "orchard": build_orchard,
    "bowl": build_bowl,
    "flag": build_flag,
    "train": build_train,
    "die": build_die,
    "cake": build_cake,
}


def page_dice(seed: int, page: int) -> Dice:
    """Return the dice of a page."""
    return Dice(f"world/{seed}/{page}")


def scene_kind(seed: int, page: int, image: int) -> str:
    """Tell what kind of scene stands at a place: half of the pages are series of one kind, the others mix kinds."""
    dice = page_dice(seed, page)
    kinds = dice.order("kinds", tuple(SCENES))
    return kinds[0] if dice.unit("series") < 0.5 else kinds[image % len(kinds)]


def scene(seed: int, page: int, image: int) -> Scene:
    """Return the truth of one picture of the world, by random access."""
    dice = page_dice(seed, page).sub(image)
    kind = scene_kind(seed, page, image)
    long_px, (across, down) = dice.pick("long side", LONG_SIDES_PX), dice.pick("aspect", ASPECTS)
    width_px, height_px = long_px * across // max(across, down), long_px * down // max(across, down)
    short_px = min(width_px, height_px)
    things = SCENES[kind](dice.sub(kind), width_px / 2 / short_px, height_px / 2 / short_px)
    background = dice.pick("background", tuple(BACKGROUNDS))
    return Scene(kind, background, things, width_px, height_px, dice.between("texture", 0, TEXTURES - 1), dice.key)
