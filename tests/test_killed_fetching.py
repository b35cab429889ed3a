"""Runs that are killed in the middle: what was written down is not asked for again, and nothing is missing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest
from web_dataset import build, command, ledger, ledger_rows, list_of, page, picture, rejected, shards
from web_server import WebServer

from pipeline.web import OPEN, read_log
from schemas.asked import FAILED, GOT

HOSTS = [f"127.0.4.{n}" for n in range(1, 7)]
IMAGES = 8
IN_FLIGHT = 4
MOMENTS = (("/robots.txt", 3), ("/p", 2), (".jpg", 20))
"""When a run is killed: as soon as the server has seen so many requests whose path ends so."""


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """Serve a page with pictures on every host, slowly enough to be killed between them, and build it undisturbed."""
    folder = tmp_path_factory.mktemp("killed")
    with WebServer(addresses=HOSTS) as server:
        for host in HOSTS:
            server.routes |= {f"{host}/{n}.jpg": picture(n, delay_s=0.05) for n in range(IMAGES - 1)}
            server.routes[f"{host}/p"] = page(f"Page of {host}", [f"/{n}.jpg" for n in range(IMAGES)])
        source = list_of(folder, [server.url("/p", host) for host in HOSTS])
        build(folder / "whole", source, fetch__in_flight=str(IN_FLIGHT))
        yield server, folder, source


def begin(out, source) -> subprocess.Popen:
    words = [*command("build", out, source, fetch__in_flight=str(IN_FLIGHT)), "--contact", "crawl@example.org"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(server, begun, ending, count, process):
    """Wait until the server has seen so many requests since it had seen `begun`."""
    until = time.monotonic() + 60
    while sum(seen.path.endswith(ending) for seen in server.seen[begun:]) < count:
        assert process.poll() is None, "the run was over before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)


def kill_command(process):
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(family, 20)[1], "workers outlive their command"


def kill_worker(process, port):
    """Kill the worker that asks the server."""
    workers = psutil.Process(process.pid).children(recursive=True)
    busy = [each for each in workers if any(c.raddr and c.raddr.port == port for c in each.net_connections())]
    busy[0].send_signal(signal.SIGKILL)


def written(out) -> set[str]:
    """Name the URLs that a killed run had written down, by what lies in the folder as it was left."""
    said = list(ledger(out).values())
    for path in (out / "web").glob(f".*{OPEN}"):
        said += read_log(str(path))[0]
    return {asked.url for asked in said if asked.outcome in (GOT, FAILED)}


def urls(server, seen) -> list[str]:
    """Name what was asked for beside what hosts allow."""
    return [server.url(each.path, each.host) for each in seen if each.path.endswith((".jpg", "/p"))]


def test_a_killed_command_goes_on_where_it_was(web):
    server, folder, source = web
    out = folder / "killed"
    begun = len(server.seen)
    kills = []
    for ending, count in MOMENTS:
        process = begin(out, source)
        wait_for(server, len(server.seen), ending, count, process)
        kill_command(process)
        kills.append((len(server.seen), written(out)))
    build(out, source, fetch__in_flight=str(IN_FLIGHT))
    assert len(kills[0][1]) < len(kills[1][1]) < len(kills[2][1])
    for at, had in kills:
        later = set(urls(server, server.seen[at:]))
        assert had & later == set()
        assert len(later & set(urls(server, server.seen[begun:at]))) <= 2 * IN_FLIGHT
    assert (shards(out), rejected(out)) == (shards(folder / "whole"), rejected(folder / "whole"))
    assert len(ledger_rows(out)) == len(HOSTS) * (1 + IMAGES)


def test_a_killed_worker_costs_what_it_had_in_flight(web):
    server, folder, source = web
    out = folder / "lost"
    begun = len(server.seen)
    process = begin(out, source)
    wait_for(server, begun, ".jpg", 10, process)
    kill_worker(process, server.port)
    assert process.wait(60) == 0
    asked = Counter(urls(server, server.seen[begun:]))
    assert set(asked) == {
        server.url(path, host) for host in HOSTS for path in ("/p", *(f"/{n}.jpg" for n in range(IMAGES)))
    }
    assert sum(asked.values()) - len(asked) <= IN_FLIGHT
    assert (shards(out), rejected(out)) == (shards(folder / "whole"), rejected(folder / "whole"))
    assert len(ledger_rows(out)) == len(HOSTS) * (1 + IMAGES)
