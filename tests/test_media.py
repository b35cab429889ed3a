"""Pictures made here, sound and hostile ones, and what is stored of them."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pipeline import media
from pipeline.evaluation import EvaluationRules
from pipeline.media import MediaConfig, normalise_image, read_orientation
from pipeline.perceptual import HASH_BYTES, bits_apart, hash_picture
from schemas.media import REJECTED, STORED

CONFIG = MediaConfig()
URL = "https://example.org/p.jpg"


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def blocks(width=160, height=120, seed=1, channels=3):
    """Draw coloured 8x8 squares, which JPEG keeps nearly as it is."""
    shape = -(-height // 8), -(-width // 8), channels
    colours = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(colours.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def flat(colour, mode="RGB", size=(80, 80)):
    return Image.new(mode, size, colour)


def normalise(data, config=CONFIG):
    """Give the index row and the stored picture decoded, after what holds for all of them."""
    row, stored = normalise_image(URL, data, config)
    assert (row.status, row.reason, row.detail, row.format) == (STORED, "", "", "jpeg")
    assert row.sha256_original == hashlib.sha256(data).hexdigest()
    assert row.sha256 == hashlib.sha256(stored).hexdigest()
    assert row.stored_bytes == len(stored)
    picture = Image.open(io.BytesIO(stored))
    picture.load()
    assert picture.size == (row.stored_width_px, row.stored_height_px)
    assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"} | {
        "progressive",
        "progression",
    }
    return row, picture


def refusal(data, config=CONFIG):
    row, stored = normalise_image(URL, data, config)
    assert (row.status, stored, row.sha256_original) == (REJECTED, b"", "")
    assert "\n" not in row.detail
    return row.reason, row.detail


def colour_at(picture, x=40, y=40):
    return picture.convert("RGB").getpixel((x, y))


def near(left, right, levels=6):
    return all(abs(a - b) <= levels for a, b in zip(left, right, strict=True))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, depth, colour_type, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# What is refused, and why.


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", media.EMPTY, "no bytes"),
        (b"<!DOCTYPE html><html><svg></svg>", media.NOT_AN_IMAGE, "html"),
        (b"\n<HTML><head>", media.NOT_AN_IMAGE, "html"),
        (b"404 not found", media.NOT_AN_IMAGE, "starts with b'404 not '"),
        (b'<?xml version="1.0"?><!-- x --><svg xmlns="">', media.UNSUPPORTED_FORMAT, "svg"),
        (b"II*\0rest", media.UNSUPPORTED_FORMAT, "tiff"),
        (b"%!PS-Adobe", media.UNSUPPORTED_FORMAT, "eps"),
        (b"%PDF-1.7", media.UNSUPPORTED_FORMAT, "pdf"),
        (b"8BPS\0\1", media.UNSUPPORTED_FORMAT, "psd"),
        (b"\0\0\1\0\1\0", media.UNSUPPORTED_FORMAT, "ico"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", media.UNSUPPORTED_FORMAT, "heif_or_video"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41isom", media.UNSUPPORTED_FORMAT, "heif_or_video"),
        (b"\xff\xd8\xff", media.TRUNCATED, "a JPEG without its end marker"),
        (b"\xff\xd8\xff\xd9", media.CORRUPT, "a JPEG of 0 frames and 0 scans"),
        (b"\xff\xd8\xff\x05\0\2", media.CORRUPT, "JPEG marker 05 where none can be"),
        (b"\x89PNG\r\n\x1a\n", media.TRUNCATED, "a PNG without its end chunk"),
        (b"GIF89a", media.TRUNCATED, "a GIF that ends before its first frame"),
        (b"RIFF\x04\0\0\0WEBP", media.TRUNCATED, "a WebP shorter than it says"),
        (b"RIFF\x16\0\0\0WEBPXXXX" + bytes(14), media.CORRUPT, "webp: "),
        (b"BM" + bytes(60), media.CORRUPT, "bmp: Unsupported BMP header type (0)"),
        (b"BM" + bytes(12) + b"\x28" + bytes(15) + b"\1\0\0\0", media.UNSUPPORTED_FORMAT, "bmp_run_length"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", media.TRUNCATED, "avif: "),
    ],
)
def test_what_is_no_sound_picture_is_refused_by_name(data, reason, detail):
    found = refusal(data)
    assert (found[0], found[1][: len(detail)]) == (reason, detail)


def test_the_byte_limit_is_the_last_size_taken():
    data = encode(blocks())
    assert normalise_image(URL, data, MediaConfig(max_bytes=len(data)))[0].status == STORED
    assert refusal(data, MediaConfig(max_bytes=len(data) - 1)) == (
        media.TOO_MANY_BYTES,
        f"{len(data)} bytes, at most {len(data) - 1}",
    )


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
def test_size_limits_hold_on_both_sides_in_every_format(format):
    data = encode(blocks(100, 80), format)
    assert normalise_image(URL, data, MediaConfig(max_pixels=8000, max_side_px=100))[0].status == STORED
    assert refusal(data, MediaConfig(max_pixels=7999))[0] == media.TOO_MANY_PIXELS
    assert refusal(data, MediaConfig(max_side_px=99)) == (media.SIDE_TOO_LONG, "100x80 px, at most 99 a side")


def bombs():
    frame = b",\0\0\0\0\xff\xff\xff\xff\0\2\2\x4c\1\0;"
    huge = struct.pack("<I", 0x3FFF | 0x3FFF << 14)
    control = b"!\xf9\x04\x08\0\0\0\0"  # dispose to background: Pillow would fill that much memory on opening
    animated = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 50_000, 50_000, 0, 0, 1, 1, 1, 0)
    )
    jpeg = encode(blocks(), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    return {
        "png": png(50_000, 50_000, 8, 2, b""),
        "animated png": png(50_000, 50_000, 8, 6, b"", animated),
        "gif screen": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0;",
        "gif frame": b"GIF89a\1\0\1\0\0\0\0" + control + frame,
        "webp": b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + huge + bytes(5),
        "webp canvas": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "bmp": b"BM" + bytes(8) + struct.pack("<IIiiHHIIIIII", 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    } | {"jpeg": jpeg[:at] + b"\xff\xdc\xff\xdc" + jpeg[at + 4 :] + bytes(0)}


@pytest.mark.parametrize("name", sorted(set(bombs()) - {"jpeg"}))
def test_a_bomb_is_refused_by_its_header(name):
    assert refusal(bombs()[name])[0] == media.TOO_MANY_PIXELS


def test_a_jpeg_whose_data_cannot_fill_its_size_is_refused():
    reason, detail = refusal(bombs()["jpeg"])
    assert reason == media.TRUNCATED
    assert detail.endswith("coded bytes cannot fill 65500x65500 px")
    emptied = encode(flat((9, 9, 9), size=(64, 64)), "JPEG")
    start = emptied.index(b"\xff\xda")
    assert refusal(emptied[: start + 14] + b"\xff\xd9") == (media.TRUNCATED, "0 coded bytes cannot fill 64x64 px")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_part_of_a_file_is_truncated(format, share):
    data = encode(blocks(), format)
    assert refusal(data[: int(len(data) * share)])[0] == media.TRUNCATED


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_part_of_an_avif_is_refused_in_the_words_of_its_library(share):
    data = encode(blocks(), "AVIF")
    assert refusal(data[: int(len(data) * share)])[0] in (media.TRUNCATED, media.CORRUPT)


def test_a_truncated_progressive_jpeg_is_refused():
    data = encode(blocks(), "JPEG", progressive=True)
    assert refusal(data[:-2]) == (media.TRUNCATED, "a JPEG without its end marker")


def test_a_wrong_checksum_is_corrupt():
    data = bytearray(encode(blocks()))
    data[data.index(b"IDAT") + 50] ^= 1
    assert refusal(bytes(data)) == (media.CORRUPT, "wrong checksum of PNG chunk IDAT")


def test_endless_parts_and_scans_are_refused():
    reason, detail = refusal(b"\xff\xd8" + b"\xff\xfe\0\2" * 60_000)
    assert (reason, detail) == (media.CORRUPT, "a JPEG of more than 50000 segments")
    empty_chunks = chunk(b"tEXt", b"") * 60_000
    assert refusal(b"\x89PNG\r\n\x1a\n" + empty_chunks) == (media.CORRUPT, "a PNG of more than 50000 chunks")
    assert refusal(b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 60_000)[0] == media.CORRUPT
    jpeg = encode(blocks(), "JPEG")
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    assert refusal(jpeg[:-2] + scan * 100 + b"\xff\xd9") == (media.CORRUPT, "a JPEG of 1 frames and 101 scans")


def test_compressed_text_and_profile_bombs_in_a_png_are_not_inflated():
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(30_000_000)))
    profile = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(30_000_000)))
    row, picture = normalise(png(80, 80, 8, 0, (b"\0" + bytes([200]) * 80) * 80, text, profile))
    assert colour_at(picture) == (200, 200, 200)
    assert row.colour_range == 0


def test_text_in_a_png_cannot_pose_as_its_transparency():
    row, _ = normalise(png(80, 80, 8, 0, (b"\0" + bytes(80)) * 80, chunk(b"tEXt", b"transparency\0x")))
    assert row.colour_range == 0


# Colours.


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
def test_every_format_keeps_its_colours(format):
    row, picture = normalise(encode(flat((200, 80, 40)), format))
    assert near(colour_at(picture), (200, 80, 40))
    assert row.colour_range <= 3


def test_cmyk_as_adobe_writes_it_is_not_inverted():
    _, picture = normalise(encode(flat((0, 255, 255, 0), "CMYK"), "JPEG"))
    assert picture.mode == "RGB"
    assert near(colour_at(picture), (255, 0, 0))


def test_16_bit_png_does_not_turn_white():
    samples = np.linspace(0, 65535, 80 * 80).astype(">u2").reshape(80, 80)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    row, picture = normalise(png(80, 80, 16, 0, rows))
    assert row.colour_range == 255
    assert near(colour_at(picture, 40, 40), [samples[40, 40] >> 8] * 3)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (encode(flat(1, "1")), "1"),
        (encode(flat((255, 255), "LA")), "LA"),
        (encode(flat(255, "L")), "L"),
        (encode(flat((255, 255, 255)).quantize(4)), "P"),
        (png(80, 80, 2, 0, (b"\0" + b"\xff" * 20) * 80), "2 bits"),
        (png(80, 80, 16, 2, (b"\0" + b"\xff" * 480) * 80), "RGB of 16 bits"),
    ],
)
def test_grey_bit_and_palette_pictures_become_rgb(data, mode):
    row, picture = normalise(data)
    assert (picture.mode, colour_at(picture), row.colour_range) == ("RGB", (255, 255, 255), 0), mode


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (encode(flat((0, 0, 0, 0), "RGBA")), "RGBA"),
        (encode(flat((0, 0), "LA")), "LA"),
        (encode(flat(0, "P"), transparency=0), "P, one colour"),
        (encode(flat(0, "P"), transparency=b"\0\x80"), "P, many"),
        (encode(flat(0, "L"), "GIF", transparency=0), "GIF"),
        (encode(flat((0, 0, 0, 0), "RGBA"), "WEBP"), "WebP"),
        (encode(flat((0, 0, 0, 0), "RGBA"), "AVIF"), "AVIF"),
        (png(80, 80, 1, 0, (b"\0" + bytes(10)) * 80, chunk(b"tRNS", b"\0\0")), "1 bit"),
        (png(80, 80, 4, 0, (b"\0" + b"\x11" * 40) * 80, chunk(b"tRNS", b"\0\1")), "4 bits"),
        (png(80, 80, 8, 0, (b"\0" + b"\7" * 80) * 80, chunk(b"tRNS", b"\0\7")), "8 bits"),
        (png(80, 80, 16, 0, (b"\0" + b"\7\1" * 80) * 80, chunk(b"tRNS", b"\7\1")), "16 bits"),
        (png(80, 80, 8, 2, (b"\0" + b"\7\1\2" * 80) * 80, chunk(b"tRNS", b"\0\7\0\1\0\2")), "RGB"),
        (png(80, 80, 16, 2, (b"\0" + b"\7\1\2\3\4\5" * 80) * 80, chunk(b"tRNS", b"\7\1\2\3\4\5")), "RGB of 16 bits"),
    ],
)
def test_what_is_transparent_is_white(data, mode):
    _, picture = normalise(data)
    assert near(colour_at(picture), (255, 255, 255), 1), mode


def test_half_transparent_is_half_white_and_keeps_its_colour_when_shrunk():
    _, picture = normalise(encode(flat((200, 0, 0, 128), "RGBA")))
    assert near(colour_at(picture), (227, 127, 127))
    half = np.zeros((100, 100, 4), np.uint8)
    half[:, :50] = 255, 0, 0, 255  # red beside transparent black: a careless resize draws a dark edge
    _, picture = normalise(encode(Image.fromarray(half)), MediaConfig(short_side_px=25))
    assert np.asarray(picture)[:, :, 0].min() > 200


def swapped_profile():
    """Make an ICC profile that names sRGB's red green and its green red, and is not called sRGB."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "Test".encode("utf-16-be"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_colour_profile_is_followed(format):
    profile = swapped_profile()
    _, picture = normalise(encode(flat((200, 30, 30)), format, icc_profile=profile))
    assert near(colour_at(picture), (30, 200, 30))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("profile", [b"broken", swapped_profile()[:300], bytes(500)])
