"""A lane: a pipeline of webdataset stages that leads from a position in its datasets to rows of tokens.

    visits → read → (stages of one's own) → tokenise → rows, each with the state of the lane after it

A sample travels as webdataset has it, `{"__key__", "__url__", part: bytes, ...}`, until it is tokenised. Pictures stay
encoded: what is left out of a window is never decoded. The state of a lane is how far it has read and the visits
that it holds back for packing; a lane begun from a state goes on with the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import webdataset as wds

from flamingo_model.config import DatasetConfig
from flamingo_model.index import Index
from flamingo_model.order import FOLLOWING, SPACE, WINDOW, Cursor, Order, Visit, chance, drawn_before, neediest, roll
from flamingo_model.samples import BadSample, Medium, read_sample
from flamingo_model.skips import Budget, DataError, Skip
from flamingo_model.storage import CLOSED, Storage, Unreadable, plain
from flamingo_model.tar import DamagedTar, sample_parts
from flamingo_model.tokens import Tokenizer, Window, encode_items, sample_window

PACK_POOL = 32
"""Samples that a lane chooses among to fill a row; of long rows, one for every so many tokens."""
PACK_TOKENS = 16
PACK_BYTES = 4 << 20
"""Encoded pictures that a lane holds back for that, unless one sample has more."""
MAX_SAMPLE_BYTES = 256 << 20
"""Of a sample as it is stored: a larger one is not read."""
MAX_FRUITLESS = 100_000
"""Samples of a stream without end that a lane reads one after the other without a row."""
TOO_LARGE = "too_large"
Stage = Callable[[Iterator[dict[str, Any]]], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset as its lanes read it."""

    name: str
    config: DatasetConfig
    index: Index
    order: Order
    storage: Storage
    layout: str

    def place_of(self, visit: Visit) -> str:
        """Name where a sample lies, for a person."""
        shard, offset, length = self.index.locate(visit.sample)
        return f"{plain(self.index.urls[shard])} bytes {offset} to {offset + length}"


