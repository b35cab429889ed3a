"""Documents × duplicates → the pages that stay, and the images and videos that these refer to.

refer    documents × older × near × alike, by document: the newest capture of a page that no other page stands for
         → which capture stays, by document
         → its image URLs, by URL           work/references
         → its video URLs and their tracks  work/video_references

The other captures and pages are rejected here, with their images and videos: nothing of them is asked of the web, read
from an archive or decoded. Samples, pairs and clips are made of what the pages that stay show.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.documents import capture_name, newest_first, words_of
from pipeline.duplicates import ALIKE, NEAR, OLDER
from pipeline.fetch import Rows, by_key
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import DOCUMENTS, REFERENCES, VIDEO_REFERENCES, Table
from schemas.document import Document, ImageRef, Track, VideoRef, document_from_row, said_rows
from schemas.page import Refusal, Rejected, key_of, origin_to_row

REFER = "refer"
DUPLICATE_URL = "duplicate_url"
PAGE_REJECTED = "page_rejected"
FILM, TRACK = "video", "track"
SPOKEN = ("captions", "subtitles", "")
"""Kinds of tracks whose cues are said or shown; an element without a kind has subtitles."""

STAYING = Table("work/staying", pa.schema([("key", pa.string()), ("capture", pa.string())]))
"""A document (`key`) that stays, and which capture of it (`capture_name`)."""


def refer_documents(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write what the pages of a range that stay refer to; reject the others."""
    tables = (table.directory for table in (DOCUMENTS, OLDER, NEAR, ALIKE))
    number = 0
    for rows, *duplicates in by_key(inputs, *tables):
        twice = [Refusal(row["reason"], f"page {row['kept']} is kept") for found in duplicates for row in found]
        newest, *older = newest_first([document_from_row(row) for row in rows])
        output.begin(number)
        if twice:
            reject_document(newest, twice[0], output)
        else:
            write_references(newest, output)
        for document in older:
            reject_document(document, Refusal(DUPLICATE_URL, "a newer capture of this page is kept"), output)
        number += len(rows)


def staying(inputs: Inputs, *others: Table) -> Iterator[tuple[Document, tuple[Rows, ...]]]:
    """Yield each document that stays, by the capture that does, with the rows of other tables that have its key."""
    tables = (table.directory for table in (DOCUMENTS, STAYING, *others))
    for rows, stays, *found in by_key(inputs, *tables):
        for chosen in stays:
            captures = map(document_from_row, rows)
            yield next(one for one in captures if capture_name(one) == chosen["capture"]), tuple(found)


def reject_document(document: Document, refusal: Refusal, output: Output) -> None:
    """Say why a page is dropped, for itself and each image and video of it."""
    why = refusal.reason
    page = Rejected(REFER, why, "page", document.url, detail=refusal.detail, origin=document.origin)
    output.reject(page, images=count_images(document), words=words_of(document))
    for position, item in enumerate(document.items):
        if isinstance(item, ImageRef | VideoRef):
            kind = "image" if isinstance(item, ImageRef) else FILM
            output.reject(at_position(Rejected(REFER, PAGE_REJECTED, kind, item.url, document.url, why), position))


def count_images(document: Document) -> int:
    """Count the places of a document that refer to an image."""
    return sum(isinstance(item, ImageRef) for item in document.items)


def at_position(rejected: Rejected, position: int) -> Rejected:
    """Say which item of its page an image or a paragraph was."""
    detail = f"item {position}" + (f": {rejected.detail}" if rejected.detail else "")
    return Rejected(rejected.stage, rejected.reason, rejected.kind, rejected.url, rejected.page_url, detail)


def write_references(document: Document, output: Output) -> None:
    """Write that a document stays, and each image and video that it refers to."""
    key = document.key
    output.keep(REFER, "page", images=count_images(document), words=words_of(document))
    output.write(STAYING, {"key": key, "capture": capture_name(document)}, 64)
    for position, item in enumerate(document.items):
        if isinstance(item, ImageRef):
            reference = {"key": key_of(item.url), "url": item.url, "document": key, "position": position}
            output.write(REFERENCES, reference)
            output.keep(REFER, "image")
        elif isinstance(item, VideoRef):
            write_video(item, document, output)
            output.keep(REFER, FILM)


def write_video(video: VideoRef, document: Document, output: Output) -> None:
    """Write what a document refers to: a video and its tracks."""
    row = {
        "key": key_of(video.url),
        "url": video.url,
        "video": video.url,
        "kind": FILM,
        "rank": 0,
        "page_url": document.url,
        "texts": said_rows(video.texts),
        "language": document.language,
        "licence": document.licence,
        "origin": origin_to_row(document.origin),
        "fetched": document.fetched,
    }
    output.write(VIDEO_REFERENCES, row, 512 + sum(len(text.text) for text in video.texts))
    # A track in the language of the page goes before one in no language, and that before all others.
    tracks = sorted(
        (track for track in video.tracks if track.kind in SPOKEN),
        key=lambda track: (not speaks(track, document.language), track.language != "", SPOKEN.index(track.kind)),
    )
    for rank, track in enumerate(tracks):
        told = {"key": key_of(track.url), "url": track.url, "kind": TRACK, "rank": rank, "texts": []}
        output.write(VIDEO_REFERENCES, row | told)


def speaks(track: Track, language: str) -> bool:
    """Tell whether a track is in the language of its page, whatever their regions."""
    own, page = (name.lower().partition("-")[0] for name in (track.language, language))
    return own != "" and own == page
