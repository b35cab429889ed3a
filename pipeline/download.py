"""One request to the web: a URL in, an `Answer` out, whatever the server does.

    async with Client(config) as client:
        answer = await client.get(url, max_bytes=30_000_000)

libcurl does the work: HTTP/2 where a host offers it, connections kept alive, names looked up once, one store of
certificates a process. It takes nothing from the environment (proxies, .netrc), keeps no cookies, follows no redirect,
and opens no connection that `addresses` refuses. Whose turn it is to be asked is not decided here.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import certifi
import pycurl

from pipeline.addresses import BAD_URL, refuse_address, refuse_url
from pipeline.politeness import FetchConfig
from pipeline.urls import clean_url

DNS_FAILED = "dns_failed"
REFUSED_ADDRESS = "refused_address"
CONNECT_FAILED = "connect_failed"
TLS_FAILED = "tls_failed"
TIMED_OUT = "timed_out"
TOO_SLOW = "too_slow"
TOO_MANY_BYTES = "too_many_bytes"
TOO_MANY_HEADERS = "too_many_headers"
CUT_SHORT = "cut_short"
BAD_ENCODING = "bad_encoding"
PROTOCOL_ERROR = "protocol_error"
OVERLOADED = "overloaded"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that say where something has moved; the client follows none."""

MAX_HEADER_BYTES = 65_536
"""Bytes of all header lines of an answer, interim answers and trailers included."""

MAX_IDLE_BYTES = 65_536
"""Bytes read of a body that is not wanted; reading them keeps the connection, for more a new one is cheaper."""

MAX_DETAIL_CHARS = 200
DNS_CACHE_S = 300
IDLE_CONNECTIONS = 64  # kept alive beside those in use; macOS allows a process 256 files

