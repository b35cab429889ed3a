"""Recall over false positives of perceptual hashes, on real and on drawn pictures, and their CPU time.

    python bench/hashes.py ../shared/corpus/books.warc.gz

For each hash and threshold: the share of pairs of distinct pictures that it calls copies, and the share of copies (see
hashes_copies.py) that it finds. Thresholds are the published ones (*) and the largest with at most 1e-3, 1e-4, 1e-5 and
no false positives. Drawn pictures share their layouts, so that many distinct ones truly are near. Peers are those
installed in build/peers/hashes (ImageHash, pdqhash, scipy); imagededup is its published steps, because its package
needs torch. At the end: the search of a large set of hashes, and the time beside comparing all.
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hashes_copies import copies, drawn_picture, encoded, real_pictures
from PIL import Image

from pipeline.media import MediaConfig, decode, name_format, to_srgb
from pipeline.near import NearHashes
from pipeline.perceptual import HASH_BYTES, hash_picture, mirrored

PEERS = Path(__file__).resolve().parents[1] / "build" / "peers" / "hashes"
DRAWN = 1000
COPIED = {"real": 4, "drawn": 10}
"""Copies are made of every so many pictures."""
SAME_BITS = 40
"""Real pictures nearer than this by our hash are one picture twice: 39 pairs, looked at. The next differ in 59 bits."""
KINDS = {
    "encoded": ("jpeg", "webp"),
    "resized": ("resized",),
    "crop<=3": ("cropped 1.0", "cropped 2.0", "cropped 3.0"),
    "crop 5": ("cropped 5.0",),
    "crop>5": ("cropped 7.5", "cropped 10.0"),
    "text": ("text",),
    "logo": ("logo",),
    "band": ("band",),
    "light": ("light",),
    "shared": ("shared",),
    "mirrored": ("mirrored",),
}
Hash = Callable[[Image.Image], bytes]


def textbook(picture: Image.Image) -> bytes:
    """Hash 64 bits as usual: the 8x8 lowest frequencies of 32x32 samples, above their median."""
    grey = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    cosines = np.rint(2**14 * np.cos(np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(32) + 1)))
    low = cosines @ np.asarray(grey, dtype=np.float64) @ cosines.T
    return np.packbits(low > np.median(low)).tobytes()


def imagededup(picture: Image.Image) -> bytes:
    """Resize in colours, then grey, the cosine transform of 32x32, the median without the constant."""
    from scipy.fft import dct

    samples = np.asarray(picture.resize((32, 32), Image.Resampling.LANCZOS).convert("L"))
    low = dct(dct(samples.astype(np.float64), axis=0), axis=1)[:8, :8]
    return np.packbits(low >= np.median(low.ravel()[1:])).tobytes()


def hashes() -> dict[str, tuple[Hash, int]]:
    """Name the hashes, each with its published threshold in bits."""
    found: dict[str, tuple[Hash, int]] = {"ours 256": (hash_picture, 47), "textbook 64": (textbook, 10)}
    sys.path += [str(path) for path in PEERS.glob("lib/python3*/site-packages")]
    try:
        import imagehash
        import pdqhash
    except ImportError as error:
        print(f"without peers: {error}")
        return found
    return found | {
        "imagehash phash": (lambda p: np.packbits(imagehash.phash(p).hash).tobytes(), 10),
        "imagehash phash 256": (lambda p: np.packbits(imagehash.phash(p, 16).hash).tobytes(), 40),
        "imagehash dhash": (lambda p: np.packbits(imagehash.dhash(p).hash).tobytes(), 10),
        "imagehash whash": (lambda p: np.packbits(imagehash.whash(p).hash).tobytes(), 10),
        "imagededup phash": (imagededup, 10),
        "PDQ": (lambda p: np.packbits(pdqhash.compute(np.asarray(p))[0].astype(bool)).tobytes(), 31),
    }


def decoded(data: bytes) -> Image.Image:
    config = MediaConfig()
    return to_srgb(decode(name_format(data, config), data, config)[1], None)


def collect(pictures: Iterator[Image.Image], every: int, named: dict[str, tuple[Hash, int]]):
    """Hash all pictures and the copies of some; gives both by hash, and whose and which copies they are."""
    originals: dict[str, list[bytes]] = {name: [] for name in named}
    of_copies: dict[str, list[bytes]] = {name: [] for name in named}
    owners, kinds = [], []
    for index, picture in enumerate(pictures):
        clean = decoded(encoded(picture, quality=92))
        for name, (look, _) in named.items():
            originals[name].append(look(clean))
        for kind, data in copies(picture, index) if index % every == 0 else ():
            copy = decoded(data)
            owners.append(index)
            kinds.append(kind)
            for name, (look, _) in named.items():
                of_copies[name].append(look(copy))
    return originals, of_copies, np.array(owners), kinds


def rows(looks: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), -1)


def pair_distances(looks: list[bytes]) -> np.ndarray:
    bits = rows(looks)
    return np.concatenate([np.bitwise_count(bits[at] ^ bits[at + 1 :]).sum(1) for at in range(len(bits) - 1)])


def report(population: str, named: dict[str, tuple[Hash, int]], found) -> None:
    originals, of_copies, owners, kinds = found
    distinct = pair_distances(originals["ours 256"]) >= (SAME_BITS if population == "real" else 0)
    print(f"\n{population}: {len(originals['ours 256'])} pictures, {len(kinds)} copies,", end=" ")
    print(f"{distinct.sum()} pairs, {(~distinct).sum()} pairs set aside")
    print(f"{'hash':20} {'bits':>4} {'false':>8} " + " ".join(f"{kind:>8}" for kind in KINDS))
    for name, (_, published) in named.items():
        apart = pair_distances(originals[name])[distinct]
        far = np.bitwise_count(rows(originals[name])[owners] ^ rows(of_copies[name])).sum(1)
        below = np.bincount(apart).cumsum()
        limits = {int(np.searchsorted(below, rate * len(apart), side="right")) - 1 for rate in (1e-3, 1e-4, 1e-5, 0)}
        for bits in sorted(limits | {published}, reverse=True):
            shares = [np.mean(far[[kind.startswith(names) for kind in kinds]] <= bits) for names in KINDS.values()]
            mark = "*" if bits == published else " "
            line = " ".join(f"{share:8.3f}" for share in shares)
            print(f"{name:20} {bits:>3}{mark} {np.mean(apart <= bits):8.1e} {line}")
    places = [place for place, kind in enumerate(kinds) if kind == "mirrored"]
    turned = rows([mirrored(originals["ours 256"][owners[place]]) for place in places])
    apart = np.bitwise_count(turned ^ rows([of_copies["ours 256"][place] for place in places])).sum(1)
    print(f"ours, asked for the mirrored hash too: {np.mean(apart <= 47):.3f} of mirrored copies within 47 bits")


def time_search(count: int, queries: int = 200) -> None:
    dice = random.Random(count)
    looks = [dice.randbytes(HASH_BYTES) for _ in range(count)]
    started = time.process_time()
    hashes = NearHashes(looks)
    built = time.process_time() - started
    size = hashes.words.nbytes
    print(f"\n{count:,} hashes: built in {built:.2f} CPU s, {size / 1e6:.0f} MB")
    for bits in (0, 47, 58):
        for both in (False, True):
            started = time.process_time()
            for look in looks[:queries]:
                hashes.within(look, bits, mirrored=both)
            each = (time.process_time() - started) / queries
            print(f"  within {bits} of a look{' or its mirror image' if both else ''}: {each * 1e3:.3f} ms a query")


def main() -> None:
    named = hashes()
    for population, pictures in {
        "real": iter(real_pictures([Path(name) for name in sys.argv[1:]])),
        "drawn": (drawn_picture(index) for index in range(DRAWN)),
    }.items():
        report(population, named, collect(pictures, COPIED[population], named))
    large = Image.open(io.BytesIO(encoded(drawn_picture(0).resize((720, 480), Image.Resampling.BICUBIC)))).convert(
        "RGB"
    )
    print()
    for name, (look, _) in named.items():
        started = time.process_time()
        for _ in range(50):
            look(large)
        print(f"{name:20} {(time.process_time() - started) * 20:.3f} ms a picture of 720x480 px")
    for count in (100_000, 1_000_000):
        time_search(count)


if __name__ == "__main__":
    main()
