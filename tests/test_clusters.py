"""Clusters of near-duplicates: links, stars and what stays, whatever the order and the cut into units."""

import random
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import clusters, plan
from pipeline.clusters import (
    BANDS,
    CLUSTER_STAGES,
    LINKS,
    MAX_HELD,
    ROUNDS,
    find_clusters,
    find_links,
    is_whole,
    large_stars,
    link_bands,
    sign_documents,
    small_stars,
)
from pipeline.duplicates import NEAR, OLDER, DuplicateConfig, rank_page
from pipeline.folder import Folder
from pipeline.minhash import NearConfig
from pipeline.plan import Step, Totals, add_totals, by_any_rows, by_rows, plan_units
from pipeline.stage import Job, Stage, gather, run_unit
from pipeline.tables import DOCUMENTS, KeyRange, PartWriter, key_ranges, stream_range
from schemas.document import Document, ImageRef, Text, document_to_row
from schemas.page import Origin, key_of

EVERYTHING = KeyRange("", "")
NODES = [f"{number:025x}{key_of(str(number))}" for number in range(400)]


def links_between(*pairs):
    return {(NODES[max(pair)], NODES[min(pair)]) for pair in pairs}


def rows_of(links, both):
    """Write links as the rows of a round, in order of their keys."""
    rows = [{"key": greater[-24:] + smaller, "rank": greater} for greater, smaller in links]
    if both:
        rows += [{"key": smaller[-24:] + greater, "rank": smaller} for greater, smaller in links]
    return sorted(rows, key=lambda row: row["key"])


def rounds_of(links, most=ROUNDS):
    """Do the rounds until nothing changes; gives the links and how many rounds that took."""
    for turn in range(0, most, 2):
        before = links
        links = set(large_stars(rows_of(links, True)))
        links = set(small_stars(rows_of(links, False)))
        if links == before:
            return links, turn
    return links, most


def chain_of(count):
    return [(number, number + 1) for number in range(count - 1)]


def components(pairs):
    """Find the smallest of each node's component by walking, as a reference."""
    near = {}
    for one, other in pairs:
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    found = {}
    for start in sorted(near):
        reached = [start]
        while reached:
            node = reached.pop()
            if node not in found:
                found[node] = start
                reached += near[node]
    return {(node, start) for node, start in found.items() if node != start}


GRAPHS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] != pair[1]), max_size=60
)


@settings(deadline=None)
@given(GRAPHS)
def test_rounds_and_union_find_give_the_components(pairs):
    expected = links_between(*components(pairs))
    links = links_between(*pairs)
    assert set(find_clusters(links)) == expected
    assert rounds_of(links, 40)[0] == expected


@settings(deadline=None)
@given(GRAPHS, st.randoms(use_true_random=False))
def test_the_order_of_links_does_not_matter(pairs, shuffler):
    links = sorted(links_between(*pairs))
    expected = find_clusters(links)
    shuffler.shuffle(links)
    assert find_clusters(links) == expected


@pytest.mark.parametrize("count", [2, 3, 10, 64])
def test_the_rounds_are_enough_for_chains(count):
    shuffled = random.Random(count).sample(range(400), count)
    pairs = [(shuffled[one], shuffled[other]) for one, other in chain_of(count)]
    links, _ = rounds_of(links_between(*pairs))
    assert links == links_between(*((node, min(shuffled)) for node in shuffled if node != min(shuffled)))


def test_a_cluster_that_the_rounds_leave_in_pieces_keeps_its_best():
    shuffled = random.Random(5).sample(range(400), 400)
    links, rounds = rounds_of(links_between(*((shuffled[one], shuffled[other]) for one, other in chain_of(400))), 2)
    dropped = {greater for greater, _ in links}
    assert rounds == 2
    assert len({smaller for _, smaller in links}) > 1
    assert dropped < set(NODES[1:])


def packed(value, differ=0):
    """Give a signature of which so many bytes, two permutations each, are unlike those of `value`."""
    return bytes([value ^ 0x11] * differ + [value] * (128 - differ))


