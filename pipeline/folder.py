"""The dataset folder: where everything is, how files appear in it whole or not at all, and who may write.

    DATASET/config.toml documents/ media/ rejected/ interleaved/      what a person reads
    DATASET/work/                                                     what the jobs pass on: captures, markers, ...

All paths go through fsspec, so that a dataset may lie on a local disk, `gs://`, `s3://` or in memory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import posixpath
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec

CONFIG_FILE = "config.toml"
LOCK_FILE = "work/lock"
PROGRESS_FILE = "work/progress.json"
LOCAL_BUFFER_BYTES = 1 << 17
REMOTE_BLOCK_BYTES = 4 << 20
OPEN_FILES = 16
FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What a disk says that takes nothing more."""


class UserError(Exception):
    """Something a person wrote or pointed at cannot be used; the text is one line that says what, where, what next."""


@functools.lru_cache(maxsize=64)
def file_system(protocol: str) -> Any:
    """Give the fsspec file system of a protocol, one per process."""
    return fsspec.filesystem(protocol)


def locate(url: str) -> tuple[Any, str]:
    """Split a path or URL into its file system and the path inside it."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return file_system("file"), os.path.abspath(url)
    try:
        system = file_system(protocol)
    except (ValueError, ImportError) as error:
        raise UserError(f"{url}: {error}") from None
    return system, system._strip_protocol(url) if rest else rest


@contextlib.contextmanager
def open_input(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading at any offset."""
    system, path = locate(url)
    if is_local(system):
        with open(path, "rb", buffering=LOCAL_BUFFER_BYTES) as stream:
            yield stream
    else:
        with system.open(path, "rb", block_size=REMOTE_BLOCK_BYTES) as stream:
            yield stream


class OpenFiles:
    """Files open for reading, so that a unit that reads many records of a file opens it once; use as a context."""

    def __init__(self) -> None:
        self.opened: dict[str, tuple[contextlib.ExitStack, BinaryIO]] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def get(self, url: str) -> BinaryIO:
        """Give an open file, closing the one opened longest ago when there are too many."""
        if url not in self.opened:
            if len(self.opened) >= OPEN_FILES:
                self.opened.pop(next(iter(self.opened)))[0].close()
            stack = contextlib.ExitStack()
            self.opened[url] = (stack, stack.enter_context(open_input(url)))
        return self.opened[url][1]

    def __exit__(self, *_: object) -> None:
        for stack, _stream in self.opened.values():
            stack.close()


def is_local(system: Any) -> bool:
    """Tell whether a file system is the local disk."""
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))


@dataclass(frozen=True, slots=True)
class Folder:
    """A dataset folder by its path or URL."""

    root: str

    def path(self, *names: str) -> str:
        """Join names to the folder's path."""
        return posixpath.join(self.root, *names)

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file of the dataset for reading."""
        return open_input(self.path(name))

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that appears under `name` only when it is complete."""
        system, path = locate(self.path(name))
        temporary = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.{uuid.uuid4().hex}.tmp")
        try:
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            with system.open(temporary, "wb") as stream:
                yield stream
            publish(system, temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                system.rm_file(temporary)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file, whole or not at all."""
        with self.create(name) as stream:
            stream.write(text.encode())

    def read_text(self, name: str) -> str | None:
        """Read a small text file; `None` where there is none."""
        try:
            with open_input(self.path(name)) as stream:
                return stream.read().decode()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self.root}: is or lies in a file; give a folder") from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a small JSON file, whole or not at all."""
        self.write_text(name, json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a small JSON file; `None` where there is none."""
        text = self.read_text(name)
        return None if text is None else json.loads(text)

    def names(self, directory: str) -> list[str]:
        """List the finished files of a directory, sorted; empty where there is no such directory."""
        system, path = locate(self.path(directory))
        try:
            found = system.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for name in map(posixpath.basename, found) if not name.startswith("."))

    def remove(self, name: str) -> None:
        """Delete a file; deleting what is not there is no error."""
        system, path = locate(self.path(name))
        with contextlib.suppress(FileNotFoundError):
            system.rm_file(path)

    def remove_leftovers(self, directory: str) -> None:
        """Delete temporary files that a killed run left behind."""
        system, path = locate(self.path(directory))
        with contextlib.suppress(FileNotFoundError):
            for name in system.ls(path, detail=False):
                if posixpath.basename(name).endswith(".tmp"):
                    with contextlib.suppress(FileNotFoundError):
                        system.rm_file(name)


def publish(system: Any, temporary: str, path: str) -> None:
    """Give a finished file its name."""
    if is_local(system):
        os.replace(temporary, path)
    else:
        system.mv(temporary, path)


@contextlib.contextmanager
def sole_writer(folder: Folder) -> Iterator[None]:
    """Hold the folder for this process; a second build on a local folder, or a full disk, ends in one line.

    The lock dies with its process. Object stores have none: there the units' names keep writers apart.
    """
    system, path = locate(folder.path(LOCK_FILE))
    if not is_local(system):
        yield
        return
    import fcntl

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = open(path, "a+")  # noqa: SIM115 - closed below; only what opening it raises is a person's to mend
    except OSError as error:
        raise UserError(f"{folder.root}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise UserError(f"{folder.root}: in use by {owner}; wait for it or give another --out") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        try:
            lock.flush()
            yield
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            raise UserError(f"{folder.root}: {error.strerror}; the same command goes on from here") from None
