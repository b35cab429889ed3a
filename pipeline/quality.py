"""A page's paragraphs → those that are prose, and whether the page is kept: the text rules of SPEC-corpus 2.

In: a sequence of paragraphs, and settings in which each rule can be turned off alone. Out: a `Refusal` with a constant
of this module or of `repetition`, `None` where the page or paragraph is kept.

A word is what stands between white space. Gopher's stop words and all rules of OBELICS are about the bare words of
`word_lists`: in lower case, without the digits and marks at their ends.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from pipeline.repetition import (
    RepetitionRules,
    char_repetition,
    hash_char_grams,
    judge_repetition,
    word_repetition,
)
from pipeline.word_lists import FLAGGED_WORDS, GOPHER_STOP_WORDS, STOP_WORDS, bare_words
from schemas.page import Refusal

TOO_FEW_WORDS = "too_few_words"
TOO_MANY_WORDS = "too_many_words"
WORDS_TOO_SHORT = "words_too_short"
WORDS_TOO_LONG = "words_too_long"
TOO_MANY_HASHES = "too_many_hashes"
TOO_MANY_ELLIPSES = "too_many_ellipses"
TOO_MANY_BULLETS = "too_many_bullets"
TOO_MANY_ELLIPSIS_LINES = "too_many_ellipsis_lines"
TOO_FEW_LETTERS = "too_few_words_with_letters"
TOO_FEW_STOP_WORDS = "too_few_stop_words"
REPEATED_CHARS = "repeated_characters"
REPEATED_WORDS = "repeated_words"
TOO_MANY_SPECIALS = "too_many_special_characters"
LOW_STOP_WORD_RATIO = "low_stop_word_ratio"
FLAGGED_TEXT = "flagged_words"
TOO_LITTLE_PUNCTUATION = "too_little_punctuation"

ELLIPSES = ("...", "…")
BULLETS = ("•", "-")
"""What a line of a list begins with, here and in other implementations of the rule."""
ASCII_LETTERS = string.ascii_letters.encode()
NOT_ASCII = re.compile(r"[^\x00-\x7f]")
MARKS = ".,;:!?\"'()…“”‘’«»–—、。！？，：；"
"""Punctuation of prose, for the rule of OBELICS."""
MIN_TOKENS = 12
"""Words and marks of a paragraph that is long enough to be judged by its punctuation (OBELICS)."""


@dataclass(frozen=True, slots=True)
class QualityRules:
    """Gopher's rules of quality (paper A1.1), with its numbers; 0 turns a rule off."""

    min_words: int = 50
    """Words of a page, at least (Gopher: 50)."""
    max_words: int = 0
    """Words of a page, at most; off here, so that a book on one page is kept (Gopher: 100,000)."""
    min_mean_word_chars: float = 3.0
    """Characters of a word on average, at least (Gopher: 3)."""
    max_mean_word_chars: float = 10.0
    """Characters of a word on average, at most (Gopher: 10)."""
    max_hashes: float = 0.1
    """Hash signs a word, at most (Gopher: 0.1)."""
    max_ellipses: float = 0.1
    """Ellipses a word, `...` or `…`, at most (Gopher: 0.1)."""
    max_bullet_lines: float = 0.9
    """Lines that begin with a bullet, of all lines that are not empty, at most (Gopher: 0.9)."""
    max_ellipsis_lines: float = 0.3
    """Lines that end with an ellipsis, of all lines that are not empty, at most (Gopher: 0.3)."""
    min_words_with_letter: float = 0.8
    """Words with a letter, of all words, at least (Gopher: 0.8)."""
    min_stop_words: int = 2
    """Different words of Gopher's eight, such as `the` and `with`, at least (Gopher: 2); English only."""


@dataclass(frozen=True, slots=True)
class ProseRules:
    """OBELICS's rules (paper, table 3) for a paragraph or a page; 0 turns a rule off, and all are off by default."""

    min_words: int = 0
    """Words, at least (OBELICS: 4 a paragraph, 10 a page)."""
    max_words: int = 0
    """Words, at most (OBELICS: 1,000 a paragraph, 2,000 a page)."""
    max_char_repetition: float = 0.0
    """Share of the most frequent runs of 10 characters, at most (OBELICS: 0.1)."""
    max_word_repetition: float = 0.0
    """Share of the runs of 5 words that occur more than once, at most (OBELICS: 0.1 a paragraph, 0.2 a page)."""
    max_special_chars: float = 0.0
    """Characters that are no letter, spaces among them, at most (OBELICS: 0.3 a paragraph, 0.275 a page)."""
    min_stop_words: float = 0.0
    """Share of English function words, at least (OBELICS: 0.3 a paragraph, 0.35 a page)."""
    max_flagged_words: float = 0.0
    """Share of flagged words, at most (OBELICS: 0.01)."""
    min_punctuation: float = 0.0
    """Share of marks among words and marks, at least (OBELICS: 0.001 a paragraph of 12 or more, 0.03 a page)."""


