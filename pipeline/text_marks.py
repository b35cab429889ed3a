"""What a text shows at a glance: how it ends, the signs it holds, its commas, whether a sentence ends in it.

    texts of a page → mark_texts → positions for each of MARKS

Most signs stand on few pages and in few texts, so that looking for them by plain search comes before any regex.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

SENTENCE = re.compile(r"[.!?…。！？][\"'”»’)\]]*(?:\s|$)|[。！？]")
STOPS = ".!?…。！？"
ENDING = re.compile(r"[.!?…。！？:;][\"'”»’)\]]*$")
ENDS, CLOSES = ".!?…。！？:;", "\"'”»’)]"
DOTS = ("…", "...", "[…]")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
CLOCK = re.compile(r"\b\d?\d:\d\d\b")
SERVICE = re.compile(r"\bcookies?\b|newsletter|javascript|subscri|abonn|privacy|datenschutz")
SERVICE_WORDS = ("cookie", "newsletter", "javascript", "subscri", "abonn", "privacy", "datenschutz")
"""Words of notices and offers of the site, in a few languages."""

SEPARATORS = "|›»→•·"
COMMAS = ",，、"
SHORT_CHARS = 80
NOTICE_CHARS = 400

MARKS = ("ends", "copyright", "separators", "dots", "dated", "timed", "service", "announces")


def mark_texts(texts: list[str], page: str) -> list[list[int]]:
    """Find the texts that end in a certain way or hold certain signs: positions for each of `MARKS`.

    Signs are first looked for in the whole `page`, all texts in one: most pages hold few. A regex is tried only where
    the signs it needs are there.
    """
    lasts = [(place, text[-1]) for place, text in enumerate(texts) if text]
    short = [(place, text) for place, text in enumerate(texts) if text and len(text) < SHORT_CHARS]
    return [
        [i for i, last in lasts if last in ENDS or (last in CLOSES and ENDING.search(texts[i][-4:]))],
        find_signs(texts, page, "©"),
        find_signs(texts, page, SEPARATORS),
        [i for i, last in lasts if last in "….]" and texts[i].endswith(DOTS)],
        [i for i, text in short if ("19" in text or "20" in text) and YEAR.search(text)],
        [i for i, text in short if ":" in text and CLOCK.search(text)],
        find_notices(texts),
        [i for i, text in short if text[-1] == ":"],
    ]


def find_signs(texts: list[str], page: str, signs: str) -> list[int]:
    """Find the texts that hold one of some signs."""
    return [place for sign in signs if sign in page for place, text in enumerate(texts) if sign in text]


def find_notices(texts: list[str]) -> list[int]:
    """Find the short texts that hold a word of a notice or an offer of the site."""
    short = [text if len(text) < NOTICE_CHARS else "" for text in texts]
    page = "\n".join(short).encode(errors="replace").lower()
    held = [word for word in SERVICE_WORDS if word.encode() in page]
    lower = [text.lower() for text in short] if held else []
    return [place for word in held for place, text in enumerate(lower) if word in text and SERVICE.search(text)]


def count_commas(texts: list[str], page: str) -> npt.NDArray[np.int64]:
    """Count the commas of each text, Chinese ones included."""
    counts = np.zeros(len(texts), dtype=np.int64)
    for comma in COMMAS:
        if comma in page:
            counts += [text.count(comma) for text in texts]
    return counts


def holds_sentence(text: str) -> bool:
    """Say whether a sentence ends in a text; most texts that hold one show it at a glance."""
    return text[-1] in STOPS or ". " in text or SENTENCE.search(text) is not None
