"""What a page says of itself in its head, its microdata and its JSON-LD.

    Tree, URL of the page, time of capture → Metadata(title, language, canonical, published, author, licence)

Of each fact the sources are asked in order of trust, and the first that gives a usable value is taken.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from pipeline import jsonld
from pipeline.dates import parse_published
from pipeline.dom import TEXT, Tree, clean_text, first_of
from pipeline.jsonld import Thing
from pipeline.marks import AUTHOR_METAS, DATE_METAS, LICENCE_METAS, MAX_VALUES, PUBLISHED_METAS, Marks, contents
from pipeline.nesting import words
from pipeline.urls import join_url

MAX_TITLE_CHARS = 300
MAX_AUTHOR_CHARS = 300
MAX_TEXT_NODES = 1_000
"""Nodes of an element whose text is read, so that nested elements cost what flat ones do."""
MAX_NAME_NODES = 50
"""The same for the name of an author."""
MAX_NODE_CHARS = 1_000
"""Characters of one text, or of one string of JSON-LD, that are looked at."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a page says of itself; the fields are those of `Document`."""

    title: str
    language: str
    canonical: str
    published: datetime | None
    author: str
    licence: str


def find_things(tree: Tree, marks: Marks) -> list[Thing]:
    """Read the things of a page's JSON-LD."""
    return jsonld.read_things(tree.texts[index] for index in marks.scripts)


def read_metadata(
    tree: Tree, marks: Marks, base: str, url: str, fetched: datetime | None, things: list[Thing] | None = None
) -> Metadata:
    """Read what a page says of itself; `base` is that of `find_base`, a date after `fetched` is not believed.

    `things` are those of `find_things`, read here where they are not given.
    """
    canonical = find_canonical(tree, marks, url, base)
    things = find_things(tree, marks) if things is None else things
    own = jsonld.choose_things(things, base, (canonical, url)) if things else []
    return Metadata(
        find_title(tree, marks, own),
        find_language(tree, marks),
        canonical,
        find_published(tree, marks, own, fetched),
        find_author(tree, marks, own, things),
        find_licence(tree, marks, own, base),
    )


# --- texts -----------------------------------------------------------------------------------------------------------

BREAKS = words("br p div li h1 h2 h3 h4 h5 h6")


def text_within(tree: Tree, index: int, max_nodes: int = MAX_TEXT_NODES) -> str:
    """Join and fold the text of the first nodes of a subtree; a line break separates words."""
    end = min(tree.ends[index], index + max_nodes)
    pieces = zip(tree.tags[index:end], tree.texts[index:end], strict=True)
    return " ".join(
        "".join(text[:MAX_NODE_CHARS] if tag == TEXT else " " if tag in BREAKS else "" for tag, text in pieces).split()
    )


def unescape(text: str) -> str:
    """Replace the character references that some sites leave in JSON-LD."""
    return html.unescape(text[:MAX_NODE_CHARS])


def fold(text: str) -> str:
    """Fold white space and replace what no file can carry."""
    return clean_text(" ".join(text.split()))


# --- title and language ----------------------------------------------------------------------------------------------

LANGUAGE = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,8}){0,7}")


def find_title(tree: Tree, marks: Marks, own: Iterable[Thing]) -> str:
    """Find the page's title: its own, that for social media, the article's headline, or the first heading."""
    return next((title[:MAX_TITLE_CHARS].rstrip() for title in map(fold, titles_of(tree, marks, own)) if title), "")


def titles_of(tree: Tree, marks: Marks, own: Iterable[Thing]) -> Iterator[str]:
    """Yield what may be the title, the most trusted first."""
    if (index := first_of(tree, "title")) >= 0:
        yield text_within(tree, index)
    yield from contents(marks, "og:title")
    for thing in own:
        yield from map(unescape, jsonld.strings(thing.get("headline")))
    if (index := first_of(tree, "h1")) >= 0:
        yield text_within(tree, index)


def find_language(tree: Tree, marks: Marks) -> str:
    """Find the language the page declares for itself, a lower-case BCP 47 tag."""
    root = tree.attributes[0] if tree.tags else {}
    for declared in (root.get("lang"), root.get("xml:lang"), *contents(marks, "content-language", "og:locale")):
        language = (declared or "").strip().lower().replace("_", "-")
        if LANGUAGE.fullmatch(language):
            return language
    return ""


# --- addresses -------------------------------------------------------------------------------------------------------