@dataclass(frozen=True, slots=True)
class TextRules:
    """What the texts of a page have to be."""

    quality: QualityRules = field(default_factory=QualityRules)
    """Gopher's rules of quality, for a page."""
    repetition: RepetitionRules = field(default_factory=RepetitionRules)
    """Gopher's rules of repetition, for a page."""
    paragraph: ProseRules = field(default_factory=ProseRules)
    """OBELICS's rules, for a paragraph: one that is refused is left out of its page."""
    page: ProseRules = field(default_factory=lambda: ProseRules(max_flagged_words=0.01))
    """OBELICS's rules, for what is left of a page."""
    flagged_words: str = ""
    """Path or URL of a list of flagged words, one a line; a short list of sexual terms where none is given."""


OFF = {
    f"filters.texts.{table}.{setting.name}": 0.0 if setting.type == "float" else 0
    for table, kind in (
        ("quality", QualityRules),
        ("repetition", RepetitionRules),
        ("paragraph", ProseRules),
        ("page", ProseRules),
    )
    for setting in fields(kind)
}
# The text rules of the table of SPEC-corpus 2, as overrides of a build's configuration.
PRESETS: Mapping[str, Mapping[str, int | float]] = {
    "m3w": OFF
    | {
        "filters.texts.quality.min_words": 50,
        "filters.texts.quality.max_words": 100_000,
        "filters.texts.quality.min_mean_word_chars": 3.0,
        "filters.texts.quality.max_mean_word_chars": 10.0,
        "filters.texts.quality.max_hashes": 0.1,
        "filters.texts.quality.max_ellipses": 0.1,
        "filters.texts.quality.max_bullet_lines": 0.9,
        "filters.texts.quality.max_ellipsis_lines": 0.3,
        "filters.texts.quality.min_words_with_letter": 0.8,
        "filters.texts.quality.min_stop_words": 2,
        "filters.texts.repetition.max_duplicate_paragraphs": 0.30,
        "filters.texts.repetition.max_duplicate_paragraph_chars": 0.20,
        "filters.texts.repetition.max_duplicate_lines": 0.30,
        "filters.texts.repetition.max_duplicate_line_chars": 0.20,
        "filters.texts.repetition.max_top_2_gram": 0.20,
        "filters.texts.repetition.max_top_3_gram": 0.18,
        "filters.texts.repetition.max_top_4_gram": 0.16,
        "filters.texts.repetition.max_duplicate_5_grams": 0.15,
        "filters.texts.repetition.max_duplicate_6_grams": 0.14,
        "filters.texts.repetition.max_duplicate_7_grams": 0.13,
        "filters.texts.repetition.max_duplicate_8_grams": 0.12,
        "filters.texts.repetition.max_duplicate_9_grams": 0.11,
        "filters.texts.repetition.max_duplicate_10_grams": 0.10,
        "filters.texts.page.max_flagged_words": 0.01,
    },
    "obelics": OFF
    | {
        "filters.texts.paragraph.min_words": 4,
        "filters.texts.paragraph.max_words": 1_000,
        "filters.texts.paragraph.max_char_repetition": 0.1,
        "filters.texts.paragraph.max_word_repetition": 0.1,
        "filters.texts.paragraph.max_special_chars": 0.3,
        "filters.texts.paragraph.min_stop_words": 0.3,
        "filters.texts.paragraph.max_flagged_words": 0.01,
        "filters.texts.paragraph.min_punctuation": 0.001,
        "filters.texts.page.min_words": 10,
        "filters.texts.page.max_words": 2_000,
        "filters.texts.page.max_char_repetition": 0.1,
        "filters.texts.page.max_word_repetition": 0.2,
        "filters.texts.page.max_special_chars": 0.275,
        "filters.texts.page.min_stop_words": 0.35,
        "filters.texts.page.max_flagged_words": 0.01,
        "filters.texts.page.min_punctuation": 0.03,
    },
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is left of a page's texts, and why the rest is not.

    `kept` are places in the texts that were judged, `dropped` places and reasons of the paragraphs left out;
    `refusal` is that of the page by what is left of it.
    """

    kept: tuple[int, ...]
    dropped: tuple[tuple[int, Refusal], ...]
    refusal: Refusal | None


def judge_texts(texts: Sequence[str], rules: TextRules, flagged: frozenset[str] = FLAGGED_WORDS) -> Verdict:
    """Judge each paragraph of a page, and then the page by those that are left."""
    dropped: list[tuple[int, Refusal]] = []
    kept = list(range(len(texts)))
    if rules.paragraph != NO_PROSE:
        judged = [judge_paragraph(text, rules.paragraph, flagged) for text in texts]
        kept = [place for place, refusal in enumerate(judged) if refusal is None]
        dropped = [(place, refusal) for place, refusal in enumerate(judged) if refusal is not None]
    left = [texts[place] for place in kept]
    refusal = (
        judge_quality(left, rules.quality)
        or judge_repetition(left, rules.repetition)
        or judge_prose(left, rules.page, flagged)
    )
    return Verdict(tuple(kept), tuple(dropped), refusal)


# --- Gopher ----------------------------------------------------------------------------------------------------------


def judge_quality(texts: Sequence[str], rules: QualityRules) -> Refusal | None:
    """Judge a page by Gopher's rules of quality; `None` keeps it."""
    text = "\n".join(texts)
    words = text.split()
    return (
        judge_length(len(words), rules.min_words, rules.max_words)
        or judge_words(text, words, rules)
        or judge_lines([line for line in text.split("\n") if line.strip()], rules)
        or judge_vocabulary(words, rules)
    )


def judge_length(words: int, least: int, most: int) -> Refusal | None:
    """Judge a text by the number of its words."""
    if words < least:
        return Refusal(TOO_FEW_WORDS, f"{words} words, at least {least}")
    if most and words > most:
        return Refusal(TOO_MANY_WORDS, f"{words} words, at most {most}")
    return None


def judge_words(text: str, words: Sequence[str], rules: QualityRules) -> Refusal | None:
    """Judge a text by the mean length of its words, and by symbols a word."""
    if not words:
        return None
    mean = sum(map(len, words)) / len(words)
    if mean < rules.min_mean_word_chars:
        return Refusal(WORDS_TOO_SHORT, f"{mean:.2f} characters a word, at least {rules.min_mean_word_chars:g}")
    if rules.max_mean_word_chars and mean > rules.max_mean_word_chars:
        return Refusal(WORDS_TOO_LONG, f"{mean:.2f} characters a word, at most {rules.max_mean_word_chars:g}")
    hashes = text.count("#") / len(words)
    if rules.max_hashes and hashes > rules.max_hashes:
        return Refusal(TOO_MANY_HASHES, f"{hashes:.3f} hash signs a word, at most {rules.max_hashes:g}")
    ellipses = sum(map(text.count, ELLIPSES)) / len(words)
    if rules.max_ellipses and ellipses > rules.max_ellipses:
        return Refusal(TOO_MANY_ELLIPSES, f"{ellipses:.3f} ellipses a word, at most {rules.max_ellipses:g}")
    return None


def judge_lines(lines: Sequence[str], rules: QualityRules) -> Refusal | None:
    """Judge a text by how its lines begin and end."""
    if not lines:
        return None
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines) / len(lines)
    if rules.max_bullet_lines and bullets > rules.max_bullet_lines:
        return Refusal(TOO_MANY_BULLETS, f"{bullets:.3f} of the lines, at most {rules.max_bullet_lines:g}")
    cut = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)
    if rules.max_ellipsis_lines and cut > rules.max_ellipsis_lines:
        return Refusal(TOO_MANY_ELLIPSIS_LINES, f"{cut:.3f} of the lines, at most {rules.max_ellipsis_lines:g}")
    return None


