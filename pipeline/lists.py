"""Pages by name: lists of URLs in, and what became of each page out.

list      a stretch of a list: its URLs → work/listed
settle    listed × ledger, by URL → the place of every page that was got, a rejection for each that was not

Between the two the pages are asked for; those that were got lie in the dataset's web logs, which are archives like
any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.fetch import by_key
from pipeline.folder import open_input
from pipeline.optout import hold_lists
from pipeline.sources import Split, place_of
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import ASKED
from pipeline.urls import clean_url
from pipeline.web import LISTED, PAGES, in_dataset, newest
from schemas.asked import GOT, PAGE
from schemas.page import Origin, Rejected, key_of

LIST_PAGES, SETTLE = "list", "settle"
BAD_URL = "bad_url"
DUPLICATE_LINE = "duplicate_line"
NOT_ASKED = "not_asked"
MAX_LINE_BYTES = 1 << 15


def list_pages(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Read the URLs of a stretch of a list."""
    for found in read_list(unit.work):
        if isinstance(found, Rejected):
            output.reject(found)
        else:
            output.keep(LIST_PAGES, "page")
            output.write(LISTED, {"key": key_of(found), "url": found})


def read_list(split: Split) -> Iterator[str | Rejected]:
    """Read the URLs of the lines that begin in a split; empty lines and those that begin with # say nothing."""
    with open_input(split.file) as stream:
        at = split.start
        if at:
            stream.seek(at - 1)
            at += skip_line(stream) - 1
        while at < split.end and (line := stream.readline(MAX_LINE_BYTES)):
            begun, at = at, at + len(line)
            if not line.endswith(b"\n"):
                at += skip_line(stream)
            text = line.decode("utf-8", "replace")
            text = (text if begun else text.removeprefix("\ufeff")).strip()
            url = clean_url(text)
            if url is not None and url.startswith("http"):
                yield url
            elif text and not text.startswith("#"):
                detail = f"no URL of the web: {text[:200]}"
                yield Rejected(
                    LIST_PAGES, BAD_URL, "page", "", detail=detail, origin=Origin(split.file, begun, at - begun)
                )


def skip_line(stream: BinaryIO) -> int:
    """Read to the end of a line of any length; returns how many bytes that were."""
    passed = 0
    while line := stream.readline(MAX_LINE_BYTES):
        passed += len(line)
        if line.endswith(b"\n"):
            break
    return passed


def settle_pages(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Say of every listed page where it lies, or why it was not got."""
    opted_out = hold_lists(output.job.config.rights)
    for rows, ledger in by_key(inputs, LISTED.directory, ASKED.directory):
        url, asked = rows[0]["url"], newest(ledger, PAGE)
        for _ in rows[1:]:
            output.reject(Rejected(SETTLE, DUPLICATE_LINE, "page", url, detail="the list has it more than once"))
        if refusal := opted_out.refuse(url) or opted_out.refuse(asked.final_url if asked else url):
            output.reject(Rejected(SETTLE, refusal.reason, "page", url, detail=refusal.detail))
        elif asked is None:
            output.reject(Rejected(SETTLE, NOT_ASKED, "page", url))
        elif asked.outcome != GOT:
            output.reject(Rejected(SETTLE, asked.reason, "page", url, detail=asked.detail))
        else:
            assert asked.location is not None
            output.keep(SETTLE, "page")
            output.write(PAGES, {"key": place_of(in_dataset(asked.location.file), asked.location.offset)})
