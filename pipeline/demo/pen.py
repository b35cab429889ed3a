"""The pen of the invented world: areas, lines and plain shapes in the units of a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from pipeline.demo.dice import Dice
from pipeline.demo.world import COLOURS

Rgb = tuple[int, int, int]
Point = tuple[float, float]

SHADE_REACH = 7
"""How far a channel (0..255) of a picture's shade may lie from its colour's."""


@dataclass(frozen=True, slots=True)
class Pen:
    """What draws in the units of a scene; lines are as wide as `line_px` says."""

    draw: ImageDraw.ImageDraw
    middle_px: Point
    unit_px: float
    line_px: int
    background: Rgb
    dice: Dice

    def at(self, x: float, y: float) -> Point:
        """Return the pixel of a place."""
        return self.middle_px[0] + x * self.unit_px, self.middle_px[1] + y * self.unit_px

    def shade(self, colour: str) -> Rgb:
        """Return this picture's shade of a colour."""
        red, green, blue = COLOURS[colour]
        return self.vary("red", red), self.vary("green", green), self.vary("blue", blue)

    def vary(self, channel: str, value: int) -> int:
        """Move a channel a little, the same way for a whole picture."""
        return max(0, min(255, value + round(self.dice.spread(channel, SHADE_REACH))))

    def ink(self) -> Rgb:
        """Return the colour of thin lines: dark on light paper, light on dark paper."""
        return contrast(self.background)

    def oval(self, x: float, y: float, radius_x: float, radius_y: float, colour: Rgb) -> None:
        """Draw a filled oval."""
        box = (*self.at(x - radius_x, y - radius_y), *self.at(x + radius_x, y + radius_y))
        self.draw.ellipse(box, fill=colour, outline=edge(colour), width=self.line_px)

    def polygon(self, points: Sequence[Point], colour: Rgb) -> None:
        """Draw a filled polygon."""
        corners = [self.at(*point) for point in points]
        self.draw.polygon(corners, fill=colour)
        self.draw.line([*corners, corners[0], corners[1]], fill=edge(colour), width=self.line_px, joint="curve")

    def box(self, x: float, y: float, half_x: float, half_y: float, colour: Rgb) -> None:
        """Draw a filled box around its middle."""
        corners = (*self.at(x - half_x, y - half_y), *self.at(x + half_x, y + half_y))
        self.draw.rectangle(corners, fill=colour, outline=edge(colour), width=self.line_px)

    def line(self, points: Sequence[Point], colour: Rgb, wide: float = 1.0) -> None:
        """Draw a line, `wide` times as wide as an outline."""
        width = max(1, round(self.line_px * wide))
        self.draw.line([self.at(*point) for point in points], fill=colour, width=width, joint="curve")


def contrast(colour: Rgb) -> Rgb:
    """Return black or white, whichever is seen on a colour."""
    return (30, 30, 34) if 3 * colour[0] + 6 * colour[1] + colour[2] > 1150 else (245, 245, 245)


def edge(colour: Rgb) -> Rgb:
    """Return the outline of a filled area: darker than the area, or lighter where it is nearly black."""
    red, green, blue = colour
    if red + green + blue < 200:
        return 128, 128, 134
    return red * 11 // 20, green * 11 // 20, blue * 11 // 20


def circle_points(corners: int, radius: float, turn: float, other_radius: float | None = None) -> tuple[Point, ...]:
    """Return the corners of a regular polygon, or of a star where every second corner has another radius."""
    radii = (radius, radius if other_radius is None else other_radius)
    angles = [2 * math.pi * (index / corners) + turn for index in range(corners)]
    return tuple((radii[index % 2] * math.sin(a), -radii[index % 2] * math.cos(a)) for index, a in enumerate(angles))


def cross_points() -> tuple[Point, ...]:
    """Return the twelve corners of a cross."""
    arm = 0.34
    quarter = ((-arm, -1.0), (arm, -1.0), (arm, -arm), (1.0, -arm), (1.0, arm), (arm, arm))
    return quarter + tuple((-x, -y) for x, y in quarter)


def heart_points() -> tuple[Point, ...]:
    """Return a heart whose widest line lies above its middle."""
    angles = [index * 2 * math.pi / 28 for index in range(28)]
    return tuple(
        (
            1.0 * math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 15,
        )
        for a in angles
    )


OUTLINES: dict[str, tuple[Point, ...]] = {
    "square": circle_points(4, 1.25, math.pi / 4),
    "diamond": circle_points(4, 1.1, 0.0),
    "triangle": circle_points(3, 1.15, 0.0),
    "hexagon": circle_points(6, 1.05, math.pi / 6),
    "star": circle_points(10, 1.15, 0.0, 0.5),
    "cross": cross_points(),
    "heart": heart_points(),
}


def draw_shape(pen: Pen, shape: str, x: float, y: float, radius: float, colour: Rgb) -> None:
    """Draw one of the plain shapes."""
    if shape == "circle":
        pen.oval(x, y, radius, radius, colour)
    elif shape == "ring":
        pen.oval(x, y, radius, radius, colour)
        pen.oval(x, y, radius * 0.55, radius * 0.55, pen.background)
    else:
        pen.polygon([(x + px * radius, y + py * radius) for px, py in OUTLINES[shape]], colour)
