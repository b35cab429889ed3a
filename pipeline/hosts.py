"""The robots stage: requests of whole hosts → what each host allows → the queue of what may be asked, by lane.

robots.txt and /.well-known/tdmrep.json, once a host and day → Rules
a request → refused or left, in the ledger, or → queue; what a host bears is shared out to its lanes
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import Any

from pipeline import stage as stages
from pipeline.addresses import refuse_url
from pipeline.download import (
    BAD_ENCODING,
    REDIRECTS,
    REFUSED_ADDRESS,
    TOO_MANY_BYTES,
    TOO_MANY_HEADERS,
    Answer,
    Client,
)
from pipeline.lanes import BEAT_S, HOST_BUDGET, Share, split_lanes
from pipeline.optout import hold_lists
from pipeline.politeness import FetchConfig
from pipeline.rights import MAX_FILE_BYTES, RightsConfig, Robots, Tdmrep, parse_robots, parse_tdmrep
from pipeline.stage import Inputs, Output, Unit
from pipeline.urls import host_of, join_url
from pipeline.web import HOST_CHARS, HOSTS, WebLog, lanes_table, queue_table, recover, requests_table
from schemas.asked import COUNTED_AS, FAILED, PASSING, REFUSED, Asked
from schemas.page import KEY_CHARS, Refusal, key_of

STAGE = "robots"
FRESH = timedelta(hours=24)
"""How long what a host said holds (RFC 9309 2.4)."""
MAX_REDIRECTS = 5
"""Redirects followed for a robots.txt (RFC 9309 2.3.1.2)."""
HOSTS_AT_ONCE = 512
ROWS_AT_ONCE = 50_000
TOO_SLOW_A_HOST = "crawl_delay_too_long"
PARSED = 64
ROBOTS_FILE, TDM_FILE = "robots.txt", "tdmrep.json"
LASTING = {REFUSED_ADDRESS, TOO_MANY_BYTES, TOO_MANY_HEADERS, BAD_ENCODING}
"""Reasons of the client that another try does not change."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a host allows; `failure` says why it could not be asked at all, `files` which of its files were wanted."""

    robots: Robots
    tdmrep: Tdmrep
    failure: str = ""
    files: tuple[str, ...] = (ROBOTS_FILE, TDM_FILE)

    def refuse(self, url: str, rights: RightsConfig) -> Refusal | None:
        """Judge a URL of the host."""
        return self.robots.refuse(url, rights) or self.tdmrep.refuse(url, rights)

    def to_text(self) -> str:
        """Write the rules for a table."""
        robots = self.robots
        told = [robots.status, robots.text, robots.unavailable, robots.crawl_delay_s, self.tdmrep.text]
        return json.dumps([*told, self.failure, self.files], ensure_ascii=False)

    @classmethod
    @functools.lru_cache(maxsize=PARSED)
    def from_text(cls, text: str) -> Rules:
        """Read what `to_text` wrote."""
        status, rules, unavailable, delay_s, reserved, failure, *files = json.loads(text)
        return cls(Robots(status, rules, unavailable, delay_s), Tdmrep(reserved), failure, *map(tuple, files))


@dataclass(frozen=True, slots=True)
class Host:
    """A host whose URLs are wanted: its requests, and what it said before, if that still holds."""

    key: str
    name: str
    requests: list[dict[str, Any]]
    known: str


def greet_hosts(unit: Unit, inputs: Inputs, output: Output, *, kind: str, number: int) -> None:
    """Ask the hosts of a unit what they allow, and judge every request by that."""
    config = output.job.config
    name = f"{kind}-{unit.name}"
    recover(output.folder, name)
    with WebLog(output.folder, name) as log:
        desk = Desk(output, log, kind, number)
        found = by_host(inputs[requests_table(number).directory], inputs[HOSTS.directory], desk)
        while hosts := take(found):
            for host, rules in zip(hosts, asyncio.run(ask_hosts(hosts, config.fetch, config.rights)), strict=True):
                desk.deal(host, rules)


