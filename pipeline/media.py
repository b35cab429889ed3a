"""Bytes that claim to be a picture → a small sRGB JPEG and its description, or the reason for refusing it.

    data → name_format → FORMATS[format] reads → decode (Pillow) → shrink → sRGB over white → upright → JPEG

The readers are plain Python and come first: they rebuild the file with nothing but its pixels, so that Pillow's parsers
of text, EXIF, animations and multi-picture files see none of it. Nothing global is changed: threads may share it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Image, ImageCms, ImageFile, WebPImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.perceptual import hash_picture
from pipeline.shrink import shrink
from schemas.media import REJECTED, STORED, Media

EMPTY = "empty"
TOO_MANY_BYTES = "too_many_bytes"
NOT_AN_IMAGE = "not_an_image"
UNSUPPORTED_FORMAT = "unsupported_format"
TOO_MANY_PIXELS = "too_many_pixels"
SIDE_TOO_LONG = "side_too_long"
TRUNCATED = "truncated"
CORRUPT = "corrupt"

PILLOW_WARNS_PX = 89_478_485  # above this many Pillow warns of a bomb (`Image.MAX_IMAGE_PIXELS`)
MAX_PARTS = 50_000  # segments, chunks or blocks walked in Python; a 30 MB PNG in 8 KB chunks has 3,700
MAX_SCANS = 100  # of a progressive JPEG, each a pass over the picture; encoders write about 10
MAX_ICC_BYTES = 4_000_000  # CMYK profiles reach 3 MB


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """What is decoded and how it is stored; a `ValueError` says what cannot be."""

    max_bytes: int = 30_000_000
    """Bytes of a file; a larger one is not looked at (SPEC-corpus 6)."""
    max_pixels: int = 64_000_000
    """Pixels that a header may declare; decoding a WebP takes 22 bytes of memory a pixel (SPEC-corpus 6)."""
    max_side_px: int = 20_000
    """Pixels of the longer side (SPEC-corpus 2, the OBELICS rule)."""
    short_side_px: int = 480
    """Pixels of the shorter side as stored, 0 for no shrinking: the largest Flamingo trains at (SPEC-flamingo)."""
    jpeg_quality: int = 92
    """JPEG quality of what is encoded anew, 1..100."""
    formats: tuple[str, ...] = ("jpeg", "png", "gif", "webp", "bmp", "avif")
    """Formats that are decoded, of these six (SPEC-corpus 2)."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= PILLOW_WARNS_PX or not 1 <= self.jpeg_quality <= 100 or self.short_side_px < 0:
            raise ValueError(f"max_pixels is 1..{PILLOW_WARNS_PX}, jpeg_quality 1..100, short_side_px 0 or more")
        if not FORMATS.keys() >= {*self.formats}:
            raise ValueError(f"formats are of {', '.join(FORMATS)}, not {', '.join(self.formats)}")


class UnfitError(Exception):
    """A file that is refused; its two arguments are the reason and one line of detail."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as Pillow sees it, `bare`, and what was found beside its pixels."""

    bare: bytes
    width_px: int = 0  # 0 where only Pillow knows it
    height_px: int = 0
    exif: bytes = b""
    icc: bytes = b""
    clear: int | tuple[int, ...] | None = None  # the transparent colour of a PNG without palette
    storable: bool = False  # `bare` is a JPEG that any reader takes


