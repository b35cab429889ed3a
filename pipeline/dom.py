"""HTML bytes → text → a flat tree: the one place that knows a parser (lexbor, through selectolax).

    decode_html(bytes, charset) → str      parse_html(str) → Tree | reason

Nothing here recurses. A page goes through `nesting.check_markup` first: the parser cannot be interrupted.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from bs4.dammit import EncodingDetector
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from selectolax.lexbor import LexborHTMLParser, LexborNode

from pipeline.nesting import TOO_DEEP, words

TOO_MANY_NODES = "too_many_nodes"
TIMEOUT = "timeout"

TEXT = "#text"
"""Tag of a text node."""


OPAQUE = words("script style template svg iframe canvas map datalist noembed noframes")
"""Elements whose inside is never content; the tree keeps them without children."""

CHECK_EVERY = 512
"""Nodes between two looks at the clock; a power of two."""

NO_ATTRIBUTES: dict[str, str | None] = {}


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed page as parallel lists in document order: node `i` holds the nodes `i + 1` to `ends[i] - 1`.

    `tags` are lower case, `TEXT` for text nodes, whose text is in `texts`; `parents[0]` is -1. An attribute without a
    value has the value None. Comments are left out.
    """

    tags: list[str]
    parents: list[int]
    ends: list[int]
    texts: list[str]
    attributes: list[dict[str, str | None]]


# --- bytes to text ---------------------------------------------------------------------------------------------------

BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

PYTHON_CODECS = {"gbk": "gb18030", "gb2312": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs"}
"""Codecs that read what browsers read under these names (vendors' extensions included)."""

NOT_ASCII = ("iso2022", "iso-2022", "utf-16", "utf-32", "hz")
"""Encodings whose bytes can look like clean ASCII or UTF-8."""

DETECT_BYTES = 65_536
"""How much of a page the statistical detector reads."""

MAX_BROKEN_SHARE = 0.01
"""Share of undecodable places among the non-ASCII characters up to which a declared charset is believed."""

SURROGATES = re.compile("[\ud800-\udfff]")


def decode_html(html: bytes, charset: str | None) -> str:
    """Decode a page by BOM, the charset of the transport, its meta element, then detection; never fails.

    Bytes that are valid UTF-8 are UTF-8 whatever was declared: a wrong header is far more common than a legacy page
    that happens to be valid UTF-8. NUL and lone surrogates become U+FFFD.
    """
    for bom, codec in BOMS:
        if html.startswith(bom):
            return clean_text(html[len(bom) :].decode(codec, "replace"))
    labels = (charset, declared_in_page(html))
    declared = [codec for codec in map(codec_of, labels) if codec is not None]
    if not (declared and declared[0].startswith(NOT_ASCII)):
        declared = ["utf-8", *declared]
    for name in declared:
        try:
            return clean_text(html.decode(name))
        except UnicodeDecodeError:
            continue
    return clean_text(decode_broken(html, declared))


def decode_broken(html: bytes, declared: list[str]) -> str:
    """Decode bytes that no declared charset fits: with replacements where few are needed, else by detection."""
    for codec in declared:
        text = html.decode(codec, "replace")
        unusual = len(text) - len(text.encode("ascii", "ignore"))
        if text.count("\ufffd") <= MAX_BROKEN_SHARE * unusual:
            return text
    detected = codec_of(detect_encoding(html[:DETECT_BYTES])) or "cp1252"
    return html.decode(detected, "replace")


def declared_in_page(html: bytes) -> str | None:
    """Read the charset of the page's own meta element or XML declaration."""
    found = EncodingDetector.find_declared_encoding(html[:DETECT_BYTES], is_html=True)
    # A meta element that could be read as ASCII cannot be true when it names UTF-16 (HTML standard, prescan).
    return "utf-8" if found is not None and found.lower().startswith(("utf-16", "utf-32")) else found


def codec_of(label: str | None) -> str | None:
    """Map a charset label to a Python codec by the list of the WHATWG Encoding standard; None for any other label."""
    name = map_encoding_to_html5(label.strip(" \t\r\n\"'"), False) if label else None
    return PYTHON_CODECS.get(name, name) if name else None


def clean_text(text: str) -> str:
    """Replace what no UTF-8 file and no tar member can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = SURROGATES.sub("\ufffd", text)
    return text.replace("\0", "\ufffd")


# --- the parse -------------------------------------------------------------------------------------------------------


def parse_html(text: str, max_nodes: int, max_depth: int, deadline: float) -> Tree | str:
    """Parse a page that passed `check_markup`; a reason constant where it passes a limit.

    `max_nodes` counts every node the walk meets, comments included; `deadline` is a `time.monotonic()`.
    """
    tree = Tree([], [], [], [], [])
    tags, parents, ends, texts, attributes = tree.tags, tree.parents, tree.ends, tree.texts, tree.attributes
    parser = LexborHTMLParser(text)
    waiting: list[tuple[LexborNode, int]] = []
    node, parent, met = parser.root, -1, 0
    while node is not None:
        met += 1
        if met > max_nodes:
            return TOO_MANY_NODES
        if not met % CHECK_EVERY and time.monotonic() > deadline:
            return TIMEOUT
        tag, child = node.tag or "-", None
        if tag == "-text":
            tags.append(TEXT)
            parents.append(parent)
            texts.append(node.text_content or "")
            attributes.append(NO_ATTRIBUTES)
        elif tag[0] not in "-!":
            tags.append(tag)
            parents.append(parent)
            texts.append("")
            attributes.append(node.attributes or NO_ATTRIBUTES)
            child = None if tag in OPAQUE else node.first_child
        following = node.next
        if child is not None:
            if following is not None:
                waiting.append((following, parent))
            node, parent = child, len(tags) - 1
        elif following is not None:
            node = following
        else:
            node, parent = waiting.pop() if waiting else (None, -1)
    ends.extend(find_ends(parents))
    return TOO_DEEP if len(tags) > max_depth and depth_of(parents) > max_depth else tree


def find_ends(parents: list[int]) -> list[int]:
    """Find, for each node in document order, the index after its last descendant."""
    ends = list(range(1, len(parents) + 1))
    for index in range(len(parents) - 1, 0, -1):
        parent = parents[index]
        if ends[parent] < ends[index]:
            ends[parent] = ends[index]
    return ends


def depth_of(parents: list[int]) -> int:
    """Count the nodes on the longest way down."""
    depths = [1] * len(parents)
    for index in range(1, len(parents)):
        depths[index] = depths[parents[index]] + 1
    return max(depths, default=0)


def first_of(tree: Tree, tag: str) -> int:
    """Find the first element of a tag; -1 if there is none."""
    return tree.tags.index(tag) if tag in tree.tags else -1
