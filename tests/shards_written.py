"""Small shards for the tests of the loader: pages, pairs and clips of numbered pictures, as `schemas` writes them."""

import functools
import hashlib
import io
import random
import tarfile

from PIL import Image

from flamingo_model.config import DataConfig, paper_dataset
from schemas.page import Origin, key_of
from schemas.pair import ImageText, Part, pair_to_members
from schemas.sample import Interleaved, Picture, to_members
from schemas.video import VideoText, clip_key, video_to_members

ORIGIN = Origin("crawl.warc.gz", 0, 1)
WORDS = ["heron", "reed", "river", "bridge", "stone", "winter", "lamp", "quiet", "harbour", "field", "cloud", "ladder"]


@functools.lru_cache(maxsize=4096)
def jpeg(number, width_px=24, height_px=16):
    """Draw a picture of one colour, which tells its number."""
    stream = io.BytesIO()
    colour = (number * 7 % 256, number // 36 * 11 % 256, 90)
    Image.new("RGB", (width_px, height_px), colour).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def known(data, width_px=24, height_px=16):
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "phash": "0" * 64,
        "format": "jpeg",
        "width_px": width_px,
        "height_px": height_px,
        "data": data,
    }


def pair(number):
    url = f"https://h.example/{number}.jpg"
    text = f"Picture {number}: " + " ".join(random.Random(number).choices(WORDS, k=1 + number % 9))
    part = Part(**known(jpeg(number)))
    return key_of(url), pair_to_members(
        ImageText(key_of(url), url, "https://h.example/", text, "alt", (), part, "en", "", ORIGIN)
    )


def page(number):
    """Write a page of some texts and pictures: from none to seven, the texts of very different lengths."""
    dice = random.Random(number)
    url, items, images = f"https://h.example/page-{number}", [], []
    for place in range(dice.randrange(1, 9)):
        items.append(f"Page {number}, text {place}: " + " ".join(dice.choices(WORDS, k=dice.choice((2, 9, 40)))))
        if len(images) < number % 8:
            items.append(len(images))
            data = jpeg(100 * number + place)
            images.append(Picture(f"{url}/{place}.jpg", "", "", **known(data)))
    return key_of(url), to_members(
        Interleaved(key_of(url), url, f"Page {number}", "en", tuple(items), tuple(images), ORIGIN)
    )


def clip(number, frames=8):
    url = f"https://h.example/{number}.mp4"
    key = clip_key(url, 0.0, float(frames))
    parts = tuple(Part(**known(jpeg(100 * number + place))) for place in range(1 + (number + frames - 1) % frames))
    return key, video_to_members(
        VideoText(
            key,
            url,
            "https://h.example/",
            f"Clip {number}.",
            "alt",
            (),
            0.0,
            float(frames),
            1.0,
            parts,
            "en",
            "",
            ORIGIN,
        )
    )


MADE = {"pairs": pair, "interleaved": page, "videos": clip}


def write_shards(folder, kind, samples, per_shard=20):
    """Write numbered samples of a kind; gives the names of the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for start in range(0, samples, per_shard):
        paths.append(str(folder / f"{kind}-{start // per_shard:05d}.tar"))
        write_tar(paths[-1], (MADE[kind](number) for number in range(start, min(start + per_shard, samples))))
    return tuple(paths)


def write_tar(path, samples):
    """Write samples, each a key and its members, as a plain tar."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for name, data in members:
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def small(datasets, **settings):
    """Give settings for such shards: small pictures, short rows."""
    given = {"image_px": 16, "threads": 1, "shuffle_samples": 64, "lanes": 8, **settings}
    return DataConfig({name: paper_dataset(**dataset) for name, dataset in datasets.items()}, **given)
