"""Near-duplicate pages: signatures → links between pages that share a band → clusters → all but one page dropped.

sign     documents that stay: the bands of each text → by band
link     by band: pages whose signatures are similar → links, by page, or what near-duplicates are dropped for
star_1.. by page: its neighbours are linked to the smallest of them → links, or what near-duplicates are dropped for
cluster  by page: what is left of that after the last round

Pages are named by their rank (`rank_page`), so the smallest of a cluster is the one that stays. A round is a function
of the set of links, whatever their order and cut into units, and holds one link at a time: rows of a page come in order
of their other end, as their keys end in it. Turns of large and small stars make a star of each cluster after a number
of rounds that grows with the logarithm of its diameter (Kiveris et al., "Connected Components in MapReduce and Beyond",
2014). As soon as all links fit into one unit, that unit finds the clusters at once and the stages after it have nothing
to do; of few pages it is the unit that links them. If the last round leaves a cluster in pieces, a page is dropped for
the best that it is linked to, which may be dropped for a better one: some pages too many may stay, but the best of a
cluster always does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.duplicates import NEAR, OLDER, key_in, rank_page, stay
from pipeline.minhash import NearConfig, count_matches, min_matches, signature
from pipeline.stage import Inputs, Output, Stage, Unit
from pipeline.tables import KeyRange, Table
from schemas.document import Text
from schemas.page import KEY_CHARS

NEAR_DUPLICATE = "near_duplicate"
ROUNDS = 12
"""Rounds, even: enough for chains of some hundred pages, each similar only to the next one."""
MAX_HELD = 64
"""Signatures of a band that pages are compared with, of which similar ones were found; as many more of which none."""

BANDS = Table("work/bands", pa.schema([("key", pa.string()), ("signature", pa.binary())]))
"""A band of a page: `key` is of the band, followed by the page's rank; the packed signature is of the whole page."""
LINK_SCHEMA = pa.schema([("key", pa.string()), ("rank", pa.string())])
LINKS = [Table(f"work/links_{turn}", LINK_SCHEMA) for turn in range(ROUNDS + 1)]
"""Links before each round: `key` is a document's key, followed by the rank of the page it is linked to; `rank` is its
own. Before a large star both ends have a row, before a small one and at last only the end with the greater rank."""

Link = tuple[str, str]
"""Ranks of two similar pages, the greater one first."""


# --- bands to links --------------------------------------------------------------------------------------------------


