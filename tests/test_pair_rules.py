"""Which text of a picture becomes its pair: cleaning, each rule on both sides, and a choice that no order changes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import pair_rules as rules
from pipeline import pair_texts as texts
from pipeline.pair_rules import PRESETS, PairConfig, choose_text, judge_text
from pipeline.pair_texts import clean_text
from schemas.config import ConfigError, from_toml
from schemas.document import Said

LTIP, ALIGN = PairConfig(preset="ltip"), PairConfig(preset="align")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fig. 1. Section of oval grave.", "Fig. 1. Section of oval grave."),
        ("Abb. 4: Die Stämme am Ufer", "Abb. 4: Die Stämme am Ufer"),
        ("a b c Fig. 65. Animal forms in clay.", "Fig. 65. Animal forms in clay."),
        ("a b c on a blackboard", "a b c on a blackboard"),
        ("  Two\u00a0\n boats\u200b at the qu\u00aday ", "Two boats at the quay"),
        ("The \u201cOld\u201d Mill\u2019s wheel", 'The "Old" Mill\'s wheel'),
        ("<p>A dog in the park.</p>", "A dog in the park."),
        ("A dog in the park.&nbsp;", "A dog in the park."),
        ("The city, a major port[12] of the country.[336]", "The city, a major port of the country."),
        # credits
        ("A dog in the park. Photo: Jane Doe", "A dog in the park."),
        ("A dog in the park (Photo: Jane Doe/AFP)", "A dog in the park"),
        ("A dog in the park. (Bild: dpa)", "A dog in the park."),
        ("A dog in the park © AFP", "A dog in the park"),
        ("A dog in the park (C) Jane Doe", "A dog in the park"),
        ("A dog in the park | Foto: Reuters", "A dog in the park"),
        ("A dog in the park.Credit:Jane Doe", "A dog in the park."),
        ("A dog in the park.CreditCreditJane Doe for The Daily News", "A dog in the park."),
        ("A dog in the park. Jane L. Doe / The Daily News / Getty Images", "A dog in the park."),
        ("A dog that nobody wants Getty Images", "A dog that nobody wants"),
        ("Photo by Jane Doe. A dog in the park", "A dog in the park"),
        ("Ein Hund im Park ...Archivfoto: JD", "Ein Hund im Park ..."),
        ("Un chien dans le parc - Crédit : Jeanne Doe", "Un chien dans le parc"),
        ("Un perro en el parque. Foto: Archivo El Diario.", "Un perro en el parque."),
        ("Un perro en el parque. (Foto Prensa: Juana Doe)", "Un perro en el parque."),
        ("Pies w parku, fot. Jan Kowalski", "Pies w parku"),
        ("A dog in the park. Foto: Jane Doe, CC BY-SA 4.0", "A dog in the park."),
        ("A dog in the park (left) and a cat (right)", "A dog in the park (left) and a cat (right)"),
        ("A dog in the park, Bildquelle: J. Doe", "A dog in the park"),
        ("A dog in the park. (The Dog Club / Jane Doe)", "A dog in the park."),
        ("Foto von einem Hund im Park", "Foto von einem Hund im Park"),
        ("The photo: a dog that sleeps in the park", "The photo: a dog that sleeps in the park"),
        ("Mayor Doe opens the bridge (1926)", "Mayor Doe opens the bridge (1926)"),
        # dates and places by format
        ("BERLIN, 12 May 2019 - A dog in the park", "A dog in the park"),
        ("PARIS (AP) \u2014 A dog in the park", "A dog in the park"),
        ("LONDON, ENGLAND - MAY 12: A dog in the park on May 12, 2019.", "A dog in the park"),
        ("A dog in the park, 23 July 2015", "A dog in the park"),
        ("A dog in the park (Stand: Juni 2016)", "A dog in the park"),
        ("Ein Hund im Park am 12. Mai 2019", "Ein Hund im Park"),
        ("The fire of 2 September 1666 in London", "The fire of 2 September 1666 in London"),
        # prompts, labels and file names
        ("A dog in the park. Click to enlarge.", "A dog in the park."),
        ("A dog in the park (click image for larger view)", "A dog in the park"),
        ("View larger. A dog in the park", "A dog in the park"),
        ("Ein Hund im Park. Zum Vergrößern auf das Bild klicken.", "Ein Hund im Park."),
        ("Un chien dans le parc. Cliquez pour agrandir l'image", "Un chien dans le parc."),
        ("Un perro en el parque. Haga clic para ampliar la imagen", "Un perro en el parque."),
        ("Un cane nel parco. Clicca per ingrandire", "Un cane nel parco."),
        ("A dog in the park | opens in new window", "A dog in the park"),
        ("A dog may open the door to the park", "A dog may open the door to the park"),
        ("Image: A dog that sleeps in the park", "A dog that sleeps in the park"),
        ("Photo 3 of 12: A dog in the park", "A dog in the park"),
        ("3/12 A dog in the park", "A dog in the park"),
        ("Symbolbild: Ein Hund schläft und keiner weckt ihn", "Ein Hund schläft und keiner weckt ihn"),
        ("A dog in the park IMG_2031.jpg", "A dog in the park"),
        ("dog-park.jpg A dog in the park", "A dog in the park"),
    ],
)
def test_what_says_nothing_is_cut_and_the_rest_stays_as_printed(text, expected):
    assert clean_text(text, "caption") == expected
    assert clean_text(expected, "caption") == expected


def test_an_alt_text_need_not_say_that_it_is_a_picture():
    assert clean_text("A photo of a dog in the park", "alt") == "a dog in the park"
    assert clean_text("A photo of a dog in the park", "figcaption") == "A photo of a dog in the park"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (text, texts.REFERENCE_ONLY)
            for text in (
                "see caption",
                "See caption below.",
                "(see text)",
                "caption below",
                "as above",
                "siehe Bildunterschrift",
                "voir légende",
                "plate described in text",
                "midewigan as described in text",
                "figure explained in the caption",
            )
        ),
        *(
            (text, texts.FILE_NAME)
            for text in (
                "IMG_2031.jpg",
                "DSC00123",
                "P1610069.jpg",
                "image-3",
                "Image 3",
                "10-P1610114.jpg",
                "north_gate_2",
                "why-the-town-needs-a-new-bridge",
                "Screenshot 2019-05-12",
            )
        ),
        *(
            (text, texts.CREDIT_ONLY)
            for text in (
                "Photo: Jane Doe",
                "© AFP",
                "(Bild: dpa)",
                "Getty Images",
                "Jane Doe/The Daily News",
                "CreditJane Doe",
                "Photo by Jane Doe",
                "Click to enlarge. Photo: Jane Doe",
                "© Foto: REUTERS / JANE DOE",
                "Foto: Jane Doe [CC BY-SA 3.0], via Wikimedia Commons",
                "www.example.org",
            )
        ),
        *(
            (text, texts.DATE_ONLY)
            for text in ("12 May 2019", "London, 23 July 2015", "16.01.2022", "(22 juin 2018 @12h07)")
        ),
        *(
            (text, texts.BOILERPLATE)
            for text in (
                "Click to enlarge",
                "zoom",
                "Bild vergrößern",
                "Opens in a new window",
                "Symbolbild",
                "Advertisement",
                "Image may contain: a dog, grass and a tree in a park",
                "Puede ser una imagen de 3 personas",
                "Lesen Sie auch den Bericht über den Park",
            )
        ),
        *(
            (text, rules.NO_WORDS)
            for text in (
                "55500022",
                "{\\displaystyle A=U\\Lambda U^{\\mathsf {H}}}",
                "image_tid=25&id=mggqpuweqdpd&cache=0",
                "1920x1080",
                "d41d8cd98f00b204e9800998ecf8427e",
                "KL 26 XJ-9 B 500 ZX81",
                "the page is https://example.org/a?b=c in the park",
            )
        ),
        *(
            (text, rules.TOO_FEW_WORDS)
            for text in ("Truro Cathedral", "Fig. 49. Square lipped vessel.", "Plate IX.c. Mnemonic Song.")
        ),
        *(
            (text, rules.NOT_DESCRIPTIVE)
            for text in (
                "Montauk Long Island USA Sonnenuntergang",
                "Dee Dee Myers and Jane Doe",
                "small nursery ideas - closet door",
            )
        ),
        (" ".join(["the dog"] * 51), rules.TOO_MANY_WORDS),
    ],
)
def test_each_refusal_of_ltip_has_its_reason(text, reason):
    refusal = judge_text("caption", clean_text(text, "caption"), 1, LTIP)
    assert refusal is not None
    assert refusal.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "Fig. 1. Section of oval grave.",
        "Fig. 24.—Midē´ destroying the enemy.",
        "Ein Hund schläft im Park.",
        "Un chien court dans le parc",
        "Un perro en el parque",
        "Un cane dorme nel parco",
        "Pies śpi w parku miejskim",
        "公园里有一只狗在睡觉。" * 6,
        "Собака спит под старым деревом",
        "Hundertwasserkirchenglockenturm mit Blick auf Bärnbach",
        " ".join(["the dog"] * 50),
    ],
)
def test_what_describes_is_taken_by_ltip(text):
    assert judge_text("figcaption", clean_text(text, "figcaption"), 1, LTIP) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Happy Dog Biscuits", None),
        ("Happy Dog", rules.TOO_FEW_WORDS),
        (" ".join(["dog"] * 20), None),
        (" ".join(["dog"] * 21), rules.TOO_MANY_WORDS),
        ("dog_12 25&id=mgg cache", rules.NO_WORDS),
    ],
)
def test_align_takes_three_to_twenty_words_and_no_codes(text, reason):
    refusal = judge_text("alt", text, 1, ALIGN)
    assert (refusal and refusal.reason) == reason


def test_align_takes_alt_texts_alone():
    said = [(Said(kind, "A dog sleeps in the park"), 1, "p") for kind in ("caption", "title")]
    assert choose_text(said, ALIGN).reason == rules.NO_TEXT
    assert choose_text([*said, (Said("alt", "Happy Dog Biscuits"), 1, "p")], ALIGN) == 2


@pytest.mark.parametrize("config", [LTIP, ALIGN])
def test_a_text_that_eleven_pictures_share_is_of_none_of_them(config):
    assert judge_text("alt", "A dog sleeps in the park", 10, config) is None
    assert judge_text("alt", "A dog sleeps in the park", 11, config).reason == rules.SHARED


def test_numbers_of_the_settings_replace_those_of_the_preset():
    config = PairConfig(preset="align", min_words=4, max_words=5, max_pictures=1)
    reasons = [
        judge_text("alt", text, pictures, config)
        for text, pictures in (
            ("dog in park", 1),
            ("dog in the park", 1),
            ("a dog in the old park", 1),
            ("dog in the park", 2),
        )
    ]
    assert [refusal and refusal.reason for refusal in reasons] == [
        rules.TOO_FEW_WORDS,
        None,
        rules.TOO_MANY_WORDS,
        rules.SHARED,
    ]


def test_printed_captions_come_first_and_galleries_last():
    kinds = ("figcaption", "caption", "description", "alt", "title", "gallery")
    said = [(Said(kind, f"A {kind} of the dog in the park"), 1, "p") for kind in kinds]
    for first in range(len(said)):
        given_texts = list(reversed(said[first:]))
        assert given_texts[choose_text(given_texts, LTIP)] == said[first]


def test_what_is_refused_leaves_room_for_the_next_kind():
    said = [(Said("figcaption", "Photo: Jane Doe"), 1, "p"), (Said("alt", "A dog sleeps in the park"), 1, "p")]
    assert choose_text(said, LTIP) == 1
    assert choose_text(said[:1], LTIP).reason == texts.CREDIT_ONLY
    assert choose_text([], LTIP).reason == rules.NO_TEXT


def test_the_order_of_arrival_decides_nothing():
    said = [
        (Said("caption", "A dog in the park"), 2, "https://a.example/"),
        (Said("caption", "A dog in the old park"), 1, "https://b.example/2"),
        (Said("caption", "A dog in the old park"), 1, "https://b.example/1"),
        (Said("caption", "The dog in an old park"), 1, "https://c.example/"),
    ]
    for arrival in itertools.permutations(said):
        assert arrival[choose_text(arrival, LTIP)] == (
            Said("caption", "The dog in an old park"),
            1,
            "https://c.example/",
        )
        assert [one for one in arrival if one != said[3]][
            choose_text([one for one in arrival if one != said[3]], LTIP)
        ] == said[2]


def test_a_picture_with_too_many_texts_is_of_none_of_them():
    config = PairConfig(preset="align", max_texts=2)
    said = [(Said("alt", f"Dog number {name} sleeps"), 1, page) for page in "pq" for name in ("one", "two")]
    assert isinstance(choose_text(said, config), int)
    assert choose_text([*said, (Said("alt", "Dog number three sleeps"), 1, "p")], config).reason == rules.TOO_MANY_TEXTS


@pytest.mark.parametrize(
    "wrong", ['preset = "laion"', "min_words = -1", "max_words = -1", "max_pictures = 0", "max_texts = 0"]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        from_toml(PairConfig, wrong, "config.toml")


def test_presets_hold_what_the_papers_say():
    assert (PRESETS["align"].min_words, PRESETS["align"].max_words, PairConfig().max_pictures) == (3, 20, 10)
    assert PairConfig().preset == rules.NONE


PIECES = st.sampled_from(
    [
        "A dog in the park",
        "Photo: Jane Doe",
        "(Bild: dpa)",
        "© AFP",
        "click to enlarge",
        "12 May 2019",
        "Fig. 1.",
        "see caption",
        "IMG_2031.jpg",
        "BERLIN, 12 May 2019 -",
        "|",
        "-",
        ".",
        "a b c",
        "Credit",
        "(",
        ")",
        "«Ü»",
        "[3]",
        "Getty Images",
        "Zoom.",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=8).map(" ".join)), st.sampled_from(["alt", "caption"]))
@settings(max_examples=300, deadline=None)
def test_any_text_is_cleaned_to_one_line_and_cleaning_again_changes_nothing(text, kind):
    cleaned = clean_text(text, kind)
    assert cleaned == " ".join(cleaned.split())
    assert clean_text(cleaned, kind) == cleaned
    assert len(cleaned) <= 2 * len(text) + 20
    judge_text(kind, cleaned, 1, LTIP)


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "(zoom) ",
        "Photo: ",
        "a/",
        "A/",
        "A ",
        " - ",
        "© ",
        "12 May ",
        "[1",
        "a b ",
        "Zoom. ",
        "x_",
        "described in ",
        "Credit",
        "1/2 ",
        "LONDON, ",
        "\u4e00",
        "<a",
        "&lt;a",
        "l'",
        "image ",
        "A-",
        "-",
        "\n",
        "see ",
        "mar. ",
    ],
)
def test_no_more_than_a_bounded_start_of_a_text_is_looked_at(piece):
    start = (piece * 5_000)[: texts.MAX_TEXT_CHARS]
    assert clean_text(piece * 5_000, "alt") == clean_text(start, "alt")
    judge_text("alt", clean_text(start, "alt"), 1, LTIP)
