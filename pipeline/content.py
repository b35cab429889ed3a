"""The choice: the pieces of a page → those that are content, pictures resolved to what they refer to.

    Tree, Reading → choose → [Chosen, ...]

Texts are weighed by `features`, pictures by `picture_features`; the weights are `weights.toml`, a table that
`bench/fit_extraction.py` learns from pages annotated by people. A chance is the logistic function of the weighted sum.
A caption is content where its picture is.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

import numpy as np

from pipeline.dom import Tree
from pipeline.features import FEATURES, Floats, Measured, measure
from pipeline.names import CHROME, is_credit, names_credit, starts_credit
from pipeline.nesting import words
from pipeline.picture_features import PICTURE_FEATURES, Candidate, measure_pictures
from pipeline.pictures import find_image, find_video
from pipeline.pieces import Chosen, Frame, Piece, Reading, figure_of
from pipeline.reading import HEADINGS, IMAGES
from schemas.document import ImageRef, Item, Text


@dataclass(frozen=True, slots=True)
class Weights:
    """What each feature adds to the log odds of being content, and the chance from which a piece is content."""

    features: Floats
    bias: float
    threshold: float

    def chances(self, matrix: Floats) -> Floats:
        """Turn features [rows, features] into chances [rows]."""
        odds: Floats = matrix @ self.features + self.bias
        return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


@cache
def load_weights() -> tuple[Weights, Weights]:
    """Read the weights of texts and of pictures."""
    with resources.files("pipeline").joinpath("weights.toml").open("rb") as stream:
        tables = tomllib.load(stream)
    return read_weights(tables["text"], FEATURES), read_weights(tables["picture"], PICTURE_FEATURES)


def read_weights(table: dict[str, float], names: tuple[str, ...]) -> Weights:
    """Read one table of weights; it has a row for each feature and no other."""
    extra = table.keys() ^ {*names, "bias", "threshold"}
    assert not extra, f"weights.toml and the features differ in {sorted(extra)}"
    return Weights(np.array([table[name] for name in names]), table["bias"], table["threshold"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a choice depends on beside the reading: the base of references, the wanted width, and what the head says.

    `announced` holds the stems of the pictures that the head names as the page's own (`picture_features.stem_of`).
    """

    base: str
    image_width_px: int
    title: str = ""
    announced: frozenset[str] = frozenset()


def choose(tree: Tree, reading: Reading, wanted: Wanted, weights: tuple[Weights, Weights]) -> list[Chosen]:
    """Choose the content of a page, in reading order; `weights` are those of texts and of pictures."""
    if not reading.pieces:
        return []
    for_texts, for_pictures = weights
    measured = measure(tree, reading, wanted.title)
    chances = spread_to_captions(reading, for_texts.chances(measured.matrix))
    if measured.chars.sum() < FEW_CHARS or not (chances >= for_texts.threshold).any():
        chances = (chances + plain_chances(measured)) / 2
    kept: dict[int, Item] = {
        position: Text(reading.pieces[position].text)
        for position in complete(reading, measured, chances, for_texts.threshold, wanted.title)
    }
    pictures = choose_pictures(tree, reading, wanted, measured, chances, kept, for_pictures)
    keep_captions(reading, kept, pictures)
    kept |= pictures
    for position, piece in enumerate(reading.pieces):
        if not piece.text and tree.tags[piece.node] not in IMAGES and stands_in_content(reading, kept, position):
            video = find_video(tree, piece.node, wanted.base)
            if video is not None:
                kept[position] = video
    return [describe(tree, reading, kept, position) for position in sorted(kept)]


def describe(tree: Tree, reading: Reading, kept: dict[int, Item], position: int) -> Chosen:
    """Describe where an item stands and what it is."""
    piece = reading.pieces[position]
    frame = reading.frames[piece.frame]
    before, after = kept.get(position - 1), kept.get(position + 1)
    caption = frame.caption or is_set_off(reading, position) or repeats_alt(reading, position, before)
    figure = figure_of(reading, piece)
    # A credit is one beside a picture: anywhere else the same words are text.
    credit = (caption or figure != 0) and (
        is_credit(piece.text) or names_credit(tree.attributes[piece.node].get("class") or "")
    )
    beside_picture = isinstance(before, ImageRef) or isinstance(after, ImageRef)
    bold = beside_picture and is_bold(tree, reading, position)
    in_figure = figure > 0 and tree.tags[figure] == "figure"
    return Chosen(kept[position], frame.node, figure, caption, credit, bold, position, in_figure)


