"""Looking into a dataset, a shard or a sample: what `flamingo inspect` shows.

    dataset  → funnel, totals, the first samples a line each     manifest.json, index.parquet
    shard    → its samples a line each                           the tar, header by header
    sample   → its texts and pictures in reading order           the tar, from the index's byte offset on

Everything shown was written by strangers: text passes through `report.say`, pictures through the checks of `media`,
and sizes are compared with limits before anything is read.
"""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal

import pyarrow.parquet as pq
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from pipeline import report
from pipeline.folder import Folder, locate, open_input
from pipeline.media import MediaConfig, normalise_image
from pipeline.report import DAMAGED, INDEX_FILE, counted, json_line, read_manifest, reading, refused, say
from pipeline.urls import clean_url
from schemas.media import STORED
from schemas.page import KEY_CHARS, key_of
from schemas.sample import INTERLEAVED, Interleaved, check_header, from_members, part_name, to_members
from schemas.shard import Manifest

MAX_SAMPLE_BYTES = 1 << 30
MAX_PICTURE_ROWS = 24
NEAR_KEYS = 5
CELL_PX = {"blocks": 4, "kitty": 8, "iterm": 8}
"""Pixels of a picture to a cell's width where there is room; a cell is about 8 pixels wide and twice as high."""

Drawing = Literal["kitty", "iterm", "blocks", "line"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample in one line; `shard` is the file that holds it."""

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

    At most `limit` samples are listed. What cannot be shown is a `UserError`.
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
    manifest = read_manifest(folder)
    if key is None:
        show_dataset(folder, manifest, limit, as_json, console)
        return
    row = find_in_index(folder, key)
    shard = folder.path(INTERLEAVED, row["shard"])
    with open_input(shard) as stream:
        stream.seek(row["offset"])
        members = next(scan(stream, shard), None)
    if members is None or members.key != row["key"]:
        raise refused(f"{shard}: no sample {row['key']} at byte {row['offset']}, where the index says it is")
    show_sample(shard, members, as_json, console)


# Datasets


def show_dataset(folder: Folder, manifest: Manifest, limit: int, as_json: bool, console: Console) -> None:
    """Show what a dataset holds and its first samples."""
    samples = first_samples(folder, limit)
    if as_json:
        told = {"dataset": folder.root} | report.manifest_summary(manifest)
        told |= {"totals": report.add_up(folder)._asdict(), "first": [asdict(sample) for sample in samples]}
        console.out(json_line(told), highlight=False)
        return
    report.print_summary(console, manifest, folder)
    list_samples(samples, sum(shard.samples for shard in manifest.shards), console)
    if samples:
        say(console, f"\nflamingo inspect {folder.root} --key {samples[0].key[:8]}", "dim")


def first_samples(folder: Folder, limit: int) -> list[Summary]:
    """Read the first rows of the index."""
    with reading(folder, INDEX_FILE), folder.open(INDEX_FILE) as stream:
        batches = pq.ParquetFile(stream).iter_batches(min(limit, 1024), use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        return [summary_of_row(row) for row in islice(rows, limit)]


def summary_of_row(row: Mapping[str, Any]) -> Summary:
    """Read a sample's line from the index."""
    names = ("key", "url", "title", "language", "texts", "chars", "words", "shard")
    return Summary(images=len(row["parts"]), **{name: row[name] for name in names})


def list_samples(samples: Sequence[Summary], total: int, console: Console) -> None:
    """Print samples a line each: key, images, words, title."""
    say(console, f"{'key':{KEY_CHARS}} images   words  title", "bold")
    for sample in samples:
        line = f"{sample.key:{KEY_CHARS}} {sample.images:6,} {sample.words:7,}  {sample.title or sample.url}"
        say(console, line, one_line=True)
    if total > len(samples):
        say(console, f"and {total - len(samples):,} more (--limit)", "dim")


def find_in_index(folder: Folder, key: str) -> dict[str, Any]:
    """Find the row of a sample by the beginning of its key or by its page's URL; an unknown one is refused."""
    for exact in keys_of(key):
        if rows := report.index_rows(folder, exact, 1):
            return rows[0]
    if "://" in key:
        raise refused(f"--key {key}: no sample of this page; `flamingo why URL --dataset {folder.root}` says why")
    rows = report.index_rows(folder, key.lower(), NEAR_KEYS + 1)
    check_unique(key, [row["key"] for row in rows], folder)
    return rows[0]


def keys_of(text: str) -> list[str]:
    """Name the keys that a URL may stand for, in any spelling of it."""
    spellings = [clean_url(text), text, clean_url(f"https://{text}"), clean_url(f"http://{text}")]
    return [key_of(spelling) for spelling in dict.fromkeys(spellings) if spelling is not None]


def check_unique(key: str, found: Sequence[str], folder: Folder | None) -> None:
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
        near = near or [row["key"] for row in report.index_rows(folder or Folder(""), key[:length].lower(), NEAR_KEYS)]
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
    samples: list[Summary] = []
    total = 0
    with open_input(path) as stream, open_input(path) as jump:
        for members in scan(stream, path):
            total += 1
            if len(samples) < limit:
                samples.append(summary_of_header(read_header(jump, members, path), path))
    if as_json:
        for sample in samples:
            console.out(json_line(asdict(sample)), highlight=False)
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
    try:
        check_header(header)
    except ValueError as error:
        raise refused(f"{path}: sample {members.key}: {error}") from None
    return header


def summary_of_header(header: Mapping[str, Any], path: str) -> Summary:
    """Read a sample's line from its JSON."""
    try:
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


def load_sample(path: str, members: Members) -> Interleaved:
    """Read a sample from a shard and check that what is shown of it has the types it should have."""
    with open_input(path) as stream:
        read_header(stream, members, path)
        try:
            sample = from_members([(name, read_member(stream, members, name, path)) for name in members.places])
            pictures = [(p.url, p.alt, p.caption, p.sha256, p.phash, p.format) for p in sample.images]
            own = (sample.key, sample.url, sample.canonical, sample.title, sample.language, sample.author)
            "".join((*own, sample.licence, *(text for picture in pictures for text in picture)))
            for item in sample.items:
                assert isinstance(item, str) or sample.images[item]
        except DAMAGED as error:
            raise refused(f"{path}: sample {members.key} is damaged: {error}") from None
    return sample


def show_sample(path: str, members: Members, as_json: bool, console: Console) -> None:
    """Show a sample: facts, then texts and pictures in reading order."""
    sample = load_sample(path, members)
    if as_json:
        told = json.loads(to_members(sample)[0][1]) | {"shard": posixpath.basename(path)}
        console.out(json_line(told), highlight=False)
        return
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
            show_picture(sample, item, way, console)


def show_picture(sample: Interleaved, index: int, way: Drawing, console: Console) -> None:
    """Draw a picture, or say why it cannot be drawn, and name it."""
    picture = sample.images[index]
    told = f"{part_name(index, picture.format)} {picture.width_px}x{picture.height_px}"
    about = " ".join(filter(None, [told, picture.caption or picture.alt]))
    if way == "line":
        say(console, f"[image {about}]", one_line=True)
        return
    media, jpeg = normalise_image(picture.url, picture.data, MediaConfig())
    if media.status == STORED:
        draw(Image.open(io.BytesIO(jpeg)).convert("RGB"), way, console)
        say(console, about, "dim")
    else:
        say(console, f"[image {told} cannot be drawn: {media.reason} {media.detail}]", "red")


# Pictures in a terminal


def choose_drawing(console: Console, environment: Mapping[str, str]) -> Drawing:
    """Tell how this terminal shows pictures: two inline-image protocols, coloured half-blocks, or a line of text."""
    term = environment.get("TERM", "")
    if not console.is_terminal or console.color_system is None or not console.encoding.startswith("utf"):
        return "line"
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return "blocks"  # a multiplexer swallows the protocols of the terminal around it
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else "blocks"


def draw(image: Image.Image, way: Drawing, console: Console) -> None:
    """Draw an RGB image no wider than the terminal and no higher than `MAX_PICTURE_ROWS`."""
    columns, rows = cells(image.size, CELL_PX[way], console.width)
    if way == "blocks":
        console.print(Segments(half_blocks(image.resize((columns, 2 * rows), Image.Resampling.LANCZOS))), end="")
        return
    png = io.BytesIO()
    image.save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode()
    console.file.write((kitty if way == "kitty" else iterm)(data, columns) + "\n")
    console.file.flush()


def cells(size_px: tuple[int, int], cell_px: int, width: int) -> tuple[int, int]:
    """Give the columns and rows that an image takes, its shape kept and never enlarged."""
    width_px, height_px = size_px
    columns = min(width - 1, -(-width_px // cell_px), max(1, 2 * MAX_PICTURE_ROWS * width_px // height_px))
    return max(1, columns), min(MAX_PICTURE_ROWS, max(1, round(columns * height_px / width_px / 2)))


def half_blocks(image: Image.Image) -> Iterator[Segment]:
    """Write two pixels a cell: the upper one in the colour of the block, the lower one in that of the ground."""
    width, pixels = image.width, image.tobytes()
    for top in range(0, image.height, 2):
        for column in range(width):
            upper, lower = (3 * ((top + row) * width + column) for row in (0, 1))
            colours = [Color.from_rgb(*pixels[at : at + 3]) for at in (upper, lower)]
            yield Segment("▀", Style(color=colours[0], bgcolor=colours[1]))
        yield Segment.line()


def kitty(data: str, columns: int) -> str:
    """Write base64 of a PNG as kitty's graphics protocol has it: pieces of 4096, no answer asked for (q=2)."""
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    heads = [f"a=T,f=100,q=2,c={columns},", *[""] * (len(pieces) - 1)]
    more = [1] * (len(pieces) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{piece}\x1b\\" for head, m, piece in zip(heads, more, pieces, strict=True))


def iterm(data: str, columns: int) -> str:
    """Write base64 of a PNG as iTerm2's inline-image protocol has it."""
    return f"\x1b]1337;File=inline=1;width={columns};preserveAspectRatio=1:{data}\x07"
