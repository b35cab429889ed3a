"""Videos made here, sound and hostile ones, and the clips that are cut of them."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from dataclasses import fields
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorTrc, VideoReformatter
from PIL import Image
from videos_made import SHADE, SHARP, copy, encode, noise, quarters, shade

from pipeline import clips, frames, media, timeline
from pipeline.clips import Clip, Unfit, sample_clips
from pipeline.media import MediaConfig
from pipeline.timeline import VideoConfig
from schemas.media import STORED

URL = "https://example.org/v.mp4"
FRAMES = VideoConfig(keep="frames")
CLIPS = VideoConfig(keep="clips")
MEDIA = MediaConfig()
H264 = {"g": "25", "bf": "3", "preset": "veryfast"}
VP8 = {"g": "25", "deadline": "realtime", "b": "300k"}


def sample(data, config=FRAMES, **changes):
    """Give what became of a video, after what holds for all of them."""
    if changes:
        config = VideoConfig(**{field.name: getattr(config, field.name) for field in fields(config)} | changes)
    found = list(sample_clips(URL, data, config, MEDIA))
    assert found, "nothing vanishes"
    assert all(isinstance(clip, Clip) for clip in found[:-1])
    for clip in found:
        if isinstance(clip, Unfit):
            assert clip.reason == clip.reason.lower()
            assert "\n" not in clip.detail
        else:
            check_clip(clip, data, config)
    return found


def check_clip(clip, data, config):
    assert config.min_clip_s <= round(clip.end_s - clip.start_s, 3) <= config.max_clip_s
    assert len({(row.stored_width_px, row.stored_height_px) for row, _ in clip.frames}) == 1
    for number, (row, stored) in enumerate(clip.frames):
        assert row.url == f"{URL}#t={round(clip.start_s + number / config.fps, 3):g}"
        assert (row.status, row.format, row.stored_bytes) == (STORED, "jpeg", len(stored))
        assert row.sha256_original == hashlib.sha256(data).hexdigest()
        assert row.sha256 == hashlib.sha256(stored).hexdigest()
        assert (row.width_px, row.height_px) == (clip.width_px, clip.height_px)
        assert picture(stored).size == (row.stored_width_px, row.stored_height_px)


def only(data, config=FRAMES, **changes):
    found = sample(data, config, **changes)
    assert [type(clip) for clip in found] == [Clip], found
    return found[0]


def refusal(data, config=FRAMES, **changes):
    found = sample(data, config, **changes)
    assert [type(clip) for clip in found] == [Unfit], found
    return found[0].reason


def picture(stored):
    return Image.open(io.BytesIO(stored)).convert("RGB")


def numbers(clip):
    """Read the frames' numbers from their shades."""
    greys = [np.asarray(picture(stored).convert("L")).mean() for _, stored in clip.frames]
    assert all(abs((grey - 8) / SHADE - round((grey - 8) / SHADE)) < 0.4 for grey in greys)
    return [round((grey - 8) / SHADE) for grey in greys]


def near(left, right, levels=12):
    return np.abs(np.asarray(left, int) - np.asarray(right, int)).max() <= levels


KINDS = [
    ("libx264", "mp4", H264),
    ("libx264", "mpegts", H264),
    ("libx264", "flv", H264),
    ("libx264", "matroska", H264),
    ("libvpx", "webm", VP8),
    ("libvpx-vp9", "webm", VP8),
    ("mpeg4", "avi", {}),
    ("mpeg4", "mp4", {"bf": "2"}),
    ("mpeg2video", "mpeg", {"bf": "2"}),
    ("mjpeg", "avi", {}),
    ("flv", "flv", {}),
]


@pytest.mark.parametrize(("codec", "format", "options"), KINDS)
def test_the_frame_shown_at_each_second_is_taken(codec, format, options):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clip = only(encode(codec, format, options=options, pixels=pixels))
    assert numbers(clip) == [0, 25, 50]
    assert (round(clip.end_s - clip.start_s, 1), clip.fps, clip.width_px, clip.height_px) == (3.0, 1.0, 64, 48)
    assert numbers(only(encode(codec, format, options=options, pixels=pixels), fps=2.5)) == [
        0,
        10,
        20,
        30,
        40,
        50,
        60,
        70,
    ]


