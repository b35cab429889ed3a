"""Captions: which text goes with which picture, on pieces that are chosen already."""

from itertools import count

import pytest

from pipeline.captions import attach_captions
from pipeline.pieces import Chosen
from schemas.document import ImageRef, Said, Text


def captions_of(pieces):
    return [item.caption for item in attach_captions(pieces) if isinstance(item, ImageRef)]


def spell(letters):
    """Make pieces: P is a picture, B a line in bold, C a marked caption, t a text, each in a block of its own."""
    pieces = []
    for block, letter in zip(count(1), letters, strict=False):
        item = ImageRef(f"http://e.example/{block}.jpg", "", "") if letter == "P" else Text(f"{letter}{block}")
        pieces.append(Chosen(item, block, 0, letter == "C", bold=letter == "B"))
    return pieces


ABOVE = {
    "above all pictures": ("tBPtBPtBPt", ["B2", "B5", "B8"]),
    "up to the end": ("BPBPBP", ["B1", "B3", "B5"]),
    "too few": ("tBPtBP", ["", ""]),
    "a picture without a line": ("PtBPtBPtBP", [""] * 4),
    "below the last, a title above the first": ("BPBPBPB", [""] * 3),
    "two pictures below one line": ("BPBPPBP", [""] * 4),
    "a page that marks its captions": ("BPBPBPC", ["", "", "C7"]),
}


@pytest.mark.parametrize("name", ABOVE)
def test_lines_in_bold_above_every_picture_are_captions(name):
    letters, expected = ABOVE[name]
    assert captions_of(spell(letters)) == expected


def picture(figure):
    return Chosen(ImageRef("http://e.example/a.jpg", "", ""), figure or 9, figure, False)


FIGURES = {
    "the figure around the picture's": (Chosen(Text("c"), 8, 4, True), "c"),
    "a later figure": (Chosen(Text("c"), 8, 7, True), ""),
    "a figure that is the caption": (Chosen(Text("c"), 7, 7, True), "c"),
    "a text of the figure around": (Chosen(Text("c"), 8, 4, False), ""),
}


@pytest.mark.parametrize(("figure", "kind"), [(True, "figcaption"), (False, "caption")])
def test_a_caption_is_a_figcaption_in_a_figure_of_its_own(figure, kind):
    image = Chosen(ImageRef("http://e.example/a.jpg"), 5, 4, False, in_figure=figure)
    for marked in (True, False):
        (found, _) = attach_captions([image, Chosen(Text("c"), 6, 4, marked)])
        assert (found.caption, found.texts) == ("c", (Said(kind, "c"),))
    (beside, _) = attach_captions([image, Chosen(Text("c"), 8, 0, True)])
    assert beside.texts == (Said("caption", "c"),)


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_of_another_figure_belongs_to_the_picture_before_it_or_to_none(name):
    after, expected = FIGURES[name]
    assert captions_of([picture(5), after]) == [expected]


def test_a_marked_caption_goes_before_the_label_of_the_figure():
    label, marked = Chosen(Text("label"), 6, 5, False), Chosen(Text("marked"), 8, 0, True)
    assert captions_of([picture(5), label]) == ["label"]
    assert captions_of([picture(5), label, marked]) == ["marked"]
    assert captions_of([picture(5), label, marked, picture(0)]) == ["label", ""]
