"""Requests to servers on loopback, honest ones and hostile ones, and the reason given for each."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import socket
import ssl
import tracemalloc
import zlib
from collections import namedtuple

import pycurl
import pytest
from web_server import BOMB_BYTES, CERTIFICATE, WAYS, Reply, WebServer, redirect

from pipeline import __version__, download, politeness
from pipeline.download import Client, Held, Transfer
from pipeline.politeness import FetchConfig
from pipeline.settings import document_settings

CONFIG = FetchConfig(contact="crawl@example.org", allow_private=True, connect_s=5, read_s=1, total_s=20)
TEXT = b"<p>Some text of a page.</p>\n" * 100
MAX_BYTES = 1_000_000


@pytest.fixture(autouse=True)
def no_callback_failed(capfd):
    """Look at what is printed: an exception in a callback of libcurl reaches nobody."""
    yield
    assert capfd.readouterr().err == ""


def ask(*urls, config=CONFIG, hosts=None, **options):
    """Ask for URLs at the same time and give their answers."""

    async def run():
        async with Client(config, hosts) as client:
            options.setdefault("max_bytes", MAX_BYTES)
            return await asyncio.gather(*(client.get(url, **options) for url in urls))

    return asyncio.run(run())


def ask_one(url, **options):
    return ask(url, **options)[0]


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


# What is sent and what comes back


def test_an_answer_holds_what_the_server_said():
    reply = Reply(TEXT, "image/jpeg", (("X-Robots-Tag", "noai"), ("X-ROBOTS-TAG", " noindex "), ("ETag", "")))
    with WebServer({"/a b.jpg?q=1": reply, "/a%20b.jpg?q=1": reply}) as server:
        answer = ask_one(server.url("/a b.jpg?q=1#part"), accept="image/*")
        (seen,) = server.seen
    assert (answer.status, answer.reason, answer.detail, answer.body) == (200, "", "", TEXT)
    assert (answer.url, answer.address) == (server.url("/a b.jpg?q=1#part"), "127.0.0.1")
    assert answer.headers == (
        ("content-type", "image/jpeg"),
        ("x-robots-tag", "noai"),
        ("x-robots-tag", "noindex"),
        ("etag", ""),
        ("content-length", str(len(TEXT))),
    )
    assert (answer.header("x-robots-tag"), answer.header("location")) == ("noai", "")
    assert answer.seconds > 0
    assert seen.path == "/a%20b.jpg?q=1"
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"flamingo/{__version__} (+crawl@example.org)",
        "accept": "image/*",
        "accept-encoding": "deflate, gzip, br",
    }


def test_nothing_is_taken_from_the_environment_and_no_cookie_is_kept(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    cookie = Reply(TEXT, headers=(("Set-Cookie", "a=b; Path=/"), ("Alt-Svc", 'h3=":443"')))
    with WebServer({"/": cookie}) as server:
        assert [ask_one(server.url("/")).status for _ in range(2)] == [200, 200]
        assert {frozenset(seen.headers) for seen in server.seen} == {
            frozenset({"host", "user-agent", "accept", "accept-encoding"})
        }


def test_redirects_are_answers():
    with WebServer({"/a": redirect("/b", 301), "/loop": redirect("/loop"), "/b": Reply(TEXT)}) as server:
        moved, loop = ask(server.url("/a"), server.url("/loop"))
        assert (moved.status, moved.reason, moved.header("location")) == (301, "", "/b")
        assert (loop.status, loop.reason, loop.header("location")) == (302, "", "/loop")
        assert sorted(seen.path for seen in server.seen) == ["/a", "/loop"]


@pytest.mark.parametrize("status", [204, 304, 400, 404, 410, 429, 500, 503])
def test_any_status_is_an_answer_without_a_body(status):
    body = b"" if status in (204, 304) else TEXT
    with WebServer({"/": Reply(body, status=status, headers=(("Retry-After", "7"),))}) as server:
        answer = ask_one(server.url("/"))
    assert (answer.status, answer.reason, answer.body, answer.header("retry-after")) == (status, "", b"", "7")


def test_a_failure_in_the_body_of_a_refusal_does_not_matter():
    ways = ("endless_body", "slow_body", "silent_body", "short", "cut_chunk", "reset_body", "gzip_bomb")
    with WebServer({f"/{way}": Reply(TEXT, status=404, way=way) for way in ways}) as server:
        answers = ask(*(server.url(f"/{way}") for way in ways))
    assert [(answer.status, answer.reason, answer.body) for answer in answers] == [(404, "", b"")] * len(ways)


def test_a_connection_is_used_again_and_again():
    with WebServer({"/a": Reply(TEXT), "/b": Reply(status=404), "/c": Reply(TEXT, way="chunked")}) as server:

        async def run():
            async with Client(CONFIG) as client:
                for path in "/a", "/b", "/c", "/a":
                    answer = await client.get(server.url(path), max_bytes=MAX_BYTES)
                    assert answer.reason == ""
                assert len(client.idle) == 1

        asyncio.run(run())
        assert {seen.connection for seen in server.seen} == {1}


def test_many_hosts_at_once():
    addresses = [f"127.0.0.{number}" for number in range(1, 33)]
    hosts = {f"h{number}.test": address for number, address in enumerate(addresses)}
    routes = {f"h{number}.test/": Reply(b"%d" % number, delay_s=0.2) for number in range(32)}
    with WebServer(routes, addresses=addresses) as server:
        answers = ask(*(server.url("/", name) for name in hosts for _ in range(4)), hosts=hosts)
        assert server.most()[""] > 32
    assert [answer.body for answer in answers] == [b"%d" % (number // 4) for number in range(128)]
    assert [answer.address for answer in answers[::4]] == addresses


# Content codings and sizes


def coded(body, *codings, status=200):
    return Reply(body, headers=tuple(("Content-Encoding", coding) for coding in codings), status=status)


BROTLI_TEXT = bytes.fromhex(
    "1bef0af89d07b6cd68efd2d6f66328b292270cae155ea6caa44fdb5b81b8a424badc962b140150acdbf8d21c05007200"
)  # TEXT


def test_content_codings_are_undone():
    zipped, deflated = gzip.compress(TEXT), zlib.compress(TEXT)
    cases = {
        "/gzip": (coded(zipped, "gzip"), TEXT),
        "/x": (coded(zipped, "x-gzip"), TEXT),
        "/deflate": (coded(deflated, "deflate"), TEXT),
        "/raw": (coded(deflated[2:-4], "deflate"), TEXT),
        "/br": (coded(BROTLI_TEXT, "br"), TEXT),
        "/twice": (coded(gzip.compress(zipped), "gzip, gzip"), TEXT),
        "/none": (coded(TEXT, "identity"), TEXT),
        "/empty": (coded(b"", "gzip"), b""),
        "/not": (coded(TEXT, "gzip"), None),
        "/sum": (coded(zipped[:-8] + b"12345678", "gzip"), None),
        "/not_br": (coded(b"junk" * 9, "br"), None),
        "/zstd": (coded(TEXT, "zstd"), None),
        "/unknown": (coded(TEXT, "made-up"), None),
        "/many": (coded(zipped, *["gzip"] * 6), None),
    }
    with WebServer({path: reply for path, (reply, _) in cases.items()}) as server:
        answers = ask(*map(server.url, cases))
    for answer, (path, (_, body)) in zip(answers, cases.items(), strict=True):
        expected = ("", body) if body is not None else (download.BAD_ENCODING, b"")
        assert (answer.reason, answer.body) == expected, path


def test_the_byte_limit_counts_what_a_coding_hides():
    """A megabyte may come; the bomb inflates to 64, and the process never holds two of them."""
    ways = ("gzip_bomb", "endless_body")
    with WebServer({f"/{way}": Reply(way=way) for way in ways}) as server:
        tracemalloc.start()
        try:
            for way in ways:
                tracemalloc.reset_peak()
                answer = ask_one(server.url(f"/{way}"))
                assert (answer.status, answer.reason, answer.body) == (200, download.TOO_MANY_BYTES, b"")
                assert answer.detail == "more than 1000000 bytes"
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < 2 * MAX_BYTES < BOMB_BYTES / 10


@pytest.mark.parametrize("way", ["whole", "chunked", "unframed"])
def test_the_byte_limit_to_the_byte(way):
    with WebServer({"/": Reply(TEXT, way=way)}) as server:
        exact = ask_one(server.url("/"), max_bytes=len(TEXT))
        over = ask_one(server.url("/"), max_bytes=len(TEXT) - 1)
        cut = ask_one(server.url("/"), max_bytes=len(TEXT) - 1, cut=True)
        whole = ask_one(server.url("/"), max_bytes=len(TEXT), cut=True)
    assert (exact.reason, exact.body) == ("", TEXT)
    assert (over.reason, over.body) == (download.TOO_MANY_BYTES, b"")
    assert (cut.status, cut.reason, cut.body) == (200, "", TEXT[:-1])
    assert (whole.reason, whole.body) == ("", TEXT)


def test_a_body_that_is_declared_too_long_is_not_read():
    with WebServer({"/": Reply(TEXT, way="silent_body")}) as server:
        answer = ask_one(server.url("/"), max_bytes=len(TEXT) - 1, config=changed(read_s=10))
    assert (answer.reason, answer.seconds < 5) == (download.TOO_MANY_BYTES, True)


def test_an_endless_body_can_be_cut():
    with WebServer({"/": Reply(way="endless_body")}) as server:
        answer = ask_one(server.url("/"), max_bytes=100_001, cut=True)
    assert (answer.status, answer.reason, answer.body) == (200, "", bytes(100_001))


# What goes wrong

HOSTILE = {
    "whole": (200, ""),
    "chunked": (200, ""),
    "unframed": (200, ""),
    "long": (200, ""),
    "short": (200, download.CUT_SHORT),
    "cut_chunk": (200, download.CUT_SHORT),
    "reset_body": (200, download.CUT_SHORT),
    "reset": (0, download.CUT_SHORT),
    "close": (0, download.CUT_SHORT),
    "slow_body": (200, download.TOO_SLOW),
    "slow_headers": (200, download.TOO_SLOW),
    "silent_body": (200, download.TOO_SLOW),
    "never": (0, download.TIMED_OUT),
    "endless_body": (200, download.TOO_MANY_BYTES),
    "gzip_bomb": (200, download.TOO_MANY_BYTES),
    "endless_headers": (200, download.TOO_MANY_HEADERS),
    "endless_continue": (100, download.TOO_MANY_HEADERS),
    "garbage": (0, download.PROTOCOL_ERROR),
    "bare": (0, download.PROTOCOL_ERROR),
}


def test_a_hostile_server():
    assert HOSTILE.keys() == WAYS.keys()
    with WebServer({f"/{way}": Reply(TEXT, way=way) for way in HOSTILE}) as server:
        answers = ask(*(server.url(f"/{way}") for way in HOSTILE))
        assert len(server.seen) == len(HOSTILE)  # nothing was asked twice
    given = {way: (answer.status, answer.reason) for way, answer in zip(HOSTILE, answers, strict=True)}
    assert given == HOSTILE
    for way, answer in zip(HOSTILE, answers, strict=True):
        expected = b"" if answer.reason else TEXT[: len(TEXT) // 2] if way == "long" else TEXT
        assert answer.body == expected, way
        assert bool(answer.detail) == bool(answer.reason), way


def test_a_hostile_server_does_not_hold_up_others():
    """Each client handle is used after a failure as if nothing had been."""
    ways = [way for way in HOSTILE if not way.startswith(("slow", "silent", "never"))]
    with WebServer({f"/{way}": Reply(TEXT, way=way) for way in ways}) as server:

        async def run():
            async with Client(CONFIG) as client:
                for way in ways:
                    await client.get(server.url(f"/{way}"), max_bytes=MAX_BYTES)
                    answer = await client.get(server.url("/whole"), max_bytes=MAX_BYTES)
                    assert (answer.status, answer.reason, answer.detail, answer.body) == (200, "", "", TEXT), way
                assert len(client.idle) == 1

        asyncio.run(run())


def test_long_header_lines_are_bounded_too():
    headers = tuple((f"X-{number}", "y" * 7000) for number in range(10))
    with WebServer({"/few": Reply(TEXT, headers=headers[:9]), "/many": Reply(TEXT, headers=headers)}) as server:
        few, many = ask(server.url("/few"), server.url("/many"))
    assert (few.reason, many.reason) == ("", download.TOO_MANY_HEADERS)
    assert many.detail == f"more than {download.MAX_HEADER_BYTES} bytes"


def test_the_total_time_ends_a_body_that_is_just_fast_enough():
    config = changed(total_s=2, min_bytes_per_s=5)
    with WebServer({"/": Reply(TEXT, way="slow_body")}) as server:
        answer = ask_one(server.url("/"), config=config)
    assert (answer.status, answer.reason) == (200, download.TIMED_OUT)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_there():
    impossible = f"{'a' * 64}.invalid"  # a label has 63 characters at most: no server of names is asked
    closed, unknown = ask(f"http://127.0.0.1:{free_port()}/", f"http://{impossible}/")
    assert (closed.status, closed.reason, closed.body) == (0, download.CONNECT_FAILED, b"")
    assert (unknown.status, unknown.reason, unknown.address) == (0, download.DNS_FAILED, "")
    assert impossible in unknown.detail


def test_connecting_takes_no_longer_than_it_may():
    """A listener whose queue is full takes no further connection."""
    with socket.socket() as listener, contextlib.ExitStack() as queued:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queued.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        answer = ask_one(f"http://127.0.0.1:{listener.getsockname()[1]}/", config=changed(connect_s=0.5, read_s=10))
    assert (answer.status, answer.reason) == (0, download.TIMED_OUT)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "bad_scheme"),
        ("ftp://127.0.0.1/", "bad_scheme"),
        ("http://me:word@127.0.0.1:8080/", "credentials_in_url"),
        ("http://127.0.0.1:22/", "port_not_allowed"),
        ("http://[::1", "bad_url"),
        ("", "bad_url"),
    ],
)
def test_urls_that_are_not_asked(url, reason):
    assert ask_one(url) == download.Answer(url, reason=reason)


def test_cancelling_ends_the_request_and_no_other():
    with WebServer({"/never": Reply(way="never"), "/": Reply(TEXT)}) as server:

        async def run():
            async with Client(CONFIG) as client:
                never = asyncio.create_task(client.get(server.url("/never"), max_bytes=MAX_BYTES))
                while not server.seen:
                    await asyncio.sleep(0.01)
                never.cancel()
                other = await client.get(server.url("/"), max_bytes=MAX_BYTES)
                with pytest.raises(asyncio.CancelledError):
                    await never
                assert (other.status, other.body) == (200, TEXT)
                assert not client.multi.futures()

        asyncio.run(run())


# Where connections go


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f.1", "127.1", "2130706433", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"],
)
def test_no_connection_is_made_to_this_machine(host):
    with WebServer({"/": Reply(TEXT)}) as server:
        answer = ask_one(f"http://{host}:{server.port}/", config=FetchConfig())
        assert (answer.status, answer.reason) == (0, download.REFUSED_ADDRESS)
        assert answer.detail.split()[0] in ("loopback", "unspecified")
        assert answer.detail.split()[1] == answer.address
        assert not server.seen


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("169.254.169.254", "metadata"),
        ("::1", "loopback"),
        ("fd00:ec2::254", "metadata"),
        ("::ffff:169.254.169.254", "metadata"),
    ],
)
def test_a_name_is_judged_by_the_address_that_it_leads_to(address, why):
    answer = ask_one("http://public.test/", config=FetchConfig(), hosts={"public.test": address})
    assert (answer.reason, answer.address) == (download.REFUSED_ADDRESS, address)
    assert answer.detail == f"{why} {address}"


def test_a_name_that_leads_elsewhere_the_second_time():
    """What was allowed once is judged again at the next connection."""
    hosts = {"rebind.test": "127.0.0.1"}
    with WebServer({"/": Reply(TEXT, headers=(("Connection", "close"),))}) as server:

        async def run():
            async with Client(FetchConfig(), hosts) as client:
                transfer = Transfer(FetchConfig(allow_private=True), client.held)
                client.idle.append(transfer)
                first = await client.get(server.url("/", "rebind.test"), max_bytes=MAX_BYTES)
                transfer.allow_private = False
                hosts["rebind.test"] = "127.0.0.2"
                return first, await client.get(server.url("/", "rebind.test"), max_bytes=MAX_BYTES)

        first, second = asyncio.run(run())
        assert len(server.seen) == 1
    assert (first.status, second.status, second.reason) == (200, 0, download.REFUSED_ADDRESS)


SocketAddress = namedtuple("SocketAddress", "family socktype protocol addr")


@pytest.mark.parametrize(
    ("family", "addr", "opens"),
    [
        (socket.AF_INET, ("8.8.8.8", 80), True),
        (socket.AF_INET, ("192.168.0.1", 80), False),
        (socket.AF_INET6, ("2606:4700::1111", 80, 0, 0), True),
        (socket.AF_INET6, ("64:ff9b::7f00:1", 80, 0, 0), False),
        (socket.AF_UNIX, b"/run/docker.sock", False),
    ],
)
def test_every_socket_is_judged_before_it_is_opened(family, addr, opens):
    transfer = Transfer(FetchConfig(), Held(1))
    transfer.begin("http://example.org/", 1, "*/*", cut=False)
    opened = transfer.open_socket(0, SocketAddress(family, socket.SOCK_STREAM, 0, addr))
    assert (opened != pycurl.SOCKET_BAD) == opens
    assert transfer.opened == opens


# TLS and HTTP/2


def test_certificates_are_checked(monkeypatch):
    with WebServer({"/": Reply(TEXT)}, tls=True, addresses=("127.0.0.1", "127.0.0.2")) as server:
        untrusted = ask_one(server.url("/"))
        unchecked = ask_one(server.url("/"), config=changed(tls_verify=False))
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        trusted = ask_one(server.url("/"))
        named = ask_one(server.url("/", "a.test"), hosts={"a.test": "127.0.0.1"})
        other_host = ask_one(server.url("/", "127.0.0.2"))
        plain = ask_one(server.url("/").replace("https:", "http:"))
        assert len(server.seen) == 3
    assert (untrusted.status, untrusted.reason, untrusted.body) == (0, download.TLS_FAILED, b"")
    assert [answer.body for answer in (unchecked, trusted, named)] == [TEXT] * 3
    assert (other_host.status, other_host.reason) == (0, download.TLS_FAILED)
    assert (plain.status, plain.reason) == (0, download.CUT_SHORT)


def test_tls_with_a_server_that_speaks_none():
    async def refuse(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async def run():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with Client(CONFIG) as client:
            answer = await client.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", max_bytes=MAX_BYTES)
        server.close()
        await asyncio.sleep(0.1)  # the handler sees the end
        return answer

    answer = asyncio.run(run())
    assert (answer.status, answer.reason) == (0, download.TLS_FAILED)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def serve_http2(reader, writer, connections):
    """Answer every request with 200 (field 8 of HPACK's static table) and its stream's number."""
    assert await reader.readexactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    connections.append(streams := [])
    writer.write(frame(4, 0, 0))
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, stream = head[3], int.from_bytes(head[5:], "big")
            if kind == 4 and not head[4] & 1:
                writer.write(frame(4, 1, 0))
            elif kind == 1:
                streams.append(stream)
                writer.write(frame(1, 4, stream, b"\x88") + frame(0, 1, stream, b"stream %d" % stream))
    writer.transport.abort()


def test_http2_is_spoken_where_it_is_offered(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    async def run():
        connections = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        context.set_alpn_protocols(["h2"])
        server = await asyncio.start_server(
            lambda reader, writer: serve_http2(reader, writer, connections), "127.0.0.1", 0, ssl=context
        )
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Client(CONFIG) as client:
            answers = await asyncio.gather(*(client.get(url, max_bytes=MAX_BYTES) for _ in range(8)))
        server.close()
        await asyncio.sleep(0.1)  # the handler sees the end
        return answers, connections

    answers, connections = asyncio.run(run())
    assert [(answer.status, answer.reason) for answer in answers] == [(200, "")] * 8
    (streams,) = connections  # one connection for all of them
    assert sorted(answer.body for answer in answers) == sorted(b"stream %d" % stream for stream in streams)
    assert len(set(streams)) == 8


# Configuration


def test_the_user_agent_says_who_asks_and_whom_to_write_to():
    assert FetchConfig().user_agent() == f"flamingo/{__version__}"
    assert FetchConfig(contact="a@b.org").user_agent() == f"flamingo/{__version__} (+a@b.org)"
    assert FetchConfig(contact="https://b.org/crawl").user_agent().endswith(" (+https://b.org/crawl)")


@pytest.mark.parametrize(
    "contact", ["me", "a@", "@b", "https://", "a@b.org\r\nX: y", "a@b.org) (x", "ä@b.org", "a b@c.org", "a@b" * 100]
)
def test_a_contact_is_a_mail_address_or_a_url(contact):
    with pytest.raises(ValueError, match="contact is a mail address or a http URL"):
        FetchConfig(contact=contact)


@pytest.mark.parametrize(("name", "value"), [*((name, 0) for name in politeness.POSITIVE), ("keep", "both")])
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        FetchConfig(**{name: value})


@pytest.mark.parametrize("name", politeness.NOT_NEGATIVE)
def test_settings_that_cannot_be_negative(name):
    FetchConfig(**{name: 0})
    with pytest.raises(ValueError, match=f"{name} is 0 or more"):
        FetchConfig(**{name: -1})


def test_every_setting_is_documented():
    written = document_settings(FetchConfig())
    assert all(f"\n{field.name} = " in written for field in dataclasses.fields(FetchConfig))


def test_bodies_that_are_held_are_bounded():
    big = bytes(300_000)
    config = dataclasses.replace(CONFIG, held_bytes=700_000)

    async def ask(url):
        async with Client(config) as client:
            answers = [await client.get(url, max_bytes=1_000_000) for _ in range(3)]
            for answer in answers:
                client.release(answer)
            again = await client.get(url, max_bytes=1_000_000)
            client.release(again)
            return [answer.reason for answer in [*answers, again]], client.held.bytes

    with WebServer({"/big": Reply(big)}) as server:
        assert asyncio.run(ask(server.url("/big"))) == (["", "", download.OVERLOADED, ""], 0)
