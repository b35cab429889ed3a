"""Decides whose turn it is: many lanes of requests, each with its own pace, under one common limit.

    lanes in: the requests of a host, or of a part of a large one, with their delay and number of connections
    turns out: `ask` is called when a lane may start, and every request ends in one `finish` or one `leave`

The clock is the running event loop's, so that a loop whose time jumps runs an hour of politeness at once. Lanes of one
host in several processes take turns by the wall clock, which these share.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

HOST_FAILING = "host_failing"
"""Reason of a request that was left because too many turns of its lane in a row had trouble."""
HOST_BUDGET = "host_budget"
"""Reason of a request that was left because its lane's time was used up, or would be before it could start."""

BEAT_S = 1.0
ROUNDING_S = 1e-5
"""Seconds that sums of times since 1970 may be wrong by."""


@dataclass(frozen=True, slots=True)
class Request:
    """One URL that somebody wants; `at` is what to ask now, which a redirect makes differ from `url`."""

    url: str
    at: str
    hops: int
    tries: int
    row: int


@dataclass(slots=True, eq=False)
class Lane:
    """The requests that share one pace, and how far they are.

    `start_after_s` holds back the first start. With `slot_s` a lane starts only while the wall clock is at most so much
    past a moment of its own: `start_after_s` plus whole delays since 1970. `free_at_s` is the loop's time before which
    nothing starts; `ask` may move it on, for example to count the delay from the moment at which a request was really
    sent.
    """

    key: str
    host: str
    delay_s: float
    connections: int
    requests: deque[Request]
    start_after_s: float = 0.0
    slot_s: float = 0.0
    free_at_s: float = field(default=0.0, init=False)
    deadline_s: float = field(default=math.inf, init=False)
    in_flight: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    since_s: float = field(default=math.inf, init=False)
    closed: str = field(default="", init=False)
    queued: int = field(default=0, init=False)
    waiting: dict[int, Request] = field(default_factory=dict, init=False)


class Outcome(Protocol):
    """What a request came to."""

    @property
    def trouble(self) -> bool:
        """The host may be what is wrong, not the URL."""


T = TypeVar("T", bound=Outcome)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The turn was the last of its request."""

    outcome: T


@dataclass(frozen=True, slots=True)
class Again:
    """The request needs another turn: a retry, or a redirect within the host.

    With `trouble` the whole lane waits for `after_s`, without it only the request; then it goes before the others.
    """

    request: Request
    after_s: float
    trouble: bool


Turn = Done[T] | Again


class Limits(Protocol):
    """The numbers that bound a run."""

    @property
    def in_flight(self) -> int:
        """Requests in flight, of all lanes together."""

    @property
    def host_budget_s(self) -> float:
        """Seconds from a lane's first start, after which it starts nothing more."""

    @property
    def host_failures(self) -> int:
        """Turns of a lane in a row with trouble, after which it starts nothing more."""


