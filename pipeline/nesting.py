"""The guard before the parse: markup → the reason why parsing it would cost more than linear time, or None.

The algorithm of the HTML standard, and lexbor with it, is quadratic in nesting depth, in a tag's attributes and in
unclosed formatting elements, and a running parse cannot be interrupted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOO_DEEP = "too_deep"
TOO_MANY_ATTRIBUTES = "too_many_attributes"


def words(text: str) -> frozenset[str]:
    """Write a set of names as a line of text."""
    return frozenset(text.split())


MAX_OPEN_ELEMENTS = 10_000
"""Elements open at once. 8,192 nested `<div>` parse in 0.08 s, 32,768 in 1.2 s, 100,000 in 12 s."""

MAX_ATTRIBUTES = 1_000
"""Attributes of one tag; 20,000 cost 0.6 s and 40,000 cost 2.3 s."""

MAX_FOREIGN_DEPTH = 500
"""Elements open at once inside a drawing or formula that is taken as one."""

MAX_STEPS = 400_000_000
"""Bound of (tags x elements open at each), the parser's worst case; about a second."""

MAX_CLONES = 3
"""Formatting elements of one name and attributes that are re-opened (the standard's "Noah's Ark clause")."""

STEPS_A_CLONE = 100
"""Steps that one re-opened formatting element is worth: it makes a node."""

SCAN_CHARS, SCAN_TAGS, SCAN_FORMATTING = 196_608, 4_096, 300
"""A page below all three cannot cost more than about three seconds and is not scanned."""

FORMATTING = words("a b big code em font i nobr s small strike strong tt u")
FORMATTING_TAG = re.compile(r"<(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)[\s/>]", re.IGNORECASE)

RAW_TEXT = words("script style title textarea xmp iframe noembed noframes")
"""Elements whose inside the tokenizer takes as text up to their end tag."""

RAW_UNSURE = frozenset(["svg", "math", "select", "frameset"])
"""Inside these the elements of `RAW_TEXT` may be ordinary ones."""

UNCOUNTED = words(
    "html head body p li option tr td th tbody thead tfoot caption colgroup area base basefont bgsound br col"
    " embed frame hr image img input keygen link meta param source track wbr"
)
"""Void elements, and elements that never nest but with a counted one (a table, a list, ...) between them."""

ENDS_PARAGRAPH = words(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer header hgroup"
    " main menu nav ol pre section summary ul h1 h2 h3 h4 h5 h6 listing dd dt"
)
"""Elements whose start tag closes an open `p`."""

SURE_ENDS = ENDS_PARAGRAPH | words("button form object applet marquee table template select")
"""Elements whose end tag closes a `p` or `li` left open in them."""

BREAKS_OUT = (
    "b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|embed|font|h[1-6r]|head|i|img|li|listing|menu|meta|nobr|ol|p"
    "|pre|ruby|s|small|span|strong|strike|su[bp]|table|tt|u|ul|var"
)
"""Start tags that end a drawing or formula in the middle (HTML standard, foreign content)."""

SPACE = r"[ \t\n\f\r]"
VALUE = r"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^ \t\n\f\r>"'][^ \t\n\f\r>]*+)"""
ATTRIBUTE = rf"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+(?:{SPACE}*+={SPACE}*+{VALUE}?+)?+"
ATTRIBUTES = rf"(?:[ \t\n\f\r/]*+{ATTRIBUTE})*+[ \t\n\f\r/]*+"
ENDS_NAME = r"(?=[ \t\n\f\r/>])"

MARKUP = re.compile(
    rf"<!--(?:-?>|.*?(?:--!?>|\Z))|<(/?)([a-zA-Z][^ \t\n\f\r/>]*+)({ATTRIBUTES})(?:>|\Z)|<!\[CDATA\[|<[!?/][^>]*+>?",
    re.DOTALL,
)
ONE_ATTRIBUTE = re.compile(ATTRIBUTE)
CHARACTER_DATA = r"<!\[CDATA\[[^<>\]]*+\]\]>"
PLAIN_LEAVES = ("title", "desc", "style", "script", "mi", "mn", "mo", "ms", "mtext")
PLAIN_INSIDE = (
    "(?:[^<]++|<!--(?!-?>)[^>]*+(?:(?<=--)|(?<=--!))>"
    + rf"|{CHARACTER_DATA}|<style{ENDS_NAME}{ATTRIBUTES}>(?:[^<]++|{CHARACTER_DATA})*+</style>"
    + "".join(rf"|<{leaf}{ENDS_NAME}{ATTRIBUTES}>[^<]*+</{leaf}>" for leaf in PLAIN_LEAVES)
    + rf"|</?(?!(?:{BREAKS_OUT}|svg|math|{'|'.join(PLAIN_LEAVES)}|foreignobject|annotation-xml){ENDS_NAME})"
    rf"[a-zA-Z][^ \t\n\f\r/>]*+{ATTRIBUTES}>)*+"
)
PLAIN_FOREIGN = {name: re.compile(rf"{PLAIN_INSIDE}(</{name}>)", re.IGNORECASE) for name in ("svg", "math")}
"""The inside of a drawing or formula that holds no HTML: whatever is open in it, its end tag closes."""


def check_markup(text: str) -> str | None:
    """Say why a page would be too dear to parse (a reason constant), or None.

    Only long or tag-rich pages are scanned; the others cannot do harm.
    """
    return None if is_harmless(text) else scan_markup(text)


def is_harmless(text: str) -> bool:
    """Say whether a page is too short and too poor in tags to be dear, whatever it holds."""
    opening = text.count("<") - text.count("</")
    return len(text) <= SCAN_CHARS and opening <= SCAN_TAGS and len(FORMATTING_TAG.findall(text)) <= SCAN_FORMATTING


