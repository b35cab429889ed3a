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
    ("text", "shown", "found"),
    [
        ("A purple boat with a green sail, by Ines.", BOAT, (2, 2, 1, 1)),
        ("A purple boat with a red sail.", BOAT, (2, 1, 1, 1)),
        ("A green boat.", BOAT, (1, 0, 1, 1)),  # green is the sail alone
        ("A boat on the right", BOAT, (0, 0, 1, 1)),
        ("A sailing boat and a house", BOAT, (0, 0, 2, 1)),
        ("The colour of the sail is green", BOAT, (1, 1, 0, 0)),
        ("The colour of the sail is orange", BOAT, (1, 0, 0, 0)),
        ("", BOAT, (0, 0, 0, 0)),
        ("A brown cross above a pink ring", PAIR, (2, 2, 2, 2)),
        ("A pink cross above a brown ring", PAIR, (2, 0, 2, 2)),
        ("Two crosses and rings", PAIR, (0, 0, 2, 2)),
        ("a purple square", PAIR, (1, 0, 1, 0)),
    ],
)
def test_marks(text, shown, found):
    given = marks(text, shown)
    assert given == Marks(*found)
    assert given.colour == (found[0] == found[1] > 0)
    assert given.thing == (found[2] == found[3] > 0)


def test_everything_that_the_world_says_of_a_picture_is_true():
    kinds = set()
    for page in range(60):
        for image in range(3):
            shown = scene(1, page, image)
            kinds.add(shown.kind)
            telling = tell(shown)
            for text in (*telling.heads, *telling.extras):
                given = marks(text, shown)
                assert given.colours == given.right_colours, text
                assert given.things == given.right_things, text
            assert any(marks(head, shown).thing for head in telling.heads), telling
    assert kinds == set(SCENES)


def test_pictures_are_drawn_and_named():
    first, second = pictures_of(3, 2)
    assert [first, second] == list(pictures_of(3, 2))
    assert first.scene == scene(3, 0, 0)
    assert Image.open(io.BytesIO(first.data)).size == (first.scene.width_px, first.scene.height_px)
    assert set(words_of(second.name)) & THINGS
