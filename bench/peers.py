"""Another extractor over pages: JSON with pages comes in, what it extracted and its CPU seconds go out as JSON.

    python bench/peers.py trafilatura 3 pages.json result.json      (bench/extraction.py runs this)

Imports nothing of the project: a peer runs in a virtual environment of its own. Each gets the undecoded page, and the
settings that score best: trafilatura fast and without comments, readability's article as its text nodes, resiliparse's
main content without comments and alternative texts. Pictures come from a second, untimed run, because the text does not
name them; only readability's output can hold a caption (the `figcaption` of the figure).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Found = tuple[str, str]
"""URL and caption of a picture."""
Peer = tuple[Callable[[str, bytes], str], Callable[[str, bytes], list[Found]] | None]
"""What extracts a page's text and what its pictures, None where it finds none."""


def cpu_seconds(work: Callable[[T], R], things: Sequence[T], rounds: int) -> tuple[list[R], float]:
    """Do the work on all things, after one to warm up; returns the results and the CPU seconds of the best round."""
    work(things[0])
    best, results = float("inf"), []
    for _ in range(rounds):
        started = time.process_time()
        results = [work(thing) for thing in things]
        best = min(best, time.process_time() - started)
    return results, best


def trafilatura() -> Peer:
    import trafilatura
    from lxml import etree

    def text(url: str, html: bytes) -> str:
        return trafilatura.extract(html, url=url, fast=True, include_comments=False) or ""

    def pictures(url: str, html: bytes) -> list[Found]:
        found = trafilatura.extract(
            html, url=url, fast=True, include_comments=False, include_images=True, output_format="xml"
        )
        graphics = etree.fromstring(found.encode()).iter("graphic") if found else ()
        return [(graphic.get("src"), "") for graphic in graphics if graphic.get("src")]

    return text, pictures


def readability() -> Peer:
    from lxml import html as lxml_html
    from readability import Document

    def article(url: str, html: bytes) -> Any:
        summary = Document(html, url=url).summary(html_partial=True)
        return lxml_html.fromstring(summary) if summary else None

    def text(url: str, html: bytes) -> str:
        found = article(url, html)
        return "" if found is None else found.text_content()

    def pictures(url: str, html: bytes) -> list[Found]:
        found = article(url, html)
        return [
            (image.get("src"), " ".join(image.xpath("string(ancestor::figure[1]//figcaption)").split()))
            for image in (() if found is None else found.iter("img"))
            if image.get("src")
        ]

    return text, pictures


def resiliparse() -> Peer:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    def text(url: str, html: bytes) -> str:
        tree = HTMLTree.parse_from_bytes(html, detect_encoding(html) or "utf-8")
        return extract_plain_text(tree, main_content=True, comments=False, alt_texts=False)

    return text, None


PEERS = {"trafilatura": trafilatura, "readability": readability, "resiliparse": resiliparse}


def run(peer: Peer, pages: list[tuple[str, bytes]], rounds: int) -> dict[str, Any]:
    """Extract pages; one that the peer fails on is empty."""
    extract_text, extract_pictures = peer
    failed = set()

    def text(page: tuple[str, bytes]) -> str:
        try:
            return extract_text(*page)
        except Exception:
            failed.add(page[0])
            return ""

    def pictures(page: tuple[str, bytes]) -> list[Found]:
        try:
            return extract_pictures(*page) if extract_pictures else []
        except Exception:
            failed.add(page[0])
            return []

    texts, seconds = cpu_seconds(text, pages, rounds)
    found = [pictures(page) for page in pages] if extract_pictures else None
    return {"texts": texts, "pictures": found, "seconds": seconds, "failed": len(failed)}


def main() -> None:
    name, rounds, pages_path, result_path = sys.argv[1:]
    peer = PEERS[name]()
    sets = json.loads(Path(pages_path).read_text("utf-8"))
    result = {
        dataset: run(peer, [(url, html.encode("latin-1")) for url, html in pages], int(rounds))
        for dataset, pages in sets.items()
    }
    Path(result_path).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
