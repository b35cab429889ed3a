"""What tells content from boilerplate: the pieces of a page → a matrix of named features, a row a piece.

    Tree, Reading → measure → Measured(matrix [pieces, FEATURES], ...)

A feature is what a person would say of a block: how long it is, how much of it is links, what stands around it, how its
containers are named, how much of the page's prose they hold. Sums over a container are differences of prefix sums,
because its pieces are a range. `content` weighs the features.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dom import Tree
from pipeline.names import CHROME, NAMES, names_of
from pipeline.nesting import words
from pipeline.pieces import Frame, Piece, Reading
from pipeline.reading import HEADINGS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# --- one text --------------------------------------------------------------------------------------------------------

SENTENCE = re.compile(r"[.!?…。！？][\"'”»’)\]]*(?:\s|$)|[。！？]")
ENDING = re.compile(r"[.!?…。！？:;][\"'”»’)\]]*$")
ENDS, CLOSES = ".!?…。！？:;", "\"'”»’)]"
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
CLOCK = re.compile(r"\b\d?\d:\d\d\b")
SERVICE = re.compile(r"\bcookies?\b|newsletter|javascript|subscri|abonn|privacy|datenschutz")
SERVICE_WORDS = ("cookie", "newsletter", "javascript", "subscri", "abonn", "privacy", "datenschutz")
"""Words of notices and offers of the site, in a few languages; looking for them first is ten times faster."""

SEPARATORS = re.compile(r"[|›»→•·]")
SHORT_CHARS = 80
NOTICE_CHARS = 400

MARKS = ("ends", "copyright", "separators", "dots", "dated", "timed", "service", "announces")
ENDS_BIT, COPYRIGHT, SEPARATED, DOTS, DATED, TIMED, SERVES, ANNOUNCES = (1 << bit for bit in range(len(MARKS)))


def marks_of(text: str) -> int:
    """Say how a text ends and what signs it holds: a bit for each of `MARKS`.

    A regex is tried only where the signs it needs are there.
    """
    marks, last = 0, text[-1:]
    if last and (last in ENDS or (last in CLOSES and ENDING.search(text, max(0, len(text) - 4)))):
        marks |= ENDS_BIT
    if last and last in "….]" and text.endswith(("…", "...", "[…]")):
        marks |= DOTS
    if not text.isascii():
        if "©" in text:
            marks |= COPYRIGHT
        if SEPARATORS.search(text):
            marks |= SEPARATED
    elif "|" in text:
        marks |= SEPARATED
    if len(text) < SHORT_CHARS:
        if ("19" in text or "20" in text) and YEAR.search(text):
            marks |= DATED
        if ":" in text:
            marks |= (TIMED if CLOCK.search(text) else 0) | (ANNOUNCES if last == ":" else 0)
    if len(text) < NOTICE_CHARS:
        lower = text.lower()
        if any(map(lower.__contains__, SERVICE_WORDS)) and SERVICE.search(lower):
            marks |= SERVES
    return marks


def bits_to_columns(bits: Ints, count: int) -> Ints:
    """Spread the lowest bits of numbers [n] into columns [count, n] of zeros and ones."""
    columns: Ints = bits >> np.arange(count)[:, None] & 1
    return columns


# --- a page ----------------------------------------------------------------------------------------------------------

TAG_BITS = {tag: 1 << position for position, tag in enumerate(("p", "li", "h2", "h3", "td", "div"))}
TEXT_TAGS = tuple(f"tag_{tag}" for tag in TAG_BITS)
TEXT_MARKS = tuple(f"text_{name}" for name in MARKS)
NEAR, FAR = (tuple(f"{where}_{name}" for name in NAMES) for where in ("near", "far"))

FEATURES: tuple[str, ...] = (
    "chars_10_24", "chars_50_99", "chars_400", "unlinked", "linked", "commas",
    *TEXT_MARKS, *TEXT_TAGS,
    "before", "nothing_after", "little_before", "little_after", "before_title", "before_h1", "after_h1",
    "before_center", "after_center",
    "block_link_share", "block_chars", "share_up5", "pieces_up1", "branch_share", "like_share", "weight", "weight_up",
    "last_linked", "last_prose", "last_heading", "last_media", "last2_linked", "last2_media", "next_heading",
    "next2_linked", "next2_prose", "next2_media", "prose_1_before", "prose_8_before", "prose_8_after", "next_link",
    *NEAR, *FAR,
    "minor_article", "repeated", "teaser",
)  # fmt: skip
"""The columns of the matrix; `content` says what each weighs, and the code below what each is."""

PROSE_CHARS, PARAGRAPH_CHARS = 50, 25
"""Characters from which a text in sentences is prose: anywhere, and in a `p`."""
PROSE_LINK_SHARE = 0.35
MINOR_SHARE = 0.5
"""Share of the page's prose from which an element is the page itself: its name and its kind mean nothing."""

