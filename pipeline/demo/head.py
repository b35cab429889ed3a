"""The head of a page of the demonstration site: its charset and rules, and what it says of itself and its media.

A `PageDraft` comes in, HTML goes out. A page speaks of itself as Open Graph, as JSON-LD or as Dublin Core, of its
pictures and videos as JSON-LD and Open Graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from html import escape

from pipeline.demo import words
from pipeline.demo.fill import cast_of
from pipeline.demo.page import PageDraft, image_folder
from pipeline.demo.told import ANNOUNCED, LINKED, text_at
from pipeline.demo.video import Video
from schemas.document import NAME, TRANSCRIPT

FIRST_DAY = datetime(2025, 1, 1, 9, tzinfo=UTC)
LICENCES = ("by/4.0", "by-sa/4.0", "by-nc/4.0")


def encoding_of(draft: PageDraft) -> str:
    """Return the charset of the page's bytes."""
    return "iso-8859-1" if draft.dirt.startswith("latin1") else "utf-8"


def site_name(draft: PageDraft) -> str:
    """Return the name of the page's site."""
    return words.SITE_NAMES[draft.url.split("/")[2]]


def head_html(draft: PageDraft) -> str:
    """Write the head; a page may keep its charset or its robots rules out of it."""
    lines = [f"<title>{escape(draft.title)} | {escape(site_name(draft))}</title>"]
    if draft.dirt != "latin1_header":
        lines.insert(0, f'<meta charset="{encoding_of(draft)}">')
    if draft.dirt == "base":
        lines.append(f'<base href="{image_folder(draft.url, draft.dirt, draft.dice)}/">')
    if draft.dirt == "robots_meta":
        lines.append('<meta name="robots" content="noindex, noai, noimageai">')
    lines.append('<meta name="viewport" content="width=device-width, initial-scale=1">')
    lines.append(f'<meta property="og:title" content="{escape(draft.title)}">')
    lines += [*said_lines(draft), *announced_lines(draft), *linked_lines(draft)]
    lines.append("<style>body{font-family:sans-serif;max-width:60rem;margin:auto}.cookie{position:fixed}</style>")
    lines.append('<script>window.dataLayer = [{"event": "page", "paid": "<p>no text of the page</p>"}];</script>')
    return "<head>\n" + "\n".join(filter(None, lines)) + "\n</head>"


@dataclass(frozen=True, slots=True)
class Said:
    """What a page says of itself; empty where it says nothing."""

    canonical: str = ""
    published: datetime | None = None
    author: str = ""
    licence: str = ""


def said_by(draft: PageDraft) -> Said:
    """Return what a page says of itself; one page in four says nothing."""
    if draft.index % 4 == 3:
        return Said()
    licence = f"https://creativecommons.org/licenses/{LICENCES[draft.index % len(LICENCES)]}/"
    day = FIRST_DAY + timedelta(days=draft.index % 300)
    return Said(draft.url, day, cast_of(draft.seed, draft.index)[0], licence)


def said_lines(draft: PageDraft) -> list[str]:
    """Write what a page says of itself as Open Graph has it, as JSON-LD or as Dublin Core, by the page's number."""
    said = said_by(draft)
    if said.published is None:
        return []
    author, url = escape(said.author), escape(said.canonical)
    match draft.index % 4:
        case 0:
            return [
                f'<link rel="canonical" href="{url}">',
                f'<link rel="license" href="{said.licence}">',
                f'<meta name="author" content="{author}">',
                f'<meta property="article:published_time" content="{said.published.isoformat()}">',
            ]
        case 1:
            person = {"@type": "Person", "@id": "#author", "name": said.author}
            day = said.published.isoformat().replace("+00:00", "Z")
            article = {"@type": "Article", "url": said.canonical, "author": {"@id": "#author"}, "datePublished": day}
            graph = {"@context": "https://schema.org", "@graph": [article | {"license": said.licence}, person]}
            lines = ["//<![CDATA[", json.dumps(graph, indent=1), "//]]>"]
            return [f'<link rel="canonical" href="{url}">', '<script type="application/ld+json">', *lines, "</script>"]
    return [
        f'<meta property="og:url" content="{url}">',
        f'<meta name="dcterms.license" content="{said.licence}deed.en">',
        f'<meta name="DC.creator" content="By {author}">',
        f'<meta name="DC.date.issued" content="{format_datetime(said.published)}">',
    ]


def announced_lines(draft: PageDraft) -> Iterator[str]:
    """Announce the page's first picture, as Open Graph has it."""
    for picture in draft.pictures:
        if alt := text_at(picture.texts, ANNOUNCED):
            yield f'<meta property="og:image" content="{picture.copies[0].url}">'
            yield f'<meta property="og:image:alt" content="{escape(alt)}">'


def linked_lines(draft: PageDraft) -> list[str]:
    """Describe pictures and videos as JSON-LD."""
    described = [(picture.copies[0].url, text_at(picture.texts, LINKED)) for picture in draft.pictures]
    things = [{"@type": "ImageObject", "contentUrl": url, "caption": text} for url, text in described if text]
    things += [linked_video(video) for video in draft.videos if video.linked]
    if not things:
        return []
    graph = {"@context": "https://schema.org", "@graph": things}
    return ['<script type="application/ld+json">', json.dumps(graph, indent=1), "</script>"]


def linked_video(video: Video) -> dict[str, str]:
    """Describe a video."""
    return {
        "@type": "VideoObject",
        "contentUrl": video.copies[-1].url,
        "name": text_at(video.texts, NAME),
        "description": text_at(video.texts, LINKED),
        "thumbnailUrl": video.poster,
        "duration": f"PT{video.duration_s}S",
        "uploadDate": video.uploaded.isoformat(),
        "transcript": text_at(video.texts, TRANSCRIPT),
    }
