"""Which sample is read when, and by whom: a function of the seed and a position, and of nothing else.

    samples → blocks of neighbours → blocks of epoch after epoch, permuted → dealt to lanes → windows, shuffled

A lane is a virtual reader. There are `lanes` of them whatever the machine, and block j of the endless sequence of
epochs belongs to lane j mod `lanes`; ranks and worker processes own whole lanes. So neither their number nor their
speed changes what a lane reads, and a position in a lane is two integers. Nothing here holds the state of a random
number generator: every choice is a hash of what it is about.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MASK = (1 << 64) - 1
FEISTEL_ROUNDS = 6
# What a hash is for; part of the bytes of every batch, so a number is never used for another purpose.
BLOCKS, WITHIN, WINDOW, FOLLOWING, SPACE, FRAMES, FLIP, JITTER = range(8)


def mix(value: int) -> int:
    """Scramble 64 bits (the finaliser of SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hash_of(*numbers: int) -> int:
    """Hash some integers, in order, to 64 bits."""
    value = 0
    for number in numbers:
        value = mix(value ^ (number & MASK))
    return value


def roll(*numbers: int) -> float:
    """Choose a number in [0, 1) by hash."""
    return (hash_of(*numbers) >> 11) * 2.0**-53


def chance(probability: float, *numbers: int) -> bool:
    """Decide by hash what is so with a probability."""
    return probability > 0 and roll(*numbers) < probability


def root_of(seed: int, name: str) -> int:
    """Begin the hashes of a dataset: two of one name read alike."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big")


def permuted(number: int, count: int, key: int) -> int:
    """Map [0, count) onto itself, one to one, in an order that `key` chooses.

    A balanced Feistel network over the next power of four, walked until it lands inside: no table is held, however
    many blocks there are.
    """
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    half_mask = (1 << half_bits) - 1
    while True:
        left, right = number >> half_bits, number & half_mask
        for turn in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (mix(key ^ mix(right * FEISTEL_ROUNDS + turn)) & half_mask)
        number = left << half_bits | right
        if number < count:
            return number


class Visit(NamedTuple):
    """One reading of a sample: `source` is the number of its dataset among those of the lane."""

    source: int
    epoch: int
    sample: int


class Cursor(NamedTuple):
    """How far a lane has read in a dataset: `at` samples of its window number `window`."""

    window: int = 0
    at: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """The order in which the lanes read one dataset.

    `first` are the cumulative numbers of samples of the shards, so a block never crosses from one shard into the
    next. `block` is in samples, `window` in blocks of a lane. `epochs` is 0 for a stream without end.
    """

    first: Sequence[int]
    root: int
    lanes: int
    block: int
    window: int
    shuffle: bool = True
    epochs: int = 0
    source: int = 0
    first_block: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        starts = [0]
        for begin, end in zip(self.first, self.first[1:], strict=False):
            starts.append(starts[-1] - (begin - end) // self.block)
        object.__setattr__(self, "first_block", tuple(starts))

    def block_of(self, number: int) -> tuple[int, int, range]:
        """Give the epoch, the shard and the samples of block `number` of the endless sequence."""
        epoch, place = divmod(number, self.first_block[-1])
        if self.shuffle:
            place = permuted(place, self.first_block[-1], hash_of(self.root, BLOCKS, epoch))
        shard = bisect_right(self.first_block, place) - 1
        start = self.first[shard] + (place - self.first_block[shard]) * self.block
        return epoch, shard, range(start, min(start + self.block, self.first[shard + 1]))

    def blocks_of(self, lane: int, window: int) -> list[tuple[int, int, range]]:
        """Give the blocks of a window of a lane; none after the last epoch."""
        numbers = (lane + self.lanes * place for place in range(window * self.window, (window + 1) * self.window))
        end = self.epochs * self.first_block[-1]
        return [self.block_of(number) for number in numbers if not end or number < end]

    def window_of(self, lane: int, window: int) -> list[Visit]:
        """Give the visits of a window of a lane, in order; none after the last epoch."""
        visits = [
            Visit(self.source, epoch, sample)
            for epoch, _, samples in self.blocks_of(lane, window)
            for sample in samples
        ]
        if self.shuffle:
            key = hash_of(self.root, WITHIN)
            visits.sort(key=lambda visit: mix(key ^ mix(visit.epoch << 40 ^ visit.sample)))
        return visits

    def visits_of(self, lane: int) -> int:
        """Count the visits of a lane over all epochs, which must be of a finite number."""
        assert self.epochs
        blocks = range(lane, self.epochs * self.first_block[-1], self.lanes)
        return sum(len(self.block_of(number)[2]) for number in blocks)


def neediest(weights: Sequence[float], drawn: Sequence[int]) -> int:
    """Choose the source that is furthest behind its share of what was drawn; the first one of several.

    One of weight 0 has ended and is not chosen.
    So the number drawn of a source never strays from its share by as much as the number of sources.
    """
    following = sum(drawn) + 1
    left = [source for source, weight in enumerate(weights) if weight]
    return max(left, key=lambda source: weights[source] * following - drawn[source])


def drawn_before(weights: Sequence[float], lane: int) -> list[int]:
    """Count what a lane has drawn before it begins: lanes begin at different places of the one sequence.

    Otherwise every lane would draw of the same source at the same step, and a batch would be of one dataset.
    """
    drawn = [0] * len(weights)
    for _ in range(lane):
        drawn[neediest(weights, drawn)] += 1
    return drawn
