"""Four illustrated books of the corpus: the text that the page prints under a figure becomes its pair."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipeline import pair_rules as rules
from pipeline.extract import ExtractConfig, extract_document
from pipeline.folder import Folder
from pipeline.pair_rules import PairConfig, choose_text
from pipeline.pair_texts import clean_text
from pipeline.sources import SourceConfig, plan_splits, read_split
from schemas.document import Document, ImageRef, Said
from schemas.page import Page, Refusal

BOOKS = Path(__file__).parents[2] / "shared" / "corpus" / "books.warc.gz"

pytestmark = pytest.mark.skipif(not BOOKS.exists(), reason=f"the books are not here: {BOOKS}")

CHIRIQUI, OJIBWA, ADVENTURES, LEGENDS = "30621", "19368", "18304", "20170"

# Each was read in the page's HTML and seen beside its picture. Quotes are straight, all else is as printed.
PRINTED = {
    (CHIRIQUI, "fig1.png"): "Fig. 1. Section of oval grave.",
    (CHIRIQUI, "fig122.png"): "Fig. 122. Jar with flat bottom and vertical bands of incised ornament—⅓.",
    (CHIRIQUI, "fig141.png"): "Tripod vases with shallow basins and eccentric handles—⅓.",
    (CHIRIQUI, "fig198a.png"): "Fig. 198. Vases of varied form and decoration.",
    (CHIRIQUI, "fig210.png"): "Fig. 210. The painted designs of vase in Fig. 209 viewed from above.",
    (CHIRIQUI, "fig218.png"): "Fig. 218. Spindle whorl in gray clay decorated with annular nodes—1/1.",
    (CHIRIQUI, "fig254.png"): (
        "Fig. 254. Bird shaped whistle, with conventional decoration in red and black, alligator ware—1/1."
    ),
    (CHIRIQUI, "fig263.png"): "Fig. 263. Figure of the alligator much simplified.",
    (CHIRIQUI, "fig26b.png"): "Fig. 26. Human figure with ridged crown, formed of copper-gold alloy.",
    (CHIRIQUI, "fig283a.png"): "Fig. 283. Conventional figures derived from the markings of the bodies of animals.",
    (CHIRIQUI, "fig34.png"): "Fig. 34. Puma shaped figure in base metal.",
    (CHIRIQUI, "fig40a.png"): "Fig. 40. Animal figure, in base metal plated with gold.",
    (CHIRIQUI, "fig41.png"): "Fig. 41. Bronze bells plated or washed with gold.",
    (CHIRIQUI, "fig43.png"): "Fig. 43. Triple bell or rattle found on the Rio Grande.",
    (CHIRIQUI, "fig45d.png"): "Fig. 45. Fundamental forms of vases—convex outlines.",
    (CHIRIQUI, "fig46a.png"): "Fig. 46. Fundamental forms of vases—angular outlines.",
    (CHIRIQUI, "fig47a.png"): "Fig. 47. Vases of complex outlines—exceptional forms.",
    (CHIRIQUI, "fig48a.png"): "Fig. 48. Vases of compound forms.",
    (CHIRIQUI, "fig67.png"): "Vases illustrating ornamental use of animal figures—terra cotta group.",
    (CHIRIQUI, "fig76.png"): "Fig. 76. Vase with mantle covered with incised figures—½.",
    (CHIRIQUI, "fig78.png"): "Fig. 78. Vases with flaring rims and varied ornament—⅕.",
    (CHIRIQUI, "fig84.png"): "Examples of handled vases—½.",
    (CHIRIQUI, "fig85.png"): "Examples of handled vases—½.",
    (CHIRIQUI, "fig89.png"): "Vessels illustrating forms of legs—½.",
    (CHIRIQUI, "fig99.png"): "Fig. 99. Cup with legs imitating an animal and its young—½.",
    (CHIRIQUI, "fig91.png"): "Vessel with large legs ornamented with stellar punctures—½.",
    (OJIBWA, "fig1.png"): "Fig. 1.—Herbalist preparing medicine and treating patient.",
    (OJIBWA, "fig10.png"): "Fig. 10.— Diagram of Midē´wigân of the first degree.",
    (OJIBWA, "fig23.png"): "Fig. 23.—Diagram of Midē´wigân of the second degree.",
    (OJIBWA, "fig24.png"): "Fig. 24.—Midē´ destroying an enemy.",
    (OJIBWA, "fig25.png"): "Fig. 25.—Diagram of Midē´wigân of the third degree.",
    (OJIBWA, "fig2bottom.png"): "Fig. 2.—Sikas´sigĕ's combined charts, showing descent of Min´abō´zho.",
    (OJIBWA, "fig2top.png"): "Fig. 2.—Sikas´sigĕ's combined charts, showing descent of Min´abō´zho.",
    (OJIBWA, "fig33.png"): "Fig. 33.—Diagram of Midē´wigân of the fourth degree.",
    (OJIBWA, "fig34.png"): "Fig. 34.—General view of Midē´wigân.",
    (OJIBWA, "fig35.png"): "Fig. 35.—Indian diagram of ghost lodge.",
    (OJIBWA, "fig7.png"): "Fig. 7.—Birch-bark record, from Red Lake.",
    (OJIBWA, "fig8.png"): "Fig. 8.—Birch-bark record, from Red Lake.",
    (OJIBWA, "plateII_thumb.jpg"): (
        "Plate II. Ojibwa Indian Reservations in Minnesota and Wisconsin. I Red Lake. II White Earth. III "
        "Winnibigoshish. IV Cass Lake. V Leech Lake. VI Deer Creek. VII Bois Forte. VIII Vermillion Lake. IX "
        "Fond du Lac. X Mille Lacs. XI Lac Court Oreílle. XII La Pointe. XIII Lac de Flanibeau. XIV Red "
        "Cliff. XV Grand Portage."
    ),
    (OJIBWA, "plateXV.jpg"): "Plate XV. Sacred Posts Of Midē´wigân.",
    (OJIBWA, "plateXXI.png"): "Plate XXI. Midē´ Relics From Leech Lake.",
    (ADVENTURES, "p148.jpg"): (
        "Chatham, the old Fitzhugh house, now the residence of Mark Sullivan. Washington, Madison, Monroe, "
        "Washington Irving, Lee and Lincoln have known the shelter of its roof"
    ),
    (ADVENTURES, "p157.jpg"): (
        "Monticello stands on a lofty hilltop, with vistas, between trees of neighboring valleys, hills, and mountains"
    ),
    (ADVENTURES, "p168.jpg"): "Like Venice, the University of Virginia should first be seen by moonlight",
    (ADVENTURES, "p244.jpg"): (
        "THE JUDGE: What did he do, Mandy? THE WIFE: Jedge, he come bustin' in, an' he come so fas' he untook"
        " de do' off'n de hinges!"
    ),
    (ADVENTURES, "p253.jpg"): (
        "Some genuine old-time New York ferryboats help to complete the illusion that Norfolk is New York"
    ),
    (ADVENTURES, "p300.jpg"): (
        "St. Philip's is the more beautiful for the open space before it, and the graceful outward bend of "
        "Church Street in deference to the projecting portico"
    ),
    (ADVENTURES, "p408.jpg"): (
        "Birmingham—The thin veil of smoke from far-off iron furnaces softens the city's serrated outlines"
    ),
    (ADVENTURES, "p48.jpg"): (
        "If she is shopping for a dinner party, she may order the costly and aristocratic diamond-back "
        "terrapin, sacred in Baltimore as is the Sacred Cod in Boston"
    ),
    (ADVENTURES, "p504.jpg"): (
        "In some of the boats negro fish-markets are conducted, advertised by large catfish dangling from "
        "posts and railing"
    ),
    (ADVENTURES, "p536.jpg"): "Hanging in the air above the middle of the stream",
    (ADVENTURES, "p561.jpg"): "The Thomas House in Franklin Square in which Lafayette was entertained",
    (ADVENTURES, "p588.jpg"): (
        "Nowhere is the sand more like a deep warm dust of yellow gold; nowhere is there a margin of the "
        "earth so splashed with spots of brilliant color; nowhere is water less like water, more like a "
        "flowing waste of liquid emeralds and sapphires edged with a thousand gleaming flouncing strings of "
        "pearls"
    ),
    (ADVENTURES, "p65.jpg"): (
        "Doughoregan Manor—The house was of buff-colored brick. It was low and very long, with wings "
        "extending from its central structure like beautiful arms flung wide in welcome"
    ),
    (LEGENDS, "t-0006.png"): "The Mermaid of Zennor: Bench End in Zennor Church",
    (LEGENDS, "t-0045.png"): "The Furry Dance To-day",
}

NOT_DESCRIBED = {
    (CHIRIQUI, "fig44.png"): rules.TOO_FEW_WORDS,
    (CHIRIQUI, "fig49.png"): rules.TOO_FEW_WORDS,
    (CHIRIQUI, "fig59.png"): rules.NOT_DESCRIPTIVE,
    (CHIRIQUI, "music250.png"): rules.SHARED,
    (OJIBWA, "fig18.jpg"): rules.TOO_FEW_WORDS,
    (OJIBWA, "fig37.png"): rules.NOT_DESCRIPTIVE,
    (OJIBWA, "page193pic2.png"): rules.SHARED,
    (ADVENTURES, "534.png"): rules.TOO_MANY_WORDS,
    (LEGENDS, "t-0015.png"): rules.TOO_FEW_WORDS,
    (LEGENDS, "t-0039.png"): rules.TOO_FEW_WORDS,
}
"""Figures under which the page prints a name, a number or nothing, and why they make no pair."""


@pytest.fixture(scope="module")
def texts_of() -> dict[tuple[str, str], list[Said]]:
    """Read the books: book and file name of each picture → its texts."""
    config = SourceConfig((str(BOOKS),))
    found: dict[tuple[str, str], list[Said]] = defaultdict(list)
    pages = [page for split in plan_splits(config) for page in read_split(split, config, Folder(""))]
    for page in pages:
        if isinstance(page, Page):
            document = extract_document(page, ExtractConfig(timeout_s=120))
            assert isinstance(document, Document)
            for item in document.items:
                if isinstance(item, ImageRef):
                    found[name_of(item.url)] += candidates(item)
    return found


def name_of(url: str) -> tuple[str, str]:
    """Name a picture by its book and file."""
    parts = url.split("/")
    return parts[4], parts[-1]


def candidates(image: ImageRef) -> list[Said]:
    """Give all texts of a picture."""
    pairs = (("caption", image.caption), ("alt", image.alt))
    return list(image.texts) or [Said(kind, text) for kind, text in pairs if text]


@pytest.fixture(scope="module")
def chosen(texts_of: dict[tuple[str, str], list[Said]]) -> dict[tuple[str, str], Any]:
    """Choose the text of every picture of the books: the chosen `Said` or the `Refusal`."""
    cleaned = {
        name: [Said(said.kind, clean_text(said.text, said.kind)) for said in texts] for name, texts in texts_of.items()
    }
    pictures = Counter(text for texts in cleaned.values() for text in {said.text.casefold() for said in texts})
    found: dict[tuple[str, str], Any] = {}
    for name, texts in cleaned.items():
        given = [(said, pictures[said.text.casefold()], name[0]) for said in texts]
        index = choose_text(given, PairConfig(preset="ltip"))
        found[name] = index if isinstance(index, Refusal) else texts[index]
    return found


def test_the_table_is_of_all_four_books():
    assert len(PRINTED) >= 40
    assert {book for book, _ in PRINTED} == {CHIRIQUI, OJIBWA, ADVENTURES, LEGENDS}


def test_the_chosen_text_is_the_printed_caption(chosen):
    right = [name for name, text in PRINTED.items() if getattr(chosen[name], "text", None) == text]
    wrong = {name: chosen[name] for name in PRINTED if name not in right and isinstance(chosen[name], Said)}
    assert len(right) / (len(right) + len(wrong)) >= 0.95, wrong
    refused = {name: chosen[name] for name in PRINTED if isinstance(chosen[name], Refusal)}
    assert len(refused) <= 0.05 * len(PRINTED), refused


def test_no_picture_is_paired_with_a_text_that_points_at_another(texts_of, chosen):
    pointing = ("see caption", "described in text", "as described", "thumbnail", "complete figure", "larger map")
    said = [text.text.casefold() for texts in texts_of.values() for text in texts]
    assert sum(text == "see caption" for text in said) > 300, "the books have many such alt texts"
    for name, choice in chosen.items():
        if isinstance(choice, Said):
            assert not any(words in choice.text.casefold() for words in pointing), (name, choice)


@pytest.mark.parametrize("name", NOT_DESCRIBED, ids="/".join)
def test_what_describes_nothing_makes_no_pair(chosen, name):
    assert isinstance(chosen[name], Refusal), chosen[name]
    assert chosen[name].reason == NOT_DESCRIBED[name]


def test_more_than_half_of_the_pictures_make_pairs_and_each_other_has_its_reason(chosen):
    pairs = sum(isinstance(choice, Said) for choice in chosen.values())
    assert len(chosen) > 780
    assert pairs > 400
    assert all(isinstance(choice, Said) or choice.reason for choice in chosen.values())
