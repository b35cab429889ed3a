"""A decoded video frame → a small upright sRGB picture, and its JPEG as pictures are stored.

VideoFrame → shape_of (once a video) → draw (FFmpeg's scaler, one thread, exact) → describe → Media, JPEG
"""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from PIL import Image

from pipeline.media import SIDE_TOO_LONG, MediaConfig, UnfitError, encode
from pipeline.perceptual import hash_picture
from schemas.media import STORED, Media

Codes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
TURN = Image.Transpose
TURNS = {
    (-1, 0, 0, -1): TURN.ROTATE_180,
    (-1, 0, 0, 1): TURN.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): TURN.FLIP_TOP_BOTTOM,
    (0, 1, -1, 0): TURN.ROTATE_270,
    (0, -1, 1, 0): TURN.ROTATE_90,
    (0, 1, 1, 0): TURN.TRANSPOSE,
    (0, -1, -1, 0): TURN.TRANSVERSE,
}
"""Turns by the signs of a display matrix's a, b, c, d; other angles are shown as they come, as browsers do."""
TURNS_OF_SIDES = (TURN.ROTATE_270, TURN.ROTATE_90, TURN.TRANSPOSE, TURN.TRANSVERSE)
WIDEST_PIXEL = 4  # times as wide as high, or the other way; wider ones are taken for damage and for square
SCALING = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""50 dB of PSNR beside Lanczos; without `FULL_CHR_H_INT` colours are off by 2 levels, which leaves 40 dB."""
MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
HD_HEIGHT_PX = 720  # from here on players take an unnamed colour matrix for BT.709, below for BT.601


@dataclass(frozen=True, slots=True)
class Shape:
    """How a video's frames are stored: the sizes of the original as shown, and the scaled size before the turn."""

    width_px: int
    height_px: int
    scaled: tuple[int, int]
    turn: Image.Transpose | None


def shape_of(frame: VideoFrame, pixel_aspect: Fraction | None, short_side_px: int, max_side_px: int) -> Shape:
    """Measure a frame: pixels made square by enlarging, turned by the display matrix, shrunk to the shorter side."""
    width_px, height_px = frame.width, frame.height
    aspect = pixel_aspect or Fraction(1)
    if 1 < aspect <= WIDEST_PIXEL:
        width_px = round(width_px * aspect)
    elif Fraction(1, WIDEST_PIXEL) <= aspect < 1:
        height_px = round(height_px / aspect)
    if max(width_px, height_px) > max_side_px:
        raise UnfitError(SIDE_TOO_LONG, f"{width_px}x{height_px} px, at most {max_side_px} a side")
    wanted = min(short := min(width_px, height_px), short_side_px or short)
    scaled = (width_px * wanted + short // 2) // short, (height_px * wanted + short // 2) // short
    turn = read_turn(frame)
    shown = (height_px, width_px) if turn in TURNS_OF_SIDES else (width_px, height_px)
    return Shape(*shown, scaled, turn)


def read_turn(frame: VideoFrame) -> Image.Transpose | None:
    """Read the turn of a frame's display matrix; `None` for none."""
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]  # typed by name
    if matrix is None or len(bytes(matrix)) < 20:
        return None
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return TURNS.get(tuple((value > 0) - (value < 0) for value in (a, b, c, d)))


def draw(frame: VideoFrame, shape: Shape, scaler: VideoReformatter) -> Image.Image:
    """Scale a frame and turn its colours into sRGB; alpha is dropped, of an interlaced frame one field is taken."""
    width_px, height_px = shape.scaled
    unnamed = Colorspace.ITU709 if frame.height >= HD_HEIGHT_PX else Colorspace.ITU601
    fielded = frame.interlaced_frame and frame.height > 1
    rgb = scaler.reformat(
        frame,
        width_px,
        frame.height if fielded else height_px,
        "rgb24",
        src_colorspace=None if frame.format.is_rgb else MATRICES.get(frame.colorspace, unnamed),
        dst_color_range=ColorRange.JPEG,
        interpolation=SCALING,
        threads=1,
    )
    pixels = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
    if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        pixels = to_sdr(pixels, frame.color_trc)
    picture = Image.fromarray(pixels[::2] if fielded else pixels)
    picture = picture.resize(shape.scaled, Image.Resampling.BICUBIC) if fielded else picture
    return picture if shape.turn is None else picture.transpose(shape.turn)


def describe(url: str, digest: str, shape: Shape, picture: Image.Image, config: MediaConfig) -> tuple[Media, bytes]:
    """Encode a drawn frame and describe it as a stored picture; `digest` is the SHA-256 of the video."""
    stored = encode(picture, config)
    return Media(
        url=url,
        status=STORED,
        sha256_original=digest,
        sha256=hashlib.sha256(stored).hexdigest(),
        phash=hash_picture(picture).hex(),
        format="jpeg",
        width_px=shape.width_px,
        height_px=shape.height_px,
        stored_width_px=picture.width,
        stored_height_px=picture.height,
        stored_bytes=len(stored),
        colour_range=int(np.ptp(picture.getextrema(), axis=1).max()),
    ), stored


# High dynamic range, in whole numbers so that every machine rounds alike: light is counted in 4096ths of that of white
# paper (203 cd/m2, ITU-R BT.2408).
PAPER = 4096
BT2020_TO_SRGB = np.array([[17003, -6017, -746], [-1275, 11600, -85], [-186, -1030, 11456]])  # ITU-R BT.2087, x 10240


@functools.lru_cache(maxsize=2)
def light_of_codes(transfer: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Give the light of the 256 codes of PQ (ITU-R BT.2100) or of HLG on a screen of 1,000 cd/m2."""
    code = np.arange(256) / 255
    if transfer == ColorTrc.SMPTE2084:
        root = code ** (32 / 2523)
        nits = 10_000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    else:
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        nits = 1_000 * scene**1.2
    return np.rint(nits / 203 * PAPER).astype(np.int64)


@functools.lru_cache(maxsize=1)
def codes_of_light() -> Codes:
    """Give the sRGB codes of light from none to 8 times paper: as it is to 0.75, then ever less up to 1."""
    light = np.arange(8 * PAPER) / PAPER
    light = np.where(light <= 0.75, light, 1 - 0.25 * np.exp((0.75 - light) / 0.25))
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    codes: Codes = np.rint(255 * srgb).astype(np.uint8)
    return codes


def to_sdr(pixels: Codes, transfer: int) -> Codes:
    """Turn PQ or HLG codes of BT.2020 colours into sRGB."""
    light = light_of_codes(transfer)[pixels] @ BT2020_TO_SRGB.T // 10240
    codes: Codes = codes_of_light()[np.clip(light, 0, 8 * PAPER - 1)]
    return codes
