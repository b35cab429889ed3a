"""Pair and video shards beside the readers of others: each must give the same pictures, clips and texts.

    python bench/readers.py                          over generated pairs and clips
    python bench/readers.py --dataset demo/dataset   over what a dataset holds

Ours reads each sample at the byte offset that the index says, and checks it against its JSON. `webdataset` and
`datasets` (Hugging Face) run in the project's environment; open_clip's loader, for training and for evaluation, and
video2dataset's run in one of their own, which the first run makes (network, 5 GB). A picture is compared by its
pixels, a clip that is one MP4 by its bytes. A reader passes if what it gives is what ours gives, as a multiset.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import webdataset
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.build import BuildConfig
from pipeline.folder import Folder, open_input
from pipeline.inspect import read_member, scan
from pipeline.kinds import PAIR_KIND, VIDEO_KIND
from pipeline.shard import Kind, merge_index, write_shard
from pipeline.stage import Job, Output, Unit
from pipeline.store import MediaStore
from pipeline.tables import key_ranges, stream_range
from schemas.media import STORED, Media
from schemas.page import Origin, key_of, origin_to_row
from schemas.pair import pair_from_members
from schemas.shard import index_name
from schemas.video import clip_key, video_from_members

ENVIRONMENT = Path(__file__).resolve().parents[1] / "build" / "peers" / "open_clip"
SCRIPT = Path(__file__).with_name("peer_readers.py")
PINS = (
    "torch==2.13.0", "numpy==2.4.6", "pillow==12.3.0", "transformers==5.23.0", "timm==1.0.31", "ftfy==6.3.1",
    "regex==2026.11.15", "safetensors==0.8.0", "webdataset==0.2.86", "pandas==3.1.1", "tqdm==4.70.1", "einops==0.8.2",
    "langdetect==1.0.9", "requests==2.34.2", "opencv-python-headless==5.0.0.93",
)  # fmt: skip
BARE = (
    "torchvision==0.28.0", "torchaudio==2.11.0", "torchdata==0.7.1", "open_clip_torch==3.3.0", "video2dataset==1.3.0",
    "decord==0.6.0",
)  # fmt: skip
"""Installed without what they ask for: they would bring other versions of torch. open_clip wants webdataset <= 0.2.86:
with a newer one its loader for training fails, and says so."""
WORDS = ("a", "heron", "in", "the", "reeds,", "Fig. 3;", "naïve", "“quotes”", "漢字", "🦩", "at", "old", "bridges")

Found = Counter[tuple[str, str]]
"""How often a reader gave a picture or clip, by its hash, with a text."""


def main() -> None:
    """Read the shards with every reader and print who gave the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="a dataset with pairs or videos; without it some are generated")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--no-peers", action="store_true", help="only what the project's environment has")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flamingo-bench-") as temporary:
        root = given.dataset or temporary
        if not given.dataset:
            generate(Folder(root), given.pairs, given.clips, given.shards)
        rows = [*compare_pairs(root, given.no_peers), *compare_clips(root, given.no_peers)]
    table = Table("reader", "of", "samples", "the same as ours")
    for name, kind, count, same in rows:
        table.add_row(name, kind, f"{count:,}", "" if same is None else "yes" if same else "NO")
    Console().print(table)
    sys.exit(1 if not rows or False in [same for *_, same in rows] else 0)


# --- what is read ----------------------------------------------------------------------------------------------------


def generate(folder: Folder, pairs: int, clips: int, shards: int) -> None:
    """Write shards of noisy pictures of many sizes, and of clips that are one MP4 each."""
    random = np.random.default_rng(0)
    with MediaStore(folder, "generated") as store:
        of_pairs = [pair_row(store, number, random) for number in range(pairs)]
        of_clips = [clip_row(store, number) for number in range(clips)]
    write(folder, PAIR_KIND, of_pairs, shards)
    write(folder, VIDEO_KIND, of_clips, shards)


def pair_row(store: MediaStore, number: int, random: np.random.Generator) -> dict[str, object]:
    width, height = (int(side) for side in random.integers(16, 400, 2))
    small = random.integers(0, 256, (8, 8, 1 if number % 7 == 0 else 3), dtype=np.uint8)
    image = Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(random.integers(50, 100)))
    url = f"https://h.example/{number}.jpg"
    text = " ".join(random.choice(WORDS, int(random.integers(1, 24))))
    return said(key_of(url), url, text) | stored(store, stream.getvalue(), "jpeg", width, height)


def clip_row(store: MediaStore, number: int) -> dict[str, object]:
    url, times = f"https://h.example/{number // 3}.mp4", (8.0 * (number % 3), 8.0 * (number % 3) + 2)
    part = stored(store, mp4(number), "mp4", 96, 64)
    times_of = {"start_s": times[0], "end_s": times[1], "fps": 10.0, "parts": [part]}
    return said(clip_key(url, *times), url, " ".join(WORDS[number % 9 :])) | times_of


def mp4(number: int) -> bytes:
    """Encode two seconds of a moving gradient."""
    target = io.BytesIO()
    with av.open(target, "w", "mp4") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"flags": "+bitexact"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 96, 64, "yuv420p", Fraction(1, 10)
        ramp = np.linspace(0, 255, 96)[None, :, None] + np.linspace(0, 99, 64)[:, None, None] + np.arange(3)
        for frame in range(20):
            picture = ((ramp + 13 * number + 5 * frame) % 256).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def said(key: str, url: str, text: str) -> dict[str, object]:
    names = {"key": key, "url": url, "page_url": "https://h.example/", "text": text, "kind": "alt", "language": "en"}
    return names | {"texts": [{"kind": "alt", "text": text}], "licence": "", "origin": origin_to_row(Origin("a", 0))}


