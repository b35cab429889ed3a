"""The search for near hashes: it finds what comparing all finds, whichever way it goes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.near import BAND_BITS, BANDS, NearHashes, turns
from pipeline.perceptual import HASH_BITS, HASH_BYTES, bits_apart, to_words


def turned(look, bits):
    number = int.from_bytes(look, "big")
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(HASH_BYTES, "big")


def brute(looks, query, distance):
    near = [(bits_apart(look, query), place) for place, look in enumerate(looks)]
    return sorted(found for found in near if found[0] <= distance)


@pytest.fixture(scope="module")
def many():
    """Hashes enough for the bands to be used: 9,400 at random, with copies of the first ones at known distances."""
    dice = random.Random(5)
    looks = [dice.randbytes(HASH_BYTES) for _ in range(9400)]
    looks += [turned(looks[at % 20], dice.sample(range(HASH_BITS), at % 64)) for at in range(640)]
    return looks, NearHashes(looks)


@pytest.mark.parametrize("distance", [0, 1, 15, 16, 31, 32, 47, 48, 63, 255, 256])
def test_all_within_the_distance_are_found_and_no_other(many, distance):
    looks, hashes = many
    for query in (*looks[:6], looks[9500], bytes(HASH_BYTES)):
        assert hashes.within(query, distance) == brute(looks, query, distance)


@pytest.mark.parametrize(("distance", "banded"), [(0, True), (47, True), (48, False), (256, False)])
def test_bands_are_used_up_to_their_distance(many, distance, banded):
    looks, hashes = many
    found = hashes.candidates(to_words([looks[0]])[0], distance)
    assert (found is not None) == banded


def test_few_candidates_are_compared(many):
    looks, hashes = many
    found = hashes.candidates(to_words([turned(looks[9], [3, 77])])[0], 15)
    assert found is not None
    assert 9 in found
    assert len(set(found.tolist())) < 100


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES), max_size=30),
    st.lists(st.integers(0, HASH_BITS - 1), max_size=60),
    st.integers(0, 70),
)
def test_small_sets_agree_with_comparing_all(looks, bits, distance):
    query = turned(looks[0] if looks else bytes(HASH_BYTES), bits)
    assert NearHashes(looks).within(query, distance) == brute(looks, query, distance)


def test_nothing_is_near_a_negative_distance(many):
    looks, hashes = many
    assert hashes.within(looks[0], -1) == []


def test_many_equal_hashes_are_all_found():
    looks = [bytes(HASH_BYTES)] * 3000
    assert [place for _, place in NearHashes(looks).within(bytes(HASH_BYTES), 15)] == list(range(3000))


def test_a_band_is_looked_up_with_all_its_near_values():
    for distance, count in ((0, 1), (1, 17), (2, 137)):
        values = turns(distance)
        assert len(np.unique(values)) == count
        assert max(int(value).bit_count() for value in values) == distance
    assert BANDS * BAND_BITS == HASH_BITS


def test_a_query_of_another_length_is_refused(many):
    with pytest.raises(ValueError, match="32 bytes"):
        many[1].within(b"short", 3)