def test_a_broken_colour_profile_is_ignored(format, profile):
    _, picture = normalise(encode(flat((200, 30, 30)), format, icc_profile=profile))
    assert near(colour_at(picture), (200, 30, 30))


def test_a_profile_of_other_colours_is_ignored():
    _, picture = normalise(encode(flat(90, "L"), "JPEG", icc_profile=swapped_profile()))
    assert near(colour_at(picture), (90, 90, 90))


# Shape.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format, orientation):
    corner = flat((20, 20, 20), size=(160, 80))
    corner.paste((250, 250, 250), (0, 0, 40, 40))
    row, picture = normalise(encode(corner, format, exif=exif(orientation)))
    assert (row.width_px, row.height_px) == ((160, 80) if orientation < 5 else (80, 160)) == picture.size
    left, top = orientation in (1, 4, 5, 8), orientation in (1, 2, 5, 6)
    spot = 8 if left else picture.width - 8, 8 if top else picture.height - 8
    assert near(colour_at(picture, *spot), (250, 250, 250))


@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (b"", 1),
        (b"Exif\0\0", 1),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0", 6),
        (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0", 3),
        (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0", 9),
        (b"II*\0\xff\xff\xff\xff\1\0", 1),
        (b"II*\0\x08\0\0\0\xff\xff\x12", 1),
    ],
)
def test_orientation_is_read_from_sound_and_broken_exif(data, orientation):
    assert read_orientation(data) == orientation


