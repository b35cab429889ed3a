"""The extract job: a stretch of the sources → documents, the images they refer to, and what else lies there.

Page → extract_document → Document            documents/
→ its image URLs      work/references
anything else captured  → where it lies       work/captures
"""

from __future__ import annotations

from pipeline.extract import extract_document
from pipeline.sources import Capture, Split, read_split
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit, fingerprint
from pipeline.tables import CAPTURES, DOCUMENTS, REFERENCES
from schemas.document import Document, ImageRef, document_to_row
from schemas.page import Page, Rejected, key_of, origin_to_row

STAGE = "extract"


def extract_pages(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Read a split and extract its pages."""
    split: Split = unit.work
    config = output.job.config
    for number, found in enumerate(read_split(split, config.source)):
        match found:
            case Page():
                set_aside = output.begin(number)
                if set_aside is not None:
                    reject = Rejected(STAGE, SET_ASIDE, "page", found.url, detail=set_aside, origin=found.origin)
                    output.reject(reject)
                    continue
                result = extract_document(found, config.extract)
                if isinstance(result, Rejected):
                    output.reject(result)
                else:
                    write_document(result, output)
            case Capture():
                write_capture(found, output)
            case Rejected():
                output.reject(found)


def write_document(document: Document, output: Output) -> None:
    """Write a document and its references."""
    row = document_to_row(document)
    size = sum(200 + len(getattr(item, "text", "")) for item in document.items)
    output.write(DOCUMENTS, row, size)
    output.keep(STAGE, "page")
    capture = capture_name(document)
    for position, item in enumerate(document.items):
        if isinstance(item, ImageRef):
            reference = {"key": key_of(item.url), "url": item.url, "document": row["key"]}
            output.write(REFERENCES, reference | {"capture": capture, "position": position})


def capture_name(document: Document) -> str:
    """Name one capture of a page: the same URL may have been captured more than once."""
    return fingerprint(document.origin.file, document.origin.offset)


def write_capture(capture: Capture, output: Output) -> None:
    """Write where a resource lies."""
    output.keep("read", "record")
    row = {
        "key": key_of(capture.url),
        "url": capture.url,
        "status": capture.status,
        "content_type": capture.content_type,
        "place": capture.place,
        "source": origin_to_row(capture.source),
        "fetched": capture.fetched,
    }
    output.write(CAPTURES, row)