def test_frames_are_those_of_decoding_everything():
    data = encode("libx264", draw=noise, options=H264 | {"g": "40", "b-pyramid": "normal"})
    with av.open(io.BytesIO(data)) as container:
        decoded = list(container.decode(video=0))
    shape = frames.shape_of(decoded[0], None, 320, 8192)
    wanted = [decoded[number] for number in range(0, 75, 6)]
    drawn = [frames.describe("", "", shape, frames.draw(frame, shape, VideoReformatter()), MEDIA) for frame in wanted]
    assert [stored for _, stored in only(data, fps=25 / 6).frames] == [stored for _, stored in drawn]


def test_only_what_wanted_frames_need_is_decoded(monkeypatch):
    fed = []
    monkeypatch.setattr(clips.Decoder, "send", spy(clips.Decoder.send, fed))
    assert numbers(only(encode("libx264", options=H264))) == [0, 25, 50]
    assert len([packet for packet in fed if packet]) == 3  # each second begins with a key frame


def spy(send, fed):
    def spied(self, packet):
        fed.append(packet)
        return send(self, packet)

    return spied


def test_lying_key_flags_are_found_out():
    data = encode("mpeg4", options={"g": "60"})

    def lie(_number, packet):
        packet.is_keyframe = True
        return packet

    assert numbers(only(copy(data, lie))) == [0, 25, 50]


def test_variable_frame_rates_and_gaps():
    data = encode("mpeg4", frames=7, times=[0, 40, 80, 1500, 1540, 2600, 3990])
    assert numbers(only(data)) == [0, 2, 4, 5, 6]


def test_a_picture_that_never_changes_makes_no_clip():
    data = encode("mpeg4", frames=3, times=[0, 40, 60_000])
    found = sample(data)
    assert [(clip.start_s, clip.end_s) for clip in found] == [(0.0, 20.0), (40.0, 60.04)]
    assert refusal(encode("mpeg4", frames=3, times=[0, 3100, 3140])) == timeline.STILL


def test_long_videos_are_divided_evenly_and_many_clips_are_spread():
    data = encode("mpeg4", draw=lambda number: shade(number % 80), frames=130, rate=2)
    found = sample(data)
    assert [(clip.start_s, clip.end_s, len(clip.frames)) for clip in found] == [
        (0.0, 21.0, 21),
        (21.0, 43.0, 22),
        (43.0, 65.0, 22),
    ]
    assert [clip.start_s for clip in sample(data, max_clip_s=10, max_clips=3)] == [0.0, 18.0, 37.0]
    assert sample(data, max_clip_s=10, max_clips=3)[1].frames[0][0].url.endswith("#t=18")


@pytest.mark.parametrize("shift", [-100_000, -3, 0, 7, 2**40])
def test_times_may_begin_anywhere(shift):
    def move(_number, packet):
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        return packet

    data = encode("libx264", options=H264)
    clip = only(copy(data, move, "mpegts" if abs(shift) < 2**32 else "matroska"))
    assert numbers(clip) == [0, 25, 50]
    assert clip.start_s == 0.0


def test_a_missing_first_key_frame_costs_what_depends_on_it():
    data = encode("mpeg4", options={"g": "20"})
    clip = only(copy(data, lambda number, packet: packet if number else None))
    assert numbers(clip) == [20, 45, 70]
    assert refusal(copy(data, lambda number, packet: packet if number % 20 else None)) == media.CORRUPT


def test_no_frames():
    data = encode("mpeg4")
    assert refusal(copy(data, lambda *_: None)) == timeline.NO_VIDEO_STREAM  # MP4 has no track without frames
    for format in ("matroska", "avi"):
        assert refusal(copy(data, lambda *_: None, format)) == timeline.NO_FRAMES


def test_headers_are_not_believed():
    data = encode("mpeg4")
    at = data.index(b"mvhd") + 20
    ten_hours = (36_000_000).to_bytes(4, "big")
    assert numbers(only(data[:at] + ten_hours + data[at + 4 :])) == [0, 25, 50]
    assert refusal(encode("mpeg4", frames=3, times=[0, 1000, 36_000_000])) == timeline.TOO_LONG
    assert refusal(data, max_frames=74) == timeline.TOO_MANY_FRAMES


