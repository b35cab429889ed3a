"""What tells content from boilerplate: the pieces of a page → a matrix of named features, a row a piece.

    Tree, Reading → measure → Measured(matrix [pieces, FEATURES], ...)

A feature is what a person would say of a block: how long it is, how much of it is links, what stands around it, how its
containers are named, how much of the page's prose they hold. A feature is computed for all pieces at once. Sums over a
container are differences of prefix sums, because its pieces are a range. `content` weighs the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dom import Tree
from pipeline.names import CHROME, NAMES, names_of
from pipeline.nesting import words
from pipeline.pieces import Frame, Reading
from pipeline.reading import HEADINGS
from pipeline.text_marks import MARKS, count_commas, holds_sentence, mark_texts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TEXT_TAGS = {f"tag_{tag}": tag for tag in ("p", "li", "h2", "h3", "td", "div")}
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

ROOTS = words("html body")
"""Elements whose names mean nothing."""

H1, ARTICLE = words("h1"), words("article")
LEAVES = words("p li h1 h2 h3 h4 blockquote pre td dd dt")
"""Blocks whose text counts for the element around them."""

UNCOUNTED = words("tr td th tbody table p")
"""Elements that repeat without being items of a list."""

MIN_SIBLINGS = 3
HEAD_PIECES, HEAD_TEXTS = 6, 4
HEAD_LINK_CHARS = 20
TEASER_SHARE = 0.6
"""Share of the items of a list that begin with a link from which it is one of teasers."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The features of a page's pieces [pieces, FEATURES], and what the choice reads of them, a value a piece.

    `near` and `far` are bits of `names.BITS`; `chars` and `linked` count characters.
    """

    matrix: Floats
    chars: Ints
    linked: Ints
    near: Ints
    far: Ints
    teaser: Bools
    before_h1: Bools


@dataclass(frozen=True, slots=True)
class Arrays:
    """A reading as arrays: of pieces (`chars`, `linked`, `at`: the frame) and of frames (`first`, `stop`, `outer`).

    Frames without pieces are left out. `tag` numbers the tags of frames, `outers` holds for each frame the one that is
    1, 2, 4, ... frames further out, up to the page.
    """

    texts: list[str]
    frames: list[Frame]
    tree: Tree
    chars: Ints
    linked: Ints
    link_share: Floats
    at: Ints
    first: Ints
    stop: Ints
    outer: Ints
    outers: list[Ints]
    tags: dict[str, int]
    tag: Ints

    def total(self, values: npt.NDArray[Any]) -> Floats:
        """Sum a value of the pieces over each frame."""
        sums = np.zeros(len(values) + 1)
        np.cumsum(values, out=sums[1:])
        total: Floats = sums[self.stop] - sums[self.first]
        return total

    def are(self, tags: frozenset[str]) -> Bools:
        """Say of each frame whether its tag is one of these."""
        having: Bools = np.array([tag in tags for tag in self.tags], dtype=bool)[self.tag]
        return having

    def inherit(self, values: npt.NDArray[Any], combine: np.ufunc) -> npt.NDArray[Any]:
        """Combine a value of each frame with those of all frames around it."""
        for outer in self.outers:
            values = combine(values, values[outer])
        return values


def to_arrays(tree: Tree, reading: Reading) -> Arrays:
    """Lay a reading out as arrays."""
    pieces, frames, numbers = reading.pieces, list[Frame](), list[int]()
    for frame in reading.frames:
        if frame.first < frame.stop or not frames:
            numbers.append(len(frames))
            frames.append(frame)
        else:
            numbers.append(numbers[frame.outer])

    def ints(values: list[int]) -> Ints:
        return np.array(values, dtype=np.int64)

    texts, tags = [piece.text for piece in pieces], dict[str, int]()
    chars, linked = ints(list(map(len, texts))), ints([piece.linked for piece in pieces])
    outer = ints([numbers[frame.outer] if frame.outer > 0 else 0 for frame in frames])
    outers = [outer]
    while outers[-1].any():
        outers.append(outers[-1][outers[-1]])
    return Arrays(
        texts,
        frames,
        tree,
        chars,
        linked,
        linked / np.maximum(chars, 1),
        ints([numbers[piece.frame] for piece in pieces]),
        ints([frame.first for frame in frames]),
        ints([frame.stop for frame in frames]),
        outer,
        outers,
        tags,
        ints([tags.setdefault(frame.tag, len(tags)) for frame in frames]),
    )


def measure(tree: Tree, reading: Reading, title: str) -> Measured:
    """Measure the pieces of a page; `title` is the page's own, folded."""
    page = to_arrays(tree, reading)
    columns: dict[str, npt.NDArray[Any]] = {}
    prose = measure_texts(page, columns)
    kinds, names = name_frames(page)
    near, far = find_names(page, prose, names)
    mass = np.where((near | far) & CHROME, 0.0, prose)
    if mass.sum() < 0.3 * prose.sum():
        mass = prose
    measure_places(page, columns, mass, title)
    measure_containers(page, columns, mass, kinds)
    measure_neighbours(page, columns, mass)
    columns |= zip(NEAR, bits_to_columns(near, len(NAMES)), strict=True)
    columns |= zip(FAR, bits_to_columns(far, len(NAMES)), strict=True)
    rows = np.concatenate([columns[name] for name in FEATURES], dtype=np.float64, casting="unsafe")
    matrix = rows.reshape(len(FEATURES), len(page.texts)).T
    return Measured(matrix, page.chars, page.linked, near, far, columns["teaser"], columns["before_h1"])


