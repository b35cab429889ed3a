"""JSON-LD in a page: the texts of its script elements → the things that say something of the page itself.

A thing is a JSON object with `@type`. Only what stands at the top, in `@graph`, or is tied to the page by `mainEntity`
or `mainEntityOfPage` is read: comments, list items and parts of other pages are not the page.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.urls import join_url

MAX_OBJECTS = 1_000
"""Lists and objects of a page that are looked at."""
MAX_VALUES = 50
"""Values of one property that are looked at, such as the authors of an article."""

WRAPPING = re.compile(r"(?:\s|<!--|//|/\*|\*/|<!\[CDATA\[|;)*")
"""What stands before the JSON where it was hidden from old browsers; what follows it is not read at all."""
DECODER = json.JSONDecoder(strict=False)
FOLLOWED = ("@graph", "mainEntity", "mainEntityOfPage")
ARTICLES = frozenset(
    ["BlogPosting", "LiveBlogPosting", "SocialMediaPosting", "DiscussionForumPosting", "Report", "Recipe", "HowTo",
     "Review", "CreativeWork", "Blog"]
)  # fmt: skip
"""Types of articles whose name does not end in `Article`."""

Thing = dict[str, Any]


def read_things(texts: Iterable[str]) -> list[Thing]:
    """Read the things of a page's scripts in their order; a script that is no JSON has none."""
    waiting = deque(filter(None, map(parse_json, texts)))
    things: list[Thing] = []
    left = MAX_OBJECTS
    while waiting and left > 0:
        left -= 1
        value = waiting.popleft()
        if isinstance(value, list):
            waiting.extendleft(reversed(value[:MAX_OBJECTS]))
        elif isinstance(value, dict):
            things.append(value)
            waiting.extendleft(value[name] for name in reversed(FOLLOWED) if isinstance(value.get(name), dict | list))
    return things


def parse_json(text: str) -> Any:
    """Parse the first JSON value of a script; None where there is none."""
    start = WRAPPING.match(text)
    try:
        return DECODER.raw_decode(text, start.end() if start else 0)[0]
    except (ValueError, RecursionError):
        return None


def types_of(thing: Thing) -> list[str]:
    """List the types of a thing without the address of their vocabulary."""
    return [name.rpartition("/")[2].rpartition(":")[2] for name in strings(thing.get("@type"))]


MEDIA_TYPES = frozenset(["ImageObject", "VideoObject"])
OTHERS = frozenset(
    ["logo", "author", "publisher", "creator", "contributor", "editor", "provider", "sourceOrganization", "comment"]
)
"""Properties whose pictures and videos are not the page's: portraits of authors, logos of publishers."""


def media_of(things: Iterable[Thing]) -> list[tuple[Thing, bool]]:
    """List the images and videos that things describe or hold, each with whether it is what the page is about."""
    waiting: deque[Any] = deque(things)
    main = {id(one) for thing in waiting for one in listed(thing.get("mainEntity"))}
    seen: set[int] = set()
    found: list[tuple[Thing, bool]] = []
    while waiting and len(seen) < MAX_OBJECTS:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        inner = value
        if isinstance(value, dict):
            if "@type" in value and not MEDIA_TYPES.isdisjoint(types_of(value)):
                found.append((value, id(value) in main or "mainEntityOfPage" in value))
            inner = [held for name, held in value.items() if name not in OTHERS]
        waiting.extendleft(held for held in reversed(inner[:MAX_OBJECTS]) if isinstance(held, dict | list))
    return found


def listed(value: Any) -> list[Any]:
    """Give the first items of a list, or one value as a list."""
    return value[:MAX_VALUES] if isinstance(value, list) else [value]


def choose_things(things: Iterable[Thing], base: str, urls: Iterable[str]) -> list[Thing]:
    """Choose what describes the page at one of `urls`: its article before its web page.

    Of several articles those that name the page's address are taken, else the first.
    """
    articles, pages = [], []
    for thing in things:
        types = types_of(thing)
        if any(name.endswith("Article") or name in ARTICLES for name in types):
            articles.append(thing)
        elif any(name.endswith("Page") for name in types):
            pages.append(thing)
    if len(articles) > 1:
        own = {plain_url(url) for url in urls if url}
        articles = [one for one in articles if not own.isdisjoint(addresses(one, base))] or articles[:1]
    return articles + pages


def addresses(thing: Thing, base: str) -> Iterator[str]:
    """Yield the addresses that a thing gives itself."""
    for name in ("url", "@id", "mainEntityOfPage"):
        for value in strings(thing.get(name), "@id", "url"):
            if joined := join_url(base, value):
                yield plain_url(joined)


def plain_url(url: str) -> str:
    """Cut what differs between two addresses of one page: scheme, `www.` and the slash at the end."""
    return url.partition("://")[2].removeprefix("www.").rstrip("/")


def strings(value: Any, *names: str) -> list[str]:
    """List the strings of a property: the value, the items of a list, or the first of `names` that an object has."""
    found = []
    for item in listed(value):
        if isinstance(item, dict):
            item = next((item[name] for name in names if isinstance(item.get(name), str)), None)
        if isinstance(item, str):
            found.append(item)
    return found


def names_of(thing: Thing, prop: str, known: dict[str, Thing]) -> list[str]:
    """List the names of the people or organisations of a property, which may refer to things by `@id`."""
    value = thing.get(prop)
    found = []
    for item in listed(value):
        if isinstance(item, dict) and "name" not in item and isinstance(item.get("@id"), str):
            item = known.get(item["@id"], item)
        found += strings(item.get("name")) if isinstance(item, dict) else strings(item)
    return found
