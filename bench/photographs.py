"""Pictures like photographs, drawn from a seed: a count comes in, a pack of distinct JPEGs goes out.

A pack is one file of all pictures and, beside it, a JSON list of where each ends. It is drawn once (minutes for 2,000)
and kept under build/. Sizes are 600x400 to 2000x1333 px, small ones more often; bytes are about those of photographs
of the same size: 45 KB at 600x400, 280 KB at 1920x1280.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "build" / "pictures"
CANVASES = 8
CANVAS_PX = (2304, 1536)
MIN_WIDTH_PX, MAX_WIDTH_PX = 600, 2000


def draw_canvas(seed: int) -> Image.Image:
    """Draw areas with edges, each filled with noise that falls with the frequency, and a faint grain."""
    width, height = CANVAS_PX
    dice = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1

    def field(slope: float) -> np.ndarray:
        noise = dice.standard_normal((*frequency.shape, 2)) @ (1, 1j)
        plane = np.fft.irfft2(noise * frequency**-slope, s=(height, width))
        return (plane - plane.mean()) / plane.std()

    near, far = field(1.8) > 0.2, field(1.8) > 0.5
    light = np.where(near, field(1.7) * 45 + 110, np.where(far, field(1.9) * 30 + 190, field(2.0) * 35 + 80))
    blue = np.where(near, field(1.6) * 12 + 136, field(1.6) * 9 + 118)
    red = np.where(far, field(1.6) * 12 + 122, field(1.6) * 10 + 134)
    light += dice.standard_normal(light.shape) * 0.8
    levels = np.stack([light, blue, red], axis=-1).clip(0, 255).astype(np.uint8)
    return Image.fromarray(levels, "YCbCr").convert("RGB")


def draw_pictures(canvas_seed: int, count: int) -> list[bytes]:
    """Cut pictures from a canvas, the small ones from a reduced part of it."""
    canvas, dice = draw_canvas(canvas_seed), np.random.default_rng((canvas_seed, 1))
    pictures = []
    for _ in range(count):
        width = round(MIN_WIDTH_PX * (MAX_WIDTH_PX / MIN_WIDTH_PX) ** dice.random())
        height = round(width / dice.choice([1.5, 1.52]))
        zoom = max(1.0, min(3.0, 1800 / width))
        wide, high = int(width * zoom), int(height * zoom)
        left, top = dice.integers(canvas.width - wide + 1), dice.integers(canvas.height - high + 1)
        part = canvas.crop((left, top, left + wide, top + high)).resize((width, height), Image.Resampling.BICUBIC)
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if dice.random() < 0.5 else part
        buffer = io.BytesIO()
        part.save(buffer, "JPEG", quality=92 if width < 1000 else 90)
        pictures.append(buffer.getvalue())
    return pictures


def make_pack(count: int, folder: Path = FOLDER) -> Path:
    """Give the pack of so many pictures, drawn on the first call: all files in one, and their ends beside it."""
    pack = folder / f"{count}.bin"
    if not pack.with_suffix(".json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        ends, at = [], 0
        with ProcessPoolExecutor(2) as pool, pack.open("wb") as out:
            for pictures in pool.map(draw_pictures, range(CANVASES), [-(-count // CANVASES)] * CANVASES):
                for picture in pictures[: count - len(ends)]:
                    at += out.write(picture)
                    ends.append(at)
        pack.with_suffix(".json").write_text(json.dumps(ends), "utf-8")
    return pack
