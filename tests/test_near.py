"""The search for near hashes: it finds what comparing one by one finds."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import near
from pipeline.near import NearHashes
from pipeline.perceptual import HASH_BITS, HASH_BYTES, bits_apart, mirrored


def turned(look, bits):
    number = int.from_bytes(look, "big")
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(HASH_BYTES, "big")


def brute(looks, query, distance):
    apart = [(bits_apart(look, query), place) for place, look in enumerate(looks)]
    return sorted(found for found in apart if found[0] <= distance)


def nearer(looks, query, distance):
    """Compare all with the query and its mirror image; of both the nearer one counts."""
    bits = {}
    for apart, place in brute(looks, query, distance) + brute(looks, mirrored(query), distance):
        bits[place] = min(apart, bits.get(place, apart))
    return sorted((apart, place) for place, apart in bits.items())


@pytest.fixture(scope="module")
def many():
    """Many hashes: 9,400 at random, with copies of the first ones at known distances."""
    dice = random.Random(5)
    looks = [dice.randbytes(HASH_BYTES) for _ in range(9400)]
    looks += [turned(looks[at % 20], dice.sample(range(HASH_BITS), at % 64)) for at in range(640)]
    return looks, NearHashes(looks)


@pytest.mark.parametrize("distance", [0, 1, 15, 16, 31, 32, 47, 48, 63, 255, 256])
def test_all_within_the_distance_are_found_and_no_other(many, distance):
    looks, hashes = many
    for query in (*looks[:6], looks[9500], bytes(HASH_BYTES)):
        assert hashes.within(query, distance) == brute(looks, query, distance)


@pytest.mark.parametrize("distance", [0, 47, 58, 80])
def test_a_mirror_image_is_as_near_as_the_look_itself(many, distance):
    looks, hashes = many
    for look in (*looks[:4], mirrored(looks[9500]), turned(mirrored(looks[3]), [1, 2, 200]), bytes(HASH_BYTES)):
        assert hashes.within(look, distance, mirrored=True) == nearer(looks, look, distance)


@pytest.mark.parametrize(("bits", "found"), [(0, True), (47, True), (48, False)])
def test_both_sides_of_the_distance_of_a_mirror_image(bits, found):
    look = random.Random(bits).randbytes(HASH_BYTES)
    hashes = NearHashes([mirrored(look)])
    assert hashes.within(turned(look, range(bits)), 47, mirrored=True) == [(bits, 0)] * found
    assert hashes.within(turned(look, range(bits)), 47) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES), max_size=8),
    st.lists(st.integers(0, HASH_BITS - 1), max_size=60),
    st.integers(0, HASH_BITS),
)
def test_small_sets_agree_with_comparing_all(looks, bits, distance):
    query = turned(looks[0] if looks else bytes(HASH_BYTES), bits)
    hashes = NearHashes(looks)
    assert hashes.within(query, distance) == brute(looks, query, distance)
    assert hashes.within(mirrored(query), distance, mirrored=True) == nearer(looks, query, distance)


def test_blocks_agree_with_comparing_all(many, monkeypatch):
    monkeypatch.setattr(near, "HASHES_AT_ONCE", 1000)
    looks, _ = many
    hashes = NearHashes(looks)
    assert hashes.within(looks[3], 60) == brute(looks, looks[3], 60)
    assert hashes.within(looks[3], 60, mirrored=True) == nearer(looks, looks[3], 60)


def test_nothing_is_near_a_negative_distance(many):
    looks, hashes = many
    assert hashes.within(looks[0], -1) == []


def test_many_equal_hashes_are_all_found():
    looks = [bytes(HASH_BYTES)] * 3000
    assert [place for _, place in NearHashes(looks).within(bytes(HASH_BYTES), 15)] == list(range(3000))


def test_a_query_of_another_length_is_refused(many):
    with pytest.raises(ValueError, match="32 bytes"):
        many[1].within(b"short", 3)