def test_tables_that_would_fill_the_memory():
    data = encode("mpeg4")
    at = data.index(b"stsz") + 8
    assert refusal(data[:at] + bytes.fromhex("00000001f0000000") + data[at + 8 :]) == timeline.TOO_MANY_FRAMES
    at = data.index(b"stts") + 12
    assert refusal(data[:at] + b"\xf0" + data[at + 1 :]) == timeline.TOO_MANY_FRAMES
    assert refusal(data.replace(b"udta", b"cmov")) == media.UNSUPPORTED_FORMAT


def test_8k_frames():
    data = encode("mpeg4", draw=lambda _: np.zeros((4320, 7680, 3), np.uint8), frames=1, rate=1)
    assert refusal(data) == media.TOO_MANY_PIXELS
    assert refusal(encode("libvpx", "webm", options=VP8), max_pixels=64 * 48 - 1) == media.TOO_MANY_PIXELS
    assert refusal(encode("mpeg4"), max_side_px=63) == media.SIDE_TOO_LONG


@pytest.mark.parametrize("turn", list(itertools.product((0, 90, 180, 270), (False, True), (False, True))))
def test_frames_come_upright(turn):
    clip = only(encode("mpeg4", draw=quarters, turn=turn))
    degrees, across, down = turn
    matrix = np.zeros((48, 64, 3)) + quarters(0)
    expected = np.rot90(matrix, degrees // 90)
    expected = expected[:, ::-1] if across else expected
    expected = expected[::-1] if down else expected
    shown = np.asarray(picture(clip.frames[0][1]))
    assert shown.shape == expected.shape
    assert (clip.height_px, clip.width_px) == expected.shape[:2]
    for row, column in itertools.product((8, -8), (8, -8)):
        assert near(shown[row, column], expected[row, column])


def test_pixels_that_are_not_square():
    assert only(encode("mpeg4", sample_aspect_ratio=Fraction(2))).width_px == 128
    assert only(encode("mpeg4", sample_aspect_ratio=Fraction(1, 2))).height_px == 96
    assert only(encode("mpeg4", sample_aspect_ratio=Fraction(200))).width_px == 64


def test_sizes_as_stored():
    row, _ = only(
        encode("mpeg4", draw=lambda number: shade(number).repeat(3, 0).repeat(3, 1)), short_side_px=99
    ).frames[0]
    assert (row.width_px, row.height_px, row.stored_width_px, row.stored_height_px) == (192, 144, 132, 99)
    odd = only(encode("mpeg4", draw=lambda number: shade(number)[:45, :61]))
    assert (odd.width_px, odd.height_px) == (61, 45)


@pytest.mark.parametrize(
    ("codec", "format", "pixels", "matrix", "context"),
    [
        ("libx264", "mp4", "yuv420p", 1, {"colorspace": 1, "color_range": 1}),
        ("libx264", "mp4", "yuv420p", 5, {"colorspace": 5, "color_range": 1}),
        ("libx264", "mp4", "yuv420p", 9, {"colorspace": 9, "color_range": 1}),
        ("libx264", "mp4", "yuvj420p", 5, {"color_range": 2}),
        ("libx264", "mp4", "yuv420p10le", 1, {"colorspace": 1}),
        ("libx264", "mp4", "yuv444p", 1, {"colorspace": 1}),
        ("libx264", "mp4", "yuv420p", 5, {}),
        ("libvpx-vp9", "webm", "yuva420p", 5, {}),
    ],
)
def test_colours(codec, format, pixels, matrix, context):
    clip = only(encode(codec, format, draw=quarters, pixels=pixels, matrix=matrix, **context))
    shown = np.asarray(picture(clip.frames[0][1]))
    for row, column in itertools.product((8, -8), (8, -8)):
        assert near(shown[row, column], quarters(0)[row, column], 6)


def test_interlaced_frames_give_one_field():
    def comb(number):
        lines = np.where(np.arange(48) % 2, 40, 200 - number).astype(np.uint8)
        return np.broadcast_to(lines[:, None, None], (48, 64, 3)).copy()

    data = encode("libx264", draw=comb, options=H264 | {"x264-params": "tff=1", "crf": "5"})
    for number, (_, stored) in enumerate(only(data).frames):
        assert near(picture(stored), 200 - 25 * number, 8)


@pytest.mark.parametrize(("transfer", "paper"), [(ColorTrc.SMPTE2084, 148), (ColorTrc.ARIB_STD_B67, 191)])
def test_high_dynamic_range(transfer, paper):
    greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    shown = frames.to_sdr(greys, transfer)
    assert (np.diff(shown.astype(int), axis=0) >= 0).all()
    assert np.ptp(shown, axis=1).max() <= 1  # grey stays grey
    assert (shown[0, 0], shown[255, 0]) == (0, 255)
    assert 238 <= shown[paper, 0] <= 248  # white paper is nearly white, and what shines has room above it
    red = frames.to_sdr(np.array([[paper, 64, 64]], np.uint8), transfer)[0]
    assert red[0] > 200
    assert red[1] < 60


def test_streams():
    assert refusal(sound_and(None)) == timeline.NO_VIDEO_STREAM
    assert refusal(sound_and(av.stream.Disposition.attached_pic)) == timeline.NO_VIDEO_STREAM
    assert refusal(sound_and(av.stream.Disposition.default)) == timeline.TOO_SHORT
    assert numbers(only(two_streams())) == [0, 25, 50]
    assert refusal(encode("ffv1", "matroska")) == timeline.UNSUPPORTED_CODEC


def sound_and(disposition):
    """Write a sound, and a picture with a disposition."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        if disposition is not None:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 48, "yuvj420p", disposition
            frame = av.VideoFrame.from_ndarray(quarters(0), format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = 0, Fraction(1)
            packets = [*cover.encode(frame), *cover.encode(None)]
            container.mux(packets)
        container.mux([*sound.encode(silence), *sound.encode(None)])
    return file.getvalue()


def two_streams():
    """Write a stream of white frames first, and a stream of shades that is the default one."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        streams = [container.add_stream("mpeg4", rate=25, options=SHARP) for _ in range(2)]
        for stream, disposition in zip(streams, (0, av.stream.Disposition.default), strict=True):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = 64, 48, "yuv420p", disposition
        for number in range(75):
            for stream, drawn in zip(streams, (np.full((48, 64, 3), 255, np.uint8), shade(number)), strict=True):
                frame = av.VideoFrame.from_ndarray(drawn, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return file.getvalue()


def test_what_names_other_files_is_no_video(tmp_path):
    target = tmp_path / "v.mp4"
    target.write_bytes(encode("mpeg4"))
    lists = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"concat:{target}",
        f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        str(target),
        "<html>",
    )
    for text in lists:
        assert refusal(text.encode()) == timeline.NOT_A_VIDEO
        with (
            pytest.raises(av.error.FFmpegError),
            av.open(timeline.Reader(text.encode(), 9), options={"protocol_whitelist": "none"}),
        ):
            pass
    assert refusal(b"") == media.EMPTY
    assert refusal(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" * 9) == media.UNSUPPORTED_FORMAT
    assert refusal(target.read_bytes(), max_bytes=100) == media.TOO_MANY_BYTES


def test_short_and_slow_videos():
    data = encode("mpeg4")
    assert refusal(data, min_clip_s=3.1) == timeline.TOO_SHORT
    assert numbers(only(data, min_clip_s=3.0)) == [0, 25, 50]
    assert refusal(data, max_decode_s=0.0) == timeline.TOO_SLOW


def test_a_late_video_gives_no_clip(monkeypatch):
    calls = iter(range(10_000))
    monkeypatch.setattr(timeline.Reader, "is_late", lambda _: next(calls) > 100)
    assert refusal(encode("mpeg4", frames=130, rate=2, draw=lambda number: shade(number % 80))) == timeline.TOO_SLOW


@pytest.mark.parametrize(
    ("codec", "format", "options", "container_options", "reason"),
    [
        ("libx264", "mp4", H264, {}, media.TRUNCATED),
        ("libx264", "mp4", H264, {"movflags": "frag_keyframe+empty_moov"}, media.TRUNCATED),
        ("libvpx", "webm", VP8, {}, media.TRUNCATED),
        ("libx264", "mpegts", H264, {}, ""),
    ],
)
def test_truncated_at_every_place(codec, format, options, container_options, reason):
    data = encode(codec, format, options=options, container_options=container_options)
    outcomes = set()
    for length in range(0, len(data), max(1, len(data) // 90)):
        found = sample(data[:length])
        outcomes.add(" and ".join("clip" if isinstance(part, Clip) else part.reason for part in found))
        if isinstance(found[0], Clip):
            assert numbers(found[0]) == [0, 25, 50][: len(found[0].frames)]
    if container_options or format == "webm":
        assert f"clip and {reason}" in outcomes
    assert outcomes <= {
        f"clip and {reason}" if reason else "clip",
        reason or timeline.TOO_SHORT,
        timeline.NO_FRAMES if format in ("mpegts", "webm") else reason,
        timeline.NOT_A_VIDEO if format == "mpegts" else timeline.NO_VIDEO_STREAM,
        media.CORRUPT if format in ("mpegts", "webm") else timeline.UNSUPPORTED_CODEC,
        media.EMPTY,
    }


@pytest.mark.parametrize(("codec", "format", "options"), KINDS[:1] + KINDS[3:5] + KINDS[6:7])
def test_damaged_bytes_raise_nothing(codec, format, options):
    data, chance = encode(codec, format, options=options), random.Random(1)
    for round in range(60):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 4, 16))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        sample(bytes(damaged), (FRAMES, CLIPS)[round % 2])


def test_damage_in_the_middle_costs_its_clips():
    data = encode("libx264", draw=noise, options=H264 | {"sc_threshold": "0"})
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        middle = next(packet for packet in packets[1:] if packet.is_keyframe)
        at, size = middle.pos, middle.size
    found = sample(data[:at] + bytes(size) + data[at + size :], max_clip_s=1, min_clip_s=0.5)
    assert [getattr(part, "start_s", "") for part in found] == [0.0, 2.0, ""]
    assert found[-1].reason == media.CORRUPT


def test_same_bytes_in_same_bytes_out(tmp_path):
    path = tmp_path / "v.mp4"
    for config, data in itertools.product(
        (FRAMES, CLIPS), (encode("libx264", draw=noise, options=H264), b"", b"no video")
    ):
        path.write_bytes(data)
        once, again, by_path = (list(sample_clips(URL, given, config, MEDIA)) for given in (data, data, path))
        assert once == again == by_path


def decode(data):
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("codec", "format", "options"), [*KINDS[:3], KINDS[5], ("mpeg4", "mp4", {})])
def test_cut_clips_hold_the_same_frames(codec, format, options):
    data = encode(codec, format, options=options | {"g": "25"})
    found = sample(data, CLIPS, max_clip_s=1.5, min_clip_s=0.5)
    assert [clip.fps for clip in found] == [25.0] * 3
    whole, parts = decode(data), [decode(clip.data) for clip in found]
    assert [shade for part in parts for _, shade in part] == [shade for _, shade in whole]
    for clip, part in zip(found, parts, strict=True):
        assert part[0][0] == 0.0
        assert part[-1][0] == pytest.approx(clip.end_s - clip.start_s - 0.04, abs=0.002)
        assert len(clip.frames) == 1
    assert [numbers(clip) for clip in found] == [[0], [25], [50]]


def test_where_key_frames_are_too_far_apart_the_rest_is_left_out():
    found = sample(encode("mpeg4", options={"g": "40"}), CLIPS, max_clip_s=1, min_clip_s=0.5)
    assert [(clip.start_s, clip.end_s, len(decode(clip.data))) for clip in found] == [(0.0, 1.0, 25), (1.6, 2.6, 25)]


def test_a_cut_clip_keeps_turn_and_shape():
    clip = only(encode("mpeg4", draw=quarters, turn=(90, False, False), sample_aspect_ratio=Fraction(2)), CLIPS)
    again = only(clip.data, FRAMES)
    assert (again.width_px, again.height_px) == (clip.width_px, clip.height_px) == (48, 128)
    assert again.frames[0][1] == clip.frames[0][1]


def test_what_mp4_cannot_hold_is_kept_as_frames():
    clip = only(encode("libvpx", "webm", options=VP8), CLIPS)
    assert (numbers(clip), clip.data) == ([0, 25, 50], b"")


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": "all"},
        {"fps": 0.0},
        {"min_clip_s": 30.0},
        {"max_clip_s": 0.5, "min_clip_s": 0.1},
        {"max_clips": 0},
        {"fps": 60.0},
    ],
)
def test_config_says_what_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VideoConfig(**wrong)
