"""Whose turn it is, in a loop whose time jumps to the next timer: every instant below is exact."""

import asyncio
import math
import random
import selectors
import signal
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lanes import HOST_BUDGET, HOST_FAILING, Again, Done, Lane, Request, run_lanes, split_lanes


class JumpingSelector(selectors.SelectSelector):
    """Never sleeps: the time that it is asked to wait has passed."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing can ever happen again"
            self.now += timeout
            assert self.now < 1e5, "no test takes a day"
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own; `work` lets some pass without a turn of the loop."""

    def __init__(self):
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self):
        return self.jumping.now

    def work(self, seconds):
        self.jumping.now += seconds


@dataclass(frozen=True)
class Outcome:
    """What the fake asking comes to."""

    trouble: bool = False


@dataclass(frozen=True)
class Limits:
    """The numbers of a run; by default none of them is reached."""

    in_flight: int = 100
    host_budget_s: float = math.inf
    host_failures: int = 1000


@dataclass(frozen=True)
class Split:
    """The numbers of a split."""

    host_connections: int
    lane_urls: int
    max_lanes: int


@dataclass
class Log:
    """What happened, in order, with its time."""

    starts: list = field(default_factory=list)  # (time, lane, row)
    ends: list = field(default_factory=list)  # (time, lane, row, turn)
    finished: list = field(default_factory=list)  # (time, lane, row)
    left: list = field(default_factory=list)  # (time, lane, row, reason)
    beats: list = field(default_factory=list)
    cancelled: int = 0
    tasks: int = 0
    ended: float = math.nan

    def times(self, lane):
        return [time for time, key, _ in self.starts if key == lane]

    def rows(self, lane):
        return [row for _, key, row in self.starts if key == lane]

    def in_flight(self, key=None):
        """Count what was in flight at most; at one instant, what ends does so before what starts."""
        moves = [(e[0], -1) for e in self.ends if key in (None, e[1])]
        moves += [(s[0], 1) for s in self.starts if key in (None, s[1])]
        now = most = 0
        for _, move in sorted(moves):
            now += move
            most = max(most, now)
        return most


def make_lane(key, urls, *, delay_s=0.0, connections=1, start_after_s=0.0, slot_s=0.0, first_row=0):
    url = f"https://{key}.example/"
    requests = deque(Request(f"{url}{row}", f"{url}{row}", 0, 0, first_row + row) for row in range(urls))
    return Lane(key, f"{key}.example", delay_s, connections, requests, start_after_s, slot_s)


def again(request, after_s=0.0, trouble=False):
    return Again(replace(request, tries=request.tries + 1), after_s, trouble)


def run(lanes, answer=lambda lane, request: (0.0, Done(Outcome())), limits=None, **hooks):
    """Run the lanes; `answer` says how long a turn takes and what it comes to, and may do the unexpected."""
    log = Log()

    async def ask(lane, request):
        loop = asyncio.get_running_loop()
        log.starts.append((loop.time(), lane.key, request.row))
        log.tasks = max(log.tasks, len(asyncio.all_tasks()))
        took_s, turn = answer(lane, request)
        try:
            await asyncio.sleep(took_s)
        except asyncio.CancelledError:
            log.cancelled += 1
            raise
        log.ends.append((loop.time(), lane.key, request.row, turn))
        return turn

    async def main():
        now = asyncio.get_running_loop().time
        calls = {
            "finish": lambda lane, request, outcome: log.finished.append((now(), lane.key, request.row)),
            "leave": lambda lane, request, reason: log.left.append((now(), lane.key, request.row, reason)),
            "beat": lambda: log.beats.append(now()),
        }
        calls |= hooks
        try:
            await run_lanes(lanes, ask, limits=limits or Limits(), **calls)
        finally:
            log.ended = now()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run.log = log  # for a run that ends with an exception
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return log


def test_a_lane_starts_one_request_each_delay():
    log = run([make_lane("a", 360, delay_s=10.0)])
    assert log.starts == [(10.0 * row, "a", row) for row in range(360)]
    assert [row for _, _, row in log.finished] == list(range(360))
    assert log.ended == 3590.0


