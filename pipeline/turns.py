"""The download stage: a unit's lanes → answers, each judged, normalised and written down as it comes.

    request → Client.get → judge → the turn of its lane (again, or done) → the log and the ledger of the web

The network waits on the event loop; pictures are decoded in one thread beside it, one at a time, so that the
supervisor knows which one a worker died of.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pyarrow.parquet as pq

from pipeline import stage as stages
from pipeline.addresses import refuse_url
from pipeline.download import REDIRECTS, Answer, Client
from pipeline.hosts import LASTING, Rules
from pipeline.lanes import Again, Done, Lane, Request, Turn, run_lanes
from pipeline.media import normalise_image
from pipeline.optout import OptOut, hold_lists
from pipeline.rights import refuse_headers
from pipeline.sources import PAGE_TYPES, looks_like_html
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit, fingerprint
from pipeline.tables import ASKED
from pipeline.urls import host_of, join_url
from pipeline.web import (
    HOST_CHARS,
    ORIGINAL,
    WebLog,
    lanes_table,
    ledger_stamp,
    queue_table,
    recover,
    requests_table,
    write_request,
)
from schemas.asked import COUNTED_AS, FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED, VIDEO, Asked
from schemas.config import to_tree
from schemas.media import REJECTED, STORED, Media
from schemas.page import key_of

STAGE = "download"
AT_ONCE = 50_000
"""Requests that are worth a batch; the next ones wait until these are done. A lane has no more than `ROWS_AT_ONCE`."""
RULES_CHARS = 64_000_000
"""Characters of hosts' rules that end a batch too."""
OK = 200
LATER = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that another try may change."""
NO_LOCATION = "redirect_without_location"
TOO_MANY_REDIRECTS = "too_many_redirects"
NOT_A_PAGE = "not_a_page"
Batch = list[dict[str, Any]]
Shares = dict[str, dict[str, Any]]
ACCEPT = {
    IMAGE: "image/avif,image/webp,image/*;q=0.8,*/*;q=0.5",
    PAGE: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
    VIDEO: "video/mp4,video/webm,video/*;q=0.8,text/vtt;q=0.8,*/*;q=0.5",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a request came to: a ledger row, and the record of what was got."""

    asked: Asked
    record: tuple[str, str, bytes] | None = None
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """A redirect to another host, which is another unit's to ask."""

    at: str
    trouble: bool = False


def download_lanes(unit: Unit, inputs: Inputs, output: Output, *, kind: str, number: int) -> None:
    """Ask for everything in the lanes of a unit."""
    config = output.job.config
    name = f"{ORIGINAL if kind == IMAGE and config.fetch.keep == ORIGINAL else kind}-{unit.name}"
    recover(output.folder, name)
    done = keys_in_log(output, name)
    rows = (row for row in inputs[queue_table(number).directory] if row["key"][HOST_CHARS:] not in done)
    with WebLog(output.folder, name) as log, ThreadPoolExecutor(1) as decoder:
        download = Download(output, log, decoder, kind, number)
        for batch, shares in batches(rows, inputs[lanes_table(number).directory]):
            asyncio.run(download.run(batch, shares))


def batches(rows: Iterable[dict[str, Any]], lanes: Iterable[dict[str, Any]]) -> Iterator[tuple[Batch, Shares]]:
    """Cut the rows of a queue between lanes: what a lane has used of its time and patience holds for all of it.

    Both are sorted by key, and each batch comes with its lanes alone: rules may be long, and hosts many.
    """
    batch: Batch = []
    shares: Shares = {}
    rules_chars, found = 0, iter(lanes)
    for key, lane in groupby(rows, key=lambda row: str(row["key"][:HOST_CHARS])):
        shares[key] = next(share for share in found if share["key"][:HOST_CHARS] == key)
        batch.extend(lane)
        rules_chars += len(shares[key]["rules"])
        if len(batch) >= AT_ONCE or rules_chars >= RULES_CHARS:
            yield batch, shares
            batch, shares, rules_chars = [], {}, 0
    if batch:
        yield batch, shares


def keys_in_log(output: Output, name: str) -> set[str]:
    """Name what an earlier try of a unit has asked for."""
    keys: set[str] = set()
    for part in ledger_stamp(output.folder, name):
        with output.folder.open(f"{ASKED.directory}/{part}") as stream:
            asked = pq.ParquetFile(stream).read(columns=["key"], use_threads=False)
            keys.update(key[:HOST_CHARS] for key in asked["key"].to_pylist())
    return keys


