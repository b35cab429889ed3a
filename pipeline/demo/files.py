"""The files of the demonstration site: what a server would send for each address.

A `PageDraft` comes in, `SiteFile`s go out: the page itself, its pictures and video in all their copies, and the
images and videos that are broken, tiny, empty or gone on purpose.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from PIL import Image, ImageDraw

from pipeline.demo.dice import Dice
from pipeline.demo.draw import draw_plain, draw_scene
from pipeline.demo.film import film_bytes
from pipeline.demo.html import ADVERT_FILES, AVATAR_FILES, ICONS, TINY_GIF, page_bytes
from pipeline.demo.page import ADVERT_HOST, CDN, HOSTS, Extra, PageDraft, draft_page, thumbnail_url
from pipeline.demo.picture import Copy
from pipeline.demo.video import Video, VideoCopy, web_vtt

FIRST_CAPTURE = datetime(2026, 1, 1, tzinfo=UTC)
OLDER_BY = timedelta(days=30)
JPEG_QUALITY = 88
THUMBNAIL_PX = (120, 90)
EXIF_ORIENTATION = 0x0112
QUARTER_TURN = 6
"""EXIF: to be shown, the stored picture is turned a quarter clockwise."""

CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "vtt": "text/vtt",
}
ROBOTS = b"User-agent: *\nDisallow: /members/\n"
NOT_FOUND = b"<!DOCTYPE html><title>Not found</title><p>There is nothing at this address.</p>\n"
TAKEN_AWAY = b"<!DOCTYPE html><title>Moved</title><p>What was here has been taken away.</p>\n"
VECTOR = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 200" width="300" height="200">'
    b'<path d="M20 180 L120 40 L280 150" fill="none" stroke="black" stroke-width="4"/></svg>\n'
)


@dataclass(frozen=True, slots=True)
class SiteFile:
    """What a server sent for a URL: `status` and `headers` are HTTP's, `captured` is UTC."""

    url: str
    content_type: str
    status: int
    data: bytes
    captured: datetime
    headers: tuple[tuple[str, str], ...] = ()


def captured_at(index: int) -> datetime:
    """Return when the page at `index` and its images were captured."""
    return FIRST_CAPTURE + timedelta(seconds=index)


def shared_files() -> Iterator[SiteFile]:
    """Yield what stands on many pages: logos, icons, avatars, adverts, and each host's robots.txt."""
    for host in HOSTS:
        root = f"https://{host}"
        yield SiteFile(f"{root}/robots.txt", "text/plain", 200, ROBOTS, FIRST_CAPTURE)
        yield shared_image(f"{root}/logo.png", (120, 60))
        for icon in ICONS:
            yield shared_image(f"{root}/icons/{icon}.png", (16, 16))
        for number in range(AVATAR_FILES):
            yield shared_image(f"{root}/avatars/{number}.png", (48, 48))
    for number in range(ADVERT_FILES):
        yield shared_image(f"{ADVERT_HOST}/creative/{number}.jpg", (300, 250))
    yield SiteFile(f"{CDN}/pixel.gif", "image/gif", 200, TINY_GIF, FIRST_CAPTURE)


def shared_image(url: str, size_px: tuple[int, int]) -> SiteFile:
    """Return an image of stripes that depends on its address alone."""
    return typed_file(
        url, encode(stripes(Dice(url), size_px), "jpeg" if url.endswith(".jpg") else "png"), FIRST_CAPTURE
    )


def typed_file(url: str, data: bytes, captured: datetime) -> SiteFile:
    """Return a file that was found, its type by the suffix of its address."""
    return SiteFile(url, CONTENT_TYPES[url.rpartition(".")[2]], 200, data, captured)


def stripes(dice: Dice, size_px: tuple[int, int]) -> Image.Image:
    """Draw stripes of colours by lot."""
    image = Image.new("RGB", size_px, colour_by_lot(dice, "ground"))
    draw = ImageDraw.Draw(image)
    for number in range(6):
        left, top = dice.between(f"left {number}", 0, size_px[0]), dice.between(f"top {number}", 0, size_px[1])
        box = (left, top, left + size_px[0] // 4, top + size_px[1] // 2)
        draw.rectangle(box, fill=colour_by_lot(dice, f"stripe {number}"))
    return image


def colour_by_lot(dice: Dice, name: str) -> tuple[int, int, int]:
    """Draw any colour."""
    red, green, blue = bytes.fromhex(dice.hex(name, 6))
    return red, green, blue


def encode(image: Image.Image, coding: str) -> bytes:
    """Code an RGB picture; `alpha`, `cmyk`, `rotated` and `gif` look like it to who decodes them with care."""
    buffer = io.BytesIO()
    match coding:
        case "jpeg":
            image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        case "cmyk":
            image.convert("CMYK").save(buffer, "JPEG", quality=JPEG_QUALITY)
        case "rotated":
            exif = Image.Exif()
            exif[EXIF_ORIENTATION] = QUARTER_TURN
            turned = image.transpose(Image.Transpose.ROTATE_90)
            turned.save(buffer, "JPEG", quality=JPEG_QUALITY, exif=exif)
        case "png":
            image.save(buffer, "PNG", compress_level=3)
        case "alpha":
            round_corners(image).save(buffer, "PNG", compress_level=3)
        case "gif":
            frames = [image.quantize(64), image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).quantize(64)]
            frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=400, loop=0)
        case "webp":
            image.save(buffer, "WEBP", quality=JPEG_QUALITY, method=1)
        case _:
            raise ValueError(f"no coding {coding!r}")
    return buffer.getvalue()


