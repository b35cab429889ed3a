"""Languages are told apart, at both sides of the threshold, and hostile text has an answer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import language
from pipeline.language import MAX_CHARS, OTHER_LANGUAGE, LanguageRules, detect, judge_language

# The same two sentences, written for this test.
SAID = {
    "en": "The children went down to the river in the morning. They wanted to see the boats.",
    "de": "Die Kinder gingen am Morgen hinunter zum Fluss. Sie wollten die Boote sehen.",
    "fr": "Les enfants sont descendus à la rivière le matin. Ils voulaient voir les bateaux.",
    "es": "Los niños bajaron al río por la mañana. Querían ver los barcos.",
    "it": "I bambini sono scesi al fiume la mattina. Volevano vedere le barche.",
    "pt": "As crianças desceram até o rio pela manhã. Elas queriam ver os barcos.",
    "nl": "De kinderen gingen 's morgens naar de rivier. Ze wilden de boten zien.",
    "sv": "Barnen gick ner till floden på morgonen. De ville se båtarna.",
    "fi": "Lapset menivät aamulla joelle. He halusivat nähdä veneet.",
    "pl": "Dzieci poszły rano nad rzekę. Chciały zobaczyć łodzie.",
    "cs": "Děti šly ráno k řece. Chtěly vidět lodě.",
    "hu": "A gyerekek reggel lementek a folyóhoz. Látni akarták a hajókat.",
    "tr": "Çocuklar sabah nehre indiler. Tekneleri görmek istediler.",
    "ru": "Дети утром пошли к реке. Они хотели увидеть лодки.",
    "uk": "Діти вранці пішли до річки. Вони хотіли побачити човни.",
    "el": "Τα παιδιά κατέβηκαν το πρωί στο ποτάμι. Ήθελαν να δουν τις βάρκες.",
    "ar": "ذهب الأطفال إلى النهر في الصباح. أرادوا أن يروا القوارب.",
    "he": "הילדים ירדו אל הנהר בבוקר. הם רצו לראות את הסירות.",
    "ja": "子供たちは朝、川へ行きました。船を見たかったのです。",
    "ko": "아이들은 아침에 강으로 갔습니다. 배를 보고 싶어 했습니다.",
    "zh": "孩子们早上去了河边。他们想看船。",
}


@pytest.mark.parametrize("code", SAID)
def test_languages_are_told_apart(code):
    found, probability = detect(SAID[code])
    assert found == code
    assert 0.5 < probability <= 1


@pytest.mark.parametrize(
    ("found", "rules", "kept"),
    [
        (("en", 0.8), LanguageRules(), True),
        (("en", 0.799), LanguageRules(), False),
        (("de", 1.0), LanguageRules(), False),
        (("de", 1.0), LanguageRules(("en", "de")), True),
        (("de", 0.5), LanguageRules(("de",), min_probability=0.5), True),
        (("", 0.0), LanguageRules(), False),
        (("", 0.0), LanguageRules(()), True),
    ],
)
def test_a_page_is_judged_by_language_and_probability(monkeypatch, found, rules, kept):
    monkeypatch.setattr(language, "detect", lambda text: found)
    refusal = judge_language(["any"], rules)
    assert (refusal and refusal.reason) == (None if kept else OTHER_LANGUAGE)


def test_the_refusal_says_what_was_found():
    refusal = judge_language([SAID["de"]], LanguageRules())
    assert refusal.detail.startswith("de with probability ")
    assert refusal.detail.endswith("en with 0.8 or more is kept")
    assert judge_language(["12 + 30", ""], LanguageRules()).detail.startswith("no words,")


def test_only_the_beginning_is_read():
    english = SAID["en"] * 40
    assert len(english) > MAX_CHARS
    assert detect(english + SAID["ru"] * 1000) == detect(english)


def test_another_process_gives_the_same_answer():
    code = f"from pipeline.language import detect; print(detect({SAID['it']!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(detect(SAID["it"]))


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=300))
def test_any_text_has_an_answer(text):
    found, probability = detect(text)
    assert 0 <= probability <= 1
    assert bool(found) or probability == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"min_probability": 1.1}, "between 0 and 1"), ({"languages": ("English",)}, "such as en")],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LanguageRules(**settings)
