"""Runs that follow one another on one dataset: only what may have passed is asked for again."""

from __future__ import annotations

from collections import Counter

import pytest
from web_dataset import EVERYTHING, build_here, ledger, ledger_rows, list_of, page, picture, shards
from web_server import Reply, WebServer

from pipeline import download
from pipeline.addresses import refuse_address
from pipeline.folder import Folder
from pipeline.tables import DOCUMENTS, stream_range
from schemas.asked import FAILED, GOT, IMAGE, PASSING

FINE, ILL, CLOSED = HOSTS = [f"127.0.5.{n}" for n in range(1, 4)]
IMAGES = 4


@pytest.fixture
def web(tmp_path):
    """Serve a page with pictures on every host; the last picture is not there."""
    with WebServer(addresses=HOSTS) as server:
        for host in HOSTS:
            server.routes |= {f"{host}/{n}.jpg": picture(n) for n in range(IMAGES - 1)}
            server.routes[f"{host}/p"] = page(f"Page of {host}", [f"/{n}.jpg" for n in range(IMAGES)])
        yield server, tmp_path, list_of(tmp_path, [server.url("/p", host) for host in HOSTS])


def test_a_second_run_asks_nothing_but_what_may_have_passed(web):
    server, folder, source = web
    gone, ill = server.url("/3.jpg", FINE), server.url("/0.jpg", ILL)
    build_here(folder / "whole", source)
    server.routes[f"{ILL}/0.jpg"] = Reply(status=500)
    server.routes[f"{CLOSED}/robots.txt"] = Reply(status=503)
    out = folder / "twice"
    closed = {server.url("/p", CLOSED)}
    build_here(out, source, fetch__keep='"original"')
    said = {url: (asked.outcome, asked.reason) for (_, url), asked in ledger(out).items()}
    assert (said[gone], said[ill]) == ((FAILED, "http_404"), (PASSING, "http_500"))
    assert {url for url, told in said.items() if told == (PASSING, "robots_unavailable")} == closed

    begun, rows = len(server.seen), len(ledger_rows(out))
    build_here(out, source, fetch__keep='"original"')
    assert Counter(each.host + each.path for each in server.seen[begun:]) == {
        f"{ILL}/0.jpg": 2,  # as often as `fetch.tries` says
        f"{CLOSED}/robots.txt": 1,
    }
    assert len(ledger_rows(out)) == rows, "what is said again is written again"

    server.routes[f"{ILL}/0.jpg"] = picture(0)
    del server.routes[f"{CLOSED}/robots.txt"]
    begun = len(server.seen)
    build_here(out, source, fetch__keep='"original"')
    paths = ["/robots.txt", "/.well-known/tdmrep.json", "/p", *(f"/{n}.jpg" for n in range(IMAGES))]
    assert Counter(each.host + each.path for each in server.seen[begun:]) == {
        f"{ILL}/0.jpg": 1,
        **{CLOSED + path: 1 for path in paths},
    }

    begun = len(server.seen)
    build_here(out, source, fetch__keep='"original"')
    assert server.seen[begun:] == []
    assert shards(out) == shards(folder / "whole")

    build_here(out, source, ask=False, fetch__keep='"original"', media__short_side_px="60")
    assert server.seen[begun:] == []
    assert shards(out).keys() == shards(folder / "whole").keys()
    assert shards(out) != shards(folder / "whole")
    assert {asked.outcome for (kind, url), asked in ledger(out).items() if kind == IMAGE and url != gone} >= {GOT}


def test_pictures_are_asked_for_again_where_only_those_of_other_settings_are_kept(web):
    server, folder, source = web
    build_here(folder / "out", source)
    begun = len(server.seen)
    build_here(folder / "out", source, media__short_side_px="60")
    assert {each.path for each in server.seen[begun:]} == {f"/{n}.jpg" for n in range(IMAGES - 1)}


def test_no_redirect_leads_inside(tmp_path, monkeypatch):
    """Of all that is not the public net, the site's own address alone is allowed."""
    site = "127.0.5.9"
    monkeypatch.setattr(download, "refuse_address", lambda ip: "" if ip == site else refuse_address(ip))
    with WebServer(addresses=[site, "127.0.0.1"]) as server:
        inside = {
            "loopback": server.url("/i.jpg", "127.0.0.1"),
            "metadata": f"http://169.254.169.254:{server.port}/latest/meta-data/",
            "loopback6": server.url("/i.jpg", "::1"),
            "mapped": server.url("/i.jpg", "::ffff:127.0.0.1"),
            "number": f"http://2130706433:{server.port}/i.jpg",
            "private": server.url("/i.jpg", "10.0.0.1"),
            "name": server.url("/i.jpg", "localhost"),
        }
        server.routes |= {
            f"{site}/{name}.jpg": Reply(headers=(("Location", to),), status=302) for name, to in inside.items()
        }
        server.routes |= {"/i.jpg": picture(), f"{site}/good.jpg": picture(1)}
        images = [f"/{name}.jpg" for name in ("good", *inside)] + list(inside.values())
        server.routes[f"{site}/p"] = page("A page", images)
        build_here(tmp_path / "out", list_of(tmp_path, [server.url("/p", site)]), fetch__allow_private="false")
        told = {
            url: (asked.outcome, asked.reason)
            for (kind, url), asked in ledger(tmp_path / "out").items()
            if kind == IMAGE
        }
        assert told.pop(server.url("/good.jpg", site)) == (GOT, "")
        assert len(told) >= 2 * len(inside) - 1  # the number is the first address in another spelling
        assert set(told.values()) == {(FAILED, "refused_address")}
        assert {each.host for each in server.seen} == {site}


def test_a_page_that_the_list_no_longer_names_is_left_out(tmp_path):
    with WebServer() as server:
        server.routes |= {"/a.html": page("One"), "/b.html": page("Two")}
        source = list_of(tmp_path, [server.url("/a.html"), server.url("/b.html")])
        build_here(tmp_path / "out", source)
        both = {row["url"] for row in stream_range(Folder(str(tmp_path / "out")), DOCUMENTS, EVERYTHING)}
        list_of(tmp_path, [server.url("/b.html")])
        asked = len(server.seen)
        build_here(tmp_path / "out", source)
        left = {row["url"] for row in stream_range(Folder(str(tmp_path / "out")), DOCUMENTS, EVERYTHING)}
        assert (both, left) == ({server.url("/a.html"), server.url("/b.html")}, {server.url("/b.html")})
        assert len(server.seen) == asked