STATUS_LINE = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})")
CONTENT_LENGTH = re.compile(rb"content-length:\s*([0-9]{1,20})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: `reason` is "" where an HTTP answer was had, whatever its status.

    Header names are in lower case and in the order sent. `body` has its content codings undone; it is empty where the
    status is not 2xx or a reason is given. `address` is what was connected to.
    """

    url: str
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    reason: str = ""
    detail: str = ""
    address: str = ""
    seconds: float = 0.0

    def header(self, name: str) -> str:
        """Give the first value of a header, or ""."""
        return next((value for known, value in self.headers if known == name), "").strip()


REASONS = {
    pycurl.E_URL_MALFORMAT: BAD_URL,
    pycurl.E_COULDNT_RESOLVE_HOST: DNS_FAILED,
    pycurl.E_COULDNT_CONNECT: CONNECT_FAILED,
    pycurl.E_SSL_CONNECT_ERROR: TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: TLS_FAILED,
    pycurl.E_SSL_CERTPROBLEM: TLS_FAILED,
    pycurl.E_SSL_CIPHER: TLS_FAILED,
    pycurl.E_OPERATION_TIMEDOUT: TIMED_OUT,
    pycurl.E_PARTIAL_FILE: CUT_SHORT,
    pycurl.E_GOT_NOTHING: CUT_SHORT,
    pycurl.E_SEND_ERROR: CUT_SHORT,
    pycurl.E_RECV_ERROR: CUT_SHORT,
    pycurl.E_BAD_CONTENT_ENCODING: BAD_ENCODING,
    pycurl.E_WRITE_ERROR: BAD_ENCODING,  # the one writer that fails beside ours is that of a content coding
    100: TOO_MANY_HEADERS,  # CURLE_TOO_LARGE, which pycurl does not name: 5,000 header lines
}
"""Our reasons for libcurl's results; what is not named is a `protocol_error`, unless it is of `FAULTS`."""

FAULTS = (
    *(pycurl.E_FAILED_INIT, pycurl.E_OUT_OF_MEMORY, pycurl.E_BAD_FUNCTION_ARGUMENT),
    *(pycurl.E_UNKNOWN_OPTION, pycurl.E_NOT_BUILT_IN, pycurl.E_SSL_CACERT_BADFILE),
)
"""Results that no server can bring about."""


class Handover:
    """A socket on its way to libcurl, which takes a copy of its descriptor."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.socket(address.family, address.socktype, address.protocol)

    def fileno(self) -> int:
        """Give the descriptor that is copied."""
        return self.socket.fileno()

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()


@dataclass(slots=True)
class Held:
    """Bytes of bodies that a client and its callers hold."""

    limit: int
    bytes: int = 0


class Transfer:
    """One request under way, as the callbacks of its libcurl handle see it; used for one request after the other."""

    def __init__(self, config: FetchConfig, held: Held) -> None:
        self.held = held
        self.allow_private = config.allow_private
        self.curl: Any = pycurl.Curl()
        for option, value in options(config):
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self.open_socket)
        self.curl.setopt(pycurl.HEADERFUNCTION, self.take_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.take_body)

    def begin(self, url: str, max_bytes: int, accept: str, cut: bool) -> None:
        """Make ready for the next request."""
        self.max_bytes, self.cut = max_bytes, cut
        self.status = self.header_bytes = self.body_bytes = self.limit = 0
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []
        self.reason = self.refused = self.refused_ip = ""
        self.opened = self.complete = False
        self.curl.setopt(pycurl.URL, url)
        self.curl.setopt(pycurl.HTTPHEADER, [f"Accept: {accept}"])

    def open_socket(self, purpose: int, address: Any) -> Any:
        """Open a socket to an address, as libcurl is about to connect to it, unless it is refused."""
        ip = str(address.addr[0]) if address.family in (socket.AF_INET, socket.AF_INET6) else ""
        refused = refuse_address(ip)
        if refused and not self.allow_private:
            self.refused, self.refused_ip = refused, ip
            return pycurl.SOCKET_BAD
        self.opened = True
        try:
            return Handover(address)
        except OSError:  # no such family on this machine, or no file left
            return pycurl.SOCKET_BAD

    def take_header(self, line: bytes) -> int | None:
        """Take a header line; libcurl gives the lines of interim answers and trailers as well."""
        self.header_bytes += len(line)
        if self.header_bytes > MAX_HEADER_BYTES:
            self.reason, self.limit = TOO_MANY_HEADERS, MAX_HEADER_BYTES
            return -1
        if line.startswith(b"HTTP/") and (first := STATUS_LINE.match(line)):
            self.status = int(first[1])
            self.lines.clear()
        elif not line.strip():
            return self.end_headers()
        elif not self.complete:
            self.lines.append(line)
        return None

    def end_headers(self) -> int | None:
        """Take the empty line after the headers: of an interim answer, of the answer, or of its trailers."""
        self.complete = self.status >= 200
        declared = (length[1] for line in self.lines if (length := CONTENT_LENGTH.match(line)))
        if self.wanted and not self.cut and any(int(digits) > self.max_bytes for digits in declared):
            self.reason, self.limit = TOO_MANY_BYTES, self.max_bytes
            return -1
        return None

    def take_body(self, data: bytes) -> int | None:
        """Take a piece of the body after its codings were undone; -1 ends the transfer."""
        self.body_bytes += len(data)
        self.held.bytes += len(data)
        if not self.wanted:
            return -1 if self.body_bytes > MAX_IDLE_BYTES else None
        if self.body_bytes > self.max_bytes:
            self.reason, self.limit = "" if self.cut else TOO_MANY_BYTES, self.max_bytes
            self.pieces.append(data[: self.max_bytes - self.body_bytes])
            return -1
        if self.held.bytes > self.held.limit:
            self.reason = OVERLOADED
            return -1
        self.pieces.append(data)
        return None

    @property
    def wanted(self) -> bool:
        """Tell whether the body says more than the status does."""
        return 200 <= self.status < 300

    def judge(self, code: int, total_s: float) -> str:
        """Name what went wrong by libcurl's result; "" where nothing did that matters."""
        if self.reason or code == pycurl.E_OK:
            return self.reason
        if self.complete and (not self.wanted or (self.cut and self.body_bytes > self.max_bytes)):
            return ""
        if code == pycurl.E_COULDNT_CONNECT and self.refused and not self.opened:
            return REFUSED_ADDRESS
        if code == pycurl.E_OPERATION_TIMEDOUT and self.header_bytes and self.seconds() < total_s:
            return TOO_SLOW
        return REASONS.get(code, PROTOCOL_ERROR)

    def seconds(self) -> float:
        """Give the seconds that the request took."""
        return float(self.curl.getinfo(pycurl.TOTAL_TIME))

    def answer(self, url: str, reason: str, message: str) -> Answer:
        """Put together what came, and let go of it here."""
        body = b"" if reason else b"".join(self.pieces)
        self.pieces.clear()
        self.held.bytes += len(body) - self.body_bytes
        if reason == REFUSED_ADDRESS:
            message = f"{self.refused} {self.refused_ip}"
        elif self.limit:
            message = f"more than {self.limit} bytes"
        return Answer(
            url=url,
            status=self.status,
            headers=tuple(map(split_header, self.lines)),
            body=body,
            reason=reason,
            detail=message.encode("ascii", "backslashreplace").decode()[:MAX_DETAIL_CHARS] if reason else "",
            address=self.refused_ip if reason == REFUSED_ADDRESS else self.curl.getinfo(pycurl.PRIMARY_IP) or "",
            seconds=self.seconds(),
        )


class Client:
    """The web as one event loop asks it; `hosts` gives names an address without DNS, for tests.

    It asks at once whatever it is told to: how many requests are in flight is for the caller to bound.
    """

    def __init__(self, config: FetchConfig, hosts: Mapping[str, str] | None = None) -> None:
        self.config, self.hosts, self.held = config, hosts or {}, Held(config.held_bytes)
        self.idle: list[Transfer] = []

    async def __aenter__(self) -> Client:
        self.multi: Any = pycurl.AsyncCurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, self.config.in_flight + IDLE_CONNECTIONS)
        self.multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.multi.aclose()
        for transfer in self.idle:
            transfer.curl.close()
        self.idle.clear()

    async def get(self, url: str, *, max_bytes: int, accept: str = "*/*", cut: bool = False) -> Answer:
        """Ask for a URL once; `cut` takes the first `max_bytes` of a longer body, which is refused otherwise.

        The body counts as held until `release`. Raises nothing but `CancelledError` and, for mistakes of ours,
        `pycurl.error`.
        """
        refused, clean = refuse_url(url), clean_url(url)
        if refused or clean is None:
            return Answer(url, reason=refused or BAD_URL)
        transfer = self.idle.pop() if self.idle else Transfer(self.config, self.held)
        transfer.begin(clean, max_bytes, accept, cut)
        if self.hosts:
            transfer.curl.setopt(pycurl.CONNECT_TO, self.place(clean))
        code, message = pycurl.E_OK, ""
        try:
            await self.multi.perform(transfer.curl)
        except pycurl.error as error:
            code, message = error.args
            if code in FAULTS:
                raise
        # Not reached when cancelled: libcurl then still holds the handle, which is left to it.
        answer = transfer.answer(url, transfer.judge(code, self.config.total_s), message)
        self.idle.append(transfer)
        return answer

    def release(self, answer: Answer) -> None:
        """Say that the body of an answer is no longer held."""
        self.held.bytes -= len(answer.body)

    def place(self, url: str) -> list[str]:
        """Say where a name of `hosts` leads, as libcurl wants it."""
        name = urlsplit(url).hostname or ""
        address = self.hosts.get(name)
        return [] if address is None else [f"{name}::{f'[{address}]' if ':' in address else address}:"]


