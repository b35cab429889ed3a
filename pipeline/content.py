"""Which elements of a page are content: what is hidden, what is boilerplate, and the region that holds the article.

    Tree → measure → Sums → choose_region → index; is_hidden, is_boilerplate: one element each, in constant time

Subtree sums are differences of prefix sums, because a subtree is a range of the flat tree.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from pipeline import dom
from pipeline.dom import TEXT, Tree
from pipeline.nesting import words

IMAGES = frozenset(["img", "amp-img"])
VIDEOS = frozenset(["video", "amp-video"])

MAX_NAME_CHARS = 8_192
"""Characters of a class or id that are looked at."""


class OutOfTimeError(Exception):
    """A page passed its time limit; `extract_document` turns it into a rejection."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the subtrees of a tree hold, and the nodes that matter, each list in document order.

    `chars` and `linked` are prefix sums of characters: subtree `i` holds `chars[ends[i]] - chars[i]`. `links`, `media`
    and     `titles` (`<h1>`) are the places of such elements, `regions` those named as the page's content.
    `skipped` is never content (only the top of each such subtree); `own` the headers and footers inside an article.
    """

    chars: list[int]
    linked: list[int]
    links: list[int]
    media: list[int]
    titles: list[int]
    regions: list[int]
    skipped: set[int]
    own: set[int]


NEVER_CONTENT = words(
    "head title nav aside input select textarea option datalist dialog embed audio progress meter output area script"
    " style template svg iframe canvas map noembed noframes"
)
NEVER_BOILERPLATE = words("html body main article figure figcaption img picture video")
BOILERPLATE_ROLES = words("navigation banner contentinfo search complementary menu menubar dialog alertdialog")
BOILERPLATE_WORDS = words(
    "menu menus nav navbar navigation sidebar sidebars cookie cookies consent gdpr share sharing shares"
    " sharedaddy social related recommended recommendations comment comments respond disqus advert adverts"
    " advertisement advertisements advertising ad ads adsense sponsor sponsored promo promos promotion newsletter"
    " subscribe subscription signup breadcrumb breadcrumbs pagination pager footer masthead modal popup"
)
"""Words of a class or id, matched whole, that name boilerplate."""

HIDDEN_CLASSES = frozenset(["sr-only", "visually-hidden", "visuallyhidden", "screen-reader-text"])
PICTURE_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|tiff?)$", re.IGNORECASE)
HIDDEN_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
LIST_LIKE = words("div ul ol dl section table td")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
NO_WORDS: frozenset[str] = frozenset()


@lru_cache(maxsize=8_192)
def words_of(names: str) -> frozenset[str]:
    """Split a class or id into its lower-case words: `relatedPosts share-bar` holds related, posts, share, bar."""
    return frozenset(word.lower() for word in WORD.findall(names[:MAX_NAME_CHARS]))


def words_at(tree: Tree, index: int) -> frozenset[str]:
    """Read the words of an element's class."""
    names = tree.attributes[index].get("class")
    return words_of(names) if names else NO_WORDS


def is_hidden(tree: Tree, index: int) -> bool:
    """Say whether the page hides an element."""
    attributes = tree.attributes[index]
    if not attributes or tree.tags[index] in ("html", "body"):
        return False
    return (
        "hidden" in attributes
        or HIDDEN_STYLE.search(attributes.get("style") or "") is not None
        or not HIDDEN_CLASSES.isdisjoint((attributes.get("class") or "").split())
    )


def measure(tree: Tree, deadline: float) -> Sums:
    """Take the sums of a tree; what is hidden or never content counts nothing."""
    count = len(tree.tags)
    sums = Sums([], [], [], [], [], [], set(), set())
    chars = linked = index = link_until = article_until = 0
    while index < count:
        if not index % dom.CHECK_EVERY:
            check_time(deadline)
        sums.chars.append(chars)
        sums.linked.append(linked)
        tag = tree.tags[index]
        if tag == TEXT:
            size = len(tree.texts[index].strip())
            chars += size
            linked += size if index < link_until else 0
        elif tag in NEVER_CONTENT or (tree.attributes[index] and is_hidden(tree, index)):
            sums.skipped.add(index)
            inside = tree.ends[index] - index - 1
            sums.chars.extend([chars] * inside)
            sums.linked.extend([linked] * inside)
            index = tree.ends[index]
            continue
        elif tag == "a":
            sums.links.append(index)
            link_until = max(link_until, tree.ends[index])
        elif tag in IMAGES or tag in VIDEOS:
            sums.media.append(index)
        elif tag == "h1":
            sums.titles.append(index)
        elif is_region(tree, index, tag):
            sums.regions.append(index)
            article_until = max(article_until, tree.ends[index])
        elif tag in ("header", "footer") and index < article_until:
            sums.own.add(index)
        index += 1
    sums.chars.append(chars)
    sums.linked.append(linked)
    return sums


