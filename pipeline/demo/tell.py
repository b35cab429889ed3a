"""What can truly be said of the scenes of things, and the phrases and questions for any scene."""

from __future__ import annotations

from pipeline.demo.dice import Dice
from pipeline.demo.facts import (
    COLOUR,
    NUMBERS,
    PLACE_PHRASES,
    SHAPE_TELLINGS,
    SIDES,
    STATE,
    THIRDS,
    Fact,
    Tell,
    Telling,
    an,
    background_fact,
    choice_fact,
    colour_fact,
    count_fact,
    place_fact,
    several,
    way_fact,
)
from pipeline.demo.world import MOODS, Scene


def tell_house(scene: Scene) -> Telling:
    """Tell of a house, its tree and its sky."""
    house, roof, door, window = (scene.thing(kind) for kind in ("house", "roof", "door", "window"))
    sky, tree = scene.things[0], scene.thing("tree")
    heads = (f"{an(house.colour)} house", "a house", "a house and a tree")
    extras = (
        f"{an(roof.colour)} roof",
        f"{an(door.colour)} door",
        several(window.count, "window"),
        f"a {sky.kind} in the sky",
    )
    facts = (
        colour_fact("the wall of the house", house.colour),
        colour_fact("the roof", roof.colour),
        colour_fact("the door", door.colour),
        colour_fact("every window", window.colour),
        count_fact(window.count, "window", "above the door", 4),
        choice_fact(
            STATE,
            "Is the sun or the moon in the sky?",
            sky.kind,
            ("moon", "sun"),
            f"The {sky.kind} is in the sky.",
            f"A {sky.kind} looks down on the house.",
        ),
        choice_fact(
            "relation",
            "On which side of the house is the tree?",
            tree.detail,
            SIDES,
            f"The tree stands on the {tree.detail} side of the house.",
            f"On the {tree.detail} of the house there is a tree.",
        ),
        place_fact(f"the {sky.kind}", sky.detail, SIDES),
    )
    return Telling(heads, extras, facts, "the house", house.colour, "windows", window.count)


def tell_boat(scene: Scene) -> Telling:
    """Tell of a boat and its birds."""
    hull, sail, bird = (scene.thing(kind) for kind in ("hull", "sail", "bird"))
    heads = ("a sailing boat", f"{an(hull.colour)} boat on the water", f"a boat {PLACE_PHRASES[hull.detail]}")
    extras = (f"{an(sail.colour)} sail", f"{several(bird.count, 'bird')} above it")
    facts = (
        colour_fact("the hull of the boat", hull.colour),
        colour_fact("the sail", sail.colour),
        count_fact(bird.count, "bird", "above the boat", 5),
        place_fact("the boat", hull.detail, THIRDS),
    )
    return Telling(heads, extras, facts, "the hull of the boat", hull.colour, "birds", bird.count)


def tell_car(scene: Scene) -> Telling:
    """Tell of a car and the clouds."""
    cloud, car = scene.thing("cloud"), scene.thing("car")
    heads = (f"{an(car.colour)} car", "a car on a road", f"a car that drives to the {car.detail}")
    facts = (
        colour_fact("the car", car.colour),
        count_fact(cloud.count, "cloud", "above the car", 4),
        way_fact("the car", "drive", car.detail),
    )
    extras = (f"{several(cloud.count, 'cloud')} above it",)
    return Telling(heads, extras, facts, "the car", car.colour, "clouds", cloud.count)


def tell_vase(scene: Scene) -> Telling:
    """Tell of flowers in a vase."""
    table, flower, vase = (scene.thing(kind) for kind in ("table", "flower", "vase"))
    heads = (f"{an(vase.colour)} vase", "a vase on a table", f"{several(flower.count, 'flower')} in a vase")
    many = flower.count > 1
    facts = (
        colour_fact("the vase", vase.colour),
        colour_fact("the table", table.colour),
        colour_fact("the flowers" if many else "the flower", flower.colour, many),
        count_fact(flower.count, "flower", "in the vase", 7),
    )
    extras = (f"{flower.colour} petals", f"{an(table.colour)} table under it")
    return Telling(heads, extras, facts, "the vase", vase.colour, "flowers", flower.count)


def tell_signal(scene: Scene) -> Telling:
    """Tell of a traffic light."""
    case, lamp = scene.thing("case"), scene.thing("lamp")
    heads = (
        "a traffic light",
        f"a traffic light that shows {lamp.colour}",
        f"a traffic light in {an(case.colour)} case",
    )
    order = {"red": "stop", "yellow": "wait", "green": "go"}[lamp.colour]
    position = {"red": "top", "yellow": "middle", "green": "bottom"}[lamp.colour]
    facts = (
        choice_fact(
            COLOUR,
            "Which light is lit?",
            lamp.colour,
            ("green", "red", "yellow"),
            f"The light that is lit is {lamp.colour}.",
            f"The traffic light shows {lamp.colour}.",
        ),
        choice_fact(
            STATE,
            "Does the light say stop, wait or go?",
            order,
            ("go", "stop", "wait"),
            f"The light tells everyone to {order}.",
            f"Of its lamps the {position} one is lit, so the drivers {order}.",
        ),
        colour_fact("the case of the traffic light", case.colour),
        place_fact("the traffic light", case.detail, THIRDS),
    )
    return Telling(heads, (), facts, "the case of the traffic light", case.colour)


