"""The elements in which a page speaks of itself: a tree → Marks, in one pass over the elements that have attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress

from pipeline.dom import Tree, is_json_ld
from pipeline.nesting import words
from pipeline.rights import PRODUCT, TDM_FIELD

MAX_VALUES = 20
"""Values of one source that are looked at."""

PUBLISHED_METAS = ("article:published_time", "og:article:published_time", "og:published_time")
DATE_METAS = (
    "date", "dc.date", "dc.date.issued", "dc.date.created", "dcterms.date", "dcterms.issued", "dcterms.created",
    "datepublished", "publishdate", "publish-date", "publish_date", "published_date", "publication_date", "pubdate",
    "parsely-pub-date", "sailthru.date", "citation_publication_date", "citation_date", "article.published",
    "article:published", "cxenseparse:recs:publishtime", "bt:pubdate", "article_date_original", "displaydate",
)  # fmt: skip
AUTHOR_METAS = ("author", "article:author", "dc.creator", "dcterms.creator", "parsely-author", "sailthru.author")
LICENCE_METAS = ("dcterms.license", "dc.rights.license", "dc.rights", "dcterms.rights")
RIGHTS_METAS = ("robots", PRODUCT, TDM_FIELD)
PICTURE_METAS = ("og:image", "og:image:url", "twitter:image")
VIDEO_METAS = ("og:video:secure_url", "og:video", "og:video:url")
DESCRIPTION_METAS = ("dcterms.description", "dc.description", "og:description", "description")
METAS = words(
    "og:title og:url og:locale og:type content-language og:image:alt twitter:image:alt og:video:type og:video:duration"
    " video:duration"
).union(
    PUBLISHED_METAS, DATE_METAS, AUTHOR_METAS, LICENCE_METAS, RIGHTS_METAS, PICTURE_METAS, VIDEO_METAS,
    DESCRIPTION_METAS,
)  # fmt: skip
PROPS = words("datePublished uploadDate author name comment")
RELS = words("canonical author license")
SPEAKING = words("a meta link script time base")


@dataclass(frozen=True, slots=True)
class Marks:
    """The elements that say something of a page, in document order, by what they say; `metas` holds contents."""

    metas: dict[str, list[str]] = field(default_factory=dict)
    props: dict[str, list[int]] = field(default_factory=dict)
    rels: dict[str, list[int]] = field(default_factory=dict)
    commons: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    scripts: list[int] = field(default_factory=list)
    bases: list[int] = field(default_factory=list)


def find_marks(tree: Tree) -> Marks:
    """Find what matters in one pass over the elements that have attributes."""
    marks = Marks()
    tags, attributes = tree.tags, tree.attributes
    for index in compress(range(len(tags)), attributes):
        own = attributes[index]
        if "itemprop" in own:
            add_tokens(marks.props, PROPS, own["itemprop"] or "", index)
        tag = tags[index]
        if tag not in SPEAKING:
            continue
        if tag == "a":
            if "rel" in own:
                add_tokens(marks.rels, RELS, (own["rel"] or "").lower(), index)
            if "creativecommons.org/" in (own.get("href") or ""):
                marks.commons.append(index)
        elif tag == "meta":
            add_meta(marks.metas, own)
        elif tag == "link":
            if "rel" in own and own["rel"] != "stylesheet":
                add_tokens(marks.rels, RELS, (own["rel"] or "").lower(), index)
        elif tag == "script":
            if "type" in own and is_json_ld(own):
                marks.scripts.append(index)
        elif tag == "time":
            marks.times.append(index)
        else:
            marks.bases.append(index)
    return marks


def add_tokens(places: dict[str, list[int]], known: frozenset[str], tokens: str, index: int) -> None:
    """Note an element under each known word of a `rel` or `itemprop`."""
    for token in known.intersection(tokens.split()):
        places.setdefault(token, []).append(index)


def add_meta(metas: dict[str, list[str]], attributes: dict[str, str | None]) -> None:
    """Note the content of a meta element under its name."""
    if not (content := attributes.get("content")):
        return
    for kind in ("property", "name", "http-equiv"):
        if (name := attributes.get(kind)) and (name := name.strip().lower()) in METAS:
            metas.setdefault(name, []).append(content)


def contents(marks: Marks, *names: str) -> Iterator[str]:
    """Yield the contents of the meta elements of these names, in the order of the names."""
    for name in names:
        yield from marks.metas.get(name, ())[:MAX_VALUES]