@dataclass(slots=True)
class OpenElement:
    """An element that may be open: its name, its whole tag if it is a formatting one, what lies loose in it.

    `item` and `paragraph`: an `li` and a `p`, which are not counted, may be open right inside it.
    """

    name: str
    raw: str
    item: bool = False
    paragraph: bool = False


def scan_markup(text: str) -> str | None:
    """Bound what the parser's stack can hold, from above and in linear time.

    An end tag is believed only if it names the element opened last. Every other end tag may be ignored by the parser
    (`<div><table></div></table>` leaves the div open), so it closes nothing here.
    """
    stack = [OpenElement("", "")]
    formatting: dict[str, int] = {}
    position = steps = clones = unsure = forms = 0
    forms_lost = False
    while (match := MARKUP.search(text, position)) is not None:
        start, position = match.span()
        name = (match[2] or "").lower()
        if not name:
            if match[0] == "<![CDATA[":
                if unsure:
                    return unread(text, start)
                position = find_or_end(text, ">", position)
            continue
        steps += len(stack) + STEPS_A_CLONE * clones
        top = stack[-1]
        if match[1]:
            if top.name == name and closes(top) and not (name == "form" and forms_lost):
                stack.pop()
                unsure -= name in RAW_UNSURE
                forms -= name == "form"
                if top.raw:
                    formatting[top.raw] -= 1
                    clones -= formatting[top.raw] < MAX_CLONES
            elif name == "form":
                forms_lost = True
            else:
                close_loose(top, name)
            continue
        if position - start > 2 * MAX_ATTRIBUTES and too_many_attributes(match[3]):
            return TOO_MANY_ATTRIBUTES
        if not unsure:
            if name in PLAIN_FOREIGN and (end := foreign_end(text, name, position, len(stack))):
                position = end
                continue
            if name in RAW_TEXT:
                position = raw_text_end(text, name, position)
                if position < 0:
                    return unread(text, start)
                continue
            open_loose(top, name)
            if name in UNCOUNTED:
                continue
        elif name in RAW_TEXT:
            return unread(text, start)
        if name == "form":
            forms_lost, forms = forms_lost or forms > 0, forms + 1
        raw = match[0] if name in FORMATTING else ""
        stack.append(OpenElement(name, raw))
        unsure += name in RAW_UNSURE
        if raw:
            formatting[raw] = formatting.get(raw, 0) + 1
            clones += formatting[raw] <= MAX_CLONES
        if len(stack) > MAX_OPEN_ELEMENTS or steps > MAX_STEPS:
            return TOO_DEEP
    return TOO_DEEP if steps > MAX_STEPS else None


def unread(text: str, position: int) -> str | None:
    """Judge a page from where the tokenizer's own state is in doubt: what follows may be text or markup."""
    return None if is_harmless(text[position:]) else TOO_DEEP


def closes(element: OpenElement) -> bool:
    """Say whether the end tag of the element opened last closes it: most are ignored while an `li` or `p` is open."""
    return element.name in SURE_ENDS or not (element.item or element.paragraph)


def open_loose(element: OpenElement, name: str) -> None:
    """Note what a start tag does to the `li` and `p` right inside an element."""
    if name == "p":
        element.paragraph = True
    elif name == "li":
        element.item, element.paragraph = True, False
    elif name in ENDS_PARAGRAPH:
        element.paragraph = False


def close_loose(element: OpenElement, name: str) -> None:
    """Note what an end tag does to the `li` and `p` right inside an element."""
    if name == "p" or (name == "li" and element.item):
        element.paragraph = False
        element.item = element.item and name != "li"


def too_many_attributes(text: str) -> bool:
    """Count the attributes of one tag up to the limit."""
    return any(count >= MAX_ATTRIBUTES for count, _ in enumerate(ONE_ATTRIBUTE.finditer(text)))


def foreign_end(text: str, name: str, position: int, open_elements: int) -> int:
    """Find the end of a drawing or formula that leaves nothing open and nests within the limit; 0 if it may not."""
    match = PLAIN_FOREIGN[name].match(text, position)
    if match is None or text[position - 2] == "/":
        return 0
    inside = text.count("<", position, match.end()) - text.count("</", position, match.end())
    if inside + open_elements > MAX_OPEN_ELEMENTS // 2:
        return 0
    return match.end() if is_balanced(text[position : match.start(1)]) else 0


def is_balanced(inside: str) -> bool:
    """Say whether every end tag in a drawing or formula ends something in it, not an element around it."""
    if inside.count("</") == 0:
        return True
    stack: list[str] = []
    for match in MARKUP.finditer(inside):
        name = (match[2] or "").lower()
        if match[1] and name not in stack:
            return False
        if match[1]:
            while stack.pop() != name:
                pass
        elif name and not match[0].endswith("/>"):
            stack.append(name)
            if len(stack) > MAX_FOREIGN_DEPTH:
                return False
    return True


def raw_text_end(text: str, name: str, position: int) -> int:
    """Find the end tag of a raw text element (the text's end if it has none); -1 where it is in doubt.

    It is in doubt in a script that opens a comment and a script in it: its first end tag may not end it.
    """
    match = re.compile(rf"</{name}{ENDS_NAME}", re.IGNORECASE).search(text, position)
    end = match.start() if match else len(text)
    comment = text.rfind("<!--", position, end) if name == "script" else -1
    if comment < 0 or text.find("-->", comment, end) >= 0 or "<script" not in text[comment:end].lower():
        return end
    return -1


def find_or_end(text: str, part: str, position: int) -> int:
    """Find `part` from `position` on, or the text's end."""
    found = text.find(part, position)
    return found if found >= 0 else len(text)
