"""A rule's name → some of what it dropped, evenly sampled, each with what is known of it: picture, alt text, excerpt.

rejected (or near misses) → `sample_dropped` → × media, documents, evaluation sets → `Shown`

The sample holds what has the smallest hashes of its name: the same whatever the order of the tables, and from all
over the corpus. Memory grows with the sample only.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from pipeline.evaluation import IN_EVALUATION_SET, NEAR_EVALUATION_SET, NEAR_MISS, set_name
from pipeline.folder import Folder, OpenFiles, open_input
from pipeline.lookup import rows_of
from pipeline.report import read_manifests, reading, refused
from pipeline.safety import setting
from pipeline.store import read_stored
from pipeline.tables import DOCUMENTS, MEDIA, NEAR_MISSES, REJECTED, Table, iter_rows, parts_of
from schemas.media import STORED
from schemas.page import Origin, key_of

COPIES = (IN_EVALUATION_SET, NEAR_EVALUATION_SET, NEAR_MISS)
ITEM = re.compile(r"item (\d{1,9})(?:: |$)")
"""How a detail begins that says which item of its page a thing was."""
APART = re.compile(r", (?:(\d{1,3}) bits apart|cosine (-?\d\.\d{6}))$")
EXCERPT_CHARS = 700
MAX_THUMBNAIL_BYTES = 1 << 18
THUMBNAIL_PX = 240
THUMBNAIL_QUALITY = 75
PICTURES = ("image", "image url")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of an evaluation set that one of ours looks like; bits and cosine are None where files are equal."""

    set: str
    name: str
    bits: int | None
    thumbnail: bytes = b""
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that was dropped. `places` are the rows that say so; `thumbnail` is a JPEG, or empty."""

    kind: str
    stage: str
    url: str
    page_url: str
    detail: str
    places: int
    item: int = -1
    text: str = ""
    caption: str = ""
    thumbnail: bytes = b""
    copy_of: Picture | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of what a rule dropped, and how much that was in all, by kind."""

    reason: str
    shown: tuple[Shown, ...]
    totals: Mapping[str, int]


@dataclass(slots=True)
class Held:
    """The row that stands for a thing, and how many rows there are of it."""

    row: dict[str, Any]
    places: int = 1