def test_the_delay_counts_from_the_start_and_connections_bound_what_is_slow():
    def slow(lane, request):
        return 25.0, Done(Outcome())

    assert run([make_lane("a", 4, delay_s=10.0, connections=9)], slow).times("a") == [0.0, 10.0, 20.0, 30.0]
    assert run([make_lane("a", 4, delay_s=10.0, connections=2)], slow).times("a") == [0.0, 10.0, 25.0, 35.0]
    assert run([make_lane("a", 4, delay_s=10.0, connections=1)], slow).times("a") == [0.0, 25.0, 50.0, 75.0]
    assert run([make_lane("a", 2, delay_s=1.0, start_after_s=7.0)]).times("a") == [7.0, 8.0]


def test_lanes_do_not_wait_for_each_other():
    log = run([make_lane("a", 3, delay_s=10.0), make_lane("b", 3, delay_s=0.25), make_lane("c", 0)])
    assert (log.times("a"), log.times("b")) == ([0.0, 10.0, 20.0], [0.0, 0.25, 0.5])


def test_no_lane_starves():
    lanes = [make_lane("a", 50, connections=50), make_lane("b", 50, connections=50), make_lane("c", 3)]
    log = run(lanes, lambda _, __: (1.0, Done(Outcome())), Limits(in_flight=1))
    assert "".join(key for _, key, _ in log.starts[:10]) == "abcabcabca"
    large = make_lane("large", 2000, connections=50)
    small = [make_lane(f"small{n}", 1) for n in range(100)]
    log = run([large, *small], lambda _, __: (1.0, Done(Outcome())), Limits(in_flight=10))
    assert max(time for time, key, _ in log.starts if key != "large") <= 20.0
    assert log.in_flight() == 10


def test_there_is_no_task_for_a_request_that_waits():
    lanes = [make_lane(f"h{n}", 1) for n in range(2000)] + [make_lane("large", 5000, connections=8)]
    log = run(lanes, lambda _, __: (0.5, Done(Outcome())), Limits(in_flight=16))
    assert len(log.finished) == 7000
    assert log.tasks <= 16 + 1
    assert log.in_flight("large") == 8


def test_a_redirect_within_the_host_is_the_next_turn():
    def answer(lane, request):
        return 0.0, again(request) if request.row == 0 and request.tries < 3 else Done(Outcome())

    log = run([make_lane("a", 3, delay_s=5.0)], answer)
    assert log.starts == [(0.0, "a", 0), (5.0, "a", 0), (10.0, "a", 0), (15.0, "a", 0), (20.0, "a", 1), (25.0, "a", 2)]


def test_trouble_holds_the_whole_lane_back_and_no_other():
    def answer(lane, request):
        return 1.0, again(request, 60.0, trouble=True) if (request.row, request.tries) == (0, 0) else Done(Outcome())

    lanes = [make_lane("a", 3, delay_s=2.0, connections=2), make_lane("b", 3, delay_s=2.0, first_row=10)]
    log = run(lanes, answer)
    assert [(time, row) for time, key, row in log.starts if key == "a"] == [(0.0, 0), (61.0, 0), (63.0, 1), (65.0, 2)]
    assert log.times("b") == [0.0, 2.0, 4.0]


def test_without_trouble_only_the_request_waits():
    def answer(lane, request):
        return 1.0, again(request, 4.5) if (request.row, request.tries) == (0, 0) else Done(Outcome())

    log = run([make_lane("a", 5, delay_s=2.0)], answer)
    assert log.starts == [(0.0, "a", 0), (2.0, "a", 1), (4.0, "a", 2), (6.0, "a", 0), (8.0, "a", 3), (10.0, "a", 4)]
    log = run([make_lane("a", 1, delay_s=2.0)], answer)
    assert log.starts == [(0.0, "a", 0), (5.5, "a", 0)]


