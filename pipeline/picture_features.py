"""What tells a picture of the content from a logo, an avatar or a teaser: candidates → a matrix, a row a picture.

    Tree, Reading, chances of the texts → measure_pictures → matrix [candidates, PICTURE_FEATURES]

`content` weighs the features.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.dom import Tree
from pipeline.features import Bools, Floats, Ints, Measured
from pipeline.marks import PICTURE_METAS, Marks, contents
from pipeline.names import BITS, Remembered, split_words
from pipeline.nesting import words
from pipeline.pieces import Reading
from schemas.document import ImageRef

NEGATIVE_WORDS = words(
    "logo logos icon icons avatar avatars button btn sprite banner badge favicon emoji smiley smilies spacer blank"
    " pixel loading placeholder arrow social facebook twitter instagram youtube whatsapp rating star stars print flag"
    " flags gravatar author authors profile profil account user users zoom loupe magnify magnifier pfeil header footer"
    " kopf kopfbereich ad ads advert promo werbung anzeige piwik matomo tracking counter portrait"
)
"""Words of a picture's address, class or alt text that name what is no content."""

CONTENT_CLASSES = words("featured attachment wp post hero main size")
THUMB_CLASSES = words("thumb thumbnail teaser")
GROUPS = (
    "nav", "footer", "sidebar", "comment", "related", "ad", "share", "subscribe", "form", "meta", "header", "figure",
    "body", "text", "card", "list",
)  # fmt: skip

GROUP_BITS = np.array([BITS[name] for name in GROUPS])

PICTURE_FEATURES = (
    "chance_before", "chance_after", "chance_best", "chance_mean", "inside", "soon_before", "soon_after", "after",
    "container_kept", "container_linked", "in_link", "opens_picture", "width_to_80", "width_to_250", "width_400",
    "height_to_60", "tiny", "elongated", "svg", "gif", "named_in_url", "named_in_class", "named_in_alt", "announced",
    "described", "long_alt", "large_in_url", "small_in_url", "teaser", "before_h1", "repeated", "content_class",
    "thumb_class", *GROUPS,
)  # fmt: skip
"""The columns of the matrix, in the order in which `measure_pictures` fills a row."""

OPENS_PICTURE = re.compile(r"\.(?:jpe?g|png|gif|webp)(?:[?#]|$)", re.IGNORECASE)
LARGE_IN_URL = re.compile(r"(?:1[0-9]{3}|[6-9][0-9]{2})x[0-9]{3,4}")
WIDE_IN_URL = re.compile(r"w=?(?:1[0-9]{3}|[6-9][0-9]{2})\b")
SMALL_IN_URL = re.compile(r"[-_/](?:[0-9]{2}|1[0-9]{2})x(?:[0-9]{2}|1[0-9]{2})\b")
SIZE_IN_NAME = re.compile(r"[-_](?:[0-9]+x[0-9]+|[0-9]+|scaled|large|medium|small|thumb)$")
EXTENSION = re.compile(r"\.(?:jpe?g|png|webp|gif|avif|svg)$")

KEPT = 0.5
"""Chance from which a text is taken for content when pictures are judged."""

LONG_TEXT = 40
NEIGHBOURS = 3
BESIDE = np.array([*range(NEIGHBOURS - 1, -1, -1), *range(NEIGHBOURS, 2 * NEIGHBOURS)])
"""Texts before a picture, the next first, and then those after it, in a window that begins with the first of them."""
SOON_BEFORE, SOON_AFTER = 8, 2
CONTAINER_CHARS = 30
LEVELS = 5
LINK_LEVELS = 6
LONG_ALT = 25
MIN_STEM_CHARS = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that may be content: the position of its piece, and what its element says."""

    position: int
    image: ImageRef


def stem_of(url: str) -> str:
    """Name the picture behind an address: the file's name without extension and size."""
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1].lower()
    return SIZE_IN_NAME.sub("", EXTENSION.sub("", name))


def announced_pictures(marks: Marks) -> frozenset[str]:
    """Collect the stems of the pictures that a page's head names as its own."""
    stems = (stem_of(url) for url in contents(marks, *PICTURE_METAS))
    return frozenset(stem for stem in stems if len(stem) >= MIN_STEM_CHARS)