def normalise_image(url: str, data: bytes, config: MediaConfig) -> tuple[Media, bytes]:
    """Check, decode and shrink a picture; the bytes are empty where the status is `rejected`.

    `source` and `location` are left to the caller. Whatever `data` holds, nothing but `MemoryError` is raised.
    """
    try:
        source, image = decode(name_format(data, config), data, config)
    except UnfitError as unfit:
        return Media(url, REJECTED, *unfit.args), b""
    transform = srgb_transform(source.icc, image.mode.removesuffix("A"))
    turn = TURNS.get(read_orientation(source.exif))
    picture = to_srgb(image, transform)
    picture = picture if turn is None else picture.transpose(turn)
    width_px, height_px = (source.width_px, source.height_px)[:: -1 if turn in TURNS_OF_SIDES else 1]
    untouched = source.storable and turn is None and transform is None and picture.size == (width_px, height_px)
    padded = len(source.bare) > 3 * width_px * height_px + 4096  # longer than its raw pixels and some tables
    stored = source.bare if untouched and not padded else encode(picture, config)
    rows = np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.height, -1)
    ranges = rows.max(axis=0).reshape(-1, 3).max(axis=0) - rows.min(axis=0).reshape(-1, 3).min(axis=0)
    return Media(
        url=url,
        status=STORED,
        sha256_original=hashlib.sha256(data).hexdigest(),
        sha256=hashlib.sha256(stored).hexdigest(),
        phash=hash_picture(picture).hex(),
        format="jpeg",
        width_px=width_px,
        height_px=height_px,
        stored_width_px=picture.width,
        stored_height_px=picture.height,
        stored_bytes=len(stored),
        colour_range=int(ranges.max()),
    ), stored


# Left out on purpose: TIFF and JPEG 2000 (the record of their libraries with hostile files; one browser shows them),
# run-length coded BMP (decoded in Python, byte by byte), PSD, ICO, and SVG, EPS and PDF, which are programs.
MAGIC = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<gif>GIF8[79]a)|(?P<webp>RIFF.{4}WEBP)"
    rb"|(?P<bmp_run_length>BM.{12}[^\x0c].{15}[\x01\x02]\0\0\0)|(?P<bmp>BM)|(?P<psd>8BPS)|(?P<eps>%!PS)|(?P<pdf>%PDF)"
    rb"|(?P<tiff>II\*\0|MM\0\*)|(?P<ico>\0\0\x01\0)|(?P<jpeg_2000>\0\0\0\x0cjP  |\xff\x4f\xff\x51)"
    rb"|(?P<jpeg_xl>\0\0\0\x0cJXL |\xff\x0a)|(?P<avif>.{4}ftyp(?:.{4}){0,12}?avi[fs])|(?P<heif_or_video>.{4}ftyp)",
    re.DOTALL,
)
MARKUP = re.compile(rb"<(svg|!doctype html|html|head|body)\b", re.IGNORECASE)


def name_format(data: bytes, config: MediaConfig) -> str:
    """Name the format by the first bytes, whatever the URL or a header said."""
    if not data:
        raise UnfitError(EMPTY, "no bytes")
    if len(data) > config.max_bytes:
        raise UnfitError(TOO_MANY_BYTES, f"{len(data)} bytes, at most {config.max_bytes}")
    magic = MAGIC.match(data)
    markup = None if magic else MARKUP.search(data, 0, 4096)
    if magic is None and (markup is None or markup[1].lower() != b"svg"):
        raise UnfitError(NOT_AN_IMAGE, "html" if markup else f"starts with {data[:8]!r}")
    format = (magic.lastgroup if magic else "svg") or ""
    if format not in config.formats or not PILLOW_HAS.get(format, True):
        raise UnfitError(UNSUPPORTED_FORMAT, format)
    return format


JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither an escaped 255, nor padding, nor a restart
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_KEPT = JPEG_FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD}
JPEG_COMMON = {0xC0, 0xC1, 0xC2}  # Huffman-coded frames, sequential and progressive: what every reader decodes