HOME = re.compile(r"https?://[^/]*/(?:(?:index|default|home)\.[a-z]{3,5})?")
COMMONS = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/((?:licenses|publicdomain)/[a-z0-9.+-]+/[a-z0-9./-]*)", re.IGNORECASE
)
CREDIT = re.compile(
    r"\b(?:photo|foto|photographer|picture|image|bild|illustration|credit|flickr|unsplash|wikimedia)(?:\b|\d)", re.I
)
"""Words of a line that says whose a picture is."""
INLINE = words("a span b i em strong small font cite abbr u sup sub")
MAX_CLIMB = 8
"""Parents of a link that are looked at."""
MAX_CREDIT_CHARS = 500
MAX_LICENCE_LINKS = 100
DEED = re.compile(r"/(?:deed|legalcode)[a-z.-]*/?$")


def find_base(tree: Tree, marks: Marks, url: str) -> str:
    """Find the URL that the page's references are relative to."""
    hrefs = (tree.attributes[index].get("href") for index in marks.bases)
    href = next(filter(None, hrefs), None)
    return (join_url(url, href) or url) if href else url


def web_url(base: str, reference: str | None) -> str:
    """Join a reference with the base; empty where it names nothing of the web."""
    joined = join_url(base, reference) if reference else None
    return joined if joined is not None and joined.startswith("http") else ""


def find_canonical(tree: Tree, marks: Marks, url: str, base: str) -> str:
    """Find the address that the page gives itself.

    A home page is not the address of a page that stands elsewhere: some sites name it on all their pages.
    """
    links = (index for index in marks.rels.get("canonical", ()) if tree.tags[index] == "link")
    hrefs = [tree.attributes[index].get("href") for index in islice(links, 1)]
    for reference in (*hrefs, *islice(contents(marks, "og:url"), 1)):
        found = web_url(base, reference)
        if found and (not HOME.fullmatch(found) or (HOME.fullmatch(url) and host_of(found) == host_of(url))):
            return found
    return ""


def host_of(url: str) -> str:
    """Cut out the host of a URL, without `www.`."""
    return url.partition("://")[2].partition("/")[0].removeprefix("www.")


def find_licence(tree: Tree, marks: Marks, own: Iterable[Thing], base: str) -> str:
    """Find the address of the page's licence: what it calls so, else the one Creative Commons licence it links to.

    A source that names several licences names none: a page with other people's pictures links to theirs.
    """
    for references in licences_of(tree, marks, own):
        found = {licence_url(base, reference) for reference in references} - {"", base}
        if len(found) == 1:
            return found.pop()
    return ""


def licences_of(tree: Tree, marks: Marks, own: Iterable[Thing]) -> Iterator[list[str]]:
    """Yield the references of each source that may name the licence, the most trusted first."""
    rels = [index for index in marks.rels.get("license", ()) if not in_figure(tree, index)]
    for tag in ("link", "a"):
        yield [tree.attributes[index].get("href") or "" for index in rels if tree.tags[index] == tag]
    yield [text for thing in own for text in jsonld.strings(thing.get("license"), "url", "@id")]
    yield [text for text in contents(marks, *LICENCE_METAS) if text.lstrip().startswith("http")]
    yield [commons_link(tree, index) for index in marks.commons[:MAX_LICENCE_LINKS]]


def commons_link(tree: Tree, index: int) -> str:
    """Read a link to a Creative Commons licence; empty where it is that of a picture."""
    href = (tree.attributes[index]["href"] or "").strip()
    return "" if not COMMONS.match(href) or in_figure(tree, index) or credits_picture(tree, index) else href


def in_figure(tree: Tree, index: int) -> bool:
    """Say whether an element is near the bottom of a figure."""
    for _ in range(MAX_CLIMB):
        if index < 0 or tree.tags[index] == "figure":
            break
        index = tree.parents[index]
    return index >= 0 and tree.tags[index] == "figure"


def credits_picture(tree: Tree, index: int) -> bool:
    """Say whether a link to a licence stands in a line that says whose a picture is."""
    for _ in range(MAX_CLIMB):
        if tree.tags[index] not in INLINE:
            break
        index = tree.parents[index]
    return CREDIT.search(text_within(tree, index, MAX_NAME_NODES)[:MAX_CREDIT_CHARS]) is not None


def licence_url(base: str, reference: str) -> str:
    """Join a licence's reference with the base; a Creative Commons licence gets one spelling, whatever its language."""
    found = web_url(base, reference)
    if common := COMMONS.match(found):
        return "https://creativecommons.org/" + DEED.sub("/", common[1].lower()).rstrip("/") + "/"
    return found


# --- date and author -------------------------------------------------------------------------------------------------

