"""Pairs: all texts of a picture → the one that says best what it shows, or a `Refusal`.

    Said.text → clean_text → (count of the pictures that share it) → choose_text → index | Refusal
                                                                        └ judge_text, one text at a time

Two presets. `ltip` wants sentences that describe (SPEC-corpus 1: long and clean): printed captions first. `align` takes
alt texts by the rules of ALIGN (arXiv 2102.05918, section 3). Everything here is a pure function of its arguments.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.nesting import words
from pipeline.pair_texts import BOILERPLATE, NOISE, nothing_said
from schemas.document import ALT, CAPTION, DESCRIPTION, FIGCAPTION, GALLERY, TITLE, Said
from schemas.page import Refusal

NO_TEXT = "no_text"
"""The picture has no text of a kind that the preset takes."""
TOO_MANY_TEXTS = "too_many_texts"
SHARED = "shared"
NO_WORDS = "no_words"
"""Numbers, codes and formulas, few words among them: what ALIGN calls rare tokens, told by their shape."""
TOO_FEW_WORDS = "too_few_words"
TOO_MANY_WORDS = "too_many_words"
NOT_DESCRIPTIVE = "not_descriptive"
"""No article, preposition or verb: a name, a heading or a list of key words."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a preset takes: kinds from the best to the last, words, and whether they must make a phrase."""

    kinds: tuple[str, ...]
    min_words: int
    max_words: int
    phrases: bool


PRESETS: Mapping[str, Preset] = {
    "ltip": Preset((FIGCAPTION, CAPTION, DESCRIPTION, ALT, TITLE, GALLERY), min_words=4, max_words=100, phrases=True),
    "align": Preset((ALT,), min_words=3, max_words=20, phrases=False),
}
NONE = "none"


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Which pictures become pairs, by their texts."""

    preset: str = NONE
    """none (no pairs are written), ltip (captions that describe) or align (alt texts, noisy; arXiv 2102.05918)."""
    min_words: int = 0
    """Words, at least, not counting a label such as Fig. 1; 0 for the preset's number (ltip 4, align 3)."""
    max_words: int = 0
    """Words, at most; 0 for the preset's number (ltip 100, align 20)."""
    max_pictures: int = 10
    """Pictures that may share a text, at most (ALIGN, section 3)."""
    max_texts: int = 1_000
    """Different texts that a picture may have, at most (ALIGN, section 3)."""

    def __post_init__(self) -> None:
        if self.preset not in (NONE, *PRESETS):
            raise ValueError(f"preset is one of {NONE}, {', '.join(PRESETS)}, not {self.preset!r}")
        if self.min_words < 0 or self.max_words < 0:
            raise ValueError("min_words and max_words are 0 or more")
        if self.max_pictures < 1 or self.max_texts < 1:
            raise ValueError("max_pictures and max_texts are 1 or more")


# --- choosing --------------------------------------------------------------------------------------------------------


def choose_text(candidates: Sequence[tuple[Said, int, str]], config: PairConfig) -> int | Refusal:
    """Choose among (cleaned text, pictures that share it, page's URL) by index, or say why none will do.

    The order: the kind that the preset likes best, the text that fewest pictures share, the longest; then by page and
    text, so that the order of arrival decides nothing. Where none will do, the reason is that of the first. The preset
    is not `none`.
    """
    preset = PRESETS[config.preset]
    if len({said.text for said, _, _ in candidates}) > config.max_texts:
        return Refusal(TOO_MANY_TEXTS, f"above {config.max_texts}")

    def order(index: int) -> tuple[int, int, int, str, str]:
        said, pictures, page = candidates[index]
        return preset.kinds.index(said.kind), pictures, -len(said.text), page, said.text

    first: Refusal | None = None
    for index in sorted((i for i, one in enumerate(candidates) if one[0].kind in preset.kinds), key=order):
        said, pictures, _ = candidates[index]
        refusal = judge_text(said.kind, said.text, pictures, config)
        if refusal is None:
            return index
        first = first or refusal
    return first or Refusal(NO_TEXT, f"wanted: {', '.join(preset.kinds)}")


MAX_DETAIL_CHARS = 80


def judge_text(kind: str, text: str, pictures: int, config: PairConfig) -> Refusal | None:
    """Judge a cleaned text that `pictures` pictures share; `None` takes it."""
    preset = PRESETS[config.preset]
    least, most = config.min_words or preset.min_words, config.max_words or preset.max_words
    if kind not in preset.kinds:
        return Refusal(NO_TEXT, f"{kind} is not wanted")
    if not text:
        return Refusal(NO_TEXT)
    if reason := nothing_said(text):
        return Refusal(reason, text[:MAX_DETAIL_CHARS])
    if pictures > config.max_pictures:
        return Refusal(SHARED, f"above {config.max_pictures} pictures")
    if noise := NOISE.search(text):
        return Refusal(BOILERPLATE, noise[0])
    label = PRINTED_LABEL.match(text)
    tokens = tokens_of(text[label.end() :] if label else text)
    count = sum(map(count_words, tokens))
    if count > most or len(tokens) > most:
        return Refusal(TOO_MANY_WORDS, f"{max(count, len(tokens))} words, at most {most}")
    if len(tokens) > 2 * count or CODE.search(text):
        return Refusal(NO_WORDS, text[:MAX_DETAIL_CHARS])
    if count < least:
        return Refusal(TOO_FEW_WORDS, f"{count} words, at least {least}")
    if preset.phrases and not is_phrase(tokens):
        return Refusal(NOT_DESCRIPTIVE, text[:MAX_DETAIL_CHARS])
    return None


