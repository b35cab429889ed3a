"""The robots stage: whole hosts, what they said before, and what becomes of each of their requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import hosts, optout
from pipeline import stage as stages
from pipeline.build import BuildConfig
from pipeline.download import Answer
from pipeline.folder import Folder
from pipeline.hosts import Desk, Host, Rules, by_host, delay_of, take
from pipeline.rights import Robots, Tdmrep, parse_robots, parse_tdmrep
from pipeline.stage import Job, Output, Unit
from pipeline.web import HOST_CHARS, HOSTS, lanes_table, queue_table
from schemas.asked import FAILED, IMAGE, PASSING, REFUSED
from schemas.config import with_overrides
from schemas.page import KEY_CHARS, key_of

OPEN = Rules(Robots(404), Tdmrep())


class Log:
    """Keeps the ledger's rows."""

    def __init__(self):
        self.rows = []

    def add(self, asked):
        self.rows.append(asked)


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


def make_desk(folder, *settings):
    config = with_overrides(BuildConfig(), list(settings))
    return Desk(Output(Job(Folder(str(folder)), config), Unit("robots", "u", None), {}), Log(), IMAGE, 0)


def request(url, at="", before=""):
    host = (at or url).partition("://")[2].partition("/")[0]
    key = key_of(host)[:HOST_CHARS] + key_of(url)[:HOST_CHARS]
    return {"key": key, "url": url, "at": at or url, "hops": 0, "tries": 0, "before": before}


def requests(*urls):
    return sorted(map(request, urls), key=lambda row: row["key"])


def said(host, rules, age=timedelta()):
    key = key_of(host)[:HOST_CHARS].ljust(KEY_CHARS, "0")
    return {"key": key, "host": host, "rules": rules.to_text(), "asked": datetime.now(UTC) - age}


def told(desk):
    return {each.url: (each.outcome, each.reason) for each in desk.log.rows}


def rows_of(desk, table):
    writer = desk.output.writers.get(table.directory)
    return writer.rows if writer else []


def host_with(*urls):
    name = urls[0].partition("://")[2].partition("/")[0]
    return Host(key_of(name)[:HOST_CHARS], name, requests(*urls), "")


# Gathering


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 5)), max_size=40), st.sets(st.sampled_from("abcdef"))
)
def test_each_request_is_with_its_host_once(tmp_path_factory, wanted, known):
    desk = make_desk(tmp_path_factory.mktemp("hosts"))
    rows = requests(*(f"https://{host}.example/{n}" for host, n in wanted))
    heard = sorted((said(f"{host}.example", OPEN) for host in known), key=lambda row: row["key"])
    found = list(by_host(rows, heard, desk))
    assert Counter(row["url"] for host in found for row in host.requests) == dict.fromkeys({r["url"] for r in rows}, 1)
    assert {host.name: bool(host.known) for host in found} == {f"{h}.example": h in known for h, _ in wanted}
    assert all(host.key == key_of(host.name)[:HOST_CHARS] for host in found)


def test_what_a_host_said_holds_for_a_day_and_the_newest_counts(desk):
    old, new = Rules(Robots(404), Tdmrep()), Rules(Robots(404), Tdmrep("1 /"))
    rows = requests("https://a.example/1")

    def known(*heard):
        return next(by_host(rows, heard, desk)).known

    assert known(said("a.example", old, timedelta(hours=23))) == old.to_text()
    assert known(said("a.example", old, timedelta(hours=25))) == ""
    assert (
        known(said("a.example", old, timedelta(hours=2)), said("a.example", new, timedelta(hours=1))) == new.to_text()
    )
    assert known() == ""


def test_what_no_run_can_ask_of_a_host_is_left_at_once(tmp_path):
    desk = make_desk(tmp_path, "fetch.delay_s=10", "fetch.host_budget_s=40")
    (host,) = by_host(requests(*(f"https://a.example/{n}" for n in range(9))), [], desk)
    assert len(host.requests) == desk.bearable == 4
    assert set(told(desk).values()) == {(PASSING, "host_budget")}
    assert {*told(desk), *(row["url"] for row in host.requests)} == {f"https://a.example/{n}" for n in range(9)}


