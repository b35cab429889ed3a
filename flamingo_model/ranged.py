"""Ranges of bytes over HTTP, within limits of time and memory that hold whatever a server does.

    (URL, offset, length) → exactly these bytes, the size of the whole, and a tag that changes with its content

fsspec's own client reads an answer to its end before it looks at its status, and does not tell whether the content
has changed; so a server that knows no ranges would fill the memory.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

NOT_FOUND, FORBIDDEN, REFUSED, BAD_URL = "not_found", "forbidden", "refused", "bad_url"
NO_RANGES, BEYOND_END, CHANGED = "no_ranges", "beyond_end", "changed"
TIMED_OUT, CONNECTION, CERTIFICATE, CUT = "timed_out", "connection", "certificate", "cut"
SERVER_ERROR, BROKEN_REPLY, WRONG_RANGE, REDIRECTS = "server_error", "broken_reply", "wrong_range", "redirects"

MIN_BYTES_PER_S = 1 << 16
"""A reply that is slower than this on the whole is given up."""
MAX_REDIRECTS = 5
MAX_IDLE_BODY_BYTES = 1 << 16
"""Of a reply that is not wanted: it is read, as the connection can serve on."""
CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
REDIRECTED = (301, 302, 303, 307, 308)
STATUSES = {404: NOT_FOUND, 410: NOT_FOUND, 401: FORBIDDEN, 403: FORBIDDEN, 407: FORBIDDEN}
MAY_PASS = (408, 425, 429)
SAFE_IN_TARGET = "/%:=&?~+!$,;'@()*[]"


class Failure(Exception):  # noqa: N818 (an outcome that is judged, rarely an error)
    """A read that failed: `reason` is a constant, `lasting` says that another try would fail as well."""

    def __init__(self, reason: str, told: str, lasting: bool = False) -> None:
        super().__init__(told)
        self.reason, self.told, self.lasting = reason, told, lasting


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of an object; `total` is the size of all of it, -1 where the server does not say, `tag` may be empty."""

    data: bytes
    total: int
    tag: str


class Timed(io.RawIOBase):
    """The bytes of a socket, with a limit on each wait and on all of them together."""

    def __init__(self, sock: socket.socket, stall_s: float, until: float) -> None:
        self.sock, self.stall_s, self.until = sock, stall_s, until
        self.raw = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand for the socket where a reply opens it to read."""
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        """Say that it is read from."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Wait for bytes."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the reply is too slow")
        self.sock.settimeout(min(left, self.stall_s))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self.raw.close()
        super().close()