@dataclass(slots=True)
class Download:
    """What the turns of a unit share."""

    output: Output
    log: WebLog
    decoder: ThreadPoolExecutor
    kind: str
    number: int
    config: Any = field(init=False)
    settings: str = field(init=False)
    listed: OptOut = field(init=False)
    decoding: threading.Lock = field(default_factory=threading.Lock)
    client: Client = field(init=False)
    rules: dict[str, Rules] = field(init=False)
    before: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.config = self.output.job.config
        self.settings = fingerprint(to_tree(self.config.media))
        self.listed = hold_lists(self.config.rights)

    async def run(self, batch: Batch, shares: Shares) -> None:
        """Ask for a batch of rows of the queue."""
        lanes: dict[str, Lane] = {}
        self.rules, self.before = {}, []
        for index, row in enumerate(batch):
            key = row["key"][:HOST_CHARS]
            if key not in lanes:
                share = shares[key]
                pace = (share["delay_s"], share["connections"])
                # A part of a host keeps to its slots, of which it uses the first half at most.
                slot_s = share["delay_s"] / self.config.fetch.max_lanes / 2 if is_part(key, share["host"]) else 0.0
                lanes[key] = Lane(key, share["host"], *pace, deque(), share["start_after_s"], slot_s)
                self.rules[key] = Rules.from_text(share["rules"])
            lanes[key].requests.append(Request(row["url"], row["at"], row["hops"], row["tries"], index))
            self.before.append(row["before"])
        async with Client(self.config.fetch) as self.client:
            await run_lanes(
                [*lanes.values()],
                self.take_turn,
                self.finish,
                self.leave,
                self.config.fetch,
                self.beat,
            )

    def beat(self) -> None:
        """Tell that the loop goes on, unless a picture is being decoded: one that never ends must be noticed."""
        if self.decoding.acquire(blocking=False):
            stages.PULSE.beat(-1)
            self.decoding.release()

    async def take_turn(self, lane: Lane, request: Request) -> Turn[Entry | Moved]:
        """Ask once, and say what comes next."""
        fetch = self.config.fetch
        limit = {IMAGE: fetch.max_bytes, PAGE: fetch.max_page_bytes, VIDEO: fetch.max_video_bytes}[self.kind]
        answer = await self.client.get(request.at, max_bytes=limit, accept=ACCEPT[self.kind])
        try:
            return await self.answer_turn(lane, replace(request, tries=request.tries + 1), answer)
        finally:
            self.client.release(answer)

    async def answer_turn(self, lane: Lane, request: Request, answer: Answer) -> Turn[Entry | Moved]:
        """Say what an answer means for its lane, and keep what was got."""
        fetch = self.config.fetch
        verdict = judge(answer, request, self.rules[lane.key], self.kind, self.config, self.listed)
        match verdict:
            case Retry():
                return Again(request, verdict.after_s, trouble=True)
            case Moved() if host_of(verdict.at) == lane.host:
                return Again(replace(request, at=verdict.at, hops=request.hops + 1), 0.0, trouble=False)
            case Moved():
                return Done(verdict)
            case Asked() if verdict.outcome == GOT:
                return Done(await self.store(verdict, answer))
            case Asked() if verdict.outcome == PASSING and (pause_s := asked_pause_s(answer, fetch)):
                lane.free_at_s = max(lane.free_at_s, asyncio.get_running_loop().time() + pause_s)
        return Done(Entry(verdict, trouble=verdict.outcome == PASSING))

    async def store(self, asked: Asked, answer: Answer) -> Entry:
        """Make the record of what was got: the answer as it came, or the normalised image."""
        if self.kind != IMAGE or self.config.fetch.keep == ORIGINAL:
            return Entry(asked, ("response", "application/http; msgtype=response", http_block(answer)))
        loop = asyncio.get_running_loop()
        media, data = await loop.run_in_executor(self.decoder, self.normalise, asked, answer.body)
        asked = replace(asked, media=media, settings=self.settings)
        return Entry(asked, ("conversion", f"image/{media.format}", data) if media.status == STORED else None)

    def normalise(self, asked: Asked, body: bytes) -> tuple[Media, bytes]:
        """Normalise a picture, unless it was set aside; runs beside the event loop."""
        with self.decoding:
            set_aside = self.output.begin(int(asked.key[-15:], 16))
            if set_aside is not None:
                return Media(asked.url, REJECTED, SET_ASIDE, set_aside), b""
            made = normalise_image(asked.url, body, self.config.media)
            stages.PULSE.beat(-1)
            return made

    def finish(self, lane: Lane, request: Request, entry: Entry | Moved) -> None:
        """Write down what a request came to."""
        if isinstance(entry, Moved):
            names = (request.url, entry.at, request.hops + 1, request.tries + 1, self.before[request.row])
            write_request(self.output, requests_table(self.number + 1), *names)
            return
        self.write(entry.asked, request, entry.record)

    def leave(self, lane: Lane, request: Request, reason: str) -> None:
        """Write down that a request was left for a later run."""
        moment = datetime.now(UTC)
        asked = Asked(request.url, self.kind, PASSING, reason, host=lane.host, tries=request.tries, asked=moment)
        self.write(asked, request)

    def write(self, asked: Asked, request: Request, record: tuple[str, str, bytes] | None = None) -> None:
        """Add a row to the ledger, unless it says again what the last one said."""
        unit = COUNTED_AS[self.kind]
        if asked.outcome == GOT:
            self.output.keep(STAGE, unit)
        else:
            self.output.counts[STAGE, unit, asked.reason] += 1
        if asked.outcome != PASSING or asked.reason != self.before[request.row]:
            self.log.add(asked, record)


