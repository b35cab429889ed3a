"""A web server for tests, on loopback alone, that behaves as badly as it is told to and notes every request.

    with WebServer({"/a.jpg": Reply(data, "image/jpeg"), "/x": Reply(way="reset")}) as server:
        server.url("/a.jpg")                # http://127.0.0.1:PORT/a.jpg
        server.url("/a.jpg", "127.0.0.7")   # another host, if `addresses` names it (Linux has all of 127.0.0.0/8)
        server.seen                         # a `Seen` a request, in the order of arrival
        server.most()                       # the most requests in flight at one time: by Host, and "" for all

The key of a route is a path, or a Host (without its port) and a path: `"b.test/a.jpg"`. Its value is a `Reply`; a list
of replies, given one a request, the last one for ever; or a function of the `Seen` that returns a `Reply`. Routes may
be changed while it runs. What has no route is a 404. `tls=True` speaks https with `CERTIFICATE`, which is valid for
localhost, a.test, b.test, c.test, 127.0.0.1 and ::1, until 2126, and which nobody trusts.
By hand: `python tests/web_server.py PORT` serves `WAYS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("localhost.pem")

BOMB_BYTES = 64_000_000
"""What `gzip_bomb` inflates to, from a thousandth of it."""

WAYS = {
    "whole": "as HTTP says",
    "chunked": "in chunks of 1,000 bytes, without Content-Length",
    "unframed": "with neither length nor chunks: the connection's end is the body's end",
    "short": "declares twice the bytes that it sends, then closes",
    "long": "declares half of the bytes that it sends",
    "cut_chunk": "closes in the middle of a chunk",
    "slow_body": "a byte of the body every 0.05 s",
    "slow_headers": "a header every 0.2 s, for ever",
    "silent_body": "the headers and half of the body, then nothing",
    "endless_body": "zeros for ever",
    "endless_headers": "headers for ever",
    "endless_continue": "100 Continue for ever",
    "gzip_bomb": f"gzip of {BOMB_BYTES} zeros, whatever was asked",
    "garbage": "no HTTP at all",
    "bare": "the body alone, as HTTP/0.9 did",
    "reset": "resets the connection after the request",
    "reset_body": "resets it after half of the body",
    "close": "closes the connection after the request",
    "never": "never answers",
}
"""How a reply can go wrong."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; `headers` come beside Content-Type and Content-Length, `delay_s` before the first byte."""

    body: bytes = b""
    type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    delay_s: float = 0
    way: str = "whole"


def redirect(target: str, status: int = 302) -> Reply:
    """Answer with another place."""
    return Reply(headers=(("Location", target),), status=status)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in; `time` is of `time.monotonic`, the counts include this request."""

    time: float
    path: str
    host: str
    user_agent: str
    headers: Mapping[str, str] = field(repr=False)
    connection: int
    in_flight: int
    in_flight_of_host: int


Route = Reply | list[Reply] | Callable[[Seen], Reply]


class WebServer:
    """The server, in a thread of its own while the context is open; `addresses` share one port."""

    def __init__(
        self,
        routes: Mapping[str, Route] | None = None,
        *,
        tls: bool = False,
        addresses: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
    ) -> None:
        self.routes: dict[str, Route] = dict(routes or {})
        self.tls, self.addresses, self.port = tls, addresses, port
        self.seen: list[Seen] = []
        self.in_flight: Counter[str] = Counter()
        self.connections = itertools.count(1)
        self.open: set[asyncio.Task[None]] = set()

    def url(self, path: str, host: str = "") -> str:
        """Name a path of this server at one of its addresses or at a name that leads there."""
        host = host or self.addresses[0]
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def most(self) -> dict[str, int]:
        """Count the most requests that were in flight at one time, by Host and in all (under "")."""
        most = {"": max((seen.in_flight for seen in self.seen), default=0)}
        for seen in self.seen:
            most[seen.host] = max(most.get(seen.host, 0), seen.in_flight_of_host)
        return most

    def __enter__(self) -> WebServer:
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True)
        self.thread.start()
        assert started.wait(10), "the test server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)
        assert not self.thread.is_alive(), "the test server did not stop"

    async def serve(self, started: threading.Event) -> None:
        """Listen until told to stop, then cut what is still open."""
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if self.tls else None
        if context:
            context.load_cert_chain(CERTIFICATE)
        first, *others = self.addresses
        server = await asyncio.start_server(self.connect, first, self.port, ssl=context, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        servers = [server]
        for address in others:
            servers.append(await asyncio.start_server(self.connect, address, self.port, ssl=context, backlog=1024))
        started.set()
        await self.stop.wait()
        for server in servers:
            server.close()
        for task in self.open:
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection one after the other, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        number = next(self.connections)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while await self.answer(reader, writer, number):
                    pass
        except asyncio.CancelledError:
            pass  # the server stops; there is nobody to tell
        finally:
            self.open.discard(task)
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        """Answer one request; False where the connection ends with it."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        lines = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in lines}
        path, host = head[0].split(" ")[1], headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        self.in_flight.update(("", host))
        leave = self.leaver(host)
        agent = headers.get("user-agent", "")
        total, of_host = self.in_flight[""], self.in_flight[host]
        seen = Seen(time.monotonic(), path, host, agent, headers, connection, total, of_host)
        self.seen.append(seen)
        try:
            reply = self.reply_to(seen)
            await asyncio.sleep(reply.delay_s)
            return await send(reply, writer, leave)
        finally:
            leave()

    def leaver(self, host: str) -> Callable[[], None]:
        """Give what takes a request out of the count, once: before its last byte, as the next may follow at once."""
        keys = ["", host]

        def leave() -> None:
            self.in_flight.subtract(keys)
            keys.clear()

        return leave

    def reply_to(self, seen: Seen) -> Reply:
        """Find the reply of a request."""
        route = self.routes.get(seen.host + seen.path) or self.routes.get(seen.path) or Reply(status=404)
        if isinstance(route, list):
            return route.pop(0) if len(route) > 1 else route[0]
        return route if isinstance(route, Reply) else route(seen)


