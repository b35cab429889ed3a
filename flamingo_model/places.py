"""What a configuration names as shards, as a list of dataset folders and tar files.

"dataset", "a/shard-{000000..000099}.tar", "b/*.tar", "s3://c/d.tar" → every place by its whole name, in their order
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from fsspec.core import url_to_fs

from flamingo_model.storage import is_http, local_path

MAX_PLACES = 1_000_000
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
GLOB = re.compile(r"[*?\[]")


class BadIndex(ValueError):  # noqa: N818 (named as BadSample is)
    """Shards whose samples cannot be found: `reason` is a constant, the text one line for a person."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(told)
        self.reason, self.told = reason, told

    def __reduce__(self) -> tuple[type[BadIndex], tuple[str, str]]:
        return BadIndex, (self.reason, self.told)


BAD_PLACE, NO_SHARDS, REPEATED_SHARD = "bad_place", "no_shards", "repeated_shard"


def places(named: Sequence[str]) -> list[str]:
    """Write out braces and globs, and give every place its whole name; raises `BadIndex`.

    As in a shell, `{000..123}` counts and `{a,b}` lists, also one within another. Wildcards work wherever fsspec can
    list, which over HTTP it cannot.
    """
    found: list[str] = []
    for place in chain.from_iterable(expand(place) for place in named):
        found.extend(matching(place) if has_wildcard(place) else [absolute(place)])
        if len(found) > MAX_PLACES:
            raise BadIndex(BAD_PLACE, f"more than {MAX_PLACES} shards are named")
    if not found:
        raise BadIndex(NO_SHARDS, "no shard is named")
    seen: set[str] = set()
    for place in found:
        if place in seen:
            raise BadIndex(
                REPEATED_SHARD, f"{place} is named twice; a larger share of its samples is a matter of weight"
            )
        seen.add(place)
    return found


def expand(place: str) -> Iterator[str]:
    """Write out the braces of a place, those that are within others first."""
    found = BRACES.search(place)
    if found is None:
        yield place
        return
    span = RANGE.fullmatch(found[1])
    if span is None and "," not in found[1]:
        raise BadIndex(BAD_PLACE, f"{place}: braces hold {{first..last}} or {{a,b}}, not {found[0]}")
    for text in counted(span[1], span[2], place) if span else found[1].split(","):
        yield from expand(place[: found.start()] + text + place[found.end() :])


def counted(first: str, last: str, place: str) -> Iterator[str]:
    """Count, with leading zeros where the first or last number has them."""
    begin, end = int(first), int(last)
    if abs(end - begin) >= MAX_PLACES:
        raise BadIndex(BAD_PLACE, f"{place}: more than {MAX_PLACES} shards are named")
    padded = any(len(text) > 1 and text[0] == "0" for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return (
        f"{number:0{width}d}" for number in range(begin, end + (1 if end >= begin else -1), 1 if end >= begin else -1)
    )


def has_wildcard(place: str) -> bool:
    """Tell whether a place is a pattern; in a URL of HTTP a question mark begins a query."""
    return bool(GLOB.search(place)) and not is_http(place) and not os.path.exists(place)


def matching(pattern: str) -> list[str]:
    """List the files that a pattern matches, in order of their names."""
    try:
        system, path = url_to_fs(pattern)
        found = sorted(str(name) for name in system.glob(path))
    except Exception as error:  # each file system has errors of its own, without a common ancestor
        told = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise BadIndex(BAD_PLACE, f"{pattern}: {told}") from None
    if not found:
        raise BadIndex(NO_SHARDS, f"{pattern} matches nothing")
    return [absolute(name) if local_path(pattern) is not None else system.unstrip_protocol(name) for name in found]


def absolute(place: str) -> str:
    """Name a local place from the root, so that any process finds it."""
    path = local_path(place)
    return place if path is None else os.path.abspath(path)


def is_tar(place: str) -> bool:
    """Tell a shard from a folder by its name, before any query."""
    return (place.partition("?")[0] if is_http(place) else place).endswith(".tar") or "::" in place


def beneath(folder: str, name: str) -> str:
    """Name a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"