def take(hosts: Iterator[Host]) -> list[Host]:
    """Take the next hosts, as many as may be held at a time."""
    taken: list[Host] = []
    rows = 0
    for host in islice(hosts, HOSTS_AT_ONCE):
        taken.append(host)
        rows += len(host.requests)
        if rows >= ROWS_AT_ONCE:
            break
    return taken


def by_host(requests: Iterable[dict[str, Any]], hosts: Iterable[dict[str, Any]], desk: Desk) -> Iterator[Host]:
    """Gather the requests of each host; what no run could get from it in its time is left at once."""
    said = groupby(hosts, key=lambda row: row["key"][:HOST_CHARS])
    key_said, rows_said = next(said, ("", iter(())))
    for key, rows in groupby(requests, key=lambda row: row["key"][:HOST_CHARS]):
        while key_said and key_said < key:
            key_said, rows_said = next(said, ("", iter(())))
        newest = max(rows_said, key=lambda row: row["asked"], default=None) if key_said == key else None
        fresh = newest is not None and newest["asked"] > datetime.now(UTC) - FRESH
        known = newest["rules"] if newest is not None and fresh else ""
        distinct = (next(same) for _, same in groupby(rows, key=lambda row: row["key"]))
        wanted = list(islice(distinct, desk.bearable))
        for row in distinct:
            desk.write(row, PASSING, HOST_BUDGET, "more than can be asked of a host in a run")
        yield Host(key, host_of(wanted[0]["at"]), wanted, known)


async def ask_hosts(hosts: Sequence[Host], fetch: FetchConfig, rights: RightsConfig) -> list[Rules]:
    """Ask hosts what they allow, many at a time."""
    places = asyncio.Semaphore(fetch.in_flight)

    async def ask(client: Client, host: Host) -> Rules:
        said = Rules.from_text(host.known) if host.known else None
        # What was heard while some refusals were not honoured says nothing of these.
        if said and not said.failure and not said.robots.unavailable and {*files_for(rights)} <= {*said.files}:
            return said
        return await ask_host(client, host, fetch, rights, places)

    async with Client(fetch) as client:
        beating = asyncio.create_task(beat())
        try:
            return await asyncio.gather(*(ask(client, host) for host in hosts))
        finally:
            beating.cancel()


def files_for(rights: RightsConfig) -> tuple[str, ...]:
    """Name the files of a host that say what is honoured."""
    return (ROBOTS_FILE,) * (rights.robots or rights.preferences) + (TDM_FILE,) * rights.tdm


async def beat() -> None:
    """Tell that the loop goes on: a host may take minutes for its redirects, and each request has its time limit."""
    while True:
        stages.PULSE.beat(-1)
        await asyncio.sleep(BEAT_S)


async def ask_host(
    client: Client, host: Host, fetch: FetchConfig, rights: RightsConfig, places: asyncio.Semaphore
) -> Rules:
    """Ask one host for its robots.txt and its tdmrep.json, by the scheme of its first request."""
    root = f"{host.requests[0]['at'].partition('://')[0]}://{host.name}"
    robots, tdmrep = Robots(404), Tdmrep()
    files = files_for(rights)
    if ROBOTS_FILE in files:
        async with places:
            answer = await follow(client, f"{root}/robots.txt")
        if answer.reason and not answer.status and host_of(answer.url) == host.name:
            return Rules(robots, tdmrep, answer.reason)
        robots = parse_robots(answer.status, answer.body, answer.reason)
    reservations = f"{root}/.well-known/tdmrep.json"
    if rights.tdm and robots.crawl_delay_s <= fetch.max_crawl_delay_s and not robots.refuse(reservations, rights):
        await asyncio.sleep(delay_of(Rules(robots, tdmrep), fetch))
        async with places:
            answer = await follow(client, reservations)
        tdmrep = parse_tdmrep(answer.body) if answer.status == 200 and not answer.reason else tdmrep
    return Rules(robots, tdmrep, files=files)


async def follow(client: Client, url: str) -> Answer:
    """Ask for a small file, and where it was moved to, also on another host."""
    answer = await client.get(url, max_bytes=MAX_FILE_BYTES + 1, accept="*/*", cut=True)
    client.release(answer)
    for _ in range(MAX_REDIRECTS):
        to = join_url(answer.url, answer.header("location")) if answer.status in REDIRECTS else None
        if to is None or answer.reason:
            break
        answer = await client.get(to, max_bytes=MAX_FILE_BYTES + 1, accept="*/*", cut=True)
        client.release(answer)
    return answer


