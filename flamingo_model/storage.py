"""Bytes of shards, from a local disk or over the net: exactly those that were asked for, or an error that says why.

    (shard, offset, length) → bytes

A local file is read in place. Over HTTP and every other protocol of fsspec, ranges are read, with limits of time;
what may pass by itself is tried again. Whole blocks can be read ahead, within a bound of memory: the samples in them
are then slices.
"""

from __future__ import annotations

import functools
import io
import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from fsspec.asyn import sync
from fsspec.core import url_to_fs

from flamingo_model.ahead import ReadAhead
from flamingo_model.ranged import (
    BEYOND_END,
    CHANGED,
    CUT,
    FORBIDDEN,
    MIN_BYTES_PER_S,
    NOT_FOUND,
    TIMED_OUT,
    Failure,
    HttpRanges,
)

CLOSED, NO_PROTOCOL, FAILED = "closed", "no_protocol", "failed"
NO_SIZE = "no_size"
MAX_WAIT_S = 30.0
CHUNK_BYTES = 4 << 20
"""Read at once where a remote shard is read as a file."""
PATIENCE = ("retries", "wait_s", "timeout_s", "connections", "max_bytes", "open_files")
TAGS = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems say of a file that changes with its content."""
Value = TypeVar("Value")


class Unreadable(OSError):  # noqa: N818 (named as BadSample is)
    """Bytes that cannot be had: `reason` is a constant, `url` the shard's."""

    def __init__(self, reason: str, url: str, told: str) -> None:
        super().__init__(f"{plain(url)}: {told}")
        self.reason, self.url, self.told = reason, url, told

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str, str]]:
        return Unreadable, (self.reason, self.url, self.told)


@dataclass(frozen=True, slots=True)
class Stat:
    """The size of a shard in bytes, and a tag that changes with its content, if its file system has one."""

    size: int
    tag: str


