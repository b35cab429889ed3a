"""The text rules at both sides of every threshold, and beside datatrove's on the development pages."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import quality, repetition, word_lists
from pipeline.folder import UserError
from pipeline.quality import (
    PRESETS,
    ProseRules,
    QualityRules,
    TextRules,
    judge_paragraph,
    judge_prose,
    judge_quality,
    judge_texts,
)
from pipeline.repetition import RepetitionRules, char_repetition, hash_char_grams, judge_repetition, word_repetition
from pipeline.word_lists import bare_words, hold_flagged
from schemas.config import from_tree

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"


def off(kind):
    return kind(**{setting.name: 0 for setting in fields(kind)})


def only(kind, **settings):
    return replace(off(kind), **settings)


def preset(name):
    tree = {}
    for path, value in PRESETS[name].items():
        _, _, table, setting = path.split(".")
        tree.setdefault(table, {})[setting] = value
    return from_tree(TextRules, tree, name)


def different(count, start=0):
    return [f"w{number}" for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("setting", "limit", "good", "bad", "reason"),
    [
        ("min_words", 5, "a b c d e", "a b c d", quality.TOO_FEW_WORDS),
        ("max_words", 5, "a b c d e", "a b c d e f", quality.TOO_MANY_WORDS),
        ("min_mean_word_chars", 3, "ab abcd", "ab abc", quality.WORDS_TOO_SHORT),
        ("max_mean_word_chars", 10, "a" * 10, "a" * 11, quality.WORDS_TOO_LONG),
        ("max_hashes", 0.1, "# " + "a " * 9, "# " + "a " * 8, quality.TOO_MANY_HASHES),
        ("max_ellipses", 0.1, "a... " + "a " * 9, "a… " + "a " * 8, quality.TOO_MANY_ELLIPSES),
        ("max_bullet_lines", 0.9, "- a\n" * 9 + "a", " • a\n" * 10 + "\n", quality.TOO_MANY_BULLETS),
        ("max_ellipsis_lines", 0.3, "a...\n" * 3 + "a\n" * 7, "a… \n" * 4 + "a\n" * 6, quality.TOO_MANY_ELLIPSIS_LINES),
        ("min_words_with_letter", 0.8, "a b 3c -d 5", "a b 3c 4 5", quality.TOO_FEW_LETTERS),
        ("min_stop_words", 2, "The cat (and", "the cat the", quality.TOO_FEW_STOP_WORDS),
    ],
)
def test_gophers_rules_of_quality(setting, limit, good, bad, reason):
    rules = only(QualityRules, **{setting: limit})
    assert judge_quality([good], rules) is None
    assert judge_quality([bad], rules).reason == reason
    assert f"{limit:g}" in judge_quality([bad], rules).detail
    assert judge_quality([bad], off(QualityRules)) is None


@pytest.mark.parametrize(
    ("setting", "limit", "good", "bad", "reason"),
    [
        ("max_duplicate_paragraphs", 0.3, "aaabcdefgh", "aaaabcdefg"[:9], repetition.DUPLICATE_PARAGRAPHS),
        # 10 of 50 characters are those of a paragraph that stood before; then 10 of 49.
        ("max_duplicate_paragraph_chars", 0.2, ["a" * 10] * 2 + ["b" * 26], ["a" * 10] * 2 + ["b" * 25],
         repetition.DUPLICATE_PARAGRAPH_CHARS),
        ("max_duplicate_lines", 0.3, ["a\na\na\na\nb\nc\nd\ne\nf\ng"], ["a\na\na\na\n\nb\nc\nd\ne\nf"],
         repetition.DUPLICATE_LINES),
        ("max_duplicate_line_chars", 0.2, ["a" * 10 + "\n" + "a" * 10 + "\n" + "b" * 28],
         ["a" * 10 + "\n" + "a" * 10 + "\n" + "b" * 27], repetition.DUPLICATE_LINE_CHARS),
    ],
)  # fmt: skip
def test_gophers_rules_of_duplicate_paragraphs_and_lines(setting, limit, good, bad, reason):
    rules = only(RepetitionRules, **{setting: limit})
    assert judge_repetition(list(good), rules) is None
    assert judge_repetition(list(bad), rules).reason == reason
    assert judge_repetition(list(bad), off(RepetitionRules)) is None


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_n_gram(n):
    said = " ".join(["same"] * 0 + different(n, 100))
    text = f"{said} x {said} y {' '.join(different(80))}"
    share = 2 * len(said) / len(text)
    setting = f"max_top_{n}_gram"
    assert judge_repetition([text], only(RepetitionRules, **{setting: share + 1e-9})) is None
    refusal = judge_repetition([text], only(RepetitionRules, **{setting: share - 1e-9}))
    assert refusal.reason == f"top_{n}_gram"


@pytest.mark.parametrize("n", range(5, 11))
def test_duplicate_n_grams(n):
    said = different(n, 100)
    text = " ".join([*said, "x", *said, "y", *different(80)])
    share = len("".join(said)) / len(text)
    setting = f"max_duplicate_{n}_grams"
    assert judge_repetition([text], only(RepetitionRules, **{setting: share + 1e-9})) is None
    refusal = judge_repetition([text], only(RepetitionRules, **{setting: share - 1e-9}))
    assert refusal.reason == f"duplicate_{n}_grams"


def grams_by_strings(words, n):
    """Gopher's duplicate n-grams, word for word."""
    seen, chars, place = set(), 0, 0
    while place + n <= len(words):
        gram = tuple(words[place : place + n])
        chars += len("".join(gram)) if gram in seen else 0
        place += n if gram in seen else 1
        seen.add(gram)
    return chars


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=60), st.integers(5, 10))
def test_duplicate_n_grams_are_those_of_strings(words, n):
    text = " ".join(words)
    expected = grams_by_strings(words, n) / max(1, len(text))
    setting = f"max_duplicate_{n}_grams"
    if expected:
        assert judge_repetition([text], only(RepetitionRules, **{setting: expected - 1e-9})) is not None
    assert judge_repetition([text], only(RepetitionRules, **{setting: expected + 1e-9})) is None


