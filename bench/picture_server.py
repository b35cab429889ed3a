"""A web server that gives out pictures at little cost of its own.

    python bench/picture_server.py --images 2000 --hosts 64 --latency-ms 200 --errors 0.02 --slow 0.02 --tls

A pack of pictures comes in, a server on 127.0.0.1, 127.0.0.2, ... goes out: politeness is kept host by host, and an
address is a host. The first line it prints is its port.

Picture N is `/N.jpg`. Latency counts from request to answer; of every hundred pictures, the same few are errors (503)
or come slowly, in pieces over a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import re
import ssl
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "build" / "pictures"
MAX_REQUEST_BYTES = 16_384
SLOW_PIECES = 8
SLOW_PIECE_S = 0.125


def read_pack(pack: Path) -> list[memoryview]:
    """Read the pictures of a pack without copying them."""
    ends = json.loads(pack.with_suffix(".json").read_text("utf-8"))
    with pack.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


# --- server ----------------------------------------------------------------------------------------------------------

GET = re.compile(rb"GET (?:/(\d{1,9})\.jpg|\S+) HTTP/1\.[01]\r\n")


@dataclass(frozen=True, slots=True)
class Manners:
    """How the server answers; shares are of all pictures."""

    latency_s: float = 0.0
    errors: float = 0.0
    slow: float = 0.0


class Answers(asyncio.Protocol):
    """One connection, kept alive; a request that comes before the answer to the last one waits in the buffer."""

    def __init__(self, pictures: list[memoryview], heads: list[bytes], manners: Manners) -> None:
        self.pictures, self.heads, self.manners = pictures, heads, manners
        self.received, self.busy = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin with a request when all of it is there."""
        self.received += data
        if len(self.received) > MAX_REQUEST_BYTES:
            self.transport.close()
        elif not self.busy:
            self.next()

    def next(self) -> None:
        """Take a request, and answer it now or when the latency is over."""
        request, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        self.received, self.busy = rest, True
        found = GET.match(request + b"\r\n")
        number = int(found[1]) if found and found[1] else -1
        if self.manners.latency_s:
            asyncio.get_running_loop().call_later(self.manners.latency_s, self.answer, number)
        else:
            self.answer(number)

    def answer(self, number: int) -> None:
        """Write the picture, or the error that stands for it."""
        place = number * 61 % 100 / 100
        if self.transport.is_closing():
            return
        if not 0 <= number < len(self.pictures):
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif place < self.manners.errors:
            self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        elif place < self.manners.errors + self.manners.slow:
            self.transport.write(self.heads[number])
            self.write_slowly(self.pictures[number], SLOW_PIECES)
            return
        else:
            self.transport.writelines([self.heads[number], self.pictures[number]])
        self.finish()

    def write_slowly(self, rest: memoryview, pieces: int) -> None:
        """Write a piece, and the others later."""
        size = -(-len(rest) // pieces)
        self.transport.write(rest[:size])
        if pieces > 1 and not self.transport.is_closing():
            asyncio.get_running_loop().call_later(SLOW_PIECE_S, self.write_slowly, rest[size:], pieces - 1)
        else:
            self.finish()

    def finish(self) -> None:
        """Go on with what came meanwhile."""
        self.busy = False
        self.next()


def make_certificate(hosts: list[str], folder: Path = FOLDER) -> Path:
    """Give a certificate for the addresses, with its key in the same file; it signs itself (needs openssl)."""
    path = folder / f"{len(hosts)}-hosts.pem"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        names = "subjectAltName=" + ",".join(f"IP:{host}" for host in hosts)
        made = [path.with_suffix(".key"), path.with_suffix(".crt")]
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=bench"
        options = ["-addext", names, "-keyout", str(made[0]), "-out", str(made[1])]
        subprocess.run([*command.split(), *options], check=True, capture_output=True)
        path.write_bytes(b"".join(part.read_bytes() for part in made))
    return path


def host_names(count: int) -> list[str]:
    """Name so many addresses of this machine."""
    return [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(count)]


async def serve(pack: Path, hosts: list[str], manners: Manners, certificate: Path | None) -> None:
    """Listen at one port of every address, say which, and answer for ever."""
    pictures = read_pack(pack)
    head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    heads = [head.format(len(picture)).encode() for picture in pictures]
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    listen = partial(
        asyncio.get_running_loop().create_server, lambda: Answers(pictures, heads, manners), ssl=context, backlog=1024
    )
    first = await listen(hosts[0], 0)
    port = first.sockets[0].getsockname()[1]
    servers = [first, *[await listen(host, port) for host in hosts[1:]]]
    print(port, flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--errors", type=float, default=0.0, help="share of pictures that are errors")
    parser.add_argument("--slow", type=float, default=0.0, help="share of pictures that come slowly")
    parser.add_argument("--tls", action="store_true")
    given = parser.parse_args()
    hosts = host_names(given.hosts)
    manners = Manners(given.latency_ms / 1000, given.errors, given.slow)
    certificate = make_certificate(hosts) if given.tls else None
    from photographs import make_pack

    asyncio.run(serve(make_pack(given.images), hosts, manners, certificate))


if __name__ == "__main__":
    main()
