"""What became of a page or a picture, at which stage and for which reason: what `flamingo why` tells.

    URL → key → documents, media, rejected, references, index → Story

Every table is sorted by key in each of its parts, so only the row groups that can hold a key are read, one at a
time. Nothing vanishes here either: each reference to a picture is placed, rejected, or not decided yet.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from rich.console import Console

from pipeline.documents import newest_first
from pipeline.folder import CONFIG_FILE, Folder
from pipeline.funnel import STAGES
from pipeline.inspect import keys_of
from pipeline.lookup import rows_of
from pipeline.pair_score import PAIR_SCORES
from pipeline.refer import DUPLICATE_URL, PAGE_REJECTED, REFER
from pipeline.report import INDEX, MANIFEST_FILE, counted, json_line, reading, refused, say
from pipeline.score import SCORES
from pipeline.tables import DOCUMENTS, MEDIA, REFERENCES, REJECTED, Table, parts_of
from schemas.document import Document, ImageRef, Text, VideoRef, document_from_row
from schemas.media import STORED, Media, media_from_row
from schemas.page import KEY_CHARS, Origin, Rejected, key_of
from schemas.sample import INTERLEAVED

MAX_LISTED = 20
"""Rejections, and pages of a picture, that are listed; a logo may stand on every page of a site."""
MAX_PAGES = 200
"""Pages of a picture of which those that hold it are listed first."""
MAX_NEAR = 3
MAX_NEAR_ROWS = 100_000
"""Rows of each table that an unknown URL is compared with."""
ITEM = re.compile(r"item (\d+)(?:: (.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Capture:
    """A page as one capture of it was extracted; the counts are of its items by kind."""

    title: str
    language: str
    texts: int
    images: int
    videos: int
    origin: Origin
    published: datetime | None
    author: str
    licence: str


@dataclass(frozen=True, slots=True)
class Place:
    """The sample that a page became: `length` bytes at `offset` of a shard."""

    shard: str
    offset: int
    length: int
    images: int
    words: int


@dataclass(frozen=True, slots=True)
class Use:
    """A picture at a position of a page: `part` names it in the page's sample, or `stage` and `reason` say why not.

    With neither, the dataset is not assembled so far.
    """

    page_url: str
    image_url: str
    position: int
    part: str = ""
    stage: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """What became of a URL.

    `rejections` are of the URL itself, the first `MAX_LISTED`; `counts` are of all rows that reject it, by stage,
    kind and reason. As a page it has `captures` that were extracted, the newest first, a `place` in a shard, and
    `images` in reading order. As a picture it has `media`, a number of `references` and the `pages` they stand on,
    at most `MAX_LISTED`, those that hold it first. `complete` tells whether the dataset is.
    """

    url: str
    key: str
    complete: bool
    rejections: tuple[Rejected, ...]
    counts: tuple[tuple[str, str, str, int], ...]
    captures: tuple[Capture, ...]
    place: Place | None
    images: tuple[Use, ...]
    media: Media | None
    scores: tuple[tuple[str, float | None], ...]
    references: int
    pages: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A position of a page and the URL of the picture there."""

    page_url: str
    position: int
    image_url: str


def why(url: str, folder: Folder) -> Story:
    """Tell what became of a page or a picture, named by its URL in any spelling or by its key.

    A URL that no table holds is a `UserError` that names similar ones.
    """
    if folder.read_text(CONFIG_FILE) is None:
        raise refused(f"{folder.root}: no dataset (no {CONFIG_FILE} in it)")
    for key in [url] if re.fullmatch(f"[0-9a-f]{{{KEY_CHARS}}}", url) else keys_of(url):
        story = story_of(key, folder)
        if story is not None:
            return story
    near = near_urls(url, folder)
    raise refused(f"{url}: never seen by {folder.root}" + (f"; near it: {' '.join(near)}" if near else ""))