async def send(reply: Reply, writer: asyncio.StreamWriter, leave: Callable[[], None]) -> bool:
    """Write a reply in its way; False where no other can follow on the connection."""
    assert reply.way in WAYS, reply.way
    start = f"HTTP/1.1 {reply.status} Said\r\nContent-Type: {reply.type}\r\n"
    start += "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
    length, body = len(reply.body), reply.body
    match reply.way:
        case "whole":
            await end(writer, f"{start}Content-Length: {length}\r\n\r\n".encode("latin-1") + body, leave)
            return True
        case "chunked":
            chunks = (body[at : at + 1000] for at in range(0, length, 1000))
            framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            head = f"{start}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1")
            await end(writer, head + framed + b"0\r\n\r\n", leave)
            return True
        case "gzip_bomb":
            bomb = gzip.compress(bytes(BOMB_BYTES), 1)
            writer.write(f"{start}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb)
        case "never":
            await asyncio.sleep(3600)
        case "slow_body":
            writer.write(f"{start}Content-Length: {length}\r\n\r\n".encode("latin-1"))
            await drip(writer, (body[at : at + 1] for at in range(length)), 0.05)
        case "slow_headers":
            await drip(writer, (b"X-%d: 1\r\n" % at if at else start.encode() for at in itertools.count()), 0.2)
        case "silent_body":
            writer.write(f"{start}Content-Length: {length}\r\n\r\n".encode("latin-1") + body[: length // 2])
            await writer.drain()
            await asyncio.sleep(3600)
        case "endless_body":
            writer.write(f"{start}Connection: close\r\n\r\n".encode("latin-1"))
            await drip(writer, itertools.repeat(bytes(65536)), 0)
        case "endless_headers":
            await drip(writer, (b"X-%d: 1\r\n" % at if at else start.encode() for at in itertools.count()), 0)
        case "endless_continue":
            await drip(writer, itertools.repeat(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"), 0)
        case "reset" | "reset_body":
            if reply.way == "reset_body":
                writer.write(f"{start}Content-Length: {length}\r\n\r\n".encode("latin-1") + body[: length // 2])
                await writer.drain()
                await asyncio.sleep(0.1)  # a reset throws away what the other side has not read yet
            leave()
            reset(writer)
        case _:
            leave()
            writer.write(broken(reply.way, start, body))
    await writer.drain()
    await asyncio.sleep(0)
    writer.close()
    return False


async def end(writer: asyncio.StreamWriter, data: bytes, leave: Callable[[], None]) -> None:
    """Write what ends a reply; the request leaves the count before its last byte is sent."""
    writer.write(data[:-1])
    await writer.drain()
    leave()
    writer.write(data[-1:])
    await writer.drain()


def broken(way: str, start: str, body: bytes) -> bytes:
    """Write a reply that breaks the rules in one piece."""
    declared = {"short": len(body) * 2, "long": len(body) // 2}
    match way:
        case "unframed":
            head = f"{start}Connection: close\r\n\r\n"
        case "short" | "long":
            head = f"{start}Content-Length: {declared[way]}\r\n\r\n"
        case "cut_chunk":
            head = f"{start}Transfer-Encoding: chunked\r\n\r\n{len(body) * 2:x}\r\n"
        case "garbage":
            return b"\x00\x01\x02 no HTTP\r\n\r\n" + body
        case "bare":
            return body
        case _:
            return b""
    return head.encode("latin-1") + body


async def drip(writer: asyncio.StreamWriter, pieces, pause_s: float) -> None:
    """Write pieces with pauses, until the other side has had enough."""
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


if __name__ == "__main__":
    ways = {f"/{way}": Reply(b"<p>some text</p>" * 100, way=way) for way in WAYS}
    with WebServer(ways, port=int(sys.argv[1])) as running, contextlib.suppress(KeyboardInterrupt):
        for way, meaning in WAYS.items():
            sys.stdout.write(f"{running.url('/' + way)}  {meaning}\n")
        running.thread.join()
