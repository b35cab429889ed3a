"""Shrinking against the plain Lanczos filter, against arithmetic, and in every mode."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.media import MediaConfig, decode
from pipeline.shrink import shrink


def smooth_noise(width, height, seed):
    """Make noise whose amplitude falls with the frequency to the power of 1.5: little detail, no edges."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / width)
    noise = np.random.default_rng(seed).standard_normal((3, *frequency.shape, 2)) @ (1, 1j)
    planes = np.fft.irfft2(noise / frequency**1.5, s=(height, width))
    levels = 128 + 45 * planes / planes.std(axis=(1, 2), keepdims=True)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def psnr(left, right):
    return 10 * np.log10(255**2 / np.mean((np.asarray(left, float) - np.asarray(right, float)) ** 2))


# Around what libjpeg decodes at 1/1 and 1/2: little, half and nearly twice as much as wanted.
@pytest.mark.parametrize("short_side_px", [280, 400, 500, 530, 800])
def test_a_jpeg_is_near_full_decoding_and_lanczos(short_side_px):
    buffer = io.BytesIO()
    smooth_noise(short_side_px * 3 // 2, short_side_px, 1).save(buffer, "JPEG", quality=92)
    wanted = Image.open(buffer).resize((384, 256), Image.Resampling.LANCZOS)
    _, found = decode("jpeg", buffer.getvalue(), MediaConfig(short_side_px=256))
    assert psnr(found, wanted) > 47  # a box filter stays below


def test_a_picture_of_its_size_is_left_alone():
    picture = smooth_noise(60, 40, 2)
    assert shrink(picture, picture.size, picture.size) is picture


@pytest.mark.parametrize("size", [(59, 40), (50, 33), (30, 20), (9, 6), (1, 1)])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_what_is_flat_stays_flat_in_every_mode_and_size(mode, size):
    colour = (200, 100, 50, 255)[: len(Image.new(mode, (1, 1)).getbands())]
    colour = (*colour[:-1], 255) if mode.endswith("A") else colour
    shrunk = shrink(Image.new(mode, (60, 40), colour), (60, 40), size)
    assert (shrunk.mode, shrunk.size) == (mode, size)
    assert shrunk.tobytes() == bytes(colour) * (size[0] * size[1])


def test_only_the_extent_becomes_the_picture():
    columns = np.repeat(np.arange(100, dtype=np.uint8)[None], 10, axis=0)
    shrunk = np.asarray(shrink(Image.fromarray(columns), (80.0, 10.0), (40, 10)))
    assert np.abs(shrunk[:, 2:-2] - (2.0 * np.arange(40) + 0.5)[None, 2:-2]).max() <= 1
    assert shrunk[:, -1].max() <= 80


def test_clear_pixels_do_not_bleed():
    half = Image.new("RGBA", (80, 40), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 40, 40))
    shrunk = np.asarray(shrink(half, half.size, (20, 10)))
    assert shrunk[..., 0].max() == 0