def hour_words(hour: int, half: bool) -> str:
    """Return the time in words: `three o'clock`, `half past three`."""
    return f"half past {NUMBERS[hour]}" if half else f"{NUMBERS[hour]} o'clock"


def tell_clock(scene: Scene) -> Telling:
    """Tell of a clock and its hour."""
    rim, face = scene.thing("rim"), scene.thing("face")
    half = face.detail == "half"
    time = hour_words(face.count, half)
    hours = tuple(hour_words(hour, half) for hour in range(1, 13))
    heads = ("a round clock", f"a clock that shows {time}", f"{an(face.colour)} clock")
    facts = (
        choice_fact(
            STATE,
            "What time does the clock show?",
            time,
            hours,
            f"The clock shows {time}.",
            f"It is {time} by this clock.",
            f"Its hands stand at {time}.",
        ),
        colour_fact("the face of the clock", face.colour),
        colour_fact("the rim of the clock", rim.colour),
        choice_fact(
            STATE,
            "Does the long hand point up or down?",
            "down" if half else "up",
            ("down", "up"),
            f"The long hand points straight {'down' if half else 'up'}.",
        ),
    )
    return Telling(heads, (f"{an(rim.colour)} rim",), facts, "the face of the clock", face.colour)


def tell_balloons(scene: Scene) -> Telling:
    """Tell of balloons and what holds them."""
    balloon, weight = scene.things
    many = balloon.count > 1
    name = "the balloons" if many else "the balloon"
    heads = (
        several(balloon.count, "balloon", balloon.colour),
        several(balloon.count, "balloon"),
        f"{balloon.colour} balloons" if many else f"{an(balloon.colour)} balloon",
        f"something {balloon.colour} on {'strings' if many else 'a string'}",
    )
    facts = (
        colour_fact(name, balloon.colour, many),
        count_fact(balloon.count, "balloon", f"above the {weight.kind}", 6),
        choice_fact(
            STATE,
            f"What {'are' if many else 'is'} {name} tied to?",
            weight.kind,
            ("basket", "stone"),
            f"A {weight.kind} keeps {name} from flying away.",
            f"{name[0].upper()}{name[1:]} {'are' if many else 'is'} tied to a {weight.kind}.",
        ),
    )
    return Telling(heads, (f"a {weight.kind} below",), facts, name, balloon.colour, "balloons", balloon.count)


def tell_face(scene: Scene) -> Telling:
    """Tell of a face, its mood and its hat."""
    face = scene.thing("face")
    worn = len(scene.things) > 1
    heads = ("a round face", f"{an(face.detail)} face", f"{an(face.colour)} face")
    facts = [
        colour_fact("the face", face.colour),
        choice_fact(
            STATE,
            "Is the face happy, sad or surprised?",
            face.detail,
            MOODS,
            f"The face looks {face.detail}.",
            f"Something made this face {face.detail}.",
        ),
        choice_fact(
            STATE,
            "Does the face wear a hat?",
            "yes" if worn else "no",
            ("no", "yes"),
            "The face wears a hat." if worn else "The face wears no hat.",
            "There is a hat on the head." if worn else "Nothing covers the head.",
        ),
    ]
    extras: tuple[str, ...] = ()
    if worn:
        hat = scene.thing("hat")
        facts.append(colour_fact("the hat", hat.colour))
        extras = (f"{an(hat.colour)} hat",)
    return Telling(heads, extras, tuple(facts), "the face", face.colour)


def tell_orchard(scene: Scene) -> Telling:
    """Tell of a tree and its fruits."""
    crown, fruit = scene.thing("crown"), scene.thing("fruit")
    many = fruit.count > 1
    heads = ("a tree", f"a tree that bears {several(fruit.count, 'fruit')}", f"a tree of a {crown.colour} kind")
    facts = (
        colour_fact("the crown of the tree", crown.colour),
        colour_fact("the fruits" if many else "the fruit", fruit.colour, many),
        count_fact(fruit.count, "fruit", "in the tree", 8),
    )
    extras = (f"{an(crown.colour)} crown", f"{fruit.colour} fruits" if many else f"{an(fruit.colour)} fruit")
    return Telling(heads[:2], extras, facts, "the crown of the tree", crown.colour, "fruits", fruit.count)


