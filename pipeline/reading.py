"""The walk: a tree → its blocks of text and its media in reading order, boilerplate included.

    Tree → read_page → Reading(pieces, frames)

Every block of text stands alone, a picture splits the block around it, and each piece names the frame (the open
block-level element) it stands in. What a browser never shows is left out here; which of the rest is content is decided
in `content`, with the whole page in view.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from itertools import accumulate

from pipeline import dom
from pipeline.dom import TEXT, Tree
from pipeline.layout import TABLE_PARTS, Table, lay_out, open_part
from pipeline.names import CAPTION, HIDDEN, KINDS, NAMED_FIGURE, starts_credit
from pipeline.nesting import words
from pipeline.pictures import side_of
from pipeline.pieces import Frame, Piece, Reading

IMAGES = frozenset(["img", "amp-img"])
VIDEOS = frozenset(["video", "amp-video"])
MEDIA = IMAGES | VIDEOS

BLOCKS = words(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol optgroup option p"
    " plaintext pre section summary table tbody td tfoot th thead tr ul xmp"
)
HEADINGS = words("h1 h2 h3 h4 h5 h6")
NEVER_READ = words(
    "head title input select textarea option datalist dialog embed object audio progress meter output area script nav"
    " style template svg iframe canvas map noembed noframes annotation annotation-xml amp-ad"
)
"""Elements that no browser shows as text, and `nav`, which says of itself that it is no content."""
SET_OFF = words("i em cite small")
"""Elements that set off a caption or a credit from the text around it."""
MUTED = frozenset(["button", "noscript"])
"""Elements whose text is not read out but whose pictures may be content."""

HIDDEN_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
PICTURE_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|tiff?)$", re.IGNORECASE)
ANCHOR_SIGNS = words("¶ # § 🔗")
"""Texts of the links that copy the address of a heading."""


class OutOfTimeError(Exception):
    """A page passed its time limit; `extract_document` turns it into a rejection."""


def check_time(deadline: float) -> None:
    """Stop a page that takes too long."""
    if time.monotonic() > deadline:
        raise OutOfTimeError


LINE = "\0"
"""Stands for `<br>` in the buffer; a decoded page holds no NUL."""

PARAGRAPH = re.compile(r"\0\s*\0[\s\0]*")
"""Two line breaks or more end a paragraph."""


@dataclass(slots=True)
class Walk:
    """What has been read, the open tables, the media met, and the text gathered for the open block.

    `parts` are its texts, `linked` and `set_off` count its characters, `link` is the reference of the last link.
    """

    pieces: list[Piece] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=lambda: [Frame(0, "html", -1, 0)])
    tables: list[Table] = field(default_factory=list)
    media: int = 0
    parts: list[str] = field(default_factory=list)
    linked: int = 0
    set_off: int = 0
    link: str = ""


def read_page(tree: Tree, deadline: float) -> Reading:
    """Read all that a page shows, in one pass over its nodes."""
    tags, ends, texts, attributes = tree.tags, tree.ends, tree.texts, tree.attributes
    walk = Walk()
    frames, parts = walk.frames, walk.parts
    number, frame, end, count = 0, frames[0], len(tags), len(tags)
    link_until = muted_until = set_off_until = index = check_at = 0
    while index < count:
        if index >= check_at:
            check_time(deadline)
            check_at = index + dom.CHECK_EVERY
        while index >= end:
            close_frame(walk, number)
            number = frame.outer
            frame = frames[number]
            end = ends[frame.node] if number else count
        tag = tags[index]
        if tag == TEXT:
            text = texts[index]
            # White space that begins a block is not shown unless the block keeps lines; half of all texts are such.
            if (parts or frame.lines or not text.isspace()) and index >= muted_until:
                parts.append(text)
                if index < link_until:
                    walk.linked += len(text.strip())
                if index < set_off_until:
                    walk.set_off += len(text.strip())
            index += 1
            continue
        if tag in NEVER_READ:
            index = ends[index]
            continue
        known, kinds = attributes[index], 0
        if known:
            if names := known.get("class"):
                kinds = KINDS[names]
            if ("hidden" in known or "style" in known or kinds & HIDDEN) and is_hidden(tag, known, kinds):
                index = ends[index]
                continue
            if "aria-hidden" in known and known["aria-hidden"] == "true" and not kinds & CAPTION:
                muted_until = max(muted_until, ends[index])
        if tag in BLOCKS or kinds & CAPTION:
            if parts:
                flush(walk, number)
            frame = open_frame(walk, index, tag, number, kinds)
            number, end = len(frames) - 1, ends[index]
            if tag in TABLE_PARTS:
                open_part(walk.tables, tree, frame, number)
        elif tag == "br":
            parts.append(LINE)
        elif tag == "a":
            if frame.tag in HEADINGS and copies_address(tree, index):
                index = ends[index]
                continue
            link_until = max(link_until, ends[index])
            walk.link = known.get("href") or ""
        elif tag in SET_OFF:
            set_off_until = max(set_off_until, ends[index])
        elif tag in MEDIA:
            if not is_icon(known):
                if parts:
                    flush(walk, number)
                walk.pieces.append(Piece(index, number))
                walk.media += 1
            index = ends[index]
            continue
        if tag in MUTED:
            muted_until = max(muted_until, ends[index])
        index += 1
    while number >= 0:
        close_frame(walk, number)
        number = frames[number].outer
    group_figures(tree, walk)
    return Reading(walk.pieces, frames)


def copies_address(tree: Tree, link: int) -> bool:
    """Say whether a link in a heading is there to copy the address of the heading."""
    inside = tree.texts[link + 1 : min(tree.ends[link], link + 4)]
    return "".join(inside).strip() in ANCHOR_SIGNS


def is_hidden(tag: str, attributes: dict[str, str | None], kinds: int) -> bool:
    """Say whether the page hides an element; `kinds` is what its class says."""
    if tag in ("html", "body"):
        return False
    if "hidden" in attributes or kinds & HIDDEN:
        return True
    style = attributes.get("style")
    return bool(style) and HIDDEN_STYLE.search(style or "") is not None


MAX_ICON_PX = 24


def is_icon(attributes: dict[str, str | None]) -> bool:
    """Say whether a picture is as small as the text around it: it neither is content nor ends a sentence."""
    sides = [side_of(attributes.get(name)) for name in ("width", "height")]
    given = [side for side in sides if side is not None]
    return bool(given) and (len(given) == 2 or given[0] <= 1) and max(given) <= MAX_ICON_PX


def open_frame(walk: Walk, index: int, tag: str, outer: int, kinds: int) -> Frame:
    """Begin a block."""
    lines = walk.frames[outer].lines or tag in ("pre", "listing")
    caption = tag == "figcaption" or kinds & CAPTION > 0
    frame = Frame(index, tag, outer, len(walk.pieces), walk.media, 0, lines, caption)
    walk.frames.append(frame)
    return frame


def flush(walk: Walk, number: int) -> None:
    """Write the text gathered so far: one piece, or one a paragraph where line breaks part it."""
    text, linked, set_off, frame = "".join(walk.parts), walk.linked, walk.set_off, walk.frames[number]
    walk.parts.clear()
    walk.linked = walk.set_off = 0
    if frame.lines:
        blocks = ["\n".join(line.rstrip() for line in text.replace(LINE, "\n").split("\n")).strip("\n")]
    elif LINE in text:
        blocks = [fold_lines(block) for block in PARAGRAPH.split(text)]
    else:
        blocks = [" ".join(text.split())]
    for block in blocks:
        if not block or block.isspace():
            continue
        taken = min(linked, len(block))
        linked -= taken
        # A link alone in its block that opens a picture only enlarges one that stands elsewhere.
        alone = taken == len(block) and frame.first == len(walk.pieces) and not frame.caption
        if not (alone and PICTURE_FILE.search(walk.link)):
            walk.pieces.append(Piece(frame.node, number, block, taken, min(set_off, len(block))))


def fold_lines(block: str) -> str:
    """Fold the white space of each line."""
    return "\n".join(" ".join(line.split()) for line in block.split(LINE)).strip("\n")


def close_frame(walk: Walk, number: int) -> None:
    """End a block: write its text, and lay out the table that ends with it."""
    frame = walk.frames[number]
    if walk.parts:
        flush(walk, number)
    frame.media = walk.media - frame.media
    frame.caption = frame.caption and frame.media == 0
    if frame.tag == "table" and walk.tables:
        lay_out(walk.tables.pop(), number, walk.frames, walk.pieces)
    frame.stop = len(walk.pieces)


MAX_FIGURE_CHARS = 1_000
"""Characters up to which an element named like a figure is one."""

MAX_SHAPE_CHARS, MAX_SHAPE_PIECES = 500, 5
"""Characters and pieces up to which a picture and the text below it are a figure by their shape alone."""

MAX_SHAPE_SHARE = 0.2
"""Share of the page's text from which such an element is the page."""

