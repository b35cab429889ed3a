"""The assemble job, before the shards: documents × media → samples without their bytes.

place    references × media, by URL: the image rules → what stands at each position of a document
select   documents × placements, by document: the page rules → samples
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.documents import capture_name
from pipeline.fetch import by_key, moment
from pipeline.filters import judge_image, judge_page
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import DOCUMENTS, MEDIA, PLACEMENTS, REFERENCES, SAMPLES
from schemas.document import Document, ImageRef, Item, Text, document_from_row
from schemas.media import STORED, Media, media_from_row
from schemas.page import Rejected, origin_to_row

PLACE, SELECT = "place", "select"
NO_MEDIA_ROW = "not_asked_for"
DUPLICATE_URL = "duplicate_url"
PAGE_REJECTED = "page_rejected"

Placement = Mapping[str, Any]


def place_images(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Judge each image of a key range by the image rules, and say so at every place that refers to it."""
    for references, rows in by_key(inputs, REFERENCES.directory, MEDIA.directory):
        found = media_from_row(rows[0]) if rows else None
        verdict = judge(found, output)
        for reference in references:
            names = {"key": reference["document"], "capture": reference["capture"], "position": reference["position"]}
            output.write(PLACEMENTS, names | {"url": reference["url"]} | verdict)


def judge(media: Media | None, output: Output) -> dict[str, Any]:
    """Give an image's reason to be left out, or its place in the store."""
    if media is None:
        return {"reason": NO_MEDIA_ROW, "detail": ""}
    if media.status != STORED:
        return {"reason": media.reason, "detail": media.detail}
    refusal = judge_image(media, output.job.config.filters.images)
    if refusal is not None:
        return {"reason": refusal.reason, "detail": refusal.detail}
    return {
        "reason": "",
        "detail": "",
        "sha256": media.sha256,
        "phash": media.phash,
        "format": media.format,
        "width_px": media.stored_width_px,
        "height_px": media.stored_height_px,
        "location": origin_to_row(media.location),
    }


def select_documents(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Keep one capture of each page, put its images in their places, and judge it by the page rules."""
    for rows, placed in by_key(inputs, DOCUMENTS.directory, PLACEMENTS.directory):
        documents = newest_first([document_from_row(row) for row in rows])
        for index, document in enumerate(documents):
            output.begin(index)
            capture = capture_name(document)
            found = {row["position"]: row for row in placed if row["capture"] == capture}
            select_document(document, found, DUPLICATE_URL if index else "", output)


def newest_first(documents: Sequence[Document]) -> list[Document]:
    """Order captures of one URL: the newest first, ties by where they were read."""
    by_place = sorted(documents, key=lambda document: (document.origin.file, document.origin.offset))
    return sorted(by_place, key=lambda document: moment(document.fetched), reverse=True)


def select_document(document: Document, placed: Mapping[int, Placement], refused: str, output: Output) -> None:
    """Write a document as a sample, or say why not, for itself and for each of its images."""
    dropped = {position: row for position, row in placed.items() if row["reason"]}
    for position, row in sorted(dropped.items()):
        image = Rejected("filter_images", row["reason"], "image", row["url"], document.url, row["detail"])
        output.reject(at_position(image, position))
    kept = {position: row for position, row in placed.items() if not row["reason"]}
    output.keep("filter_images", "image", len(kept))
    detail = "a newer capture of this page is kept" if refused else ""
    if not refused:
        texts = [item.text for item in document.items if isinstance(item, Text)]
        refusal = judge_page(texts, len({row["url"] for row in kept.values()}), output.job.config.filters.pages)
        refused, detail = (refusal.reason, refusal.detail) if refusal else ("", "")
    if refused:
        output.reject(Rejected(SELECT, refused, "page", document.url, detail=detail, origin=document.origin))
        for position, row in sorted(kept.items()):
            image = Rejected(SELECT, PAGE_REJECTED, "image", row["url"], document.url, refused)
            output.reject(at_position(image, position))
        return
    output.keep(SELECT, "page")
    output.keep(SELECT, "image", len(kept))
    output.keep(SELECT, "image bytes", sum(row["location"]["length"] for row in kept.values()))
    sample = sample_row(document, kept)
    output.write(SAMPLES, sample, 512 + sum(len(item["text"] or "") + 64 for item in sample["items"]))


def at_position(rejected: Rejected, position: int) -> Rejected:
    """Say which item of its page an image was."""
    detail = f"item {position}" + (f": {rejected.detail}" if rejected.detail else "")
    return Rejected(rejected.stage, rejected.reason, rejected.kind, rejected.url, rejected.page_url, detail)


def sample_row(document: Document, kept: Mapping[int, Placement]) -> dict[str, Any]:
    """Write a document as a row of the samples table; an image that is repeated is stored once."""
    images: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(document.items):
        if isinstance(item, ImageRef) and position in kept and item.url not in images:
            row = kept[position]
            known = {name: row[name] for name in ("sha256", "phash", "format", "width_px", "height_px", "location")}
            images[item.url] = {"url": item.url, "alt": item.alt, "caption": item.caption} | known
    numbers = {url: index for index, url in enumerate(images)}
    return {
        "key": document.key,
        "url": document.url,
        "canonical": document.canonical,
        "title": document.title,
        "language": document.language,
        "published": document.published,
        "author": document.author,
        "licence": document.licence,
        "items": list(interleave(document.items, kept, numbers)),
        "images": list(images.values()),
        "origin": origin_to_row(document.origin),
        "fetched": document.fetched,
    }


def interleave(
    items: Sequence[Item], kept: Mapping[int, Placement], numbers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield runs of text, their blocks joined by an empty line, and the images between them."""
    run: list[str] = []
    for position, item in enumerate(items):
        if isinstance(item, Text):
            run.append(item.text)
        elif isinstance(item, ImageRef) and position in kept:
            if run:
                yield {"text": "\n\n".join(run), "image": None}
                run = []
            yield {"text": None, "image": numbers[item.url]}
    if run:
        yield {"text": "\n\n".join(run), "image": None}
