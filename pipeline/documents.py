"""The extract job: a stretch of the sources → documents, and what else lies there.

Page → extract_document → Document            documents/
anything else captured  → where it lies       work/captures
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.extract import extract_document
from pipeline.fetch import moment
from pipeline.optout import OptOut, hold_lists
from pipeline.rights import RightsConfig, refuse_headers, refuse_meta
from pipeline.sources import Capture, Split, place_of, read_split
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit, fingerprint
from pipeline.tables import CAPTURES, DOCUMENTS
from pipeline.web import IN_DATASET, PAGES
from schemas.document import Document, ImageRef, Item, Text, document_to_row
from schemas.page import Page, Refusal, Rejected, key_of, origin_to_row

STAGE = "extract"


def extract_pages(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Read a split and extract its pages."""
    split: Split = unit.work
    config = output.job.config
    listed = hold_lists(config.rights)
    from_web = split.file.startswith(IN_DATASET)
    places = {row["key"] for row in inputs[PAGES.directory]} if from_web else set()
    for number, found in enumerate(read_split(split, config.source, output.folder)):
        if from_web and place_found(found) not in places:
            continue  # no list names it any more: `settle` has said what became of those that are listed
        match found:
            case Page():
                output.keep("read", "page")
                set_aside = output.begin(number)
                if set_aside is not None:
                    reject = Rejected(STAGE, SET_ASIDE, "page", found.url, detail=set_aside, origin=found.origin)
                    output.reject(reject)
                    continue
                result = allowed(extract_document(found, config.extract), config.rights, listed)
                if isinstance(result, Rejected):
                    output.reject(result)
                else:
                    write_document(result, output)
            case Capture():
                write_capture(found, refuse_headers(found.headers, config.rights, image=True), output)
            case Rejected():
                output.reject(found)


def place_found(found: Page | Capture | Rejected) -> str:
    """Give the place of what was read in a log of the web."""
    origin = found.source if isinstance(found, Capture) else found.origin
    return place_of(origin.file, origin.offset) if origin else ""


def allowed(result: Document | Rejected, rights: RightsConfig, listed: OptOut) -> Document | Rejected:
    """Refuse a document that its page, its headers or the user's lists keep from being used."""
    if isinstance(result, Rejected):
        return result
    refusal = listed.refuse(result.url) or restricted(result, rights, image=False)
    if refusal is None:
        return result
    return Rejected(STAGE, refusal.reason, "page", result.url, detail=refusal.detail, origin=result.origin)


def restricted(document: Document, rights: RightsConfig, *, image: bool) -> Refusal | None:
    """Judge a document, or with `image` its pictures, by what the page says of its use."""
    said = [(name, value) for name, _, value in (text.partition(": ") for text in document.restrictions)]
    return refuse_headers(said, rights, image=image) or refuse_meta(said, rights, image=image)


def without_images(document: Document, refusal: Refusal, output: Output) -> Document:
    """Take the pictures out of a document that its page keeps from being used."""
    for item in document.items:
        if isinstance(item, ImageRef):
            output.reject(Rejected(STAGE, refusal.reason, "image", item.url, document.url, refusal.detail))
    return replace(document, items=tuple(item for item in document.items if not isinstance(item, ImageRef)))


def write_document(document: Document, output: Output) -> None:
    """Write a document."""
    if refusal := restricted(document, output.job.config.rights, image=True):
        document = without_images(document, refusal, output)
    size = sum(200 + len(getattr(item, "text", "")) for item in document.items)
    output.write(DOCUMENTS, document_to_row(document), size)
    output.keep(STAGE, "page", words=words_of(document))


def words_of(document: Document) -> int:
    """Count the words of a document's text, all that stands between white space."""
    return sum(map(count_words, document.items))


def count_words(item: Item) -> int:
    """Count the words of an item; only texts have any."""
    return len(item.text.split()) if isinstance(item, Text) else 0


def capture_name(document: Document) -> str:
    """Name one capture of a page: the same URL may have been captured more than once."""
    return fingerprint(document.origin.file, document.origin.offset)


def newest_first(documents: Sequence[Document]) -> list[Document]:
    """Order captures of one URL: the newest first, ties by where they were read."""
    by_place = sorted(documents, key=lambda document: (document.origin.file, document.origin.offset))
    return sorted(by_place, key=lambda document: moment(document.fetched), reverse=True)


def write_capture(capture: Capture, refusal: Refusal | None, output: Output) -> None:
    """Write where a resource lies, and whether it may be used as an image."""
    output.keep("read", "record")
    row = {
        "key": key_of(capture.url),
        "url": capture.url,
        "status": capture.status,
        "content_type": capture.content_type,
        "place": capture.place,
        "source": origin_to_row(capture.source),
        "fetched": capture.fetched,
        "refused": refusal.reason if refusal else "",
        "refusal": refusal.detail if refusal else "",
    }
    output.write(CAPTURES, row)
