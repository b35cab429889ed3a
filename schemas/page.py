"""A page as it was captured, the place it was read from, and what is said of whatever is dropped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

KEY_CHARS = 24
"""Hex digits of a key: 96 bits, so that 10^10 URLs collide with a chance below 10^-8."""


def key_of(url: str) -> str:
    """Name a URL by its hash: uniformly spread, free of dots, the same everywhere."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=KEY_CHARS // 2).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes were read: `length` bytes at `offset` of `file` (a row number where the file is Parquet)."""

    file: str
    offset: int
    length: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """One captured HTML page, undecoded.

    `charset` is what the transport declared (HTTP header), `None` where it said nothing. `fetched` is UTC. `headers`
    are those of the answer, names in lower case.
    """

    url: str
    html: bytes
    charset: str | None
    fetched: datetime | None
    origin: Origin
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule does not let something through: a constant of the rule's module, and what decided."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something dropped, and why. Every stage returns what it was given or one of these.

    `kind` is `page`, `image`, `video`, `record` (of an archive) or `unit`; `url` names the thing dropped (empty
    where it has none), `page_url` the page that referred to it; `reason` is a constant of the stage.
    """

    stage: str
    reason: str
    kind: str
    url: str
    page_url: str = ""
    detail: str = ""
    origin: Origin | None = None


ORIGIN_TYPE = pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
TIME_TYPE = pa.timestamp("us", tz="UTC")

REJECTED_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("kind", pa.string()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("detail", pa.string()),
        ("origin", ORIGIN_TYPE),
    ]
)


def origin_to_row(origin: Origin | None) -> dict[str, object] | None:
    """Write an origin as the struct of `ORIGIN_TYPE`."""
    return None if origin is None else {"file": origin.file, "offset": origin.offset, "length": origin.length}


def rejected_to_row(rejected: Rejected) -> dict[str, object]:
    """Write a rejection as a row of `REJECTED_SCHEMA`."""
    return {
        "key": key_of(rejected.url),
        "stage": rejected.stage,
        "reason": rejected.reason,
        "kind": rejected.kind,
        "url": rejected.url,
        "page_url": rejected.page_url,
        "detail": rejected.detail,
        "origin": origin_to_row(rejected.origin),
    }
