"""The look of a picture as 256 bits that copies of it share but for a few: a Pillow picture in, 32 bytes out.

    picture → grey → 64x64 → its 16x16 lowest frequencies but the constant ones → their signs

All sums are of whole numbers and exact, so the bits depend on the platform only where decoding and resizing do.
bench/hashes.py draws recall over false positives, for this hash and for others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 256
HASH_BYTES = HASH_BITS // 8
SIDE_PX = 64
FREQUENCIES = 16

COSINES = np.rint(2**14 * np.cos(np.pi / 128 * np.outer(np.arange(1, FREQUENCIES + 1), 2 * np.arange(SIDE_PX) + 1)))
"""The cosines of frequencies 1..16 over 64 samples as whole numbers: all sums stay below 2^53 and are exact."""

MIRROR = np.packbits(np.tile(np.arange(1, FREQUENCIES + 1) % 2 == 1, FREQUENCIES)).tobytes()
"""The signs that turn when left and right are exchanged: those of the odd horizontal frequencies."""


def hash_picture(picture: Image.Image) -> bytes:
    """Hash the look of a picture of any plain mode; one of a single colour gives 32 zero bytes."""
    grey = picture.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    samples = np.asarray(grey, dtype=np.float64)
    return np.packbits(COSINES @ samples @ COSINES.T > 0).tobytes()


def mirrored(look: bytes) -> bytes:
    """Give the hash of the mirrored picture, up to the few bits that resizing and zeros decide."""
    return bytes(bit ^ turned for bit, turned in zip(look, MIRROR, strict=True))


def bits_apart(left: bytes, right: bytes) -> int:
    """Count the bits in which two hashes of equal length differ: the Hamming distance."""
    if len(left) != len(right):
        raise ValueError(f"hashes of {len(left)} and {len(right)} bytes")
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()


def to_words(looks: list[bytes]) -> NDArray[np.uint64]:
    """Put hashes into rows of four 64-bit words, for distances of many at once."""
    joined = b"".join(looks)
    if any(len(look) != HASH_BYTES for look in looks):
        raise ValueError(f"hashes have {HASH_BYTES} bytes each")
    return np.frombuffer(joined, np.uint64).reshape(-1, HASH_BYTES // 8)