def check_time(deadline: float) -> None:
    """Stop a page that takes too long."""
    if time.monotonic() > deadline:
        raise OutOfTimeError


def within(sums: list[int], tree: Tree, index: int) -> int:
    """Sum over a subtree."""
    return sums[tree.ends[index]] - sums[index]


def count_within(places: list[int], tree: Tree, index: int) -> int:
    """Count the places that lie in a subtree."""
    return bisect_left(places, tree.ends[index]) - bisect_left(places, index)


def unlinked(tree: Tree, sums: Sums, index: int) -> int:
    """Count the characters of a subtree that are not in links."""
    return within(sums.chars, tree, index) - within(sums.linked, tree, index)


def choose_region(tree: Tree, sums: Sums, min_share: float) -> int:
    """Choose the element to read: a main or article that clearly holds the content, else the body.

    `min_share` is the share of the body's unlinked text that it must hold.
    """
    body = max(dom.first_of(tree, "body"), 0)
    weights = {index: unlinked(tree, sums, index) for index in sums.regions}
    heaviest = max(weights.values(), default=0)
    if heaviest == 0 or heaviest < min_share * unlinked(tree, sums, body):
        return body
    return max(index for index, weight in weights.items() if weight >= 0.8 * heaviest)


def is_region(tree: Tree, index: int, tag: str) -> bool:
    """Say whether an element is named as the page's content."""
    if tag in ("main", "article"):
        return True
    attributes = tree.attributes[index]
    return bool(attributes) and (attributes.get("role") == "main" or attributes.get("itemprop") == "articleBody")


MIN_LINKS = 3
"""Links that make a list of links."""


@dataclass(frozen=True, slots=True)
class BoilerplateLimits:
    """When names and links count: `max_share` of the region's unlinked text, `min_link_share` of a block's own."""

    max_share: float
    min_link_share: float


def is_boilerplate(tree: Tree, sums: Sums, region: int, index: int, limits: BoilerplateLimits) -> bool:
    """Say whether an element of a region is navigation, chrome or advertising rather than content."""
    tag = tree.tags[index]
    if tag in NEVER_BOILERPLATE:
        return False
    if tag == "a":
        return enlarges_picture(tree, sums, index)
    if not (is_named(tree, sums, index) or (tag in LIST_LIKE and is_link_list(tree, sums, index, limits))):
        return False
    share = unlinked(tree, sums, index) / max(1, unlinked(tree, sums, region))
    return share <= limits.max_share


def is_named(tree: Tree, sums: Sums, index: int) -> bool:
    """Say whether an element is boilerplate by its tag, role, class or id."""
    tag, attributes = tree.tags[index], tree.attributes[index]
    if attributes and (
        attributes.get("role") in BOILERPLATE_ROLES
        or not BOILERPLATE_WORDS.isdisjoint(words_at(tree, index))
        or not BOILERPLATE_WORDS.isdisjoint(words_of(attributes.get("id") or ""))
    ):
        return True
    if tag not in ("header", "footer") or index in sums.own:
        return False
    return tag == "footer" or count_within(sums.titles, tree, index) == 0


def enlarges_picture(tree: Tree, sums: Sums, index: int) -> bool:
    """Say whether a link, alone in its block, only opens a picture in full size."""
    if not PICTURE_FILE.search(tree.attributes[index].get("href") or "") or count_within(sums.media, tree, index):
        return False
    return within(sums.chars, tree, index) == within(sums.chars, tree, tree.parents[index])


def is_link_list(tree: Tree, sums: Sums, index: int, limits: BoilerplateLimits) -> bool:
    """Say whether a block is mostly links."""
    chars, linked = within(sums.chars, tree, index), within(sums.linked, tree, index)
    return count_within(sums.links, tree, index) >= MIN_LINKS and linked >= limits.min_link_share * chars > 0