def test_the_breaker_opens_after_failures_in_a_row():
    troubled = {1, 3, 4, 5, 6}

    def answer(lane, request):
        return 1.0, Done(Outcome(trouble=request.row in troubled))

    log = run([make_lane("a", 9), make_lane("b", 3, first_row=20)], answer, Limits(host_failures=3))
    assert log.rows("a") == [0, 1, 2, 3, 4, 5]
    assert log.left == [(6.0, "a", row, HOST_FAILING) for row in (6, 7, 8)]
    assert log.rows("b") == [20, 21, 22]
    assert log.ended == 6.0


@pytest.mark.parametrize("trouble", [True, False])
def test_what_is_in_flight_when_the_breaker_opens_ends_by_itself(trouble):
    def answer(lane, request):
        if request.row < 2:
            return 1.0, Done(Outcome(trouble=True))
        return 9.0, Done(Outcome()) if request.row == 2 else again(request, 5.0, trouble)

    log = run([make_lane("a", 7, connections=4)], answer, Limits(host_failures=2, host_budget_s=10.0))
    assert log.rows("a") == [0, 1, 2, 3]
    assert sorted(row for _, _, row in log.finished) == [0, 1, 2]
    assert log.left == [*((1.0, "a", row, HOST_FAILING) for row in (4, 5, 6)), (9.0, "a", 3, HOST_FAILING)]
    assert log.ended == 9.0


def test_a_request_that_waits_for_itself_is_left_when_the_breaker_opens():
    def answer(lane, request):
        turns = {0: (1.0, again(request, 500.0)), 1: (9.0, Done(Outcome()))}
        return turns.get(request.row, (1.0, Done(Outcome(trouble=True))))

    log = run([make_lane("a", 5, connections=2)], answer, Limits(host_failures=2))
    assert sorted(log.left) == [(3.0, "a", 0, HOST_FAILING), (3.0, "a", 4, HOST_FAILING)]
    assert sorted(row for _, _, row in log.finished) == [1, 2, 3]
    assert log.ended == 9.0