@dataclass(slots=True)
class Smallest:
    """Keeps the things with the smallest hashes of their names, up to a limit."""

    limit: int
    held: dict[bytes, Held] = field(default_factory=dict)
    bound: bytes = b"\xff" * 16

    def add(self, row: dict[str, Any]) -> None:
        """Take a row; of several rows of a thing the first by page, stage and detail stands for it."""
        name = hashlib.blake2b("\n".join(name_of(row)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if name > self.bound:
            return
        found = self.held.get(name)
        if found is None:
            self.held[name] = Held(row)
            if len(self.held) > 2 * self.limit:
                self.prune()
        else:
            found.row = min(found.row, row, key=standing)
            found.places += 1

    def prune(self) -> None:
        """Drop what is above the limit."""
        names = sorted(self.held)[: self.limit]
        self.held = {name: self.held[name] for name in names}
        self.bound = names[-1]


def name_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Name a thing: a picture by its address wherever it stands, anything else also by its place."""
    if row["kind"] in PICTURES:
        return ("image", row["key"])
    return (row["kind"], row["key"], row["detail"], str(row["origin"] or ""))


def standing(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Order the rows of a thing: those that name a page first."""
    return (not row["page_url"], row["page_url"], row["stage"], row["detail"])


# --- what was dropped ------------------------------------------------------------------------------------------------


def sample_dropped(folder: Folder, reason: str, limit: int) -> Sample:
    """Sample what a rule of a complete dataset dropped; a rule that dropped nothing is a `UserError`."""
    manifests = read_manifests(folder)
    table = NEAR_MISSES if reason == NEAR_MISS else REJECTED
    smallest = Smallest(limit)
    totals: dict[str, int] = {}
    for row in rows_with(folder, table, reason):
        smallest.add(row)
        totals[row["kind"]] = totals.get(row["kind"], 0) + 1
    if not totals:
        known = {name.partition(": ")[0] for m in manifests.values() for row in m.funnel for name in row.rejected}
        raise refused(f"{folder.root}: nothing was dropped as {reason!r}; what was: {', '.join(sorted(known)) or '-'}")
    smallest.prune()
    shown = [shown_of(held.row, held.places) for _, held in sorted(smallest.held.items())]
    config = next(iter(manifests.values())).config
    shown = list(with_copies(shown, setting(config, "filters.evaluation.sets") or [])) if reason in COPIES else shown
    shown = with_texts(folder, shown)
    return Sample(reason, tuple(with_thumbnails(folder, shown)), totals)


def rows_with(folder: Folder, table: Table, reason: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table of rejections that have a reason, a row group at a time."""
    for part in parts_of(folder, table):
        name = f"{table.directory}/{part}"
        with reading(folder, name), folder.open(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(use_threads=False):
                rows = pa.Table.from_batches([batch])
                yield from iter_rows(rows.filter(pc.equal(rows["reason"], reason)))


def shown_of(row: Mapping[str, Any], places: int) -> Shown:
    """Read a rejection; the item that its detail names is taken out of it."""
    found = ITEM.match(row["detail"])
    detail = row["detail"][found.end() :] if found else row["detail"]
    item = int(found[1]) if found else -1
    return Shown(row["kind"], row["stage"], row["url"], row["page_url"], detail, places, item)


# --- pictures of evaluation sets -------------------------------------------------------------------------------------


def with_copies(shown: Iterable[Shown], paths: Sequence[str]) -> Iterator[Shown]:
    """Add the pictures of evaluation sets that details name, with thumbnails where the sets are still there."""
    named = [(one, read_copy(one.detail, [set_name(path) for path in paths])) for one in shown]
    wanted: dict[str, set[str]] = {}
    for _, copy in named:
        if copy is not None:
            wanted.setdefault(copy.set, set()).add(copy.name)
    found = {path: thumbnails_of(path, wanted[set_name(path)]) for path in paths if set_name(path) in wanted}
    by_set = {set_name(path): thumbnails for path, thumbnails in found.items()}
    for one, copy in named:
        if copy is None:
            yield one
        else:
            yield replace(one, copy_of=replace(copy, thumbnail=by_set[copy.set].get(copy.name, b"")))


def read_copy(detail: str, sets: Iterable[str]) -> Picture | None:
    """Read the set, the picture, and the bits or the cosine that a detail names."""
    for name in sorted(sets, key=len, reverse=True):
        if detail.startswith(f"{name}: "):
            rest = detail.removeprefix(f"{name}: ")
            apart = APART.search(rest[-20:])
            if apart is None:
                return Picture(name, rest, None)
            bits, cosine = int(apart[1]) if apart[1] else None, float(apart[2]) if apart[2] else None
            return Picture(name, rest.removesuffix(apart[0]), bits, cosine=cosine)
    return None


def thumbnails_of(path: str, names: Iterable[str]) -> dict[str, bytes]:
    """Read thumbnails of an evaluation set by the names of its pictures; none where it is gone or damaged."""
    found: dict[str, bytes] = {}
    wanted = pa.array(sorted(names), pa.string())
    try:
        with open_input(path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["name", "thumbnail"], use_threads=False):
                rows = batch.filter(pc.is_in(batch.column("name"), wanted)).to_pylist()
                found |= {row["name"]: row["thumbnail"] for row in rows if is_thumbnail(row["thumbnail"])}
    except (OSError, pa.ArrowException, KeyError):
        return found
    return found


def is_thumbnail(data: bytes) -> bool:
    """Tell whether bytes may be shown as a JPEG."""
    return data.startswith(b"\xff\xd8") and len(data) <= MAX_THUMBNAIL_BYTES


# --- texts and pictures ----------------------------------------------------------------------------------------------


def with_texts(folder: Folder, shown: Sequence[Shown]) -> list[Shown]:
    """Add what the documents say: a picture's alt text and caption, a paragraph, the beginning of a page."""
    wanted: dict[str, list[int]] = {}
    for place, one in enumerate(shown):
        wanted.setdefault(key_of(one.page_url or one.url), []).append(place)
    filled = list(shown)
    for row in rows_of(folder, DOCUMENTS, wanted, ["key", "items"]):
        for place in wanted[row["key"]]:
            filled[place] = fill_text(filled[place], row["items"])
    return filled


def fill_text(one: Shown, items: Sequence[Mapping[str, Any]]) -> Shown:
    """Add what the items of a document say of a thing; another capture of its page may say nothing of it."""
    if one.kind == "page":
        text = excerpt("\n".join(item["text"] for item in items[:EXCERPT_CHARS] if item["kind"] == "text"))
        return replace(one, text=one.text or text)
    if not 0 <= one.item < len(items):
        return one
    item = items[one.item]
    if one.kind == "paragraph" and item["kind"] == "text":
        return replace(one, text=one.text or excerpt(item["text"]))
    if one.kind in PICTURES and item["url"] == one.url:
        return replace(one, text=excerpt(item["alt"] or ""), caption=excerpt(item["caption"] or ""))
    return one


def excerpt(text: str) -> str:
    """Cut a text that is too long to show."""
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS].rstrip() + " …"


def with_thumbnails(folder: Folder, shown: Sequence[Shown]) -> Iterator[Shown]:
    """Add thumbnails of the pictures that the media store holds."""
    keys = {key_of(one.url) for one in shown if one.kind in PICTURES}
    columns = ["key", "status", "location"]
    places = {row["key"]: row["location"] for row in rows_of(folder, MEDIA, keys, columns) if row["status"] == STORED}
    with OpenFiles() as files:
        for one in shown:
            place = places.get(key_of(one.url)) if one.kind in PICTURES else None
            yield one if place is None else replace(one, thumbnail=thumbnail_of(files, folder, Origin(**place)))


def thumbnail_of(files: OpenFiles, folder: Folder, location: Origin) -> bytes:
    """Make a thumbnail of a stored picture; none where the store has lost it."""
    try:
        with Image.open(io.BytesIO(read_stored(files, folder, location))) as picture:
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
            return buffer.getvalue()
    except (OSError, ValueError, Image.DecompressionBombError):
        return b""