def round_corners(image: Image.Image) -> Image.Image:
    """Make the outermost corners of a picture transparent."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius=12, fill=255)
    image = image.copy()
    image.putalpha(mask)
    return image


def copy_bytes(image: Image.Image, copy: Copy) -> bytes:
    """Code one copy of a drawn picture at the width it is to have."""
    if copy.width_px != image.width:
        image = image.resize((copy.width_px, round(image.height * copy.width_px / image.width)), Image.Resampling.BOX)
    return encode(image, copy.coding)


def extra_file(extra: Extra, captured: datetime) -> SiteFile | None:
    """Return the file of an image that should not be kept, `None` where the archive lacks it."""
    dice = Dice(extra.url)
    match extra.why:
        case "absent":
            return None
        case "gone":
            return SiteFile(extra.url, "text/html", 404, NOT_FOUND, captured)
        case "html":
            return SiteFile(extra.url, "image/jpeg", 200, TAKEN_AWAY, captured)
        case "vector":
            data = VECTOR
        case "pixel" | "spacer":
            data = TINY_GIF
        case "small":
            data = encode(stripes(dice, (40, 40)), "jpeg")
        case "banner":
            data = encode(stripes(dice, (640, 160)), "jpeg")
        case "flat":
            data = encode(Image.new("RGB", (320, 240), colour_by_lot(dice, "flat")), "png")
        case "truncated":
            data = encode(stripes(dice, (400, 300)), "jpeg")
            data = data[: len(data) // 2]
        case _:
            raise ValueError(f"no image {extra.why!r}")
    return typed_file(extra.url, data, captured)


def video_files(video: Video, captured: datetime) -> Iterator[SiteFile]:
    """Yield the files of a video: its copies, whole or not, its poster and its track."""
    for copy in video.copies:
        if video.unfit != "absent":
            yield video_file(video, copy, captured)
    if video.poster:
        yield typed_file(video.poster, encode(draw_plain(video.animation.poses[0].scene, "RGB"), "jpeg"), captured)
    if video.track:
        yield typed_file(video.track, web_vtt(video.cues), captured)


def video_file(video: Video, copy: VideoCopy, captured: datetime) -> SiteFile:
    """Return one copy of a video with its fault, if it has one."""
    match video.unfit:
        case "gone":
            return SiteFile(copy.url, "text/html", 404, NOT_FOUND, captured)
        case "html":
            return SiteFile(copy.url, "video/mp4", 200, TAKEN_AWAY, captured)
    data = film_bytes(video.animation, copy.coding)
    return typed_file(copy.url, data[: len(data) // 2] if video.unfit == "truncated" else data, captured)


def html_file(draft: PageDraft, url: str, captured: datetime) -> SiteFile:
    """Return the file of a page, with the headers that its kind of dirt asks for."""
    charset = {"latin1_header": "; charset=iso-8859-1", "latin1_meta": ""}.get(draft.dirt, "; charset=utf-8")
    headers = (("X-Robots-Tag", "noai, noimageai"),) if draft.dirt == "robots_header" else ()
    return SiteFile(url, f"text/html{charset}", 200, page_bytes(draft), captured, headers)


def page_files(seed: int, index: int) -> Iterator[SiteFile]:
    """Yield all captures of a page, newest first, then its images and its thumbnail."""
    draft, captured = draft_page(seed, index), captured_at(index)
    yield html_file(draft, draft.url, captured)
    if draft.mirror_url:
        yield html_file(draft, draft.mirror_url, captured)
    if draft.dirt == "recaptured":
        yield html_file(draft_page(seed, index, 1), draft.url, captured - OLDER_BY)
    for picture in draft.pictures:
        image = draw_scene(picture.scene)
        for copy in picture.copies:
            yield typed_file(copy.url, copy_bytes(image, copy), captured)
        if picture.index == 0:
            yield typed_file(thumbnail_url(seed, index), thumbnail(image), captured)
    for video in draft.videos:
        yield from video_files(video, captured)
    for extra in draft.extras:
        if (found := extra_file(extra, captured)) is not None:
            yield found


def thumbnail(image: Image.Image) -> bytes:
    """Code the small copy of a picture that related links show."""
    return encode(image.resize(THUMBNAIL_PX, Image.Resampling.BOX), "jpeg")