def story_of(key: str, folder: Folder) -> Story | None:
    """Gather what the tables say of a key; `None` where they say nothing."""
    documents = newest_first([document_from_row(row) for row in rows_of(folder, DOCUMENTS, [key])])
    media = next((media_from_row(row) for row in rows_of(folder, MEDIA, [key])), None)
    references, spots = references_to(folder, key)
    own, counts, dropped, twice = rejections_of(folder, key, spots)
    if not (documents or media or references or counts):
        return None
    # While a build goes on the index is that of the build before it.
    complete = folder.read_text(MANIFEST_FILE) is not None
    row = next(rows_of(folder, INDEX, [key]), None) if complete else None
    pages = [*uses(spots, dropped, parts_of_pages(folder, spots) if complete else {}), *twice]
    urls = [*(document.url for document in documents), *(found.url for found in own), *(use.image_url for use in pages)]
    return Story(
        url=media.url if media else next(iter(urls), key),
        key=key,
        complete=complete,
        rejections=tuple(own),
        counts=tuple((*names, count) for names, count in sorted(counts.items(), key=lambda item: in_order(*item[0]))),
        captures=tuple(map(capture_of, documents)),
        place=place_of(row),
        images=tuple(images_of(folder, documents[0], row)) if documents else (),
        media=media,
        scores=tuple(
            sorted(
                (row["model"], row["score"]) for table in (SCORES, PAIR_SCORES) for row in rows_of(folder, table, [key])
            )
        ),
        references=references + counts[REFER, "image", PAGE_REJECTED],
        pages=tuple(sorted(pages, key=lambda use: not use.part)[:MAX_LISTED]),
    )


def place_of(row: Mapping[str, Any] | None) -> Place | None:
    """Read the place of a sample from its row of the index."""
    if row is None:
        return None
    return Place(row["shard"], row["offset"], row["length"], len(row["parts"]), row["words"])


def in_order(stage: str, *names: str) -> tuple[int, tuple[str, ...]]:
    """Order by stage, as the data goes."""
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), (stage, *names)


# Reading the tables


def rejected_of(row: Mapping[str, Any]) -> Rejected:
    """Read a row of the rejected table."""
    names = ("stage", "reason", "kind", "url", "page_url", "detail")
    return Rejected(**{name: row[name] for name in names}, origin=row["origin"] and Origin(**row["origin"]))


def references_to(folder: Folder, key: str) -> tuple[int, Counter[Spot]]:
    """Count the references to a picture; name the positions of the first `MAX_PAGES` of them."""
    rows = rows_of(folder, REFERENCES, [key])
    first = list(islice(rows, MAX_PAGES))
    documents = rows_of(folder, DOCUMENTS, {row["document"] for row in first}, ["key", "url"])
    urls = {row["key"]: row["url"] for row in documents}
    spots = Counter(Spot(urls.get(row["document"], ""), row["position"], row["url"]) for row in first)
    return len(first) + sum(1 for _ in rows), spots


def rejections_of(
    folder: Folder, key: str, spots: Collection[Spot]
) -> tuple[list[Rejected], Counter[tuple[str, str, str]], dict[Spot, list[Rejected]], list[Use]]:
    """Read the rejections of a URL: those of itself, counts of all, those at positions of pages, and its places on
    pages that others stand for, as many as are listed.
    """
    own: list[Rejected] = []
    counts: Counter[tuple[str, str, str]] = Counter()
    at: dict[Spot, list[Rejected]] = {spot: [] for spot in spots}
    twice: list[Use] = []
    for row in rows_of(folder, REJECTED, [key]):
        rejected = rejected_of(row)
        counts[rejected.stage, rejected.kind, rejected.reason] += 1
        if (rejected.stage, rejected.kind) == (REFER, "image"):
            twice += [use_of(spot_of(rejected), rejected)] if len(twice) < MAX_LISTED else []
        elif rejected.kind == "image" and rejected.page_url:
            at.get(spot_of(rejected), []).append(rejected)
        elif len(own) < MAX_LISTED:
            own.append(rejected)
    return sorted(own, key=lambda rejected: in_order(rejected.stage)), counts, at, twice


