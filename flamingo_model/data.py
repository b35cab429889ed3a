"""The loader: shards in, batches for training out, the same ones wherever and however they are made.

    for batches in Loader(read_config("data.toml"), rank=0, world=1):     # {dataset: Batch}, or {"mixed": Batch}
        ...
    state = loader.state_dict()                                           # of what was delivered, not of what is ahead

A step has a batch of every dataset (gradients of all are accumulated), or one batch that is drawn from all. Its rows
are those of the lanes, in their order; a rank has the rows of its own lanes. The state is where each lane stands, so
that a run may go on with any number of ranks, processes and threads (`merge_states` joins those of the ranks). A
stream without end never leaves a rank without a batch; `once` ends after as many steps for every rank.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from flamingo_model.augment import GpuDecoder
from flamingo_model.batch import Batch, Buffers, Here, Unfinished, join
from flamingo_model.config import DataConfig
from flamingo_model.lanes import Lane, LaneState, Row, Source, Stage
from flamingo_model.order import Cursor, Visit
from flamingo_model.pixels import one_thread
from flamingo_model.prefetch import Prefetched
from flamingo_model.skips import Budget, Skip, Stats, judge
from flamingo_model.skips import DataError as DataError
from flamingo_model.sources import open_sources
from flamingo_model.storage import Storage
from flamingo_model.tokens import Tokenizer, open_tokenizer
from flamingo_model.workers import open_workers

STATE_VERSION = 1
MAX_CLOSING_S = 2.0
"""How long closing waits for a step that is being made, before its reads are cut off."""
LaneStates = dict[str, dict[int, LaneState]]


@dataclass(frozen=True, slots=True)
class Part:
    """What a process makes of a step: the rows of its lanes, where those lanes stand after it, and what was lost."""

    batches: dict[str, Batch]
    states: LaneStates
    skipped: tuple[Skip, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """What the batches of one name are made of: its sources and the shape of its rows."""

    name: str
    sources: tuple[Source, ...]
    tokens: int
    pack: bool
    rows: int

    def steps(self) -> int:
        """Count the steps until every lane has read its samples once."""
        order = [source.order for source in self.sources]
        longest = max(sum(one.visits_of(lane) for one in order) for lane in range(order[0].lanes))
        return -(-longest // self.rows)


def open_streams(config: DataConfig) -> list[Stream]:
    """Open the datasets; `rows` of a stream are those of one lane in a step."""
    sources = open_sources(config)
    lanes = config.lane_count
    if config.mix == "mixed":
        return [Stream("mixed", tuple(sources), config.tokens, config.pack, config.batch // lanes)]
    return [
        Stream(source.name, (source,), source.config.tokens, source.config.pack, source.config.batch // lanes)
        for source in sources
    ]


class Parts(IterableDataset):  # type: ignore[type-arg]
    """The parts of steps that the lanes of a process make, from their states on."""

    def __init__(
        self,
        config: DataConfig,
        streams: Sequence[Stream],
        tokenizer: Tokenizer,
        lanes: Sequence[int],
        states: LaneStates,
        steps: int | None,
        stages: Sequence[Stage],
        gpu: GpuDecoder | None,
    ) -> None:
        super().__init__()
        self.config, self.streams, self.tokenizer, self.gpu = config, streams, tokenizer, gpu
        self.lanes, self.states, self.steps, self.stages = lanes, states, steps, stages

    def __iter__(self) -> Iterator[Part | DataError]:
        worker = get_worker_info()
        mine = share_of(self.lanes, worker.id, worker.num_workers) if worker else self.lanes
        try:
            with self.open_pool() as pool:
                begun = self.begin(mine, pool)
                ahead = deque(islice(begun, self.config.prefetch))
                while ahead:
                    part = finish(ahead.popleft())
                    ahead.extend(islice(begun, 1))
                    yield part
        except DataError as error:
            yield error  # not raised: on its way out of a process PyTorch would write a traceback into its text

    @contextmanager
    def open_pool(self) -> Iterator[Executor | Here]:
        """Start the decoding threads; one thread is the one that reads."""
        if self.config.threads == 1:
            yield Here()
            return
        with ThreadPoolExecutor(self.config.threads, initializer=one_thread) as pool:
            yield pool

    def begin(self, mine: Sequence[int], pool: Executor | Here) -> Iterator[tuple[dict[str, Unfinished], LaneStates]]:
        """Begin one step after another: its rows are read, its frames are left to the threads."""
        pad, buffers = self.tokenizer.pad, Buffers()
        budget = Budget(self.config, len(mine) / len(self.lanes))
        lanes = {stream.name: [self.lane(stream, number, budget) for number in mine] for stream in self.streams}
        done = 0
        while self.steps is None or done < self.steps:
            unfinished = {}
            for stream in self.streams:
                rows = [next_row(lane) for lane in lanes[stream.name] for _ in range(stream.rows)]
                unfinished[stream.name] = Unfinished(
                    rows, stream.sources, stream.tokens, pad, self.config, pool, buffers, self.gpu
                )
            yield unfinished, {name: {lane.number: lane.state for lane in of} for name, of in lanes.items()}
            done += 1

    def lane(self, stream: Stream, number: int, budget: Budget) -> Lane:
        """Begin a lane where its state says."""
        state = self.states.get(stream.name, {}).get(number)
        return Lane(number, stream.sources, self.tokenizer, stream.tokens, stream.pack, state, self.stages, budget)


def next_row(lane: Lane) -> Row:
    """Give a lane's next row; an empty one where it has no more."""
    row = next(lane, None)
    return Row((), lane.state, lane.take_skipped()) if row is None else row


