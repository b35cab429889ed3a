"""One dataset from the worst web there is: what became of every URL, in the ledger and among what was dropped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
from web_dataset import build_watched, image_of, jpeg, ledger, ledger_rows, list_of, page, picture, rejected
from web_server import Reply, WebServer, redirect

from schemas.asked import FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED

SECRET = "/secret.jpg"
TEXT = page("A page")
LARGE_ROBOTS = b"User-agent: *\nDisallow: /secret\n" + b"# nothing to see\n" * 320_000
RESERVED = json.dumps([{"location": "/", "tdm-reservation": 1}]).encode()
NO_TRAINING = b"User-Agent: *\nContent-Signal: ai-train=no\nAllow: /\n"


@dataclass(frozen=True)
class Case:
    """A URL that is asked for at a host of its own: what the host serves, what must be said of it and dropped for."""

    outcome: str
    reason: str = ""
    reply: object = None
    more: dict = field(default_factory=dict)
    kind: str = IMAGE
    path: str = "/i.jpg"
    dropped: str = ""
    requests: int = -1
    """How often the URL must have been asked, where that is certain."""


def way(name, body=None, **more):
    return Reply(jpeg() if body is None else body, "image/jpeg", way=name, **more)


def says(*header, **more):
    return picture(headers=(header,), **more)


def robots(text, status=200):
    return {"/robots.txt": Reply(text, "text/plain", status=status)}


def chain(hops):
    """Redirect so often before the picture."""
    steps = {f"/{n}.jpg": redirect(f"/{n + 1}.jpg") for n in range(1, hops)}
    return {"reply": redirect("/1.jpg"), "more": steps | {f"/{hops}.jpg": picture()}}


# `{name}` in a redirect stands for where the case of that name is served.
CASES = {
    "good": Case(GOT, reply=picture(), requests=1),
    "chunked": Case(GOT, reply=way("chunked")),
    # Bytes that come wrong, or not at all.
    "slow_headers": Case(PASSING, "too_slow", way("slow_headers"), requests=2),
    "slow_body": Case(PASSING, "too_slow", way("slow_body"), requests=2),
    "silent_body": Case(PASSING, "too_slow", way("silent_body", bytes(200)), requests=2),
    "never": Case(PASSING, "timed_out", way("never"), requests=2),
    "endless_body": Case(FAILED, "too_many_bytes", way("endless_body"), requests=1),
    "endless_headers": Case(FAILED, "too_many_headers", way("endless_headers"), requests=1),
    "endless_continue": Case(FAILED, "too_many_headers", way("endless_continue"), requests=1),
    "gzip_bomb": Case(FAILED, "too_many_bytes", way("gzip_bomb"), requests=1),
    "too_long": Case(FAILED, "too_many_bytes", way("whole", bytes(300_000)), requests=1),
    "short": Case(PASSING, "cut_short", way("short"), requests=2),
    "long": Case(GOT, reply=way("long"), dropped="truncated"),
    "cut_chunk": Case(PASSING, "cut_short", way("cut_chunk"), requests=2),
    "reset": Case(PASSING, "cut_short", way("reset"), requests=2),
    "reset_body": Case(PASSING, "cut_short", way("reset_body"), requests=2),
    "close": Case(PASSING, "cut_short", way("close"), requests=2),
    "garbage": Case(PASSING, "protocol_error", way("garbage"), requests=2),
    "bare": Case(PASSING, "protocol_error", way("bare"), requests=2),
    "bad_gzip": Case(FAILED, "bad_encoding", says("Content-Encoding", "gzip"), requests=1),
    # Bodies that are no picture.
    "empty": Case(GOT, reply=way("whole", b""), dropped="empty"),
    "html": Case(GOT, reply=way("whole", TEXT.body), dropped="not_an_image"),
    "half": Case(GOT, reply=way("whole", jpeg()[:900]), dropped="truncated"),
    # Statuses.
    "http_404": Case(FAILED, "http_404", Reply(status=404), requests=1),
    "http_410": Case(FAILED, "http_410", Reply(status=410), requests=1),
    "http_204": Case(FAILED, "http_204", Reply(status=204, type="image/jpeg"), requests=1),
    "http_500": Case(PASSING, "http_500", Reply(status=500), requests=2),
    "once_503": Case(GOT, "", [Reply(status=503), picture()], requests=2),
    "once_429": Case(GOT, "", [Reply(status=429, headers=(("Retry-After", "1"),)), picture()], requests=2),
    "long_429": Case(PASSING, "http_429", Reply(status=429, headers=(("Retry-After", "3600"),)), requests=1),
    "odd_429": Case(PASSING, "http_429", Reply(status=429, headers=(("Retry-After", "\xb2"),)), requests=2),
    # Redirects.
    "loop": Case(FAILED, "too_many_redirects", redirect("/i.jpg"), requests=6),
    "chain_of_5": Case(GOT, **chain(5)),
    "chain_of_6": Case(FAILED, "too_many_redirects", **chain(6)),
    "elsewhere": Case(GOT, "", redirect("{good}"), requests=1),
    "elsewhere_twice": Case(GOT, "", redirect("{elsewhere}"), requests=1),
    "there_and_back": Case(FAILED, "too_many_redirects", redirect("{back_and_there}")),
    "back_and_there": Case(FAILED, "too_many_redirects", redirect("{there_and_back}")),
    "to_forbidden": Case(REFUSED, "robots_disallowed", redirect("{disallowed}")),
    "to_own_secret": Case(
        REFUSED, "robots_disallowed", redirect("/secret.jpg"), robots(b"User-agent: *\nDisallow: /s")
    ),
    "to_opted_out": Case(REFUSED, "opted_out", redirect("{opted_out}")),
    "to_nowhere": Case(FAILED, "redirect_without_location", Reply(status=302), requests=1),
    "to_file": Case(FAILED, "redirect_without_location", redirect("file:///etc/passwd"), requests=1),
    "to_ssh": Case(FAILED, "port_not_allowed", redirect("http://127.0.0.1:22/"), requests=1),
    # Who does not want to be asked, or used.
    "disallowed": Case(REFUSED, "robots_disallowed", picture(), robots(b"User-agent: *\nDisallow: /i"), requests=0),
    "signal": Case(REFUSED, "content_signal", picture(), robots(NO_TRAINING), requests=0),
    "large_robots": Case(GOT, "", picture(), robots(LARGE_ROBOTS)),
    "large_robots_secret": Case(REFUSED, "robots_disallowed", picture(), robots(LARGE_ROBOTS), path=SECRET, requests=0),
    "robots_503": Case(PASSING, "robots_unavailable", picture(), robots(b"", 503), requests=0),
    "robots_429": Case(PASSING, "robots_unavailable", picture(), robots(b"", 429), requests=0),
    "robots_never": Case(PASSING, "timed_out", picture(), {"/robots.txt": Reply(way="never")}, requests=0),
    "robots_reset": Case(PASSING, "cut_short", picture(), {"/robots.txt": Reply(way="reset")}, requests=0),
    "robots_moved": Case(
        REFUSED,
        "robots_disallowed",
        picture(),
        {"/robots.txt": redirect("/r"), "/r": Reply(b"user-agent:*\ndisallow:/")},
    ),
    "robots_loop": Case(PASSING, "robots_unavailable", picture(), {"/robots.txt": redirect("/robots.txt")}, requests=0),
    "too_slow_a_host": Case(
        REFUSED, "crawl_delay_too_long", picture(), robots(b"User-agent: *\nCrawl-delay: 99"), requests=0
    ),
    "tdmrep": Case(REFUSED, "tdm_reservation", picture(), {"/.well-known/tdmrep.json": Reply(RESERVED)}, requests=0),
    "tdm_header": Case(REFUSED, "tdm_reservation", says("TDM-Reservation", "1"), requests=1),
    "noai": Case(REFUSED, "x_robots_tag", says("X-Robots-Tag", "noai"), requests=1),
    "noimageai": Case(REFUSED, "x_robots_tag", says("X-Robots-Tag", "noimageai"), requests=1),
    "usage": Case(REFUSED, "content_usage", says("Content-Usage", "train-ai=n"), requests=1),
    "opted_out": Case("", "opted_out", picture(), requests=0),
    # Pages.
    "page": Case(GOT, "", TEXT, kind=PAGE, path="/p", requests=1),
    "page_elsewhere": Case(GOT, "", redirect("{page}"), kind=PAGE, path="/p"),
    "page_404": Case(FAILED, "http_404", Reply(status=404), kind=PAGE, path="/p"),
    "page_of_bytes": Case(FAILED, "not_a_page", picture(), kind=PAGE, path="/p"),
    "page_disallowed": Case(REFUSED, "robots_disallowed", TEXT, robots(b"User-agent: *\nDisallow: /"), PAGE, "/p"),
    "page_noai": Case(
        REFUSED, "x_robots_tag", Reply(TEXT.body, headers=(("X-Robots-Tag", "noai"),)), kind=PAGE, path="/p"
    ),
    "page_bomb": Case(FAILED, "too_many_bytes", Reply(way="gzip_bomb"), kind=PAGE, path="/p"),
    "page_reset": Case(PASSING, "cut_short", Reply(way="reset"), kind=PAGE, path="/p"),
    "page_endless": Case(FAILED, "too_many_bytes", Reply(way="endless_body"), kind=PAGE, path="/p"),
    "page_opted_out": Case("", "opted_out", TEXT, kind=PAGE, path="/p", requests=0),
}
HOSTS = {name: f"127.0.1.{number}" for number, name in enumerate(CASES, 2)}
FRONT, SLOW, FAILING, RESTING, CLOSED = (f"127.0.2.{number}" for number in range(1, 6))
MANY = 200


class Web:
    """The servers of the table, the dataset that was built from them, and where everything was."""

    def __init__(self, folder):
        with (
            WebServer(addresses=[*HOSTS.values(), FRONT, SLOW, FAILING, RESTING]) as server,
            WebServer(tls=True, addresses=[CLOSED]) as untrusted,
        ):
            self.urls = {name: server.url(case.path, HOSTS[name]) for name, case in CASES.items()}
            for name, case in CASES.items():
                routes = {case.path: case.reply} | case.more
                server.routes |= {HOSTS[name] + path: self.place(reply) for path, reply in routes.items()}
            server.routes[f"{SLOW}/robots.txt"] = Reply(b"User-agent: *\nCrawl-delay: 0.7\n")
            self.slow = [server.url(f"/{n}.jpg", SLOW) for n in range(MANY)]
            server.routes |= {f"{SLOW}/{n}.jpg": picture(n) for n in range(MANY)}
            self.failing = [server.url(f"/{n}.jpg", FAILING) for n in range(30)]
            server.routes |= {f"{FAILING}/{n}.jpg": Reply(way="reset") for n in range(30)}
            rest = Reply(status=429, headers=(("Retry-After", "3600"),))
            self.resting = [server.url(f"/{n}.jpg", RESTING) for n in range(30)]
            server.routes |= {f"{RESTING}/{n}.jpg": rest for n in range(30)}
            self.untrusted = untrusted.url("/i.jpg", CLOSED)
            self.unbound = f"http://127.0.2.9:{server.port}/i.jpg"
            asked = [self.urls[name] for name, case in CASES.items() if case.kind == IMAGE]
            images = [*asked, *self.slow, *self.failing, *self.resting, self.untrusted, self.unbound]
            fronts = [server.url(f"/{at}", FRONT) for at in range(0, len(images), 30)]
            for at, url in enumerate(fronts):
                server.routes[f"{FRONT}/{at * 30}"] = page(f"Page {url}", images[at * 30 : at * 30 + 30])
            pages = [self.urls[name] for name, case in CASES.items() if case.kind == PAGE]
            self.listed = [*fronts, *pages]
            (folder / "optout.txt").write_text(f"{self.urls['opted_out']}\n{self.urls['page_opted_out']}\n")
            self.out = folder / "dataset"
            self.lost = build_watched(
                self.out,
                list_of(folder, [*self.listed, "", "# a comment", "no URL", fronts[0]]),
                rights__opt_out=json.dumps([str(folder / "optout.txt")]),
                fetch__read_s="1",
                fetch__connect_s="2",
                fetch__total_s="2",
                fetch__max_bytes="200000",
                fetch__max_page_bytes="200000",
                fetch__host_budget_s="2.5",
            )
            self.seen = Counter(seen.host + seen.path for seen in server.seen)
        self.images = images
        self.ledger = ledger(self.out)

    def place(self, reply):
        """Put URLs for the names in redirects."""
        if isinstance(reply, list):
            return [self.place(each) for each in reply]
        headers = tuple(
            (name, value.format_map(self.urls) if value[:1] == "{" else value) for name, value in reply.headers
        )
        return Reply(reply.body, reply.type, headers, reply.status, reply.delay_s, reply.way)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    return Web(tmp_path_factory.mktemp("hostile"))


def test_the_ledger_says_of_every_url_what_became_of_it(web):
    said = {}
    for name, case in CASES.items():
        asked = web.ledger.get((case.kind, web.urls[name]))
        said[name] = (asked.outcome, asked.reason) if asked else ("", "opted_out")
    assert said == {name: (case.outcome, case.reason) for name, case in CASES.items()}


def test_no_url_is_missing_from_the_ledger_and_none_is_there_twice(web):
    never_asked = {name for name, case in CASES.items() if not case.outcome}
    wanted = {(PAGE, url) for url in web.listed} | {(IMAGE, url) for url in web.images}
    wanted -= {(CASES[name].kind, web.urls[name]) for name in never_asked}
    rows = Counter((row["kind"], row["url"]) for row in ledger_rows(web.out))
    assert rows == Counter(wanted)


def test_every_url_that_was_not_used_is_among_what_was_dropped_once(web):
    dropped = rejected(web.out)
    expected = []
    for name, case in CASES.items():
        if reason := case.dropped or case.reason:
            expected.append((image_of(case.kind), web.urls[name], reason))
    for (kind, url), asked in web.ledger.items():
        if url not in web.urls.values() and asked.reason:
            expected.append((image_of(kind), url, asked.reason))
    expected += [("page", "", "bad_url"), ("page", web.listed[0], "duplicate_line")]
    assert dropped == sorted(expected)


def test_the_servers_were_asked_as_often_as_they_may_be(web):
    asked = {name: web.seen[HOSTS[name] + case.path] for name, case in CASES.items() if case.requests >= 0}
    # The case `good` is also where two redirects lead, `page` and `elsewhere` where one does.
    more = {"good": 2, "elsewhere": 1, "page": 1}
    assert asked == {n: case.requests + more.get(n, 0) for n, case in CASES.items() if case.requests >= 0}
    assert web.seen[f"{HOSTS['to_own_secret']}/secret.jpg"] == 0
    assert web.seen[f"{HOSTS['chain_of_6']}/6.jpg"] == 0
    for host in {key.partition("/")[0] for key in web.seen} - {HOSTS["robots_loop"]}:
        assert web.seen[f"{host}/robots.txt"] == 1
        assert web.seen[f"{host}/.well-known/tdmrep.json"] <= 1
    assert web.seen[f"{HOSTS['page_disallowed']}/.well-known/tdmrep.json"] == 0


def test_a_slow_host_is_asked_for_what_its_budget_allows_and_the_rest_waits(web):
    said = Counter((web.ledger[IMAGE, url].outcome, web.ledger[IMAGE, url].reason) for url in web.slow)
    asked = sum(web.seen[f"{SLOW}/{n}.jpg"] for n in range(MANY))
    assert 1 <= asked <= 4  # 2.5 s at 0.7 s each, both ends included
    assert said == {(GOT, ""): asked, (PASSING, "host_budget"): MANY - asked}


def test_a_host_that_fails_again_and_again_is_left_alone(web):
    said = Counter((web.ledger[IMAGE, url].outcome, web.ledger[IMAGE, url].reason) for url in web.failing)
    assert set(said) == {(PASSING, "cut_short"), (PASSING, "host_failing")}
    assert sum(web.seen[f"{FAILING}/{n}.jpg"] for n in range(30)) <= 8 + 4  # and what was in flight then


def test_a_host_that_asks_for_a_long_pause_is_left_alone(web):
    said = Counter((web.ledger[IMAGE, url].outcome, web.ledger[IMAGE, url].reason) for url in web.resting)
    asked = sum(web.seen[f"{RESTING}/{n}.jpg"] for n in range(30))
    assert 1 <= asked <= 4  # what was in flight when it said so
    assert said == {(PASSING, "http_429"): asked, (PASSING, "host_budget"): 30 - asked}


def test_nobody_who_cannot_be_trusted_or_reached_is_asked(web):
    for url, reason in ((web.untrusted, "tls_failed"), (web.unbound, "connect_failed")):
        assert (web.ledger[IMAGE, url].outcome, web.ledger[IMAGE, url].reason) == (PASSING, reason)


def test_no_worker_was_lost(web):
    assert web.lost == 0
    assert not (web.out / "work/skip").exists()