async def run_lanes(
    lanes: Sequence[Lane],
    ask: Callable[[Lane, Request], Awaitable[Turn[T]]],
    finish: Callable[[Lane, Request, T], None],
    leave: Callable[[Lane, Request, str], None],
    limits: Limits,
    beat: Callable[[], None],
    wall_s: Callable[[], float] = time.time,
) -> None:
    """Ask every request of every lane, each in its turn; returns when all are finished or left.

    `finish` is given the request as the last turn asked it. `beat` is called every second, whatever happens. An
    exception of any of the four ends the run, after all that is in flight has been cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            ahead_s = wall_s() - asyncio.get_running_loop().time()
            await Scheduler(ask, finish, leave, limits, beat, group, ahead_s).run(lanes)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


@dataclass(slots=True, eq=False)
class Scheduler(Generic[T]):
    """The state of one run.

    `later` holds an entry for each lane that may start when its time comes, and one for each request that waits for
    itself; `ready` holds the lanes whose time has come. Who could first start longest ago starts first, a lane that
    has missed slots by waiting for room included, so no lane starves. `ahead_s` is the wall clock's time minus the
    loop's.
    """

    ask: Callable[[Lane, Request], Awaitable[Turn[T]]]
    finish: Callable[[Lane, Request, T], None]
    leave: Callable[[Lane, Request, str], None]
    limits: Limits
    beat: Callable[[], None]
    group: asyncio.TaskGroup
    ahead_s: float
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    later: list[tuple[float, int, Lane]] = field(default_factory=list)
    ready: list[tuple[float, int, float, Lane]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    pending: int = 0
    in_flight: int = 0
    beat_at_s: float = -math.inf
    woken: asyncio.Future[None] | None = None

    async def run(self, lanes: Sequence[Lane]) -> None:
        """Start what may start, then wait for an answer, the next start or the next beat, until nothing is left."""
        now = self.loop.time()
        for lane in lanes:
            self.pending += len(lane.requests)
            lane.free_at_s = now + lane.start_after_s
            self.schedule(lane, now)
        while self.pending:
            self.start_ready()
            await self.pause()

    def start_ready(self) -> None:
        """Start requests while there is room for them and a lane that may."""
        now = self.loop.time()
        while self.in_flight < self.limits.in_flight:
            self.gather_ready(now)
            if not self.ready:
                return
            _, _, ready_s, lane = heapq.heappop(self.ready)
            lane.queued = 0
            if self.slot_after(lane, now) > now:
                lane.deadline_s += now - ready_s  # it has missed its slot by waiting for us
            elif lane.free_at_s <= now and lane.requests:
                self.start(lane, ready_s, now)
            self.schedule(lane, now)

    def gather_ready(self, now: float) -> None:
        """Move the lanes whose time has come to those that are ready, and requests to the front of their lanes."""
        while self.later and self.later[0][0] <= now:
            ready_s, number, lane = heapq.heappop(self.later)
            if number == lane.queued:
                lane.since_s = min(lane.since_s, ready_s)
                heapq.heappush(self.ready, (lane.since_s, number, ready_s, lane))
            elif number in lane.waiting:
                lane.requests.appendleft(lane.waiting.pop(number))
                self.schedule(lane, now)

    def start(self, lane: Lane, ready_s: float, now: float) -> None:
        """Begin the turn of a lane's first request."""
        if lane.deadline_s == math.inf:
            lane.deadline_s = now + self.limits.host_budget_s
        else:
            # A lane that waited for the common limit waited for us: its host does not pay for that.
            lane.deadline_s += now - ready_s
        lane.free_at_s = self.next_start_s(lane, now)
        lane.since_s = math.inf
        lane.in_flight += 1
        self.in_flight += 1
        self.group.create_task(self.take_turn(lane, lane.requests.popleft()))

    async def take_turn(self, lane: Lane, request: Request) -> None:
        """Ask one request, and do what its answer says."""
        if lane.delay_s:
            # The loop may have been busy since `start`: the delay counts from here.
            lane.free_at_s = max(lane.free_at_s, self.next_start_s(lane, self.loop.time()))
        try:
            turn = await self.ask(lane, request)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Nobody cancelled the task: it would end in silence, and its request would be waited for without end.
                raise RuntimeError(f"asking {request.at} was cancelled from within") from error
            raise
        now = self.loop.time()
        lane.in_flight -= 1
        self.in_flight -= 1
        if isinstance(turn, Done):
            trouble = turn.outcome.trouble
            self.pending -= 1
            self.finish(lane, request, turn.outcome)
        else:
            trouble = turn.trouble
            self.put_back(lane, turn, now)
        lane.failures = lane.failures + 1 if trouble else 0
        if lane.closed or lane.failures >= self.limits.host_failures:
            self.close(lane, lane.closed or HOST_FAILING)
        self.schedule(lane, now)
        self.wake()

    def put_back(self, lane: Lane, turn: Again, now: float) -> None:
        """Give a request another turn, at once or later."""
        due_s = now + turn.after_s
        if turn.trouble or turn.after_s <= 0 or lane.closed:
            lane.requests.appendleft(turn.request)
            if turn.trouble:
                lane.free_at_s = max(lane.free_at_s, due_s)
        elif due_s > lane.deadline_s:
            self.give_up(lane, turn.request, HOST_BUDGET)
        else:
            lane.waiting[self.push(lane, due_s)] = turn.request

    def schedule(self, lane: Lane, now: float) -> None:
        """Note when a lane may start next, if it has something to start and a connection for it."""
        due_s = self.slot_after(lane, max(now, lane.free_at_s))
        if due_s > lane.deadline_s or due_s == math.inf:
            self.close(lane, HOST_BUDGET)
        elif lane.requests and not lane.queued and lane.in_flight < lane.connections:
            lane.queued = self.push(lane, due_s)

    def next_start_s(self, lane: Lane, sent_s: float) -> float:
        """Say when the delay after a start is over; a lane with slots has one start in each."""
        if not lane.slot_s:
            return sent_s + lane.delay_s
        return sent_s + lane.delay_s - self.past_slot_s(lane, sent_s)

    def slot_after(self, lane: Lane, due_s: float) -> float:
        """Give the first time from `due_s` on at which a lane may start by its slots."""
        if not lane.slot_s or due_s == math.inf or (past_s := self.past_slot_s(lane, due_s)) <= lane.slot_s:
            return due_s
        return due_s + lane.delay_s - past_s

    def past_slot_s(self, lane: Lane, now: float) -> float:
        """Count the seconds since a slot of a lane began; what rounding puts just before the next is in it."""
        past_s = (now + self.ahead_s - lane.start_after_s) % lane.delay_s
        return past_s if past_s < lane.delay_s - ROUNDING_S else 0.0

    def push(self, lane: Lane, due_s: float) -> int:
        """Add an entry to `later`; its number breaks ties in the order of coming."""
        number = next(self.numbers)
        heapq.heappush(self.later, (due_s, number, lane))
        return number

    def close(self, lane: Lane, reason: str) -> None:
        """Leave all of a lane that is not in flight; what comes back from there is left too, if it is not done."""
        lane.closed = reason
        left = [*lane.requests, *lane.waiting.values()]
        lane.requests.clear()
        lane.waiting.clear()
        for request in left:
            self.give_up(lane, request, reason)

    def give_up(self, lane: Lane, request: Request, reason: str) -> None:
        """Leave one request."""
        self.pending -= 1
        self.leave(lane, request, reason)

    def wake(self) -> None:
        """End the pause, if there is one."""
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)

    async def pause(self) -> None:
        """Wait until something may have changed, and let the beat be heard."""
        now = self.loop.time()
        if now >= self.beat_at_s:
            self.beat()
            self.beat_at_s = now + BEAT_S
        room = self.later and self.in_flight < self.limits.in_flight
        until_s = min(self.beat_at_s, self.later[0][0]) if room else self.beat_at_s
        self.woken = self.loop.create_future()
        timer = self.loop.call_at(until_s, self.wake)
        try:
            await self.woken
        finally:
            timer.cancel()


