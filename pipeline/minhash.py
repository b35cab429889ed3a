"""MinHash: the text of a page → its shingles → a signature, by which near-duplicates are found and told apart.

    shingle_hashes(text) → a hash for each run of five words
    minimums(hashes)     → the smallest hash under each of many permutations
    band_keys(minimums)  → names of bands: two pages that share one may be near-duplicates
    pack(minimums)       → four bits a permutation: enough to estimate how alike two such pages are

Two texts agree at a permutation with a chance that is the Jaccard similarity of their sets of shingles (Broder 1997).
All numbers are derived from BLAKE2 and computed in unsigned integers, so that a text has the same signature everywhere.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from schemas.page import KEY_CHARS

MAX_CHARS = 1 << 19
"""Characters of a text that are signed, about 90,000 words: of a longer one, the beginning."""
HASHES_AT_ONCE = 1 << 10
BITS = 4
"""Bits that are kept of a minimum: two that differ look alike once in sixteen times, which the estimate allows for."""

PUNCTUATION = re.compile(
    "[\u0080-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u206f\u3000-\u303f\uff01-\uff0f]+"
)
"""What separates words beside the punctuation and white space of ASCII."""
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Characters of scripts without spaces between words, each taken as a word: Thai, Lao, Burmese, Khmer, kana, Han."""
SPACE = 32
TO_WORDS = bytes(byte if byte >= 128 or chr(byte).isalnum() else SPACE for byte in range(256))

Hashes = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class NearConfig:
    """How near-duplicate pages are found."""

    shingle_words: int = 5
    """Words of a shingle (SPEC-corpus 2); a page with fewer words has no near-duplicates."""
    permutations: int = 256
    """Length of a signature, even: a similarity of 0.8 is estimated with a standard error of 0.026."""
    bands: int = 16
    """Bands of a signature (datatrove: 14)."""
    rows: int = 7
    """Permutations of a band (datatrove: 8): of pairs with a similarity of 0.8, 98 % share a band; of 0.5, 12 %."""
    min_jaccard: float = 0.8
    """Similarity by the signatures of two pages, at least, for them to be near-duplicates (SPEC-corpus 2: about 0.8);
    0 looks for none."""

    def __post_init__(self) -> None:
        if self.shingle_words < 1 or self.bands < 1 or self.rows < 1:
            raise ValueError("shingle_words, bands and rows are 1 or more")
        if self.permutations % 2 or self.permutations < self.bands * self.rows:
            raise ValueError(f"permutations is even and at least bands x rows, {self.bands * self.rows}")
        if not 0 <= self.min_jaccard <= 1:
            raise ValueError(f"min_jaccard is 0..1, not {self.min_jaccard}")


def derive(name: str) -> int:
    """Derive 64 bits from a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


BYTE_HASHES = np.array([derive(f"byte {byte}") for byte in range(256)], np.uint64)
BASE = derive("base") | 1
MIX = np.uint64(derive("mix") | 1)
FOLD = np.uint32(derive("fold") & 0xFFFFFFFF | 1)


def signature(text: str, config: NearConfig) -> tuple[list[str], bytes] | None:
    """Sign a text: the keys of its bands and its packed minimums; None if it is shorter than a shingle."""
    hashes = shingle_hashes(text, config.shingle_words)
    if not len(hashes):
        return None
    smallest = minimums(hashes, config.permutations)
    return band_keys(smallest, config.bands, config.rows), pack(smallest)


def to_words(text: str) -> bytes:
    """Fold a text to its words: case folded, punctuation cut, one space between two."""
    folded = text[:MAX_CHARS].casefold()
    if not folded.isascii():
        folded = UNSPACED.sub(r" \g<0> ", PUNCTUATION.sub(" ", folded))
    return b" ".join(folded.encode("utf-8", "surrogatepass").translate(TO_WORDS).split())


def shingle_hashes(text: str, words: int) -> Hashes:
    """Hash every run of `words` words.

    The bytes of a shingle are hashed as a polynomial, the difference of two sums over the text, so that a shingle
    costs the same however many words it has.
    """
    data = np.frombuffer(to_words(text), np.uint8)
    spaces = np.flatnonzero(data == SPACE)
    if len(data) == 0 or len(spaces) + 1 < words:
        return np.empty(0, np.uint32)
    powers, inverses = powers_of_base((len(data) - 1).bit_length())
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(BYTE_HASHES[data] * powers[: len(data)], out=sums[1:])
    starts = np.concatenate(([0], spaces + 1))[: len(spaces) + 2 - words]
    ends = np.concatenate((spaces, [len(data)]))[words - 1 :]
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    hashes ^= hashes >> np.uint64(32)
    hashes *= MIX
    return (hashes >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=2)
def powers_of_base(bits: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Give the first 2 ** `bits` powers of the polynomial's base, and their inverses, modulo 2 ** 64."""
    found = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        powers = np.full(1 << bits, base, np.uint64)
        powers[0] = 1
        found.append(np.multiply.accumulate(powers))
    return found[0], found[1]