def judge_vocabulary(words: Sequence[str], rules: QualityRules) -> Refusal | None:
    """Judge a text by its words with a letter, and by how many of Gopher's stop words it has."""
    if words and rules.min_words_with_letter:
        share = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words) / len(words)
        if share < rules.min_words_with_letter:
            return Refusal(TOO_FEW_LETTERS, f"{share:.3f} of the words, at least {rules.min_words_with_letter:g}")
    # Most pages have them as they stand, and need no look at every word.
    if len(GOPHER_STOP_WORDS.intersection(words)) < rules.min_stop_words:
        found = len(GOPHER_STOP_WORDS.intersection(bare_words(" ".join(words))))
        if found < rules.min_stop_words:
            return Refusal(TOO_FEW_STOP_WORDS, f"{found} different ones, at least {rules.min_stop_words}")
    return None


# --- OBELICS ---------------------------------------------------------------------------------------------------------

NO_PROSE = ProseRules()


def judge_paragraph(text: str, rules: ProseRules, flagged: frozenset[str] = FLAGGED_WORDS) -> Refusal | None:
    """Judge a paragraph; one of few words and marks is not judged by its punctuation."""
    return judge_prose([text], rules, flagged, MIN_TOKENS)


def judge_prose(
    texts: Sequence[str], rules: ProseRules, flagged: frozenset[str] = FLAGGED_WORDS, min_tokens: int = 0
) -> Refusal | None:
    """Judge the text of a page or paragraph by OBELICS's rules, the cheap ones first; `None` keeps it.

    Fewer than `min_tokens` words and marks are not judged by the share of marks.
    """
    if rules == NO_PROSE:
        return None
    text = "\n\n".join(texts)
    words = bare_words(text)
    return (
        judge_length(len(words), rules.min_words, rules.max_words)
        or judge_characters(text, len(words), rules, min_tokens)
        or judge_listed(words, rules, flagged)
        or judge_repeated(text, words, rules)
    )