class SplitLimits(Protocol):
    """The numbers that say when a host has several lanes, and how many connections they share."""

    @property
    def host_connections(self) -> int:
        """Requests in flight to one host."""

    @property
    def lane_urls(self) -> int:
        """URLs up to which a host has one lane, and for which it gets one more."""

    @property
    def max_lanes(self) -> int:
        """Lanes of one host; each needs a connection."""


@dataclass(frozen=True, slots=True)
class Share:
    """One lane's part of what a host allows."""

    key: str
    delay_s: float
    connections: int
    start_after_s: float


def split_lanes(host: str, urls: int, delay_s: float, limits: SplitLimits) -> list[Share]:
    """Divide a host with many URLs into lanes that together keep to its limits.

    Never more than `host_connections` are in flight, in whatever processes the lanes run. A lane of several has the
    times of the wall clock at which every n-th start of the host is due (n being the number of lanes) and starts at
    these alone, so that starts lie delay_s apart, give or take what a lane's `slot_s` allows, as far as the clocks of
    the machines agree. A retry's wait, the circuit breaker and the budget are each lane's own. A host with one lane
    never has two starts within delay_s. Nothing starts within delay_s from the beginning: its robots.txt may have been
    asked for just before.
    """
    count = max(1, min(math.ceil(urls / limits.lane_urls), limits.max_lanes, limits.host_connections))
    each, more = divmod(limits.host_connections, count)
    return [
        Share(
            key=f"{host}#{index}" if count > 1 else host,
            delay_s=delay_s * count,
            connections=each + (index < more),
            start_after_s=delay_s * (index + 1),
        )
        for index in range(count)
    ]
