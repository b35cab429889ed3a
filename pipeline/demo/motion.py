"""What moves in the invented world: (seed, page) comes in, an `Animation` goes out. Nothing is drawn here.

An animation is one scene in a few poses. Either its things glide from pose to pose (a boat sails), or each pose is
held until the next (a die is thrown again). Poses begin at whole seconds, so that what is said of one is true from
there to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.demo.dice import Dice
from pipeline.demo.facts import SIDES
from pipeline.demo.world import BACKGROUNDS, MOODS, SCENES, Scene, Thing, page_dice

FRAME_SIZES_PX = ((320, 240), (320, 180), (256, 192))
GLIDE_FPS = {3: (10, 12, 25), 4: (10, 15), 6: (10,)}
"""Frames a second, by the seconds that an animation lasts: long ones are made of fewer."""

HOLD_FPS = (10,)
GLIDE_ACTS_S = (1, 1, 2)
HOLD_ACTS_S = (1, 2, 4)
DIRECTION = {"left": -1, "right": 1}
STILL = (0.0, 0.0)
LAMPS = (("red", -0.27), ("green", 0.07), ("yellow", -0.1))
"""The lights of a traffic light in their order of time, and where they are."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A scene as it is `start_s` seconds after the animation's beginning."""

    start_s: int
    scene: Scene


@dataclass(frozen=True, slots=True)
class Animation:
    """All that is known of a video, and all that drawing it needs.

    `kind` is a key of `MOTIONS`. Things that glide reach the last pose when the animation ends.
    """

    kind: str
    glides: bool
    fps: int
    duration_s: int
    poses: tuple[Pose, ...]

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Start and end of each act, in seconds."""
        starts = [pose.start_s for pose in self.poses]
        return tuple(itertools.pairwise(starts if self.glides else (*starts, self.duration_s)))


Poses = tuple[tuple[Thing, ...], ...]


@dataclass(frozen=True, slots=True)
class Motion:
    """A kind of animation: the kind of its scene, how its poses are laid out, whether things glide between them."""

    scene: str
    pose: Callable[[Dice, tuple[Thing, ...], float, float], Poses]
    glides: bool


def changed(things: tuple[Thing, ...], kind: str, **changes: Any) -> tuple[Thing, ...]:
    """Change the things of a kind."""
    return tuple(replace(thing, **changes) if thing.kind == kind else thing for thing in things)


def glide(things: tuple[Thing, ...], kinds: tuple[str, ...], dx: tuple[float, float], dy: tuple[float, float]) -> Poses:
    """Shift the things of some kinds in three equal steps, from the first of two distances to the second."""
    poses = []
    for step in (0, 1 / 3, 2 / 3, 1):
        x, y = dx[0] + (dx[1] - dx[0]) * step, dy[0] + (dy[1] - dy[0]) * step
        poses.append(tuple(replace(t, x=t.x + x, y=t.y + y) if t.kind in kinds else t for t in things))
    return tuple(poses)


def sail(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a boat cross the picture; the hull's detail is the side that it comes to."""
    side = dice.pick("to", SIDES)
    start = changed(changed(things, "hull", x=0.0, detail=side), "sail", x=0.0)
    reach = DIRECTION[side] * (half_width - 0.27)
    return glide(start, ("hull", "sail"), (-reach, reach), STILL)