class HttpRanges:
    """Reads ranges, safe to use from several threads, over connections that are kept.

    `timeout_s` bounds the wait for a connection and for each next bytes.
    """

    def __init__(self, timeout_s: float, connections: int) -> None:
        self.timeout_s, self.connections = timeout_s, connections
        self.lock = threading.Lock()
        self.idle: dict[tuple[str, str], list[HTTPConnection]] = {}
        self.busy: set[HTTPConnection] = set()
        self.tls: ssl.SSLContext | None = None

    def read(self, url: str, offset: int, length: int) -> Answer:
        """Read a range of at least one byte; raises `Failure`."""
        until = time.monotonic() + self.timeout_s + length / MIN_BYTES_PER_S
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self.follow(url, offset, length, until)
                if isinstance(answer, Answer):
                    return answer
                url = answer
        except TimeoutError:
            raise Failure(TIMED_OUT, "no bytes came in time") from None
        except ssl.SSLCertVerificationError as error:
            raise Failure(CERTIFICATE, f"its certificate is not valid: {error.verify_message}", True) from None
        except (InvalidURL, ValueError) as error:
            raise Failure(BAD_URL, f"no URL to ask for: {error}", True) from None
        except ConnectionError as error:
            raise Failure(CONNECTION, f"the connection failed: {error}") from None
        except HTTPException as error:
            raise Failure(BROKEN_REPLY, f"no reply as HTTP has it ({type(error).__name__})") from None
        except OSError as error:
            raise Failure(CONNECTION, f"the connection failed: {error}") from None
        raise Failure(REDIRECTS, f"more than {MAX_REDIRECTS} redirects", True)

    def follow(self, url: str, offset: int, length: int, until: float) -> Answer | str:
        """Ask once; gives the answer, or the URL to ask instead."""
        parts = urlsplit(url)
        while True:
            connection, used = self.connect(parts)
            try:
                response = self.ask(connection, parts, f"bytes={offset}-{offset + length - 1}", until)
            except (ConnectionError, HTTPException):
                self.drop(connection)
                # A server may close a kept connection at any time; that is no failure of the read.
                if used:
                    continue
                raise
            except BaseException:
                self.drop(connection)
                raise
            kept = False
            try:
                found = take(response, url, offset, length)
                kept = settled(response)
                return found
            except Failure:
                kept = settled(response)
                raise
            finally:
                response.close()
                self.keep(connection, parts, kept)

    def ask(self, connection: HTTPConnection, parts: SplitResult, span: str, until: float) -> HTTPResponse:
        """Send a request and read the head of its reply."""
        if connection.sock is not None:
            connection.sock.settimeout(self.timeout_s)

        def respond(sock: socket.socket, *args: Any, **named: Any) -> HTTPResponse:
            return HTTPResponse(cast(Any, Timed(sock, self.timeout_s, until)), *args, **named)

        connection.response_class = cast(Any, respond)
        target = quote(parts.path or "/", SAFE_IN_TARGET) + (
            f"?{quote(parts.query, SAFE_IN_TARGET)}" if parts.query else ""
        )
        connection.request("GET", target, headers={"Range": span, "User-Agent": "flamingo", "Accept": "*/*"})
        return connection.getresponse()

    def connect(self, parts: SplitResult) -> tuple[HTTPConnection, bool]:
        """Take a kept connection, or make one that connects when it is used."""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(BAD_URL, "no http or https URL", True)
        with self.lock:
            kept = self.idle.get((parts.scheme, parts.netloc))
            connection = kept.pop() if kept else None
            used = connection is not None
            if connection is None:
                connection = self.make(parts)
            self.busy.add(connection)
        return connection, used

    def make(self, parts: SplitResult) -> HTTPConnection:
        """Make a connection to a server."""
        assert parts.hostname
        try:
            port = parts.port
        except ValueError:
            raise Failure(BAD_URL, "no port that there is", True) from None
        if parts.scheme == "http":
            return HTTPConnection(parts.hostname, port, timeout=self.timeout_s)
        self.tls = self.tls or ssl.create_default_context()
        return HTTPSConnection(parts.hostname, port, timeout=self.timeout_s, context=self.tls)

    def keep(self, connection: HTTPConnection, parts: SplitResult, kept: bool) -> None:
        """Keep a connection for the next request, if it can serve one."""
        with self.lock:
            self.busy.discard(connection)
            idle = self.idle.setdefault((parts.scheme, parts.netloc), [])
            if kept and connection.sock is not None and len(idle) < self.connections:
                idle.append(connection)
                return
        connection.close()

    def drop(self, connection: HTTPConnection) -> None:
        """Let go of a connection that failed."""
        with self.lock:
            self.busy.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close what is idle, and cut what is being read."""
        with self.lock:
            connections = [connection for idle in self.idle.values() for connection in idle]
            self.idle.clear()
            for connection in self.busy:
                if connection.sock is not None:
                    cut(connection.sock)
        for connection in connections:
            connection.close()

    def abandon(self) -> None:
        """Close this process's copies after a fork; the connections go on to serve the process that made them."""
        for connection in [*self.busy, *(connection for idle in self.idle.values() for connection in idle)]:
            if connection.sock is not None:
                connection.sock.close()


def take(response: HTTPResponse, url: str, offset: int, length: int) -> Answer | str:
    """Read a reply to the request for a range; gives the URL that it leads to instead, if it does."""
    status = response.status
    if status in REDIRECTED:
        target = urljoin(url, response.headers.get("Location", ""))
        if url.startswith("https:") and not target.startswith("https:"):
            raise Failure(REDIRECTS, "it leads from https to something else", True)
        return target
    span = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = -1 if span is None or span[3] == "*" else int(span[3])
    if status == 416:
        raise Failure(BEYOND_END, f"bytes {offset} to {offset + length} of {total} were asked for", True)
    if status == 200:
        raise Failure(NO_RANGES, "the server gives the whole instead of a range", True)
    if status != 206:
        lasting = 400 <= status < 500 and status not in MAY_PASS
        reason = STATUSES.get(status, REFUSED if lasting else SERVER_ERROR)
        raise Failure(reason, f"the server said {status}", lasting)
    if span is None or span[1] is None or response.headers.get("Content-Encoding", "identity") != "identity":
        raise Failure(WRONG_RANGE, "the server does not say which bytes it sends")
    if 0 <= total < offset + length:
        raise Failure(BEYOND_END, f"bytes {offset} to {offset + length} of {total} were asked for", True)
    if (int(span[1]), int(span[2])) != (offset, offset + length - 1) or response.length not in (None, length):
        raise Failure(WRONG_RANGE, "the server sends other bytes than were asked for")
    data = response.read(length)
    if len(data) != length:
        raise Failure(CUT, f"{len(data)} of {length} bytes came")
    if response.length is None and response.read(1):
        raise Failure(WRONG_RANGE, "the server sends more bytes than were asked for")
    tag = response.headers.get("ETag", "")
    return Answer(data, total, response.headers.get("Last-Modified", "") if tag[:2] in ("", "W/") else tag)


def settled(response: HTTPResponse) -> bool:
    """Read the rest of a reply; tells whether its connection can serve another request."""
    if response.length is not None and response.length > MAX_IDLE_BODY_BYTES:
        return False
    try:
        response.read(MAX_IDLE_BODY_BYTES)
    except (OSError, HTTPException):
        return False
    return response.isclosed() and not response.will_close


def cut(sock: socket.socket) -> None:
    """End a connection that another thread may be waiting for."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it had ended by itself