def tell_bowl(scene: Scene) -> Telling:
    """Tell of fish in a bowl."""
    fish = scene.thing("fish")
    heads = (f"{several(fish.count, 'fish', fish.colour)} in a bowl", "a round bowl", f"{fish.colour} fish in a bowl")
    facts = (
        colour_fact("the fish", fish.colour, fish.count > 1),
        count_fact(fish.count, "fish", "in the bowl", 5),
        way_fact("the fish", "swim", fish.detail, fish.count > 1),
    )
    return Telling(heads, (), facts, "the fish", fish.colour, "fish", fish.count)


def tell_flag(scene: Scene) -> Telling:
    """Tell of a flag and its stripes."""
    stripes = scene.things
    way = stripes[0].detail
    names = ("left", "middle", "right") if way == "vertical" else ("top", "middle", "bottom")
    order = "from left to right" if way == "vertical" else "from top to bottom"
    colours = [stripe.colour for stripe in stripes]
    listed = f"{colours[0]}, {colours[1]} and {colours[2]}"
    heads = ("a flag", f"a flag of {way} stripes", f"a flag in {listed} {order}", "a flag on a pole")
    facts = (
        *(colour_fact(f"the {name} stripe", colour) for name, colour in zip(names, colours, strict=True)),
        choice_fact(
            STATE,
            "Are the stripes vertical or horizontal?",
            way,
            ("horizontal", "vertical"),
            f"The stripes of the flag are {way}.",
            f"It is a flag whose stripes run {'up and down' if way == 'vertical' else 'from side to side'}.",
        ),
    )
    return Telling(heads, (f"{an(colours[1])} stripe in the middle",), facts, "the middle stripe", colours[1])


def tell_train(scene: Scene) -> Telling:
    """Tell of a train."""
    engine, wagon = scene.things
    many = wagon.count > 1
    heads = ("a train", f"a train that goes to the {engine.detail}", f"an engine and {several(wagon.count, 'wagon')}")
    facts = (
        colour_fact("the engine", engine.colour),
        colour_fact("the wagons" if many else "the wagon", wagon.colour, many),
        count_fact(wagon.count, "wagon", "behind the engine", 4),
        way_fact("the train", "go", engine.detail),
    )
    extras = (f"{an(engine.colour)} engine", f"{wagon.colour} wagons" if many else f"{an(wagon.colour)} wagon")
    return Telling(heads[:2], extras, facts, "the engine", engine.colour, "wagons", wagon.count)


def tell_die(scene: Scene) -> Telling:
    """Tell of the face of a die."""
    (die,) = scene.things
    heads = (f"{an(die.colour)} die", f"a die that shows {NUMBERS[die.count]}", "a die seen from above")
    facts = (colour_fact("the die", die.colour), count_fact(die.count, "pip", "on the die", 6))
    return Telling(heads, (), facts, "the die", die.colour, "pips", die.count)


def tell_cake(scene: Scene) -> Telling:
    """Tell of a cake and its candles."""
    plate, cake, candle = scene.things
    many = candle.count > 1
    heads = ("a cake on a plate", f"{an(cake.colour)} cake", "a birthday cake")
    facts = (
        colour_fact("the cake", cake.colour),
        colour_fact("the plate", plate.colour),
        colour_fact("the candles" if many else "the candle", candle.colour, many),
        count_fact(candle.count, "candle", "on the cake", 6),
    )
    extras = (several(candle.count, "candle"), f"{an(plate.colour)} plate under it")
    return Telling(heads, extras, facts, "the cake", cake.colour, "candles", candle.count)


TELLINGS: dict[str, Tell] = SHAPE_TELLINGS | {
    "house": tell_house,
    "boat": tell_boat,
    "car": tell_car,
    "vase": tell_vase,
    "signal": tell_signal,
    "clock": tell_clock,
    "balloons": tell_balloons,
    "face": tell_face,
    "orchard": tell_orchard,
    "bowl": tell_bowl,
    "flag": tell_flag,
    "train": tell_train,
    "die": tell_die,
    "cake": tell_cake,
}


def tell(scene: Scene) -> Telling:
    """Return what can be said of a scene, but for its background (see `facts_of`)."""
    return TELLINGS[scene.kind](scene)


def facts_of(scene: Scene) -> tuple[Fact, ...]:
    """Return every truth about a scene: each is a question with its answer, and sentences."""
    return (*tell(scene).facts, background_fact(scene))


def phrase_of(telling: Telling, dice: Dice) -> str:
    """Name a picture by a noun phrase that tells some of it, as the dice fall."""
    head = dice.pick("head", telling.heads)
    extras = dice.order("extras", telling.extras)[: dice.between("how many extras", 0, 2)]
    return f"{head} with {' and '.join(extras)}" if extras else head