def is_part(key: str, host: str) -> bool:
    """Tell whether a lane shares its host with others: alone it has the host's own name."""
    return key != key_of(host)[:HOST_CHARS]


@dataclass(frozen=True, slots=True)
class Retry:
    """An answer that another try may change, after a wait."""

    after_s: float


def judge(
    answer: Answer, request: Request, rules: Rules, kind: str, config: Any, listed: OptOut
) -> Asked | Moved | Retry:
    """Decide what an answer means for its request, whose `tries` count this one."""
    told = Asked(
        url=request.url,
        kind=kind,
        outcome=GOT,
        host=host_of(request.at),
        status=answer.status,
        final_url=request.at,
        tries=request.tries,
        seconds=answer.seconds,
        bytes=len(answer.body),
        asked=datetime.now(UTC),
    )
    fetch = config.fetch
    if answer.reason in LASTING:
        return replace(told, outcome=FAILED, reason=answer.reason, detail=answer.detail)
    if answer.reason or answer.status in LATER:
        tries = request.tries - request.hops
        pause_s = asked_pause_s(answer, fetch)
        if tries < fetch.tries and pause_s < math.inf:
            return Retry(max(pause_s, fetch.backoff_s * 2 ** (tries - 1)))
        reason = answer.reason or f"http_{answer.status}"
        detail = answer.detail or f"asks for a pause: {answer.header('retry-after')}"[:200] * (pause_s > 0)
        return replace(told, outcome=PASSING, reason=reason, detail=detail)
    if answer.status in REDIRECTS:
        return judge_redirect(answer, request, told, rules, config, listed)
    if answer.status != OK:
        return replace(told, outcome=FAILED, reason=f"http_{answer.status}")
    refusal = refuse_headers(answer.headers, config.rights, image=kind == IMAGE)
    if refusal is not None:
        return replace(told, outcome=REFUSED, reason=refusal.reason, detail=refusal.detail)
    if kind == PAGE and not is_page(answer):
        return replace(told, outcome=FAILED, reason=NOT_A_PAGE, detail=answer.header("content-type"))
    return told


def judge_redirect(
    answer: Answer, request: Request, told: Asked, rules: Rules, config: Any, listed: OptOut
) -> Asked | Moved:
    """Follow a redirect as far as the limits and the rules of the same host go; another host judges for itself."""
    to = join_url(request.at, answer.header("location"))
    if to is None or not to.startswith("http"):
        return replace(told, outcome=FAILED, reason=NO_LOCATION, detail=answer.header("location")[:200])
    if request.hops >= config.fetch.max_redirects:
        return replace(told, outcome=FAILED, reason=TOO_MANY_REDIRECTS, detail=f"{request.hops} redirects, then {to}")
    if reason := refuse_url(to):
        return replace(told, outcome=FAILED, reason=reason, detail=to)
    refusal = listed.refuse(to)
    if refusal is None and host_of(to) == host_of(request.at):
        refusal = rules.refuse(to, config.rights)
    if refusal is not None:
        return replace(told, outcome=REFUSED, reason=refusal.reason, detail=f"redirected to {to}")
    return Moved(to)


def asked_pause_s(answer: Answer, fetch: Any) -> float:
    """Say how long a host asks to be left alone, by a status that another try may change; 0 where it does not.

    Infinite where it asks for more than a run waits: its lane is then left for a later run.
    """
    wanted = answer.header("retry-after") if answer.status in LATER else ""
    pause_s = 0.0
    if wanted.isascii() and wanted.isdigit():
        pause_s = float(wanted[:9])
    elif wanted:
        with contextlib.suppress(ValueError, OverflowError):
            pause_s = seconds_until(email.utils.parsedate_to_datetime(wanted))
    return pause_s if pause_s <= fetch.max_retry_after_s else math.inf


def seconds_until(moment: datetime) -> float:
    """Count the seconds until a moment, 0 where it has passed; one without a zone is in UTC."""
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def is_page(answer: Answer) -> bool:
    """Tell whether an answer is HTML, by what it says or else by its first bytes."""
    kind = answer.header("content-type").partition(";")[0].strip().lower()
    return kind in PAGE_TYPES or (not kind and looks_like_html(answer.body))


REWRITTEN = {"content-encoding", "transfer-encoding", "content-length"}


def http_block(answer: Answer) -> bytes:
    """Write an answer as HTTP; headers that speak of the body as it was sent are kept under another name."""
    lines = [f"HTTP/1.1 {answer.status} "]
    for name, value in answer.headers:
        lines.append(f"{'x-crawler-' * (name in REWRITTEN)}{name}: {' '.join(value.split())}")
    lines.append(f"content-length: {len(answer.body)}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + answer.body
