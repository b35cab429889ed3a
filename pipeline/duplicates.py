"""Duplicates but for the text: pages of one address, pages of the same pictures, paragraphs that a host repeats.

address       documents: each page's own address → by address
same_address  by address: the newest capture stays, the others → what they duplicate
repeat        documents that stay: sets of pictures → by set; paragraphs → by host and paragraph
same_repeat   by set: the page of the best rank stays, the others → what they duplicate
              by host and paragraph: those on three pages or more → by document

Rows of a group come in an order of their own, as their keys end in what they are ordered by: a group is passed through
and never held. What stays is the same for any order of the input and any cut into units.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa

from pipeline.documents import newest_first
from pipeline.fetch import Rows, by_key, moment
from pipeline.minhash import NearConfig
from pipeline.stage import Inputs, Output, Unit
from pipeline.tables import DOCUMENTS, HEADS, Table
from pipeline.urls import clean_url, host_of
from schemas.document import Document, ImageRef, Text, document_from_row
from schemas.page import KEY_CHARS, key_of

SAME_ADDRESS = "same_address"
SAME_IMAGES = "same_images"
REPEATED_PARAGRAPH = "repeated_paragraph"

DUPLICATE_SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("kept", pa.string())])
"""A document (`key`) that is dropped for another one, `kept`, which is a document's key, too."""
ADDRESSES = Table("work/addresses", pa.schema([("key", pa.string())]))
"""`key` is of the page's own address, followed by the page's rank by time, and whether it stands elsewhere."""
OLDER = Table("work/older", DUPLICATE_SCHEMA)
"""Documents whose address has a newer capture."""
NEAR = Table("work/near", DUPLICATE_SCHEMA)
"""Documents whose text is nearly that of another one (`pipeline.clusters`)."""
IMAGE_SETS = Table("work/image_sets", pa.schema([("key", pa.string())]))
"""`key` is of the set of a page's pictures, followed by the page's rank."""
ALIKE = Table("work/alike", DUPLICATE_SCHEMA)
"""Documents whose pictures are those of another one."""
PARAGRAPHS = Table("work/paragraphs", pa.schema([("key", pa.string())]))
"""`key` is of a host and a paragraph, followed by the document's key."""
BOILERPLATE = Table("work/boilerplate", pa.schema([("key", pa.string()), ("paragraph", pa.string())]))
"""A document (`key`) and a paragraph of it (`paragraph_key`) that its host repeats."""

TRACKING = frozenset(
    {
        "_ga", "_gl", "dclid", "fbclid", "gbraid", "gclid", "gclsrc", "igshid", "mc_cid", "mc_eid", "mkt_tok",
        "msclkid", "twclid", "wbraid", "yclid",
    }
)  # fmt: skip
"""Names of parameters that say where a reader came from and never what is shown; so do those that begin as below."""
TRACKING_BEGINS = ("utm_", "hsa_", "pk_", "mtm_")
LATEST = 1 << 62
"""Microseconds since 1970, later than any capture."""
MAX_WORDS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class DuplicateConfig:
    """Which pages and paragraphs are left out because others say the same."""

    same_address: bool = True
    """Keep the newest page of an address, its own or the one that it calls canonical, and drop the others."""
    min_images: int = 2
    """Pictures, at least, of a page that is dropped when another one has the same set (OBELICS: 1); 0 drops none. One
    picture may be that of a template, and then the pages share nothing else."""
    min_pages: int = 3
    """Pages of a host, at least, on which a paragraph is boilerplate (OBELICS: 3); 0 leaves all paragraphs."""
    near: NearConfig = field(default_factory=NearConfig)
    """How near-duplicate texts are found."""

    def __post_init__(self) -> None:
        if self.min_images < 0 or self.min_pages < 0 or self.min_pages == 1:
            raise ValueError("min_images and min_pages are 0 or more, and one page repeats nothing")


# --- which one stays -------------------------------------------------------------------------------------------------