def test_so_many_hosts_are_taken_as_may_be_held(monkeypatch):
    monkeypatch.setattr(hosts, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(hosts, "HOSTS_AT_ONCE", 3)
    found = iter([Host("k", str(n), [{}] * count, "") for n, count in enumerate((1, 1, 1, 4, 4, 1))])
    taken = [[host.name for host in each] for each in iter(lambda: take(found), [])]
    assert taken == [["0", "1", "2"], ["3", "4"], ["5"]]


def test_rules_are_the_same_after_a_table():
    for rules in (
        OPEN,
        Rules(parse_robots(200, b"user-agent: *\ndisallow: /x\ncrawl-delay: 3"), parse_tdmrep(b"[]")),
        Rules(Robots(503, unavailable="status_503"), Tdmrep("1 /gallery/"), "timed_out"),
    ):
        assert Rules.from_text(rules.to_text()) == rules


def test_the_larger_delay_counts_up_to_the_largest_that_is_waited_for():
    config = BuildConfig().fetch

    def delay(crawl_delay_s):
        return delay_of(Rules(Robots(200, crawl_delay_s=crawl_delay_s), Tdmrep()), config)

    assert [delay(0.0), delay(5.0), delay(999.0)] == [config.delay_s, 5.0, config.max_crawl_delay_s]


def test_hosts_that_take_long_are_no_standstill(monkeypatch):
    class Told(stages.Pulse):
        """Counts the beats."""

        beats = 0

        def beat(self, position):
            self.beats += 1

    async def ask_slowly(*_):
        async with asyncio.timeout(20):
            while stages.PULSE.beats < 3:
                await asyncio.sleep(0.001)
        return OPEN

    monkeypatch.setattr(stages, "PULSE", Told())
    monkeypatch.setattr(hosts, "BEAT_S", 0.001)
    monkeypatch.setattr(hosts, "ask_host", ask_slowly)
    config = BuildConfig()
    found = asyncio.run(hosts.ask_hosts([host_with("https://a.example/1")], config.fetch, config.rights))
    assert found == [OPEN]


SWITCHES = {"robots": {"robots.txt"}, "preferences": {"robots.txt"}, "tdm": {"tdmrep.json"}}


@pytest.mark.parametrize("before", [(), ("tdm",), ("robots",), ("preferences", "tdm"), tuple(SWITCHES)])
@pytest.mark.parametrize("now", [(), ("tdm",), ("robots", "tdm"), tuple(SWITCHES)])
def test_what_was_not_honoured_when_a_host_was_asked_is_asked_again(monkeypatch, before, now):
    asked = []

    class Web:
        """Refuses everything by both files."""

        def __init__(self, *_):
            pass

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def get(self, url, **_):
            asked.append(url.rpartition("/")[2])
            body = b'[{"location": "/", "tdm-reservation": 1}]' if "tdm" in url else b"user-agent: *\ndisallow: /1"
            return Answer(url, 200, (), body)

        def release(self, answer):
            pass

    def ask(switched_on, known):
        config = with_overrides(
            BuildConfig(), [f"rights.{name}={str(name in switched_on).lower()}" for name in SWITCHES]
        )
        host = Host("k", "a.example", requests("https://a.example/1"), known)
        (rules,) = asyncio.run(hosts.ask_hosts([host], replace(config.fetch, delay_s=0), config.rights))
        return rules, config.rights

    monkeypatch.setattr(hosts, "Client", Web)
    first, _ = ask(before, "")
    asked.clear()
    rules, rights = ask(now, first.to_text())
    wanted, had = (set().union(*(SWITCHES[name] for name in names)) for names in (now, before))
    assert set(asked) == (set() if wanted <= had else wanted)
    assert bool(rules.refuse("https://a.example/1", rights)) == bool({"robots", "tdm"} & {*now})


# Judging

URLS = ("https://a.example/1", "https://a.example/secret/2")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (OPEN, [None, None]),
        (
            Rules(parse_robots(200, b"user-agent: *\ndisallow: /secret"), Tdmrep()),
            [None, (REFUSED, "robots_disallowed")],
        ),
        (Rules(parse_robots(200, b"content-signal: ai-train=no"), Tdmrep()), [(REFUSED, "content_signal")] * 2),
        (Rules(Robots(404), Tdmrep("1 /secret/")), [None, (REFUSED, "tdm_reservation")]),
        (Rules(Robots(503, unavailable="status_503"), Tdmrep()), [(PASSING, "robots_unavailable")] * 2),
        (Rules(Robots(404), Tdmrep(), "timed_out"), [(PASSING, "timed_out")] * 2),
        (Rules(Robots(404), Tdmrep(), "refused_address"), [(FAILED, "refused_address")] * 2),
        (Rules(Robots(200, crawl_delay_s=61.0), Tdmrep()), [(REFUSED, "crawl_delay_too_long")] * 2),
    ],
)
def test_every_request_is_judged_by_the_rules_of_its_host(desk, rules, expected):
    desk.deal(host_with(*URLS), rules)
    assert [told(desk).get(url) for url in URLS] == expected
    queued = {row["url"] for row in rows_of(desk, queue_table(0))}
    assert queued == {url for url, said in zip(URLS, expected, strict=True) if said is None}
    (known,) = rows_of(desk, HOSTS)
    assert (known["host"], known["rules"]) == ("a.example", rules.to_text())
    assert sum(desk.output.counts.values()) == len(URLS)


