"""Shards for the loaders, drawn from a seed: pairs, documents and clips of pictures like photographs.

    pairs 4000 → build/loader/pairs-4000/pairs/shard-000000.tar ..., index.parquet, manifest.json

Pairs have 384x256 px and some 23 KB with a caption of 4 to 20 words, `large` ones 1024x768 px and 97 KB. A document
has 1 to 8 of the small pictures and 100 to 1,500 words, a clip 8 small frames that move over a picture. Shards,
index and manifest are written by the functions of the pipeline, 5 MB to a shard. Made once, in about a minute.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from photographs import CANVASES, draw_canvas
from PIL import Image

from pipeline.folder import Folder
from pipeline.kinds import PAIR_KIND, VIDEO_KIND
from pipeline.shard import INTERLEAVED_KIND, HashingStream, Kind, create_rows, merge_index, write_sample
from schemas.document import Said
from schemas.page import Origin, key_of
from schemas.pair import ImageText, Part
from schemas.sample import Interleaved, Picture
from schemas.shard import Manifest, Shard, manifest_name, manifest_to_json, shard_name
from schemas.video import VideoText, clip_key

FOLDER = Path(__file__).resolve().parents[1] / "build" / "loader"
SHARD_SAMPLES = {"pairs": 200, "large": 50, "interleaved": 50, "videos": 25}
FRAMES = 8
SMALL, LARGE = (384, 256), (1024, 768)
ZOOM = {SMALL: 3.0, LARGE: 2.0}
QUALITY = {SMALL: 95, LARGE: 88}
"""How much of a canvas a picture shows, and its quality: what gives the sizes in bytes."""
ORIGIN = Origin("generated", 0)
KINDS = {"pairs": PAIR_KIND, "large": PAIR_KIND, "interleaved": INTERLEAVED_KIND, "videos": VIDEO_KIND}


def make_dataset(kind: str, samples: int) -> Path:
    """Give the dataset folder of a kind, drawn on the first call."""
    root = FOLDER / f"{kind}-{samples}"
    folder, stored = Folder(str(root)), KINDS[kind]
    if not Path(folder.path(manifest_name(stored.name))).exists():
        drawn, shards = DRAW[kind](samples), []
        while several := list(islice(drawn, SHARD_SAMPLES[kind])):
            shards.append(write_shard(folder, stored, several, len(shards)))
        merge_index(folder, [shard.name for shard in shards], stored)
        manifest = Manifest(stored.name, tuple(shards), (), {}, "0.1.0")
        folder.write_text(manifest_name(stored.name), manifest_to_json(manifest))
    return root


def write_shard(folder: Folder, kind: Kind, samples: list, number: int) -> Shard:
    """Write one shard and its part of the index."""
    name = shard_name(number)
    with (
        create_rows(folder, f"{kind.work}/{name}.parquet", kind.index_schema) as add,
        folder.create(f"{kind.name}/{name}") as stream,
    ):
        hashing = HashingStream(stream)
        with tarfile.open(fileobj=hashing, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                add(write_sample(tar, sample, name, kind))
    return Shard(name, len(samples), hashing.written, hashing.digest.hexdigest())


# --- samples ---------------------------------------------------------------------------------------------------------


def draw_pairs(count: int, size: tuple[int, int] = SMALL) -> Iterator[ImageText]:
    dice = np.random.default_rng(1)
    for number, (data,) in enumerate(draw_pictures(count, size, 1)):
        url, text = f"https://h.example/{number}.jpg", sentence(dice, int(dice.integers(4, 21)))
        yield ImageText(picture=part(data, size), text=text, **said(key_of(url), url, text))


def draw_documents(count: int) -> Iterator[Interleaved]:
    dice = np.random.default_rng(2)
    pictures = (data for (data,) in draw_pictures(9 * count, SMALL, 1))
    for number in range(count):
        images, url = int(dice.integers(1, 9)), f"https://h.example/{number}"
        words = round(100 * 15 ** float(dice.random()))
        items: list[str | int] = [sentence(dice, max(words // (images + 1), 1))]
        for index in range(images):
            items += [index, sentence(dice, max(words // (images + 1), 1))]
        shown = tuple(picture(f"{url}/{index}.jpg", next(pictures)) for index in range(images))
        yield Interleaved(key_of(url), url, f"Place {number}", "en", tuple(items), shown, ORIGIN)


def draw_clips(count: int) -> Iterator[VideoText]:
    dice = np.random.default_rng(3)
    for number, frames in enumerate(draw_pictures(count, SMALL, FRAMES)):
        url, text = f"https://h.example/{number}.mp4", sentence(dice, int(dice.integers(4, 21)))
        parts = tuple(part(data, SMALL) for data in frames)
        known = said(clip_key(url, 0.0, FRAMES), url, text)
        yield VideoText(start_s=0.0, end_s=float(FRAMES), fps=1.0, parts=parts, text=text, **known)


DRAW: dict[str, Callable[[int], Iterator]] = {
    "pairs": draw_pairs,
    "large": lambda count: draw_pairs(count, LARGE),
    "interleaved": draw_documents,
    "videos": draw_clips,
}


def said(key: str, url: str, text: str) -> dict[str, object]:
    known = {"key": key, "url": url, "page_url": "https://h.example/", "kind": "alt", "texts": (Said("alt", text),)}
    return known | {"language": "en", "licence": "", "origin": ORIGIN}


def part(data: bytes, size: tuple[int, int]) -> Part:
    return Part(hashlib.sha256(data).hexdigest(), "0" * 16, "jpeg", *size, data)


def picture(url: str, data: bytes) -> Picture:
    return Picture(url, "", "", hashlib.sha256(data).hexdigest(), "0" * 16, "jpeg", *SMALL, data)


# --- what they are made of -------------------------------------------------------------------------------------------


def words_of_seed(count: int = 4000) -> list[str]:
    """Make up words of one to four syllables."""
    dice = np.random.default_rng(0)
    onsets, vowels, codas = [*"bcdfghlmnprstvw", "st", "tr", "ch"], [*"aeiou"], ["", "n", "r", "s", "ll", "m"]

    def syllable() -> str:
        return dice.choice(onsets) + dice.choice(vowels) + dice.choice(codas)

    return ["".join(syllable() for _ in range(dice.integers(1, 5))) for _ in range(count)]


WORDS = words_of_seed()


def sentence(dice: np.random.Generator, words: int) -> str:
    """Draw words, common ones more often, with full stops."""
    ranks = (len(WORDS) ** dice.random(words)).astype(int) - 1
    found = [WORDS[rank] for rank in ranks]
    for at in range(0, words, 12):
        found[at] = found[at].capitalize()
        found[min(at + 11, words - 1)] += "."
    return " ".join(found)


def draw_pictures(count: int, size: tuple[int, int], frames: int) -> Iterator[list[bytes]]:
    """Draw so many shots of one frame or more, from each canvas in turn."""
    shares = [(canvas, len(range(canvas, count, CANVASES)), size, frames) for canvas in range(CANVASES)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        shots = list(pool.map(draw_share, shares))
    for number in range(count):
        yield shots[number % CANVASES][number // CANVASES]


def draw_share(share: tuple[int, int, tuple[int, int], int]) -> list[list[bytes]]:
    seed, count, size, frames = share
    canvas, dice = draw_canvas(seed), np.random.default_rng((seed, 4, *size))
    return [draw_shot(canvas, dice, size, frames) for _ in range(count)]


def draw_shot(canvas: Image.Image, dice: np.random.Generator, size: tuple[int, int], frames: int) -> list[bytes]:
    """Cut a picture from a canvas, or frames that move a little from one to the next."""
    wide, high = (int(side * ZOOM[size]) for side in size)
    left, top = dice.integers(canvas.width - wide + 1), dice.integers(canvas.height - high + 1)
    shot = []
    for _ in range(frames):
        box = (left, top, left + wide, top + high)
        cut = canvas.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=1.5)
        buffer = io.BytesIO()
        cut.save(buffer, "JPEG", quality=QUALITY[size])
        shot.append(buffer.getvalue())
        left, top = (left + 9) % (canvas.width - wide + 1), (top + 5) % (canvas.height - high + 1)
    return shot
