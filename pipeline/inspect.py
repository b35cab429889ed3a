"""Looking into a dataset, a shard or a sample: what `flamingo inspect` shows.

    dataset  → funnel, totals, the first samples of each kind    manifest.json, index.parquet
    shard    → its samples a line each                           the tar, header by header
    sample   → its texts and pictures in reading order           the tar, from the index's byte offset on

Everything shown was written by strangers: text passes through `report.say`, pictures through `drawing`, and sizes are
compared with limits before anything is read. Pairs and clips are told in `captioned`.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from rich.console import Console

from pipeline import report
from pipeline.captioned import (
    Captioned,
    captioned_of_header,
    captioned_of_row,
    check_types,
    list_captioned,
    show_captioned,
    told_scores,
)
from pipeline.drawing import choose_drawing, show_picture
from pipeline.folder import Folder, locate, open_input
from pipeline.report import DAMAGED, counted, json_line, reading, refused, say
from pipeline.urls import clean_url
from schemas.page import KEY_CHARS, key_of
from schemas.pair import IMAGE_TEXT, PAIR_FIELDS, ImageText, pair_from_members
from schemas.sample import FIELDS, INTERLEAVED, Interleaved, check_header, from_members, part_name
from schemas.shard import Manifest, index_name
from schemas.video import VIDEO_FIELDS, VIDEO_TEXT, VideoText, video_from_members

MAX_SAMPLE_BYTES = 1 << 30
NEAR_KEYS = 5
FIELDS_OF = {INTERLEAVED: FIELDS, IMAGE_TEXT: PAIR_FIELDS, VIDEO_TEXT: VIDEO_FIELDS}
READ: Mapping[str, Callable[[Iterable[tuple[str, bytes]]], Interleaved | ImageText | VideoText]] = {
    INTERLEAVED: from_members,
    IMAGE_TEXT: pair_from_members,
    VIDEO_TEXT: video_from_members,
}
"""How the members of a sample of each kind are read."""


@dataclass(frozen=True, slots=True)
class Summary:
    """An interleaved sample in one line; `shard` is the file that holds it."""

    key: str
    url: str
    title: str
    language: str
    images: int
    texts: int
    chars: int
    words: int
    shard: str


@dataclass(frozen=True, slots=True)
class Members:
    """Where the members of a sample lie in a tar: name without the key → (offset of its bytes, their number)."""

    key: str
    places: Mapping[str, tuple[int, int]]


def inspect(path: str, key: str | None, limit: int, as_json: bool, console: Console) -> None:
    """Show a dataset folder, a shard, or with `key` (a unique beginning of it, or the page's URL) one sample.

    At most `limit` samples of each kind are listed. What cannot be shown is a `UserError`.
    """
    system, inside = locate(path)
    if system.isfile(inside):
        if key is None:
            show_shard(path, limit, as_json, console)
        else:
            show_sample(path, find_in_tar(path, key), as_json, console)
        return
    if not system.exists(inside):
        raise refused(f"{path}: no such file or folder")
    folder = Folder(path)
    manifests = report.read_manifests(folder)
    if key is None:
        show_dataset(folder, manifests, limit, as_json, console)
        return
    kind, row = find_in_index(folder, key, list(manifests))
    shard = folder.path(kind, row["shard"])
    with open_input(shard) as stream:
        stream.seek(row["offset"])
        members = next(scan(stream, shard), None)
    if members is None or members.key != row["key"]:
        raise refused(f"{shard}: no sample {row['key']} at byte {row['offset']}, where the index says it is")
    show_sample(shard, members, as_json, console)


# Datasets


def show_dataset(
    folder: Folder, manifests: Mapping[str, Manifest], limit: int, as_json: bool, console: Console
) -> None:
    """Show what a dataset holds and the first samples of each kind."""
    first, *others = manifests
    if as_json:
        told = {"dataset": folder.root} | dataset_json(folder, first, manifests[first], limit)
        told |= {kind: dataset_json(folder, kind, manifests[kind], limit) for kind in others}
        console.out(json_line(told), highlight=False)
        return
    report.print_summary(console, manifests[first], folder)
    samples = {kind: first_samples(folder, kind, limit) for kind in manifests}
    for kind, listed in samples.items():
        if listed or kind == first:
            list_samples(listed, sum(shard.samples for shard in manifests[kind].shards), console)
    if keys := [sample.key for listed in samples.values() for sample in listed]:
        say(console, f"\nflamingo inspect {folder.root} --key {keys[0][:8]}", "dim")


def dataset_json(folder: Folder, kind: str, manifest: Manifest, limit: int) -> dict[str, Any]:
    """Say what there is of a kind of samples, and the first of them."""
    samples = [summary_json(sample) for sample in first_samples(folder, kind, limit)]
    return report.manifest_summary(manifest) | {"totals": report.add_up(folder, kind)._asdict(), "first": samples}


def summary_json(sample: Summary | Captioned) -> dict[str, Any]:
    """Write a sample's line for programs, without what it does not have."""
    return {name: value for name, value in asdict(sample).items() if value is not None}


def first_samples(folder: Folder, kind: str, limit: int) -> list[Summary | Captioned]:
    """Read the first rows of an index."""
    name = index_name(kind)
    summarise = summary_of_row if kind == INTERLEAVED else captioned_of_row
    with reading(folder, name), folder.open(name) as stream:
        batches = pq.ParquetFile(stream).iter_batches(min(limit, 1024), use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        return [summarise(row) for row in islice(rows, limit)]


def summary_of_row(row: Mapping[str, Any]) -> Summary:
    """Read a sample's line from the index."""
    names = ("key", "url", "title", "language", "texts", "chars", "words", "shard")
    return Summary(images=len(row["parts"]), **{name: row[name] for name in names})


def list_samples(samples: Sequence[Summary | Captioned], total: int, console: Console) -> None:
    """Print samples a line each."""
    captioned = [sample for sample in samples if isinstance(sample, Captioned)]
    pages = [sample for sample in samples if isinstance(sample, Summary)]
    if captioned:
        list_captioned(captioned, console)
    if pages or not captioned:
        list_pages(pages, console)
    if total > len(samples):
        say(console, f"and {total - len(samples):,} more (--limit)", "dim")


def list_pages(samples: Sequence[Summary], console: Console) -> None:
    """Print interleaved samples a line each: key, images, words, title."""
    say(console, f"{'key':{KEY_CHARS}} images   words  title", "bold")
    for sample in samples:
        line = f"{sample.key:{KEY_CHARS}} {sample.images:6,} {sample.words:7,}  {sample.title or sample.url}"
        say(console, line, one_line=True)


def find_in_index(folder: Folder, key: str, kinds: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Find the kind and row of a sample by the beginning of its key or by its URL; an unknown one is refused."""
    for exact in keys_of(key):
        for kind in kinds:
            if rows := report.index_rows(folder, exact, 1, kind):
                return kind, rows[0]
    if "://" in key:
        raise refused(f"--key {key}: no sample of this page; `flamingo why URL --dataset {folder.root}` says why")
    found = [(kind, row) for kind in kinds for row in report.index_rows(folder, key.lower(), NEAR_KEYS + 1, kind)]
    check_unique(key, [row["key"] for _, row in found], folder, kinds)
    return found[0]


def keys_of(text: str) -> list[str]:
    """Name the keys that a URL may stand for, in any spelling of it."""
    spellings = [clean_url(text), text, clean_url(f"https://{text}"), clean_url(f"http://{text}")]
    return [key_of(spelling) for spelling in dict.fromkeys(spellings) if spelling is not None]


def check_unique(key: str, found: Sequence[str], folder: Folder | None, kinds: Sequence[str] = ()) -> None:
    """Refuse the beginning of a key that stands for no sample, or for several."""
    if len(found) > 1:
        listed = ", ".join(found[:NEAR_KEYS]) + (", ..." if len(found) > NEAR_KEYS else "")
        raise refused(f"--key {key}: begins several keys: {listed}")
    if found:
        return
    if not re.fullmatch(f"[0-9a-fA-F]{{1,{KEY_CHARS}}}", key):
        raise refused(f"--key {key}: neither a key ({KEY_CHARS} hex digits, or the first of them) nor a page's URL")
    near: list[str] = []
    for length in range(len(key) - 1 if folder else 0, 0, -1):
        near = near or [
            row["key"]
            for kind in kinds
            for row in report.index_rows(folder or Folder(""), key[:length].lower(), NEAR_KEYS, kind)
        ]
    raise refused(f"--key {key}: no such sample" + (f"; near it: {', '.join(near)}" if near else ""))


# Shards


def scan(stream: BinaryIO, path: str) -> Iterator[Members]:
    """Yield the samples of a tar from the stream's position on; a damaged tar is refused when that is reached."""
    key, places, last = "", dict[str, tuple[int, int]](), -1
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every one
                if info.offset <= last:
                    raise tarfile.ReadError(f"a member at byte {last} points back")
                last = info.offset
                folder, _, name = info.name.rpartition("/")
                stem, _, rest = name.partition(".")
                owner = f"{folder}/{stem}" if folder else stem
                if owner != key and places:
                    yield Members(key, places)
                    places = {}
                key = owner
                if info.isreg():
                    places[rest] = (info.offset_data, info.size)
            end = tar.offset
        stream.seek(end)
        # tarfile takes a broken header for the end.
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a member nor the end mark at byte {end}")
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise refused(f"{path}: no tar file, or a damaged one: {error}") from None
    if places:
        yield Members(key, places)


def read_member(stream: BinaryIO, members: Members, name: str, path: str) -> bytes:
    """Read a member's bytes, within the limit for a whole sample."""
    offset, size = members.places[name]
    if sum(length for _, length in members.places.values()) > MAX_SAMPLE_BYTES or size < 0:
        raise refused(f"{path}: sample {members.key} has more than {report.human_bytes(MAX_SAMPLE_BYTES)}")
    stream.seek(offset)
    return stream.read(size)


def show_shard(path: str, limit: int, as_json: bool, console: Console) -> None:
    """List the samples of a shard."""
    samples: list[Summary | Captioned] = []
    total = 0
    with open_input(path) as stream, open_input(path) as jump:
        for members in scan(stream, path):
            total += 1
            if len(samples) < limit:
                samples.append(summary_of_header(read_header(jump, members, path), path))
    if as_json:
        for sample in samples:
            console.out(json_line(summary_json(sample)), highlight=False)
        return
    say(console, f"{path}: {counted(total, 'sample')}", "bold")
    list_samples(samples, total, console)


def read_header(stream: BinaryIO, members: Members, path: str) -> dict[str, Any]:
    """Read the JSON of a sample; samples of other programs or versions are refused by name."""
    try:
        header = json.loads(read_member(stream, members, "json", path)) if "json" in members.places else None
    except DAMAGED as error:
        raise refused(f"{path}: the JSON of sample {members.key} is damaged: {error}") from None
    if not isinstance(header, dict) or "schema" not in header:
        parts = " + ".join(members.places)
        raise refused(f"{path}: a shard of another program (sample {members.key} is {parts}); only flamingo's are read")
    kind = header.get("kind")
    kind = kind if isinstance(kind, str) and kind in FIELDS_OF else INTERLEAVED
    try:
        check_header(header, kind, FIELDS_OF[kind])
    except ValueError as error:
        raise refused(f"{path}: sample {members.key}: {error}") from None
    return header


def summary_of_header(header: Mapping[str, Any], path: str) -> Summary | Captioned:
    """Read a sample's line from its JSON."""
    try:
        if header["kind"] != INTERLEAVED:
            return captioned_of_header(header, path)
        texts = [text for text in header["texts"] if text is not None]
        return Summary(
            **{name: str(header[name]) for name in ("key", "url", "title", "language")},  # type: ignore[arg-type]
            images=len(header["parts"]),
            texts=len(texts),
            chars=sum(map(len, texts)),
            words=sum(len(text.split()) for text in texts),
            shard=posixpath.basename(path),
        )
    except DAMAGED as error:
        raise refused(f"{path}: sample {header.get('key')} is damaged: {error!r}") from None


def find_in_tar(path: str, key: str) -> Members:
    """Find a sample in a shard by the beginning of its key or by its page's URL."""
    exact = keys_of(key)
    found: list[Members] = []
    with open_input(path) as stream:
        for members in scan(stream, path):
            if members.key in exact or members.key == key.lower():
                return members
            if members.key.startswith(key.lower()) and len(found) <= NEAR_KEYS:
                found.append(members)
    check_unique(key, [members.key for members in found], None)
    return found[0]


# Samples


def load_sample(path: str, members: Members) -> tuple[dict[str, Any], Interleaved | ImageText | VideoText]:
    """Read a sample and its JSON, and check that what is shown of it has the types it should have."""
    with open_input(path) as stream:
        header = read_header(stream, members, path)
        try:
            stored = [(name, read_member(stream, members, name, path)) for name in members.places]
            sample = READ[header["kind"]](stored)
            if isinstance(sample, Interleaved):
                check_page(sample)
            else:
                check_types(sample)
        except DAMAGED as error:
            raise refused(f"{path}: sample {members.key} is damaged: {error}") from None
    return header, sample


def check_page(sample: Interleaved) -> None:
    """Insist that what is shown of a sample has the types that it should have; what has not raises."""
    pictures = [(p.url, p.alt, p.caption, p.sha256, p.phash, p.format) for p in sample.images]
    own = (sample.key, sample.url, sample.canonical, sample.title, sample.language, sample.author)
    "".join((*own, sample.licence, *(text for picture in pictures for text in picture)))
    for item in sample.items:
        assert isinstance(item, str) or sample.images[item]


def show_sample(path: str, members: Members, as_json: bool, console: Console) -> None:
    """Show a sample: facts, then texts and pictures in reading order."""
    header, sample = load_sample(path, members)
    if as_json:
        console.out(json_line(header | {"shard": posixpath.basename(path)}), highlight=False)
    elif isinstance(sample, Interleaved):
        show_page(sample, path, console)
    else:
        show_captioned(sample, path, console)


def show_page(sample: Interleaved, path: str, console: Console) -> None:
    """Show an interleaved sample: facts, then texts and pictures in reading order."""
    texts = [item for item in sample.items if isinstance(item, str)]
    words = sum(len(text.split()) for text in texts)
    counts = [(len(texts), "text"), (words, "word"), (len(sample.images), "image")]
    days = [("published", sample.published), ("captured", sample.fetched)]
    facts = [*(counted(count, noun) for count, noun in counts), sample.language]
    facts += [sample.author, *(f"{word} {day:%Y-%m-%d}" for word, day in days if day), sample.licence]
    say(console, sample.title or "(no title)", "bold", one_line=True)
    say(console, sample.url, "cyan")
    say(console, " · ".join(filter(None, facts)), "dim")
    say(console, f"sample {sample.key} of {path}", "dim")
    say(console, f"page read from {sample.origin.file} at byte {sample.origin.offset}", "dim")
    way = choose_drawing(console, os.environ)
    for item in sample.items:
        say(console, "")
        if isinstance(item, str):
            say(console, item)
        else:
            picture = sample.images[item]
            told = f"{part_name(item, picture.format)} {picture.width_px}x{picture.height_px}"
            told = f"{told} ({told_scores(picture.scores)})" if picture.scores else told
            show_picture(told, picture.caption or picture.alt, picture.data, way, console)