def test_an_avif_turns_once():
    corner = flat((20, 20, 20), size=(160, 80))
    corner.paste((250, 250, 250), (0, 0, 40, 40))
    row, picture = normalise(encode(corner, "AVIF", exif=exif(6)))
    assert (row.width_px, row.height_px) == (80, 160)
    assert near(colour_at(picture, 72, 8), (250, 250, 250))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(format):
    frames = [flat((0, 0, 200))] * 2
    data = encode(flat((200, 0, 0)), format, save_all=True, append_images=frames, duration=100)
    _, picture = normalise(data)
    assert near(colour_at(picture), (200, 0, 0))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "stored"),
    [
        ((480, 480), (480, 480)),
        ((481, 481), (480, 480)),
        ((1000, 500), (960, 480)),
        ((500, 1000), (480, 960)),
        ((2001, 1000), (960, 480)),
        ((3000, 479), (3000, 479)),
        ((1, 1), (1, 1)),
        ((1, 2000), (1, 2000)),
    ],
)
def test_the_shorter_side_is_shrunk_and_never_enlarged(format, size, stored):
    row, _ = normalise(encode(flat((9, 9, 9), size=size), format))
    assert ((row.width_px, row.height_px), (row.stored_width_px, row.stored_height_px)) == (size, stored)