def time_rank(fetched: datetime | None) -> str:
    """Write the time of a capture so that the newest sorts first and one without a date last."""
    since = (moment(fetched) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"{LATEST - since:016x}"


def rank_page(document: Document) -> str:
    """Write how a page stands among those that say the same: the smallest rank stays.

    A page with a picture goes before one without, which the page rules would drop with all that it stands for; then
    the longer text, the newer capture, and the smaller key. A rank ends in the document's key.
    """
    pictures = any(isinstance(item, ImageRef) for item in document.items)
    words = sum(len(item.text.split()) for item in document.items if isinstance(item, Text))
    return f"{0 if pictures else 1}{MAX_WORDS - min(words, MAX_WORDS):08x}{time_rank(document.fetched)}{document.key}"


def key_in(rank: str) -> str:
    """Read the document's key that a rank ends in."""
    return rank[-KEY_CHARS:]


def settle_groups(rows: Iterable[Mapping[str, Any]], reason: str) -> Iterator[dict[str, str]]:
    """Drop all documents of a group but the first; a row's key is its group's and, after that, its rank."""
    for _, group in groupby((row["key"] for row in rows), key=lambda key: key[:KEY_CHARS]):
        kept = key_in(next(group))
        for dropped in map(key_in, group):
            if dropped != kept:
                yield {"key": dropped, "reason": reason, "kept": kept}


def stay(inputs: Inputs, *dropped: Table) -> Iterator[Document]:
    """Yield the newest capture of each document that no table of duplicates drops."""
    for rows, *found in by_key(inputs, DOCUMENTS.directory, *(table.directory for table in dropped)):
        if not any(found):
            yield newest_first([document_from_row(row) for row in rows])[0]


# --- the address of a page -------------------------------------------------------------------------------------------


def own_address(url: str, canonical: str = "") -> str:
    """Give the address that a page counts under: what it calls its canonical one, else its URL, in a common form.

    Both are URLs in the form of `clean_url`. A page may only name an address of its own site (the same host but for
    `www.`, or one under the other): else it could put itself in the place of somebody else's page. The form leaves
    out the scheme, `www.`, parameters that only track readers, and an empty query; order and spelling of the others
    stay, as they may mean something.
    """
    named = clean_url(canonical) if canonical else None
    chosen = named if named is not None and same_site(url, named) else url
    scheme, _, rest = chosen.partition("://")
    place, _, query = rest.partition("?")
    kept = "&".join(pair for pair in query.split("&") if pair and not tracks(pair))
    begin = "file://" if scheme == "file" else ""
    return f"{begin}{place.removeprefix('www.')}" + (f"?{kept}" if kept else "")


def same_site(url: str, other: str) -> bool:
    """Tell whether two URLs are of one site: their hosts are the same but for `www.`, or one lies under the other."""
    if not (url.startswith("http") and other.startswith("http")):
        return False
    first, second = (host_of(one).removeprefix("www.") for one in (url, other))
    return first == second or first.endswith(f".{second}") or second.endswith(f".{first}")


def tracks(pair: str) -> bool:
    """Tell whether a parameter of a query, with its value, only tracks readers."""
    name = unquote_plus(pair.partition("=")[0]).lower()
    return name in TRACKING or name.startswith(TRACKING_BEGINS)


def write_addresses(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the address of each document of a range, by its newest capture."""
    for number, (rows,) in enumerate(by_key(inputs, HEADS.directory)):
        output.begin(number)
        newest = newest_row(rows)
        url, canonical, rank = newest["url"], newest["canonical"], time_rank(newest["fetched"])
        address = own_address(url, canonical)
        elsewhere = "0" if not canonical or address == own_address(url) else "1"
        output.write(ADDRESSES, {"key": f"{key_of(address)}{rank}{elsewhere}{newest['key']}"}, 128)


def newest_row(rows: Rows) -> dict[str, Any]:
    """Give the row of the newest capture, as `newest_first` has it."""
    by_place = sorted(rows, key=lambda row: (row["origin"]["file"], row["origin"]["offset"]))
    return max(by_place, key=lambda row: moment(row["fetched"]))


def settle_addresses(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Keep the newest page of each address of a range; of one time, one that stands there, then the smallest key."""
    for row in settle_groups(inputs[ADDRESSES.directory], SAME_ADDRESS):
        output.write(OLDER, row)


# --- sets of pictures, and paragraphs --------------------------------------------------------------------------------


def image_set_key(document: Document, rules: DuplicateConfig) -> str | None:
    """Name the set of a page's pictures, whatever their order and number; None where it has too few."""
    urls = sorted({item.url for item in document.items if isinstance(item, ImageRef)})
    if not rules.min_images or len(urls) < rules.min_images:
        return None
    return key_of("\n".join(urls))


def paragraph_key(host: str, text: str) -> str:
    """Name a paragraph of a host, whatever its case and white space."""
    name = f"{host.removeprefix('www.')}\n{' '.join(text.casefold().split())}"
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=KEY_CHARS // 2).hexdigest()


def write_repeats(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the set of pictures and the paragraphs of each document of a range that stays."""
    rules = output.job.config.duplicates
    for number, document in enumerate(stay(inputs, OLDER, NEAR)):
        output.begin(number)
        if name := image_set_key(document, rules):
            output.write(IMAGE_SETS, {"key": name + rank_page(document)}, 128)
        host = host_of(document.url)
        if rules.min_pages and host:
            names = {paragraph_key(host, item.text) for item in document.items if isinstance(item, Text)}
            for name in sorted(names):
                output.write(PARAGRAPHS, {"key": name + document.key}, 128)


def settle_repeats(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Keep the page with the best rank of each set of pictures; tell documents which paragraphs their host repeats."""
    for row in settle_groups(inputs[IMAGE_SETS.directory], SAME_IMAGES):
        output.write(ALIKE, row)
    min_pages = output.job.config.duplicates.min_pages
    for row in repeated_paragraphs(inputs[PARAGRAPHS.directory], min_pages) if min_pages else ():
        output.write(BOILERPLATE, row)


def repeated_paragraphs(rows: Iterable[Mapping[str, Any]], min_pages: int) -> Iterator[dict[str, str]]:
    """Yield the paragraphs that stand on at least so many pages of their host, with each of their documents.

    Rows are in order of their keys, a row a document; no more of a paragraph's rows are held than it must have.
    """
    for name, group in groupby((row["key"] for row in rows), key=lambda key: key[:KEY_CHARS]):
        documents = (document for document, _ in groupby(group, key=key_in))
        first = [document for _, document in zip(range(min_pages), documents, strict=False)]
        if len(first) == min_pages:
            for document in chain(first, documents):
                yield {"key": document, "paragraph": name}