class LaneState(NamedTuple):
    """Where a lane stands: how far in each source, what was drawn of each, and the visits that it holds back."""

    cursors: tuple[Cursor, ...]
    drawn: tuple[int, ...]
    held: tuple[Visit, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A sample in a row: its tokens, and the media that they show, still encoded."""

    visit: Visit
    key: str
    window: Window
    media: tuple[Medium, ...]
    after: LaneState

    @property
    def bytes(self) -> int:
        """Bytes of the media."""
        return sum(len(data) for medium in self.media for data in medium.data)


@dataclass(frozen=True, slots=True)
class Row:
    """Samples that share a row of tokens; `after` is the lane's state when it was made, `skipped` what was lost."""

    pieces: tuple[Piece, ...]
    after: LaneState
    skipped: tuple[Skip, ...] = ()


class Lane:
    """Iterates over the rows of a lane, from a state on (default: from the beginning)."""

    def __init__(
        self,
        number: int,
        sources: Sequence[Source],
        tokenizer: Tokenizer,
        tokens: int,
        pack: bool = False,
        state: LaneState | None = None,
        stages: Sequence[Stage] = (),
        budget: Budget | None = None,
    ) -> None:
        self.number, self.sources, self.tokenizer = number, tuple(sources), tokenizer
        self.tokens, self.pack = tokens, pack
        self.weights = share(source.config.weight for source in sources)
        self.state = state or LaneState((Cursor(),) * len(self.sources), tuple(drawn_before(self.weights, number)))
        self.skipped: list[Skip] = []
        self.budget = budget
        self.fruitless = 0
        self.rows = iter(wds.DataPipeline(self.visits, self.read, *stages, self.tokenise, self.fill))

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row: Row = next(self.rows)
        self.state, self.fruitless = row.after, 0
        return row

    def visits(self) -> Iterator[dict[str, Any]]:
        """Give what is to be read: first what the state holds back, then on from its cursors."""
        begun = self.state._replace(held=())
        for visit in self.state.held:
            yield {"__visit__": visit, "__after__": begun}
        cursors, drawn = list(begun.cursors), list(begun.drawn)
        windows = [self.open_window(source, cursor) for source, cursor in enumerate(cursors)]
        weights = list(self.weights)
        while any(weights):
            source = neediest(weights, drawn) if len(weights) > 1 else 0
            while cursors[source].at >= len(windows[source]):
                cursors[source] = Cursor(cursors[source].window + 1)
                windows[source] = self.open_window(source, cursors[source])
                if not windows[source]:
                    break
            if not windows[source]:
                weights[source] = 0.0
                continue
            self.count(source)
            window, at = cursors[source]
            cursors[source] = Cursor(window, at + 1)
            drawn[source] += 1
            yield {"__visit__": windows[source][at], "__after__": LaneState(tuple(cursors), tuple(drawn))}

    def count(self, source: int) -> None:
        """Count what is read; raises `DataError` where nothing ever comes of it."""
        self.fruitless += 1
        if self.budget is not None:
            self.budget.read += 1
        if self.fruitless > MAX_FRUITLESS and not self.sources[source].order.epochs:
            why = self.skipped[-1].told if self.skipped else "a stage drops them"
            name = self.sources[source].name
            raise DataError(f"{name}: no row came of {MAX_FRUITLESS:,} samples, read one after the other: {why}")

    def open_window(self, source: int, cursor: Cursor) -> list[Visit]:
        """Give the visits of a window, whose blocks and those of the next one are read ahead."""
        order, index, storage = self.sources[source].order, self.sources[source].index, self.sources[source].storage
        # A window that is entered in its middle is not: what was taken before would be held for ever.
        for window in (cursor.window, cursor.window + 1)[cursor.at > 0 :]:
            for _, shard, samples in order.blocks_of(self.number, window):
                _, begin, _ = index.locate(samples[0])
                _, last, length = index.locate(samples[-1])
                # Between samples may stand what is none, and those that are too large are not read.
                lengths = index.length[samples.start : samples.stop]
                wanted = int(lengths[lengths <= MAX_SAMPLE_BYTES].sum())
                if wanted:
                    storage.read_ahead(shard, begin, last + length - begin, wanted)
        return order.window_of(self.number, cursor.window)

    def read(self, visits: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Read the members of each sample."""
        for sample in visits:
            visit: Visit = sample["__visit__"]
            source = self.sources[visit.source]
            shard, offset, length = source.index.locate(visit.sample)
            if length > MAX_SAMPLE_BYTES:
                self.skip(visit, TOO_LARGE, f"{length} bytes, at most {MAX_SAMPLE_BYTES} are read")
                continue
            try:
                key, parts = sample_parts(source.storage.read(shard, offset, length))
            except (Unreadable, DamagedTar) as error:
                if error.reason == CLOSED:
                    raise
                self.skip(visit, error.reason, str(error))
                continue
            # Last, as a part may be called anything.
            yield {**parts, "__key__": key, "__url__": source.index.urls[shard], **sample}

    def tokenise(self, samples: Iterable[dict[str, Any]]) -> Iterator[Piece]:
        """Choose the window of each sample and take the media that it shows."""
        for parts in samples:
            visit: Visit = parts["__visit__"]
            source = self.sources[visit.source]
            try:
                sample = read_sample(parts, parts["__key__"], source.layout)
            except BadSample as error:
                self.skip(visit, error.reason, str(error))
                continue
            config, identity = source.config, (source.order.root, visit.epoch, visit.sample)
            encoded = encode_items(sample.items, self.tokenizer, chance(config.p_space, *identity, SPACE))
            start = roll(*identity, WINDOW) if config.window == "random" else 0.0
            following = chance(config.p_next, *identity, FOLLOWING)
            window = sample_window(encoded, self.tokens, config.images, start, following)
            media = tuple(sample.media[index] for index in window.media)
            yield Piece(visit, sample.key, window, media, parts["__after__"])

    def fill(self, pieces: Iterable[Piece]) -> Iterator[Row]:
        """Make the rows: one of each sample, or of as many as fit."""
        if not self.pack:
            for piece in pieces:
                yield Row((piece,), piece.after, self.take_skipped())
            return
        most = max(PACK_POOL, self.tokens // PACK_TOKENS)
        pool: list[Piece] = []
        after, more = self.state._replace(held=()), iter(pieces)
        while True:
            while len(pool) < most and (not pool or sum(piece.bytes for piece in pool) < PACK_BYTES):
                found = next(more, None)
                if found is None:
                    break
                pool.append(found)
                after = found.after
            if not pool:
                return
            chosen = fit_together(pool, self.tokens)
            held = tuple(piece.visit for piece in pool)
            yield Row(chosen, after._replace(held=held), self.take_skipped())

    def skip(self, visit: Visit, reason: str, told: str) -> None:
        """Set a sample aside."""
        source = self.sources[visit.source]
        self.skipped.append(Skip(source.name, reason, f"{source.place_of(visit)}: {told}"))
        if self.budget is not None:
            self.budget.skip(self.skipped[-1])

    def take_skipped(self) -> tuple[Skip, ...]:
        """Give what was skipped since the last row."""
        skipped, self.skipped = tuple(self.skipped), []
        return skipped


def fit_together(pool: list[Piece], tokens: int) -> tuple[Piece, ...]:
    """Take from the pool the piece that waited longest, and again and again the longest one that still fits.

    The first is always taken, so none waits for ever; what is left keeps its order.
    """
    chosen = [pool.pop(0)]
    free = tokens - len(chosen[0].window.tokens)
    while True:
        fitting = [place for place, piece in enumerate(pool) if len(piece.window.tokens) <= free]
        if not fitting:
            return tuple(chosen)
        chosen.append(pool.pop(max(fitting, key=lambda place: len(pool[place].window.tokens))))
        free -= len(chosen[-1].window.tokens)


def share(weights: Iterable[float]) -> tuple[float, ...]:
    """Scale weights so that they sum up to 1."""
    given = tuple(weights)
    return tuple(weight / sum(given) for weight in given)
