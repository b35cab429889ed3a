"""Draw the scenes of the invented world: a `Scene` comes in, an RGB picture of its size goes out.

A picture is drawn at twice the size and reduced, which smooths the edges; every object has an outline, so that it
is seen on any background; a faint grain of paper makes pictures of equal scenes differ. Frames of films are drawn
plainly.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw

from pipeline.demo.dice import Dice
from pipeline.demo.pen import Pen, Rgb, contrast, draw_shape
from pipeline.demo.world import BACKGROUNDS, Scene, spread_row

OVERSAMPLING = 2
GRAIN_SIDE_PX = 1024
GRAIN_REACH = (0, 3, 4, 5)
GRAIN_CELL_PX = (64, 1, 3, 6)
SHADOW_CELL_PX = 110
SHADOW_REACH = 13


def draw_shapes(pen: Pen, scene: Scene) -> None:
    """Draw the scenes that are made of plain shapes."""
    for thing in scene.things:
        for x, y in spread_row(thing):
            draw_shape(pen, thing.kind, x, y, thing.radius, pen.shade(thing.colour))


def draw_nested(pen: Pen, scene: Scene) -> None:
    """Draw a shape inside another; the hole of a ring shows the outer shape."""
    outer, inner = scene.things
    draw_shape(pen, outer.kind, outer.x, outer.y, outer.radius, pen.shade(outer.colour))
    draw_shape(pen, inner.kind, inner.x, inner.y, inner.radius, pen.shade(inner.colour))
    if inner.kind == "ring":
        hole = inner.radius * 0.55
        pen.oval(inner.x, inner.y, hole, hole, pen.shade(outer.colour))


def ground(pen: Pen, y: float, colour: Rgb) -> None:
    """Fill the picture from a height downwards."""
    pen.box(0.0, y + 1.0, 3.0, 1.0, colour)


def draw_house(pen: Pen, scene: Scene) -> None:
    """Draw house, tree and sky."""
    house, roof, door = (scene.thing(kind) for kind in ("house", "roof", "door"))
    sky, tree, window = scene.things[0], scene.thing("tree"), scene.thing("window")
    floor = house.y + house.radius
    pen.oval(sky.x, sky.y, sky.radius, sky.radius, pen.shade(sky.colour))
    if sky.kind == "moon":
        pen.draw.ellipse((*pen.at(sky.x - 0.05, sky.y - 0.1), *pen.at(sky.x + 0.12, sky.y + 0.07)), pen.background)
    ground(pen, floor, (150, 196, 120))
    pen.box(tree.x, floor - 0.07, 0.02, 0.07, pen.shade("brown"))
    pen.oval(tree.x, floor - 0.22, tree.radius, tree.radius * 1.2, pen.shade(tree.colour))
    pen.box(house.x, house.y, house.radius, house.radius, pen.shade(house.colour))
    tip, eaves = roof.y - 0.1, house.y - house.radius
    corners = ((roof.x - roof.radius, eaves), (roof.x, tip), (roof.x + roof.radius, eaves))
    pen.polygon(corners, pen.shade(roof.colour))
    pen.box(door.x, floor - 0.085, door.radius, 0.085, pen.shade(door.colour))
    for index in range(window.count):
        x = window.x + (index - (window.count - 1) / 2) * 0.098
        pen.box(x, window.y, window.radius, 0.045, pen.shade(window.colour))


def draw_boat(pen: Pen, scene: Scene) -> None:
    """Draw boat, water and birds."""
    water, hull, sail, bird = (scene.thing(kind) for kind in ("water", "hull", "sail", "bird"))
    ground(pen, min(water.y, 0.28), (92, 158, 222))
    pen.line(((hull.x, hull.y), (hull.x, -0.26)), pen.shade("brown"), 2.0)
    pen.polygon(((hull.x + 0.015, -0.24), (hull.x + 0.015, 0.1), (hull.x + 0.2, 0.1)), pen.shade(sail.colour))
    deck = ((hull.x - 0.22, 0.14), (hull.x + 0.22, 0.14), (hull.x + 0.14, 0.3), (hull.x - 0.14, 0.3))
    pen.polygon(deck, pen.shade(hull.colour))
    for index in range(bird.count):
        x = (index - (bird.count - 1) / 2) * 0.17
        y = bird.y + pen.dice.spread(f"bird {index}", 0.04)
        pen.line(((x - 0.05, y - 0.025), (x, y + 0.01), (x + 0.05, y - 0.025)), pen.ink(), 1.6)


def draw_car(pen: Pen, scene: Scene) -> None:
    """Draw car, road and clouds."""
    cloud, car = scene.thing("cloud"), scene.thing("car")
    ground(pen, 0.27, (150, 152, 156))
    sign = 1 if car.detail == "right" else -1
    for index in range(cloud.count):
        x, y = (index - (cloud.count - 1) / 2) * 0.235, cloud.y + pen.dice.spread(f"cloud {index}", 0.03)
        pen.oval(x, y, 0.1, 0.05, pen.shade(cloud.colour))
    paint = pen.shade(car.colour)
    cabin = ((-0.2, 0.09), (-0.14, -0.06), (0.06, -0.06), (0.13, 0.09))
    glass = ((-0.155, 0.065), (-0.115, -0.035), (0.04, -0.035), (0.09, 0.065))
    pen.polygon([(car.x + sign * x, y) for x, y in cabin], paint)
    pen.polygon([(car.x + sign * x, y) for x, y in glass], (206, 228, 240))
    pen.box(car.x, car.y + 0.015, 0.28, 0.075, paint)
    pen.oval(car.x + sign * 0.255, car.y, 0.022, 0.028, pen.shade("yellow"))
    for x in (-0.16, 0.16):
        pen.oval(car.x + x, 0.245, 0.065, 0.065, pen.shade("black"))
        pen.oval(car.x + x, 0.245, 0.026, 0.026, pen.shade("grey"))


def draw_vase(pen: Pen, scene: Scene) -> None:
    """Draw the table, the stalks, the flowers and the vase before them."""
    table, flower, vase = (scene.thing(kind) for kind in ("table", "flower", "vase"))
    ground(pen, 0.34, pen.shade(table.colour))
    petals = pen.shade(flower.colour)
    for index in range(flower.count):
        x = flower.x + (index - (flower.count - 1) / 2) * 0.125
        y = flower.y + (0.11 if index % 2 else -0.04) + pen.dice.spread(f"flower {index}", 0.015)
        pen.line(((vase.x, 0.1), (x, y)), pen.shade("green"), 2.0)
        for turn in range(5):
            angle = turn * 2 * math.pi / 5
            pen.oval(x + 0.034 * math.sin(angle), y - 0.034 * math.cos(angle), 0.029, 0.029, petals)
        pen.oval(x, y, 0.02, 0.02, pen.shade("yellow"))
    sides = ((-0.08, 0.03), (0.08, 0.03), (0.135, 0.2), (0.075, 0.38), (-0.075, 0.38), (-0.135, 0.2))
    pen.polygon([(vase.x + x, y) for x, y in sides], pen.shade(vase.colour))


def draw_signal(pen: Pen, scene: Scene) -> None:
    """Draw the post, the case and its lamps."""
    case, lamp = scene.thing("case"), scene.thing("lamp")
    pen.box(case.x, 0.64, 0.025, 0.5, pen.shade("grey"))
    pen.box(case.x, case.y, 0.11, 0.27, pen.shade(case.colour))
    for y in (-0.27, -0.1, 0.07):
        pen.oval(case.x, y, 0.07, 0.07, (74, 76, 82))
    pen.oval(lamp.x, lamp.y, lamp.radius, lamp.radius, pen.shade(lamp.colour))


def draw_clock(pen: Pen, scene: Scene) -> None:
    """Draw rim, face, twelve marks and two hands."""
    rim, face = scene.thing("rim"), scene.thing("face")
    pen.oval(rim.x, rim.y, rim.radius, rim.radius, pen.shade(rim.colour))
    paint = pen.shade(face.colour)
    pen.oval(face.x, face.y, face.radius, face.radius, paint)
    ink = contrast(paint)
    for index in range(12):
        inner, outer = (0.8 if index % 3 == 0 else 0.87), 0.94
        x, y = math.sin(index * math.pi / 6) * face.radius, -math.cos(index * math.pi / 6) * face.radius
        pen.line(((face.x + x * inner, face.y + y * inner), (face.x + x * outer, face.y + y * outer)), ink, 2.0)
    half = 0.5 if face.detail == "half" else 0.0
    for turn, length, wide in (((face.count + half) / 12, 0.48, 3.5), (half, 0.76, 2.2)):
        x, y = math.sin(turn * 2 * math.pi) * length * face.radius, -math.cos(turn * 2 * math.pi) * length * face.radius
        pen.line(((face.x, face.y), (face.x + x, face.y + y)), ink, wide)
    pen.oval(face.x, face.y, 0.016, 0.016, ink)


def draw_balloons(pen: Pen, scene: Scene) -> None:
    """Draw balloons, their strings and what holds them."""
    balloon, weight = scene.things
    paint = pen.shade(balloon.colour)
    spots = [
        ((index - (balloon.count - 1) / 2) * 0.155, balloon.y + (0.09 if index % 2 else -0.05))
        for index in range(balloon.count)
    ]
    for x, y in spots:
        pen.line(((x, y), (weight.x, weight.y)), pen.ink())
    for x, y in spots:
        pen.oval(x, y, 0.07, 0.09, paint)
    if weight.kind == "basket":
        pen.box(weight.x, weight.y, 0.09, 0.06, pen.shade(weight.colour))
    else:
        pen.oval(weight.x, weight.y, 0.1, 0.055, pen.shade(weight.colour))


def draw_face(pen: Pen, scene: Scene) -> None:
    """Draw a face, its mood and its hat."""
    face = scene.thing("face")
    paint = pen.shade(face.colour)
    pen.oval(face.x, face.y, face.radius, face.radius, paint)
    ink = contrast(paint)
    for x in (-0.1, 0.1):
        pen.oval(face.x + x, face.y - 0.06, 0.028, 0.036, ink)
    if face.detail == "surprised":
        pen.oval(face.x, face.y + 0.13, 0.05, 0.06, ink)
    else:
        bend = 1 if face.detail == "happy" else -1
        xs = [index / 8 for index in range(-8, 9)]
        pen.line([(face.x + x * 0.14, face.y + 0.13 + bend * (0.045 - 0.09 * x * x)) for x in xs], ink, 3.0)
    if len(scene.things) > 1:
        hat = scene.thing("hat")
        pen.box(hat.x, hat.y + 0.02, 0.13, 0.1, pen.shade(hat.colour))
        pen.box(hat.x, hat.y + 0.13, 0.23, 0.022, pen.shade(hat.colour))


def draw_orchard(pen: Pen, scene: Scene) -> None:
    """Draw a tree with its fruits."""
    trunk, crown, fruit = scene.things
    ground(pen, 0.4, (150, 196, 120))
    pen.box(trunk.x, trunk.y, trunk.radius, 0.15, pen.shade(trunk.colour))
    pen.oval(crown.x, crown.y, crown.radius, 0.29, pen.shade(crown.colour))
    places = ((0.0, -0.16), (-0.15, -0.07), (0.15, -0.07), (0.0, 0.15), (-0.13, 0.09), (0.13, 0.09), (-0.07, 0.0))
    for x, y in pen.dice.order("fruits", (*places, (0.07, -0.01)))[: fruit.count]:
        pen.oval(fruit.x + x, fruit.y + y, fruit.radius, fruit.radius, pen.shade(fruit.colour))


def draw_bowl(pen: Pen, scene: Scene) -> None:
    """Draw a bowl of water with fish in it."""
    bowl, fish = scene.thing("bowl"), scene.thing("fish")
    pen.oval(bowl.x, bowl.y, bowl.radius, bowl.radius, (196, 226, 238))
    paint, sign = pen.shade(fish.colour), 1 if fish.detail == "right" else -1
    places = ((0.0, -0.02), (-0.16, -0.14), (0.16, -0.16), (-0.16, 0.14), (0.16, 0.14))
    for x, y in places[: fish.count]:
        middle_x, middle_y = fish.x + x, fish.y + y - 0.05
        tail = ((-0.05, 0.0), (-0.115, -0.05), (-0.115, 0.05))
        pen.polygon([(middle_x + sign * tx, middle_y + ty) for tx, ty in tail], paint)
        pen.oval(middle_x, middle_y, fish.radius, 0.045, paint)
        pen.oval(middle_x + sign * 0.036, middle_y - 0.012, 0.009, 0.009, contrast(paint))


def draw_flag(pen: Pen, scene: Scene) -> None:
    """Draw the stripes of a flag and its pole."""
    vertical = scene.things[0].detail == "vertical"
    half_x, half_y = (0.11, 0.225) if vertical else (0.33, 0.075)
    left = scene.things[1].x - 0.33
    pen.box(left - 0.015, 0.12, 0.015, 0.45, pen.shade("brown"))
    for stripe in scene.things:
        pen.box(stripe.x, stripe.y, half_x, half_y, pen.shade(stripe.colour))


def draw_train(pen: Pen, scene: Scene) -> None:
    """Draw an engine and its wagons on rails."""
    engine, wagon = scene.things
    sign = 1 if engine.detail == "right" else -1
    pen.box(0.0, engine.y + 0.15, 3.0, 0.012, pen.shade("brown"))
    paint = pen.shade(engine.colour)
    pen.box(engine.x + sign * 0.035, engine.y - 0.095, 0.018, 0.045, paint)
    pen.box(engine.x - sign * 0.045, engine.y - 0.05, 0.045, 0.12, paint)
    pen.box(engine.x, engine.y + 0.015, 0.095, 0.07, paint)
    middles = [engine.x]
    for index in range(wagon.count):
        x = engine.x - sign * (0.195 + index * 0.18)
        pen.line(((x, wagon.y + 0.07), (x + sign * 0.12, wagon.y + 0.07)), pen.ink(), 2.0)
        pen.box(x, wagon.y + 0.025, wagon.radius, 0.06, pen.shade(wagon.colour))
        middles.append(x)
    for x in middles:
        for side in (-0.045, 0.045):
            pen.oval(x + side, engine.y + 0.105, 0.032, 0.032, pen.shade("black"))


def draw_die(pen: Pen, scene: Scene) -> None:
    """Draw the face of a die."""
    (die,) = scene.things
    paint = pen.shade(die.colour)
    pen.box(die.x, die.y, die.radius, die.radius, paint)
    corners, middle, sides = ((-1, -1), (1, 1), (1, -1), (-1, 1)), ((0, 0),), ((-1, 0), (1, 0))
    spots = (corners[: die.count // 2 * 2] if die.count > 1 else ()) + (middle if die.count % 2 else ())
    for column, line in corners + sides if die.count == 6 else spots:
        x, y = die.x + column * die.radius * 0.55, die.y + line * die.radius * 0.55
        pen.oval(x, y, die.radius * 0.15, die.radius * 0.15, contrast(paint))


def draw_cake(pen: Pen, scene: Scene) -> None:
    """Draw a cake, its plate and the burning candles on it."""
    plate, cake, candle = scene.things
    pen.oval(plate.x, plate.y, plate.radius, 0.07, pen.shade(plate.colour))
    for index in range(candle.count):
        x = candle.x + (index - (candle.count - 1) / 2) * 0.085
        pen.box(x, candle.y + 0.03, candle.radius, 0.09, pen.shade(candle.colour))
        pen.oval(x, candle.y - 0.095, 0.015, 0.028, pen.shade("orange"))
    pen.box(cake.x, cake.y, cake.radius, 0.16, pen.shade(cake.colour))


DRAWINGS: dict[str, Callable[[Pen, Scene], None]] = {
    "single": draw_shapes,
    "pair": draw_shapes,
    "row": draw_shapes,
    "groups": draw_shapes,
    "corners": draw_shapes,
    "nested": draw_nested,
    "house": draw_house,
    "boat": draw_boat,
    "car": draw_car,
    "vase": draw_vase,
    "signal": draw_signal,
    "clock": draw_clock,
    "balloons": draw_balloons,
    "face": draw_face,
    "orchard": draw_orchard,
    "bowl": draw_bowl,
    "flag": draw_flag,
    "train": draw_train,
    "die": draw_die,
    "cake": draw_cake,
}


def noise(name: str, cell_px: int, reach: int) -> Image.Image:
    """Return a square sheet of grey levels 128 - reach .. 128 + reach, the same on every machine."""
    side = -(-GRAIN_SIDE_PX // cell_px)
    levels = bytes(128 - reach + 2 * reach * value // 255 for value in range(256))
    data = hashlib.shake_256(name.encode()).digest(side * side).translate(levels)
    sheet = Image.frombytes("L", (side, side), data)
    return sheet.resize((GRAIN_SIDE_PX, GRAIN_SIDE_PX), Image.Resampling.BICUBIC)


@functools.cache
def grain(texture: int) -> Image.Image:
    """Return a sheet of paper around the level 128: fine grain, and wide shadows that set equal scenes apart."""
    fine = noise(f"grain {texture}", GRAIN_CELL_PX[texture], GRAIN_REACH[texture])
    wide = noise(f"shadow {texture}", SHADOW_CELL_PX, SHADOW_REACH)
    return ImageChops.add(fine, wide, 1.0, -128).convert("RGB")


def draw_plain(scene: Scene, mode: str, times: int = 1) -> Image.Image:
    """Draw a scene without its grain, so many times its size; `mode` is RGB, or P for a frame of few colours."""
    width, height = scene.width_px * times, scene.height_px * times
    background = BACKGROUNDS[scene.background]
    image = Image.new(mode, (width, height), background)
    unit_px = float(min(width, height))
    line_px = max(2, round(unit_px / 150))
    pen = Pen(ImageDraw.Draw(image), (width / 2, height / 2), unit_px, line_px, background, shade_dice(scene))
    DRAWINGS[scene.kind](pen, scene)
    return image


def shade_dice(scene: Scene) -> Dice:
    """Return the dice of a picture's shades and paper."""
    return Dice(f"{scene.key}/shade")


def draw_scene(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of `width_px` x `height_px`."""
    image, dice = draw_plain(scene, "RGB", OVERSAMPLING).reduce(OVERSAMPLING), shade_dice(scene)
    left = dice.between("grain x", 0, GRAIN_SIDE_PX - scene.width_px)
    top = dice.between("grain y", 0, GRAIN_SIDE_PX - scene.height_px)
    sheet = grain(scene.texture).crop((left, top, left + scene.width_px, top + scene.height_px))
    return ImageChops.add(image, sheet, 1.0, -128)