def read_jpeg(data: bytes) -> Source:
    """Walk all segments, keep those that libjpeg needs and stop at the end marker."""
    kept, profile, frames, exif = [data[:2]], [], [], b""
    at, scans, coded_bytes, in_scan = 2, 0, 0, False
    for _ in range(MAX_PARTS):
        marker = JPEG_MARKER.search(data, at)
        if marker is None:
            raise UnfitError(TRUNCATED, "a JPEG without its end marker")
        start, kind = marker.start(), data[marker.start() + 1]
        if in_scan:
            kept.append(data[at:start])
            coded_bytes += start - at
        if kind == 0xD9:
            break
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if at > len(data):
            raise UnfitError(TRUNCATED, "a JPEG that ends within a segment")
        segment, in_scan = data[start:at], kind == 0xDA
        if kind < 0xC0 or kind == 0xD8 or len(segment) < 4:
            raise UnfitError(CORRUPT, f"JPEG marker {kind:02x} where none can be")
        scans += in_scan
        frames += [segment] if kind in JPEG_FRAMES else []
        if kind in JPEG_KEPT:
            kept.append(segment)
        elif segment[4:9] == b"JFIF\0" and kind == 0xE0 and len(segment) >= 18:
            kept.append(b"\xff\xe0\x00\x10" + segment[4:16] + b"\0\0")  # without its thumbnail
        elif segment[4:9] == b"Adobe" and kind == 0xEE and len(segment) >= 16:
            kept.append(b"\xff\xee\x00\x0e" + segment[4:16])  # tells RGB from YCC and CMYK from YCCK
        elif segment[4:10] == b"Exif\0\0" and kind == 0xE1:
            exif = exif or segment[4:]
        elif segment[4:16] == b"ICC_PROFILE\0" and kind == 0xE2:
            profile.append(segment[16:])
    else:
        raise UnfitError(CORRUPT, f"a JPEG of more than {MAX_PARTS} segments")
    if len(frames) != 1 or len(frames[0]) < 10 or scans > MAX_SCANS:
        raise UnfitError(CORRUPT, f"a JPEG of {len(frames)} frames and {scans} scans")
    width_px, height_px, storable = read_jpeg_frame(frames[0], coded_bytes)
    icc = b"".join(part[2:] for part in sorted(profile))  # each begins with its number and their count
    return Source(b"".join(kept) + b"\xff\xd9", width_px, height_px, exif, icc, storable=storable)


def read_jpeg_frame(frame: bytes, coded_bytes: int) -> tuple[int, int, bool]:
    """Width and height of a frame, refused where the coded data cannot fill it, and whether any reader decodes it."""
    kind, bits, height_px, width_px, channels = struct.unpack(">xBxxBHHB", frame[:10])
    if bits != 8:
        raise UnfitError(UNSUPPORTED_FORMAT, f"jpeg of {bits} bits a sample")
    # libjpeg paints what is missing grey. A block of 8x8 takes two codes of a bit or more, one if progressive.
    needed_bits = -(-width_px // 8) * -(-height_px // 8) * (1 if kind == 0xC2 else 2)
    if kind in JPEG_COMMON and coded_bytes * 8 < needed_bits:
        raise UnfitError(TRUNCATED, f"{coded_bytes} coded bytes cannot fill {width_px}x{height_px} px")
    return width_px, height_px, kind in JPEG_COMMON and channels in (1, 3)


def read_png(data: bytes) -> Source:
    """Keep the critical chunks, checksums checked; the picture of an animated PNG is its default one."""
    kept, exif, icc, clear = [data[:8]], b"", b"", None
    width_px, height_px, depth, colour_type, at = 0, 0, 8, 0, 8
    for _ in range(MAX_PARTS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise UnfitError(TRUNCATED, "a PNG without its end chunk")
        name, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            if zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") != data[end - 4 : end]:
                raise UnfitError(CORRUPT, f"wrong checksum of PNG chunk {name.decode()}")
            if name != b"tRNS" or colour_type == 3:
                kept.append(data[at:end])
            else:
                clear = read_clear_colour(body, depth)
        if name == b"IHDR" and len(body) == 13:
            width_px, height_px, depth, colour_type = struct.unpack(">IIBB", body[:10])
        elif name == b"iCCP":
            with contextlib.suppress(zlib.error):  # a broken profile is none
                icc = zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], MAX_ICC_BYTES)
        elif name == b"eXIf":
            exif = body
        elif name == b"IEND":
            return Source(b"".join(kept), width_px, height_px, exif, icc, clear)
        at = end
    raise UnfitError(CORRUPT, f"a PNG of more than {MAX_PARTS} chunks")


