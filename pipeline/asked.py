"""What was and what would be asked of the web: the ledger in, counts by host and reason out (`flamingo fetch`)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from pipeline.ask import SOUGHT_IN, to_ask
from pipeline.folder import CONFIG_FILE, Folder, UserError
from pipeline.report import printable
from pipeline.stage import Job
from pipeline.tables import ASKED, REFERENCES, KeyRange, parts_of, stream_range
from pipeline.timeline import NONE
from pipeline.urls import host_of
from pipeline.web import newest
from schemas.asked import FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED, VIDEO, Asked

EVERYTHING = KeyRange("", "")
LOST = {REFUSED: "refused", FAILED: "failed", PASSING: "to be asked again"}
MAX_HOSTS = 40
"""Hosts that a person is shown; the JSON holds all."""


@dataclass(slots=True)
class HostCount:
    """What was asked of a host: URLs by outcome and reason, bytes that were got, seconds that answers took."""

    host: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0

    def add(self, asked: Asked) -> None:
        """Count a URL."""
        self.counts[asked.outcome, asked.reason] += 1
        self.bytes += asked.bytes if asked.outcome == GOT else 0
        self.seconds += asked.seconds

    def of(self, outcome: str) -> dict[str, int]:
        """Give the counts of an outcome by reason, the most frequent first."""
        return {reason: count for (told, reason), count in self.counts.most_common() if told == outcome}


def count_hosts(folder: Folder) -> list[HostCount]:
    """Count the ledger by host, the host with most URLs first; each URL counts once, by the last word on it."""
    hosts: dict[str, HostCount] = {}
    rows = stream_range(folder, ASKED, EVERYTHING)
    for _, said in groupby(rows, key=lambda row: row["key"]):
        told = list(said)
        for kind in (PAGE, IMAGE, VIDEO):
            asked = newest(told, kind)
            if asked is not None:
                hosts.setdefault(asked.host, HostCount(asked.host)).add(asked)
    return sorted(hosts.values(), key=lambda host: (-host.counts.total(), host.host))


def describe_wanted(folder: Folder, config: Any) -> str:
    """Say how many images, and videos where they are wanted, the web would be asked for, and how long at least.

    Needs the documents; before them nobody knows. The hosts' own Crawl-delay is known only when they are asked.
    """
    job = Job(folder, config)
    hosts: Counter[str] = Counter()
    counted = []
    for kind in (IMAGE, VIDEO) if config.videos.keep != NONE else (IMAGE,):
        inputs = {table.directory: stream_range(folder, table, EVERYTHING) for table in SOUGHT_IN[kind]}
        found = Counter(host_of(url) for url, _ in to_ask(inputs, job, kind))
        hosts += found
        counted.append(f"{found.total():,} {kind}(s)")
    if not hosts:
        extracted = parts_of(folder, REFERENCES)
        return "would ask the web for nothing" if extracted else "what the web is asked for is known after `extract`"
    (largest, most), *_ = hosts.most_common(1)
    seconds = min(most * config.fetch.delay_s, config.fetch.host_budget_s)
    pace = f"{seconds:,.0f} s at least, for {most:,} of {largest} at {config.fetch.delay_s:g} s each"
    return f"would ask the web for {' and '.join(counted)} of {len(hosts):,} host(s): {pace}"


def print_status(folder: Folder, as_json: bool) -> None:
    """Print what became of all that was asked."""
    if folder.read_text(CONFIG_FILE) is None:
        raise UserError(f"{folder.root}: no dataset is built here")
    hosts = count_hosts(folder)
    if as_json:
        for host in hosts:
            counts = {outcome: host.of(outcome) for outcome in sorted({outcome for outcome, _ in host.counts})}
            told = {"host": host.host, "bytes": host.bytes, "seconds": round(host.seconds, 3), **counts}
            print(json.dumps(told, ensure_ascii=False))  # noqa: T201 - this is the terminal
        return
    console = Console()
    if not hosts:
        console.print("nothing was asked of the web")
        return
    everything = HostCount(f"all {len(hosts):,} hosts")
    for host in hosts:
        everything.counts.update(host.counts)
        everything.bytes += host.bytes
        everything.seconds += host.seconds
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    grid.add_column("host", overflow="fold")
    for title in ("asked", "got", "MB", "s each"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("not got", overflow="fold")
    for host in [everything, *hosts[:MAX_HOSTS]]:
        grid.add_row(*cells(host), style="bold" if host is everything else "")
    console.print(grid)
    if len(hosts) > MAX_HOSTS:
        console.print(f"and {len(hosts) - MAX_HOSTS:,} more hosts; --json lists them all")


def cells(host: HostCount) -> list[Text]:
    """Write the row of a host."""
    total, got = host.counts.total(), sum(host.of(GOT).values())
    figures = (f"{total:,}", f"{got:,}", f"{host.bytes / 1e6:,.1f}", f"{host.seconds / total:.2f}")
    lost = [
        f"{count:,} {told}: {reason}" for outcome, told in LOST.items() for reason, count in host.of(outcome).items()
    ]
    return [Text(printable(host.host)), *map(Text, figures), Text("\n".join(map(printable, lost)))]
