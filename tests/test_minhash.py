"""MinHash: words, shingles, signatures and bands, the same everywhere and true to the similarity of the texts."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.minhash import (
    MAX_CHARS,
    NearConfig,
    band_keys,
    count_matches,
    estimate_jaccard,
    min_matches,
    minimums,
    pack,
    shingle_hashes,
    signature,
    to_words,
)

TEXT = "The ferry leaves the harbour at seven in the morning, and it returns in the evening."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two;  THREE\nfour", "one two three four"),
        ("It’s – “quoted” … text\u00a0here", "it s quoted text here"),
        ("Straße ÉTÉ naïve 3.14 snake_case", "strasse été naïve 3 14 snake case"),
        ("東京タワー, 塔。", "東 京 タ ワ ー 塔"),
        (" \t.,!\u3002 ", ""),
        ("", ""),
    ],
)
def test_words_are_folded(text, words):
    assert to_words(text).decode() == words


def test_a_lone_surrogate_is_signed_as_any_letter():
    assert signature(f"\ud800 {TEXT}", NearConfig()) is not None


@pytest.mark.parametrize(("words", "shingles"), [(0, 0), (1, 0), (4, 0), (5, 1), (6, 2), (300, 296)])
def test_a_shingle_is_five_words(words, shingles):
    text = " ".join(f"w{number}" for number in range(words))
    assert len(shingle_hashes(text, 5)) == shingles
    assert (signature(text, NearConfig()) is None) == (shingles == 0)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dé", "東"]), max_size=60), st.integers(1, 6))
def test_shingles_are_equal_where_their_words_are(words, size):
    text = " ".join(words)
    runs = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    hashes = shingle_hashes(text, size).tolist()
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs))
    assert len(set(zip(runs, hashes, strict=True))) == len(set(runs))


def test_only_the_beginning_of_a_very_long_text_is_signed():
    begin = f"{TEXT} " * (MAX_CHARS // len(TEXT) + 1)
    assert signature(begin + "other words at the end of it all", NearConfig()) == signature(begin, NearConfig())


def test_signatures_stay_what_they_are():
    # The same on every machine and version of Python and numpy: other numbers would keep other pages.
    bands, packed = signature(TEXT, NearConfig())
    assert len(bands) == 16
    assert len(packed) == 128
    assert hashlib.sha256("".join(bands).encode() + packed).hexdigest()[:16] == "2ddd8b386cc11c83"


def sets_with(similarity, size, seed):
    """Draw two sets of hashes whose Jaccard similarity is about so large; gives them and what it is."""
    drawn = np.random.default_rng(seed).integers(0, 1 << 32, size, np.uint32)
    apart = round(size * (1 - similarity) / 2)
    return drawn[apart:], drawn[: size - apart], (size - 2 * apart) / size


@pytest.mark.parametrize("size", [60, 3000])
@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_the_estimate_is_true_to_the_similarity(size, similarity):
    errors = []
    for seed in range(40):
        one, other, true = sets_with(similarity, size, seed)
        packed = [pack(minimums(hashes, 256)) for hashes in (one, other)]
        errors.append(estimate_jaccard(*packed) - true)
    # The standard error of one estimate is at most 0.034, that of the mean of 40 at most 0.0054.
    assert abs(np.mean(errors)) < 0.025
    assert np.std(errors) < 0.05
    assert (similarity < 1) or max(map(abs, errors)) == 0


@pytest.mark.parametrize(("similarity", "low", "high"), [(0.3, 0, 0.05), (0.5, 0.05, 0.2), (0.8, 0.93, 1), (0.9, 1, 1)])
def test_similar_sets_share_a_band(similarity, low, high):
    shared = 0
    for seed in range(200):
        one, other, _ = sets_with(similarity, 400, seed)
        bands = [band_keys(minimums(hashes, 112), 16, 7) for hashes in (one, other)]
        shared += not set(bands[0]).isdisjoint(bands[1])
    assert low <= shared / 200 <= high


def test_the_same_numbers_in_another_band_are_another_band():
    keys = band_keys(np.full(112, 7, np.uint32), 16, 7)
    assert len(set(keys)) == 16
    assert {len(key) for key in keys} == {24}


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3000), st.integers(0, 5000))
def test_minimums_do_not_depend_on_order_or_repetition(seed, size, cut):
    hashes = np.random.default_rng(seed).integers(0, 1 << 32, size, np.uint32)
    turned = np.concatenate([hashes[cut % size :], hashes[: cut % size], hashes[:10]])
    assert np.array_equal(minimums(hashes, 32), minimums(turned, 32))


@pytest.mark.parametrize(("differ", "similar"), [(0, True), (48, True), (49, False), (256, False)])
def test_the_threshold_is_met_at_208_of_256_permutations(differ, similar):
    nibbles = np.zeros(256, np.uint8)
    nibbles[:differ] = 1 + np.arange(differ) % 15
    one, other = np.zeros(128, np.uint8), nibbles[0::2] | nibbles[1::2] << 4
    matches = count_matches(other[np.newaxis], one)[0]
    assert matches == 256 - differ
    assert (matches >= min_matches(NearConfig())) == similar
    assert (estimate_jaccard(one.tobytes(), other.tobytes()) >= 0.8) == similar


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shingle_words": 0}, "1 or more"),
        ({"rows": 0}, "1 or more"),
        ({"permutations": 111}, "at least bands x rows, 112"),
        ({"permutations": 110}, "at least bands x rows, 112"),
        ({"min_jaccard": -0.1}, "0..1"),
        ({"min_jaccard": 1.1}, "0..1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        NearConfig(**wrong)


def test_the_least_settings_are_taken():
    assert NearConfig(permutations=112, min_jaccard=1.0).permutations == 112