def read_clear_colour(body: bytes, depth: int) -> int | tuple[int, ...]:
    """Scale the transparent colour of a grey or RGB PNG to the samples as decoded: 8 bits, 16 for 16-bit grey."""
    samples = tuple(int.from_bytes(body[at : at + 2], "big") for at in (0, 2, 4))
    if len(body) >= 6:
        return tuple(sample >> 8 if depth == 16 else sample & 255 for sample in samples)
    return samples[0] if depth == 16 else samples[0] * 255 // (2**depth - 1) & 255


def read_gif(data: bytes) -> Source:
    """Keep the screen, the first frame and its transparent colour; comments and disposal go."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0)
    screen, control, in_extension = data[:at], b"", False
    for _ in range(MAX_PARTS):
        if at + 10 > len(data):
            raise UnfitError(TRUNCATED, "a GIF that ends before its first frame")
        if in_extension:
            in_extension = data[at] != 0
            at += 1 + data[at]
        elif data[at] == 0x21:
            if data[at + 1] == 0xF9:
                control = b"!\xf9\x04" + bytes([data[at + 3] & 1, 0, 0, data[at + 6], 0])
            in_extension = True
            at += 2
        elif data[at] == 0x2C:
            width, height, left, top, wide, high = struct.unpack("<6H", data[6:10] + data[at + 1 : at + 9])
            # Pillow widens the screen to a frame that sticks out of it.
            return Source(screen + control + data[at:], max(width, left + wide), max(height, top + high))
        else:
            at += 1  # stray bytes between blocks are passed over, as browsers do
    raise UnfitError(CORRUPT, f"a GIF of more than {MAX_PARTS} blocks before its first frame")


def read_webp(data: bytes) -> Source:
    """Find the size in the first chunk: Pillow takes memory for the whole canvas when it opens a WebP."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or len(data) < 30:
        raise UnfitError(TRUNCATED, "a WebP shorter than it says")
    layouts = {b"VP8X": (24, 24, 0xFFFFFF, 1), b"VP8L": (21, 14, 0x3FFF, 1)}
    at, shift, mask, plus = layouts.get(data[12:16], (26, 16, 0x3FFF, 0))
    packed = int.from_bytes(data[at : at + 6], "little")
    return Source(data, (packed & mask) + plus, (packed >> shift & mask) + plus)