def test_a_used_up_budget_leaves_the_rest_without_sleeping():
    log = run([make_lane("a", 100, delay_s=10.0, start_after_s=30.0)], limits=Limits(host_budget_s=60.0))
    assert log.times("a") == [30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
    assert [row for _, _, row in log.finished] == list(range(7))
    assert log.left == [(90.0, "a", row, HOST_BUDGET) for row in range(7, 100)]
    assert log.ended == 90.0


@pytest.mark.parametrize(
    ("trouble", "asked", "left"),
    [(True, [0], {0: 1.0, 1: 1.0, 2: 1.0}), (False, [0, 1, 2], {0: 1.0})],
)
def test_a_wait_that_would_outlast_the_budget_is_not_waited(trouble, asked, left):
    def answer(lane, request):
        return 1.0, again(request, 3600.0, trouble) if request.row == 0 else Done(Outcome())

    log = run([make_lane("a", 3)], answer, Limits(host_budget_s=600.0))
    assert log.rows("a") == asked
    assert {row: time for time, _, row, _ in log.left} == left
    assert {reason for *_, reason in log.left} == {HOST_BUDGET}
    assert log.ended == len(asked)


@pytest.mark.parametrize("trouble", [True, False])
def test_a_wait_that_ends_with_the_budget_is_waited(trouble):
    def answer(lane, request):
        return 1.0, Done(Outcome()) if request.tries else again(request, 59.0, trouble)

    assert run([make_lane("a", 1)], answer, Limits(host_budget_s=60.0)).times("a") == [0.0, 60.0]
    assert run([make_lane("a", 1)], answer, Limits(host_budget_s=59.75)).times("a") == [0.0]


def test_a_host_does_not_pay_for_the_wait_for_a_common_slot():
    def answer(lane, request):
        return 20.0, Done(Outcome())

    log = run([make_lane(key, 4) for key in "abc"], answer, Limits(in_flight=1, host_budget_s=50.0))
    assert log.times("a") == [0.0, 60.0, 120.0]
    assert log.left == [(140.0, "a", 3, HOST_BUDGET), (160.0, "b", 3, HOST_BUDGET), (180.0, "c", 3, HOST_BUDGET)]


def test_the_delay_counts_from_the_asking_when_the_loop_was_busy():
    def answer(lane, request):
        asyncio.get_running_loop().work(0.75 if request.row == 0 else 0.0)
        return 0.0, Done(Outcome())

    log = run([make_lane("a", 3, delay_s=1.0), make_lane("b", 3, delay_s=1.0, first_row=10)], answer)
    assert log.times("a") == [0.0, 1.0, 2.0]
    assert log.times("b") == [0.75, 1.75, 2.75]  # its first start had to wait for the work of the other lane


def test_the_asking_may_count_the_delay_from_later():
    def answer(lane, request):
        lane.free_at_s = asyncio.get_running_loop().time() + 3.0 + lane.delay_s
        return 4.0, Done(Outcome())

    assert run([make_lane("a", 3, delay_s=2.0)], answer).times("a") == [0.0, 5.0, 10.0]


def test_the_beat_is_heard_every_second_of_a_long_wait():
    log = run([make_lane("a", 2, delay_s=60.0)], lambda _, __: (5.5, Done(Outcome())))
    assert log.beats == [float(second) for second in range(66)]
    busy = run([make_lane("a", 999)], lambda _, __: (0.25, Done(Outcome())))
    assert busy.beats == [float(second) for second in range(250)]


def test_nothing_to_do_is_done():
    log = run([make_lane("a", 0)])
    assert (log.ended, log.beats) == (0.0, [])


def fail(*_):
    raise LookupError("a bug")


@pytest.mark.parametrize("what", ["ask", "finish", "leave", "beat"])
def test_a_bug_ends_the_run_and_cancels_what_is_in_flight(what):
    def answer(lane, request):
        if what == "ask" and request.row == 2:
            fail()
        return (50.0, Done(Outcome())) if request.row < 2 else (1.0, Done(Outcome(trouble=what == "leave")))

    calls = {} if what == "ask" else {what: fail if what != "beat" else beat_twice()}
    lanes = [make_lane("a", 2, connections=2), make_lane("b", 2, first_row=2)]
    with pytest.raises(LookupError, match="a bug"):
        run(lanes, answer, Limits(host_failures=1), **calls)
    assert run.log.cancelled >= 2
    assert run.log.ended <= 1.0


def beat_twice():
    beats = iter([None])
    return lambda: next(beats, fail) and fail()


def test_of_two_bugs_at_once_the_first_is_told():
    def answer(lane, request):
        raise LookupError(f"bug {request.row}")

    with pytest.raises(LookupError, match="bug 0"):
        run([make_lane("a", 2, connections=2)], answer)


def test_an_asking_that_cancels_itself_is_a_bug_and_no_endless_wait():
    def answer(lane, request):
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match=r"asking https://a\.example/0 was cancelled from within"):
        run([make_lane("a", 2)], answer)


