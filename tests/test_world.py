"""The invented world: what is said of a picture is seen in it, and nothing else gives it away."""

from __future__ import annotations

import collections
import itertools
import re

import pytest
from PIL import Image, ImageStat

from pipeline.demo import scene, words
from pipeline.demo.dice import Dice
from pipeline.demo.draw import draw_scene
from pipeline.demo.facts import NUMBERS, PLACE_PHRASES
from pipeline.demo.page import ORDINALS, comparison, draft_page, page_url
from pipeline.demo.tell import facts_of, phrase_of, tell
from pipeline.demo.world import BACKGROUNDS, COLOURS, MOODS, SCENES, SHAPES, Scene, Thing, spread_row

COLOUR_WORD = re.compile(r"\b(" + "|".join(COLOURS) + r")\b", re.IGNORECASE)
NUMBER_WORD = re.compile(r"\b(" + "|".join(NUMBERS[1:]) + r")\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def scenes():
    """Eight scenes of every kind."""
    found = collections.defaultdict(list)
    for page in range(600):
        truth = scene(5, page, page % 6)
        if len(found[truth.kind]) < 8:
            found[truth.kind].append(truth)
    assert set(found) == set(SCENES)
    assert {len(some) for some in found.values()} == {8}
    return [truth for some in found.values() for truth in some]


# ---- truth: the scene, the pixels, the sentences


def named(colour: tuple[int, int, int], palette: dict[str, tuple[int, int, int]]) -> str:
    """Name the colour of the palette that is nearest."""
    return min(palette, key=lambda name: sum((a - b) ** 2 for a, b in zip(colour, palette[name], strict=True)))


def pixel(image: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    """Read the mean colour of three by three pixels at a place of the scene."""
    unit = min(image.size)
    left, top = round(image.width / 2 + x * unit) - 1, round(image.height / 2 + y * unit) - 1
    return tuple(round(level) for level in ImageStat.Stat(image.crop((left, top, left + 3, top + 3))).mean)


def probes(truth: Scene, thing: Thing) -> list[tuple[float, float]]:
    """Return places, in the scene's coordinates, that surely lie on a thing's own colour."""
    x, y, radius = thing.x, thing.y, thing.radius
    places = {
        "ring": (x + 0.77 * radius, y),
        "house": (x - 0.17, y + 0.17),
        "roof": (x, y + 0.0),
        "door": (x, y + 0.02),
        "hull": (x, 0.22),
        "sail": (x + 0.07, 0.05),
        "car": (x, y + 0.03),
        "table": (0.45, 0.44),
        "vase": (x, y),
        "case": (x - 0.095, y),
        "rim": (x + 0.92 * radius, y),
        "face": (x + 0.24 * radius, y + 0.12 * radius) if truth.kind == "clock" else (x, y + 0.02),
        "hat": (x, y),
        "crown": (x + 0.24, y),
        "fish": (x - 0.02, y - 0.06),
        "engine": (x, y + 0.02),
        "die": (x + 0.85 * radius, y),
        "plate": (x + 0.33, y),
        "cake": (x, y),
        "sun": (x, y),
    }
    if thing.detail == "outer":
        return [(x, y + 0.85 * radius if thing.kind == "circle" else y + 0.75 * radius)]
    if thing.kind in SHAPES:
        dx = 0.77 * radius if thing.kind == "ring" else 0.0
        return [(px + dx, py) for px, py in spread_row(thing)]
    if thing.kind == "window":
        return [(x + (index - (thing.count - 1) / 2) * 0.098, y) for index in range(thing.count)]
    if thing.kind == "candle":
        return [(x + (index - (thing.count - 1) / 2) * 0.085, y) for index in range(thing.count)]
    if thing.kind == "wagon":
        sign = 1 if thing.detail == "right" else -1
        return [(x - sign * (0.195 + index * 0.18), y + 0.02) for index in range(thing.count)]
    if thing.kind == "balloon":
        steps = range(thing.count)
        return [((i - (thing.count - 1) / 2) * 0.155, y + (0.04 if i % 2 else -0.1)) for i in steps]
    return [places[thing.kind]] if thing.kind in places else [(x, y)] if thing.kind in ("lamp", "stripe") else []


def test_things_have_their_colour_where_they_are(scenes):
    probed = collections.Counter()
    for truth in scenes:
        image = draw_scene(truth)
        assert image.size == (truth.width_px, truth.height_px)
        assert named(pixel(image, *top_left(truth)), BACKGROUNDS) == truth.background
        for thing in truth.things:
            for place in probes(truth, thing):
                assert named(pixel(image, *place), COLOURS) == thing.colour, (truth, thing, place)
                probed[truth.kind] += 1
    assert set(probed) == set(SCENES)


def top_left(truth: Scene) -> tuple[float, float]:
    """Return the place of a pixel near the top left corner, where no scene draws."""
    unit = min(truth.width_px, truth.height_px)
    return (4 - truth.width_px / 2) / unit, (4 - truth.height_px / 2) / unit


def runs(image: Image.Image, y: float, colour: str) -> int:
    """Count the stretches of a colour on a horizontal line."""
    row = round(image.height / 2 + y * min(image.size))
    palette = COLOURS | BACKGROUNDS
    names = [named(image.getpixel((column, row)), palette) for column in range(image.width)]
    return sum(name == colour and len(list(same)) > 5 for name, same in itertools.groupby(names))


def test_as_many_things_are_seen_as_are_told():
    counted = set()
    for page in range(900):
        truth = scene(9, page, 0)
        thing = truth.things[0]
        if truth.kind == "row" and thing.kind in ("circle", "square", "hexagon", "diamond", "cross"):
            assert runs(draw_scene(truth), thing.y, thing.colour) == thing.count
            counted.add(thing.count)
    assert counted == {2, 3, 4, 5, 6}


def test_pips_of_a_die_are_as_many_as_told(scenes):
    for truth in scenes:
        if truth.kind == "die":
            (die,) = truth.things
            image, seen = draw_scene(truth), 0
            for column in (-1, 0, 1):
                for line in (-1, 0, 1):
                    x, y = die.x + column * 0.55 * die.radius, die.y + line * 0.55 * die.radius
                    seen += named(pixel(image, x, y), COLOURS) != die.colour
            assert seen == die.count


def test_facts_are_the_scene(scenes):
    for truth in scenes:
        colours = {thing.colour for thing in truth.things}
        for fact in facts_of(truth):
            assert fact.answer in fact.choices
            assert len(set(fact.choices)) == len(fact.choices) > 1
            assert fact.question.endswith("?")
            for sentence in fact.statements:
                assert sentence.endswith(".")
                assert sentence[0].isupper()
            if fact.kind == "colour":
                assert fact.answer in colours
                assert all(COLOUR_WORD.findall(text.lower()) == [fact.answer] for text in fact.statements)
            elif fact.kind == "background":
                assert fact.answer == truth.background
                assert all(fact.answer in text.lower() for text in fact.statements)
            elif fact.kind == "count" and fact.answer in NUMBERS:
                assert fact.answer in {NUMBERS[thing.count] for thing in truth.things}
                assert all(NUMBER_WORD.findall(text.lower())[-1] == fact.answer for text in fact.statements)
            elif fact.kind == "place":
                assert all(PLACE_PHRASES[fact.answer] in text.lower() for text in fact.statements)


def test_facts_ask_of_the_right_thing():
    house = scene_of_kind("house")
    answers = {fact.question: fact.answer for fact in facts_of(house)}
    assert answers["What colour is the roof?"] == house.thing("roof").colour
    assert answers["What colour is the door?"] == house.thing("door").colour
    assert answers["How many windows are above the door?"] == NUMBERS[house.thing("window").count]
    assert answers["On which side of the house is the tree?"] == house.thing("tree").detail
    clock = scene_of_kind("clock")
    hour = NUMBERS[clock.thing("face").count]
    time = {fact.question: fact.answer for fact in facts_of(clock)}["What time does the clock show?"]
    assert time == (f"half past {hour}" if clock.thing("face").detail == "half" else f"{hour} o'clock")
    with pytest.raises(KeyError, match="a scene of kind 'clock' has no 'roof'"):
        clock.thing("roof")


def scene_of_kind(kind: str) -> Scene:
    return next(truth for page in range(300) if (truth := scene(1, page, 0)).kind == kind)


def test_relations_are_seen_in_the_coordinates(scenes):
    for truth in scenes:
        if truth.kind == "pair":
            first, second = truth.things
            relation = next(fact.answer for fact in facts_of(truth) if fact.kind == "relation")
            assert relation == ("to the left of" if abs(first.x - second.x) > abs(first.y - second.y) else "above")
            assert first.x + first.y < second.x + second.y
        if truth.kind == "single":
            (thing,) = truth.things
            place = next(fact.answer for fact in facts_of(truth) if fact.kind == "place")
            assert ("left" in place) == (thing.x < -0.06)
            assert ("right" in place) == (thing.x > 0.06)
            assert ("top" in place) == (thing.y < -0.06)
            assert ("bottom" in place) == (thing.y > 0.06)


def test_phrases_hold_only_words_of_their_scene(scenes):
    for truth in scenes:
        telling = tell(truth)
        known = {thing.colour for thing in truth.things} | {truth.background}
        counts = {NUMBERS[thing.count] for thing in truth.things} | {"two", "four"}
        for number in range(6):
            phrase = phrase_of(telling, Dice(f"{truth.key}/{number}"))
            assert set(COLOUR_WORD.findall(phrase)) <= known
            assert set(NUMBER_WORD.findall(phrase)) <= counts


def test_every_word_about_pictures_is_true_on_whole_pages():
    """Colour words of a section belong to its picture; nothing else on a page names a colour."""
    for index in range(120):
        draft = draft_page(2, index)
        if draft.language != "en":
            continue
        assert not COLOUR_WORD.findall(" ".join((*draft.intro, *draft.outro, draft.title)))
        for section in draft.sections:
            truth = section.picture.scene if section.picture else None
            allowed = {thing.colour for thing in truth.things} | set(truth.background.split()) if truth else set()
            said = " ".join((*section.paragraphs, section.heading, *texts_of(section.picture)))
            assert {word.lower() for word in COLOUR_WORD.findall(said)} <= allowed


def test_comparisons_are_true():
    verdicts = collections.Counter()
    for index in range(300):
        pictures = draft_page(4, index).pictures
        for first, second in itertools.pairwise(pictures):
            one, other = first.scene, second.scene
            for number in range(4):
                said = comparison(first, second, Dice(f"{index}/{number}"))
                if "background" in said:
                    assert ("share" in said) == (one.background == other.background)
                    verdicts["background"] += 1
                elif "sheet is" in said:
                    assert ("wider" in said) == (other.width_px > other.height_px)
                    assert ("higher" in said) == (other.width_px < other.height_px)
                    verdicts["sheet"] += 1
                elif "colour" in said:
                    assert ("the same colour" in said) == (tell(one).colour == tell(other).colour)
                    verdicts["colour"] += 1
                else:
                    left, right = tell(one), tell(other)
                    more = first if left.count > right.count else second
                    assert ("as many" in said) == (left.count == right.count)
                    assert "as many" in said or said.startswith(f"The {ORDINALS[more.index]} picture has more")
                    verdicts["count"] += 1
    assert min(verdicts.values()) > 100
    assert len(verdicts) == 4


def texts_of(picture):
    return () if picture is None else (picture.alt, picture.caption)


# ---- nothing gives the picture away


def test_words_beside_the_truth_name_nothing_of_the_world(scenes):
    things = {thing.kind for truth in scenes for thing in truth.things} | {truth.kind for truth in scenes}
    places = {"left", "right", "top", "bottom", "corner", "inside", "above", "below"}
    world = {*COLOURS, *SHAPES, *NUMBERS[1:], *MOODS, *places, *things - {"row", "single"}}
    groups = [words.FILLERS, words.INTROS, words.OUTROS, words.TITLES, words.HEADINGS]
    for text in itertools.chain(*groups, *words.SLOTS.values(), (words.LITTLE, words.ACCENTED)):
        said = set(re.findall(r"[a-z]+", text.lower()))
        assert not said & (world | {word + "s" for word in world}), text


def test_attributes_are_drawn_independently():
    """Over many single shapes, colour tells nothing of shape, place, page parity or background."""
    truths = [(page, scene(7, page, 0)) for page in range(16_000)]
    rows = [(page, truth) for page, truth in truths if truth.kind == "single"]
    assert len(rows) > 600
    warm = {"red", "orange", "yellow", "pink", "brown", "purple"}
    share = sum(truth.things[0].colour in warm for _, truth in rows) / len(rows)
    splits = (
        lambda page, truth: truth.things[0].kind < "hexagon",
        lambda page, truth: "left" in truth.things[0].detail,
        lambda page, truth: truth.background < "light",
        lambda page, truth: truth.width_px > truth.height_px,
        lambda page, truth: page % 2 == 0,
        lambda page, truth: page_url(7, page) < "https://picture-desk.example/m",
    )
    for split in splits:
        part = [truth.things[0].colour in warm for page, truth in rows if split(page, truth)]
        assert abs(sum(part) / len(part) - share) < 0.1