@pytest.mark.parametrize(
    ("setting", "limit", "good", "bad", "reason"),
    [
        ("min_words", 4, "a b c d", "a b c 4 !", quality.TOO_FEW_WORDS),
        ("max_words", 4, "a b c d 5", "a b c d e", quality.TOO_MANY_WORDS),
        ("max_special_chars", 0.3, "abcdefg 12", "abcdefg 123", quality.TOO_MANY_SPECIALS),
        ("max_special_chars", 0.3, "äöüäöüä …—", "äöüäöü …—!", quality.TOO_MANY_SPECIALS),
        ("min_stop_words", 0.5, "The, cat", "the cat sat", quality.LOW_STOP_WORD_RATIO),
        ("max_flagged_words", 0.1, "Porn! " + "a " * 9, "Porn! " + "a " * 8, quality.FLAGGED_TEXT),
        ("min_punctuation", 0.1, "a " * 18 + "..", "a " * 19 + "..", quality.TOO_LITTLE_PUNCTUATION),
        ("max_word_repetition", 0.5, "a b c d e f a b c d e", "a b c d e a b c d e a", quality.REPEATED_WORDS),
        ("max_char_repetition", 0.1, "abcdefghijklmnopqrstuvwxyz", "ab" * 20, quality.REPEATED_CHARS),
    ],
)
def test_obelicss_rules(setting, limit, good, bad, reason):
    rules = only(ProseRules, **{setting: limit})
    assert judge_prose([good], rules) is None
    assert judge_prose([bad], rules).reason == reason
    assert f"{limit:g}" in judge_prose([bad], rules).detail
    assert judge_prose([bad], off(ProseRules)) is None


def test_a_short_paragraph_needs_no_punctuation():
    rules = only(ProseRules, min_punctuation=0.001)
    assert judge_paragraph("a " * 11, rules) is None
    assert judge_paragraph("a " * 12, rules).reason == quality.TOO_LITTLE_PUNCTUATION


@given(st.text("ab", max_size=60))
def test_repeated_characters_are_those_of_strings(text):
    grams = [text[place : place + 10] for place in range(len(text) - 9)]
    counts = sorted((grams.count(gram) for gram in set(grams)), reverse=True)
    most = [count for count in counts if count > 1][: int(len(counts) ** 0.5)]
    assert char_repetition(hash_char_grams(text)) == (sum(most) / len(grams) if grams else 0)