class OpenFile:
    """A descriptor that is closed when nobody reads from it any more, also after it left the list of open files."""

    __slots__ = ("number", "size")

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self.number).st_size

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class Storage:
    """Reads from the shards `urls`, safe to use from several threads, after a fork, and pickled to other processes.

    `sizes` are those that the shards must have, -1 where that is not known. `retried` counts failures that were tried
    again, by reason.
    """

    def __init__(
        self,
        urls: Sequence[str],
        sizes: Iterable[int] | None = None,
        *,
        retries: int = 4,
        wait_s: float = 0.5,
        timeout_s: float = 30.0,
        connections: int = 16,
        max_bytes: int = 1 << 30,
        open_files: int = 128,
    ) -> None:
        """Say what to read, and how patiently.

        `retries` are further tries of what may yet succeed, the first after about `wait_s`, which doubles each time.
        `timeout_s` is the longest wait for a connection, and for its next bytes; a whole read may take 1 s longer for
        every 64 KiB. `connections` blocks are read ahead at once, and `max_bytes` of them held. `open_files` local
        shards are kept open.
        """
        self.urls = tuple(urls)
        self.sizes = tuple(int(size) for size in sizes) if sizes is not None else (-1,) * len(self.urls)
        self.retries, self.wait_s, self.timeout_s = retries, wait_s, timeout_s
        self.connections, self.max_bytes, self.open_files = connections, max_bytes, open_files
        self.paths = [local_path(url) for url in self.urls]
        self.retried: Counter[str] = Counter()
        self.tags: dict[int, str] = {}
        self.files: OrderedDict[int, OpenFile] = OrderedDict()
        self.renew()
        STORAGES.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        named = {name: getattr(self, name) for name in PATIENCE}
        return functools.partial(Storage, **named), (self.urls, self.sizes)

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        """Begin without threads, connections or blocks, as a forked process must."""
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.web = HttpRanges(self.timeout_s, self.connections)
        self.ahead = ReadAhead(self.fetch, self.connections, self.max_bytes)

    def close(self) -> None:
        """Stop: what other threads are reading ends with an error."""
        self.stopped.set()
        self.ahead.close()
        self.web.close()
        with self.lock:
            self.files.clear()

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes; raises `Unreadable`."""
        if self.paths[shard] is None:
            return self.read_remote(shard, offset, length)
        with self.lock:
            file = self.files.get(shard)
            if file is not None:
                self.files.move_to_end(shard)
        if file is not None:
            try:
                data = os.pread(file.number, length, offset)
            except OSError:
                data = b""  # the slower way tries again and tells
            if len(data) == length:
                return data
        return self.tried(shard, lambda: self.read_local(shard, offset, length))

    def stat(self, shard: int) -> Stat:
        """Ask for size and tag of a shard; raises `Unreadable`."""
        return self.tried(shard, lambda: self.ask(shard))

    def file(self, shard: int) -> BinaryIO:
        """Open a shard to read here and there in it; raises `Unreadable`, as reading a remote one does."""
        path, size = self.paths[shard], self.stat(shard).size
        if path is None:
            return cast(BinaryIO, io.BufferedReader(ShardFile(self, shard, size), CHUNK_BYTES))
        self.tried(shard, lambda: self.open(shard))
        return open(path, "rb", buffering=0)

    def read_ahead(self, shard: int, offset: int, length: int, wanted: int | None = None) -> bool:
        """Begin to read a block, so that later reads within it need not wait; False where nothing was begun.

        It is held until `wanted` bytes were read of it (default: all of them).
        """
        if self.paths[shard] is not None:
            return self.advise(shard, offset, length)
        return self.ahead.begin(shard, offset, length, wanted)

    def forget(self, shard: int | None = None) -> None:
        """Drop what was read ahead of a shard, or of all."""
        self.ahead.forget(shard)

    def read_remote(self, shard: int, offset: int, length: int) -> bytes:
        """Take bytes that were read ahead, or read them alone."""
        try:
            data = self.ahead.read(shard, offset, length)
        except Unreadable as error:
            raise Unreadable(error.reason, error.url, error.told) from None  # with a traceback of its own
        return self.fetch(shard, offset, length) if data is None else data

    def fetch(self, shard: int, offset: int, length: int) -> bytes:
        """Read a range over the net."""
        return self.tried(shard, lambda: self.ask_range(shard, offset, length)) if length else b""

    def tried(self, shard: int, attempt: Callable[[], Value]) -> Value:
        """Do what may fail, again if it may yet succeed."""
        wait_s = self.wait_s
        for left in range(self.retries, -1, -1):
            try:
                if self.stopped.is_set():
                    raise Failure(CLOSED, "the storage was closed", True)
                return attempt()
            except Failure as failure:
                stopped = self.stopped.is_set()
                if failure.lasting or not left or stopped:
                    reason = CLOSED if stopped else failure.reason
                    raise Unreadable(reason, self.urls[shard], failure.told) from failure.__cause__
                with self.lock:
                    self.retried[failure.reason] += 1
            # Many readers that failed together must not come back together.
            self.stopped.wait(wait_s * (0.5 + os.urandom(1)[0] / 510))
            wait_s = min(2 * wait_s, MAX_WAIT_S)
        raise AssertionError("the last try ends in a value or an error")

    def open(self, shard: int) -> OpenFile:
        """Open a local shard, or find it open; raises `Failure`."""
        with self.lock:
            file = self.files.get(shard)
        if file is None:
            path = self.paths[shard]
            assert path is not None
            try:
                file = OpenFile(path)
            except OSError as error:
                raise local_failure(error) from error
            self.check(shard, file.size, "")
            with self.lock:
                self.files[shard] = file
                while len(self.files) > self.open_files:
                    self.files.popitem(last=False)
        return file

    def read_local(self, shard: int, offset: int, length: int) -> bytes:
        """Read from a file that may have to be opened, and may give less at a time than was asked for."""
        file = self.open(shard)
        data = b""
        try:
            while len(data) < length and (more := os.pread(file.number, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            with self.lock:
                self.files.pop(shard, None)
            raise local_failure(error) from error
        if len(data) != length:
            size = os.fstat(file.number).st_size
            raise Failure(BEYOND_END, f"bytes {offset} to {offset + length} of {size} were asked for", True)
        return data

    def advise(self, shard: int, offset: int, length: int) -> bool:
        """Tell the operating system what will be read."""
        if not hasattr(os, "posix_fadvise"):
            return False
        try:
            os.posix_fadvise(self.open(shard).number, offset, length, os.POSIX_FADV_WILLNEED)
        except (Failure, OSError):
            return False  # the read itself will tell what is wrong
        return True

    def check(self, shard: int, size: int, tag: str) -> None:
        """Refuse a shard that is not what it was."""
        if size >= 0 and self.sizes[shard] not in (-1, size):
            raise Failure(CHANGED, f"it has {size} bytes, its index says {self.sizes[shard]}", True)
        if tag and self.tags.setdefault(shard, tag) != tag:
            raise Failure(CHANGED, "its content changed while it was being read", True)

    def ask_range(self, shard: int, offset: int, length: int) -> bytes:
        """Read a range once; raises `Failure`."""
        url = self.urls[shard]
        if is_http(url):
            answer = self.web.read(url, offset, length)
            self.check(shard, answer.total, answer.tag)
            return answer.data
        if shard not in self.tags:
            stat = self.ask(shard)
            self.check(shard, stat.size, stat.tag)
            self.tags.setdefault(shard, stat.tag)
        data: bytes = other(url, "cat_file", self.limit_s(length), start=offset, end=offset + length)
        if len(data) != length:
            raise Failure(CUT, f"{len(data)} of {length} bytes came")
        return data

    def ask(self, shard: int) -> Stat:
        """Ask for size and tag of a shard once; raises `Failure`."""
        url, path = self.urls[shard], self.paths[shard]
        if path is not None:
            try:
                found = os.stat(path)
            except OSError as error:
                raise local_failure(error) from error
            return Stat(found.st_size, str(found.st_mtime_ns))
        if is_http(url):
            answer = self.web.read(url, 0, 1)
            size, tag = answer.total, answer.tag
        else:
            info = other(url, "info", self.limit_s(0))
            size = -1 if info.get("size") is None else int(info["size"])
            tag = next((str(info[name]) for name in TAGS if info.get(name)), "")
        if size < 0:
            raise Failure(NO_SIZE, "nothing says how many bytes it has", True)
        return Stat(size, tag)

    def limit_s(self, length: int) -> float:
        """Give the longest time that a whole read may take."""
        return self.timeout_s + length / MIN_BYTES_PER_S


class ShardFile(io.RawIOBase):
    """A shard as a file."""

    def __init__(self, storage: Storage, shard: int, size: int) -> None:
        self.storage, self.shard, self.size, self.at = storage, shard, size, 0

    def readable(self) -> bool:
        """Say that it is read from."""
        return True

    def seekable(self) -> bool:
        """Say that it is read here and there."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset."""
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Read what is left, up to the length of the buffer."""
        length = max(0, min(len(buffer), self.size - self.at))
        buffer[:length] = self.storage.read(self.shard, self.at, length) if length else b""
        self.at += length
        return length


STORAGES: weakref.WeakSet[Storage] = weakref.WeakSet()


def renew_all() -> None:
    """Give every storage of a forked process its own locks, threads and connections."""
    for storage in list(STORAGES):
        storage.web.abandon()
        storage.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_all)


def other(url: str, verb: str, limit_s: float, **named: Any) -> Any:
    """Ask a file system of fsspec; one that works in fsspec's event loop is held to the limit of time."""
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise Failure(NO_PROTOCOL, f"no file system for it: {error}", True) from error
    try:
        if system.async_impl:
            return sync(system.loop, getattr(system, f"_{verb}"), path, timeout=limit_s, **named)
        return getattr(system, verb)(path, **named)
    except FileNotFoundError as error:
        raise Failure(NOT_FOUND, "there is no such file", True) from error
    except PermissionError as error:
        raise Failure(FORBIDDEN, "it may not be read", True) from error
    except TimeoutError as error:
        raise Failure(TIMED_OUT, "no bytes came in time") from error
    except Exception as error:
        # Each file system has errors of its own, without a common ancestor.
        raise Failure(FAILED, f"{type(error).__name__}: {error}"[:500]) from error


def local_failure(error: OSError) -> Failure:
    """Say what an error of the operating system means for a read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Failure(NOT_FOUND, "there is no such file", True)
    if isinstance(error, PermissionError | IsADirectoryError):
        return Failure(FORBIDDEN, "it may not be read", True)
    return Failure(FAILED, error.strerror or "the read failed")


def is_http(url: str) -> bool:
    """Tell whether a URL is read over HTTP."""
    return url.startswith(("http://", "https://"))


def local_path(url: str) -> str | None:
    """Give the path of a file on a local disk; None for what is read over the net."""
    if url.startswith("file://"):
        return url.removeprefix("file://")
    return None if "://" in url or "::" in url else url


def plain(url: str) -> str:
    """Write a URL without what may be secret in it: a user and a query."""
    scheme, mark, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if mark else url