def rise_or_set(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let sun or moon rise from behind the grass, or sink behind it."""
    sky = things[0]
    house = next(thing for thing in things if thing.kind == "house")
    below = house.y + house.radius + sky.radius - sky.y
    return glide(things, (sky.kind,), STILL, (below, 0.0) if dice.unit("rises") < 0.5 else (0.0, below))


def bounce(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a ball jump up and fall back two or three times."""
    x = dice.spread("x", half_width - 0.3)
    low = replace(things[0], kind="circle", x=x, y=half_height - 0.17, radius=0.14, detail="medium|bottom")
    high = replace(low, y=0.17 - half_height, detail="medium|top")
    return (*(((low,), (high,)) * dice.between("bounces", 2, 3)), (low,))


def drive(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a car drive to the side that it looks to."""
    car = things[2]
    reach = DIRECTION[car.detail] * (half_width - 0.33)
    return glide(changed(things, "car", x=0.0), ("car",), (-reach, reach), STILL)


def float_up_or_down(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let balloons rise, or sink, with what they hold."""
    way = (0.12, -0.14) if dice.unit("rises") < 0.5 else (-0.14, 0.12)
    return glide(things, tuple(thing.kind for thing in things), STILL, way)


def pass_by(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a train cross the picture."""
    engine = things[0]
    reach = DIRECTION[engine.detail] * (half_width - 0.14)
    start = changed(changed(things, "engine", x=0.0), "wagon", x=0.0)
    return glide(start, ("engine", "wagon"), (-reach, reach), STILL)


def switch(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a traffic light go through its three lights in their order."""
    first = dice.between("first", 0, 2)
    lights = [LAMPS[(first + step) % 3] for step in range(3)]
    return tuple(changed(things, "lamp", colour=colour, y=y) for colour, y in lights)


def throw(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a die show three different numbers."""
    return tuple(changed(things, "die", count=count) for count in dice.order("throws", range(1, 7))[:3])


def feel(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a face go through all moods."""
    return tuple(changed(things, "face", detail=mood) for mood in dice.order("moods", MOODS))


def tick(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a clock go on by half an hour, twice."""
    first = dice.between("half hours", 0, 23)
    times = [(first + step) % 24 for step in range(3)]
    return tuple(changed(things, "face", count=time // 2 or 12, detail=("full", "half")[time % 2]) for time in times)


def shed(dice: Dice, things: tuple[Thing, ...], half_width: float, half_height: float) -> Poses:
    """Let a tree lose two of its fruits, one after the other."""
    count = dice.between("fruits", 3, 8)
    return tuple(changed(things, "fruit", count=count - lost) for lost in range(3))


MOTIONS: dict[str, Motion] = {
    "boat": Motion("boat", sail, glides=True),
    "sky": Motion("house", rise_or_set, glides=True),
    "ball": Motion("single", bounce, glides=True),
    "car": Motion("car", drive, glides=True),
    "balloons": Motion("balloons", float_up_or_down, glides=True),
    "train": Motion("train", pass_by, glides=True),
    "signal": Motion("signal", switch, glides=False),
    "die": Motion("die", throw, glides=False),
    "face": Motion("face", feel, glides=False),
    "clock": Motion("clock", tick, glides=False),
    "tree": Motion("orchard", shed, glides=False),
}


def animation(seed: int, page: int) -> Animation:
    """Return the truth of a page's animation, by random access."""
    dice = page_dice(seed, page).sub("animation")
    kind = dice.pick("kind", tuple(MOTIONS))
    motion, (width_px, height_px) = MOTIONS[kind], dice.pick("size", FRAME_SIZES_PX)
    half_width, half_height = width_px / 2 / height_px, 0.5
    things = SCENES[motion.scene](dice.sub(kind), half_width, half_height)
    poses = motion.pose(dice.sub("poses"), things, half_width, half_height)
    background = dice.pick("background", tuple(BACKGROUNDS))
    act_s = 1 if kind == "ball" else dice.pick("act", GLIDE_ACTS_S if motion.glides else HOLD_ACTS_S)
    duration_s = act_s * (len(poses) - motion.glides)
    scenes = [Scene(motion.scene, background, pose, width_px, height_px, 0, dice.key) for pose in poses]
    fps = dice.pick("fps", GLIDE_FPS[duration_s] if motion.glides else HOLD_FPS)
    return Animation(
        kind, motion.glides, fps, duration_s, tuple(Pose(act_s * step, truth) for step, truth in enumerate(scenes))
    )


def scene_at(film: Animation, second: float) -> Scene:
    """Return what an animation shows at a moment."""
    number = max(number for number, pose in enumerate(film.poses) if pose.start_s <= second)
    pose = film.poses[number]
    if not film.glides or pose.start_s == film.duration_s:
        return pose.scene
    goal = film.poses[number + 1]
    part = (second - pose.start_s) / (goal.start_s - pose.start_s)
    if film.kind == "ball":
        part = 1 - (1 - part) ** 2 if number % 2 == 0 else part**2
    pairs = zip(pose.scene.things, goal.scene.things, strict=True)
    things = tuple(
        replace(here, x=here.x + (there.x - here.x) * part, y=here.y + (there.y - here.y) * part)
        for here, there in pairs
    )
    return replace(pose.scene, things=things)