def measure_pictures(
    tree: Tree,
    reading: Reading,
    measured: Measured,
    chances: Floats,
    candidates: list[Candidate],
    announced: frozenset[str],
) -> Floats:
    """Measure each candidate; `announced` holds the stems of the pictures that the head names as the page's own."""
    pieces = reading.pieces
    text = measured.chars > 0
    kept = text & (chances >= KEPT)
    long = np.flatnonzero(kept & (measured.chars >= LONG_TEXT)).tolist() or [0]
    containers = Containers(reading, measured, kept)
    uses = Counter(candidate.image.url for candidate in candidates)
    teaser, before_h1 = measured.teaser.tolist(), measured.before_h1.tolist()
    rows = []
    for candidate in candidates:
        position, image = candidate.position, candidate.image
        node = pieces[position].node
        link = link_around(tree, node)
        opens = link is not None and OPENS_PICTURE.search(link) is not None
        own = tree.attributes[node]
        names = CLASS_WORDS[f"{own.get('class') or ''} {own.get('id') or ''}"]
        rows.append(
            (
                long[0] <= position <= long[-1],
                long[0] - SOON_BEFORE <= position < long[0],
                long[-1] < position <= long[-1] + SOON_AFTER,
                position > long[-1],
                *containers.around(pieces[position].frame),
                link is not None and not opens,
                opens,
                *shape_of(image),
                *wording_of(image, names, announced),
                teaser[position],
                before_h1[position],
                uses[image.url] > 1,
                not names.isdisjoint(CONTENT_CLASSES),
                not names.isdisjoint(THUMB_CLASSES),
            )
        )
    positions = np.array([candidate.position for candidate in candidates])
    beside = chances_beside(chances[text], np.searchsorted(np.flatnonzero(text), positions))
    named = measured.near[positions, None] & GROUP_BITS != 0
    return np.hstack((beside, np.array(rows, dtype=np.float64), named))


def chances_beside(chances: Floats, places: Ints) -> Floats:
    """Measure the chances of the texts before and after each of some places: `chance_before` to `chance_mean`."""
    none = np.zeros(NEIGHBOURS)
    window = np.concatenate((none, chances, none))[places[:, None] + BESIDE]
    return np.column_stack((window[:, 0], window[:, NEIGHBOURS], window.max(axis=1), window.sum(axis=1) / len(BESIDE)))


def shape_of(image: ImageRef) -> tuple[bool, ...]:
    """Measure the size that the page claims for a picture: `width_to_80` to `elongated`."""
    width, height = image.width_px, image.height_px
    return (
        width is not None and width <= 80,
        width is not None and 80 < width <= 250,
        width is not None and width >= 400,
        height is not None and height <= 60,
        (width is not None and width <= 3) or (height is not None and height <= 3),
        bool(width and height and max(width, height) > 3 * min(width, height)),
    )


def wording_of(image: ImageRef, names: frozenset[str], announced: frozenset[str]) -> tuple[bool, ...]:
    """Measure what address, class and alt text say of a picture: `svg` to `small_in_url`."""
    url = image.url.lower()
    path, sized = url.split("?")[0], "x" in url
    folder, _, name = image.url.split("?")[0].partition("://")[2].partition("/")[2].rpartition("/")
    return (
        ".svg" in path,
        path.endswith(".gif"),
        FOLDERS[folder] or names_no_content(name),
        not names.isdisjoint(NEGATIVE_WORDS),
        bool(image.alt) and names_no_content(image.alt),
        bool(announced) and stem_of(image.url) in announced,
        bool(image.alt),
        len(image.alt) >= LONG_ALT,
        (sized and LARGE_IN_URL.search(url) is not None) or WIDE_IN_URL.search(url) is not None,
        sized and SMALL_IN_URL.search(url) is not None,
    )


def names_no_content(text: str) -> bool:
    """Say whether a word of a text names what is no content."""
    return not split_words(text).isdisjoint(NEGATIVE_WORDS)


CLASS_WORDS = Remembered(split_words)
FOLDERS = Remembered(names_no_content)
"""Whether the folders of a picture's address name what is no content: a site keeps its pictures in few."""


def link_around(tree: Tree, node: int) -> str | None:
    """Find the reference of the link that a picture stands in; None if it stands in none."""
    for _ in range(LINK_LEVELS):
        node = tree.parents[node]
        if node < 0:
            return None
        if tree.tags[node] == "a":
            return tree.attributes[node].get("href") or ""
    return None


class Containers:
    """How much of the text in each frame is kept and how much is links, from prefix sums over the pieces."""

    def __init__(self, reading: Reading, measured: Measured, kept: Bools) -> None:
        """Sum up the texts of a page."""
        self.frames = reading.frames
        sums = np.zeros((3, len(kept) + 1), dtype=np.int64)
        np.cumsum((measured.chars, measured.chars * kept, measured.linked), axis=1, out=sums[:, 1:])
        self.chars, self.kept, self.linked = sums.tolist()

    def around(self, number: int) -> tuple[float, float]:
        """Say which share of the text beside a picture is kept, and which is linked; 0 where there is no text."""
        for _ in range(LEVELS):
            frame = self.frames[number]
            chars = self.chars[frame.stop] - self.chars[frame.first]
            if chars >= CONTAINER_CHARS:
                kept = self.kept[frame.stop] - self.kept[frame.first]
                return kept / chars, (self.linked[frame.stop] - self.linked[frame.first]) / chars
            if frame.outer < 0:
                break
            number = frame.outer
        return 0.0, 0.0