SHAPES = words("div section li")


def group_figures(tree: Tree, walk: Walk) -> None:
    """Pass captions and figures down to the frames in them; the innermost `figure` counts, else the outermost."""
    frames = walk.frames
    sums = list(accumulate((len(piece.text) for piece in walk.pieces), initial=0))
    linked = list(accumulate((piece.linked for piece in walk.pieces), initial=0))
    for frame in frames[1:]:
        outer = frames[frame.outer]
        if outer.caption:
            frame.caption = True
        frame.figure = frame.node if frame.tag == "figure" else outer.figure
        if frame.figure or not frame.media:
            continue
        chars = sums[frame.stop] - sums[frame.first]
        names = tree.attributes[frame.node].get("class")
        named = names and frame.tag not in ("body", "main", "article") and KINDS[names] & NAMED_FIGURE
        if (named and chars <= MAX_FIGURE_CHARS) or (
            frame.tag in SHAPES
            and frame.media == 1
            and 0 < chars <= min(MAX_SHAPE_CHARS, MAX_SHAPE_SHARE * sums[-1])
            and has_shape(walk, frame, 2 * (linked[frame.stop] - linked[frame.first]) > chars)
        ):
            frame.figure = frame.node


def has_shape(walk: Walk, frame: Frame, linked: bool) -> bool:
    """Say whether an element holds a picture and then a few texts: no title, and no links but those of a credit."""
    pieces = walk.pieces[frame.first : frame.stop]
    tags = [walk.frames[piece.frame].tag for piece in pieces[1:]]
    # A list item with a picture is a step with its instruction, unless its text stands in blocks of its own.
    titled = "h1" in tags or "li" in tags
    if pieces[0].text or titled or len(pieces) > MAX_SHAPE_PIECES:
        return False
    return not linked or starts_credit(pieces[1].text)