def sign_documents(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Write the bands of each document of a range that stays."""
    config = output.job.config.duplicates.near
    for number, document in enumerate(stay(inputs, OLDER)):
        output.begin(number)
        text = "\n".join(item.text for item in document.items if isinstance(item, Text))
        signed = signature(text, config)
        if signed is not None:
            bands, packed = signed
            rank = rank_page(document)
            for band in bands:
                output.write(BANDS, {"key": band + rank, "signature": packed}, 128 + len(packed))


def link_bands(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Link the similar pages of each band of a range; where that is all bands, drop all but the best of a cluster."""
    links = find_links(inputs[BANDS.directory], output.job.config.duplicates.near)
    if is_whole(unit.work.keys):
        drop(find_clusters(links), output)
        return
    for link in links:
        write_link(link, 0, output)


def find_links(rows: Iterable[Mapping[str, Any]], config: NearConfig) -> Iterator[Link]:
    """Yield the links of all bands of rows that are in order of their keys."""
    needed = min_matches(config)
    for _, group in groupby(rows, key=lambda row: row["key"][:KEY_CHARS]):
        pages = iter(group)
        first = list(islice(pages, 2))
        if len(first) == 2:  # most bands are of one page
            yield from link_band(chain(first, pages), needed)


def link_band(rows: Iterable[Mapping[str, Any]], needed: int) -> Iterator[Link]:
    """Link the pages of one band whose signatures look alike at so many permutations, or that such pages connect.

    Each page is linked once, to the smallest of those that it is connected with so far. It is compared with a bounded
    number of pages: with the first, and with others that were like none before them. What looks the same as one of
    them is not compared again.
    """
    ranks: list[str] = []
    parents: list[int] = []
    known: dict[bytes, int] = {}
    held = np.empty((0, 0), np.uint8)
    for row in rows:
        rank, packed = row["key"][KEY_CHARS:], row["signature"]
        one = np.frombuffer(packed, np.uint8)
        if not ranks:
            held = np.empty((2 * MAX_HELD, len(one)), np.uint8)
        if packed in known:
            roots = [root_of(known[packed], parents)]
        else:
            alike = np.flatnonzero(count_matches(held[: len(ranks)], one) >= needed)
            roots = sorted({root_of(int(index), parents) for index in alike})
        for root in roots[1:]:
            parents[root] = roots[0]
            yield ranks[root], ranks[roots[0]]
        if roots and rank != ranks[roots[0]]:
            yield rank, ranks[roots[0]]
        if packed not in known and len(ranks) < (MAX_HELD if roots else 2 * MAX_HELD):
            known[packed] = len(ranks)
            held[len(ranks)] = one
            parents.append(roots[0] if roots else len(ranks))
            ranks.append(rank)


def root_of(index: int, parents: list[int]) -> int:
    """Follow the parents of an index to the one that is its own, and shorten the way."""
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def write_link(link: Link, turn: int, output: Output) -> None:
    """Write a link for a round: at both ends before a large star, else only at its greater one."""
    greater, smaller = link
    output.write(LINKS[turn], {"key": key_in(greater) + smaller, "rank": greater})
    if is_large(turn):
        output.write(LINKS[turn], {"key": key_in(smaller) + greater, "rank": smaller})


# --- links to clusters -----------------------------------------------------------------------------------------------


def is_large(turn: int) -> bool:
    """Tell whether a round makes large stars; after the last one nothing does."""
    return turn % 2 == 0 and turn < ROUNDS


def make_stars(unit: Unit, inputs: Inputs, output: Output, turn: int) -> None:
    """Do a round for a range of pages; where the range is all pages, find the clusters and drop all but the best."""
    rows = inputs[LINKS[turn].directory]
    if is_whole(unit.work.keys):
        drop(find_clusters(links_of(rows)), output)
        return
    for link in large_stars(rows) if is_large(turn) else small_stars(rows):
        write_link(link, turn + 1, output)


def drop_linked(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Drop each page of a range for the smallest that it is linked to after the last round."""
    rows = neighbours(inputs[LINKS[ROUNDS].directory])
    drop(((rank, next(others)) for rank, others in rows), output)


def drop(links: Iterable[Link], output: Output) -> None:
    """Write what is dropped and for what."""
    for dropped, kept in links:
        output.write(NEAR, {"key": key_in(dropped), "reason": NEAR_DUPLICATE, "kept": key_in(kept)})


def links_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Link]:
    """Read links from their rows."""
    for row in rows:
        rank, other = row["rank"], row["key"][KEY_CHARS:]
        yield max(rank, other), min(rank, other)


def neighbours(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield each page with its neighbours, each once, the smallest first; rows are in order of their keys."""
    for _, group in groupby(rows, key=lambda row: row["key"][:KEY_CHARS]):
        first = next(group)
        others = groupby(row["key"][KEY_CHARS:] for row in chain((first,), group))
        yield first["rank"], (other for other, _ in others)


def large_stars(rows: Iterable[Mapping[str, Any]]) -> Iterator[Link]:
    """Link the neighbours of each page that are greater than it to its smallest neighbour, or to itself."""
    for rank, others in neighbours(rows):
        first = next(others)
        smallest = min(first, rank)
        for other in chain((first,), others):
            if other > rank:
                yield other, smallest


def small_stars(rows: Iterable[Mapping[str, Any]]) -> Iterator[Link]:
    """Link each page and its neighbours, all of them smaller than it, to the smallest of these."""
    for rank, others in neighbours(rows):
        smallest = next(others)
        yield rank, smallest
        for other in others:
            yield other, smallest


def find_clusters(links: Iterable[Link]) -> list[Link]:
    """Link each page to the smallest of its cluster: union-find, which holds all pages that have a link."""
    parents: dict[str, str] = {}

    def find(rank: str) -> str:
        parent = parents.setdefault(rank, rank)
        while parent != rank:
            parents[rank] = parents[parent]
            rank, parent = parent, parents[parent]
        return rank

    for one, other in links:
        first, second = find(one), find(other)
        parents[max(first, second)] = min(first, second)
    return [(rank, find(rank)) for rank in sorted(parents) if find(rank) != rank]


# --- the rounds ------------------------------------------------------------------------------------------------------


def is_whole(keys: KeyRange) -> bool:
    """Tell whether a range holds all keys."""
    return not keys.lo.strip("0") and not keys.hi


CLUSTER_STAGES = (
    *(
        Stage(f"star_{turn + 1}", (LINKS[turn],), (LINKS[turn + 1], NEAR), partial(make_stars, turn=turn))
        for turn in range(ROUNDS)
    ),
    Stage("cluster", (LINKS[ROUNDS],), (NEAR,), drop_linked),
)
"""The rounds and what ends them; without links a stage has no units, so of few pages none has."""
