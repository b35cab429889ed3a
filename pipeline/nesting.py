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

QUICK_TAGS = 20_000
"""Tags up to which no nesting is dear: as many nested `<div>` parse in 0.7 s."""

QUICK_CLONES = 1_200_000
"""Formatting elements that the parser may make by re-opening them: 0.3 s and some 300 MB."""

QUICK_CHARS = 196_608
"""Characters that hold too few attributes to be dear, even all in one tag (three seconds)."""

QUICK_LOOKS, QUICK_TAG_CHARS = 1_000, 16_384
"""How many unusual tags are looked at one by one, and how many characters of each."""

QUICK_ROOTS = 8
"""Tags of `html` and `body`, whose attributes the parser all adds to one element."""

FORMATTING = words("a b big code em font i nobr s small strike strong tt u")
ROOTS = frozenset(["html", "body"])

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

ONE_ATTRIBUTE = re.compile(ATTRIBUTE)
ANY_CASE = re.IGNORECASE | re.ASCII
"""Both cases of the letters A to Z; without `ASCII` the long s would be an s and the Kelvin sign a k, too."""

RAW_TEXT_END = {name: re.compile(f"</{name}{ENDS_NAME}", ANY_CASE) for name in RAW_TEXT}
SCRIPT_MARK = re.compile(f"<!--(?:-*>)?|-->|<(/?)script{ENDS_NAME}", ANY_CASE)
REOPENED = re.compile(
    "<[bcefinstuBCEFINSTU](?:|[iI][gG]|[oO][dD][eE]|[mM]|[oO][nN][tT]|[oO][bB][rR]|[mM][aA][lL][lL]"
    "|[tT][rR][iI][kK][eE]|[tT][rR][oO][nN][gG]|[tT])[ \t\n\f\r/]"
)
"""Tags of `FORMATTING` with attributes, but `a`, which closes the one before it; also `<c ` and such, for speed."""

NAME = r"""[^ \t\n\f\r/>="'<]++"""
PLAIN_VALUE = r"""(?:"[^"]*+"|'[^']*+'|[^ \t\n\f\r>"'<]++)"""
PLAIN_TAG = (
    rf"{NAME}(?:[ \t\n\f\r/]*+{NAME}(?:{SPACE}*+={SPACE}*+{PLAIN_VALUE}?+)?+){{0,{MAX_ATTRIBUTES}}}+[ \t\n\f\r/]*+>"
)
UNUSUAL_TAG = re.compile(rf"<(?:(?:[hH][tT][mM][lL]|[bB][oO][dD][yY])[ \t\n\f\r/]|(?=[a-zA-Z])(?!{PLAIN_TAG}))")
"""The start of a tag of `ROOTS`, or a bare `<` of what is no plain tag. Names and values of a plain tag hold no `<` or
quote, so that plain tags do not overlap and looking for them takes linear time."""

SHORT_TAG = re.compile(rf"<[a-zA-Z][^ \t\n\f\r/>]*+(?:[ \t\n\f\r/]*+{ATTRIBUTE}){{0,{MAX_ATTRIBUTES}}}+[ \t\n\f\r/]*+>")

MARKUP = re.compile(
    rf"<!--(?:-?>|.*?(?:--!?>|\Z))|<(/?)([a-zA-Z][^ \t\n\f\r/>]*+)({ATTRIBUTES})(?:>|\Z)|<!\[CDATA\[|<[!?/][^>]*+>?",
    re.DOTALL,
)
CHARACTER_DATA = r"<!\[CDATA\[[^<>\]]*+\]\]>"
PLAIN_LEAVES = ("title", "desc", "style", "script", "mi", "mn", "mo", "ms", "mtext")
PLAIN_INSIDE = (
    "(?:[^<]++|<!--(?!-?>)[^>]*+(?:(?<=--)|(?<=--!))>"
    + rf"|{CHARACTER_DATA}|<style{ENDS_NAME}{ATTRIBUTES}>(?:[^<]++|{CHARACTER_DATA})*+</style>"
    + "".join(rf"|<{leaf}{ENDS_NAME}{ATTRIBUTES}>[^<]*+</{leaf}>" for leaf in PLAIN_LEAVES)
    + rf"|</?(?!(?:{BREAKS_OUT}|svg|math|{'|'.join(PLAIN_LEAVES)}|foreignobject|annotation-xml){ENDS_NAME})"
    rf"[a-zA-Z][^ \t\n\f\r/>]*+{ATTRIBUTES}>)*+"
)
PLAIN_FOREIGN = {name: re.compile(rf"{PLAIN_INSIDE}(</{name}>)", ANY_CASE) for name in ("svg", "math")}
"""The inside of a drawing or formula that holds no HTML: whatever is open in it, its end tag closes."""


