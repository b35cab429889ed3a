"""Pairs: the texts of every picture, over all pages → one picture and the text that says best what it shows.

texts    documents: each text of each picture, cleaned → by text; a picture without any → by picture
count    by text: how many pictures share it → by picture
pair     by picture: image rules × evaluation sets × thresholds of scores × text rules → the picture with its best text,
         personal data masked, or why it has none; to `pair_score` where models score pairs

Documents that are dropped for others speak, too: they may say more of a picture that both show. What only they show is
no picture of the dataset, and was rejected with them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa

from pipeline.documents import newest_first
from pipeline.embed import NEAREST
from pipeline.evaluation import EvaluationSets, find_copy, hold_sets
from pipeline.fetch import Rows, by_key
from pipeline.filters import judge_media
from pipeline.pair_rules import choose_text
from pipeline.pair_score import CHOSEN, PAIR, pair_size
from pipeline.pair_texts import clean_text
from pipeline.privacy import Masker
from pipeline.score import SCORES, judge_scores, scores_of
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import DOCUMENTS, MEDIA, PAIRS, Table
from schemas.document import Document, ImageRef, Said, document_from_row
from schemas.media import Media, media_from_row, score_rows
from schemas.page import ORIGIN_TYPE, TIME_TYPE, Refusal, Rejected, key_of, origin_to_row

MASK = "pair_mask"
NO_TEXT = "no_text"
TEXT_FIELDS = [
    ("key", pa.string()),
    ("url", pa.string()),
    ("kind", pa.string()),
    ("text", pa.string()),
    ("page_url", pa.string()),
    ("language", pa.string()),
    ("licence", pa.string()),
    ("origin", ORIGIN_TYPE),
    ("fetched", TIME_TYPE),
]
TEXTS = Table("work/texts", pa.schema(TEXT_FIELDS))
"""A text of the picture at `url` on a page; `key` is of the text, whatever its case."""
CANDIDATES = Table("work/candidates", pa.schema([*TEXT_FIELDS, ("pictures", pa.int32())]))
"""The same by picture, with the number of pictures that share the text; the text is empty where it has none."""
MAX_CANDIDATES = 10_000
"""Texts of one picture, over all pages, that are weighed."""


def write_texts(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the texts of the pictures of a range of documents."""
    for number, (_, rows) in enumerate(groupby(inputs[DOCUMENTS.directory], key=lambda row: row["key"])):
        output.begin(number)
        document = newest_first([document_from_row(row) for row in rows])[0]
        for image in document.items:
            if isinstance(image, ImageRef):
                write_texts_of(image, document, output)


def write_texts_of(image: ImageRef, document: Document, output: Output) -> None:
    """Write the texts of a picture, each by itself; one without texts is a candidate of its own."""
    said = {
        "url": image.url,
        "page_url": document.url,
        "language": document.language,
        "licence": document.licence,
        "origin": origin_to_row(document.origin),
        "fetched": document.fetched,
    }
    cleaned = {(text.kind, clean_text(text.text, text.kind)) for text in image.texts}
    texts = sorted((kind, text) for kind, text in cleaned if text)
    for kind, text in texts:
        row = {"key": key_of(text.casefold()), "kind": kind, "text": text}
        output.write(TEXTS, row | said, 256 + len(text))
    if not texts:
        output.write(CANDIDATES, {"key": key_of(image.url), "kind": "", "text": "", "pictures": 0} | said)


