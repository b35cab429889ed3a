"""The user's opt-out list: domains and URLs that are never asked for and never used.

In: lists of a domain or URL a line, and URLs in the form of `clean_url`. Out: a `Refusal` with the reason `opted_out`,
or None. Ten million domains take 80 MB; a URL is judged in some microseconds.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice

import numpy as np

from pipeline.folder import UserError, open_input
from pipeline.rights import RightsConfig
from pipeline.sources import stat
from pipeline.urls import clean_url
from schemas.page import Refusal

OPTED_OUT = "opted_out"

BORDERS = "/?&"
BORDER = re.compile(f"[{BORDERS}]")
PORT = re.compile(r":\d*$")
DOMAIN = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z][a-z0-9-]{0,62}")
"""Domains that need no normalising; all others go through `clean_url`."""

HOST = re.compile(r"(?:(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|\[[0-9a-f:.]+\])(?::\d+)?")
"""Hosts that a network knows, and a port; `clean_url` takes others too, such as `a,b` and `*`."""

COMMENT = re.compile(r"(?:^|\s)#")


@dataclass(frozen=True, slots=True)
class OptOut:
    """Entries as sorted 64-bit hashes, 8 bytes each.

    A domain stands for itself and its subdomains, whatever the port. A URL stands for what its own host and port has
    under it, with either scheme: `https://a.example/x` for `/x`, `/x/y` and `/x?z`, not for `/xy`. `deepest` counts the
    borders (`/`, `?`, `&`) of the listed URL that has most of them; -1 where no URL is listed.
    """

    hashes: array[int]
    deepest: int = -1

    @classmethod
    def read(cls, lines: Iterable[bytes], name: str) -> OptOut:
        """Read a list; `#` at the start of a line or after a space begins a comment, `name` is what errors call it."""
        return cls.hold(read_entries(lines, name))

    @classmethod
    def open(cls, paths: Sequence[str]) -> OptOut:
        """Read the lists at paths or URLs as one."""
        return cls.hold(chain.from_iterable(map(open_entries, paths)))

    @classmethod
    def hold(cls, entries: Iterable[str]) -> OptOut:
        """Hold the entries that `read_entries` gives."""
        hashes = array("Q")
        deepest = -1
        for entry in entries:
            hashes.append(hash_entry(entry))
            if entry[0] == "/":
                deepest = max(deepest, len(BORDER.findall(entry, 2)))
        if hashes:
            np.frombuffer(hashes, dtype=np.uint64).sort()
        return cls(hashes, deepest)

    def refuse(self, url: str) -> Refusal | None:
        """Judge a URL; the detail is the entry that stands for it, without its scheme."""
        rest = url.partition("://")[2]
        domain = PORT.sub("", rest.partition("/")[0]).rstrip(".")
        while domain:
            if self.holds(domain):
                return Refusal(OPTED_OUT, domain)
            domain = domain.partition(".")[2]
        ends = chain((border.start() for border in BORDER.finditer(rest)), [len(rest)])
        for end in islice(ends, self.deepest + 1):
            if self.holds(f"//{rest[:end]}"):
                return Refusal(OPTED_OUT, rest[:end])
        return None

    def holds(self, entry: str) -> bool:
        """Tell whether an entry is listed; a wrong yes has a chance of 10^-12 among ten million entries."""
        key = hash_entry(entry)
        place = bisect_left(self.hashes, key)
        return place < len(self.hashes) and self.hashes[place] == key


def stamped(rights: RightsConfig) -> RightsConfig:
    """Name each list with a stamp that changes when its content does."""
    return replace(rights, opt_out=tuple(f"{path} {stamp}" for path, stamp in stamps(rights.opt_out)))


def hold_lists(rights: RightsConfig) -> OptOut:
    """Give the lists of a run, read once a process and again when one has changed."""
    return hold_stamped(stamps(rights.opt_out))


def stamps(paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give each path and the stamp of its file."""
    try:
        return tuple((path, stat(path)[1]) for path in paths)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or error}: no such opt-out list") from None


@lru_cache(maxsize=1)
def hold_stamped(stamped_paths: tuple[tuple[str, str], ...]) -> OptOut:
    """Read lists by path and stamp."""
    return OptOut.open([path for path, _ in stamped_paths])


def open_entries(path: str) -> Iterator[str]:
    """Read the entries of the list at a path or URL."""
    try:
        with open_input(path) as stream:
            yield from read_entries(stream, path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None


def read_entries(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Give each line's entry in its normal form: `a.example`, or `//a.example/x` for a URL."""
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        if "#" in text:
            text = COMMENT.split(text, maxsplit=1)[0].strip()
        if text:
            entry = normalise_entry(text)
            if not entry:
                raise UserError(
                    f"{name}:{number}: {text[:80]!r} is neither a domain nor a URL; give one of them a line"
                )
            yield entry


def normalise_entry(text: str) -> str:
    """Normalise a domain or URL; empty where it is neither."""
    domain = text.removeprefix("*.").rstrip(".").lower()
    if DOMAIN.fullmatch(domain):
        return domain
    url = text if "://" in text else f"https://{text.removeprefix('*.')}"
    authority = re.split(r"[/\\?#]", url.partition("://")[2], maxsplit=1)[0]
    # A mail address would lose its name in `clean_url` and stand for its whole domain.
    cleaned = clean_url(url) if authority and "@" not in authority else None
    if cleaned is None or not cleaned.startswith("http"):
        return ""
    rest = cleaned.partition("://")[2].rstrip(BORDERS)
    if not HOST.fullmatch(BORDER.split(rest, maxsplit=1)[0]):
        return ""
    return f"//{rest}" if "/" in text or BORDER.search(rest) else PORT.sub("", rest).rstrip(".")


def hash_entry(entry: str) -> int:
    """Hash an entry to 64 bits, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(entry.encode("utf-8", "surrogatepass"), digest_size=8).digest())
