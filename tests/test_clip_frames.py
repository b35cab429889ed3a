"""Frames of clips: which are taken, that only what they need is decoded, and what is refused."""

import io
import itertools
import math
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from videos_made import SHADE, copy, encode, noise, quarters, shade

from flamingo_model import clips
from flamingo_model.clips import ClipLimits, clip_frames
from flamingo_model.pixels import BadImage, new_frames
from flamingo_model.samples import Medium

FILL = (0, 0, 0)


def grey(number):
    file = io.BytesIO()
    Image.new("L", (16, 12), 8 + SHADE * number).save(file, "JPEG", quality=95)
    return file.getvalue()


STORED = tuple(grey(number) for number in range(24))


def video(data, fps=25.0):
    return Medium((data,), "video", fps)


def written(medium, frames=8, fps=1.0, roll=0.0, side=16, fit="stretch", **limits):
    out = new_frames(frames, side)
    out.zero_()
    count = clip_frames(medium, frames, fps, roll, out.numpy(), fit, FILL, ClipLimits(**limits))
    assert not out[count:].any()
    return out[:count].permute(0, 2, 3, 1).numpy()


def numbers(medium, *args, **more):
    """Tell the numbers of the frames that were taken, from their greys."""
    shown = written(medium, *args, **more)[:, 4:12, 4:12].reshape(-1, 64 * 3).mean(axis=1)
    return [round(float(code - 8) / SHADE) for code in shown]


def refusal(medium, **limits):
    with pytest.raises(BadImage) as caught:
        written(medium, **limits)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# Stored frames


