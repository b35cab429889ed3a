"""What hosts notice of two workers that ask at the same time: how many requests, how close, and robots.txt once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from web_dataset import build_watched, ledger, list_of, page, picture
from web_server import Reply, WebServer

from pipeline import ask
from schemas.asked import GOT, IMAGE

FRONT, LARGE, SMALL, SLOW = "127.0.3.1", "127.0.3.2", "127.0.3.3", "127.0.3.4"
COUNTS = {LARGE: 120, SMALL: 30, SLOW: 6}
DELAY_S, CRAWL_DELAY_S = 0.04, 0.4
CONNECTIONS = 3
LATE_S = 0.2
"""How late a request may reach the server, or be noted by it, on a machine that does other things too."""
SETTINGS = {
    "fetch__delay_s": str(DELAY_S),
    "fetch__host_connections": str(CONNECTIONS),
    "fetch__lane_urls": "40",
    "fetch__max_lanes": "3",
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Build a dataset whose hosts answer slowly; gives its folder, what the server saw and what it had in flight."""
    folder = tmp_path_factory.mktemp("polite")
    with WebServer(addresses=[FRONT, *COUNTS]) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask, "HOST_ROWS", 20)  # many units, so that lanes of a host meet in both workers
        images = [server.url(f"/{n}.jpg", host) for host, count in COUNTS.items() for n in range(count)]
        for n in range(max(COUNTS.values())):
            server.routes[f"/{n}.jpg"] = picture(n, delay_s=0.1)
        server.routes[f"{SLOW}/robots.txt"] = Reply(f"User-agent: *\nCrawl-delay: {CRAWL_DELAY_S}\n".encode())
        pages = [server.url(f"/{at}", FRONT) for at in range(0, len(images), 40)]
        for at, url in enumerate(pages):
            server.routes[f"{FRONT}/{at * 40}"] = page(url, images[at * 40 : at * 40 + 40])
        assert build_watched(folder / "dataset", list_of(folder, pages), **SETTINGS) == 0
        return folder / "dataset", list(server.seen), server.most()


def times_of(seen, host, files=()):
    return [each.time for each in seen if each.host == host and (not files or each.path in files)]


def pictures_of(seen, host):
    return [each.time for each in seen if each.host == host and each.path.endswith(".jpg")]


def test_everything_is_got_and_asked_for_once(asked):
    out, seen, _ = asked
    got = Counter(
        said.host.partition(":")[0] for (kind, _), said in ledger(out).items() if (kind, said.outcome) == (IMAGE, GOT)
    )
    assert got == COUNTS
    assert max(Counter((each.host, each.path) for each in seen).values()) == 1


def test_the_lanes_of_the_large_host_were_in_several_units(asked):
    files = {
        said.location.file.split("-")[1] for (_, _), said in ledger(asked[0]).items() if said.host.startswith(LARGE)
    }
    assert len(files) > 1


def test_no_host_has_more_requests_in_flight_than_it_may(asked):
    _, _, most = asked
    assert {host: count for host, count in most.items() if host and count > CONNECTIONS} == {}
    assert most[LARGE] > 1


def test_every_host_is_asked_for_its_rules_once(asked):
    _, seen, _ = asked
    for name in ("/robots.txt", "/.well-known/tdmrep.json"):
        assert Counter(each.host for each in seen if each.path == name) == dict.fromkeys([FRONT, *COUNTS], 1)


@pytest.mark.parametrize(
    ("host", "delay_s", "early_s"), [(LARGE, DELAY_S, DELAY_S / 2), (SMALL, DELAY_S, 0), (SLOW, CRAWL_DELAY_S, 0)]
)
def test_no_host_is_asked_faster_than_its_delay(asked, host, delay_s, early_s):
    times = pictures_of(asked[1], host)
    assert len(times) == COUNTS[host]
    for first, start in enumerate(times):
        for number, later in enumerate(times[first:]):
            assert later - start >= number * delay_s - early_s - LATE_S


def test_a_crawl_delay_lies_between_all_requests_of_the_host(asked):
    times = times_of(asked[1], SLOW)
    assert len(times) == COUNTS[SLOW] + 2
    assert all(later - earlier >= CRAWL_DELAY_S - LATE_S for earlier, later in pairwise(times))