# --- words by their shape --------------------------------------------------------------------------------------------

PRINTED_LABEL = re.compile(
    r"\s*(?:fig(?:ure|ura)?|abb(?:ildung)?|plate|pl|taf(?:el)?|tav(?:ola)?|planche|lám(?:ina)?|map|chart|bild)\b\.?\s?"
    r"(?:\d+|[IVXLC]+\b)(?:\.?[a-z]\b)?[\s.:)–—-]*",
    re.IGNORECASE,
)
DASHES = re.compile(r"[\s/–—-]+")
EDGES = "!\"#$%&'()*+,.:;<=>?@[\\]^_`{|}~«»¡¿…´·‹›°№†½⅓¼⅔¾，。、（）「」"
INNER = str.maketrans("", "", "'’´·ʹ")
MAX_WORD_CHARS = 40
VOWELS = frozenset("aeiouyæøœıə")
LAST_LATIN = "\u024f"
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Letters of scripts that set no spaces between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese)."""
UNSPACED_CHARS_PER_WORD = 2
CODE = re.compile(r"\\[a-z]{2}|[{}]{2}|\b[0-9a-f]{16}|https?:|www\.|\w@\w|\w=\w|\w_\w|[!-~]{61}", re.IGNORECASE)
"""TeX, hashes, addresses, parameters, identifiers."""


def tokens_of(text: str) -> list[str]:
    """Split a text at white space and dashes; what holds no letter or digit is no token."""
    found = (token.strip(EDGES) or token for token in DASHES.split(text))
    return [token for token in found if any(map(str.isalnum, token))]


def count_words(token: str) -> int:
    """Count the words that a token is by its shape: 1 or 0, more in scripts without spaces."""
    if unspaced := len(UNSPACED.findall(token)):
        return -(-unspaced // UNSPACED_CHARS_PER_WORD)
    letters = token.translate(INNER)
    if not letters.isalpha() or len(letters) > MAX_WORD_CHARS:
        return 0
    if not (letters[1:].islower() or letters.isupper() or len(letters) == 1 or not is_latin(letters)):
        return 0
    return int(not is_latin(letters) or not VOWELS.isdisjoint(unicodedata.normalize("NFD", letters.lower())))


def is_latin(token: str) -> bool:
    """Say whether a token begins in Latin script."""
    return token[0] <= LAST_LATIN or "\u1e00" <= token[0] <= "\u1eff"


FUNCTION_WORDS = words(
    # Articles, prepositions and verbs; English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Czech.
    "a an the this these his her its their of in on at by for from with to into onto over under near beside between"
    " through during after before against along among amongst across around behind above below inside outside without"
    " as is are was were has have had can will holds stands sits shows wears shown seen made holding standing sitting"
    " wearing showing looking playing walking running reading working talking making using eating riding driving"
    " cooking preparing serving treating growing flying swimming smiling posing depicting representing"
    " der die das den dem des ein eine einen einem einer eines im am zum zur vom beim ins mit von aus bei nach auf für"
    " über unter gegen durch vor hinter neben zwischen ohne zu ist sind war waren wird werden wurde wurden hat haben"
    " sitzt steht zeigt kann können"
    " le la les un une du au aux dans sur sous avec pour par chez entre sans vers est sont été"
    " el los las una unos del al en con por para sobre entre sin desde hasta es son fue está"
    " il lo gli uno dei della delle nel nella sul sulla dal dalla di da con per tra fra è sono"
    " os um uma do da dos das no na nos nas em com são foi"
    " het een van voor met op uit bij naar te zijn werd"
    " w we z ze na do od po przy nad pod przed dla jest są ve se za pro je jsou"
)
MIN_LATIN_SHARE = 0.5


def is_phrase(tokens: Sequence[str]) -> bool:
    """Say whether words make a phrase: one is an article, preposition or verb; other scripts pass unjudged."""
    latin = sum(map(is_latin, tokens))
    lowered = (token.casefold() for token in tokens)
    return latin < MIN_LATIN_SHARE * len(tokens) or any(
        token in FUNCTION_WORDS or token.startswith(("l'", "d'", "dell'", "all'", "nell'")) for token in lowered
    )