def judge_characters(text: str, words: int, rules: ProseRules, min_tokens: int) -> Refusal | None:
    """Judge a text by its characters that are no letters, and by its punctuation."""
    if text and rules.max_special_chars:
        specials = count_specials(text) / len(text)
        if specials > rules.max_special_chars:
            return Refusal(TOO_MANY_SPECIALS, f"{specials:.3f} of the characters, at most {rules.max_special_chars:g}")
    if rules.min_punctuation:
        marks = sum(map(text.count, MARKS))
        tokens = words + marks
        if tokens >= max(1, min_tokens) and marks / tokens < rules.min_punctuation:
            detail = f"{marks / tokens:.4f} of words and marks, at least {rules.min_punctuation:g}"
            return Refusal(TOO_LITTLE_PUNCTUATION, detail)
    return None


def count_specials(text: str) -> int:
    """Count the characters that are neither a letter nor a mark on one, such as a vowel sign."""
    ascii_only = text.encode("ascii", "ignore")
    specials = len(ascii_only.translate(None, ASCII_LETTERS))
    if len(ascii_only) == len(text):
        return specials
    others = Counter(NOT_ASCII.findall(text))
    return specials + sum(count for char, count in others.items() if unicodedata.category(char)[0] not in "LM")


def judge_listed(words: Sequence[str], rules: ProseRules, flagged: frozenset[str]) -> Refusal | None:
    """Judge a text by its share of stop words and of flagged words."""
    if not words:
        return None
    if rules.min_stop_words:
        share = sum(map(STOP_WORDS.__contains__, words)) / len(words)
        if share < rules.min_stop_words:
            return Refusal(LOW_STOP_WORD_RATIO, f"{share:.3f} of the words, at least {rules.min_stop_words:g}")
    if rules.max_flagged_words:
        share = sum(map(flagged.__contains__, words)) / len(words)
        if share > rules.max_flagged_words:
            return Refusal(FLAGGED_TEXT, f"{share:.3f} of the words, at most {rules.max_flagged_words:g}")
    return None


def judge_repeated(text: str, words: Sequence[str], rules: ProseRules) -> Refusal | None:
    """Judge a text by what its runs of words and of characters repeat."""
    if rules.max_word_repetition:
        share = word_repetition(words)
        if share > rules.max_word_repetition:
            return Refusal(REPEATED_WORDS, f"{share:.3f} of the 5-grams, at most {rules.max_word_repetition:g}")
    if rules.max_char_repetition:
        share = char_repetition(hash_char_grams(text))
        if share > rules.max_char_repetition:
            return Refusal(REPEATED_CHARS, f"{share:.3f} of the 10-grams, at most {rules.max_char_repetition:g}")
    return None
