"""Page → Document: what a reader would call the content, text and media in reading order.

    Page → decode → guards → Tree → region → pieces → captions → Document | Rejected        (SPEC-corpus 3)

Every pass is linear in the nodes of the tree, and subtree sums are differences of prefix sums, because a subtree is a
range of the flat tree.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from pipeline import dom
from pipeline.captions import attach_captions
from pipeline.content import BoilerplateLimits, OutOfTimeError, choose_region, measure
from pipeline.dom import Tree, first_of
from pipeline.nesting import check_markup
from pipeline.reading import Frame, Writer, write_range
from pipeline.urls import join_url
from schemas.document import Document, Item
from schemas.page import Page, Rejected

STAGE = "extract"
TOO_LARGE = "too_large"
NOT_HTML = "not_html"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Limits of a page and choices among what it offers."""

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
    min_region_share: float = 0.5
    """Share of the page's unlinked text that a main or article region must hold to be taken alone."""
    max_boilerplate_share: float = 0.5
    """Share of the region's unlinked text above which nothing is dropped for its name or its links."""
    min_link_share: float = 0.75
    """Share of linked characters from which a block with three links or more is a list of links."""
    max_caption_chars: int = 1_000
    """Characters up to which all text of a figure without a `figcaption` is its caption."""


def extract_document(page: Page, config: ExtractConfig) -> Document | Rejected:
    """Extract a page's content, or say why there is none; depends on nothing but its arguments (and the time limit)."""
    deadline = time.monotonic() + config.timeout_s

    def reject(reason: str, detail: str = "") -> Rejected:
        return Rejected(STAGE, reason, "page", page.url, detail=detail, origin=page.origin)

    if len(page.html) > config.max_html_bytes:
        return reject(TOO_LARGE, f"{len(page.html)} bytes")
    if kind := sniff_bytes(page.html):
        return reject(NOT_HTML, kind)
    text = dom.decode_html(page.html, page.charset)
    if kind := sniff_text(text):
        return reject(NOT_HTML, kind)
    if reason := check_markup(text):
        return reject(reason)
    tree = dom.parse_html(text, config.max_nodes, config.max_depth, deadline)
    if isinstance(tree, str):
        return reject(tree)
    try:
        items = extract_items(tree, page.url, config, deadline)
    except OutOfTimeError:
        return reject(dom.TIMEOUT)
    if not items:
        return reject(EMPTY)
    return Document(page.url, find_title(tree), find_language(tree), items, page.origin, page.fetched)


def extract_items(tree: Tree, url: str, config: ExtractConfig, deadline: float) -> tuple[Item, ...]:
    """Extract text and media of a tree in reading order."""
    sums = measure(tree, deadline)
    region = choose_region(tree, sums, config.min_region_share)
    limits = BoilerplateLimits(config.max_boilerplate_share, config.min_link_share)
    base = find_base(tree, url)
    writer = Writer(tree, sums, region, base, deadline, limits, config.image_width_px, config.max_caption_chars)
    write_range(writer, region, tree.ends[region], Frame(tree.ends[region], region))
    return attach_captions(writer.pieces)


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


def sniff_text(text: str) -> str:
    """Say what else a decoded page is: binary garbage or a feed; empty if it may be a page."""
    start = text[:SNIFF_CHARS]
    if len(CONTROLS.findall(start)) > MAX_CONTROL_SHARE * len(start):
        return "binary"
    feed = FEED.match(start)
    return feed[1].lower() if feed else ""


# --- the head --------------------------------------------------------------------------------------------------------


def text_within(tree: Tree, index: int) -> str:
    """Join and fold all text of a subtree."""
    return " ".join("".join(tree.texts[index : tree.ends[index]]).split())


def find_title(tree: Tree) -> str:
    """Read the page's title, folded."""
    index = first_of(tree, "title")
    return text_within(tree, index) if index >= 0 else ""


def find_language(tree: Tree) -> str:
    """Read the language the page declares for itself, a lower-case BCP 47 tag."""
    language = (tree.attributes[0].get("lang") or tree.attributes[0].get("xml:lang") or "") if tree.tags else ""
    language = language.strip().lower().replace("_", "-")
    return language if re.fullmatch(r"[a-z]{2,8}(?:-[a-z0-9]{1,8}){0,7}", language) else ""


def find_base(tree: Tree, url: str) -> str:
    """Find the URL that the page's references are relative to."""
    for index, tag in enumerate(tree.tags):
        if tag == "base" and (href := tree.attributes[index].get("href")):
            return join_url(url, href) or url
    return url