def measure_texts(page: Arrays, columns: dict[str, npt.NDArray[Any]]) -> Floats:
    """Measure each text by itself; return the characters of prose: unlinked, in sentences, not short."""
    texts, chars, linked, share = page.texts, page.chars, page.linked, page.link_share
    whole = "\n".join(texts)
    columns["chars_10_24"] = (chars >= 10) & (chars < 25)
    columns["chars_50_99"] = (chars >= 50) & (chars < 100)
    columns["chars_400"] = chars >= 400
    columns["unlinked"] = (linked == 0) & (chars > 0)
    columns["linked"] = share > 0.8
    columns["commas"] = np.minimum(np.log1p(count_commas(texts, whole)), 3)
    for name, places in zip(TEXT_MARKS, mark_texts(texts, whole), strict=True):
        columns[name] = np.zeros(len(texts))
        columns[name][places] = 1.0
    tags = page.tag[page.at]
    for name, tag in TEXT_TAGS.items():
        columns[name] = tags == page.tags.get(tag, -1)
    enough = np.where(columns["tag_p"], PARAGRAPH_CHARS, PROSE_CHARS)
    long = np.flatnonzero((chars >= enough) & (share < PROSE_LINK_SHARE))
    prose = np.zeros(len(texts))
    prose[long] = np.where([holds_sentence(texts[position]) for position in long.tolist()], (chars - linked)[long], 0)
    return prose


def name_frames(page: Arrays) -> tuple[Ints, Ints]:
    """Tell frames of different tag or class apart by a number, and find what their names say: bits of `names.BITS`."""
    kinds: dict[tuple[str, str | None], int] = {}
    numbers, names = [], []
    attributes = page.tree.attributes
    for frame in page.frames:
        own = attributes[frame.node]
        numbers.append(kinds.setdefault((frame.tag, own.get("class")), len(kinds)))
        names.append(names_of(frame.tag, own))
    return np.array(numbers, dtype=np.int64), np.array(names, dtype=np.int64)


def find_names(page: Arrays, prose: Floats, names: Ints) -> tuple[Ints, Ints]:
    """Find what the elements around each piece are called: its own and the next, and all further ones.

    A name of an element that holds most of the page's prose means nothing (`no-sidebar`, `has-comments`).
    """
    minor = page.total(prose) < MINOR_SHARE * max(1.0, prose.sum())
    own: Ints = np.where(page.are(ROOTS), 0, names)
    counted: Ints = np.where(minor | page.are(SURE_TAGS), own, 0)
    outer = page.outer[page.at]
    return own[page.at] | counted[outer], page.inherit(counted, np.bitwise_or)[page.outer[outer]]


def measure_places(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats, title: str) -> None:
    """Measure where each piece stands: among the prose, and by the headings that can be the page's title."""
    order = np.arange(len(page.texts))
    total = max(1.0, mass.sum())
    until = np.cumsum(mass)
    before, after = (until - mass) / total, (total - until) / total
    columns["before"] = before
    columns["nothing_after"], columns["little_after"] = after <= 0.01, after <= 0.05
    columns["little_before"] = before <= 0.05
    firsts = np.flatnonzero(page.are(H1)[page.at]).tolist()
    named, whole = title.lower(), (page.chars >= 8) & (page.chars <= 200)
    titled = np.flatnonzero(page.are(HEADINGS)[page.at] & whole).tolist()
    known = next((i for i in titled if page.texts[i].lower() in named), firsts[0] if firsts else 0)
    columns["before_title"] = order < known
    middle = int(np.searchsorted(until, 0.1 * total)) + 1
    h1 = max((i for i in firsts if i <= middle), default=-1)
    columns["before_h1"] = order < h1
    columns["after_h1"] = (order > h1) & (order <= h1 + 4) & (h1 >= 0)


def measure_containers(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats, kinds: Ints) -> None:
    """Measure the elements around each piece: how much of the page's prose they hold, and what kind of group they are.

    The center is the element with the most prose right in it; half the prose of an element counts for the one around.
    """
    at, outer, order = page.at, page.outer, np.arange(len(page.texts))
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
    credited = np.where(page.are(LEAVES), outer, np.arange(len(outer)))[at]
    direct = np.bincount(credited, mass, len(outer))
    direct += np.bincount(outer[credited], mass / 2, len(outer))
    center, most = int(direct.argmax()), max(1.0, direct.max())
    columns["weight"] = direct[credited] / most
    columns["weight_up"] = np.maximum(np.maximum(direct[at], direct[credited]), direct[outer[credited]]) / most
    columns["before_center"] = order < page.first[center]
    columns["after_center"] = order >= page.stop[center]
    alike = number((kinds * len(kinds) + kinds[outer])[at])
    columns["like_share"] = np.bincount(alike, mass / total)[alike]
    group_frames(page, columns, share, kinds)


