"""Image-text pairs, and the tar members they are written as.

    ImageText → KEY.jpg, KEY.json, KEY.txt                         pair_from_members(pair_to_members(p)) == p

The members stand in the order of their names, and every pair has the same ones: readers that group members as they
come, and those that take the columns from the first samples, read them alike. For the same reason nothing in the
JSON is null: what is not known is an empty string. `caption`, `width` and `height` are the names that readers of
downloaded pairs look for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas import SCHEMA_VERSION
from schemas.document import Said, read_said, said_rows
from schemas.media import Score, read_scores, score_rows
from schemas.page import Origin, origin_to_row
from schemas.sample import check_header

IMAGE_TEXT = "pairs"
PICTURE_NAME = "jpg"
TEXT_NAME = "txt"
CAPTIONED_FIELDS = (
    "key", "url", "page_url", "caption", "text_kind", "texts", "language", "licence", "fetched", "origin", "width",
    "height", "parts",
)  # fmt: skip
"""What the JSON of a pair or clip holds beside `schema` and `kind`."""
PAIR_FIELDS = (*CAPTIONED_FIELDS, "sha256", "scores")


@dataclass(frozen=True, slots=True)
class Part:
    """A stored file of a sample with what is known of it: a picture, a frame or a clip (`phash` is empty)."""

    sha256: str
    phash: str
    format: str
    width_px: int
    height_px: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageText:
    """A picture and a text that says what it shows.

    `text` was chosen of `texts`, which are all that were said of the picture, and cleaned; `kind` is as in `Said`.
    `page_url` is the page that says it, and `language`, `licence`, `origin` and `fetched` are that page's. `scores` are
    the picture's, as in `Picture`.
    """

    key: str
    url: str
    page_url: str
    text: str
    kind: str
    texts: tuple[Said, ...]
    picture: Part
    language: str
    licence: str
    origin: Origin
    fetched: datetime | None = None
    scores: tuple[Score, ...] = ()


def pair_to_members(pair: ImageText) -> list[tuple[str, bytes]]:
    """Write a pair as its tar members, (name without the key, bytes), in order; the picture must be a JPEG."""
    if pair.picture.format != "jpeg":
        raise ValueError(f"the picture of pair {pair.key} is {pair.picture.format}, not jpeg")
    header = captioned_header(pair, IMAGE_TEXT)
    header |= {"sha256": pair.picture.sha256, "scores": score_rows(pair.scores)} | part_rows(
        [PICTURE_NAME], [pair.picture]
    )
    return [(PICTURE_NAME, pair.picture.data), ("json", json_bytes(header)), (TEXT_NAME, pair.text.encode())]


def pair_from_members(members: Iterable[tuple[str, bytes]]) -> ImageText:
    """Read a pair from its members; a `ValueError` says what is wrong with them."""
    header, parts, text = read_captioned(members, IMAGE_TEXT, PAIR_FIELDS)
    if [(part["name"], part["format"]) for part in header["parts"]] != [(PICTURE_NAME, "jpeg")]:
        raise ValueError(f"sample {header['key']} is not one jpeg with its text")
    return ImageText(text=text, picture=parts[0], scores=read_scores(header["scores"]), **captioned_fields(header))


def captioned_header(sample: Any, kind: str) -> dict[str, Any]:
    """Begin the JSON of a pair or clip with what both kinds have."""
    return {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "key": sample.key,
        "url": sample.url,
        "page_url": sample.page_url,
        "caption": sample.text,
        "text_kind": sample.kind,
        "texts": said_rows(sample.texts),
        "language": sample.language,
        "licence": sample.licence,
        "fetched": sample.fetched.isoformat() if sample.fetched else "",
        "origin": origin_to_row(sample.origin),
    }


def captioned_fields(header: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `captioned_header` wrote, but for the text."""
    return {
        "key": header["key"],
        "url": header["url"],
        "page_url": header["page_url"],
        "kind": header["text_kind"],
        "texts": read_said(header["texts"]),
        "language": header["language"],
        "licence": header["licence"],
        "fetched": datetime.fromisoformat(header["fetched"]) if header["fetched"] else None,
        "origin": Origin(**header["origin"]),
    }


def part_rows(names: Sequence[str], parts: Sequence[Part]) -> dict[str, Any]:
    """Describe the parts, all of one size, for the JSON."""
    return {
        "width": parts[0].width_px,
        "height": parts[0].height_px,
        "parts": [
            {
                "name": name,
                "bytes": len(part.data),
                "sha256": part.sha256,
                "phash": part.phash,
                "format": part.format,
                "width_px": part.width_px,
                "height_px": part.height_px,
            }
            for name, part in zip(names, parts, strict=True)
        ],
    }


def json_bytes(header: Mapping[str, Any]) -> bytes:
    """Write the JSON of a sample; numbers that JSON does not have are a `ValueError`."""
    return json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def read_captioned(
    members: Iterable[tuple[str, bytes]], kind: str, fields: Sequence[str]
) -> tuple[dict[str, Any], tuple[Part, ...], str]:
    """Read the JSON, the parts and the text of a pair or clip, which must agree with each other."""
    by_name = dict(members)
    if "json" not in by_name:
        raise ValueError(f"no json member among {sorted(by_name)}")
    header = json.loads(by_name["json"])
    check_header(header, kind, fields)
    names = [*(part["name"] for part in header["parts"]), TEXT_NAME]
    if missing := [name for name in names if name not in by_name]:
        raise ValueError(f"sample {header['key']} lacks its members {', '.join(missing)}")
    text = by_name[TEXT_NAME].decode()
    if text != header["caption"]:
        raise ValueError(f"the text of sample {header['key']} is not the caption that its json names")
    return header, tuple(part_from_row(part, by_name[part["name"]]) for part in header["parts"]), text


def part_from_row(row: Mapping[str, Any], data: bytes) -> Part:
    """Join a part's description and its bytes, which must be as long as it says."""
    if row["bytes"] != len(data):
        raise ValueError(f"member {row['name']} has {len(data)} bytes, its sample says {row['bytes']}")
    return Part(**{name: value for name, value in row.items() if name not in ("name", "bytes")}, data=data)