SURE_TAGS = words("footer")
"""Elements that are what their tag says, however much they hold; `nav` is not even read."""

ROOTS = frozenset(["html", "body"])

LEAVES = words("p li h1 h2 h3 h4 blockquote pre td dd dt")
"""Blocks whose text counts for the element around them."""

UNCOUNTED = words("tr td th tbody table p")
"""Elements that repeat without being items of a list."""

MIN_SIBLINGS = 3
HEAD_TEXTS = 6
HEAD_LINK_CHARS = 20
TEASER_SHARE = 0.6
"""Share of the items of a list that begin with a link from which it is one of teasers."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The features of a page's pieces [pieces, FEATURES], and what `picture_features` reads of them, a value a piece.

    `near` and `far` are bits of `names.BITS`.
    """

    matrix: Floats
    near: Ints
    far: Ints
    teaser: npt.NDArray[np.bool_]
    before_h1: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Arrays:
    """A reading as arrays: of pieces (`chars`, `linked`, `at`: the frame) and of frames (`first`, `stop`, `outer`)."""

    pieces: list[Piece]
    frames: list[Frame]
    tree: Tree
    chars: Floats
    linked: Floats
    at: Ints
    first: Ints
    stop: Ints
    outer: Ints

    def total(self, values: Floats) -> Floats:
        """Sum a value of the pieces over each frame."""
        sums = np.concatenate(([0.0], np.cumsum(values)))
        total: Floats = sums[self.stop] - sums[self.first]
        return total


def to_arrays(tree: Tree, reading: Reading) -> Arrays:
    """Lay a reading out as arrays."""
    pieces, frames = reading.pieces, reading.frames

    def ints(values: Any) -> Ints:
        return np.array(values, dtype=np.int64)

    return Arrays(
        pieces,
        frames,
        tree,
        np.array([len(piece.text) for piece in pieces], dtype=np.float64),
        np.array([piece.linked for piece in pieces], dtype=np.float64),
        ints([piece.frame for piece in pieces]),
        ints([frame.first for frame in frames]),
        ints([frame.stop for frame in frames]),
        ints([max(frame.outer, 0) for frame in frames]),
    )


def measure(tree: Tree, reading: Reading, title: str) -> Measured:
    """Measure the pieces of a page; `title` is the page's own, folded."""
    page = to_arrays(tree, reading)
    columns: dict[str, npt.NDArray[Any]] = {}
    prose = measure_texts(page, columns)
    near, far = find_names(page, prose)
    mass = np.where((near | far) & CHROME, 0.0, prose)
    if mass.sum() < 0.3 * prose.sum():
        mass = prose
    measure_places(page, columns, mass, title)
    measure_containers(page, columns, mass)
    measure_neighbours(page, columns, mass)
    columns |= zip(NEAR, bits_to_columns(near, len(NAMES)), strict=True)
    columns |= zip(FAR, bits_to_columns(far, len(NAMES)), strict=True)
    matrix = np.array([columns[name] for name in FEATURES], dtype=np.float64).T
    return Measured(matrix, near, far, columns["teaser"], columns["before_h1"])


def measure_texts(page: Arrays, columns: dict[str, npt.NDArray[Any]]) -> Floats:
    """Measure each text by itself; return the characters of prose: unlinked, in sentences, not short."""
    chars, linked = page.chars, page.linked
    share = linked / np.maximum(chars, 1)
    text = chars > 0
    columns["chars_10_24"] = (chars >= 10) & (chars < 25)
    columns["chars_50_99"] = (chars >= 50) & (chars < 100)
    columns["chars_400"] = chars >= 400
    columns["unlinked"] = (linked == 0) & text
    columns["linked"] = share > 0.8
    texts = [piece.text for piece in page.pieces]
    commas = [text.count(",") + (0 if text.isascii() else text.count("，") + text.count("、")) for text in texts]
    columns["commas"] = np.minimum(np.log1p(np.array(commas, dtype=np.float64)), 3)
    marks = np.array([marks_of(text) if text else 0 for text in texts], dtype=np.int64)
    columns |= zip(TEXT_MARKS, bits_to_columns(marks, len(MARKS)), strict=True)
    tags = np.array([TAG_BITS.get(page.frames[piece.frame].tag, 0) for piece in page.pieces], dtype=np.int64)
    columns |= zip(TEXT_TAGS, bits_to_columns(tags, len(TAG_BITS)), strict=True)
    enough = np.where(tags == TAG_BITS["p"], PARAGRAPH_CHARS, PROSE_CHARS)
    long = (chars >= enough) & (share < PROSE_LINK_SHARE)
    sentence = [
        is_long and SENTENCE.search(text) is not None for is_long, text in zip(long.tolist(), texts, strict=True)
    ]
    return np.where(np.array(sentence, dtype=bool), chars - linked, 0.0)


