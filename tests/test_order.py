"""The order of samples: blocks permuted, dealt to lanes, shuffled in windows; mixtures by what is owed."""

from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_model.order import Order, drawn_before, hash_of, mix, neediest, permuted, roll, root_of

SHARDS = st.lists(st.integers(1, 70), min_size=1, max_size=6)


def order(shards, lanes=4, block=8, window=2, **others):
    return Order([0, *accumulate(shards)], root_of(1, "a"), lanes, block, window, **others)


def visits(of, lane, windows):
    return [visit for window in range(windows) for visit in of.window_of(lane, window)]


@given(st.integers(1, 1000), st.integers(0, 2**64 - 1))
def test_a_permutation_is_one_to_one(count, key):
    assert sorted(permuted(number, count, key) for number in range(count)) == list(range(count))


def test_permutations_are_uniform():
    # Each of 10 numbers comes first in about a tenth of 5,000 permutations: chi-square, 9 degrees, p = 0.001.
    found = Counter(permuted(0, 10, hash_of(key)) for key in range(5000))
    assert sum((found[number] - 500) ** 2 / 500 for number in range(10)) < 27.9


def test_the_same_numbers_have_the_same_hash_for_ever():
    # The first two numbers that SplitMix64 gives from a seed of 0, as published with it.
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4
    assert hash_of(1, 2) == mix(mix(1) ^ 2)
    assert roll(1, 2, 3) == pytest.approx(hash_of(1, 2, 3) / 2**64)


@settings(deadline=None)
@given(SHARDS, st.integers(1, 9), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_one_epoch_has_every_sample_once(shards, lanes, block, window, shuffle):
    of = order(shards, lanes, block, window, shuffle=shuffle, epochs=1)
    seen = []
    for lane in range(lanes):
        mine = visits(of, lane, len(of.first_block) * sum(shards))
        assert len(mine) == of.visits_of(lane)
        seen += mine
    assert sorted(visit.sample for visit in seen) == list(range(sum(shards)))
    assert {visit.epoch for visit in seen} == {0}


@given(SHARDS, st.integers(1, 9))
def test_an_endless_order_has_every_sample_once_an_epoch(shards, lanes):
    of = order(shards, lanes)
    needed = -(-3 * of.first_block[-1] // (lanes * of.window)) + 1
    seen = Counter((visit.epoch, visit.sample) for lane in range(lanes) for visit in visits(of, lane, needed))
    assert set(seen.values()) == {1}
    assert {(epoch, sample) for epoch in range(3) for sample in range(sum(shards))} <= set(seen)


def test_a_block_never_crosses_into_another_shard():
    of = order([13, 8, 1, 30])
    for number in range(4 * of.first_block[-1]):
        _, shard, samples = of.block_of(number)
        assert of.first[shard] <= samples[0] <= samples[-1] < of.first[shard + 1]


def test_epochs_differ_and_so_do_seeds():
    def first(seed, epoch):
        of = Order([0, 400], root_of(seed, "a"), 1, 8, 50)
        return [visit.sample for visit in of.window_of(0, epoch)]

    orders = [first(0, 0), first(0, 1), first(1, 0)]
    assert len({tuple(one) for one in orders}) == 3
    assert all(sorted(one) == list(range(400)) for one in orders)
    assert first(0, 0) == first(0, 0)


def test_without_shuffling_one_lane_reads_in_order():
    of = order([13, 8, 30], lanes=1, shuffle=False, epochs=1)
    assert [visit.sample for visit in visits(of, 0, 9)] == list(range(51))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(0, 50))
def test_a_mixture_is_never_off_by_as_much_as_its_datasets(weights, lane):
    shares = [weight / sum(weights) for weight in weights]
    drawn = drawn_before(shares, lane)
    assert sum(drawn) == lane
    for _ in range(200):
        drawn[neediest(shares, drawn)] += 1
        assert all(abs(count - share * sum(drawn)) < len(weights) for count, share in zip(drawn, shares, strict=True))


def test_a_dataset_that_has_ended_is_not_drawn_from():
    assert neediest([0.5, 0.0, 0.5], [1000, 0, 1001]) == 0


def test_lanes_begin_at_different_places_of_a_mixture():
    shares = [0.5, 0.25, 0.25]
    firsts = Counter(neediest(shares, drawn_before(shares, lane)) for lane in range(40))
    assert firsts == {0: 20, 1: 10, 2: 10}