def check_markup(text: str) -> str | None:
    """Say why a page would be too dear to parse (a reason constant), or None.

    Most pages are harmless by what can be counted at once; only the others are scanned. Only ASCII matters, so `text`
    may as well hold a character for each byte of UTF-8.
    """
    return None if is_harmless(text) else scan_markup(text)


def is_harmless(text: str, open_elements: int = 0, clones: int = 0) -> bool:
    """Say whether markup has too few tags and attributes to be dear, whatever it holds.

    `open_elements` and `clones`: what may be open and be re-opened where it begins.
    """
    tags = text.count("<")
    if tags + open_elements > QUICK_TAGS:
        return False
    # At most half of the tags can be formatting elements that the other half re-opens.
    if tags * (tags // 4 + clones) > QUICK_CLONES:
        clones += MAX_CLONES * len(FORMATTING) + count_matches(REOPENED, text)
        if tags * clones > QUICK_CLONES:
            return False
    return len(text) <= QUICK_CHARS or not may_hold_long_tag(text)


def count_matches(pattern: re.Pattern[str], text: str) -> int:
    """Count the matches of a pattern without groups."""
    return len(pattern.findall(text))


def may_hold_long_tag(text: str) -> bool:
    """Say whether a tag with too many attributes may begin at any `<`, be it in a script or a comment."""
    roots = 0
    for looks, match in enumerate(UNUSUAL_TAG.finditer(text)):
        start = match.start()
        roots += len(match[0]) > 1
        if looks >= QUICK_LOOKS or roots > QUICK_ROOTS or not SHORT_TAG.match(text, start, start + QUICK_TAG_CHARS):
            return True
    return False


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
    position = steps = clones = unsure = forms = root_attributes = 0
    forms_lost = False
    while (match := MARKUP.search(text, position)) is not None:
        start, position = match.span()
        name = lower(match[2] or "")
        if not name:
            if match[0] == "<![CDATA[":
                if unsure:
                    return unread(text[start:], stack, clones)
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
        if position - start > 2 * MAX_ATTRIBUTES and count_matches(ONE_ATTRIBUTE, match[3]) > MAX_ATTRIBUTES:
            return TOO_MANY_ATTRIBUTES
        if name in ROOTS:
            root_attributes += count_matches(ONE_ATTRIBUTE, match[3])
            if root_attributes > MAX_ATTRIBUTES:
                return TOO_MANY_ATTRIBUTES
        if not unsure:
            if name in PLAIN_FOREIGN and (end := foreign_end(text, name, position, len(stack))):
                position = end
                continue
            if name in RAW_TEXT:
                position = raw_text_end(text, name, position)
                continue
            open_loose(top, name)
            if name in UNCOUNTED:
                continue
        elif name in RAW_TEXT:
            return unread(text[start:], stack, clones)
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


def lower(name: str) -> str:
    """Write a tag's name as the parser does: only the letters A to Z change."""
    return name.lower() if name.isascii() else name


def unread(rest: str, stack: list[OpenElement], clones: int) -> str | None:
    """Judge a page from where the tokenizer's own state is in doubt: what follows may be text or markup."""
    return None if is_harmless(rest, len(stack), clones) else TOO_DEEP


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
        name = lower(match[2] or "")
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
    """Find the end tag of a raw text element; the text's end if it has none."""
    if name == "script":
        return script_end(text, position)
    match = RAW_TEXT_END[name].search(text, position)
    return match.start() if match else len(text)


def script_end(text: str, position: int) -> int:
    """Find the end tag of a script: within a comment, the first one after a start tag does not end it."""
    in_comment = in_script = False
    for match in SCRIPT_MARK.finditer(text, position):
        if match[0].endswith("->"):
            in_comment = in_script = False
        elif match[0] == "<!--":
            in_comment = True
        elif match[1] and not in_script:
            return match.start()
        else:
            in_script = in_comment and not match[1]
    return len(text)


def find_or_end(text: str, part: str, position: int) -> int:
    """Find `part` from `position` on, or the text's end."""
    found = text.find(part, position)
    return found if found >= 0 else len(text)