def band(*pages, key="b" * 24):
    return [{"key": key + NODES[number], "signature": signature} for number, signature in sorted(pages)]


def links_in(rows):
    return set(find_links(rows, NearConfig()))


@pytest.mark.parametrize(("differ", "linked"), [(0, True), (24, True), (25, False), (128, False)])
def test_pages_of_a_band_are_linked_if_their_signatures_are_similar(differ, linked):
    found = links_in(band((1, packed(0)), (2, packed(0, differ))))
    assert found == (links_between((1, 2)) if linked else set())


def test_pages_of_different_bands_are_not_linked():
    assert links_in([*band((1, packed(0))), *band((2, packed(0)), key="c" * 24)]) == set()


def test_a_page_that_connects_two_joins_them():
    # The first two differ in 32 bytes of 128, and the third from each of them in 16.
    between = bytes([0x11] * 16 + [0] * 112)
    found = links_in(band((1, packed(0)), (2, packed(0, 32)), (3, between)))
    assert found == links_between((1, 2), (1, 3))


def test_a_page_that_is_twice_in_a_band_is_not_linked_to_itself():
    assert links_in(band((1, packed(0)), (1, packed(0)))) == set()


def test_a_big_band_of_the_same_text_is_compared_once(monkeypatch):
    compared = []
    counted = clusters.count_matches
    monkeypatch.setattr(clusters, "count_matches", lambda held, one: compared.append(len(held)) or counted(held, one))
    found = links_in(band(*((number, packed(7)) for number in range(400))))
    assert found == links_between(*((0, number) for number in range(1, 400)))
    assert compared == [0]


