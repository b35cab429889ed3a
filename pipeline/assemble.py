"""The assemble job, before the shards: documents × media → samples without their bytes.

place    references × media × scores, by URL: the image rules, the evaluation sets, the thresholds of scores
         → what stands at each position of a document
select   documents × placements × duplicates, by document: the page and text rules, personal data masked → samples
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.documents import capture_name, newest_first
from pipeline.duplicates import ALIKE, BOILERPLATE, NEAR, OLDER, REPEATED_PARAGRAPH, paragraph_key
from pipeline.evaluation import EvaluationSets, find_copy, hold_sets
from pipeline.fetch import Rows, by_key
from pipeline.filters import judge_image, judge_page
from pipeline.language import judge_language
from pipeline.privacy import Masker, mask_document
from pipeline.quality import judge_texts
from pipeline.score import SCORES, judge_scores, scores_of
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import DOCUMENTS, MEDIA, PLACEMENTS, REFERENCES, SAMPLES
from pipeline.urls import host_of
from pipeline.word_lists import hold_flagged
from schemas.document import Document, ImageRef, Item, Text, document_from_row
from schemas.media import STORED, Media, media_from_row, score_rows
from schemas.page import Refusal, Rejected, origin_to_row

PLACE, SELECT, MASK = "place", "select", "mask"
EVALUATION = "evaluation"
NO_MEDIA_ROW = "not_asked_for"
DUPLICATE_URL = "duplicate_url"
PAGE_REJECTED = "page_rejected"

Placement = Mapping[str, Any]


def place_images(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Judge each image of a key range by its rules, and say so at every place that refers to it."""
    sets = hold_sets(output.job.config.filters.evaluation)
    for references, rows, scores in by_key(inputs, REFERENCES.directory, MEDIA.directory, SCORES.directory):
        found = media_from_row(rows[0]) if rows else None
        verdict = judge(found, sets, output, scores)
        for reference in references:
            names = {"key": reference["document"], "capture": reference["capture"], "position": reference["position"]}
            output.write(PLACEMENTS, names | {"url": reference["url"]} | verdict)


def judge(media: Media | None, sets: EvaluationSets | None, output: Output, scores: Rows = ()) -> dict[str, Any]:
    """Give an image's reason to be left out, or its place in the store and its scores."""
    if media is None:
        return {"reason": NO_MEDIA_ROW, "detail": ""}
    if media.status != STORED:
        return {"reason": media.reason, "detail": media.detail}
    config = output.job.config
    refusal = judge_image(media, config.filters.images) or judge_copy(media, sets, output)
    refusal = refusal or judge_scores(scores, config.scores)
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
        "scores": score_rows(scores_of(scores)),
    }


def judge_copy(media: Media, sets: EvaluationSets | None, output: Output) -> Refusal | None:
    """Judge an image by the evaluation sets, once for all its places; a copy is counted for its set."""
    if sets is None:
        return None
    match = find_copy(media, sets, output.job.config.filters.evaluation)
    if match is None:
        output.keep(EVALUATION, "image url")
        return None
    refusal = match.refusal()
    output.reject(Rejected(EVALUATION, refusal.reason, "image url", media.url, detail=refusal.detail), match.set)
    return refusal


