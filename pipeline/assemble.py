"""The assemble job, before the shards: documents × media → samples without their bytes.

place    references × media × scores × nearest pictures of the evaluation sets, by URL: the image rules, the
         evaluation sets, the thresholds of scores
         → what stands at each position of a document
template by picture: those that many pages show → by document (see `repeats`)
select   documents that stay × placements × templates, by document: page and text rules, personal data masked → samples
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.documents import count_words, words_of
from pipeline.duplicates import BOILERPLATE, REPEATED_PARAGRAPH, paragraph_key
from pipeline.embed import NEAREST
from pipeline.evaluation import EvaluationSets, Match, find_copy, hold_sets
from pipeline.fetch import Rows, by_key
from pipeline.filters import judge_media, judge_page
from pipeline.funnel import NEAR_MISSES as MISSES
from pipeline.language import judge_language
from pipeline.privacy import Masker, mask_document
from pipeline.quality import judge_texts
from pipeline.refer import PAGE_REJECTED, at_position, staying
from pipeline.repeats import SHOWN, TEMPLATES, picture_name, same_in_page, template_in_page
from pipeline.score import SCORES, judge_scores, scores_of
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import MEDIA, NEAR_MISSES, PLACEMENTS, REFERENCES, SAMPLES
from pipeline.urls import host_of
from pipeline.word_lists import hold_flagged
from schemas.document import Document, ImageRef, Item, Text
from schemas.media import Media, media_from_row, score_rows
from schemas.page import Refusal, Rejected, origin_to_row, rejected_to_row

PLACE, SELECT, MASK = "place", "select", "mask"
EVALUATION = "evaluation"
NO_MEDIA_ROW = "not_asked_for"

Placement = Mapping[str, Any]


def place_images(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Judge each image of a key range by its rules, and say so at every place that refers to it."""
    sets = hold_sets(output.job.config.filters.evaluation)
    tables = (table.directory for table in (REFERENCES, MEDIA, SCORES, NEAREST))
    for references, rows, scores, nearest in by_key(inputs, *tables):
        found = media_from_row(rows[0]) if rows else None
        verdict = judge(found, sets, output, scores, nearest)
        for reference in references:
            names = {"key": reference["document"], "position": reference["position"], "url": reference["url"]}
            output.write(PLACEMENTS, names | {"bytes": found.stored_bytes if found else 0} | verdict)
            if not verdict["reason"]:
                output.write(SHOWN, {"key": picture_name(verdict["sha256"]) + reference["document"]}, 64)


def judge(
    media: Media | None, sets: EvaluationSets | None, output: Output, scores: Rows = (), nearest: Rows = ()
) -> dict[str, Any]:
    """Give an image's reason to be left out, or its place in the store and its scores."""
    if media is None:
        return {"reason": NO_MEDIA_ROW, "detail": ""}
    config = output.job.config
    refusal = judge_media(media, config.filters.images) or judge_copy(media, sets, output, nearest)
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


def judge_copy(media: Media, sets: EvaluationSets | None, output: Output, nearest: Rows = ()) -> Refusal | None:
    """Judge an image by the evaluation sets, once for all its places; a copy is counted for its set."""
    if sets is None:
        return None
    match = find_copy(media, sets, output.job.config.filters.evaluation, nearest)
    if match is None or match.near_miss:
        output.keep(EVALUATION, "image url", bytes=media.stored_bytes)
        if match is not None:
            note_near_miss(media, match, output)
        return None
    found = Rejected(EVALUATION, match.reason, "image url", media.url, detail=match.detail)
    output.reject(found, match.set, bytes=media.stored_bytes)
    return match.refusal()


def note_near_miss(media: Media, match: Match, output: Output) -> None:
    """Write down an image that is kept and nearly a copy, and count it for its set."""
    output.counts[EVALUATION, f"image url {MISSES}", match.set] += 1
    row = rejected_to_row(Rejected(EVALUATION, match.reason, "image url", media.url, detail=match.detail))
    output.write(NEAR_MISSES, row)


def select_documents(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Put the images of each page that stays in their places, and judge it."""
    bits = output.job.config.filters.pages.same_image_bits
    for number, (document, (placed, repeated, templates)) in enumerate(
        staying(inputs, PLACEMENTS, BOILERPLATE, TEMPLATES)
    ):
        output.begin(number)
        found = drop_repeats({row["position"]: row for row in placed}, templates, bits)
        select_document(document, found, frozenset(row["paragraph"] for row in repeated), output)


def drop_repeats(placed: Mapping[int, Placement], templates: Rows, max_bits: int) -> dict[int, Placement]:
    """Give the placements of a page, those of templates and those of pictures shown before with their reason."""
    left = {position: row for position, row in placed.items() if not row["reason"]}
    refused = template_in_page(left, (row["picture"] for row in templates))
    left = {position: row for position, row in left.items() if position not in refused}
    refused |= same_in_page(left, max_bits)
    why = {position: {"reason": refusal.reason, "detail": refusal.detail} for position, refusal in refused.items()}
    return {position: {**row, **why.get(position, {})} for position, row in placed.items()}


def select_document(
    document: Document, placed: Mapping[int, Placement], repeated: frozenset[str], output: Output
) -> None:
    """Write a document as a sample, or say why not, for itself, its paragraphs and each of its images."""
    dropped = {position: row for position, row in placed.items() if row["reason"]}
    for position, row in sorted(dropped.items()):
        image = Rejected("filter_images", row["reason"], "image", row["url"], document.url, row["detail"])
        output.reject(at_position(image, position), bytes=row["bytes"])
    kept = {position: row for position, row in placed.items() if not row["reason"]}
    stored_bytes = sum(row["bytes"] for row in kept.values())
    output.keep("filter_images", "image", len(kept), bytes=stored_bytes)
    document, refusal = judge_document(document, len({row["url"] for row in kept.values()}), repeated, output)
    if refusal is not None:
        why = refusal.reason
        page = Rejected(SELECT, why, "page", document.url, detail=refusal.detail, origin=document.origin)
        output.reject(page, images=len(kept), words=words_of(document), bytes=stored_bytes)
        for position, row in sorted(kept.items()):
            image = Rejected(SELECT, PAGE_REJECTED, "image", row["url"], document.url, why)
            output.reject(at_position(image, position), bytes=row["bytes"])
        return
    output.keep(SELECT, "page", images=len(kept), words=words_of(document), bytes=stored_bytes)
    output.keep(SELECT, "image", len(kept), bytes=stored_bytes)
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
        output.reject(at_position(said, place), words=count_words(document.items[place]))
    kept_words = sum(count_words(document.items[places[place]]) for place in verdict.kept)
    output.keep("filter_texts", "paragraph", len(verdict.kept), words=kept_words)
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