MAX_SET_OFF_CHARS = 200
"""Characters up to which a text in italics right after a picture is its caption, and one in bold a line of its own."""


def is_set_off(reading: Reading, position: int) -> bool:
    """Say whether a text right after a picture is set off as a caption: short, and all in italics or small print."""
    piece = reading.pieces[position]
    if not piece.set_off or position == 0 or reading.pieces[position - 1].text:
        return False
    short = len(piece.text) <= MAX_SET_OFF_CHARS and reading.frames[piece.frame].tag not in HEADINGS
    return short and piece.set_off >= len(piece.text) - piece.text.count(" ")


BOLD = words("b strong")
BOLD_REACH = 8
"""Nodes into a block among which what makes it bold is looked for, and texts that this holds."""


def is_bold(tree: Tree, reading: Reading, position: int) -> bool:
    """Say whether a text is short, begins its block and is all in bold."""
    piece = reading.pieces[position]
    if 0 < len(piece.text) <= MAX_SET_OFF_CHARS and reading.frames[piece.frame].first == position:
        for node in range(piece.node + 1, min(tree.ends[piece.node], piece.node + BOLD_REACH)):
            if tree.tags[node] in BOLD:
                inside = tree.texts[node + 1 : min(tree.ends[node], node + BOLD_REACH)]
                return " ".join("".join(inside).split()) == piece.text
    return False


def repeats_alt(reading: Reading, position: int, before: Item | None) -> bool:
    """Say whether a text says what the `alt` of the picture right before it says, and is neither heading nor link."""
    piece = reading.pieces[position]
    if not isinstance(before, ImageRef) or reading.frames[piece.frame].tag in HEADINGS:
        return False
    said = plain_words(piece.text)
    return said != "" and said == plain_words(before.alt) and 2 * piece.linked < len(piece.text)


def plain_words(text: str) -> str:
    """Fold white space and case, and leave out the full stop."""
    return " ".join(text.casefold().split()).rstrip(" .")


LIKELY = 0.25
"""Chance from which a text is content where its neighbours or its siblings are."""
MAX_GAP = 6
"""Texts between two that are content up to which these are its neighbours."""


def complete(reading: Reading, measured: Measured, chances: Floats, threshold: float, title: str) -> list[int]:
    """Choose the texts: good ones, likely ones between or beside these in one container, and headings over them."""
    pieces, frames = reading.pieces, reading.frames
    text, chrome, known = measured.chars > 0, (measured.near & CHROME != 0).tolist(), chances.tolist()
    hopeful = np.flatnonzero(text & (chances >= min(LIKELY, threshold))).tolist()
    hopeful = [position for position in hopeful if not is_control(pieces[position])]
    good = [position for position in hopeful if known[position] >= threshold]
    likely = {position for position in hopeful if is_likely(pieces[position], known[position], chrome[position])}
    chosen, place = set(good), np.cumsum(text).tolist()
    for last, position in pairwise(good):
        if 1 < place[position] - place[last] <= MAX_GAP and around(frames, pieces[position].frame).first <= last:
            chosen |= likely.intersection(range(last + 1, position))
    kinds = {kind_of(frames, pieces[position].frame) for position in good}
    chosen |= {position for position in likely if kind_of(frames, pieces[position].frame) in kinds}
    for position, following in reversed(list(pairwise(np.flatnonzero(text).tolist()))):
        if following in chosen and position not in chosen and not chrome[position]:
            frame = frames[pieces[position].frame]
            if frame.tag in HEADINGS and following < frames[max(frame.outer, 0)].stop:
                chosen.add(position)
    return sorted(chosen | title_heading(reading, sorted(chosen), title))


TITLE_REACH, TITLE_CHARS = 15, 8
"""Pieces before the first text among which the title is looked for, and characters that a title has."""