def find_names(page: Arrays, prose: Floats) -> tuple[Ints, Ints]:
    """Find what the elements around each piece are called: its own and the next, and all further ones.

    A name of an element that holds most of the page's prose means nothing (`no-sidebar`, `has-comments`).
    """
    minor = (page.total(prose) < MINOR_SHARE * max(1.0, prose.sum())).tolist()
    own, counted, above = ([0] * len(page.frames) for _ in range(3))
    attributes = page.tree.attributes
    for number, frame in enumerate(page.frames):
        tag, outer = frame.tag, frame.outer
        if frame.first == frame.stop or tag in ROOTS:
            continue
        bits = own[number] = names_of(tag, attributes[frame.node])
        if minor[number] or tag in SURE_TAGS:
            counted[number] = bits
        above[number] = counted[outer] | above[outer]
    near = np.array(own, dtype=np.int64) | np.array(counted, dtype=np.int64)[page.outer]
    far = np.array(above, dtype=np.int64)[page.outer]
    return near[page.at], far[page.at]


def measure_places(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats, title: str) -> None:
    """Measure where each piece stands: among the prose, and by the headings that can be the page's title."""
    count = len(page.pieces)
    order = np.arange(count)
    total = max(1.0, mass.sum())
    until = np.cumsum(mass)
    before, after = (until - mass) / total, (total - until) / total
    columns["before"] = before
    columns["nothing_after"], columns["little_after"] = after <= 0.01, after <= 0.05
    columns["little_before"] = before <= 0.05
    frames, pieces = page.frames, page.pieces
    headings = [i for i in range(count) if frames[pieces[i].frame].tag in HEADINGS]
    firsts = [i for i in headings if frames[pieces[i].frame].tag == "h1"]
    titled = [i for i in headings if 8 <= len(pieces[i].text) <= 200 and pieces[i].text.lower() in title.lower()]
    known = titled or firsts
    columns["before_title"] = order < (known[0] if known else 0)
    middle = int(np.searchsorted(until, 0.1 * total)) + 1
    early = [i for i in firsts if i <= middle]
    h1 = early[-1] if early else -1
    columns["before_h1"] = order < h1
    columns["after_h1"] = (order > h1) & (order <= h1 + 4) & (h1 >= 0)


def measure_containers(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats) -> None:
    """Measure the elements around each piece: how much of the page's prose they hold, and what kind of group they are.

    The center is the element with the most prose right in it; half the prose of an element counts for the one around.
    """
    at, outer, frames, order = page.at, page.outer, page.frames, np.arange(len(page.pieces))
    total = max(1.0, mass.sum())
    share = page.total(mass) / total
    share[0] = 1.0
    size = page.stop - page.first
    chars, linked = page.total(page.chars), page.total(page.linked)
    columns["block_link_share"] = (linked / np.maximum(chars, 1))[at]
    columns["block_chars"] = np.log1p((chars - linked) / np.maximum(size, 1))[at]
    up = at
    for _ in range(5):
        up = outer[up]
    columns["share_up5"] = share[up]
    columns["pieces_up1"] = np.log1p(size)[outer[at]]
    leaf = np.array([frame.tag in LEAVES for frame in frames], dtype=bool)
    credited = np.where(leaf, outer, np.arange(len(frames)))[at]
    direct = np.bincount(credited, mass, len(frames))
    direct += np.bincount(outer[credited], mass / 2, len(frames))
    center, most = int(direct.argmax()), max(1.0, direct.max())
    columns["weight"] = direct[credited] / most
    columns["weight_up"] = np.maximum(np.maximum(direct[at], direct[credited]), direct[outer[credited]]) / most
    columns["before_center"] = order < page.first[center]
    columns["after_center"] = order >= page.stop[center]
    group_frames(page, columns, mass / total, share, size)


