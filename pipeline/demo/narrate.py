"""What can truly be said of an animation: an `Animation` comes in, a `Narration` goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.demo.facts import NUMBERS, an, several, upper
from pipeline.demo.motion import Animation
from pipeline.demo.tell import hour_words
from pipeline.demo.world import Scene

NTH = ("first", "second", "third")
OTHER_SIDE = {"left": "right", "right": "left"}
ORDERS = {"red": "stop", "yellow": "wait", "green": "go"}


@dataclass(frozen=True, slots=True)
class Narration:
    """Noun phrases for the whole animation, and a sentence for each of its acts, true while the act lasts."""

    phrases: tuple[str, ...]
    lines: tuple[str, ...]


def goes_down(film: Animation) -> bool:
    """Tell whether the first thing of an animation ends below its beginning."""
    return film.poses[-1].scene.things[0].y > film.poses[0].scene.things[0].y


def narrate_boat(film: Animation, truth: Scene) -> Narration:
    """Tell of a boat that crosses the water."""
    hull, sail, bird = (truth.thing(kind) for kind in ("hull", "sail", "bird"))
    side, other = hull.detail, OTHER_SIDE[hull.detail]
    phrases = (
        f"{an(hull.colour)} boat with {an(sail.colour)} sail that sails from the {other} to the {side}",
        f"{an(hull.colour)} boat that sails to the {side} under {several(bird.count, 'bird')}",
        f"a boat with {an(sail.colour)} sail on its way to the {side}",
    )
    lines = (
        f"The {hull.colour} boat with the {sail.colour} sail sets out on the {other}.",
        "The boat passes the middle of the picture.",
        f"The boat arrives on the {side}.",
    )
    return Narration(phrases, lines)


def narrate_sky(film: Animation, truth: Scene) -> Narration:
    """Tell of a sun or moon that rises or sets."""
    sky, house = truth.things[0], truth.thing("house")
    verb = "sets" if goes_down(film) else "rises"
    phrases = (
        f"a {sky.kind} that {verb} beside {an(house.colour)} house",
        f"{an(house.colour)} house while the {sky.kind} {verb} on the {sky.detail}",
        f"a {sky.kind} that {verb} on the {sky.detail} of a house",
    )
    rising = (
        f"On the {sky.detail} the {sky.kind} comes up from behind the grass.",
        f"The {sky.kind} climbs beside the {house.colour} house.",
        f"At last the {sky.kind} comes to the top of the sky.",
    )
    setting = (
        f"The {sky.kind} leaves the top of the sky.",
        f"The {sky.kind} sinks beside the {house.colour} house.",
        f"On the {sky.detail} the {sky.kind} goes down behind the grass.",
    )
    return Narration(phrases, setting if goes_down(film) else rising)


def narrate_ball(film: Animation, truth: Scene) -> Narration:
    """Tell of a ball that bounces."""
    colour, bounces = truth.things[0].colour, len(film.spans) // 2
    times = {2: "twice", 3: "three times"}[bounces]
    lines: list[str] = []
    for nth in NTH[:bounces]:
        lines += (f"For the {nth} time the {colour} ball jumps up.", f"The {colour} ball falls back to the bottom.")
    phrases = (
        f"{an(colour)} ball that bounces {times}",
        f"{an(colour)} ball that jumps up and falls down",
        f"a ball that bounces {times}",
    )
    return Narration(phrases, tuple(lines))


def narrate_car(film: Animation, truth: Scene) -> Narration:
    """Tell of a car that drives by."""
    car, cloud = truth.thing("car"), truth.thing("cloud")
    side, other = car.detail, OTHER_SIDE[car.detail]
    phrases = (
        f"{an(car.colour)} car that drives from the {other} to the {side}",
        f"{an(car.colour)} car that drives under {several(cloud.count, 'cloud')}",
        f"a car that drives to the {side} on a grey road",
    )
    lines = (
        f"The {car.colour} car starts on the {other}.",
        "The car drives through the middle of the picture.",
        f"The car comes to the {side} side.",
    )
    return Narration(phrases, lines)


def narrate_balloons(film: Animation, truth: Scene) -> Narration:
    """Tell of balloons that rise or sink."""
    balloon, weight = truth.things
    many = balloon.count > 1
    name, s = ("balloons", "") if many else ("balloon", "s")
    verb = ("sink" if goes_down(film) else "rise") + s
    group = several(balloon.count, "balloon", balloon.colour)
    phrases = (
        f"{group} that {verb} with a {weight.kind}",
        f"{group} that {verb} slowly",
        f"a {weight.kind} on {balloon.colour} {name} that {verb}",
    )
    if not many:
        phrases = (*phrases[:2], f"a {weight.kind} on {an(balloon.colour)} balloon that {verb}")
    low, high = f"the {balloon.colour} {name} hang{s} low", f"the {balloon.colour} {name} float{s} high up"
    middle = f"With the {weight.kind} below, the {name} {verb} through the middle of the picture."
    first, last = (high, low) if goes_down(film) else (low, high)
    return Narration(phrases, (f"At the beginning {first}.", middle, f"In the end {last}."))


def narrate_train(film: Animation, truth: Scene) -> Narration:
    """Tell of a train that passes."""
    engine, wagon = truth.things
    side, other = engine.detail, OTHER_SIDE[engine.detail]
    group = several(wagon.count, "wagon", wagon.colour)
    phrases = (
        f"{an(engine.colour)} engine that pulls {group} to the {side}",
        f"a train that goes from the {other} to the {side}",
        f"a train of {an(engine.colour)} engine and {group} that passes by",
    )
    lines = (
        f"The {engine.colour} engine comes in on the {other}.",
        "The engine passes the middle of the picture.",
        f"The engine reaches the {side} side, and behind it {'are' if wagon.count > 1 else 'is'} {group}.",
    )
    return Narration(phrases, lines)


def narrate_signal(film: Animation, truth: Scene) -> Narration:
    """Tell of a traffic light that changes."""
    case = truth.thing("case")
    lights = [pose.scene.thing("lamp").colour for pose in film.poses]
    phrases = (
        f"a traffic light that changes from {lights[0]} to {lights[1]} and then to {lights[2]}",
        f"a traffic light in {an(case.colour)} case that changes twice",
        f"a traffic light that ends on {lights[2]}",
    )
    return Narration(phrases, tuple(f"The light is {light}, which means {ORDERS[light]}." for light in lights))


def narrate_die(film: Animation, truth: Scene) -> Narration:
    """Tell of a die that is thrown three times."""
    colour = truth.things[0].colour
    counts = [NUMBERS[pose.scene.things[0].count] for pose in film.poses]
    phrases = (
        f"{an(colour)} die that shows {counts[0]}, then {counts[1]} and then {counts[2]}",
        f"{an(colour)} die that is thrown three times",
        f"a die that ends on {counts[2]}",
    )
    lines = [f"The {nth} throw of the {colour} die is {count}." for nth, count in zip(NTH, counts, strict=True)]
    return Narration(phrases, tuple(lines))


def narrate_face(film: Animation, truth: Scene) -> Narration:
    """Tell of a face that changes its mood."""
    colour = truth.thing("face").colour
    moods = [pose.scene.thing("face").detail for pose in film.poses]
    phrases = (
        f"{an(colour)} face that is {moods[0]}, then {moods[1]} and then {moods[2]}",
        f"{an(colour)} face that changes its mood twice",
        f"a round face that ends up {moods[2]}",
    )
    return Narration(phrases, tuple(f"The {colour} face looks {mood}." for mood in moods))


def narrate_clock(film: Animation, truth: Scene) -> Narration:
    """Tell of a clock that goes on."""
    colour, faces = truth.thing("face").colour, [pose.scene.thing("face") for pose in film.poses]
    times = [hour_words(face.count, face.detail == "half") for face in faces]
    phrases = (
        f"{an(colour)} clock that goes from {times[0]} to {times[2]}",
        f"a round clock that shows {times[0]} and then {times[1]}",
        f"a clock that ends on {times[2]}",
    )
    return Narration(phrases, tuple(f"The {colour} clock shows {time}." for time in times))


def narrate_tree(film: Animation, truth: Scene) -> Narration:
    """Tell of a tree that loses fruits."""
    crown, fruit = truth.thing("crown"), truth.thing("fruit")
    counts = [pose.scene.thing("fruit").count for pose in film.poses]
    phrases = (
        f"{an(crown.colour)} tree that loses two of its {NUMBERS[counts[0]]} fruits",
        f"a tree with {fruit.colour} fruits that disappear",
        f"{an(crown.colour)} tree and its {fruit.colour} fruits",
    )
    lines = []
    for count in counts:
        verb = "hang" if count > 1 else "hangs"
        lines.append(f"{upper(several(count, 'fruit', fruit.colour))} {verb} in the {crown.colour} tree.")
    return Narration(phrases, tuple(lines))


NARRATIONS: dict[str, Callable[[Animation, Scene], Narration]] = {
    "boat": narrate_boat,
    "sky": narrate_sky,
    "ball": narrate_ball,
    "car": narrate_car,
    "balloons": narrate_balloons,
    "train": narrate_train,
    "signal": narrate_signal,
    "die": narrate_die,
    "face": narrate_face,
    "clock": narrate_clock,
    "tree": narrate_tree,
}


def narrate(film: Animation) -> Narration:
    """Return what can be said of an animation."""
    return NARRATIONS[film.kind](film, film.poses[0].scene)
