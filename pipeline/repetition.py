"""A page's paragraphs → how much of them is said twice, and Gopher's judgement of it.

In: a sequence of paragraphs, or words or characters of one. Out: shares from 0 to 1, or a `Refusal`; `None` keeps the
page. The text of a page is its paragraphs joined by an empty line, and shares of characters are shares of that text. A
word is what stands between white space.

N-grams are numbers, not strings. An n-gram of words can only be repeated where both the (n-1)-gram and the word are, so
each length looks at the places that the length before it left: ordinary prose has few after three words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.page import Refusal

DUPLICATE_PARAGRAPHS = "duplicate_paragraphs"
DUPLICATE_PARAGRAPH_CHARS = "duplicate_paragraph_chars"
DUPLICATE_LINES = "duplicate_lines"
DUPLICATE_LINE_CHARS = "duplicate_line_chars"
TOP_2_GRAM = "top_2_gram"
TOP_3_GRAM = "top_3_gram"
TOP_4_GRAM = "top_4_gram"
DUPLICATE_5_GRAMS = "duplicate_5_grams"
DUPLICATE_6_GRAMS = "duplicate_6_grams"
DUPLICATE_7_GRAMS = "duplicate_7_grams"
DUPLICATE_8_GRAMS = "duplicate_8_grams"
DUPLICATE_9_GRAMS = "duplicate_9_grams"
DUPLICATE_10_GRAMS = "duplicate_10_grams"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RepetitionRules:
    """How much of a page may be repeated: shares, at most; 0 turns a rule off. The numbers are Gopher's, table A1."""

    max_duplicate_paragraphs: float = 0.30
    """Paragraphs that stood before, of all paragraphs."""
    max_duplicate_paragraph_chars: float = 0.20
    """Characters of paragraphs that stood before, of the text's."""
    max_duplicate_lines: float = 0.30
    """Lines that stood before, of all lines that are not empty."""
    max_duplicate_line_chars: float = 0.20
    """Characters of lines that stood before, of the text's."""
    max_top_2_gram: float = 0.20
    """Characters of the most frequent run of 2 words, each time it occurs, of the text's."""
    max_top_3_gram: float = 0.18
    """The same of 3 words."""
    max_top_4_gram: float = 0.16
    """The same of 4 words."""
    max_duplicate_5_grams: float = 0.15
    """Characters of words in runs of 5 that stood before, none counted twice, of the text's."""
    max_duplicate_6_grams: float = 0.14
    """The same of 6 words."""
    max_duplicate_7_grams: float = 0.13
    """The same of 7 words."""
    max_duplicate_8_grams: float = 0.12
    """The same of 8 words."""
    max_duplicate_9_grams: float = 0.11
    """The same of 9 words."""
    max_duplicate_10_grams: float = 0.10
    """The same of 10 words."""

    def tops(self) -> tuple[tuple[int, float, str], ...]:
        """List the rules of the most frequent n-gram: n, the largest share and the reason."""
        return (
            (2, self.max_top_2_gram, TOP_2_GRAM),
            (3, self.max_top_3_gram, TOP_3_GRAM),
            (4, self.max_top_4_gram, TOP_4_GRAM),
        )

    def duplicates(self) -> tuple[tuple[int, float, str], ...]:
        """List the rules of duplicate n-grams: n, the largest share and the reason."""
        return (
            (5, self.max_duplicate_5_grams, DUPLICATE_5_GRAMS),
            (6, self.max_duplicate_6_grams, DUPLICATE_6_GRAMS),
            (7, self.max_duplicate_7_grams, DUPLICATE_7_GRAMS),
            (8, self.max_duplicate_8_grams, DUPLICATE_8_GRAMS),
            (9, self.max_duplicate_9_grams, DUPLICATE_9_GRAMS),
            (10, self.max_duplicate_10_grams, DUPLICATE_10_GRAMS),
        )


def judge_repetition(texts: Sequence[str], rules: RepetitionRules) -> Refusal | None:
    """Judge a page by what its paragraphs, lines and words repeat; `None` keeps it (Gopher, table A1)."""
    paragraphs = [text for text in texts if text.strip()]
    chars = sum(map(len, paragraphs)) + 2 * (len(paragraphs) - 1)
    if not paragraphs:
        return None
    lines = [line for text in paragraphs for line in text.split("\n") if line]
    return judge_duplicates(paragraphs, lines, chars, rules) or judge_grams(paragraphs, chars, rules)


def judge_duplicates(
    paragraphs: Sequence[str], lines: Sequence[str], chars: int, rules: RepetitionRules
) -> Refusal | None:
    """Judge a page by its duplicate paragraphs and lines."""
    by_paragraph, by_line = duplicate_shares(paragraphs, chars), duplicate_shares(lines, chars)
    for share, most, reason, what in (
        (by_paragraph[0], rules.max_duplicate_paragraphs, DUPLICATE_PARAGRAPHS, "of the paragraphs"),
        (by_paragraph[1], rules.max_duplicate_paragraph_chars, DUPLICATE_PARAGRAPH_CHARS, "of the characters"),
        (by_line[0], rules.max_duplicate_lines, DUPLICATE_LINES, "of the lines"),
        (by_line[1], rules.max_duplicate_line_chars, DUPLICATE_LINE_CHARS, "of the characters"),
    ):
        if most and share > most:
            return Refusal(reason, f"{share:.3f} {what}, at most {most:g}")
    return None