def delay_of(rules: Rules, fetch: FetchConfig) -> float:
    """Give the seconds between two requests to a host."""
    return max(fetch.delay_s, min(rules.robots.crawl_delay_s, fetch.max_crawl_delay_s))


class Desk:
    """Judges requests by the rules of their host, and writes down what becomes of them."""

    def __init__(self, output: Output, log: WebLog, kind: str, number: int) -> None:
        self.output = output
        self.log = log
        self.kind = kind
        self.number = number
        self.rights: RightsConfig = output.job.config.rights
        self.listed = hold_lists(self.rights)
        self.fetch: FetchConfig = output.job.config.fetch
        self.bearable = self.most_of(self.fetch.delay_s)

    def most_of(self, delay_s: float) -> int:
        """Count the requests that a host can be asked in its time; no run holds more of one host."""
        return max(1, min(ROWS_AT_ONCE, int(self.fetch.host_budget_s / max(delay_s, 1e-9))))

    def deal(self, host: Host, rules: Rules) -> None:
        """Judge the requests of a host, and deal those that it allows to its lanes."""
        text = rules.to_text()
        if text != host.known:
            row = {"key": host.key.ljust(KEY_CHARS, "0"), "host": host.name, "rules": text}
            self.output.write(HOSTS, row | {"asked": datetime.now(UTC)}, 256 + len(text))
        allowed = [row for row in host.requests if self.allow(row, rules)]
        if not allowed:
            return
        shares = split_lanes(host.name, len(allowed), delay_of(rules, self.fetch), self.fetch)
        keys = [self.write_lane(share, host.name, text) for share in shares]
        for index, row in enumerate(allowed):
            key = keys[index % len(keys)] + row["key"][HOST_CHARS:]
            self.output.write(queue_table(self.number), row | {"key": key})

    def allow(self, row: dict[str, Any], rules: Rules) -> bool:
        """Tell whether a request may be asked; if not, say why in the ledger."""
        url = row["at"]
        if reason := refuse_url(url):
            self.write(row, FAILED, reason)
        elif rules.failure:
            outcome = FAILED if rules.failure in LASTING else PASSING
            self.write(row, outcome, rules.failure, "asked for robots.txt")
        elif refusal := self.listed.refuse(url):
            self.write(row, REFUSED, refusal.reason, refusal.detail)
        elif refusal := rules.refuse(url, self.rights):
            self.write(row, PASSING if rules.robots.unavailable else REFUSED, refusal.reason, refusal.detail)
        elif rules.robots.crawl_delay_s > self.fetch.max_crawl_delay_s:
            self.write(row, REFUSED, TOO_SLOW_A_HOST, f"{rules.robots.crawl_delay_s:g} s")
        else:
            self.output.keep(STAGE, self.unit)
            return True
        return False

    @property
    def unit(self) -> str:
        """What is counted."""
        return COUNTED_AS[self.kind]

    def write(self, row: dict[str, Any], outcome: str, reason: str, detail: str = "") -> None:
        """Add a refusal to the ledger, unless it says again what the last row said."""
        self.output.counts[STAGE, self.unit, reason] += 1
        if outcome != PASSING or reason != row["before"]:
            host = host_of(row["at"])
            told = (row["url"], self.kind, outcome, reason, detail, host)
            self.log.add(Asked(*told, final_url=row["at"], tries=row["tries"], asked=datetime.now(UTC)))

    def write_lane(self, share: Share, host: str, rules: str) -> str:
        """Write a lane of a host; returns what the keys of its requests begin with."""
        key = key_of(share.key)[:HOST_CHARS]
        pace = {"delay_s": share.delay_s, "connections": share.connections, "start_after_s": share.start_after_s}
        row = {"key": key.ljust(KEY_CHARS, "0"), "host": host, "rules": rules}
        self.output.write(lanes_table(self.number), row | pace, 256 + len(rules))
        return key
