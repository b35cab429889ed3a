"""The examination of the demo's world: what is drawn, and what counts as a true text about it."""

import io

import pytest
from PIL import Image

from pipeline.demo import scene
from pipeline.demo.exam import THINGS, Marks, marks, pictures_of, words_of
from pipeline.demo.tell import tell
from pipeline.demo.world import SCENES, Scene, Thing


def of(kind, *things):
    return Scene(kind, "cream", things, 320, 240, 0, "key")


BOAT = of(
    "boat",
    Thing("water", "blue", 0, 0, 0.1),
    Thing("hull", "purple", 0, 0, 0.1, 1, "right"),
    Thing("sail", "green", 0, 0, 0.1),
    Thing("bird", "black", 0, 0, 0.1, 5),
)
PAIR = of("pair", Thing("cross", "brown", 0, -1, 0.1, 1, "small"), Thing("ring", "pink", 0, 1, 0.2, 1, "large"))


@pytest.mark.parametrize(
    ("text", "shown", "says_colour", "colour", "says_thing", "thing"),
    [
        ("A purple boat with a green sail, by Ines.", BOAT, True, True, True, True),
        ("A purple boat with a red sail.", BOAT, True, False, True, True),
        ("A green boat.", BOAT, True, False, True, True),  # green is the sail alone
        ("A boat on the right", BOAT, False, False, True, True),
        ("A sailing boat and a house", BOAT, False, False, True, False),
        ("The colour of the sail is green", BOAT, True, True, False, False),
        ("The colour of the sail is orange", BOAT, True, False, False, False),
        ("", BOAT, False, False, False, False),
        ("A brown cross above a pink ring", PAIR, True, True, True, True),
        ("A pink cross above a brown ring", PAIR, True, False, True, True),
        ("Two crosses and rings", PAIR, False, False, True, True),
        ("a purple square", PAIR, True, False, True, False),
    ],
)
def test_marks(text, shown, says_colour, colour, says_thing, thing):
    assert marks(text, shown) == Marks(says_colour, colour, says_thing, thing)


def test_everything_that_the_world_says_of_a_picture_is_true():
    kinds = set()
    for page in range(60):
        for image in range(3):
            shown = scene(1, page, image)
            kinds.add(shown.kind)
            telling = tell(shown)
            for text in (*telling.heads, *telling.extras):
                given = marks(text, shown)
                assert given.colour == given.says_colour, text
                assert given.thing == given.says_thing, text
            assert any(marks(head, shown).says_thing for head in telling.heads), telling
    assert kinds == set(SCENES)


def test_pictures_are_drawn_and_named():
    first, second = pictures_of(3, 2)
    assert [first, second] == list(pictures_of(3, 2))
    assert first.scene == scene(3, 0, 0)
    assert Image.open(io.BytesIO(first.data)).size == (first.scene.width_px, first.scene.height_px)
    assert set(words_of(second.name)) & THINGS
