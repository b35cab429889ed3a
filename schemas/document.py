"""A document: the text of a page and references to its media, in reading order.

    Page → Document(url, title, language, items=(Text, ImageRef, Text, VideoRef, ...), published, author, ...)

A `Text` is one block of the page (a paragraph, a heading, a list item, a caption, a table); it never spans a
medium. A caption belongs to its image (`ImageRef.caption`) and stands once more in reading order, as the `Text`
beside it, so that both a pair and an interleaved sample can be made from the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas.page import ORIGIN_TYPE, TIME_TYPE, Origin, key_of, origin_to_row


@dataclass(frozen=True, slots=True)
class Text:
    """A block of text; lines inside it are separated by a newline."""

    text: str


ALT = "alt"
TITLE = "title"
FIGCAPTION = "figcaption"
CAPTION = "caption"
DESCRIPTION = "description"
GALLERY = "gallery"
NAME = "name"
TRANSCRIPT = "transcript"
CUES = "cues"


@dataclass(frozen=True, slots=True)
class Said:
    """A text that belongs to an image or video, and where it stands.

    `kind` is `alt` or `title` (attributes), `figcaption` (of its figure), `caption` (a neighbour that is marked or set
    as one), `description` (JSON-LD, Open Graph, Dublin Core), `gallery` (of the gallery that it stands in), and for
    videos also `name`, `transcript` (JSON-LD) and `cues` (of a caption track).
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A reference to an image; the sizes are what the page claims, `None` where it claims nothing.

    `texts` are all texts that the page gives it, `alt` and `caption` among them.
    """

    url: str
    alt: str = ""
    caption: str = ""
    width_px: int | None = None
    height_px: int | None = None
    texts: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Track:
    """A file of timed text that belongs to a video; `kind` is that of the element: captions, subtitles, ..."""

    url: str
    kind: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class VideoRef:
    """A reference to a video; `poster` is the URL of its still picture, `duration_s` what the page claims or 0."""

    url: str
    texts: tuple[Said, ...] = ()
    poster: str = ""
    duration_s: float = 0.0
    uploaded: datetime | None = None
    tracks: tuple[Track, ...] = ()


Item = Text | ImageRef | VideoRef


@dataclass(frozen=True, slots=True)
class Document:
    """A page's content, and what the page says of itself, empty where it says nothing.

    `language` is a BCP 47 tag in lower case; `canonical` and `licence` are absolute URLs; `published` is UTC, at
    midnight where the page names only the day; `author` holds names, separated by commas. `restrictions` are what the
    page and its HTTP headers say of its use, such as `robots: noai`, whether it is honoured or not.
    """

    url: str
    title: str
    language: str
    items: tuple[Item, ...]
    origin: Origin
    fetched: datetime | None = None
    canonical: str = ""
    published: datetime | None = None
    author: str = ""
    licence: str = ""
    restrictions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The document's name in every table and shard."""
        return key_of(self.url)


SAID_TYPE = pa.struct([("kind", pa.string()), ("text", pa.string())])
TRACK_TYPE = pa.struct([("url", pa.string()), ("kind", pa.string()), ("language", pa.string())])
ITEM_TYPE = pa.struct(
    [
        ("kind", pa.string()),
        ("text", pa.string()),
        ("url", pa.string()),
        ("alt", pa.string()),
        ("caption", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("texts", pa.list_(SAID_TYPE)),
        ("poster", pa.string()),
        ("duration_s", pa.float64()),
        ("uploaded", TIME_TYPE),
        ("tracks", pa.list_(TRACK_TYPE)),
    ]
)

DOCUMENT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("title", pa.string()),
        ("language", pa.string()),
        ("items", pa.list_(ITEM_TYPE)),
        ("origin", ORIGIN_TYPE),
        ("fetched", TIME_TYPE),
        ("canonical", pa.string()),
        ("published", TIME_TYPE),
        ("author", pa.string()),
        ("licence", pa.string()),
        ("restrictions", pa.list_(pa.string())),
    ]
)


def item_to_row(item: Item) -> dict[str, object]:
    """Write an item as the struct of `ITEM_TYPE`; fields its kind does not have are null."""
    match item:
        case Text():
            return {"kind": "text", "text": item.text}
        case ImageRef():
            return {
                "kind": "image",
                "url": item.url,
                "alt": item.alt,
                "caption": item.caption,
                "width_px": item.width_px,
                "height_px": item.height_px,
                "texts": said_rows(item.texts),
            }
        case VideoRef():
            return {
                "kind": "video",
                "url": item.url,
                "texts": said_rows(item.texts),
                "poster": item.poster,
                "duration_s": item.duration_s,
                "uploaded": item.uploaded,
                "tracks": [{"url": track.url, "kind": track.kind, "language": track.language} for track in item.tracks],
            }


def item_from_row(row: dict[str, Any]) -> Item:
    """Read the struct of `ITEM_TYPE`."""
    match row["kind"]:
        case "text":
            return Text(row["text"])
        case "image":
            sizes = (row["width_px"], row["height_px"])
            return ImageRef(row["url"], row["alt"], row["caption"], *sizes, read_said(row["texts"]))
        case "video":
            tracks = tuple(Track(**track) for track in row["tracks"])
            told = (row["poster"], row["duration_s"], row["uploaded"], tracks)
            return VideoRef(row["url"], read_said(row["texts"]), *told)
        case kind:
            raise ValueError(f"unknown item kind {kind!r} (known: text, image, video)")


def said_rows(texts: tuple[Said, ...]) -> list[dict[str, str]]:
    """Write texts as structs of `SAID_TYPE`."""
    return [{"kind": said.kind, "text": said.text} for said in texts]


def read_said(rows: list[dict[str, str]]) -> tuple[Said, ...]:
    """Read structs of `SAID_TYPE`."""
    return tuple(Said(**row) for row in rows)


def document_to_row(document: Document) -> dict[str, object]:
    """Write a document as a row of `DOCUMENT_SCHEMA`."""
    return {
        "key": document.key,
        "url": document.url,
        "title": document.title,
        "language": document.language,
        "items": [item_to_row(item) for item in document.items],
        "origin": origin_to_row(document.origin),
        "fetched": document.fetched,
        "canonical": document.canonical,
        "published": document.published,
        "author": document.author,
        "licence": document.licence,
        "restrictions": list(document.restrictions),
    }


def document_from_row(row: dict[str, Any]) -> Document:
    """Read a row of `DOCUMENT_SCHEMA`."""
    return Document(
        url=row["url"],
        title=row["title"],
        language=row["language"],
        items=tuple(item_from_row(item) for item in row["items"]),
        origin=Origin(**row["origin"]),
        fetched=row["fetched"],
        canonical=row["canonical"],
        published=row["published"],
        author=row["author"],
        licence=row["licence"],
        restrictions=tuple(row["restrictions"]),
    )