def test_repeated_words_are_counted_each_time():
    assert word_repetition(["a", "b", "c", "d", "e", "x", "a", "b", "c", "d", "e"]) == 2 / 7
    assert word_repetition(["a"] * 4) == 0


def test_paragraphs_are_dropped_before_their_page_is_judged():
    said = "The boats came down the river in the morning, and we went out to see them."
    rules = TextRules(off(QualityRules), off(RepetitionRules), ProseRules(min_words=4), ProseRules(min_words=20))
    verdict = judge_texts([said, "Read more", said.upper(), "12"], rules)
    assert verdict.kept == (0, 2)
    assert [(place, refusal.reason) for place, refusal in verdict.dropped] == [
        (1, quality.TOO_FEW_WORDS),
        (3, quality.TOO_FEW_WORDS),
    ]
    assert verdict.refusal is None
    assert judge_texts([said, "Read more " * 5 + "12"], replace(rules, page=ProseRules(min_words=26))).refusal is None
    assert judge_texts([said, "Read more"], rules).refusal.reason == quality.TOO_FEW_WORDS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_every_rule(name):
    kinds = {"quality": QualityRules, "repetition": RepetitionRules, "paragraph": ProseRules, "page": ProseRules}
    every = {f"filters.texts.{table}.{one.name}" for table, kind in kinds.items() for one in fields(kind)}
    assert PRESETS[name].keys() == every
    assert judge_texts([], preset(name)).refusal.reason == quality.TOO_FEW_WORDS


def test_m3w_is_the_default_with_an_upper_bound():
    rules = preset("m3w")
    assert replace(rules, quality=replace(rules.quality, max_words=0)) == TextRules()


def test_the_users_list_of_flagged_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# mine\nFoo\n\nbar\n", "utf-8")
    assert hold_flagged(str(path)) == {"foo", "bar"}
    assert hold_flagged("") == word_lists.FLAGGED_WORDS
    with pytest.raises(UserError, match="no such list"):
        hold_flagged(str(tmp_path / "none.txt"))
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="UTF-8"):
        hold_flagged(str(path))


def test_bare_words():
    assert bare_words("“Don’t,” 12 -- said\nMr. O'Neil (twice)!") == ["don't", "said", "mr", "o'neil", "twice"]


# --- beside datatrove ------------------------------------------------------------------------------------------------

THEIRS = {
    "gopher_short_doc": quality.TOO_FEW_WORDS,
    "gopher_long_doc": quality.TOO_MANY_WORDS,
    "gopher_below_avg_threshold": quality.WORDS_TOO_SHORT,
    "gopher_above_avg_threshold": quality.WORDS_TOO_LONG,
    "gopher_too_many_hashes": quality.TOO_MANY_HASHES,
    "gopher_too_many_ellipsis": quality.TOO_MANY_ELLIPSES,
    "gopher_too_many_bullets": quality.TOO_MANY_BULLETS,
    "gopher_too_many_end_ellipsis": quality.TOO_MANY_ELLIPSIS_LINES,
    "gopher_below_alpha_threshold": quality.TOO_FEW_LETTERS,
    "gopher_enough_stop_words": quality.TOO_FEW_STOP_WORDS,
    "dup_para_frac": repetition.DUPLICATE_PARAGRAPHS,
    "dup_para_char_frac": repetition.DUPLICATE_PARAGRAPH_CHARS,
    "dup_line_frac": repetition.DUPLICATE_LINES,
    "dup_line_char_frac": repetition.DUPLICATE_LINE_CHARS,
    **{f"top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_grams" for n in range(5, 11)},
}
CASE = (None, quality.TOO_FEW_STOP_WORDS)
DIFFER = {
    # datatrove looks stop words up as they stand: `The` and `the,` are none to it.
    "http://www.steinhau.com/steinhau/wordpress/einmal-zahlen-alles-lesen/": CASE,
    "https://orsted.de/gruene-energie/gruener-wasserstoff/potenzial": CASE,
    "https://www.erneuerbareenergien.de/technologie/offshore-wind/usa-kalifornien-ver": CASE,
    "https://www.gitarrebass.de/dm-native-advert/gitarre-bass-02-2022/": CASE,
    "https://www.linkedin.com/pulse/ich-war-am-wochenende-auf-einer-hochzeit-im-wendl": CASE,
    # datatrove does not count words that are only marks, of which this page of 50 words has some.
    "https://gnaur.wordpress.com/2013/06/14/die-moglichkeit-nichts-zu-tun-ist-auch-ei": (
        quality.TOO_FEW_STOP_WORDS,
        quality.TOO_FEW_WORDS,
    ),
}
"""Pages, by the first 80 characters of their URL, on which the rules differ: our reason and that of datatrove."""