def count_pictures(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Count the pictures that share each text of a range; above the limit the number no longer matters."""
    limit = output.job.config.pairs.max_pictures
    for _, rows in groupby(inputs[TEXTS.directory], key=lambda row: row["key"]):
        for row, pictures in count_shared(rows, limit):
            candidate = row | {"key": key_of(row["url"]), "pictures": pictures}
            output.write(CANDIDATES, candidate, 256 + len(row["text"]))


def count_shared(rows: Iterator[dict[str, Any]], limit: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the rows of one text with the number of pictures that share it, once for a picture and kind.

    Of several pages the first by URL speaks. No more rows are held than `limit` pictures have.
    """
    held: dict[tuple[str, str], dict[str, Any]] = {}
    pictures: set[str] = set()
    for row in rows:
        name = (row["url"], row["kind"])
        if name not in held or row["page_url"] < held[name]["page_url"]:
            held[name] = row
        pictures.add(row["url"])
        if len(pictures) > limit:
            break
    for row in held.values():
        yield row, len(pictures)
    for row in rows:
        yield row, len(pictures)


def pair_images(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Give each picture of a range its text."""
    config = output.job.config
    sets = hold_sets(config.filters.evaluation)
    weighed = first_of_key(inputs[CANDIDATES.directory], MAX_CANDIDATES, lambda row: (not row["text"], *by_page(row)))
    tables = {**inputs, CANDIDATES.directory: weighed}
    joined = by_key(tables, *(table.directory for table in (CANDIDATES, MEDIA, SCORES, NEAREST)))
    for number, (rows, found, scores, nearest) in enumerate(joined):
        output.begin(number)
        if not found:
            continue  # only documents that are dropped show it
        media = media_from_row(found[0])
        candidates = sorted(rows, key=by_page)
        chosen = choose(candidates, media, config, sets, scores, nearest)
        if isinstance(chosen, Refusal):
            url, page = candidates[0]["url"], candidates[0]["page_url"]
            refused = Rejected(PAIR, chosen.reason, "image", url, page, chosen.detail)
            output.reject(refused, bytes=media.stored_bytes)
        else:
            masker = Masker(config.privacy)
            row = pair_row(chosen, candidates, media, masker) | {"scores": score_rows(scores_of(scores))}
            masker.tell(MASK, output.counts)
            output.keep(PAIR, "image", bytes=media.stored_bytes, words=len(row["text"].split()))
            if config.scores.pair_models:
                output.write(CHOSEN, row | {"bytes": media.stored_bytes}, pair_size(row))
            else:
                output.write(PAIRS, row, pair_size(row))


def by_page(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Order candidates by page and text."""
    return row["page_url"], row["kind"], row["text"]


def first_of_key(
    rows: Iterable[dict[str, Any]], most: int, order: Callable[[dict[str, Any]], Any]
) -> Iterator[dict[str, Any]]:
    """Yield the first `most` rows of each key in an order, so that what many pages refer to is never held whole."""
    for _, same in groupby(rows, key=lambda row: row["key"]):
        yield from heapq.nsmallest(most, same, key=order)


def choose(
    candidates: list[dict[str, Any]],
    media: Media,
    config: Any,
    sets: EvaluationSets | None,
    scores: Rows = (),
    nearest: Rows = (),
) -> dict[str, Any] | Refusal:
    """Choose the text of a picture, or say why it makes no pair."""
    refusal = judge_media(media, config.filters.images)
    if refusal is not None:
        return refusal
    match = find_copy(media, sets, config.filters.evaluation, nearest)
    if match is not None and (copy := match.refusal()):
        return copy
    if not config.scores.pair_models and (refusal := judge_scores(scores, config.scores)):
        return refusal
    texts = [row for row in candidates if row["text"]]
    if not texts:
        return Refusal(NO_TEXT)
    chosen = choose_text(
        [(Said(row["kind"], row["text"]), row["pictures"], row["page_url"]) for row in texts], config.pairs
    )
    return chosen if isinstance(chosen, Refusal) else texts[chosen]


def pair_row(
    chosen: Mapping[str, Any], candidates: list[dict[str, Any]], media: Media, masker: Masker
) -> dict[str, Any]:
    """Write a picture and its text as a row of the pairs table; all its texts go with it, masked."""
    names = ("url", "page_url", "kind", "language", "licence", "origin", "fetched")
    texts = sorted({(row["kind"], row["text"]) for row in candidates if row["text"]})
    masked = masker.each(text for _, text in texts)
    return {name: chosen[name] for name in names} | {
        "key": media.key,
        "text": masked[chosen["text"]],
        "texts": [{"kind": kind, "text": masked[text]} for kind, text in texts],
        "sha256": media.sha256,
        "phash": media.phash,
        "format": media.format,
        "width_px": media.stored_width_px,
        "height_px": media.stored_height_px,
        "location": origin_to_row(media.location),
    }
