"""Page → Document: what a reader would call the content, text and media in reading order.

    Page → to_utf8 → check_markup → Tree → read_page → choose → attach_captions → add_texts → Document | Rejected

Reading comes before choosing: all that a page shows is read first, then judged piece by piece with the whole page in
view (SPEC-corpus 3). Every pass is linear in the nodes of the tree.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from pipeline import dom, soup
from pipeline.announced import read_told
from pipeline.candidates import add_texts
from pipeline.captions import attach_captions
from pipeline.content import Wanted, choose, load_weights
from pipeline.marks import RIGHTS_METAS, Marks, contents, find_marks
from pipeline.metadata import find_base, find_things, read_metadata
from pipeline.nesting import check_markup
from pipeline.picture_features import announced_pictures
from pipeline.reading import OutOfTimeError, read_page
from schemas.document import Document
from schemas.page import Page, Rejected

STAGE = "extract"
TOO_LARGE = "too_large"
NOT_HTML = "not_html"
EMPTY = "empty"
NO_CONTENT = "no_content"
"""The page shows something, but all of it is navigation, links or notices."""

PARSERS = {"lexbor": dom.parse_html, "beautifulsoup": soup.parse_soup}


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Limits of a page and choices among what it offers."""

    parser: str = "lexbor"
    """lexbor, or beautifulsoup (on html5lib): the same tree some twenty times slower, to check against."""
    max_html_bytes: int = 20_000_000
    """Bytes of undecoded HTML; the largest of the 640 pages of the corpus has 3 MB."""
    max_nodes: int = 300_000
    """Elements, texts and comments; the largest book of the corpus has 23,000."""
    max_depth: int = 10_000
    """Nodes on the longest way down; pages with 8,000 nested wrappers must pass (SPEC-corpus 3)."""
    timeout_s: float = 10.0
    """Seconds for one page, decoding and parsing included; looked at every 512 nodes."""
    image_width_px: int = 1_024
    """Wanted width: the smallest srcset candidate at least this wide is taken, else the widest."""

    def __post_init__(self) -> None:
        if self.parser not in PARSERS:
            raise ValueError(f"parser is one of {', '.join(PARSERS)}, not {self.parser!r}")


def extract_document(page: Page, config: ExtractConfig) -> Document | Rejected:
    """Extract a page's content, or say why there is none; depends on nothing but its arguments (and the time limit)."""
    deadline = time.monotonic() + config.timeout_s

    def reject(reason: str, detail: str = "") -> Rejected:
        return Rejected(STAGE, reason, "page", page.url, detail=detail, origin=page.origin)

    if len(page.html) > config.max_html_bytes:
        return reject(TOO_LARGE, f"{len(page.html)} bytes")
    if kind := sniff_bytes(page.html):
        return reject(NOT_HTML, kind)
    markup = dom.to_utf8(page.html, page.charset)
    if kind := sniff_text(markup):
        return reject(NOT_HTML, kind)
    # A character a byte is the text that costs least to make of UTF-8, and all that the guard looks for is ASCII.
    if reason := check_markup(markup.decode("latin-1")):
        return reject(reason)
    tree = PARSERS[config.parser](markup, config.max_nodes, config.max_depth, deadline)
    if isinstance(tree, str):
        return reject(tree)
    try:
        marks = find_marks(tree)
        base = find_base(tree, marks, page.url)
        things = find_things(tree, marks)
        said = read_metadata(tree, marks, base, page.url, page.fetched, things)
        wanted = Wanted(base, config.image_width_px, said.title, announced_pictures(marks))
        reading = read_page(tree, deadline)
        chosen = choose(tree, reading, wanted, load_weights())
        told = read_told(marks, things, base, page.fetched)
        items = add_texts(tree, reading, chosen, attach_captions(chosen), told)
    except OutOfTimeError:
        return reject(dom.TIMEOUT)
    if not items:
        return reject(NO_CONTENT if reading.pieces else EMPTY)
    return Document(
        page.url,
        said.title,
        said.language,
        items,
        page.origin,
        page.fetched,
        said.canonical,
        said.published,
        said.author,
        said.licence,
        restrictions(page, marks),
    )


MAX_RESTRICTION_CHARS = 1_000


def restrictions(page: Page, marks: Marks) -> tuple[str, ...]:
    """Gather what the headers and the head of a page say of its use."""
    said = [*page.headers, *((name, content) for name in RIGHTS_METAS for content in contents(marks, name))]
    return tuple(f"{name}: {value}"[:MAX_RESTRICTION_CHARS] for name, value in said)


# --- what is no page at all ------------------------------------------------------------------------------------------

MAGIC = {
    b"%PDF-": "pdf", b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "riff", b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip", b"OggS": "ogg", b"ID3": "mp3", b"Rar!": "rar", b"7z\xbc\xaf": "7z", b"wOFF": "font",
    b"wOF2": "font", b"\x7fELF": "elf", b"MZ\x90": "exe", b"II*\0": "tiff", b"MM\0*": "tiff", b"{\\rtf": "rtf",
}  # fmt: skip
FEED = re.compile(
    r"\s*<\?xml[^>]*>\s*(?:<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<(rss|feed|svg|urlset|sitemapindex|rdf:RDF)\b"
)
CONTROLS = re.compile("[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\ufffd]")
SNIFF_CHARS = 4_096
MAX_CONTROL_SHARE = 0.1


def sniff_bytes(html: bytes) -> str:
    """Name the format of a file that is no page, by its first bytes; empty if it may be one."""
    if html[4:8] == b"ftyp":
        return "mp4"
    return next((kind for magic, kind in MAGIC.items() if html.startswith(magic)), "")


def sniff_text(utf8: bytes) -> str:
    """Say what else a page is by its text: binary garbage or a feed; empty if it may be a page."""
    start = utf8[: 4 * SNIFF_CHARS].decode(errors="ignore")[:SNIFF_CHARS]
    if len(CONTROLS.findall(start)) > MAX_CONTROL_SHARE * len(start):
        return "binary"
    feed = FEED.match(start)
    return feed[1].lower() if feed else ""
