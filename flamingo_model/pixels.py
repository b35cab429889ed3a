"""Encoded pictures → uint8 frames of the training size, on the CPU.

    bytes → read_image (a JPEG scaled while it is decoded) → place (a resize that antialiases) → out [3, S, S] uint8

F frames, S pixels a side. Limits come before work: of bytes, and of the size in the header. Decoding works without
Python's lock and may be called by many threads; each begins with `one_thread`. What follows is `augment`'s.
"""

from __future__ import annotations

import functools
import io
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, TiffImagePlugin, WebPImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

EMPTY = "empty"
TOO_LARGE = "too_large"
TRUNCATED = "truncated"
UNREADABLE = "unreadable"
PAD, CROP, STRETCH = "pad", "crop", "stretch"
PILLOW_WARNS_PX = 89_478_485  # above this many pixels Pillow's readers may warn of a bomb or refuse it by themselves

UPSAMPLE: Any = torch.ops.aten._upsample_bicubic2d_aa.out  # what `interpolate` calls; a test compares the two

Codes = NDArray[np.uint8]
Colour = tuple[int, int, int]
Size = tuple[float, float]
"""Height and width; fractions where pixels are not square."""


class Stats(NamedTuple):
    """What a vision encoder was trained with: red, green and blue from 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


STATS: Mapping[str, Stats] = {
    "clip": Stats((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": Stats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "siglip": Stats((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "half": Stats((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
FILLS: Mapping[str, Colour] = {
    name: (round(255 * red), round(255 * green), round(255 * blue)) for name, ((red, green, blue), _) in STATS.items()
}
"""The colour of the padding: the mean (SPEC-flamingo, Forward pass)."""


class BadImage(ValueError):  # noqa: N818 (a name agreed between the modules)
    """A file that is refused; `reason` is one of this module's or of `clips`, the text one line for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {' '.join(detail.split())[:200]}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What is decoded; a `ValueError` says what cannot be."""

    max_bytes: int = 30_000_000
    """Bytes of a file; a larger one is not looked at."""
    max_pixels: int = 50_000_000
    """Pixels that a header may declare; what is no JPEG takes up to 12 bytes of memory a pixel."""
    max_side_px: int = 20_000
    """Pixels of the longer side."""
    max_scans: int = 100
    """Scans of a progressive JPEG, each a pass over the whole picture; encoders write about 10."""
    strict: bool = True
    """Refuse a JPEG that is cut short or damaged. Otherwise what is missing of it comes out grey."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= PILLOW_WARNS_PX:
            raise ValueError(f"max_pixels is 1..{PILLOW_WARNS_PX}, not {self.max_pixels}")


LIMITS = Limits()


def decode_image(data: bytes | memoryview, out: Codes, fit: str, fill: Colour, limits: Limits = LIMITS) -> None:
    """Decode a picture into `out` [3, S, S], upright; JPEG, PNG, WebP, GIF and TIFF (the first picture) and BMP.

    `fit` is "pad" (all of it, in the middle, the rest in the colour `fill`), "crop" (the middle) or "stretch". Alpha
    is flattened on `fill`. Rows of pixels are written in place, which saves a copy: see `new_frames`. Colour profiles
    are not looked at. A `BadImage` says why a file is refused; `out` is then as it was.
    """
    if fit not in (PAD, CROP, STRETCH):
        raise ValueError(f"fit is {PAD}, {CROP} or {STRETCH}, not {fit!r}")
    pixels, extent = read_image(bytes(data), out.shape[-1], fit, fill, limits)
    place(pixels, extent, extent, out, fit, fill)


def new_frames(count: int, side: int, pinned: bool = False) -> Tensor:
    """Make frames [F, 3, S, S] whose pixels lie together (channels last), as decoding and many encoders want them."""
    return torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=pinned).permute(0, 3, 1, 2)


def read_image(data: bytes, side: int, fit: str, fill: Colour, limits: Limits) -> tuple[Codes, Size]:
    """Decode a picture to [height, width, 3], upright and as large as a square of `side` needs it; and its extent.

    A scaled JPEG ends within its last pixels: 513 rows are 64.125 at an eighth, in 65.
    """
    if not data:
        raise BadImage(EMPTY, "no bytes")
    if len(data) > limits.max_bytes:
        raise BadImage(TOO_LARGE, f"{len(data)} bytes, at most {limits.max_bytes}")
    scaled = read_jpeg(data, side, fit, limits) if data.startswith(b"\xff\xd8") else None
    if scaled is not None:
        return scaled
    pixels = read_with_pillow(data, fill, limits)
    return pixels, (pixels.shape[0], pixels.shape[1])


def check_size(width_px: int, height_px: int, limits: Limits) -> None:
    """Refuse a size before memory is taken for it."""
    if width_px * height_px > limits.max_pixels or max(width_px, height_px) > limits.max_side_px:
        most = f"at most {limits.max_pixels} in all and {limits.max_side_px} a side"
        raise BadImage(TOO_LARGE, f"{width_px}x{height_px} px, {most}")
    if min(width_px, height_px) < 1:
        raise BadImage(UNREADABLE, f"{width_px}x{height_px} px")


def read_jpeg(data: bytes, side: int, fit: str, limits: Limits) -> tuple[Codes, Size] | None:
    """Decode a JPEG as `read_image` does, scaled by a power of two; `None` where Pillow has to try."""
    try:
        height_px, width_px, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    check_size(width_px, height_px, limits)
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    turn = read_jpeg_turn(data, limits)
    high, wide = wanted_size((height_px, width_px), side, fit)
    factor = min(8, halvings(height_px, high), halvings(width_px, wide))
    try:
        # Factors that are no powers of two save less than they cost: their transforms are not vectorised.
        pixels: Codes = simplejpeg.decode_jpeg(
            data,
            min_height=-(-height_px // factor),
            min_width=-(-width_px // factor),
            min_factor=factor,
            strict=limits.strict,
        )
    except ValueError as error:
        if "Premature end of JPEG file" in str(error):
            raise BadImage(TRUNCATED, "a JPEG that ends early") from None
        if "Corrupt JPEG data" in str(error):
            raise BadImage(UNREADABLE, str(error)) from None
        return None
    extent = (height_px / factor, width_px / factor)
    return turned(pixels, turn), extent[::-1] if turn in SIDEWAYS else extent


def wanted_size(shown: Size, side: int, fit: str) -> tuple[int, int]:
    """Tell the height and width that all of a picture is to have whose own are `shown`."""
    if fit == STRETCH:
        return side, side
    scale = side / (max if fit == PAD else min)(shown)
    return max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale))


def halvings(size: int, wanted: int) -> int:
    """Tell the largest power of two that `size` can be divided by and still be `wanted`."""
    return int(1 << max(0, (size // max(1, wanted)).bit_length() - 1))


JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def read_jpeg_turn(data: bytes, limits: Limits) -> int:
    """Walk the segments before the picture: its orientation by EXIF, 1..8; too many scans are refused."""
    at, turn = 2, 1
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # padding
            at += 1
            continue
        if kind in JPEG_FRAMES:
            if kind in PROGRESSIVE and (scans := data.count(b"\xff\xda", at)) > limits.max_scans:
                raise BadImage(TOO_LARGE, f"{scans} scans, at most {limits.max_scans}")
            break
        if kind == 0xE1 and data.startswith(b"Exif\0\0", at + 4):
            turn = read_orientation(data[at + 10 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")])
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return turn


def read_orientation(exif: bytes) -> int:
    """Read the orientation, 1..8, of EXIF without its heading; 1 where there is none that makes sense."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    at = struct.unpack_from(order + "I", exif, 4)[0]
    count = struct.unpack_from(order + "H", exif, at)[0] if at + 2 <= len(exif) else 0
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, type, values, value = struct.unpack_from(order + "HHIH", exif, entry)
        if (tag, type, values) == (0x0112, 3, 1):
            return int(value) if 1 <= value <= 8 else 1
    return 1