def title_heading(reading: Reading, chosen: list[int], title: str) -> set[int]:
    """Find the heading before the first text that is the page's title, unless one of the first texts is."""
    if not chosen:
        return set()

    def is_title(position: int) -> bool:
        piece = reading.pieces[position]
        heading = reading.frames[piece.frame].tag in HEADINGS and len(piece.text) >= TITLE_CHARS
        return heading and piece.text.lower() in title.lower()

    before = range(chosen[0] - 1, max(-1, chosen[0] - 1 - TITLE_REACH), -1)
    if any(is_title(position) for position in chosen[:6]):
        return set()
    return set(list(filter(is_title, before))[:1])


def around(frames: list[Frame], number: int) -> Frame:
    """Find the element around the element that a frame stands in."""
    return frames[max(frames[max(frames[number].outer, 0)].outer, 0)]


def kind_of(frames: list[Frame], number: int) -> tuple[str, int]:
    """Name the siblings of a block: those of its tag in the same element."""
    return frames[number].tag, frames[number].outer


def is_control(piece: Piece) -> bool:
    """Say whether a text is no text to read: signs without a letter, a label, a link of a letter or a list of links."""
    text = piece.text
    if piece.linked >= 0.8 * len(text) and (len(text) <= 3 or "\n" in text):
        return True
    return len(text) <= MAX_LABEL_CHARS and (text.strip(" -–:•").lower() in LABELS or not any(map(str.isalnum, text)))


MAX_LABEL_CHARS = 40
LABELS = frozenset(
    ["advertisement", "advertising", "anzeige", "werbung", "publicidad", "publicité", "pubblicità", "reklama"]
)
"""What stands over an advertisement."""


def is_likely(piece: Piece, chance: float, chrome: bool) -> bool:
    """Say whether a text to read may be content where others are."""
    return chance >= LIKELY and not chrome and 2 * piece.linked <= len(piece.text)


FEW_CHARS = 1_000
"""Characters of a page below which it has too little prose to be weighed: what names and links say counts as much."""


def plain_chances(measured: Measured) -> Floats:
    """Judge texts by names and links alone: all is content but what is named otherwise, and links."""
    linked = measured.linked > 0.5 * measured.chars
    return np.where(((measured.near | measured.far) & CHROME != 0) | linked, 0.0, 1.0)


# --- captions --------------------------------------------------------------------------------------------------------

CAPTION_REACH = 8
"""Pieces before and after a caption among which its neighbours are looked for."""


def spread_to_captions(reading: Reading, chances: Floats) -> Floats:
    """Give each caption the chance of the texts around it: it is short and full of names, and yet as good as these."""
    pieces, frames = reading.pieces, reading.frames
    caption = [frames[piece.frame].caption for piece in pieces]
    if not any(caption):
        return chances
    plain = [bool(piece.text) and not caption[position] for position, piece in enumerate(pieces)]
    spread, known = chances.copy(), chances.tolist()
    for position in (place for place, is_one in enumerate(caption) if is_one):
        before = [known[i] for i in range(position - 1, max(-1, position - CAPTION_REACH), -1) if plain[i]][:2]
        after = [known[i] for i in range(position + 1, min(len(pieces), position + CAPTION_REACH)) if plain[i]][:2]
        if before and after:
            spread[position] = min(max(before), max(after))
        else:
            spread[position] = max([*before, *after, 0.0])
    return spread


MAX_FIGURE_TEXT = 500
"""Characters of a figure up to which all its text is kept with its picture."""


