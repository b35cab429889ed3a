"""Asking the web: what is wanted and not at hand → requests, host by host → the log and the ledger of the web.

seek        references × captures × ledger (or listed pages × ledger), by URL → requests, keyed by host
robots      requests × what hosts said before, by host: robots.txt and tdmrep.json once a host; what they refuse
            goes to the ledger, the rest → queue, keyed by lane (a large host has several, which share its limits)
download    queue × lanes, by lane: see `turns`; a redirect to another host → requests of the next round

A unit of the last two holds whole hosts, respectively whole lanes, so that what a host bears is kept in one place.
These stages run for every build, with unit names of their own, because what they do hangs on the ledger alone: a URL
that was got, refused or failed for good is not asked for again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.download import REFUSED_ADDRESS, TOO_MANY_BYTES
from pipeline.fetch import best_capture, by_key
from pipeline.filters import judge_address
from pipeline.folder import Folder
from pipeline.hosts import TOO_SLOW_A_HOST, greet_hosts
from pipeline.optout import hold_lists
from pipeline.rights import (
    CONTENT_SIGNAL,
    CONTENT_USAGE,
    META_ROBOTS,
    ROBOTS_DISALLOWED,
    TDM_RESERVATION,
    X_ROBOTS_TAG,
)
from pipeline.stage import Execute, Inputs, Job, Output, Stage, Unit, fingerprint, marker_name
from pipeline.tables import ASKED, CAPTURES, REFERENCES, VIDEO_REFERENCES, KeyRange, Table, key_ranges, parts_of
from pipeline.turns import TOO_MANY_REDIRECTS, download_lanes
from pipeline.web import (
    HOST_CHARS,
    HOSTS,
    LISTED,
    is_settled,
    lanes_table,
    last_said,
    newest,
    queue_table,
    recover,
    requests_table,
    write_request,
)
from schemas.asked import COUNTED_AS, FAILED, IMAGE, PAGE, REFUSED, VIDEO, Asked
from schemas.config import to_tree
from schemas.page import KEY_CHARS

RUN_FILE = "web/run.json"
SEEK_ROWS = 200_000
"""Rows of references that a unit of `seek` compares with the ledger."""
HOST_ROWS = 500
"""Requests that are worth a unit of their own; more units than `MAX_UNITS` only where each is full."""
MAX_UNITS = 32
FULL_ROWS = 100_000


SOUGHT_IN = {
    PAGE: (LISTED, ASKED),
    IMAGE: (REFERENCES, CAPTURES, ASKED),
    VIDEO: (VIDEO_REFERENCES, CAPTURES, ASKED),
}
"""Where it says what is wanted, and then what is at hand."""
SWITCHES = {
    ROBOTS_DISALLOWED: "robots",
    CONTENT_SIGNAL: "preferences",
    CONTENT_USAGE: "preferences",
    X_ROBOTS_TAG: "tags",
    META_ROBOTS: "tags",
    TDM_RESERVATION: "tdm",
}
"""Which field of `RightsConfig` makes a refusal count."""
MAX_BYTES = {PAGE: "max_page_bytes", IMAGE: "max_bytes", VIDEO: "max_video_bytes"}
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def ask_web(job: Job, kind: str, rows: int, execute: Execute) -> None:
    """Ask for all pages or images that are wanted, not at hand and not settled; `rows` of tables say what is wanted."""
    recover(job.folder)
    run = next_run(job.folder)
    for stage in ("seek", "robots", "download"):
        for name in job.folder.names(f"work/done/{stage}"):
            job.folder.remove(f"work/done/{stage}/{name}")
    rounds = job.config.fetch.max_redirects + 2
    for number in range(rounds):
        for table in (requests_table(number), queue_table(number), lanes_table(number)):
            clear(job.folder, table)
    found = run_stage(job, execute, seek_stage(kind), key_ranges(max(1, -(-rows // SEEK_ROWS))), run, kind)
    for number in range(rounds):
        waiting = found.get(requests_table(number).directory, 0)
        if not waiting:
            break
        hosts = host_ranges(max(min(waiting // HOST_ROWS, MAX_UNITS), -(-waiting // FULL_ROWS), 1))
        found = run_stage(job, execute, greet_stage(kind, number), hosts, run, number)
        found = run_stage(job, execute, download_stage(kind, number), hosts, run, number)


def seek_stage(kind: str) -> Stage:
    """Give the stage that finds what is to be asked for."""
    return Stage("seek", SOUGHT_IN[kind], (requests_table(0),), functools.partial(seek, kind=kind))


def greet_stage(kind: str, number: int) -> Stage:
    """Give the stage that asks hosts for their rules, in a round."""
    writes = (HOSTS, queue_table(number), lanes_table(number))
    run = functools.partial(greet_hosts, kind=kind, number=number)
    return Stage("robots", (requests_table(number), HOSTS), writes, run)


def download_stage(kind: str, number: int) -> Stage:
    """Give the stage that asks for what hosts allow, in a round."""
    run = functools.partial(download_lanes, kind=kind, number=number)
    return Stage("download", (queue_table(number), lanes_table(number)), (requests_table(number + 1),), run)


def run_stage(job: Job, execute: Execute, stage: Stage, works: Sequence[KeyRange], *names: object) -> dict[str, int]:
    """Run a stage whose units no earlier run can have done; returns how many rows it wrote to each table."""
    units = [Unit(stage.name, fingerprint(stage.name, *names, work.index, len(works)), work) for work in works]
    execute(stage, units, 0)
    written: dict[str, int] = {}
    for unit in units:
        marker = job.folder.read_json(marker_name(stage.name, unit.name))
        for directory, told in marker["tables"].items():
            written[directory] = written.get(directory, 0) + told["rows"]
    return written


def next_run(folder: Folder) -> int:
    """Count the runs that asked the web: units of different runs have different names."""
    run = int((folder.read_json(RUN_FILE) or {"run": 0})["run"]) + 1
    folder.write_json(RUN_FILE, {"run": run})
    return run


def clear(folder: Folder, table: Table) -> None:
    """Delete what an earlier run left in a table of this one."""
    folder.remove_leftovers(table.directory)
    for part in parts_of(folder, table):
        folder.remove(f"{table.directory}/{part}")


def host_ranges(count: int) -> list[KeyRange]:
    """Cut the space of request keys so that a host, which is the first half of the key, is never cut."""
    bounds = [each.lo[:HOST_CHARS] + "0" * (KEY_CHARS - HOST_CHARS) for each in key_ranges(count)]
    return [KeyRange(lo, hi, index) for index, (lo, hi) in enumerate(zip(bounds, [*bounds[1:], ""], strict=True))]


def seek(unit: Unit, inputs: Inputs, output: Output, *, kind: str) -> None:
    """Write a request for every URL of a key range that is neither at hand nor settled."""
    for url, before in to_ask(inputs, output.job, kind):
        output.keep("seek", COUNTED_AS[kind])
        write_request(output, requests_table(0), url, url, before=before)


def to_ask(inputs: Inputs, job: Job, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the URLs that must be asked for, each with the reason of its last passing failure."""
    settings = fingerprint(to_tree(job.config.media))
    wanted, *held = SOUGHT_IN[kind]
    listed = hold_lists(job.config.rights)
    for rows, *found in by_key(inputs, wanted.directory, *(table.directory for table in held)):
        url, asked, last = rows[0]["url"], newest(found[-1], kind), last_said(found[-1], kind)
        at_hand = kind != PAGE and not isinstance(best_capture(found[0]), str)
        # What was got before may be of other settings, and may have gone since.
        lost = last is not None and last.outcome in (REFUSED, FAILED)
        lifted = lost and last is not None and is_lifted(last, job.config)
        done = not lifted if lost else is_settled(asked, settings)
        refused = listed.refuse(url) or (kind == IMAGE and judge_address(url, job.config.filters.images.url_words))
        settled = at_hand or done or refused
        if url.startswith("http") and not settled:
            yield url, last.reason if last else ""


def is_lifted(asked: Asked, config: Any) -> bool:
    """Tell whether a URL was refused, or failed, for something that the settings do not hold against it any more."""
    if asked.reason in SWITCHES:
        return not getattr(config.rights, SWITCHES[asked.reason])
    if asked.reason == REFUSED_ADDRESS:
        return bool(config.fetch.allow_private)
    number = NUMBER.search(asked.detail)
    if number is None:
        return False
    told = float(number[0])
    if asked.reason == TOO_SLOW_A_HOST:
        return told <= float(config.fetch.max_crawl_delay_s)
    if asked.reason == TOO_MANY_BYTES:
        return told < int(getattr(config.fetch, MAX_BYTES[asked.kind]))
    return asked.reason == TOO_MANY_REDIRECTS and told < int(config.fetch.max_redirects)