def stored(store: MediaStore, data: bytes, format: str, width_px: int, height_px: int) -> dict[str, object]:
    location = store.add(Media("https://h.example/file", STORED, format=format), data, None)
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "phash": "", "format": format}
    return facts | {"width_px": width_px, "height_px": height_px, "location": origin_to_row(location)}


def write(folder: Folder, kind: Kind, rows: list[dict[str, object]], shards: int) -> None:
    """Write the shards of a kind as the stage does."""
    job, names = Job(folder, BuildConfig()), []
    table = Output(job, Unit("rows", kind.name, None), {})
    for row in rows:
        table.write(kind.table, row)
    table.commit()
    for keys in key_ranges(shards):
        output = Output(job, Unit(kind.stage, str(keys.index), keys), {})
        write_shard(output.unit, {kind.table.directory: stream_range(folder, kind.table, keys)}, output, kind=kind)
        names.append(output.facts["name"])
    merge_index(folder, names, kind)


# --- who reads -------------------------------------------------------------------------------------------------------

Row = tuple[str, str, int, bool | None]


def compare_pairs(root: str, no_peers: bool) -> Iterator[Row]:
    """Read the pairs with every reader."""
    shards = shards_of(root, "pairs")
    if not shards:
        return
    expected = Counter((pixels(pair.picture.data), pair.text) for pair in ours(root, "pairs", pair_from_members))
    count = expected.total()
    yield "flamingo, by the index", "pairs", count, None
    yield row("webdataset", "pairs", by_webdataset(shards), expected)
    for streaming in (False, True):
        name = "datasets, streaming" if streaming else "datasets"
        yield row(name, "pairs", by_datasets(shards, streaming), expected)
    for name, title in (("open_clip", "open_clip, evaluation"), ("open_clip_train", "open_clip, training")):
        if not no_peers:
            yield row(title, "pairs", by_peer(name, count, shards), expected)


def compare_clips(root: str, no_peers: bool) -> Iterator[Row]:
    """Read the clips that are one MP4 with every reader."""
    shards = shards_of(root, "videos")
    clips = (
        [clip for clip in ours(root, "videos", video_from_members) if clip.parts[0].format == "mp4"] if shards else []
    )
    if not clips:
        return
    expected = Counter((hashlib.sha256(clip.parts[0].data).hexdigest(), clip.text) for clip in clips)
    yield "flamingo, by the index", "clips", expected.total(), None
    samples = [sample for sample in webdataset.WebDataset(shards, shardshuffle=False) if "mp4" in sample]
    found = Counter((hashlib.sha256(sample["mp4"]).hexdigest(), sample["txt"].decode()) for sample in samples)
    yield row("webdataset", "clips", found, expected)
    if not no_peers:
        yield row("video2dataset", "clips", by_peer("video2dataset", expected.total(), shards), expected)


def row(name: str, kind: str, found: Found, expected: Found) -> Row:
    return name, kind, found.total(), found == expected


def shards_of(root: str, kind: str) -> list[str]:
    return sorted(str(path) for path in Path(root, kind).glob("shard-*.tar"))


def ours(root: str, kind: str, read: Callable) -> Iterator:
    """Yield the samples of a kind, each from where the index says it is."""
    with open_input(Folder(root).path(index_name(kind))) as stream:
        rows = pq.read_table(stream).to_pylist()
    for row in rows:
        path = Folder(root).path(kind, row["shard"])
        with open_input(path) as stream:
            stream.seek(row["offset"])
            members = next(scan(stream, path))
            sample = read((name, read_member(stream, members, name, path)) for name in members.places)
        assert (sample.key, sample.text) == (row["key"], row["text"])
        yield sample


def pixels(data: bytes) -> str:
    """Hash the pixels of a picture."""
    return pixels_of(Image.open(io.BytesIO(data)))


def pixels_of(image: Image.Image) -> str:
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def by_webdataset(shards: list[str]) -> Found:
    samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb").to_tuple("jpg", "txt")
    return Counter((pixels_of(image), text) for image, text in samples)


def by_datasets(shards: list[str], streaming: bool) -> Found:
    """Read pairs with Hugging Face's builder, off the network."""
    os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    import datasets

    with tempfile.TemporaryDirectory(prefix="flamingo-bench-") as cache:
        rows = datasets.load_dataset(
            "webdataset", data_files=shards, split="train", streaming=streaming, cache_dir=cache
        )
        return Counter((pixels_of(sample["jpg"]), sample["txt"]) for sample in rows)


def by_peer(name: str, samples: int, shards: list[str]) -> Found:
    """Read shards with a loader in the peers' environment."""
    command = [str(peer_python()), "-W", "ignore", str(SCRIPT), name, str(samples), *shards]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    # What the peer prints itself comes before this line.
    lines = result.stdout.partition('"samples"\n')[2].splitlines()
    return Counter(tuple(json.loads(line)) for line in lines)


def peer_python() -> Path:
    """Give the interpreter of the peers' environment, which the first call makes."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "pins.txt"
    wanted = "\n".join((*PINS, *BARE))
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        print(f"installing open_clip and video2dataset into {ENVIRONMENT} ...", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        for packages in (PINS, ("--no-deps", *BARE)):
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run(install, check=True)
        stamp.write_text(wanted, "utf-8")
    return python


if __name__ == "__main__":
    main()
