"""Names: what the class, id, role and tag of an element say that it is, by whole words.

    class → KINDS[class] (bits)      tag and attributes → names_of → bits of BITS

Each page repeats a few names on hundreds of elements, so every answer is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.nesting import words

Answer = TypeVar("Answer")

MAX_REMEMBERED, MAX_REMEMBERED_CHARS = 16_384, 500
"""Names of which the answer is remembered, and characters of the longest: pages must not fill the memory."""


class Remembered(dict[str, Answer], Generic[Answer]):
    """The answers of a function as a dictionary: a lookup costs no call where the answer is known."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        """Begin with no answer."""
        self.answer = answer

    def __missing__(self, names: str) -> Answer:
        """Find an answer, and remember it if there is room."""
        found = self.answer(names)
        if len(names) <= MAX_REMEMBERED_CHARS:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[names] = found
        return found


HIDDEN_CLASSES = words(
    "sr-only visually-hidden visuallyhidden screen-reader-text mw-editsection headerlink mw-jump-link"
)
"""Classes of what only screen readers, editors and copiers of links are meant to see."""

CAPTION_WORDS = words(
    "caption captions figcaption credit credits cutline legend legende imagecaption imgcaption photocaption"
    " imagedescription imagecredit photocredit fotocredit bildunterschrift bildtext bildnachweis unterschrift"
)
PICTURE_WORDS = words("image img photo picture pic bild foto")
SAYING_WORDS = words("text description desc credit source copyright")
FIGURE_WORDS = words(
    "figure fig figcenter figleft figright image img photo picture illustration thumb thumbnail caption"
)
WORD = re.compile(r"(?<![0-9])(?:[A-Z]?[a-z]+|[A-Z]+(?![a-z]))")
"""A word of a name; letters after a digit are more often of a hash."""

MAX_NAME_CHARS = 8_192
"""Characters of a class or id that are looked at."""


def split_words(names: str) -> frozenset[str]:
    """Split a class or id into its lower-case words: `relatedPosts share-bar` holds related, posts, share, bar."""
    return frozenset(map(str.lower, WORD.findall(names[:MAX_NAME_CHARS])))


CREDIT_WORDS = words("credit credits copyright photocredit fotocredit imagecredit bildnachweis")
CREDIT = re.compile(
    r"[\W_]*(?:©|(?:photo|foto|bild|image|picture|illustration|quelle|source|credit|cr[eé]dito?|copyright|fotograf)\w*"
    r"(?:\s(?:by|von|via|de|par)\b|\s?[:/|©–-]))",
    re.IGNORECASE,
)
MAX_CREDIT_CHARS = 100
SENTENCE_END = re.compile(r"\w{3,}[.!?]\s+\w")


def starts_credit(text: str) -> bool:
    """Say whether a text begins by saying whose a picture is."""
    return CREDIT.match(text[:MAX_CREDIT_CHARS]) is not None


def is_credit(text: str) -> bool:
    """Say whether a text says whose a picture is, and nothing else."""
    return len(text) <= MAX_CREDIT_CHARS and starts_credit(text) and SENTENCE_END.search(text) is None


HIDDEN, CAPTION, NAMED_FIGURE, CREDITED = 1, 2, 4, 8
"""What a class can say: nothing to see, a caption (in one word or in two: `image-description`), a figure, a credit."""


def kinds_of(names: str) -> int:
    """Say what a class says: bits of the constants above."""
    found = split_words(names)
    named_twice = not PICTURE_WORDS.isdisjoint(found) and not SAYING_WORDS.isdisjoint(found)
    return (
        HIDDEN * (not HIDDEN_CLASSES.isdisjoint(names.split()))
        + CAPTION * (named_twice or not CAPTION_WORDS.isdisjoint(found))
        + NAMED_FIGURE * (not FIGURE_WORDS.isdisjoint(found))
        + CREDITED * (not CREDIT_WORDS.isdisjoint(found))
    )


KINDS = Remembered(kinds_of)


def names_credit(names: str) -> bool:
    """Say whether a class names a credit."""
    return KINDS[names] & CREDITED > 0


NAMES = {
    "comment": words(
        "comment comments commentlist commenting disqus respond reply replies kommentar kommentare comentarios"
        " commentaires comentario"
    ),
    "footer": words("<footer> footer foot colophon copyright imprint impressum bottom contentinfo"),
    "nav": words(
        "<nav> nav navbar navigation menu menus submenu breadcrumb breadcrumbs pagination pager paging menubar"
        " tablist topbar toc navbox catlinks"
    ),
    "sidebar": words("<aside> sidebar sidebars aside rail widget widgets complementary secondary"),
    "share": words("share sharing shares social sharedaddy addtoany btns follow sns addthis bookmark"),
    "related": words(
        "related recommended recommendations recommend teaser teasers promo promos promotion latest popular trending"
        " mostread similar suggested suggestions scroller carousel headlines recent readmore mehr"
    ),
    "ad": words(
        "ad ads advert adverts advertisement advertising adsense sponsor sponsored banner anzeige werbung outbrain"
        " taboola disclosure"
    ),
    "subscribe": words(
        "newsletter subscribe subscription signup paywall login register registration cookie cookies consent gdpr"
        " modal popup overlay dialog alertdialog offcanvas donate"
    ),
    "form": words("<form> form search button buttons btn"),
    "meta": words(
        "meta byline author authors autor bio date dateline datum timestamp tags tag category categories info"
        " published credits"
    ),
    "header": words("<header> header masthead head hero"),
    "figure": words(
        "<figure> <figcaption> caption captions gallery slider slideshow image thumbnail credit credits legend"
    ),
    "text": words("text paragraph bodytext richtext textblock wysiwyg prose"),
    "body": words(
        "<article> <main> content article articlebody body entry post story main hentry inhalt contenido contenu"
    ),
    "card": words("item card cards grid tile box"),
    "title": words("title headline heading titel"),
    "list": words("<li> <ul> <ol> <dl>"),
    "table": words("<table>"),
    "quote": words("<blockquote> quote"),
    "wiki": words("references reflist footnotes infobox hatnote edit editsection"),
}
"""Words of a tag, class, id or role, matched whole, and what they say of the element."""

NAME_LIST = tuple(NAMES)
BITS = {name: 1 << position for position, name in enumerate(NAME_LIST)}
CHROME_NAMES = words("comment footer nav sidebar share related ad subscribe form")
CHROME = sum(BITS[name] for name in CHROME_NAMES)
"""Names of what stands around the content of a page."""


DENIED = re.compile(r"\b(?:no|not|non|has|with|without)[-_][\w-]+", re.IGNORECASE)
"""Names that say what an element lacks or has beside it (`no-sidebar`, `with-menu`), not what it is."""


WORD_BITS: dict[str, int] = {
    word: sum(BITS[name] for name, known in NAMES.items() if word in known)
    for word in frozenset().union(*NAMES.values())
}
TAG_BITS = {word[1:-1]: bits for word, bits in WORD_BITS.items() if word[0] == "<"}


def bits_of(names: str) -> int:
    """Say what one naming attribute calls its element: bits of `BITS`."""
    bits = 0
    for word in split_words(DENIED.sub(" ", names) if "-" in names or "_" in names else names):
        bits |= WORD_BITS.get(word, 0)
    return bits


NAMED = Remembered(bits_of)
NAMING = words("class id role itemprop")


def names_of(tag: str, attributes: dict[str, str | None]) -> int:
    """Say what the tag and the naming attributes of an element call it: bits of `BITS`."""
    bits = TAG_BITS.get(tag, 0)
    for name, value in attributes.items():
        if name in NAMING and value:
            bits |= NAMED[value]
    return bits