def test_a_url_that_must_not_be_asked_is_not(desk):
    desk.deal(host_with("https://a.example:22/1"), OPEN)
    assert told(desk) == {"https://a.example:22/1": (FAILED, "port_not_allowed")}


def test_a_redirect_leads_to_nobody_who_opted_out(tmp_path):
    (tmp_path / "list").write_text("b.example\n")
    desk = make_desk(tmp_path, f"rights.opt_out=['{tmp_path}/list']")
    row = request("https://a.example/1", "https://img.b.example/1")
    desk.deal(Host(row["key"][:HOST_CHARS], "img.b.example", [row], ""), OPEN)
    assert told(desk) == {"https://a.example/1": (REFUSED, "opted_out")}


def test_the_lists_are_looked_at_once_and_not_for_every_request(tmp_path, monkeypatch):
    (tmp_path / "list").write_text("b.example\n")
    looks = []
    monkeypatch.setattr(optout, "stat", lambda path: looks.append(path) or (1, "stamp"))
    desk = make_desk(tmp_path, f"rights.opt_out=['{tmp_path}/list']")
    desk.deal(host_with(*(f"https://a.example/{n}" for n in range(9))), OPEN)
    assert len(rows_of(desk, queue_table(0))) == 9
    assert len(looks) == 1


def test_a_failure_that_was_said_before_is_not_written_again(desk):
    again = [request(url, before=before) for url, before in zip(URLS, ("timed_out", "http_503"), strict=True)]
    desk.deal(Host(again[0]["key"][:HOST_CHARS], "a.example", again, ""), Rules(Robots(404), Tdmrep(), "timed_out"))
    assert told(desk) == {URLS[1]: (PASSING, "timed_out")}
    assert desk.output.counts["robots", "image url", "timed_out"] == 2


def test_what_a_host_says_again_is_not_written_again(desk):
    host = host_with(*URLS)
    desk.deal(Host(host.key, host.name, host.requests, OPEN.to_text()), OPEN)
    assert rows_of(desk, HOSTS) == []


def test_the_requests_of_a_large_host_are_dealt_to_its_lanes(tmp_path):
    desk = make_desk(
        tmp_path, "fetch.lane_urls=10", "fetch.max_lanes=3", "fetch.delay_s=0.5", "fetch.host_connections=4"
    )
    desk.deal(host_with(*(f"https://a.example/{n}" for n in range(25))), OPEN)
    lanes, queue = rows_of(desk, lanes_table(0)), rows_of(desk, queue_table(0))
    assert [(lane["delay_s"], lane["connections"]) for lane in lanes] == [(1.5, 2), (1.5, 1), (1.5, 1)]
    assert [lane["key"][:HOST_CHARS] for lane in lanes] == [key_of(f"a.example#{n}")[:HOST_CHARS] for n in range(3)]
    dealt = Counter(row["key"][:HOST_CHARS] for row in queue)
    assert sorted(dealt.values()) == [8, 8, 9]
    assert dealt.keys() == {lane["key"][:HOST_CHARS] for lane in lanes}
    assert {row["key"][HOST_CHARS:] for row in queue} == {key_of(row["url"])[:HOST_CHARS] for row in queue}
