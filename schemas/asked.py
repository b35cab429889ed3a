"""What the web answered: a row of the ledger for every URL that was ever asked for, whatever came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas.media import MEDIA_SCHEMA, Media, media_from_row, media_to_row
from schemas.page import ORIGIN_TYPE, TIME_TYPE, Origin, key_of, origin_to_row

PAGE, IMAGE, VIDEO = "page", "image", "video"
COUNTED_AS = {PAGE: "page", IMAGE: "image url", VIDEO: "video"}
"""What the funnel calls a URL that was asked for."""

GOT = "got"
REFUSED = "refused"
FAILED = "failed"
PASSING = "passing"


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a URL that was asked for as a page, an image or a video (or its track).

    `outcome` is `got` (bytes were had), `refused` (the site does not allow it), `failed` (asking again would not
    help) or `passing` (a later run asks again); `reason` says why where it is not `got`. `status` is the last HTTP
    status, 0 where there was none; `bytes` and `seconds` are those of the last answer, `tries` counts all requests.
    `location` is the WARC record in the dataset that holds what was got: a `response`, or the normalised image as a
    `conversion`. `media` describes a normalised image, also one that was unfit, and `settings` names the settings
    that it was normalised under.
    """

    url: str
    kind: str
    outcome: str
    reason: str = ""
    detail: str = ""
    host: str = ""
    status: int = 0
    final_url: str = ""
    tries: int = 0
    seconds: float = 0.0
    bytes: int = 0
    asked: datetime | None = None
    location: Origin | None = None
    media: Media | None = None
    settings: str = ""

    @property
    def key(self) -> str:
        """The name of the URL in every table."""
        return key_of(self.url)


ASKED_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("kind", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("host", pa.string()),
        ("status", pa.int32()),
        ("final_url", pa.string()),
        ("tries", pa.int32()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("asked", TIME_TYPE),
        ("location", ORIGIN_TYPE),
        ("media", pa.struct(list(MEDIA_SCHEMA))),
        ("settings", pa.string()),
    ]
)


def asked_to_row(asked: Asked) -> dict[str, Any]:
    """Write a row of `ASKED_SCHEMA`."""
    row: dict[str, Any] = {name: getattr(asked, name) for name in ASKED_SCHEMA.names}
    return row | {"location": origin_to_row(asked.location), "media": asked.media and media_to_row(asked.media)}


def asked_from_row(row: dict[str, Any]) -> Asked:
    """Read a row of `ASKED_SCHEMA`."""
    fields = {name: row[name] for name in ASKED_SCHEMA.names if name != "key"}
    fields["location"] = fields["location"] and Origin(**fields["location"])
    fields["media"] = fields["media"] and media_from_row(fields["media"])
    return Asked(**fields)


def asked_to_json(asked: Asked) -> bytes:
    """Write a row as JSON."""
    row = asked_to_row(asked) | {"asked": asked.asked and asked.asked.isoformat()}
    return json.dumps(row, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def asked_from_json(data: bytes) -> Asked:
    """Read what `asked_to_json` wrote."""
    asked = asked_from_row(json.loads(data))
    return replace(asked, asked=asked.asked and datetime.fromisoformat(str(asked.asked)))