def group_frames(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats, share: Floats, size: Ints) -> None:
    """Measure what depends on all frames around a piece, from the outermost to its own."""
    frames, attributes, at = page.frames, page.tree.attributes, page.at
    kinds: dict[tuple[str, str | None], int] = {}
    kind = np.array(
        [kinds.setdefault((frame.tag, attributes[frame.node].get("class")), len(kinds)) for frame in frames],
        dtype=np.int64,
    )
    counted = np.array([frame.tag not in UNCOUNTED for frame in frames], dtype=bool)
    place = page.outer * len(kinds) + kind
    twins = Counter(place[counted & (size > 0)].tolist())
    items = np.flatnonzero(counted & (size > 1)).tolist()
    outer, shares, minor = page.outer.tolist(), share.tolist(), (share < MINOR_SHARE).tolist()
    places = place.tolist()
    branch, repeated, teaser = [0.0] * len(frames), [False] * len(frames), [False] * len(frames)
    for number in items:
        repeated[number] = minor[number] and twins[places[number]] >= MIN_SIBLINGS
    article = [frame.tag == "article" and minor[number] for number, frame in enumerate(frames)]
    teasers = find_teasers(page, items)
    for number, around in enumerate(outer):
        if minor[number]:
            branch[number] = branch[around] if minor[around] else shares[number]
        article[number] = article[number] or article[around]
        repeated[number] = repeated[number] or repeated[around]
        teaser[number] = teasers[number] if number in teasers else teaser[around]
    signature = np.unique((kind * len(kinds) + kind[page.outer])[at], return_inverse=True)[1]
    columns["like_share"] = np.bincount(signature, mass)[signature]
    columns["branch_share"] = np.array(branch)[at]
    columns["minor_article"] = np.array(article, dtype=bool)[at]
    columns["repeated"] = np.array(repeated, dtype=bool)[at]
    columns["teaser"] = np.array(teaser, dtype=bool)[at]


def find_teasers(page: Arrays, items: list[int]) -> dict[int, bool]:
    """Find lists most of whose items begin with a link as long as a headline; say of each item whether it does."""
    lists: dict[tuple[int, str], list[int]] = {}
    for number in items:
        frame = page.frames[number]
        lists.setdefault((frame.outer, frame.tag), []).append(number)
    teasers: dict[int, bool] = {}
    for siblings in lists.values():
        if len(siblings) >= MIN_SIBLINGS:
            frames = [page.frames[number] for number in siblings]
            heads = [
                is_headed_by_link(page.pieces[one.first : min(one.stop, one.first + HEAD_TEXTS)]) for one in frames
            ]
            if sum(heads) >= TEASER_SHARE * len(heads):
                teasers |= zip(siblings, heads, strict=True)
    return teasers


def is_headed_by_link(pieces: list[Piece]) -> bool:
    """Say whether one of the first texts of an item is a link as long as a headline."""
    texts = [piece for piece in pieces if piece.text][:4]
    return any(len(piece.text) >= HEAD_LINK_CHARS and piece.linked >= 0.8 * len(piece.text) for piece in texts)


def measure_neighbours(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats) -> None:
    """Measure the pieces before and after each piece."""
    count = len(page.pieces)
    order = np.arange(count)
    media, prose = page.chars == 0, mass > 0
    link_share = page.linked / np.maximum(page.chars, 1)
    heading = np.array([page.frames[piece.frame].tag in HEADINGS for piece in page.pieces], dtype=bool)

    def shift(values: npt.NDArray[Any], by: int) -> Floats:
        moved = np.zeros(count)
        if by > 0:
            moved[by:] = values[:-by]
        else:
            moved[:by] = values[-by:]
        return moved

    columns["last_linked"], columns["last2_linked"] = shift(link_share, 1), shift(link_share, 2)
    columns["last_prose"], columns["last_heading"] = shift(prose, 1), shift(heading, 1)
    columns["last_media"], columns["last2_media"] = shift(media, 1), shift(media, 2)
    columns["next_heading"], columns["next2_linked"] = shift(heading, -1), shift(link_share, -2)
    columns["next2_prose"], columns["next2_media"] = shift(prose, -2), shift(media, -2)
    last = np.maximum.accumulate(np.where(prose, order, -100))
    following = np.minimum.accumulate(np.where(prose, order, count + 100)[::-1])[::-1]
    behind = order - np.concatenate(([-100], last[:-1])) if count else order
    ahead = np.concatenate((following[1:], [count + 100])) - order if count else order
    columns["prose_1_before"], columns["prose_8_before"] = behind <= 1, behind <= 8
    columns["prose_8_after"] = ahead <= 8
    texts = np.minimum.accumulate(np.where(media, count, order)[::-1])[::-1]
    following_text = np.concatenate((texts[1:], [count]))[:count]
    inside = following_text < page.stop[page.outer[page.at]]
    shares = np.concatenate((link_share, [0.0]))
    columns["next_link"] = inside & (shares[following_text] > 0.8)