@pytest.mark.parametrize(
    ("stored_fps", "fps", "roll", "taken"),
    [
        (1, 1, 0.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (1, 1, 0.999999999, [16, 17, 18, 19, 20, 21, 22, 23]),
        (0, 1, 0.5, [8, 9, 10, 11, 12, 13, 14, 15]),
        (2, 1, 0.0, [0, 2, 4, 6, 8, 10, 12, 14]),
        (2, 1, 0.999999999, [9, 11, 13, 15, 17, 19, 21, 23]),
        (4, 1, 0.0, [0, 4, 8, 12, 16, 20]),
        (3, 2, 0.0, [0, 1, 3, 4, 6, 7, 9, 10]),
        (1, 2, 0.0, [0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_frames_in_a_row_at_the_wanted_rate(stored_fps, fps, roll, taken):
    assert numbers(Medium(STORED, "frames", stored_fps), fps=fps, roll=roll) == taken


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 24), st.sampled_from([0, 0.5, 1, 2, 3, 7, 30]), st.integers(1, 9), st.floats(0, 1, exclude_max=True)
)
def test_rows_are_even_and_as_long_as_they_can_be(stored, rate, frames, roll):
    taken = numbers(Medium(STORED[:stored], "frames", rate), frames=frames, roll=roll)
    step = rate or 1
    assert len(taken) == max(1, min(frames, math.ceil(stored / step)))
    assert 0 <= taken[0] <= taken[-1] < stored
    if step >= 1:
        assert [b - a for a, b in itertools.pairwise(taken)] == [step] * (len(taken) - 1)


def test_every_first_frame_is_chosen_alike_often():
    chosen = [numbers(Medium(STORED[:11], "frames", 1), roll=(roll + 0.5) / 40)[0] for roll in range(40)]
    assert [chosen.count(first) for first in range(4)] == [10] * 4


def test_a_picture_is_a_clip_of_one_frame():
    assert numbers(Medium((grey(5),), "image")) == [5]


def test_a_damaged_frame_is_refused_by_its_number():
    medium = Medium((*STORED[:3], STORED[3][:-40], *STORED[4:]), "frames", 1.0)
    with pytest.raises(BadImage, match=r"frame 3 of 0\.\.23: truncated") as caught:
        written(medium)
    assert caught.value.reason == "truncated"
    assert numbers(medium, roll=0.9) == [*range(15, 23)]  # what is not needed is not looked at
    assert refusal(Medium((), "frames", 1.0)) == "empty"


# Videos


MADE = {
    "mp4": encode(),
    "webm": encode("libvpx", "webm", options={"b": "20M", "quality": "realtime", "cpu-used": "8"}),
    "fragments": encode(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "b-frames": encode(max_b_frames=2, gop_size=12),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    ("fps", "roll", "taken"), [(1, 0.0, [0, 25, 50]), (1, 0.98, [24, 49, 74]), (5, 0.0, [*range(0, 40, 5)])]
)
def test_frames_of_a_video_at_even_times(kind, fps, roll, taken):
    assert numbers(video(MADE[kind]), fps=fps, roll=roll) == taken


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["mp4", "b-frames"]),
    st.integers(1, 9),
    st.sampled_from([0.5, 1, 3, 12.5, 60]),
    st.floats(0, 1, exclude_max=True),
)
def test_what_is_shown_at_each_time_is_taken(kind, frames, fps, roll):
    """75 frames of a 25th of a second: the one taken is the one whose time has come."""
    taken = numbers(video(MADE[kind]), frames=frames, fps=fps, roll=roll)
    count = max(1, min(frames, math.ceil(3 * fps)))
    start = roll * (3 - (count - 1) / fps)
    exact = [(start + number / fps) * 25 for number in range(count)]
    assert len(taken) == count
    for number, place in zip(taken, exact, strict=True):
        assert math.floor(place - 1e-3) <= number <= math.floor(place + 1e-3)  # either where the two meet


def test_uneven_times_are_those_of_the_file():
    """At 0, 1, 2 and 3 s what came last by then; the clip ends a second after 3.95 s at most."""
    times = [0, 100, 1900, 2000, 2100, 3950]
    assert numbers(video(encode(frames=6, times=times)))[:4] == [0, 1, 3, 4]


def test_only_what_is_needed_is_decoded(monkeypatch):
    """Key frames stand every 10 frames: of two frames 50 apart, two runs are decoded, not all between them."""
    fed = []
    send = clips.Decoder.send
    monkeypatch.setattr(clips.Decoder, "send", lambda self, packet: fed.append(packet) or send(self, packet))
    assert numbers(video(encode(gop_size=10, max_b_frames=0)), frames=2, fps=0.5, roll=0.3) == [7, 57]
    packets = [packet for packet in fed if packet is not None]
    assert len(packets) == 16
    assert len(fed) - len(packets) == 2  # what the decoder still holds is asked for before each leap


def test_a_key_frame_that_is_none_is_found_out():
    """The flag of frame 20 lies: what is shown is what decoding from the true key frame gives."""

    def lie(number, packet):
        packet.is_keyframe = packet.is_keyframe or number == 20
        return packet

    data = copy(encode(frames=40, gop_size=1000, max_b_frames=0, draw=noise), lie)
    true = written(video(encode(frames=40, gop_size=1000, max_b_frames=0, draw=noise)), frames=1, roll=24.5 / 40)
    assert np.array_equal(written(video(data), frames=1, roll=24.5 / 40), true)


@pytest.mark.parametrize(
    ("turn", "corners"),
    [
        ((0,), ["red", "green", "blue", "white"]),
        ((90,), ["green", "white", "red", "blue"]),
        ((180,), ["white", "blue", "green", "red"]),
        ((270,), ["blue", "red", "white", "green"]),
        ((0, True), ["green", "red", "white", "blue"]),
    ],
)
def test_videos_stand_upright(turn, corners):
    frame = written(video(encode(draw=quarters, frames=2, turn=turn)), frames=1, side=32)[0]
    names = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    found = [tuple(bool(code > 127) for code in frame[place]) for place in itertools.product((8, 24), (8, 24))]
    assert [names.get(colour, "white") for colour in found] == corners


def shape_shown(frame):
    shown = frame.max(axis=-1) > 100
    return int(shown.any(axis=1).sum()), int(shown.any(axis=0).sum())


def test_pixels_that_are_not_square_are_made_so():
    """64 x 48 pixels, each 3/2 as wide as high, are shown as 96 x 48; turned by a quarter, as 48 x 96."""

    def bright(_number):
        return np.full((48, 64, 3), 200, np.uint8)

    wide = encode(draw=bright, frames=2, sample_aspect_ratio=Fraction(3, 2))
    turned = encode(draw=bright, frames=2, sample_aspect_ratio=Fraction(3, 2), turn=(90,))
    assert shape_shown(written(video(wide), frames=1, side=32, fit="pad")[0]) == (16, 32)
    assert shape_shown(written(video(turned), frames=1, side=32, fit="pad")[0]) == (32, 16)


def test_large_frames_are_scaled_as_pictures_are():
    def draw(number):
        y, x = np.mgrid[:240, :320]
        return np.stack([255 * x // 319, 255 * y // 239, np.full_like(x, 8 * number)], axis=-1).astype(np.uint8)

    frame = written(video(encode(draw=draw, frames=2)), frames=1, side=24)[0]
    wanted = np.asarray(Image.fromarray(draw(0)).resize((24, 24), Image.Resampling.BICUBIC))
    assert np.abs(frame.astype(int) - wanted).mean() < 3  # the codec and its colours at half the size


# What is refused


@pytest.mark.parametrize("kind", ["mp4", "webm"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
def test_a_video_that_is_cut_short_is_refused(kind, share):
    assert refusal(video(MADE[kind][: int(len(MADE[kind]) * share)])) == "truncated"


def test_what_is_no_video_is_refused():
    assert refusal(video(b"")) == "empty"
    for data in (b"#EXTM3U\nhttp://a/", b"ffconcat version 1.0\nfile a.mp4", MADE["mp4"][40:], STORED[0]):
        assert refusal(video(data)) == "unreadable"
    assert refusal(video(encode("flv", "flv"))) == "unreadable"
    assert refusal(video(encode("mjpeg", "mp4", pixels="yuvj420p", frames=3))) == "unreadable"


def test_limits_come_before_work(monkeypatch):
    monkeypatch.setattr(clips.Decoder, "send", lambda *_: pytest.fail("decoded"))
    data = MADE["mp4"]
    assert refusal(video(data), max_bytes=len(data) - 1) == "too_large"
    assert refusal(video(data), max_frames=74) == "too_large"
    assert refusal(video(data), max_duration_s=2.9) == "too_long"
    assert refusal(video(data), max_pixels=64 * 48 - 1) == "too_large"
    assert refusal(video(data), max_decode_s=0.0) == "too_slow"


def test_time_is_limited_while_frames_are_decoded(monkeypatch):
    """The clock leaps after the third packet."""
    left = iter([0.0] * 2)
    send = clips.Decoder.send

    def late(self, packet):
        if next(left, None) is None:
            self.reader.until_s = -1.0
        return send(self, packet)

    monkeypatch.setattr(clips.Decoder, "send", late)
    assert refusal(video(MADE["mp4"])) == "too_slow"


@pytest.mark.parametrize("table", [b"stsz", b"stts", b"ctts", b"trun"])
def test_tables_that_declare_too_much_are_refused_before_they_are_read(table):
    claimed = (2**31).to_bytes(4, "big")
    body = {b"stsz": bytes(8) + claimed, b"trun": bytes(4) + claimed}.get(table, bytes(7) + b"\1" + claimed + bytes(4))
    box = (12 + len(body)).to_bytes(4, "big") + b"moov" + table + body
    assert refusal(video(MADE["mp4"] + box)) == "too_large"


def test_a_video_without_frames_is_refused():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert refusal(video(file.getvalue())) == "no_frames"


SMALL = [
    encode(frames=8, draw=shade),
    encode("libvpx", "webm", frames=8, options={"quality": "realtime", "cpu-used": "8"}),
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SMALL), st.data())
def test_damage_gives_frames_or_a_reason(data, draw):
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        changed[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    reason = None
    try:
        assert 1 <= len(written(video(bytes(changed)), fps=10)) <= 8
    except BadImage as error:
        reason = error.reason
    known = {"unreadable", "truncated", "too_large", "too_long", "no_frames", "empty"}
    assert reason is None or reason in known