def group_frames(page: Arrays, columns: dict[str, npt.NDArray[Any]], share: Floats, kinds: Ints) -> None:
    """Measure what depends on all frames around a piece: the largest that is not the page itself, lists and teasers."""
    at, minor = page.at, share < MINOR_SHARE
    several = ~page.are(UNCOUNTED) & (page.stop - page.first > 1)
    several[0] = False  # the page is no item
    place = number(page.outer * len(kinds) + kinds)
    repeated = minor & several & (np.bincount(place)[place] >= MIN_SIBLINGS)
    columns["branch_share"] = page.inherit(np.where(minor, share, 0.0), np.maximum)[at]
    columns["minor_article"] = page.inherit(page.are(ARTICLE) & minor, np.logical_or)[at]
    columns["repeated"] = page.inherit(repeated, np.logical_or)[at]
    columns["teaser"] = find_teasers(page, np.flatnonzero(several))[at]


def find_teasers(page: Arrays, items: Ints) -> Bools:
    """Find the lists most of whose items begin with a link as long as a headline; say of each frame whether its does.

    The first texts of an item count, and of lists in lists the innermost.
    """
    text, first = page.chars > 0, page.first[items]
    link = next_where((page.chars >= HEAD_LINK_CHARS) & (page.linked >= 0.8 * page.chars))[first]
    before = np.concatenate(([0], np.cumsum(text)))
    near = link < np.minimum(page.stop[items], first + HEAD_PIECES)
    headed = near & (before[link] - before[first] < HEAD_TEXTS)
    one = number(page.outer[items] * len(page.tags) + page.tag[items])
    sizes = np.bincount(one)
    teasers = (sizes >= MIN_SIBLINGS) & (np.bincount(one, headed) >= TEASER_SHARE * sizes)
    judged, begins = np.zeros(len(page.outer), dtype=np.int64), np.zeros(len(page.outer), dtype=bool)
    judged[items], begins[items] = np.where(teasers[one], items, 0), headed
    teaser: Bools = begins[page.inherit(judged, np.maximum)]
    return teaser


def measure_neighbours(page: Arrays, columns: dict[str, npt.NDArray[Any]], mass: Floats) -> None:
    """Measure the pieces before and after each piece."""
    count, order = len(page.texts), np.arange(len(page.texts))
    media, prose, link_share = page.chars == 0, mass > 0, page.link_share
    heading = page.are(HEADINGS)[page.at]
    columns["last_linked"], columns["last2_linked"] = shift(link_share, 1), shift(link_share, 2)
    columns["last_prose"], columns["last_heading"] = shift(prose, 1), shift(heading, 1)
    columns["last_media"], columns["last2_media"] = shift(media, 1), shift(media, 2)
    columns["next_heading"], columns["next2_linked"] = shift(heading, -1), shift(link_share, -2)
    columns["next2_prose"], columns["next2_media"] = shift(prose, -2), shift(media, -2)
    last = np.maximum.accumulate(np.where(prose, order, -100))
    behind = order - np.concatenate(([-100], last[:-1]))
    following = np.concatenate((next_where(prose)[1:], [count]))
    columns["prose_1_before"], columns["prose_8_before"] = behind <= 1, behind <= 8
    columns["prose_8_after"] = (following - order <= 8) & (following < count)
    text = np.concatenate((next_where(~media)[1:], [count]))
    inside = text < page.stop[page.outer[page.at]]
    columns["next_link"] = inside & (np.concatenate((link_share, [0.0]))[text] > 0.8)


# --- arrays -----------------------------------------------------------------------------------------------------------


def bits_to_columns(bits: Ints, count: int) -> npt.NDArray[np.uint8]:
    """Spread the lowest bits of numbers [n] below 2**32 into columns [count, n] of zeros and ones."""
    octets = bits.astype("<u4").view(np.uint8).reshape(len(bits), 4)
    return np.unpackbits(octets, axis=1, count=count, bitorder="little").T


def number(values: Ints) -> Ints:
    """Give each value the number of its first place among the different ones."""
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values.tolist()], dtype=np.int64)


def next_where(mask: Bools) -> Ints:
    """Find for each place the first at or after it where a mask holds; the number of places if there is none."""
    count = len(mask)
    return np.minimum.accumulate(np.where(mask, np.arange(count), count)[::-1])[::-1]


def shift(values: npt.NDArray[Any], by: int) -> Floats:
    """Move values `by` places on, or back where it is negative; zeros come in."""
    moved = np.zeros(len(values))
    if by > 0:
        moved[by:] = values[:-by]
    else:
        moved[:by] = values[-by:]
    return moved
