"""Pictures to uint8 frames, and frames on the device: what is shown, what is refused, and that threads keep apart."""

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
import torch
from damage import flip as flip_bit
from damage import picture, png_bomb, png_chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from flamingo_model import augment as device
from flamingo_model import pixels
from flamingo_model.augment import GpuDecoder, augment, fit_decoded, normalise, to_device
from flamingo_model.pixels import FILLS, STATS, BadImage, Limits, decode_image, new_frames, one_thread

FILL = (200, 10, 90)
FITS = ("pad", "crop", "stretch")


def decoded(data, side=32, fit="stretch", fill=FILL, **limits):
    """Decode into a frame, given back as [S, S, 3]."""
    frame = new_frames(1, side)[0].numpy()
    decode_image(data, frame, fit, fill, Limits(**limits))
    return frame.transpose(1, 2, 0)


def refusal(data, **limits):
    with pytest.raises(BadImage) as caught:
        decoded(data, **limits)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def smooth(width_px, height_px):
    """Draw colours that change slowly: scaling loses nothing of them."""
    y, x = np.mgrid[:height_px, :width_px]
    red, green = 255 * x // max(1, width_px - 1), 255 * y // max(1, height_px - 1)
    return Image.fromarray(np.stack([red, green, 255 - (red + green) // 2], axis=-1).astype(np.uint8))


def quarters(width_px=64, height_px=64):
    """Draw red and green over blue and white."""
    codes = np.zeros((height_px, width_px, 3), np.uint8)
    codes[: height_px // 2, : width_px // 2] = 255, 0, 0
    codes[: height_px // 2, width_px // 2 :] = 0, 255, 0
    codes[height_px // 2 :, : width_px // 2] = 0, 0, 255
    codes[height_px // 2 :, width_px // 2 :] = 255
    return Image.fromarray(codes)


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def corners(frame):
    """Name the colours in the middles of the four quarters, row by row."""
    names = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    side = len(frame)
    places = [(side // 4, side // 4), (side // 4, 3 * side // 4), (3 * side // 4, side // 4), (3 * side // 4,) * 2]
    return [names.get(tuple(bool(code > 127) for code in frame[place]), "white") for place in places]


def difference(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))


def bicubic(image, size):
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))


# What is shown


def test_a_jpeg_that_needs_no_scaling_has_the_pixels_of_pillow():
    """One decoder and one kernel on both sides: only the rounding of weights to 16 bits differs."""
    data = picture(90, 70)
    off = difference(decoded(data, 64), bicubic(Image.open(io.BytesIO(data)), (64, 64)))
    assert off.mean() < 0.1
    assert off.max() <= 1


@pytest.mark.parametrize(("width_px", "height_px"), [(320, 240), (1000, 130), (257, 513)])
def test_a_jpeg_scaled_while_decoded_stays_near_to_pillow(width_px, height_px):
    """A scaled transform is a box filter, which bicubic is not: that shows at fine patterns only."""
    fine = picture(width_px, height_px)
    assert difference(decoded(fine, 32), bicubic(Image.open(io.BytesIO(fine)), (32, 32))).mean() < 1.5
    plain = saved(smooth(width_px, height_px), "JPEG", quality=95)
    assert difference(decoded(plain, 32), bicubic(Image.open(io.BytesIO(plain)), (32, 32))).mean() < 0.5


def test_jpegs_are_scaled_by_powers_of_two_and_never_below_what_is_needed(monkeypatch):
    sizes = []
    monkeypatch.setattr(pixels, "place", lambda found, *_: sizes.append(found.shape[:2]))
    for width_px, height_px, fit in [(1024, 768, "stretch"), (447, 448, "pad"), (448, 448, "crop"), (2000, 260, "pad")]:
        decoded(saved(Image.new("RGB", (width_px, height_px)), "JPEG"), 224, fit)
    assert sizes == [(384, 512), (448, 447), (224, 224), (33, 250)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(FITS), st.integers(1, 40), st.booleans())
def test_every_shape_fits(width_px, height_px, fit, side, jpeg):
    """A picture of one colour: the frame holds that, and the filling where it is padded."""
    image = Image.new("RGB", (width_px, height_px), (40, 80, 160))
    frame = decoded(saved(image, "JPEG" if jpeg else "PNG"), side, fit)
    shown = (difference(frame, (40, 80, 160)) <= 2).all(axis=-1)
    assert (shown | (frame == FILL).all(axis=-1)).all()
    high = round(side * min(1, height_px / width_px)) if fit == "pad" else side
    wide = round(side * min(1, width_px / height_px)) if fit == "pad" else side
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert shown.sum() == len(rows) * len(columns)
    assert (len(rows), len(columns)) == (max(1, high), max(1, wide))
    assert abs(rows[0] - (side - 1 - rows[-1])) <= 1
    assert abs(columns[0] - (side - 1 - columns[-1])) <= 1


@pytest.mark.parametrize(("size", "shape"), [((300, 100), (10, 30)), ((100, 300), (30, 10))])
def test_padding_keeps_the_aspect_and_cropping_takes_the_middle(size, shape):
    image = smooth(*size)
    data = saved(image)
    high, wide = shape
    top, left = (30 - high) // 2, (30 - wide) // 2
    padded = decoded(data, 30, "pad")
    assert difference(padded[top : top + high, left : left + wide], bicubic(image, (wide, high))).max() <= 1
    middle = image.crop(((size[0] - 100) // 2, (size[1] - 100) // 2, (size[0] + 100) // 2, (size[1] + 100) // 2))
    assert difference(decoded(data, 30, "crop"), bicubic(middle, (30, 30))).max() <= 1


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(50, 20), (20, 50), (33, 33)])
def test_any_strides_of_the_frame_give_the_same(fit, size):
    """Frames as planes, as pixels, and a part of something larger: PyTorch's kernel writes wrong into the last."""
    data = saved(smooth(*size))
    planes, gaps = np.zeros((3, 24, 24), np.uint8), np.zeros((3, 48, 48), np.uint8)[:, ::2, ::2]
    decode_image(data, planes, fit, FILL)
    decode_image(memoryview(data), gaps, fit, FILL)
    assert np.array_equal(planes.transpose(1, 2, 0), decoded(data, 24, fit))
    assert np.array_equal(planes, gaps)


def test_the_resize_is_that_of_interpolate():
    codes = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for size in ((24, 24), (80, 20)):
        out = np.zeros((*size, 3), np.uint8)
        pixels.resize(codes, out, (size[0] / 37, size[1] / 53))
        wanted = functional.interpolate(
            torch.from_numpy(codes).permute(2, 0, 1)[None], size, mode="bicubic", antialias=True
        )
        assert np.array_equal(out, wanted[0].permute(1, 2, 0).numpy())


TURNED = {
    1: ["red", "green", "blue", "white"],
    2: ["green", "red", "white", "blue"],
    3: ["white", "blue", "green", "red"],
    4: ["blue", "white", "red", "green"],
    5: ["red", "blue", "green", "white"],
    6: ["blue", "red", "white", "green"],
    7: ["white", "green", "blue", "red"],
    8: ["green", "white", "red", "blue"],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "CMYK"])
@pytest.mark.parametrize("orientation", TURNED)
def test_pictures_stand_upright(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = quarters(64, 32)
    image = image.convert("CMYK") if format == "CMYK" else image
    frame = decoded(saved(image, "JPEG" if format == "CMYK" else format, exif=exif.tobytes()), 32, "stretch")
    assert corners(frame) == TURNED[orientation]


def test_a_turned_jpeg_is_turned_before_it_is_padded():
    exif = Image.Exif()
    exif[0x0112] = 6
    frame = decoded(saved(Image.new("RGB", (400, 100), (40, 80, 160)), "JPEG", exif=exif.tobytes()), 32, "pad")
    assert (frame[:, :12] == FILL).all()
    assert difference(frame[:, 12:20], (40, 80, 160)).max() <= 2


def tiff_exif(order, *entries, at=8, count=None):
    table = b"".join(struct.pack(order + "HHIHH", *entry, 0) for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + struct.pack(order + "H", len(entries) if count is None else count) + table


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_is_read_only_where_it_makes_sense(order):
    assert pixels.read_orientation(tiff_exif(order, (0x0100, 3, 1, 9), (0x0112, 3, 1, 6))) == 6
    assert pixels.read_orientation(tiff_exif(order, (0x0112, 3, 1, 9))) == 1
    assert pixels.read_orientation(tiff_exif(order, (0x0112, 4, 1, 6))) == 1
    assert pixels.read_orientation(tiff_exif(order, (0x0112, 3, 1, 6), at=2**32 - 1)) == 1
    assert pixels.read_orientation(tiff_exif(order, (0x0112, 3, 1, 6), count=65535)) == 6
    assert pixels.read_orientation(tiff_exif(order, count=65535)) == 1


@given(st.binary(max_size=60))
def test_any_exif_gives_an_orientation(tail):
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        assert 1 <= pixels.read_orientation(head + tail) <= 8


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_other_formats_are_read(format):
    data = saved(quarters(), format, **({"lossless": True} if format == "WEBP" else {}))
    assert corners(decoded(data)) == TURNED[1]


def test_the_first_frame_of_an_animation_is_taken():
    data = saved(quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    assert corners(decoded(data)) == TURNED[1]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_is_flattened_on_the_filling(format):
    image = quarters().convert("RGBA")
    image.putalpha(Image.new("L", (64, 64), 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    frame = decoded(saved(image, format, **({"lossless": True} if format == "WEBP" else {})), 64)
    assert (frame[:, :32] == (255, 0, 0)).all()
    assert (frame[:, 32:] == FILL).all()


def test_half_transparent_greys_and_palettes_are_right():
    assert (decoded(saved(Image.new("LA", (8, 8), (255, 0)))) == FILL).all()
    palette = quarters().quantize(4)
    assert corners(decoded(saved(palette))) == TURNED[1]
    clear = saved(palette, transparency=palette.getpixel((0, 0)))
    assert corners(decoded(clear, 64, fill=(0, 0, 255))) == ["blue", "green", "blue", "white"]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format):
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    frame = decoded(saved(Image.fromarray(grey), format), 64)
    assert np.array_equal(frame[..., 1], (grey >> 8).astype(np.uint8))


def test_a_sixteen_bit_colour_png_keeps_its_high_bytes():
    row = b"\0" + struct.pack(">3H", 0xFF12, 0x8034, 0x0156)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)
    assert decoded(data, 1)[0, 0].tolist() == [0xFF, 0x80, 0x01]


def test_grey_and_cmyk_and_progressive_jpegs_are_read():
    grey = decoded(saved(quarters().convert("L"), "JPEG"))
    assert (np.ptp(grey, axis=-1) == 0).all()
    assert corners(decoded(saved(quarters().convert("CMYK"), "JPEG"))) == TURNED[1]
    assert corners(decoded(saved(quarters(), "JPEG", progressive=True))) == TURNED[1]


# What is refused


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.98])
def test_a_jpeg_that_is_cut_short_is_refused(progressive, share):
    data = saved(smooth(200, 150), "JPEG", progressive=progressive)
    cut = data[: int(len(data) * share)]
    assert refusal(cut) == "truncated"
    assert decoded(cut, strict=False).shape == (32, 32, 3)
    assert refusal(data[:-2]) == "truncated"  # without its end marker nothing tells that it is whole


def test_a_jpeg_damaged_within_is_refused():
    data = picture(200, 150)
    found = {refusal_or_none(flip_bit(data, at)) for at in range(len(data) // 2, len(data) - 2, 40)}
    assert "unreadable" in found
    assert found <= {"unreadable", "truncated", None}  # a bit may also turn into another picture that is whole


def refusal_or_none(data):
    try:
        decoded(data)
    except BadImage as error:
        return error.reason
    return None


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "WEBP"])
def test_other_formats_that_are_cut_short_are_refused(format):
    data = saved(picture_image(), format)
    assert refusal(data[: len(data) * 2 // 3]) in ("truncated", "unreadable")
    if format in ("PNG", "WEBP"):
        assert refusal(data[: len(data) * 2 // 3]) == "truncated"


def picture_image():
    return Image.open(io.BytesIO(picture(120, 90)))


def test_what_is_empty_or_no_picture_is_refused():
    assert refusal(b"") == "empty"
    assert refusal(b"\xff\xd8\xff\xe0" + b"a" * 50) in ("unreadable", "truncated")
    for data in (b"<html>", b"\xff\xd8", b"RIFF\0\0\0\0WAVE" + bytes(40), b"BM"):
        assert refusal(data) == "unreadable"
    assert refusal(saved(Image.new("F", (4, 4)), "TIFF")) == "unreadable"
    # Of a palette that is not there Pillow makes an assertion.
    data = saved(Image.new("P", (4, 4)), "PNG")
    at = data.index(b"PLTE") - 4
    assert refusal(data[:at] + data[at + 12 + int.from_bytes(data[at : at + 4], "big") :]) == "unreadable"


def test_limits_come_before_work():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(png_bomb(30_000, 4)) == "too_large"
        assert refusal(png_bomb(9_000, 4)) == "too_large"
    data = picture(300, 100)
    assert refusal(data, max_side_px=299) == refusal(data, max_pixels=29_999) == "too_large"
    assert refusal(data, max_bytes=len(data) - 1) == "too_large"
    assert refusal(saved(picture_image(), "WEBP"), max_side_px=119) == "too_large"
    decoded(data, max_side_px=300, max_pixels=30_000, max_bytes=len(data))
    with pytest.raises(ValueError, match="max_pixels is 1"):
        Limits(max_pixels=10**9)


def test_a_jpeg_of_many_scans_is_refused():
    data = saved(smooth(64, 64), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    assert refusal(data[:at] + data[at:-2] * 200 + data[-2:]) == "too_large"


def test_a_size_of_nothing_and_a_wrong_fit_are_told():
    head = saved(Image.new("RGB", (16, 16)), "JPEG")
    at = head.index(b"\xff\xc0")
    assert refusal(head[: at + 7] + b"\0\0" + head[at + 9 :]) in ("unreadable", "too_large")
    with pytest.raises(ValueError, match="fit is pad, crop or stretch"):
        decoded(head, fit="squeeze")


DAMAGED = [saved(smooth(40, 30), format) for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DAMAGED), st.data())
def test_damage_gives_a_picture_or_a_reason(data, draw):
    """Whatever is changed in a file, nothing but `BadImage` comes out, and frames beside it stay as they are."""
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        changed[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    frames = new_frames(3, 16)
    frames.zero_()
    reason = None
    try:
        decode_image(bytes(changed), frames[1].numpy(), "pad", FILL)
    except BadImage as error:
        reason = error.reason
    assert reason in (None, "unreadable", "truncated", "too_large")
    assert reason is None or not frames[1].any()
    assert not frames[0].any()
    assert not frames[2].any()


# Threads


def test_one_thread_is_the_callers_alone():
    """In threads of its own: what PyTorch is set to here must not reach other tests."""
    before, seen = torch.get_num_threads(), []

    def decode(data):
        seen.append(torch.get_num_threads())
        return decoded(data).tobytes()

    files = [picture(80, 60, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(3, initializer=one_thread) as pool:
        frames = list(pool.map(decode, files * 4))
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen[-1] == before
    assert frames == [decoded(data).tobytes() for data in files] * 4


# On the device


def frames_of(*seeds, side=16):
    frames = new_frames(len(seeds), side)
    for frame, seed in zip(frames, seeds, strict=True):
        decode_image(picture(60, 40, seed=seed), frame.numpy(), "stretch", FILL)
    return frames


@pytest.mark.parametrize("name", STATS)
def test_normalised_pixels_are_those_of_the_formula(name):
    frames, (mean, std) = frames_of(1, 2), STATS[name]
    mean, std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    wanted = (frames / 255 - mean) / std
    assert torch.allclose(normalise(frames, STATS[name]), wanted, atol=1e-5)
    assert torch.allclose(normalise(frames, STATS[name], torch.bfloat16), wanted.bfloat16(), atol=0.02)
    assert normalise(frames, STATS[name], torch.bfloat16).dtype == torch.bfloat16
    padding = torch.tensor(FILLS[name], dtype=torch.uint8)[None, :, None, None]
    assert normalise(padding, STATS[name]).abs().max() < 0.5 / 255 / 0.22


def neutral(media):
    return torch.zeros(media, dtype=torch.bool), torch.ones(media, 3)


def test_neutral_augmentation_only_normalises():
    frames = frames_of(1, 2, 3)
    found = augment(frames, torch.tensor([0, 1, 1]), *neutral(2), STATS["clip"])
    assert torch.allclose(found, normalise(frames, STATS["clip"]), atol=1e-5)


def test_a_flip_is_that_of_one_medium():
    frames = frames_of(1, 2, 3, 4)
    found = augment(
        frames, torch.tensor([0, 1, 1, 2]), torch.tensor([False, True, False]), torch.ones(3, 3), STATS["half"]
    )
    wanted = normalise(torch.stack([frames[0], frames[1].flip(-1), frames[2].flip(-1), frames[3]]), STATS["half"])
    assert torch.allclose(found, wanted, atol=1e-5)


def jittered(frame, brightness, contrast, saturation):
    """Do the three steps one after the other on one frame, as they are described."""
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
    pixels = frame.double() * brightness
    grey = (pixels * luma).sum(0).mean()
    pixels = (pixels - grey) * contrast + grey
    grey = (pixels * luma).sum(0)
    return ((pixels - grey) * saturation + grey).clamp(0, 255)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0.0, 2.5)] * 3), min_size=2, max_size=2))
def test_jitter_is_the_three_steps_for_all_frames_of_a_medium(factors):
    frames, owner = frames_of(1, 2, 3), [1, 0, 1]
    found = augment(frames, torch.tensor(owner), neutral(2)[0], torch.tensor(factors), STATS["half"])
    wanted = torch.stack([jittered(frame, *factors[medium]) for frame, medium in zip(frames, owner, strict=True)])
    assert torch.allclose(found.double(), wanted / 127.5 - 1, atol=1e-4)


def test_nothing_but_the_types_changes_on_the_same_device():
    frames = frames_of(1)
    assert to_device(frames, "cpu") is frames
    assert augment(frames, torch.tensor([0]), *neutral(1), STATS["clip"], torch.bfloat16).dtype == torch.bfloat16
    none = augment(new_frames(0, 8), torch.zeros(0, dtype=torch.int64), *neutral(0), STATS["clip"])
    assert none.shape == normalise(new_frames(0, 8), STATS["clip"]).shape == (0, 3, 8, 8)


def planes(data):
    return torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(50, 30), (30, 50), (300, 90), (20, 20)])
def test_fitting_on_the_device_is_that_of_the_cpu(fit, size):
    """Floats are rounded once there, weights of 16 bits twice here; averages stand for scaled transforms."""
    data = saved(smooth(*size), "JPEG")
    found = fit_decoded(planes(data)[None], 24, fit, FILL)[0].permute(1, 2, 0)
    off = difference(found, decoded(data, 24, fit))
    assert off.mean() < 0.5
    assert off.max() <= 5


class FakeGpu:
    """Decodes as nvJPEG does as far as its caller sees: all or an error; some pictures it never takes."""

    def __init__(self, refused=()):
        self.refused, self.calls = refused, []

    def __call__(self, tensors):
        files = [bytes(tensor.numpy()) for tensor in tensors]
        self.calls.append(len(files))
        if any(data in self.refused for data in files):
            raise RuntimeError("nvjpegDecode failed")
        return [planes(data) for data in files]


def test_what_the_gpu_refuses_the_cpu_decodes():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(quarters(64, 32), "JPEG", exif=exif.tobytes())
    files = [
        picture(60, 40),
        picture(60, 40, seed=2),
        picture(30, 50),
        saved(quarters()),
        turned,
        b"",
        picture(90, 9)[:-9],
    ]
    for gpu, calls in ((FakeGpu(), [3]), (FakeGpu([files[1]]), [3, 1, 1, 1])):
        frames, refused = GpuDecoder("cpu", gpu)(files, 24, "pad", FILL)
        assert gpu.calls == calls
        assert {number: error.reason for number, error in refused.items()} == {5: "empty", 6: "truncated"}
        for number in range(5):
            assert difference(frames[number].permute(1, 2, 0), decoded(files[number], 24, "pad")).mean() < 1
        assert (frames[5:] == torch.tensor(FILL)[:, None, None]).all()


def test_a_gpu_decoder_without_a_gpu_is_refused():
    with pytest.raises((ImportError, RuntimeError)):
        device.nvjpeg(torch.device("cpu"))