def test_a_big_band_of_similar_texts_is_compared_with_a_bounded_number(monkeypatch):
    compared = []
    counted = clusters.count_matches
    monkeypatch.setattr(clusters, "count_matches", lambda held, one: compared.append(len(held)) or counted(held, one))
    # Each differs from all others in one or two bytes; the last page is like none.
    pages = [
        (number, bytes([0] * (number % 128) + [number // 128 + 1] + [0] * (127 - number % 128)))
        for number in range(399)
    ]
    found = links_in(band(*pages, (399, packed(0xEE))))
    assert found == links_between(*((0, number) for number in range(1, 399)))
    assert max(compared) == MAX_HELD


def test_a_range_of_all_keys_is_whole():
    assert is_whole(key_ranges(1)[0])
    assert not any(is_whole(keys) for keys in key_ranges(2))


# --- whole stages ----------------------------------------------------------------------------------------------------

STEPS = (
    Step(Stage("sign", (DOCUMENTS, OLDER), (BANDS,), sign_documents), lambda c: [], by_rows(DOCUMENTS.directory)),
    Step(Stage("link", (BANDS,), (LINKS[0], NEAR), link_bands), lambda c: [], by_rows(BANDS.directory)),
    *(Step(stage, lambda c: [], by_any_rows(stage.reads[0].directory)) for stage in CLUSTER_STAGES),
)
WORDS = [f"word{number}" for number in range(2000)]


def document(number, words, day=1, pictures=1):
    url = f"https://host.example/{number}"
    items = [Text(" ".join(words)), *(ImageRef(f"{url}/{index}.jpg") for index in range(pictures))]
    return Document(url, "", "en", tuple(items), Origin("a.warc", number), datetime(2026, 1, day, tzinfo=UTC))


def changed(words, at, count=10):
    """Write other words over a run of a text of 300 words: the similarity falls to 0.90 for a run of ten."""
    return [*words[:at], *(f"new{at}x{index}" for index in range(count)), *words[at + count :]]


def documents():
    """Write pages alone, pairs, a chain that drifts, and a cluster of the same text."""
    draw = random.Random(3)
    found = [draw.choices(WORDS, k=300) for _ in range(12)]
    found += [changed(found[0], 20), changed(found[1], 100, 20), changed(found[2], 0, 150)]
    link = found[3]
    for at in range(0, 240, 12):
        link = changed(link, at, 12)
        found.append(link)
    found += [found[4]] * 40
    return [document(number, words) for number, words in enumerate(found)]


def run(pages, root, parts=1):
    """Run the stages over documents in so many parts; gives what is dropped, and for what, by number."""
    folder = Folder(str(root))
    totals = Totals()
    for part in range(parts):
        writer = PartWriter(folder, DOCUMENTS, f"extract-{part}")
        for page in pages[part::parts]:
            writer.add(document_to_row(page), 1000)
        writer.flush()
        totals.rows[DOCUMENTS.directory] += writer.total_rows
        totals.bytes[DOCUMENTS.directory] += writer.total_bytes
    job = Job(folder, SimpleNamespace(duplicates=DuplicateConfig()))
    for step in STEPS:
        units = plan_units(step, totals, job)
        for unit in units:
            run_unit(step.stage, job, unit, gather(step.stage, folder, unit))
        add_totals(folder, step.stage, units, totals)
    numbers = {page.key: int(page.url.rpartition("/")[2]) for page in pages}
    rows = list(stream_range(folder, NEAR, EVERYTHING))
    assert {row["reason"] for row in rows} <= {"near_duplicate"}
    return sorted((numbers[row["key"]], numbers[row["kept"]]) for row in rows), totals


def clusters_in(dropped):
    found = {}
    for number, kept in dropped:
        found.setdefault(kept, {kept}).add(number)
    return sorted(map(sorted, found.values()))


def test_the_stages_find_pairs_chains_and_big_clusters(tmp_path):
    dropped, totals = run(documents(), tmp_path)
    assert clusters_in(dropped) == [[0, 12], [1, 13], [3, *range(15, 35)], [4, *range(35, 75)]]
    assert totals.rows[LINKS[0].directory] == 0  # all bands fit into one unit


@pytest.mark.parametrize(("parts", "rows", "turn"), [(2, 40, ROUNDS), (5, 100, 1)])
def test_order_and_units_do_not_change_what_stays(tmp_path, monkeypatch, parts, rows, turn):
    pages = documents()
    expected, _ = run(pages, tmp_path / "whole")
    random.Random(parts).shuffle(pages)
    monkeypatch.setattr(plan, "ROWS_PER_UNIT", rows)
    dropped, totals = run(pages, tmp_path / "cut", parts)
    assert dropped == expected
    assert totals.rows[LINKS[turn].directory] > 0  # the rounds did it, and not one unit at once


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ({}, {"pictures": 0}, 1),
        ({"pictures": 0}, {}, 2),
        ({"pictures": 1}, {"pictures": 9, "day": 2}, 2),
        ({"day": 3}, {"day": 2}, 1),
        ({"day": 2}, {"day": 3}, 2),
        ({}, {"longer": True}, 2),
        ({"day": 9}, {"longer": True}, 2),
        ({"longer": True}, {"pictures": 0, "day": 9}, 1),
    ],
)
def test_the_page_that_stays(tmp_path, first, second, kept):
    words = random.Random(1).choices(WORDS, k=300)
    pages = []
    for number, said in ((1, dict(first)), (2, dict(second))):
        more = ["more"] if said.pop("longer", False) else []
        pages.append(document(number, words + more, **said))
    dropped, _ = run(pages, tmp_path)
    assert dropped == [(3 - kept, kept)]


def test_of_pages_that_are_equal_the_smallest_key_stays():
    pages = [document(number, WORDS[:50]) for number in range(5)]
    assert min(pages, key=rank_page).key == min(page.key for page in pages)


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_order_of_documents_gives_the_same(tmp_path_factory, shuffler):
    pages = documents()[:30]
    expected, _ = run(pages, tmp_path_factory.mktemp("a"))
    shuffler.shuffle(pages)
    assert run(pages, tmp_path_factory.mktemp("b"), shuffler.randint(1, 4))[0] == expected