@pytest.fixture
def heeds_interrupts():
    """Heed interrupts also where a shell started the tests in the background, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_leaves_nothing_behind():
    def answer(lane, request):
        if request.row == 3:
            signal.raise_signal(signal.SIGINT)
        return 100.0, Done(Outcome())

    with pytest.raises(KeyboardInterrupt):
        run([make_lane("a", 10, delay_s=1.0, connections=8)], answer)
    assert (run.log.cancelled, run.log.finished, run.log.ended) == (4, [], 3.0)


QUARTERS = st.integers(0, 12).map(lambda quarters: quarters / 4)
STEPS = st.tuples(QUARTERS, st.sampled_from(["ok", "trouble", "again", "retry"]), QUARTERS)


@dataclass(frozen=True)
class Plan:
    """A lane to be, and what each of its requests meets, turn by turn; after that all is well."""

    delay_s: float
    connections: int
    start_after_s: float
    steps: list


PLANS = st.builds(Plan, QUARTERS, st.integers(1, 3), QUARTERS, st.lists(st.lists(STEPS, max_size=4), max_size=8))


def lanes_by(plans):
    lanes = [make_lane(str(n), len(plan.steps), first_row=100 * n) for n, plan in enumerate(plans)]
    for lane, plan in zip(lanes, plans, strict=True):
        lane.delay_s, lane.connections, lane.start_after_s = plan.delay_s, plan.connections, plan.start_after_s
    return lanes


def answer_by(plans):
    def answer(lane, request):
        steps = plans[int(lane.key)].steps[request.row % 100]
        took_s, kind, after_s = steps[request.tries] if request.tries < len(steps) else (0.25, "ok", 0.0)
        if kind in ("ok", "trouble"):
            return took_s, Done(Outcome(trouble=kind == "trouble"))
        return took_s, again(request, after_s, kind == "retry")

    return answer


@settings(max_examples=200, deadline=None)
@given(
    st.lists(PLANS, min_size=1, max_size=5),
    st.sampled_from([1, 2, 3, 100]),
    st.sampled_from([1, 2, 3, 1000]),
    st.sampled_from([0.0, 2.5, 10.0, math.inf]),
)
def test_every_request_ends_once_and_every_limit_holds(plans, in_flight, failures, budget_s):
    lanes = lanes_by(plans)
    given = Counter((lane.key, request.row) for lane in lanes for request in lane.requests)
    log = run(lanes, answer_by(plans), Limits(in_flight, budget_s, failures))
    assert Counter(event[1:3] for event in [*log.finished, *log.left]) == given
    assert log.in_flight() <= in_flight
    assert log.tasks <= in_flight + 1
    if given:
        assert all(later - earlier <= 1.0 for earlier, later in pairwise([0.0, *log.beats, log.ended]))
    for lane, plan in zip(lanes, plans, strict=True):
        assert log.in_flight(lane.key) <= plan.connections
        check_pace(log, lane.key, plan)
        check_breaker(log, lane.key, failures)
        if in_flight == 100:
            check_budget(log, lane.key, plan.delay_s, budget_s)


def holds_of(log, key):
    """List when something of a lane was told to wait, until when, and whether the whole lane was."""
    turns = [(time, row, turn) for time, lane, row, turn in log.ends if lane == key and isinstance(turn, Again)]
    return [(time, time + turn.after_s, row, turn.trouble) for time, row, turn in turns]


def check_pace(log, key, plan):
    """Assert that nothing starts before it may, and what starts does so at an instant at which something is over."""
    times, holds = log.times(key), holds_of(log, key)
    assert all(later - earlier >= plan.delay_s for earlier, later in pairwise(times))
    assert all(time >= plan.start_after_s for time in times)
    for time, lane, row in log.starts:
        if lane == key:
            # At the instant itself the turn may have been over before or after the start.
            assert not [h for h in holds if h[0] < time < h[1] and (h[3] or h[2] == row)]
    over = {plan.start_after_s, *(end for end, *_ in log.ends)} | {until for _, until, *_ in holds}
    assert set(times) <= over | {time + plan.delay_s for time in times}


def check_breaker(log, key, failures):
    """Assert that so many failures in a row, and nothing else, end a lane as failing."""
    count, opened = 0, math.inf
    for time, lane, _, turn in log.ends:
        if lane == key:
            count = count + 1 if (turn.trouble if isinstance(turn, Again) else turn.outcome.trouble) else 0
            opened = min(opened, time) if count >= failures else opened
    left = [(time, reason) for time, lane, _, reason in log.left if lane == key]
    assert all(time <= opened for time in log.times(key))
    assert all(time >= opened for time, reason in left if reason == HOST_FAILING)


def check_budget(log, key, delay_s, budget_s):
    """Assert, where no slot was short, that nothing starts after the budget and only what would have is left for it."""
    times = log.times(key)
    assert all(time <= times[0] + budget_s for time in times)
    for left_at, lane, row, reason in log.left:
        if lane == key and reason == HOST_BUDGET:
            holds = [until for at, until, who, whole in holds_of(log, key) if at <= left_at and (whole or who == row)]
            last = max(time for time in times if time <= left_at)
            assert max([left_at, last + delay_s, *holds]) > times[0] + budget_s


def lanes_of(shares, urls, slot_s=0.0):
    return [
        make_lane(
            *(share.key, urls),
            delay_s=share.delay_s,
            connections=share.connections,
            start_after_s=share.start_after_s,
            slot_s=slot_s,
        )
        for share in shares
    ]


@settings(deadline=None)
@given(
    st.integers(0, 200),
    QUARTERS,
    st.builds(Split, st.integers(1, 12), st.integers(1, 50), st.integers(1, 9)),
    st.randoms(use_true_random=False),
)
def test_the_lanes_of_a_host_keep_to_its_limits_together(urls, delay_s, limits, dice: random.Random):
    shares = split_lanes("a.example", urls, delay_s, limits)
    count = len(shares)
    assert count == min(max(1, -(-urls // limits.lane_urls)), limits.max_lanes, limits.host_connections)
    assert len({share.key for share in shares}) == count
    assert sum(share.connections for share in shares) == limits.host_connections
    assert all(share.connections >= 1 for share in shares)
    slot_s = delay_s / 2 if count > 1 else 0.0
    times = []
    for lane in lanes_of(shares, 9, slot_s):
        # Each lane has a process of its own, which begins when it likes.
        begun_s = dice.randrange(4000) / 100
        log = run([lane], lambda _, __: (dice.randrange(40) / 16, Done(Outcome())), wall_s=lambda at=begun_s: at)
        assert log.in_flight() <= lane.connections
        assert log.times(lane.key)[0] >= delay_s
        times += [begun_s + time for time in log.times(lane.key)]
    assert len(times) == 9 * count
    times.sort()
    assert all(later - earlier >= delay_s - slot_s - 1e-4 for earlier, later in pairwise(times))


def test_the_lanes_of_a_host_that_answers_at_once_start_its_delay_apart():
    shares = split_lanes("a.example", 100, 0.5, Split(4, 25, 4))
    assert [share.connections for share in shares] == [1, 1, 1, 1]
    log = run(lanes_of(shares, 25, 0.25), wall_s=lambda: 0.0)
    assert [time for time, *_ in log.starts] == [0.5 * index for index in range(1, 101)]
    seen = defaultdict(list)
    for _, key, row in log.starts:
        seen[key].append(row)
    assert dict(seen) == {f"a.example#{index}": list(range(25)) for index in range(4)}


def test_a_lane_with_slots_starts_once_in_each_and_never_between():
    def answer(lane, request):
        return (3.0 if request.row == 1 else 0.0), Done(Outcome())

    lane = make_lane("a", 5, delay_s=2.0, start_after_s=0.5, slot_s=0.25)
    # 0.5 s from the beginning, at 2.6 on the wall clock, the slot of 2.5 is not over; 3 s end between two slots.
    assert run([lane], answer, wall_s=lambda: 2.1).times("a") == pytest.approx([0.5, 2.4, 6.4, 8.4, 10.4])
    lane = make_lane("a", 2, delay_s=2.0, start_after_s=0.5, slot_s=0.25)
    assert run([lane], wall_s=lambda: 0.8).times("a") == pytest.approx([1.7, 3.7])


def test_a_slot_that_is_missed_by_waiting_for_the_common_limit_costs_the_host_nothing():
    slow = make_lane("slow", 1)
    lane = make_lane("a", 3, delay_s=2.0, slot_s=0.25)
    took = {"slow": 5.0, "a": 0.0}
    log = run([slow, lane], lambda lane, _: (took[lane.key], Done(Outcome())), Limits(1, 4.0), wall_s=lambda: 0.0)
    assert log.times("a") == pytest.approx([6.0, 8.0, 10.0])


def test_a_small_host_has_one_lane_with_its_own_name():
    (share,) = split_lanes("a.example", 25, 0.5, Split(4, 25, 4))
    assert (share.key, share.delay_s, share.connections, share.start_after_s) == ("a.example", 0.5, 4, 0.5)
