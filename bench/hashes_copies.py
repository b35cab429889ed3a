"""Pictures and the copies that the web makes of them: a picture and a seed come in, named files go out.

Used by bench/hashes.py. Real pictures are those of an archive that the m3w preset keeps; drawn ones are of the demo's
world, whose scenes share their layouts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from pipeline import warc
from pipeline.demo.draw import draw_scene
from pipeline.demo.world import scene
from pipeline.filters import ImageRules, judge_image
from pipeline.media import MediaConfig, normalise_image
from schemas.media import STORED

LIMIT = 64 << 20
MIN_SIDE_PX = 64
QUALITY = 85
QUALITIES = (30, 50, 70, 90)
SCALES = (0.25, 0.5, 0.75, 1.5, 2.0)
CROPS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1)
"""Share of each side that is cut away, at a random place."""
LIGHTS = (0.8, 0.9, 1.1, 1.2)
SCENE_SEED = 8


def real_pictures(archives: Sequence[Path]) -> list[Image.Image]:
    """Read the pictures of archives that the default rules keep, files of equal bytes once."""
    found: dict[str, Image.Image] = {}
    for archive in archives:
        data = archive.read_bytes()
        for record in warc.payloads(warc.frames(io.BytesIO(data), 0, len(data), LIMIT), LIMIT):
            if isinstance(record, warc.Record) and record.content_type.startswith("image"):
                media, stored = normalise_image(record.url, record.payload, MediaConfig(short_side_px=0))
                if media.status == STORED and judge_image(media, ImageRules()) is None:
                    found.setdefault(media.sha256, Image.open(io.BytesIO(stored)).convert("RGB"))
    return [found[name] for name in sorted(found)]


def drawn_picture(index: int) -> Image.Image:
    """Draw the first picture of a page of the demo's world."""
    return draw_scene(scene(SCENE_SEED, index, 0))


def encoded(picture: Image.Image, format: str = "JPEG", quality: int = QUALITY) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, quality=quality)
    return buffer.getvalue()


def copies(picture: Image.Image, seed: int) -> Iterator[tuple[str, bytes]]:
    """Make the copies of a picture, (name, file); sizes below what the rules keep are left out."""
    dice = np.random.default_rng(seed)
    for quality in QUALITIES:
        yield f"jpeg {quality}", encoded(picture, "JPEG", quality)
    for quality in (50, 80):
        yield f"webp {quality}", encoded(picture, "WEBP", quality)
    for scale in SCALES:
        size = round(picture.width * scale), round(picture.height * scale)
        if min(size) >= MIN_SIDE_PX:
            yield f"resized {scale:g}", encoded(picture.resize(size, Image.Resampling.BICUBIC))
    for share in CROPS:
        yield f"cropped {share:.1%}", encoded(cropped(picture, share, dice))
    yield "text", encoded(with_text(picture))
    yield "logo", encoded(with_logo(picture))
    yield "band", encoded(with_band(picture))
    for factor in LIGHTS:
        yield f"light {factor:g}", encoded(ImageEnhance.Brightness(picture).enhance(factor))
    small = cropped(picture, 0.02, dice)
    small.thumbnail((400, 400))
    if min(small.size) >= MIN_SIDE_PX:
        yield "shared", encoded(with_logo(small), "JPEG", 60)
    yield "mirrored", encoded(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def cropped(picture: Image.Image, share: float, dice: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(side * (1 - share))) for side in picture.size)
    left, top = dice.integers(picture.width - width + 1), dice.integers(picture.height - height + 1)
    return picture.crop((left, top, left + width, top + height))


def with_text(picture: Image.Image) -> Image.Image:
    """Write a name across the middle, half transparent, over 60 % of the width."""
    size = max(8, picture.width // 9)
    layer = Image.new("L", picture.size, 0)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(layer).text((picture.width * 0.2, picture.height * 0.5 - size / 2), "PICTURES", 128, font=font)
    return Image.composite(Image.new("RGB", picture.size, (255, 255, 255)), picture, layer)


def with_logo(picture: Image.Image) -> Image.Image:
    """Put an opaque disc on a plate into the lower right corner: a sixth of the shorter side."""
    copy, side = picture.copy(), min(picture.size) // 6
    left, top = picture.width - side - side // 4, picture.height - side - side // 4
    pen = ImageDraw.Draw(copy)
    pen.rectangle((left, top, left + side, top + side), (255, 255, 255))
    pen.ellipse((left + side // 6, top + side // 6, left + side - side // 6, top + side - side // 6), (180, 20, 40))
    return copy


def with_band(picture: Image.Image) -> Image.Image:
    """Lay a half-transparent black band over the lowest tenth."""
    copy, top = picture.copy(), picture.height - picture.height // 10
    band = picture.crop((0, top, *picture.size))
    copy.paste(Image.blend(band, Image.new("RGB", band.size), 0.5), (0, top))
    return copy