@lru_cache(maxsize=4)
def multipliers(count: int) -> Hashes:
    """Give an odd number for each permutation: to multiply by it permutes the numbers of 32 bits."""
    numbers = [derive(f"permutation {index}") & 0xFFFFFFFF | 1 for index in range(count)]
    return np.array(numbers, np.uint32)[:, np.newaxis]


def minimums(hashes: Hashes, permutations: int) -> Hashes:
    """Find the smallest of the hashes, one or more, under each permutation."""
    factors = multipliers(permutations)
    smallest = np.full(permutations, 0xFFFFFFFF, np.uint32)
    products = np.empty((permutations, min(len(hashes), HASHES_AT_ONCE)), np.uint32)
    for start in range(0, len(hashes), HASHES_AT_ONCE):
        some = hashes[start : start + HASHES_AT_ONCE]
        product = np.multiply(factors, some, out=products[:, : len(some)])
        np.minimum(smallest, product.min(axis=1), out=smallest)
    return smallest


def band_keys(smallest: Hashes, bands: int, rows: int) -> list[str]:
    """Name each band by a hash of its number and its minimums."""
    data = smallest.astype("<u4").tobytes()
    size = 4 * rows
    pieces = (data[band * size : (band + 1) * size] + band.to_bytes(4, "little") for band in range(bands))
    return [hashlib.blake2b(piece, digest_size=KEY_CHARS // 2).hexdigest() for piece in pieces]


def pack(smallest: Hashes) -> bytes:
    """Keep four bits of each minimum, two of them in a byte."""
    nibbles = ((smallest * FOLD) >> np.uint32(32 - BITS)).astype(np.uint8)
    return (nibbles[0::2] | nibbles[1::2] << np.uint8(BITS)).tobytes()


def count_matches(held: npt.NDArray[np.uint8], one: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Count, for each row of packed signatures, the permutations at which it looks like another one."""
    differences = held ^ one
    matches: npt.NDArray[np.intp] = 2 * held.shape[1] - (
        np.count_nonzero(differences & 0x0F, axis=1) + np.count_nonzero(differences & 0xF0, axis=1)
    )
    return matches


def min_matches(config: NearConfig) -> int:
    """Say how many permutations look alike, at least, where the similarity is estimated as `min_jaccard`."""
    by_chance = 1 / (1 << BITS)
    return math.ceil(config.permutations * (by_chance + (1 - by_chance) * config.min_jaccard) - 1e-9)


def estimate_jaccard(one: bytes, other: bytes) -> float:
    """Estimate the similarity of two texts from their packed signatures, 0..1 (Li and König 2010)."""
    first, second = np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)
    share = int(count_matches(first[np.newaxis], second)[0]) / (2 * len(first))
    by_chance = 1 / (1 << BITS)
    return max(0.0, (share - by_chance) / (1 - by_chance))
