"""A set of 256-bit hashes → all of them within a distance of a query, or of its mirror image, exactly.

All are compared, in blocks that fit a cache. The bits that a mirror image keeps come first: where they differ too much,
the hash is near neither to the query nor to its mirror image, and five of six hashes that are far are left there (at 58
bits). The others need a second look at the bits that turn, once for both: what differs from the query in n of them
differs from the mirror image in all but n. Memory: 32 bytes a hash.

Looking hashes up by pieces of 16 bits, each with up to two bits turned, takes five times as long for 47 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.perceptual import HASH_BITS, MIRROR, to_words

HASHES_AT_ONCE = 1 << 16
TURNING = np.unpackbits(np.frombuffer(MIRROR, np.uint8))
ORDER = np.argsort(TURNING, kind="stable")
"""The bits of a hash, those that a mirror image keeps before those that turn."""
HALF = HASH_BITS // 2
assert int(TURNING.sum()) == HALF, "the bits that turn fill two of four words"


def sort_bits(looks: list[bytes]) -> NDArray[np.uint64]:
    """Put hashes into four rows of 64-bit words, a column a hash: two of bits that stay, two of bits that turn."""
    words = to_words(looks)
    sorted_words = np.empty((words.shape[1], len(words)), np.uint64)
    for begin in range(0, len(words), HASHES_AT_ONCE):
        block = words[begin : begin + HASHES_AT_ONCE].view(np.uint8)
        bits = np.take(np.unpackbits(block, axis=1), ORDER, axis=1)
        sorted_words[:, begin : begin + len(block)] = np.packbits(bits, axis=1).view(np.uint64).T
    return sorted_words


def bits_apart(words: NDArray[np.uint64], query: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the bits of two words, 0..128, in which hashes differ from a query."""
    apart: NDArray[np.uint8] = np.bitwise_count(words[0] ^ query[0])
    apart += np.bitwise_count(words[1] ^ query[1])
    return apart


class NearHashes:
    """A set of hashes that is searched by distance; hashes are named by their place in `looks`."""

    def __init__(self, looks: list[bytes]) -> None:
        self.words = sort_bits(looks)

    def __len__(self) -> int:
        return int(self.words.shape[1])

    def within(self, look: bytes, distance: int, mirrored: bool = False) -> list[tuple[int, int]]:
        """Find all hashes at most `distance` bits from a query: (bits apart, place), the nearest and first ones first.

        With `mirrored` the nearer one of the query and its mirror image counts. A query that is not of `HASH_BYTES`
        bytes is a `ValueError`.
        """
        query = sort_bits([look])[:, 0]
        found: list[tuple[int, int]] = []
        for begin in range(0, len(self), HASHES_AT_ONCE):
            words = self.words[:, begin : begin + HASHES_AT_ONCE]
            stay = bits_apart(words[:2], query[:2])
            near = np.flatnonzero(stay <= distance)
            turn = bits_apart(words[2:, near], query[2:]).astype(np.int64)
            apart = stay[near] + (np.minimum(turn, HALF - turn) if mirrored else turn)
            chosen = np.flatnonzero(apart <= distance)
            found += zip(apart[chosen].tolist(), (near[chosen] + begin).tolist(), strict=True)
        return sorted(found)