SIDEWAYS = frozenset({5, 6, 7, 8})
TURNS: Mapping[int, Callable[[Codes], Codes]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""How a picture [height, width, 3] becomes upright, by its orientation (EXIF 3.0, tag 0x0112)."""


def turned(pixels: Codes, orientation: int) -> Codes:
    """Turn a picture upright."""
    return np.ascontiguousarray(TURNS[orientation](pixels)) if orientation in TURNS else pixels


# Opened by class: `Image.open` would try every format and warn of large pictures.
OPENERS: tuple[tuple[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)


def read_with_pillow(data: bytes, fill: Colour, limits: Limits) -> Codes:
    """Decode the first picture of a file to [height, width, 3], upright and flattened on `fill`."""
    opener = next((opener for magic, opener in OPENERS if data.startswith(magic)), None)
    if opener is None:
        raise BadImage(UNREADABLE, f"no format that is read; starts with {data[:8]!r}")
    if data.startswith(b"RIFF"):
        check_webp(data, limits)
    try:
        with opener(io.BytesIO(data)) as image:
            check_size(*image.size, limits)
            image.load()
            exif = image.info.get("exif") or b""  # Pillow itself turns a TIFF, whose EXIF is no part of this
            return turned(flatten(image, fill), read_orientation(exif.removeprefix(b"Exif\0\0")))
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(TOO_LARGE, str(error)) from None
    except Exception as error:  # parsers let their own errors out as they come, assertions too
        told = f"{type(error).__name__}: {error}"
        raise BadImage(TRUNCATED if "truncated" in told.lower() else UNREADABLE, told) from None


def check_webp(data: bytes, limits: Limits) -> None:
    """Refuse a WebP by its first chunk: Pillow takes memory for the whole canvas when it opens one."""
    if data[8:12] != b"WEBP":
        raise BadImage(UNREADABLE, f"a RIFF file of kind {data[8:12]!r}")
    if len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise BadImage(TRUNCATED, "a WebP shorter than it says")
    layouts = {b"VP8X": (24, 24, 0xFFFFFF, 1), b"VP8L": (21, 14, 0x3FFF, 1)}
    at, shift, mask, plus = layouts.get(data[12:16], (26, 16, 0x3FFF, 0))
    packed = int.from_bytes(data[at : at + 6], "little")
    check_size((packed & mask) + plus, (packed >> shift & mask) + plus, limits)


def flatten(image: Image.Image, fill: Colour) -> Codes:
    """Turn any mode into [height, width, 3]; 16-bit grey is scaled, which Pillow would clip."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        grey = (np.clip(grey, 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise BadImage(UNREADABLE, "numbers whose black and white are not known")
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    ground = Image.new("RGBA", image.size, (*fill, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return np.array(ground.convert("RGB"))


def place(pixels: Codes, extent: Size, shown: Size, out: Codes, fit: str, fill: Colour) -> None:
    """Resize a picture [height, width, 3] into `out` [3, S, S]: `extent` of it, with the aspect that `shown` has."""
    side, rows = out.shape[-1], out.transpose(1, 2, 0)
    scales, source, (down, across) = layout(pixels.shape[:2], extent, shown, side, fit)
    inner = rows[down, across]
    if inner.shape != rows.shape:
        ground = square_of(side, fill)
        for part in (slice(0, down.start), slice(down.stop, side)):
            rows[part] = ground[part]
        for part in (slice(0, across.start), slice(across.stop, side)):
            rows[down, part] = ground[down, part]
    resize(np.ascontiguousarray(pixels[source]), inner, scales)


@functools.lru_cache(maxsize=16)
def square_of(side: int, fill: Colour) -> Codes:
    """Paint a square [S, S, 3] once: copies of it are faster than painting."""
    return np.full((side, side, 3), fill, np.uint8)


def resize(pixels: Codes, out: Codes, scales: Size) -> None:
    """Resize [height, width, 3] by `scales` into `out`: bicubic, antialiased, in whole numbers."""
    if pixels.shape == out.shape and scales == (1, 1):
        np.copyto(out, pixels)
        return
    # Written in place, this takes 0.6 of the time of `interpolate`, which makes planes of it. PyTorch writes wrong
    # pixels into an `out` with gaps between its rows.
    whole = out if out.flags.c_contiguous else np.empty(out.shape, np.uint8)
    source, target = (torch.from_numpy(array[None]).permute(0, 3, 1, 2) for array in (pixels, whole))
    UPSAMPLE(source, out.shape[:2], False, *scales, out=target)
    if whole is not out:
        np.copyto(out, whole)


Box = tuple[slice, slice]


def layout(size: Sequence[int], extent: Size, shown: Size, side: int, fit: str) -> tuple[Size, Box, Box]:
    """Tell what a picture is scaled by, which part of it is taken, and where that stands in the square."""
    wanted = wanted_size(shown, side, fit)
    scales = (wanted[0] / extent[0], wanted[1] / extent[1])
    source, target = [], []
    for pixels, scale, total in zip(size, scales, wanted, strict=True):
        taken = pixels if total <= side else max(1, min(pixels, round(side / scale)))
        source.append(middle(pixels, taken))
        target.append(middle(side, min(side, total)))
    return scales, (source[0], source[1]), (target[0], target[1])


def middle(size: int, part: int) -> slice:
    """Cut a part out of the middle."""
    return slice((size - part) // 2, (size - part) // 2 + part)


ONE_AT_A_TIME = threading.Lock()


def one_thread() -> None:
    """Let the calling thread work alone: the initializer of a pool of decoding threads.

    Without it, each of them gets as many OpenMP threads of its own as the machine has cores. PyTorch's setting is
    the thread's own, but threads that have none yet take the last one set: another thread puts back the old one.
    """
    with ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        last = threading.Thread(target=torch.set_num_threads, args=(before,))
        last.start()
        last.join()
