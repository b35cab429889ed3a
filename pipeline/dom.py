"""HTML bytes → UTF-8 → a flat tree: the place that knows the parser (lexbor, through selectolax).

    to_utf8(bytes, charset) → bytes      parse_html(UTF-8 or text) → Tree | reason

Nothing here recurses. A page goes through `nesting.check_markup` first: the parser cannot be interrupted.
`soup.parse_soup` builds the same tree with another parser.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from bs4.dammit import EncodingDetector
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from pipeline.nesting import TOO_DEEP, words

TOO_MANY_NODES = "too_many_nodes"
TIMEOUT = "timeout"

TEXT = "#text"
"""Tag of a text node."""

OPAQUE = words("script style template svg iframe canvas map datalist noembed noframes")
"""Elements whose inside is never content; the tree keeps them without children."""

JSON_LD = "application/ld+json"
"""Type of the scripts whose text is kept."""

MAX_SCRIPT_CHARS = 200_000
"""Characters of JSON-LD that are kept of a page; a script that no longer fits is left empty."""

CHECK_EVERY = 512
"""Nodes between two looks at the clock; a power of two."""

NO_ATTRIBUTES: dict[str, str | None] = {}


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed page as parallel lists in document order: node `i` holds the nodes `i + 1` to `ends[i] - 1`.

    `tags` are lower case, `TEXT` for text nodes, whose text is in `texts`, as is the text of a JSON-LD script;
    `parents[0]` is -1. An attribute without a value has the value None. Comments are left out.
    """

    tags: list[str]
    parents: list[int]
    ends: list[int]
    texts: list[str]
    attributes: list[dict[str, str | None]]


# --- bytes to UTF-8 --------------------------------------------------------------------------------------------------

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


def to_utf8(html: bytes, charset: str | None) -> bytes:
    """Write a page in UTF-8, read by BOM, the charset of the transport, its meta element, then detection; never fails.

    Bytes that are valid UTF-8 are UTF-8 whatever was declared: a wrong header is far more common than a legacy page
    that happens to be valid UTF-8. NUL and lone surrogates become U+FFFD. What the parser reads is UTF-8, so most pages
    are passed on as they are: to encode their text again would cost a third of its time.
    """
    for bom, codec in BOMS:
        if html.startswith(bom):
            return clean_text(html[len(bom) :].decode(codec, "replace")).encode()
    labels = (charset, declared_in_page(html))
    declared = [codec for codec in map(codec_of, labels) if codec is not None]
    if not (declared and declared[0].startswith(NOT_ASCII)):
        declared = ["utf-8", *declared]
    for name in declared:
        try:
            text = html.decode(name)
        except UnicodeDecodeError:
            continue
        return html if name == "utf-8" and b"\0" not in html else clean_text(text).encode()
    return clean_text(decode_broken(html, declared)).encode()


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


MAKER = LexborHTMLParser("")
TAG_NAMES = {
    MAKER.create_node(name).tag_id: name
    for name in words(
        "a abbr article aside b blockquote body br button caption cite code dd div dl dt em figcaption figure footer"
        " form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input label li link main meta nav noscript ol"
        " option p picture pre s script section select small source span strong style sub sup svg table tbody td"
        " template th thead time title tr u ul video"
    )
}
"""The parser's numbers of common elements: looking one up is cheaper than having the parser write its name."""


def parse_html(markup: bytes | str, max_nodes: int, max_depth: int, deadline: float) -> Tree | str:
    """Parse a page that passed `check_markup`; a reason constant where it passes a limit.

    `max_nodes` counts every node the walk meets, comments included; `deadline` is a `time.monotonic()`.
    """
    # Without events: a page could have the parser copy the chosen option of a select over and over.
    root = LexborHTMLParser(markup, options=LexborDocumentOptions.WO_EVENTS).root
    tree = Tree([], [], [], [], []) if root is None else walk(root, max_nodes, deadline)
    return tree if isinstance(tree, str) else within_depth(tree, max_depth)


def walk(node: LexborNode, max_nodes: int, deadline: float) -> Tree | str:
    """Read a node and all below it into a tree; more than half of the time of `parse_html` is spent here.

    Steps by `next` and `first_child` were faster than generators of the nodes, and eight times faster than the steps of
    resiliparse.
    """
    tree = Tree([], [], [], [], [])
    tags, parents, ends, texts, attributes = tree.tags, tree.parents, tree.ends, tree.texts, tree.attributes
    add_tag, add_parent, add_end = tags.append, parents.append, ends.append
    add_text, add_attributes = texts.append, attributes.append
    names, open_nodes = TAG_NAMES, list[LexborNode]()
    parent, count, met, room = -1, 0, 0, MAX_SCRIPT_CHARS
    while time.monotonic() <= deadline:
        if met >= max_nodes:
            return TOO_MANY_NODES
        steps = min(CHECK_EVERY, max_nodes - met)
        met += steps
        for _ in range(steps):
            text = node.text_content
            if text is not None:
                count += 1
                add_tag(TEXT)
                add_parent(parent)
                add_end(count)
                add_text(text)
                add_attributes(NO_ATTRIBUTES)
            elif tag := names.get(node.tag_id) or name_of(node):
                count += 1
                add_tag(tag)
                add_parent(parent)
                add_end(count)
                add_attributes(own := node.attributes)
                if tag not in OPAQUE:
                    add_text("")
                    child = node.first_child
                    if child is not None:
                        open_nodes.append(node)
                        node, parent = child, count - 1
                        continue
                elif tag == "script" and own:
                    script = read_json_ld(node, own, room)
                    room -= len(script)
                    add_text(script)
                else:
                    add_text("")
            following = node.next
            while following is None:
                if parent < 0:
                    return tree
                ends[parent] = count
                parent = parents[parent]
                following = open_nodes.pop().next
            node = following
    return TIMEOUT


def name_of(node: LexborNode) -> str:
    """Name an element; empty for a comment or doctype."""
    name = node.tag or "-"
    return "" if name[0] == "-" else name


def read_json_ld(script: LexborNode, attributes: dict[str, str | None], room: int) -> str:
    """Read the text of a JSON-LD script; empty for another script and for a text longer than `room`."""
    if not is_json_ld(attributes) or script.first_child is None:
        return ""
    text: str = script.first_child.text_content or ""
    return text if len(text) <= room else ""


def is_json_ld(attributes: dict[str, str | None]) -> bool:
    """Say whether a script with these attributes holds JSON-LD."""
    return (attributes.get("type") or "").strip().lower() == JSON_LD


def within_depth(tree: Tree, max_depth: int) -> Tree | str:
    """Give a tree back unless it is too deep."""
    return TOO_DEEP if len(tree.tags) > max_depth and depth_of(tree.parents) > max_depth else tree


def depth_of(parents: list[int]) -> int:
    """Count the nodes on the longest way down."""
    depths = [1] * len(parents)
    for index in range(1, len(parents)):
        depths[index] = depths[parents[index]] + 1
    return max(depths, default=0)


def first_of(tree: Tree, tag: str) -> int:
    """Find the first element of a tag; -1 if there is none."""
    return tree.tags.index(tag) if tag in tree.tags else -1