def select_documents(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Keep one capture of each page that no other stands for, put its images in their places, and judge it."""
    others = (table.directory for table in (PLACEMENTS, BOILERPLATE, OLDER, NEAR, ALIKE))
    for rows, placed, repeated, *duplicates in by_key(inputs, DOCUMENTS.directory, *others):
        documents = newest_first([document_from_row(row) for row in rows])
        repeats = frozenset(row["paragraph"] for row in repeated)
        twice = [Refusal(row["reason"], f"page {row['kept']} is kept") for found in duplicates for row in found]
        for index, document in enumerate(documents):
            output.begin(index)
            capture = capture_name(document)
            found = {row["position"]: row for row in placed if row["capture"] == capture}
            older = [Refusal(DUPLICATE_URL, "a newer capture of this page is kept")] if index else []
            refusal = next(iter([*older, *twice]), None)
            select_document(document, found, refusal, repeats, output)


def select_document(
    document: Document,
    placed: Mapping[int, Placement],
    refusal: Refusal | None,
    repeated: frozenset[str],
    output: Output,
) -> None:
    """Write a document as a sample, or say why not, for itself, its paragraphs and each of its images."""
    dropped = {position: row for position, row in placed.items() if row["reason"]}
    for position, row in sorted(dropped.items()):
        image = Rejected("filter_images", row["reason"], "image", row["url"], document.url, row["detail"])
        output.reject(at_position(image, position))
    kept = {position: row for position, row in placed.items() if not row["reason"]}
    output.keep("filter_images", "image", len(kept))
    if refusal is None:
        document, refusal = judge_document(document, len({row["url"] for row in kept.values()}), repeated, output)
    if refusal is not None:
        why = refusal.reason
        output.reject(Rejected(SELECT, why, "page", document.url, detail=refusal.detail, origin=document.origin))
        for position, row in sorted(kept.items()):
            image = Rejected(SELECT, PAGE_REJECTED, "image", row["url"], document.url, why)
            output.reject(at_position(image, position))
        return
    output.keep(SELECT, "page")
    output.keep(SELECT, "image", len(kept))
    output.keep(SELECT, "image bytes", sum(row["location"]["length"] for row in kept.values()))
    masker = Masker(output.job.config.privacy)
    sample = sample_row(mask_document(document, masker, kept), kept)
    masker.tell(MASK, output.counts)
    output.write(SAMPLES, sample, 512 + sum(len(item["text"] or "") + 64 for item in sample["items"]))


def judge_document(
    document: Document, images: int, repeated: frozenset[str], output: Output
) -> tuple[Document, Refusal | None]:
    """Judge a page by its images, its language and its texts; gives it without the paragraphs that are refused.

    Those that its host repeats (`repeated`, by `paragraph_key`) are left out before the others are judged.
    """
    filters = output.job.config.filters
    boilerplate = find_repeated(document, repeated)
    said_here = [(place, item.text) for place, item in enumerate(document.items) if isinstance(item, Text)]
    places = [place for place, _ in said_here if place not in boilerplate]
    texts = [text for place, text in said_here if place not in boilerplate]
    refusal = judge_page(images, filters.pages) or judge_language(texts, filters.language)
    if refusal is not None:
        return document, refusal
    verdict = judge_texts(texts, filters.texts, hold_flagged(filters.texts.flagged_words))
    dropped = boilerplate | {places[place]: why for place, why in verdict.dropped}
    for place, why in sorted(dropped.items()):
        said = Rejected("filter_texts", why.reason, "paragraph", document.url, document.url, why.detail)
        output.reject(at_position(said, place))
    output.keep("filter_texts", "paragraph", len(verdict.kept))
    if dropped:
        # Positions of images stay what they are: what is left out is an empty text, which no sample shows.
        items = tuple(Text("") if place in dropped else item for place, item in enumerate(document.items))
        document = replace(document, items=items)
    return document, verdict.refusal


def find_repeated(document: Document, repeated: frozenset[str]) -> dict[int, Refusal]:
    """Refuse the paragraphs of a page that its host repeats, by their places."""
    if not repeated:
        return {}
    host = host_of(document.url)
    why = Refusal(REPEATED_PARAGRAPH, "on several pages of its host")
    texts = ((place, item.text) for place, item in enumerate(document.items) if isinstance(item, Text))
    return {place: why for place, text in texts if paragraph_key(host, text) in repeated}


def at_position(rejected: Rejected, position: int) -> Rejected:
    """Say which item of its page an image or a paragraph was."""
    detail = f"item {position}" + (f": {rejected.detail}" if rejected.detail else "")
    return Rejected(rejected.stage, rejected.reason, rejected.kind, rejected.url, rejected.page_url, detail)


def sample_row(document: Document, kept: Mapping[int, Placement]) -> dict[str, Any]:
    """Write a document as a row of the samples table; an image that is repeated is stored once."""
    images: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(document.items):
        if isinstance(item, ImageRef) and position in kept and item.url not in images:
            row = kept[position]
            known = {name: row[name] for name in ("sha256", "phash", "format", "width_px", "height_px", "location")}
            known["scores"] = row.get("scores")
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
            run += [item.text] if item.text else []
        elif isinstance(item, ImageRef) and position in kept:
            if run:
                yield {"text": "\n\n".join(run), "image": None}
                run = []
            yield {"text": None, "image": numbers[item.url]}
    if run:
        yield {"text": "\n\n".join(run), "image": None}