def finish(begun: tuple[dict[str, Unfinished], LaneStates]) -> Part:
    """Wait for the frames of a step."""
    unfinished, states = begun
    finished = {name: batch.finish() for name, batch in unfinished.items()}
    skipped = tuple(skip for _, skips in finished.values() for skip in skips)
    return Part({name: batch for name, (batch, _) in finished.items()}, states, skipped)


def share_of(lanes: Sequence[int], worker: int, workers: int) -> Sequence[int]:
    """Give a worker its neighbouring lanes, so that the parts of all of them stand in the lanes' order."""
    return lanes[len(lanes) * worker // workers : len(lanes) * (worker + 1) // workers]


class Loader:
    """Iterates over steps, each a batch by its name; use as a context, or `close` it."""

    def __init__(
        self,
        config: DataConfig,
        rank: int = 0,
        world: int = 1,
        stages: Sequence[Stage] = (),
        device: torch.device | str = "cuda",
    ) -> None:
        """Open the datasets for a rank of `world`.

        `stages` are webdataset's, over samples as it has them: they run after the reading and before tokens are made,
        may change or drop a sample, keep no state, and can be pickled where there are worker processes. `device` is
        where images are decoded if `config.decode` is `gpu`; batches are pinned, and else left where they are.
        """
        lanes = config.lane_count
        if not 0 <= rank < world or lanes % world:
            able = ", ".join(str(count) for count in range(1, lanes + 1) if lanes % count == 0)
            raise DataError(f"rank {rank} of {world} cannot share {lanes} lanes: ranks may be {able} (see data.lanes)")
        self.config, self.stages = config, tuple(stages)
        self.lanes = range(rank, lanes, world)
        self.streams = open_streams(config)
        self.tokenizer = open_tokenizer(config.tokenizer)
        self.gpu = open_decoder(device) if config.decode == "gpu" else None
        self.identity = {stream.name: identity_of(config, stream) for stream in self.streams}
        self.last = max(stream.steps() for stream in self.streams) if config.once else None
        self.stats = Stats()
        self.step = 0
        self.states: LaneStates = {}
        self.ahead: Prefetched[Part] | None = None
        self.leash: Connection | None = None
        self.closed = False

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        return self

    def __next__(self) -> dict[str, Batch]:
        if self.last is not None and self.step >= self.last:
            raise StopIteration
        if self.closed:
            raise DataError("the loader was closed")
        if self.ahead is None:
            leash, self.leash = multiprocessing.Pipe(duplex=False)
            made = self.parts(leash)
            parts = map(pinned, made) if torch.cuda.is_available() else made
            self.ahead = Prefetched(parts, 1)  # one that is done, beside those that are being made
        begun = time.perf_counter()
        part: Part = next(self.ahead)
        self.stats.wait_s += time.perf_counter() - begun
        self.stats.add(part.batches, part.skipped)
        if part.skipped:
            self.judge()
        self.step += 1
        for name, states in part.states.items():
            self.states.setdefault(name, {}).update(states)
        return part.batches

    def judge(self) -> None:
        """Stop where too much was lost: the state stays that of the step before."""
        skipped = self.stats.skipped
        try:
            judge(self.config, skipped, self.stats.told[0], sum(skipped.values()) + sum(self.stats.samples.values()))
        except DataError:
            self.stop()
            raise

    def parts(self, leash: Connection) -> Iterator[Part]:
        """Make the steps of this rank, in this process or in workers of which each has some of the lanes."""
        steps = None if self.last is None else self.last - self.step
        parts = Parts(self.config, self.streams, self.tokenizer, self.lanes, self.states, steps, self.stages, self.gpu)
        workers = min(self.config.workers, len(self.lanes))
        made = open_workers(parts, workers, self.config.prefetch, leash) if workers else iter(parts)
        buffers = Buffers()
        # The parts come in turn from one worker after the other, and each worker makes as many.
        while step := [sound(part) for part in islice(made, max(1, workers))]:
            yield joined(step, buffers)

    def state_dict(self) -> dict[str, Any]:
        """Give where this rank's lanes stand after the batch delivered last, as JSON has it."""
        return {
            "version": STATE_VERSION,
            "step": self.step,
            "identity": self.identity,
            "lanes": {name: {str(lane): state for lane, state in lanes.items()} for name, lanes in self.states.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, which must hold at least this rank's lanes."""
        if state.get("version") != STATE_VERSION:
            raise DataError(f"loader state {state.get('version')}, this version reads {STATE_VERSION}")
        for name, identity in self.identity.items():
            given = state["identity"].get(name, {})
            wrong = [key for key, value in identity.items() if given.get(key) != value]
            if wrong:
                told = ", ".join(f"{key} {given.get(key)!r}, now {identity[key]!r}" for key in wrong)
                raise DataError(f"the loader's state is of other data: {name}: {told}")
        states = {
            name: {int(lane): read_state(row) for lane, row in lanes.items()} for name, lanes in state["lanes"].items()
        }
        for name in self.identity if state["step"] else ():
            missing = [lane for lane in self.lanes if lane not in states.get(name, {})]
            if missing:
                raise DataError(f"the loader's state lacks lanes {missing} of {name}: join the states of all ranks")
        self.stop()
        self.step = state["step"]
        self.states = {name: {lane: states[name][lane] for lane in self.lanes} for name in self.identity if states}

    def stop(self) -> None:
        """Drop what is being made ahead; a read that takes long is cut off."""
        if self.ahead is None or self.leash is None:
            return
        soon = self.ahead.close(MAX_CLOSING_S)
        self.leash.close()
        if not soon:
            for storage in self.storages():
                storage.close()
            self.ahead.close()
            for storage in self.storages():
                storage.renew()
        for storage in self.storages():
            storage.forget()  # lanes begin anew, elsewhere
        self.ahead = None

    def close(self) -> None:
        """Stop, and close the shards."""
        self.stop()
        self.closed = True
        for storage in self.storages():
            storage.close()

    def storages(self) -> list[Storage]:
        """List what the shards are read from."""
        return [source.storage for stream in self.streams for source in stream.sources]


def pinned(part: Part) -> Part:
    """Put a step into page-locked memory."""
    return replace(part, batches={name: batch.pinned() for name, batch in part.batches.items()})


def sound(part: Part | DataError) -> Part:
    """Give a part, or raise what came in its place."""
    if isinstance(part, DataError):
        raise part
    return part


def joined(parts: Sequence[Part], buffers: Buffers) -> Part:
    """Join the parts of a step."""
    if len(parts) == 1:
        return parts[0]
    batches = {name: join([part.batches[name] for part in parts], buffers) for name in parts[0].batches}
    states = {name: {k: v for part in parts for k, v in part.states[name].items()} for name in batches}
    return Part(batches, states, tuple(skip for part in parts for skip in part.skipped))


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the states of all ranks after one step into one that any number of ranks can go on from."""
    given = list(states)
    if len({(state["step"], json.dumps(state["identity"], sort_keys=True)) for state in given}) != 1:
        raise DataError("the states are not of one step of one run")
    names = given[0]["lanes"]
    lanes = {name: {lane: row for state in given for lane, row in state["lanes"][name].items()} for name in names}
    return {**given[0], "lanes": lanes}


def open_decoder(device: torch.device | str) -> GpuDecoder:
    """Open the decoder of a GPU, which must be there."""
    try:
        return GpuDecoder(device)
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"data.decode is gpu, which needs CUDA and torchvision (pip install 'flamingo-data[nvjpeg]'): {error}"
        ) from None


def read_state(row: Sequence[Any]) -> LaneState:
    """Read a lane's state from the lists that JSON makes of it."""
    cursors, drawn, held = row
    return LaneState(tuple(Cursor(*cursor) for cursor in cursors), tuple(drawn), tuple(Visit(*visit) for visit in held))


def identity_of(config: DataConfig, stream: Stream) -> dict[str, Any]:
    """Give what must be the same for a state to mean the same samples."""
    # What was drawn of each dataset is counted against its weight.
    weights = [source.config.weight for source in stream.sources] if len(stream.sources) > 1 else []
    orders = [(source.name, source.index.same(), source.order.block, source.order.window) for source in stream.sources]
    sources = [orders, weights]
    told = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
    identity = {"seed": config.seed, "lanes": config.lane_count, "shuffle": config.shuffle, "sources": told}
    # How many steps are left is counted in those of as many rows.
    return {**identity, "once": stream.rows if config.once else 0}
