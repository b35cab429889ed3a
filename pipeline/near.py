"""A set of 256-bit hashes → all of them within a distance of a query, exactly and without comparing each.

A hash is cut into 16 bands of 16 bits. Where two hashes differ in at most d bits, some band differs in at most d / 16:
only hashes that share such a band with the query are compared (multi-index hashing). Where that would touch more than
comparing all, all are compared. Memory: about 100 bytes a hash and 4 MB.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.perceptual import HASH_BITS, to_words

BAND_BITS = 16
BANDS = HASH_BITS // BAND_BITS
VALUES = 1 << BAND_BITS
MAX_BAND_DISTANCE = 2
"""Bits of a band that are turned to look it up: 137 look-ups a band; more would cost more than comparing all."""
LOOK_UP_COST = 4
"""Time of a look-up in a band over that of comparing one hash."""


@lru_cache(maxsize=MAX_BAND_DISTANCE + 1)
def turns(distance: int) -> NDArray[np.int64]:
    """List the band values with at most so many bits set."""
    chosen = [bits for count in range(distance + 1) for bits in combinations(range(BAND_BITS), count)]
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], np.int64)


class NearHashes:
    """A set of hashes that is searched by distance; hashes are named by their place in `looks`."""

    def __init__(self, looks: list[bytes]) -> None:
        self.words = to_words(looks)
        bands = self.words.view(np.uint16)
        count = len(looks)
        self.order = np.empty((BANDS, count), np.int32)
        self.starts = np.empty((BANDS, VALUES + 1), np.int32)
        for band in range(BANDS):
            values = bands[:, band]
            self.order[band] = np.argsort(values, kind="stable")
            self.starts[band] = np.searchsorted(values[self.order[band]], np.arange(VALUES + 1))

    def __len__(self) -> int:
        return len(self.words)

    def within(self, look: bytes, distance: int) -> list[tuple[int, int]]:
        """Find all hashes at most `distance` bits from a query: (bits apart, place), the nearest and first ones first.

        A query that is not of `HASH_BYTES` bytes is a `ValueError`.
        """
        query = to_words([look])[0]
        places = self.candidates(query, distance)
        words = self.words if places is None else self.words[places]
        apart = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int64)
        found = np.flatnonzero(apart <= distance)
        named = found if places is None else places[found]
        return sorted(set(zip(apart[found].tolist(), named.tolist(), strict=True)))

    def candidates(self, query: NDArray[np.uint64], distance: int) -> NDArray[np.int64] | None:
        """Name the hashes that share a band with the query, some of them repeatedly; `None` where all are cheaper."""
        band_distance = max(distance, 0) // BANDS
        if band_distance > MAX_BAND_DISTANCE:
            return None
        keys = query.view(np.uint16).astype(np.int64)[:, None] ^ turns(band_distance)
        if keys.size * LOOK_UP_COST > len(self):
            return None
        bands = np.arange(BANDS)[:, None]
        first = self.starts[bands, keys].astype(np.int64)
        counts = (self.starts[bands, keys + 1] - first).ravel()
        total = int(counts.sum())
        if total > len(self):
            return None
        first += bands * len(self)
        ends = np.cumsum(counts)
        at = np.arange(total) + np.repeat(first.ravel() - (ends - counts), counts)
        places: NDArray[np.int64] = self.order.ravel()[at].astype(np.int64)
        return places