def test_shrinking_may_be_switched_off():
    row, _ = normalise(encode(blocks(600, 500)), MediaConfig(short_side_px=0))
    assert (row.stored_width_px, row.stored_height_px) == (600, 500)


@pytest.mark.parametrize("size", [(1600, 1200), (1003, 1501)])
def test_scaled_jpeg_decoding_is_near_full_decoding(size):
    smooth = blocks(20, 15).resize(size, Image.Resampling.BICUBIC)
    _, drafted = normalise(encode(smooth, "JPEG", quality=95))
    _, full = normalise(encode(smooth, "PNG"))
    difference = np.asarray(drafted, dtype=float) - np.asarray(full, dtype=float)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 38


# What is stored.


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 95])
def test_a_small_clean_jpeg_is_kept_byte_for_byte(mode, progressive, quality):
    data = encode(blocks().convert(mode), "JPEG", quality=quality, progressive=progressive)
    row, stored = normalise_image(URL, data, CONFIG)
    assert stored == data
    assert row.sha256 == row.sha256_original


def test_metadata_and_what_follows_the_end_are_cut_off_without_new_loss():
    clean = encode(blocks(), "JPEG")
    marked = encode(blocks(), "JPEG", exif=exif(1), comment=b"hello", xmp=b"<x/>", icc_profile=srgb_profile())
    assert len(marked) > len(clean)
    assert normalise_image(URL, marked + b"trailing <script>", CONFIG)[1] == clean


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encode(blocks(600, 500), "JPEG"),
        encode(blocks(), "JPEG", exif=exif(3)),
        encode(blocks(), "JPEG", icc_profile=swapped_profile()),
        encode(blocks().convert("CMYK"), "JPEG"),
        encode(blocks(), "GIF", comment=b"hello"),
    ],
)
def test_all_else_is_encoded_anew_as_rgb_without_metadata(data):
    _, picture = normalise(data)
    assert picture.mode == "RGB"
    assert picture.applist == [("APP0", b"JFIF\0\1\1\0\0\1\0\1\0\0")]
    assert picture.layer[0][1:3] == (2, 2)  # 4:2:0