@pytest.fixture(scope="module")
def pages():
    if not (CORPUS / "extraction-dev.warc.gz").exists():
        pytest.skip("the corpus of labelled pages is not beside the checkout")
    from scoring import read_dev

    from pipeline.extract import ExtractConfig, extract_document
    from schemas.document import Document, Text

    found = [extract_document(labelled.page, ExtractConfig()) for labelled in read_dev(CORPUS)]
    documents = [document for document in found if isinstance(document, Document)]
    texts = [(one.url, [item.text for item in one.items if isinstance(item, Text)]) for one in documents]
    return [(url, paragraphs) for url, paragraphs in texts if paragraphs]


def reason_of(filter, text, url):
    data = pytest.importorskip("datatrove.data")
    answer = filter.filter(data.Document(text=text, id=url))
    return None if answer is True else THEIRS[answer[1]]


def test_gophers_rules_agree_with_datatroves(pages, monkeypatch):
    """Both split at white space; their text of a page has no empty lines where lines are counted."""
    theirs = pytest.importorskip("datatrove.pipeline.filters.gopher_quality_filter")
    theirs_again = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    for module in (theirs, theirs_again):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: text.split())
    by_quality, by_repetition = theirs.GopherQualityFilter(), theirs_again.GopherRepetitionFilter()
    differ = {}
    for url, texts in pages:
        ours = judge_quality(texts, QualityRules(max_words=100_000))
        reasons = (ours and ours.reason, reason_of(by_quality, "\n".join(texts), url))
        if reasons[0] != reasons[1]:
            differ[url[:80]] = reasons
        ours = judge_repetition(texts, RepetitionRules())
        assert (ours and ours.reason) == reason_of(by_repetition, "\n\n".join(texts), url), url
    assert differ == DIFFER


GOPHER = """
quality.min_words 50, quality.max_words 100000, quality.min_mean_word_chars 3, quality.max_mean_word_chars 10
quality.max_hashes 0.1, quality.max_ellipses 0.1, quality.max_bullet_lines 0.9, quality.max_ellipsis_lines 0.3
quality.min_words_with_letter 0.8, quality.min_stop_words 2, page.max_flagged_words 0.01
repetition.max_duplicate_paragraphs 0.3, repetition.max_duplicate_paragraph_chars 0.2
repetition.max_duplicate_lines 0.3, repetition.max_duplicate_line_chars 0.2
repetition.max_top_2_gram 0.2, repetition.max_top_3_gram 0.18, repetition.max_top_4_gram 0.16
repetition.max_duplicate_5_grams 0.15, repetition.max_duplicate_6_grams 0.14, repetition.max_duplicate_7_grams 0.13
repetition.max_duplicate_8_grams 0.12, repetition.max_duplicate_9_grams 0.11, repetition.max_duplicate_10_grams 0.1
"""
OBELICS = """
paragraph.min_words 4, paragraph.max_words 1000, paragraph.max_char_repetition 0.1, paragraph.max_word_repetition 0.1
paragraph.max_special_chars 0.3, paragraph.min_stop_words 0.3, paragraph.max_flagged_words 0.01
paragraph.min_punctuation 0.001
page.min_words 10, page.max_words 2000, page.max_char_repetition 0.1, page.max_word_repetition 0.2
page.max_special_chars 0.275, page.min_stop_words 0.35, page.max_flagged_words 0.01, page.min_punctuation 0.03
"""


@pytest.mark.parametrize(("name", "numbers"), [("m3w", GOPHER), ("obelics", OBELICS)])
def test_the_numbers_of_the_presets_are_those_of_the_papers(name, numbers):
    given = {path.removeprefix("filters.texts."): value for path, value in PRESETS[name].items() if value}
    told = [line.split() for line in numbers.replace(",", "\n").splitlines() if line]
    assert given == {rule: float(value) for rule, value in told}