NO_NAME = re.compile(
    r"[^\s@]@[^\s@]|://|\bwww\.|^/|^[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,9}\.(?:[a-z]{2}|com|org|net|info|news)(?:/|$)"
)
"""Mail addresses, URLs, paths and host names."""
NOBODY = {"super user"} | words(
    "admin administrator anonymous author editor none null publisher root unknown user redaktion"
    " redaction redacción redazione rédaction redactie editorial staff"
)
MARKUP = re.compile(r"<[^<>]*>")


def find_published(tree: Tree, marks: Marks, own: Iterable[Thing], fetched: datetime | None) -> datetime | None:
    """Find when the page was published."""
    for text in dates_of(tree, marks, own):
        if found := parse_published(text, fetched):
            return found
    return only_time(tree, marks, fetched)


def dates_of(tree: Tree, marks: Marks, own: Iterable[Thing]) -> Iterator[str]:
    """Yield what may be the date of publication, the most trusted first."""
    yield from contents(marks, *PUBLISHED_METAS)
    for index in (*props_of(tree, marks, "datePublished"), *props_of(tree, marks, "uploadDate")):
        attributes = tree.attributes[index]
        yield attributes.get("content") or attributes.get("datetime") or ""
    for thing in own:
        yield from jsonld.strings(thing.get("datePublished") or thing.get("uploadDate"), "@value")
    yield from contents(marks, *DATE_METAS)
    for index in marks.times:
        if "pubdate" in tree.attributes[index]:
            yield tree.attributes[index].get("datetime") or ""


def only_time(tree: Tree, marks: Marks, fetched: datetime | None) -> datetime | None:
    """Read the time elements of the page's only article, or only main element, where they name one date."""
    for tag in ("article", "main") if marks.times else ():
        start = first_of(tree, tag)
        if start >= 0 and tag not in islice(tree.tags, tree.ends[start], None):
            inside = marks.times[bisect_left(marks.times, start) : bisect_left(marks.times, tree.ends[start])]
            texts = {tree.attributes[index].get("datetime") or "" for index in inside}
            found = {date for text in texts if (date := parse_published(text, fetched))}
            return found.pop() if len(found) == 1 else None
    return None


def props_of(tree: Tree, marks: Marks, prop: str) -> Iterator[int]:
    """Yield the first elements of a microdata property that are not part of a comment."""
    comments = iter(marks.props.get("comment", ()))
    comment, until = next(comments, len(tree.tags)), 0
    for index in marks.props.get(prop, ())[:MAX_VALUES]:
        while comment <= index:
            until = max(until, tree.ends[comment])
            comment = next(comments, len(tree.tags))
        if index >= until:
            yield index


def find_author(tree: Tree, marks: Marks, own: Iterable[Thing], things: Iterable[Thing]) -> str:
    """Find the names of the page's authors, separated by a comma and a space."""
    known = {thing["@id"]: thing for thing in things if isinstance(thing.get("@id"), str) and "name" in thing}
    for thing in own:
        if author := join_names(map(unescape, jsonld.names_of(thing, "author", known))):
            return author
    for name in AUTHOR_METAS:
        if author := join_names(contents(marks, name)):
            return author
    for index in marks.rels.get("author", ())[:MAX_VALUES]:
        if author := join_names([text_within(tree, index, MAX_NAME_NODES)]):
            return author
    for index in props_of(tree, marks, "author"):
        if author := join_names([prop_name(tree, marks, index)]):
            return author
    return ""


def prop_name(tree: Tree, marks: Marks, index: int) -> str:
    """Read the name of a microdata author: the `name` inside, its content, or its text."""
    names = marks.props.get("name", [])
    inner = bisect_left(names, index + 1)
    if inner < len(names) and names[inner] < tree.ends[index]:
        index = names[inner]
    return tree.attributes[index].get("content") or text_within(tree, index, MAX_NAME_NODES)


def join_names(texts: Iterable[str]) -> str:
    """Join the names among some texts, each once, as many as there is room for."""
    joined = ""
    for name in dict.fromkeys(filter(None, map(clean_name, texts))):
        longer = f"{joined}, {name}" if joined else name
        if len(longer) > MAX_AUTHOR_CHARS:
            break
        joined = longer
    return joined


def clean_name(text: str) -> str:
    """Fold a name and cut the `By` before it; empty for addresses and for what names nobody."""
    name = fold(MARKUP.sub("", text[: 2 * MAX_AUTHOR_CHARS]))
    if name[:3].lower() == "by ":
        name = name[3:]
    refused = NO_NAME.search(name) or name.lower() in NOBODY or not any(map(str.isalpha, name))
    return "" if refused else name