def spot_of(rejected: Rejected) -> Spot:
    """Tell where a picture stood that a page lost: the detail begins with the number of the item."""
    found = ITEM.match(rejected.detail)
    return Spot(rejected.page_url, int(found[1]) if found else -1, rejected.url)


def parts_of_pages(folder: Folder, spots: Collection[Spot]) -> dict[tuple[str, str], str]:
    """Name the part of each page's sample that holds a picture, by (page URL, image URL)."""
    rows = rows_of(folder, INDEX, {key_of(spot.page_url) for spot in spots})
    images = {spot.image_url for spot in spots}
    return {(row["url"], part["url"]): part["name"] for row in rows for part in row["parts"] if part["url"] in images}


def images_of(folder: Folder, document: Document, row: Mapping[str, Any] | None) -> list[Use]:
    """Tell what became of each picture of a page's newest capture."""
    refs = [(position, item.url) for position, item in enumerate(document.items) if isinstance(item, ImageRef)]
    spots = Counter(Spot(document.url, position, url) for position, url in refs)
    dropped: dict[Spot, list[Rejected]] = {spot: [] for spot in spots}
    for found in map(rejected_of, rows_of(folder, REJECTED, {key_of(url) for _, url in refs})):
        told = ITEM.match(found.detail)
        # Older captures of the page are dropped with their pictures: that is no fate of this one.
        if found.page_url == document.url and not (told and told[2] == DUPLICATE_URL):
            dropped.get(spot_of(found), []).append(found)
    return uses(spots, dropped, {(document.url, part["url"]): part["name"] for part in row["parts"]} if row else {})


def uses(
    spots: Mapping[Spot, int], dropped: Mapping[Spot, Sequence[Rejected]], parts: Mapping[tuple[str, str], str]
) -> list[Use]:
    """Tell of each position, as often as captures have it, what became of the picture there."""
    told = []
    for spot, count in spots.items():
        told += [use_of(spot, found) for found in dropped[spot][:count]]
        kept = Use(spot.page_url, spot.image_url, spot.position, parts.get((spot.page_url, spot.image_url), ""))
        told += [kept] * (count - len(dropped[spot]))
    return told


def use_of(spot: Spot, found: Rejected) -> Use:
    """Tell why a picture was dropped at a position."""
    detail = ITEM.match(found.detail)
    why_not = (found.stage, found.reason, (detail[2] or "") if detail else found.detail)
    return Use(spot.page_url, spot.image_url, spot.position, "", *why_not)


def capture_of(document: Document) -> Capture:
    """Sum up a document."""
    texts, images, videos = (sum(isinstance(i, kind) for i in document.items) for kind in (Text, ImageRef, VideoRef))
    said = (document.published, document.author, document.licence)
    return Capture(document.title, document.language, texts, images, videos, document.origin, *said)


def near_urls(url: str, folder: Folder) -> list[str]:
    """Name known URLs with the same file name or the same host, the most alike first."""
    known = chain.from_iterable(some_urls(folder, table) for table in (DOCUMENTS, MEDIA, REJECTED))
    host, name = host_and_name(url)
    alike = ((likeness(url, other, host, name), other) for other in known)
    best = heapq.nlargest(MAX_NEAR, {pair for pair in alike if any(pair[0][:2])})
    return [other for _, other in best]


def some_urls(folder: Folder, table: Table) -> Iterator[str]:
    """Yield the first `MAX_NEAR_ROWS` URLs of a table."""
    left = MAX_NEAR_ROWS
    for part in parts_of(folder, table):
        path = f"{table.directory}/{part}"
        with reading(folder, path), folder.open(path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["url"], use_threads=False):
                urls = batch.column("url").to_pylist()[:left]
                yield from urls
                left -= len(urls)
                if not left:
                    return


def host_and_name(url: str) -> tuple[str, str]:
    """Cut out the host and the file name of a URL, however it is spelled."""
    rest = url.partition("://")[2] or url
    host, _, path = rest.partition("/")
    return host.lower(), unquote(path.partition("?")[0].rpartition("/")[2]).lower()