# Opened by class, because `Image.open` tries other formats and warns of large pictures. The EXIF item of AVIF, which
# Pillow would parse on opening, is hidden: AVIF turns by properties of its own.
AVIF_EXIF = re.compile(rb"(infe.{8}(?:..)?)Exif", re.DOTALL)
FORMATS: dict[str, tuple[Callable[[bytes], Source], Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "jpeg": (read_jpeg, JpegImageFile),
    "png": (read_png, PngImageFile),
    "gif": (read_gif, GifImagePlugin.GifImageFile),
    "webp": (read_webp, WebPImagePlugin.WebPImageFile),
    "bmp": (Source, BmpImagePlugin.BmpImageFile),
    "avif": (lambda data: Source(AVIF_EXIF.sub(rb"\1free", data)), AvifImagePlugin.AvifImageFile),
}
PILLOW_HAS = {"webp": WebPImagePlugin.SUPPORTED, "avif": AvifImagePlugin.SUPPORTED}
# What Pillow raises on hostile bytes; its parsers let their own errors out as they come.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, LookupError, EOFError, TypeError, RuntimeError, struct.error)


def check_size(width_px: int, height_px: int, config: MediaConfig) -> None:
    """Refuse a picture by its size, before anything is decoded."""
    if width_px * height_px > config.max_pixels:
        raise UnfitError(TOO_MANY_PIXELS, f"{width_px}x{height_px} px, at most {config.max_pixels} in all")
    if max(width_px, height_px) > config.max_side_px:
        raise UnfitError(SIDE_TOO_LONG, f"{width_px}x{height_px} px, at most {config.max_side_px} a side")


def decode(format: str, data: bytes, config: MediaConfig) -> tuple[Source, Image.Image]:
    """Decode and shrink to L, LA, RGB, RGBA or CMYK, not yet upright; the source with all that Pillow found."""
    read, open_file = FORMATS[format]
    source = read(data)
    check_size(source.width_px, source.height_px, config)
    try:
        file = open_file(io.BytesIO(source.bare))
        width_px, height_px = file.size
        check_size(width_px, height_px, config)
        wanted = min(short := min(file.size), config.short_side_px or short)
        target = (width_px * wanted + short // 2) // short, (height_px * wanted + short // 2) // short
        # libjpeg decodes at 1/2, 1/4 or 1/8, not below the target; the box is the picture's extent in those pixels.
        drafted = file.draft(file.mode, target) if format == "jpeg" and target != file.size else None
        file.load()
        image = shrink(to_plain_mode(file, source.clear), drafted[1][2:] if drafted else file.size, target)
    except DECODE_ERRORS as error:
        detail = f"{format}: {' '.join(str(error).split())}"[:200]
        raise UnfitError(TRUNCATED if "truncated" in detail.lower() else CORRUPT, detail) from error
    icc = source.icc or file.info.get("icc_profile") or b""
    exif = source.exif or file.info.get("exif") or b""
    return replace(source, width_px=width_px, height_px=height_px, exif=exif, icc=icc[:MAX_ICC_BYTES]), image


def to_plain_mode(image: Image.Image, clear: int | tuple[int, ...] | None) -> Image.Image:
    """Turn palettes, bits and 16-bit samples into L, LA, RGB, RGBA or CMYK, which can be resampled."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16 bits at 255, which turns the picture white.
        samples = np.asarray(image)
        grey = Image.fromarray((samples >> 8).astype(np.uint8))
        opaque = Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)) if clear is not None else None
        return grey if opaque is None else Image.merge("LA", (grey, opaque))
    image = image.convert("L") if image.mode == "1" else image
    if clear is not None:
        image.info["transparency"] = clear
    if "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") else image.convert("RGB")


@functools.lru_cache(maxsize=16)
def srgb_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the way to sRGB; `None` where there is none to go: no profile, sRGB itself, a broken or unfitting one."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).lower()
        if name.startswith("srgb") and "linear" not in name:
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, *DECODE_ERRORS):
        return None


def to_srgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    """Turn any plain mode into RGB, transparency over white."""
    colours = image.convert(image.mode[:-1]) if image.mode.endswith("A") else image
    rgb = transform.apply(colours) if transform else colours if colours.mode == "RGB" else colours.convert("RGB")
    if colours is image:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, (255, 255, 255)), image.getchannel("A"))


TURN = Image.Transpose
TURNS_OF_SIDES = (TURN.TRANSPOSE, TURN.ROTATE_270, TURN.TRANSVERSE, TURN.ROTATE_90)
TURNS = dict(enumerate((TURN.FLIP_LEFT_RIGHT, TURN.ROTATE_180, TURN.FLIP_TOP_BOTTOM, *TURNS_OF_SIDES), start=2))


def read_orientation(exif: bytes) -> int:
    """Read the EXIF orientation: 2..8 name turns, all else is upright; 1 where it cannot be read."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "big" if tiff[:2] == b"MM" else "little"
    entries_at = int.from_bytes(tiff[4:8], order)
    for index in range(int.from_bytes(tiff[entries_at : entries_at + 2], order)):
        entry = tiff[entries_at + 2 + 12 * index :][:12]
        if int.from_bytes(entry[:2], order) == 0x0112:
            return int.from_bytes(entry[8:10], order)
    return 1


def encode(picture: Image.Image, config: MediaConfig) -> bytes:
    """Write a JPEG without any metadata."""
    picture.info.clear()  # Pillow would write a comment that it found in the original
    buffer = io.BytesIO()
    # 4:2:0, as most photographs of the web already are: 4:4:4 takes a fifth more bytes.
    picture.save(buffer, "JPEG", quality=config.jpeg_quality, subsampling="4:2:0")
    return buffer.getvalue()
