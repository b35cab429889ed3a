"""Interleaved samples, and the tar members they are written as.

    Interleaved → KEY.json, KEY.m000.jpg, KEY.m001.jpg, ...        from_members(to_members(s)) == s

The JSON comes first and holds the parallel lists `texts` and `images` with nulls (the convention of OBELICS and
MINT-1T): at each position one of them is a text, respectively the part that stands there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas import SCHEMA_VERSION
from schemas.media import Score, read_scores, score_rows
from schemas.page import Origin, origin_to_row

INTERLEAVED = "interleaved"
FIELDS = (
    "key", "url", "canonical", "title", "language", "published", "author", "licence", "fetched", "origin", "texts",
    "images", "parts",
)  # fmt: skip
"""What the JSON of a sample holds beside `schema` and `kind`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A normalised image with what is known of it; `width_px` and `height_px` are those of `data`.

    `scores` are those of the models that the settings name, by model; one that could not score it is left out.
    """

    url: str
    alt: str
    caption: str
    sha256: str
    phash: str
    format: str
    width_px: int
    height_px: int
    data: bytes
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A document with its pictures: `items` holds texts and indices into `images`, in reading order.

    What the page says of itself is as in `Document`.
    """

    key: str
    url: str
    title: str
    language: str
    items: tuple[str | int, ...]
    images: tuple[Picture, ...]
    origin: Origin
    fetched: datetime | None = None
    canonical: str = ""
    published: datetime | None = None
    author: str = ""
    licence: str = ""


def part_name(index: int, format: str) -> str:
    """Name the member of the image at `index`, without the key: `m000.jpg`."""
    return f"m{index:03d}.{ {'jpeg': 'jpg'}.get(format, format) }"


def to_members(sample: Interleaved) -> list[tuple[str, bytes]]:
    """Write a sample as its tar members, (name without the key, bytes), in order."""
    names = [part_name(index, picture.format) for index, picture in enumerate(sample.images)]
    header = {
        "schema": SCHEMA_VERSION,
        "kind": INTERLEAVED,
        "key": sample.key,
        "url": sample.url,
        "canonical": sample.canonical,
        "title": sample.title,
        "language": sample.language,
        "published": sample.published and sample.published.isoformat(),
        "author": sample.author,
        "licence": sample.licence,
        "fetched": sample.fetched and sample.fetched.isoformat(),
        "origin": origin_to_row(sample.origin),
        "texts": [item if isinstance(item, str) else None for item in sample.items],
        "images": [names[item] if isinstance(item, int) else None for item in sample.items],
        "parts": [
            {
                "name": name,
                "bytes": len(picture.data),
                "url": picture.url,
                "alt": picture.alt,
                "caption": picture.caption,
                "sha256": picture.sha256,
                "phash": picture.phash,
                "format": picture.format,
                "width_px": picture.width_px,
                "height_px": picture.height_px,
                "scores": score_rows(picture.scores),
            }
            for name, picture in zip(names, sample.images, strict=True)
        ],
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    return [
        ("json", text.encode()),
        *((name, picture.data) for name, picture in zip(names, sample.images, strict=True)),
    ]


def from_members(members: Iterable[tuple[str, bytes]]) -> Interleaved:
    """Read a sample from its members; a `ValueError` says what is wrong with them."""
    by_name = dict(members)
    if "json" not in by_name:
        raise ValueError(f"no json member among {sorted(by_name)}")
    header = json.loads(by_name["json"])
    check_header(header)
    unknown = {name for name in header["images"] if name is not None} - {part["name"] for part in header["parts"]}
    if unknown:
        raise ValueError(f"sample {header['key']} shows images that it does not describe: {', '.join(sorted(unknown))}")
    names = [part["name"] for part in header["parts"]]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(f"sample {header['key']} lacks its members {', '.join(missing)}")
    index_of = {name: index for index, name in enumerate(names)}
    return Interleaved(
        key=header["key"],
        url=header["url"],
        title=header["title"],
        language=header["language"],
        items=tuple(
            text if image is None else index_of[image]
            for text, image in zip(header["texts"], header["images"], strict=True)
        ),
        images=tuple(picture_from_part(part, by_name[part["name"]]) for part in header["parts"]),
        origin=Origin(**header["origin"]),
        fetched=header["fetched"] and datetime.fromisoformat(header["fetched"]),
        canonical=header["canonical"],
        published=header["published"] and datetime.fromisoformat(header["published"]),
        author=header["author"],
        licence=header["licence"],
    )


def check_header(header: Any, kind: str = INTERLEAVED, fields: Sequence[str] = FIELDS) -> None:
    """Refuse what is no sample, or one of another schema or kind, or one that lacks a field."""
    if not isinstance(header, dict):
        raise ValueError(f"a sample's json holds an object, not {type(header).__name__}")
    if header.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"sample schema {header.get('schema')}, this version reads {SCHEMA_VERSION}")
    if header.get("kind") != kind:
        raise ValueError(f"sample kind {header.get('kind')!r}, expected {kind!r}")
    lacking = [name for name in fields if name not in header]
    if lacking:
        raise ValueError(f"sample {header.get('key')} lacks its fields {', '.join(lacking)}")


def picture_from_part(part: dict[str, Any], data: bytes) -> Picture:
    """Join a part's description and its bytes, which must be as long as it says."""
    if part["bytes"] != len(data):
        raise ValueError(f"member {part['name']} has {len(data)} bytes, its sample says {part['bytes']}")
    known = {name: value for name, value in part.items() if name not in ("name", "bytes", "scores")}
    return Picture(**known, data=data, scores=read_scores(part["scores"]))