def likeness(url: str, other: str, host: str, name: str) -> tuple[bool, bool, int]:
    """Rank a URL: the same file name first, then the same host, then the longest common beginning."""
    other_host, other_name = host_and_name(other)
    same = next((at for at, (a, b) in enumerate(zip(url, other, strict=False)) if a != b), min(len(url), len(other)))
    return bool(name) and other_name == name, other_host == host, same


# Telling


def print_story(story: Story, as_json: bool, console: Console) -> None:
    """Print a story for a person, or as one JSON object."""
    if as_json:
        console.out(json_line(asdict(story)), highlight=False)
        return
    say(console, story.url, "bold")
    say(console, f"key {story.key}", "dim")
    for capture in story.captures:
        counts = ((capture.texts, "text"), (capture.images, "image"), (capture.videos, "video"))
        facts = [*(counted(count, noun) for count, noun in counts), capture.language, capture.author]
        facts += [f"published {capture.published:%Y-%m-%d}" if capture.published else "", capture.licence]
        say(console, f"✓ extract: {', '.join(filter(None, facts))} - {capture.title}", "green")
        say(console, f"  from {capture.origin.file} at byte {capture.origin.offset}", "dim")
    print_media(story.media, console)
    for model, score in story.scores:
        say(console, f"✓ score: {model} {score:.6g}" if score is not None else f"? score: {model} has none", "green")
    print_rejections(story, console)
    if story.place:
        place = story.place
        say(console, f"✓ sample of {counted(place.images, 'image')} and {counted(place.words, 'word')}", "green")
        say(console, f"  in {INTERLEAVED}/{place.shard} at byte {place.offset}; flamingo inspect shows it", "dim")
    elif story.captures and not story.complete:
        say(console, "? the dataset is not complete: `flamingo build` goes on", "yellow")
    print_uses("Images of the page, in reading order", story.images, len(story.images), False, console)
    print_uses("Pages that refer to it", story.pages, story.references, True, console)


def print_media(media: Media | None, console: Console) -> None:
    """Print what is known of a picture's bytes."""
    if media is None or media.status != STORED:
        return
    size = f"{media.width_px}x{media.height_px}"
    stored = f"{media.stored_width_px}x{media.stored_height_px} {media.format}, {media.stored_bytes:,} bytes"
    say(console, f"✓ normalise: {size} px, stored as {stored}", "green")
    if media.source:
        say(console, f"  from {media.source.file} at byte {media.source.offset}", "dim")
    if media.location:
        say(console, f"  in {media.location.file} at byte {media.location.offset}, sha256 {media.sha256}", "dim")


def print_rejections(story: Story, console: Console) -> None:
    """Print why the URL itself was dropped, and how often on pages."""
    for found in story.rejections:
        on = f" (on {found.page_url})" if found.page_url else ""
        detail = f": {found.detail}" if found.detail else ""
        say(console, f"✗ {found.stage}: {found.kind} {found.reason}{detail}{on}", "red")
    listed = Counter((found.stage, found.kind, found.reason) for found in story.rejections)
    for stage, kind, reason, count in story.counts:
        if count > listed[stage, kind, reason]:
            say(console, f"✗ {stage}: {kind} {reason} × {count:,}", "red")


def print_uses(title: str, told: Sequence[Use], total: int, of_pages: bool, console: Console) -> None:
    """Print what became of pictures at their positions, a line each."""
    if not told:
        return
    say(console, f"\n{title} ({total:,})", "bold")
    for use in told:
        name = use.page_url if of_pages else use.image_url
        verdict = f"✓ {use.part}" if use.part else f"✗ {use.stage}: {use.reason}" if use.reason else "? not decided yet"
        style = "green" if use.part else "red" if use.reason else "yellow"
        detail = f" ({use.detail})" if use.detail else ""
        say(console, f"  item {use.position:>4}  {verdict}{detail}", style, one_line=True)
        say(console, f"             {name}", "dim", one_line=True)
    if total > len(told):
        say(console, f"  and {total - len(told):,} more", "dim")