def keep_captions(reading: Reading, kept: dict[int, Item], pictures: dict[int, Item]) -> None:
    """Keep the text of the figures whose pictures are kept, and no captions of other figures."""
    frames, pieces = reading.frames, reading.pieces
    figure = [piece.figure or frames[piece.frame].figure for piece in pieces]
    with_picture = {figure[position] for position in pictures} - {0}
    without = {figure[position] for position, piece in enumerate(pieces) if not piece.text} - with_picture
    chars = Counter[int]()
    captioned: set[int] = set()
    for position, piece in enumerate(pieces):
        chars[figure[position]] += len(piece.text)
        if frames[piece.frame].caption:
            captioned.add(figure[position])
    for position, piece in enumerate(pieces):
        caption = frames[piece.frame].caption
        if not piece.text:
            continue
        if figure[position]:
            # Where nothing is marked as the caption, all text of a small figure is; links and labels never are.
            alone = figure[position] not in captioned and chars[figure[position]] <= MAX_FIGURE_TEXT
            linked = 2 * piece.linked > len(piece.text) and not starts_credit(piece.text)
            said = alone and not linked and not is_control(piece)
            if figure[position] in with_picture and (caption or said):
                kept[position] = Text(piece.text)
            elif caption and figure[position] in without:
                kept.pop(position, None)
        elif caption:
            # A label of the picture's own figure may stand between.
            labelled = position - 2 in pictures and figure[position - 1] == figure[position - 2] != 0
            if labelled or position - 1 in pictures:
                kept[position] = Text(piece.text)
        elif position - 1 in pictures and repeats_alt(reading, position, pictures[position - 1]):
            kept[position] = Text(piece.text)


# --- pictures and videos ---------------------------------------------------------------------------------------------


def choose_pictures(
    tree: Tree,
    reading: Reading,
    wanted: Wanted,
    measured: Measured,
    chances: Floats,
    kept: dict[int, Item],
    weights: Weights,
) -> dict[int, Item]:
    """Choose the pictures that are content, by the position of their pieces."""
    candidates = find_candidates(tree, reading, wanted)
    if not candidates:
        return {}
    matrix = measure_pictures(tree, reading, measured, chances, candidates, wanted.announced)
    plain = ((measured.near | measured.far) & CHROME == 0).tolist()
    pictures: dict[int, Item] = {}
    for candidate, chance in zip(candidates, weights.chances(matrix).tolist(), strict=True):
        position = candidate.position
        likely = chance >= LIKELY_PICTURE and plain[position] and is_between(reading, kept, position)
        if likely or chance >= weights.threshold:
            pictures[position] = candidate.image
    return pictures


LIKELY_PICTURE = 0.15
"""Chance from which a picture between two texts that are content is content."""


def is_between(reading: Reading, kept: dict[int, Item], position: int) -> bool:
    """Say whether what stands right before and after a picture is text that is content, or an end of the page."""
    before, after = position - 1 in kept, position + 1 in kept
    return (before or after) and (before or position == 0) and (after or position == len(reading.pieces) - 1)


def find_candidates(tree: Tree, reading: Reading, wanted: Wanted) -> list[Candidate]:
    """Resolve the pictures of a page, each once where it stands beside its own twin in a `noscript`."""
    candidates: list[Candidate] = []
    last: tuple[int, int, bool] | None = None
    for position, piece in enumerate(reading.pieces):
        if piece.text or tree.tags[piece.node] not in IMAGES:
            continue
        image = find_image(tree, piece.node, wanted.base, wanted.image_width_px)
        if image is None:
            continue
        place, fallback = place_of(tree, piece.node)
        if last == (position - 1, place, not fallback):
            last = None
            continue
        last = (position, place, fallback)
        candidates.append(Candidate(position, image))
    return candidates


def place_of(tree: Tree, node: int) -> tuple[int, bool]:
    """Find the element that a picture and its twin share, and whether the picture came from a `noscript`."""
    place = tree.parents[node]
    if tree.tags[place] == "picture":
        place = tree.parents[place]
    fallback = tree.tags[place] == "noscript"
    return (tree.parents[place] if fallback else place), fallback


def stands_in_content(reading: Reading, kept: dict[int, Item], position: int) -> bool:
    """Say whether a video stands among content: what comes next to it on one side is kept, or nothing does.

    Its caption, which is kept only with a picture, and figures like its own do not stand between.
    """
    pieces, beside = reading.pieces, []
    for step in (-1, 1):
        near = position + step
        while 0 <= near < len(pieces) and abs(near - position) < CAPTION_REACH:
            if near in kept or not figure_of(reading, pieces[near]):
                break
            near += step
        beside.append(near)
    beside = [near for near in beside if 0 <= near < len(pieces)]
    return not beside or any(near in kept for near in beside)
