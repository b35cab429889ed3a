"""HTML → the same flat tree by BeautifulSoup and html5lib: slow, and the independent judge of `dom.parse_html`.

    parse_soup(UTF-8 or text) → Tree | reason

html5lib follows the algorithm of the HTML standard, as lexbor does, so the two differ only where one of them has a
fault or an older edition of the standard. It is all Python: its limits can stop the parse itself.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import html5lib
from bs4 import BeautifulSoup, Tag
from bs4.builder._html5lib import HTML5TreeBuilder
from bs4.element import CData, NavigableString, PageElement, PreformattedString

from pipeline.dom import (
    CHECK_EVERY,
    MAX_SCRIPT_CHARS,
    NO_ATTRIBUTES,
    OPAQUE,
    TEXT,
    TIMEOUT,
    TOO_MANY_NODES,
    Tree,
    is_json_ld,
    within_depth,
)

PARSER_FAILED = "parser_failed"
FAILURES = (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the parser raises on markup that it was not written for."""

READ_CHARS = 2_048
"""Characters that are parsed between two looks at the clock; they can take about a second."""


class StoppedError(Exception):
    """The parse passed a limit; its argument is the reason."""


class Builder(HTML5TreeBuilder):
    """BeautifulSoup's builder, stopped at `deadline` and after `max_nodes` elements."""

    def __init__(self, max_nodes: int, deadline: float) -> None:
        super().__init__(multi_valued_attributes={}, store_line_numbers=False)
        self.elements_left, self.deadline = max_nodes, deadline

    def prepare_markup(self, markup: Any, *_: Any, **__: Any) -> Iterator[tuple[Any, None, None, bool]]:
        """Pass decoded markup on: it needs no detection, and no warning if it looks like XML."""
        yield markup, None, None, False

    def feed(self, markup: Any) -> None:
        """Parse markup in small pieces."""
        parser = html5lib.HTMLParser(tree=self.create_treebuilder)
        self.underlying_builder.parser = parser
        parser.parse(Reader(markup, self.deadline))


class Reader(io.StringIO):
    """Markup in pieces, until `deadline`."""

    def __init__(self, markup: str, deadline: float) -> None:
        super().__init__(markup, newline="")
        self.deadline = deadline

    def read(self, size: int | None = -1, /) -> str:
        """Read the next piece."""
        check_time(self.deadline)
        return super().read(READ_CHARS if size else 0)


class CountedTag(Tag):
    """An element that counts itself; the parser also makes elements that no tag stands for."""

    def __init__(self, parser: Any, builder: Builder, *arguments: Any, **named: Any) -> None:
        super().__init__(parser, builder, *arguments, **named)
        builder.elements_left -= 1
        if builder.elements_left < 0:
            raise StoppedError(TOO_MANY_NODES)
        check_time(builder.deadline)


def check_time(deadline: float) -> None:
    """Stop a page that takes too long."""
    if time.monotonic() > deadline:
        raise StoppedError(TIMEOUT)


def parse_soup(markup: bytes | str, max_nodes: int, max_depth: int, deadline: float) -> Tree | str:
    """Parse a page; a reason constant where it passes a limit or the parser fails.

    The limits are those of `dom.parse_html`. An attribute with an empty value has the value None, too.
    """
    text = markup if isinstance(markup, str) else markup.decode()
    try:
        soup = BeautifulSoup(io.StringIO(text), builder=Builder(max_nodes, deadline), element_classes={Tag: CountedTag})
        return within_depth(read_tree(soup, max_nodes, deadline), max_depth)
    except StoppedError as stopped:
        return str(stopped)
    except FAILURES:
        return PARSER_FAILED


def read_tree(soup: BeautifulSoup, max_nodes: int, deadline: float) -> Tree:
    """Read a parsed page into a tree."""
    tree = Tree([], [], [], [], [])
    room, met = MAX_SCRIPT_CHARS, 0
    waiting: list[tuple[Iterator[PageElement], int]] = [(iter(soup.find_all("html", recursive=False)), -1)]
    while waiting:
        nodes, parent = waiting[-1]
        node = next(nodes, None)
        if node is None:
            waiting.pop()
            if parent >= 0:
                tree.ends[parent] = len(tree.tags)
            continue
        met += 1
        if met > max_nodes:
            raise StoppedError(TOO_MANY_NODES)
        if not met % CHECK_EVERY:
            check_time(deadline)
        if isinstance(node, Tag):
            script = read_json_ld(node, room)
            room -= len(script)
            add_node(tree, parent, node.name.lower(), script, attributes_of(node))
            if node.name not in OPAQUE:
                waiting.append((iter(node.contents), len(tree.tags) - 1))
        elif isinstance(node, NavigableString) and not is_markup(node):
            add_node(tree, parent, TEXT, str(node), NO_ATTRIBUTES)
    return tree


def add_node(tree: Tree, parent: int, tag: str, text: str, attributes: dict[str, str | None]) -> None:
    """Add a node without children."""
    tree.tags.append(tag)
    tree.parents.append(parent)
    tree.ends.append(len(tree.tags))
    tree.texts.append(text)
    tree.attributes.append(attributes)


def attributes_of(tag: Tag) -> dict[str, str | None]:
    """Read the attributes of an element."""
    return {str(name): str(value) or None for name, value in tag.attrs.items()}


def read_json_ld(tag: Tag, room: int) -> str:
    """Read the text of a JSON-LD script; empty for any other element and for a text longer than `room`."""
    text = "".join(map(str, tag.contents)) if tag.name == "script" and is_json_ld(attributes_of(tag)) else ""
    return text if len(text) <= room else ""


def is_markup(node: NavigableString) -> bool:
    """Say whether a string is a comment or declaration rather than text."""
    return isinstance(node, PreformattedString) and not isinstance(node, CData)