def test_a_padded_jpeg_is_encoded_anew():
    clean = encode(blocks(16, 16), "JPEG")
    padded = clean[:-2] + b"\xff\xd0" * 5000 + b"\xff\xd9"
    assert normalise(padded)[0].stored_bytes < 2000


def test_the_same_bytes_come_out_each_time():
    for data in (encode(blocks(900, 700), "JPEG"), encode(blocks(900, 700), "PNG"), encode(blocks(), "WEBP")):
        assert normalise_image(URL, data, CONFIG) == normalise_image(URL, data, CONFIG)


# The perceptual hash.


def test_the_row_holds_the_look_of_the_stored_picture():
    row, stored = normalise(encode(blocks()))
    looks = [hash_picture(blocks()), hash_picture(stored)]
    assert bytes.fromhex(row.phash) == looks[0]
    assert bits_apart(*looks) <= 8


def test_copies_share_their_look_and_other_pictures_do_not():
    original = blocks(20, 15).resize((800, 600), Image.Resampling.BICUBIC)
    other = blocks(20, 15, seed=2).resize((800, 600), Image.Resampling.BICUBIC)
    turned = original.transpose(Image.Transpose.ROTATE_270)
    reference = look_of(encode(original))
    copies = [
        encode(original.resize((400, 300)), "JPEG", quality=50),
        encode(original, "WEBP", quality=60),
        encode(turned, "JPEG", exif=exif(8)),
    ]
    assert all(bits_apart(reference, look_of(data)) <= EvaluationRules().max_bits for data in copies)
    assert all(bits_apart(reference, look_of(encode(one))) > EvaluationRules().max_bits for one in (other, turned))


def look_of(data):
    return bytes.fromhex(normalise(data)[0].phash)


def test_a_picture_of_one_colour_has_no_look():
    assert {look_of(encode(flat((level,) * 3))) for level in (0, 1, 77, 255)} == {bytes(HASH_BYTES)}


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_pixels": 89_478_486}, "max_pixels is 1..89478485"),
        ({"max_pixels": 0}, "max_pixels is 1..89478485"),
        ({"jpeg_quality": 0}, "jpeg_quality 1..100"),
        ({"jpeg_quality": 101}, "jpeg_quality 1..100"),
        ({"short_side_px": -1}, "short_side_px 0 or more"),
        ({"formats": ("jpeg", "tiff")}, "formats are of jpeg, png, gif, webp, bmp, avif, not jpeg, tiff"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MediaConfig(**settings)


def test_formats_may_be_fewer():
    assert refusal(encode(blocks(), "GIF"), MediaConfig(formats=("jpeg", "png", "webp"))) == (
        "unsupported_format",
        "gif",
    )


# Anything at all.

SAMPLES = [
    encode(blocks(48, 40), "JPEG", exif=exif(6), icc_profile=swapped_profile()),
    encode(blocks(48, 40), "JPEG", progressive=True),
    encode(blocks(48, 40).convert("CMYK"), "JPEG"),
    encode(blocks(48, 40).quantize(16), "PNG", transparency=b"\0\x80", exif=exif(3)),
    encode(blocks(48, 40), "GIF", save_all=True, append_images=[blocks(48, 40, 2)], transparency=3, comment=b"c"),
    encode(blocks(48, 40), "WEBP", exif=exif(5), icc_profile=swapped_profile()),
    encode(blocks(48, 40, channels=4), "WEBP", lossless=True),
    encode(blocks(48, 40).quantize(16), "BMP"),
    encode(blocks(48, 40), "AVIF", exif=exif(8), icc_profile=swapped_profile()),
    png(50, 40, 16, 0, (b"\0" + bytes(range(100))) * 40, chunk(b"tRNS", b"\0\1")),
]
REASONS = {value for name, value in vars(media).items() if name.isupper() and isinstance(value, str)} - {
    STORED,
    REJECTED,
}


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(min_size=1, max_size=6)), max_size=6),
)
def test_damaged_bytes_raise_nothing_and_warn_of_nothing(data, edits):
    damaged = bytearray(data)
    for place, kind, content in edits:
        at = int(place**3 * len(damaged))  # most damage goes to the headers
        if kind == 0:
            damaged[at : at + len(content)] = content
        elif kind == 1:
            damaged[at:at] = content
        elif kind == 2:
            del damaged[at : at + len(content)]
        else:
            del damaged[max(at, len(damaged) // 2) :]
    row, stored = normalise_image(URL, bytes(damaged), CONFIG)
    assert (row.status == STORED) == bool(stored)
    assert row.reason in (REASONS if row.status == REJECTED else {""})
