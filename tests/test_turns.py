"""What an answer means for its request: every case of `judge`, and how a unit of the download is held together."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_dataset import jpeg

from pipeline import stage as stages
from pipeline import turns
from pipeline.build import BuildConfig
from pipeline.download import Answer
from pipeline.folder import Folder
from pipeline.hosts import Rules
from pipeline.lanes import Request
from pipeline.optout import OptOut
from pipeline.politeness import FetchConfig
from pipeline.rights import Tdmrep, parse_robots
from pipeline.stage import SET_ASIDE, Job, Output, Unit
from pipeline.turns import Download, Moved, Retry, asked_pause_s, batches, http_block, is_part, judge
from pipeline.web import HOST_CHARS
from schemas.asked import FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED, Asked
from schemas.page import key_of

CONFIG = BuildConfig()
URL = "https://a.example/i.jpg"
RULES = Rules(parse_robots(200, b"User-agent: *\nDisallow: /secret"), Tdmrep())
NOBODY = OptOut.hold([])
JPEG, HTML = ("content-type", "image/jpeg"), ("content-type", "text/html; charset=utf-8")


def answer(status=200, *headers, **more):
    return Answer(URL, status, headers, **more)


def to(place, status=302):
    return answer(status, ("location", place))


def ask(hops=0, tries=1, url=URL):
    return Request(URL, url, hops, tries, 0)


def told(verdict):
    return (verdict.outcome, verdict.reason) if isinstance(verdict, Asked) else verdict


LAST = CONFIG.fetch.tries
FAILURES = {"timed_out", "too_slow", "connect_failed", "dns_failed", "tls_failed", "cut_short", "protocol_error"}


@pytest.mark.parametrize(
    ("given", "request_", "kind", "expected"),
    [
        (answer(200, JPEG, body=b"x"), ask(), IMAGE, (GOT, "")),
        (answer(200, ("content-type", "text/html")), ask(), IMAGE, (GOT, "")),  # its bytes decide
        (answer(200, HTML), ask(), PAGE, (GOT, "")),
        (answer(200, ("content-type", "application/xhtml+xml")), ask(), PAGE, (GOT, "")),
        (answer(200, JPEG), ask(), PAGE, (FAILED, "not_a_page")),
        (answer(200, body=b"<!doctype html><title>x</title>"), ask(), PAGE, (GOT, "")),
        (answer(200, body=b"\x89PNG"), ask(), PAGE, (FAILED, "not_a_page")),
        (answer(206), ask(), IMAGE, (FAILED, "http_206")),
        (answer(304), ask(), IMAGE, (FAILED, "http_304")),
        (answer(401), ask(), IMAGE, (FAILED, "http_401")),
        (answer(404), ask(), IMAGE, (FAILED, "http_404")),
        (answer(501), ask(), IMAGE, (FAILED, "http_501")),
        (answer(503), ask(tries=1), IMAGE, Retry(1.0)),
        (answer(503), ask(tries=2), IMAGE, Retry(2.0)),
        (answer(503), ask(tries=LAST), IMAGE, (PASSING, "http_503")),
        (answer(503), ask(hops=3, tries=4), IMAGE, Retry(1.0)),  # a redirect is no try
        (answer(429, ("retry-after", "7")), ask(), IMAGE, Retry(7.0)),
        (answer(429, ("retry-after", "9999")), ask(), IMAGE, (PASSING, "http_429")),
        (answer(200, reason="too_many_bytes"), ask(), IMAGE, (FAILED, "too_many_bytes")),
        (answer(0, reason="refused_address"), ask(), IMAGE, (FAILED, "refused_address")),
        (answer(200, reason="bad_encoding"), ask(), IMAGE, (FAILED, "bad_encoding")),
        (answer(200, reason="too_many_headers"), ask(), IMAGE, (FAILED, "too_many_headers")),
        *((answer(0, reason=reason), ask(tries=1), IMAGE, Retry(1.0)) for reason in sorted(FAILURES)),
        *((answer(0, reason=reason), ask(tries=LAST), IMAGE, (PASSING, reason)) for reason in sorted(FAILURES)),
        (answer(200, JPEG, ("x-robots-tag", "noai")), ask(), IMAGE, (REFUSED, "x_robots_tag")),
        (answer(200, JPEG, ("x-robots-tag", "noimageai")), ask(), IMAGE, (REFUSED, "x_robots_tag")),
        (answer(200, HTML, ("x-robots-tag", "noimageai")), ask(), PAGE, (GOT, "")),
        (answer(200, JPEG, ("tdm-reservation", "1")), ask(), IMAGE, (REFUSED, "tdm_reservation")),
        (answer(404, ("x-robots-tag", "noai")), ask(), IMAGE, (FAILED, "http_404")),
        (to("/j.jpg"), ask(), IMAGE, Moved("https://a.example/j.jpg")),
        (to("//b.example/j.jpg#x", 308), ask(), IMAGE, Moved("https://b.example/j.jpg")),
        (to("http://a.example/i.jpg"), ask(), IMAGE, Moved("http://a.example/i.jpg")),
        (to("http://u:p@b.example/"), ask(), IMAGE, Moved("http://b.example/")),
        (to("/j.jpg"), ask(hops=5, tries=6), IMAGE, (FAILED, "too_many_redirects")),
        (to("/secret/i.jpg"), ask(), IMAGE, (REFUSED, "robots_disallowed")),
        (to("//b.example/secret/i.jpg"), ask(), IMAGE, Moved("https://b.example/secret/i.jpg")),
        (to("http://b.example:22/"), ask(), IMAGE, (FAILED, "port_not_allowed")),
        *(
            (to(place), ask(), IMAGE, (FAILED, "redirect_without_location"))
            for place in ("", "file:///etc/passwd", "mailto:a@b.example", "http://[", "javascript:1")
        ),
        (to("/j.jpg", 300), ask(), IMAGE, (FAILED, "http_300")),
    ],
)
def test_every_answer_is_judged(given, request_, kind, expected):
    assert told(judge(given, request_, RULES, kind, CONFIG, NOBODY)) == expected


def test_a_verdict_says_what_was_asked_and_what_came():
    given = answer(200, JPEG, body=b"12345", seconds=0.5)
    said = judge(given, ask(hops=1, tries=2, url="https://b.example/j.jpg"), RULES, IMAGE, CONFIG, NOBODY)
    assert (said.url, said.final_url, said.host, said.kind) == (URL, "https://b.example/j.jpg", "b.example", IMAGE)
    assert (said.status, said.tries, said.bytes, said.seconds) == (200, 2, 5, 0.5)
    assert datetime.now(UTC) - said.asked < timedelta(minutes=1)


def in_seconds(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def pause(value, status=503):
    return asked_pause_s(answer(status, ("retry-after", value)), FetchConfig())


def test_a_pause_is_asked_for_in_seconds_or_until_a_moment():
    assert [pause(value) for value in ("0", "5", " 5 ", "120", "121", "9" * 400)] == [0, 5, 5, 120, math.inf, math.inf]
    assert 50 < pause(in_seconds(60)) <= 60
    assert (pause(in_seconds(-60)), pause(in_seconds(9999))) == (0, math.inf)
    assert 50 < pause(in_seconds(60).replace("GMT", "-0000")) <= 60


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "\xb2", "5, 5", "Mon, 99 Foo 2026", "1 Jan 99999 00:00 GMT"]
)
def test_what_is_no_pause_is_none(value):
    assert pause(value) == 0


def test_only_a_status_that_may_pass_asks_for_a_pause():
    assert pause("5", 200) == pause("5", 404) == 0


@given(st.text(st.characters(max_codepoint=255)))
def test_any_retry_after_gives_a_number(value):
    assert 0 <= pause(value) <= 120 or pause(value) == math.inf


@given(st.lists(st.sampled_from("abcdef"), max_size=40).map(sorted), st.integers(1, 10))
def test_batches_hold_whole_lanes(lanes, at_once):
    rows = [{"key": lane * HOST_CHARS + str(number)} for number, lane in enumerate(lanes)]
    shares = [{"key": lane * HOST_CHARS + "0", "rules": ""} for lane in "abcdef"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "AT_ONCE", at_once)
        found = list(batches(rows, shares))
    cut = [batch for batch, _ in found]
    assert all(held.keys() == {row["key"][:HOST_CHARS] for row in batch} for batch, held in found)
    assert [row for batch in cut for row in batch] == rows
    in_batches = [key for batch in cut for key, _ in groupby(batch, key=lambda row: row["key"][0])]
    assert len(in_batches) == len(set(in_batches))
    assert all(len(batch) >= at_once for batch in cut[:-1])


def test_a_batch_holds_so_many_rules_as_fit(monkeypatch):
    monkeypatch.setattr(turns, "RULES_CHARS", 100)
    rows = [{"key": lane * HOST_CHARS + "0"} for lane in "abcdef"]
    read = []

    def lanes():
        for lane in "abcdef":
            read.append(lane)
            yield {"key": lane * HOST_CHARS + "0", "rules": "x" * 60}

    cut = batches(rows, lanes())
    assert [len(batch) for batch in (next(cut)[0], next(cut)[0])] == [2, 2]
    assert read == list("abcd")


def test_a_lane_is_a_part_unless_it_has_the_name_of_its_host():
    assert not is_part(key_of("a.example")[:HOST_CHARS], "a.example")
    assert is_part(key_of("a.example#0")[:HOST_CHARS], "a.example")


def test_an_answer_is_kept_as_http():
    given = answer(200, ("content-encoding", "gzip"), ("x", "a\r\n b"), ("content-length", "3"), body=b"body")
    head, _, body = http_block(given).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 ",
        b"x-crawler-content-encoding: gzip",
        b"x: a b",
        b"x-crawler-content-length: 3",
        b"content-length: 4",
    ]
    assert body == b"body"


class Told(stages.Pulse):
    """Remembers what it was told."""

    def __init__(self):
        self.positions = []

    def beat(self, position):
        self.positions.append(position)


@pytest.fixture
def download(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "PULSE", Told())
    output = Output(Job(Folder(str(tmp_path)), CONFIG), Unit("download", "u", None), {})
    with ThreadPoolExecutor(1) as decoder:
        yield Download(output, None, decoder, IMAGE, 0)


def test_no_beat_hides_a_picture_whose_decoding_never_ends(download, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def hang(url, body, config):
        begun.set()
        ended.wait(10)
        return "media", b""

    monkeypatch.setattr(turns, "normalise_image", hang)
    asked = Asked(URL, IMAGE, GOT)
    download.beat()
    decoding = download.decoder.submit(download.normalise, asked, b"")
    assert begun.wait(10)
    download.beat()
    place = int(asked.key[-15:], 16)
    assert stages.PULSE.positions == [-1, place]
    ended.set()
    decoding.result(10)
    download.beat()
    assert stages.PULSE.positions == [-1, place, -1, -1]


def test_a_picture_that_was_set_aside_is_not_decoded(download, monkeypatch):
    asked = Asked(URL, IMAGE, GOT)
    download.output.skip = {str(int(asked.key[-15:], 16)): "worker died"}
    media, data = download.normalise(asked, jpeg())
    assert (media.reason, media.detail, data) == (SET_ASIDE, "worker died", b"")


def test_lanes_that_share_a_host_keep_to_their_slots(download, monkeypatch):
    seen = []

    async def keep(lanes, *_):
        seen.extend(lanes)

    monkeypatch.setattr(turns, "run_lanes", keep)
    names = ("a.example", "b.example#0", "b.example#1")
    keys = [key_of(name)[:HOST_CHARS] for name in names]
    pace = {"delay_s": 2.0, "connections": 2, "rules": RULES.to_text()}
    shares = {
        key: {**pace, "host": name.partition("#")[0], "start_after_s": float(place)}
        for place, (key, name) in enumerate(zip(keys, names, strict=True))
    }
    row = {"url": URL, "at": URL, "hops": 0, "tries": 0, "before": ""}
    asyncio.run(download.run([{**row, "key": key + str(n)} for key in keys for n in range(2)], shares))
    half = 2.0 / CONFIG.fetch.max_lanes / 2
    assert [(lane.key, lane.start_after_s, lane.slot_s) for lane in seen] == [
        (keys[0], 0.0, 0.0),
        (keys[1], 1.0, half),
        (keys[2], 2.0, half),
    ]
    assert [request.row for lane in seen for request in lane.requests] == list(range(6))