def options(config: FetchConfig) -> list[tuple[int, Any]]:
    """List what holds for every request."""
    verify = 1 if config.tls_verify else 0
    return [
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PATH_AS_IS, 1),  # the URL is in its normal form already
        (pycurl.PROXY, ""),
        (pycurl.NETRC, 0),
        (pycurl.USERAGENT, config.user_agent()),
        (pycurl.ACCEPT_ENCODING, ""),  # all that libcurl can undo: gzip, deflate, br
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
        (pycurl.PIPEWAIT, 1),  # for the first answer of a host, which may allow many requests on its connection
        (pycurl.SSL_VERIFYPEER, verify),
        (pycurl.SSL_VERIFYHOST, 2 * verify),
        (pycurl.CAINFO, os.environ.get("SSL_CERT_FILE") or certifi.where()),
        (pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S),
        (pycurl.BUFFERSIZE, 131_072),
        (pycurl.CONNECTTIMEOUT_MS, round(config.connect_s * 1000)),
        (pycurl.TIMEOUT_MS, round(config.total_s * 1000)),
        (pycurl.LOW_SPEED_LIMIT, max(config.min_bytes_per_s, 1)),
        (pycurl.LOW_SPEED_TIME, config.read_s),
    ]


def split_header(line: bytes) -> tuple[str, str]:
    """Split a header line into its name, in lower case, and its value."""
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()