def duplicate_shares(parts: Sequence[str], chars: int) -> tuple[float, float]:
    """Give the share of parts that stood before, and that of their characters among `chars`."""
    first = set(parts)
    if len(first) == len(parts):
        return 0.0, 0.0
    again = sum(map(len, parts)) - sum(map(len, first))
    return (len(parts) - len(first)) / len(parts), again / chars


def judge_grams(paragraphs: Sequence[str], chars: int, rules: RepetitionRules) -> Refusal | None:
    """Judge a page by its repeated runs of words, the short ones first."""
    words = [word for text in paragraphs for word in text.split()]
    tops = {n: (most, reason) for n, most, reason in rules.tops() if most}
    duplicates = {n: (most, reason) for n, most, reason in rules.duplicates() if most}
    wanted = tops | duplicates
    if not wanted:
        return None
    ends = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=ends[1:])
    for n, places, groups in repeated_grams(words, max(wanted)):
        if n not in wanted:
            continue
        most, reason = wanted[n]
        found = top_chars(n, places, groups, ends) if n in tops else duplicate_chars(n, places, groups, ends)
        if found > most * chars:
            what = f"of the characters in the most frequent run of {n} words"
            if n in duplicates:
                what = f"of the characters in runs of {n} words that stood before"
            return Refusal(reason, f"{found / chars:.3f} {what}, at most {most:g}")
    return None


def repeated_grams(words: Sequence[str], longest: int) -> Iterator[tuple[int, Ints, Ints]]:
    """Find the n-grams that occur more than once: for n from 2, their places in rising order and each place's group.

    Groups are whole numbers, equal where the n-grams are. Every length that the words have room for is given.
    """
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    places, groups = np.arange(len(words)), ids
    for n in range(2, min(longest, len(words)) + 1):
        if places.size:
            if places[-1] + n > len(words):
                places, groups = places[:-1], groups[:-1]
            places, groups = regroup(places, groups * len(numbers) + ids[places + n - 1])
        yield n, places, groups


def regroup(places: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """Keep the places whose key is not alone, and number the keys anew from 0."""
    order = keys.argsort(kind="stable")
    ordered = keys[order]
    new = np.empty(ordered.size + 1, dtype=bool)
    new[0] = new[-1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    repeated = ~(new[1:] & new[:-1])
    kept = order[repeated]
    groups = new[:-1].cumsum()[repeated]
    back = kept.argsort()
    return places[kept[back]], groups[back]


def top_chars(n: int, places: Ints, groups: Ints, ends: Ints) -> int:
    """Count the characters of the most frequent n-gram, its words joined by spaces; of equals the first one counts."""
    if not places.size:
        return int(ends[n]) + n - 1
    counts = np.bincount(groups)[groups]
    first = places[counts.argmax()]
    return int(counts.max() * (ends[first + n] - ends[first] + n - 1))


def duplicate_chars(n: int, places: Ints, groups: Ints, ends: Ints) -> int:
    """Count the characters of words in n-grams that stood before, read from the left.

    After an n-gram that stood before, reading goes on behind it, so that no character counts twice. An n-gram that
    begins inside another that stood before is not read, and so has not stood anywhere.
    """
    chars = 0
    read: set[int] = set()
    behind = 0
    for place, group in zip(places.tolist(), groups.tolist(), strict=True):
        if place < behind:
            continue
        if group in read:
            chars += int(ends[place + n] - ends[place])
            behind = place + n
        else:
            read.add(group)
    return chars


# --- OBELICS ---------------------------------------------------------------------------------------------------------

CHAR_GRAM = 10
"""Characters of the n-grams of OBELICS's rule."""
WORD_GRAM = 5
"""Words of the n-grams of OBELICS's rule."""
POWERS = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 1 << 64)) for power in (1, 2, 4))
"""Of an odd number, so that nothing of a character is lost, whose bits spread those of small numbers."""


def hash_char_grams(text: str) -> npt.NDArray[np.uint64]:
    """Hash every run of 10 characters to 64 bits; a million different ones share a hash with a chance of 10^-7."""
    if len(text) < CHAR_GRAM:
        return np.empty(0, dtype=np.uint64)
    one = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    # The polynomial of a run from those of its halves: four steps and not nine.
    two = one[:-1] * POWERS[0] + one[1:]
    four = two[:-2] * POWERS[1] + two[2:]
    eight = four[:-4] * POWERS[2] + four[4:]
    return eight[:-2] * POWERS[1] + two[8:]


def char_repetition(hashes: npt.NDArray[np.uint64]) -> float:
    """Give the share of the most frequent runs of 10 characters: as many as the root of the number of different ones.

    Runs that occur once do not count (the measure of ROOTS and OBELICS).
    """
    if not hashes.size:
        return 0.0
    ordered = np.sort(hashes)
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    if starts.size + 1 == ordered.size:
        return 0.0
    counts = np.diff(starts, prepend=0, append=ordered.size)
    several = np.sort(counts[counts > 1])[::-1]
    return float(several[: isqrt(counts.size)].sum() / ordered.size)


def word_repetition(words: Sequence[str]) -> float:
    """Give the share of the runs of 5 words that occur more than once (the measure of OBELICS)."""
    grams: list[Any] = list(zip(*(words[start:] for start in range(WORD_GRAM)), strict=False))
    if len(set(grams)) == len(grams):
        return 0.0
    return sum(count for count in Counter(grams).values() if count > 1) / len(grams)
