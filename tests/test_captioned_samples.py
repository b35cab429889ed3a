"""Pairs and clips survive their trip through tar members, and what is none of them is refused by what is wrong."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import SCHEMA_VERSION
from schemas.document import Said
from schemas.page import Origin, key_of
from schemas.pair import PAIR_FIELDS, ImageText, Part, pair_from_members, pair_to_members
from schemas.video import (
    VIDEO_FIELDS,
    VideoText,
    clip_key,
    video_from_members,
    video_part_names,
    video_to_members,
)

HARD_TEXTS = ["", "\0", "\x1b[31m\r\n\t\x7f", "\u202eabc\u2066", "\U0001f9a9\U0010ffff", "\ufeff\ufffe\u2028e\u0301"]
TEXTS = st.one_of(st.sampled_from(HARD_TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
LONGS = st.integers(0, 2**63 - 1)
TIMES = st.one_of(st.none(), st.datetimes(datetime.min, datetime.max, timezones=st.just(UTC)))
SECONDS = st.one_of(st.integers(0, 10**6), st.floats(0, 1e9))
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([b"", bytes(511), bytes(512), bytes(513)]))
quick = settings(max_examples=60, deadline=None)


def parts(format):
    size = st.integers(0, 2**31 - 1)
    return st.builds(Part, TEXTS, TEXTS, st.just(format), size, size, DATA)


SAID = st.lists(st.builds(Said, TEXTS, TEXTS), max_size=4).map(tuple)
KNOWN = {
    "key": TEXTS.map(key_of),
    "url": TEXTS,
    "page_url": TEXTS,
    "text": TEXTS,
    "kind": TEXTS,
    "texts": SAID,
    "language": TEXTS,
    "licence": TEXTS,
    "origin": st.builds(Origin, TEXTS, LONGS, LONGS),
    "fetched": TIMES,
}
PAIRS = st.builds(ImageText, **KNOWN, picture=parts("jpeg"))
FRAMES = st.lists(parts("jpeg"), min_size=1, max_size=4).map(tuple)
VIDEOS = st.builds(
    VideoText,
    **KNOWN,
    start_s=SECONDS,
    end_s=SECONDS,
    fps=SECONDS,
    parts=st.one_of(FRAMES, st.tuples(parts("mp4"))),
)
JPEG = Part("ab", "cd", "jpeg", 3, 2, b"JPEG")
MP4 = Part("ef", "", "mp4", 640, 360, b"MP4")
TOLD = (Said("alt", "a heron"), Said("figcaption", "A heron."))
PAIR = ImageText("0" * 24, "http://a/i", "http://a/", "A heron.", "figcaption", TOLD, JPEG, "en", "", Origin("f", 7, 9))
CLIP = VideoText(
    "1" * 24, "http://a/v", "http://a/", "A heron.", "cues", TOLD, 0.0, 2.0, 1.0, (JPEG, JPEG), "en", "", Origin("f", 7)
)


@quick
@given(PAIRS)
def test_pairs_round_trip_through_members(pair):
    members = pair_to_members(pair)
    assert pair_from_members(members) == pair
    assert pair_from_members(reversed(members)) == pair
    assert pair_to_members(pair_from_members(members)) == members
    assert [name for name, _ in members] == ["jpg", "json", "txt"]


@quick
@given(VIDEOS)
def test_clips_round_trip_through_members(clip):
    members = video_to_members(clip)
    assert video_from_members(members) == clip
    assert video_from_members(reversed(members)) == clip
    assert video_to_members(video_from_members(members)) == members
    assert [name for name, _ in members] == sorted(name for name, _ in members)


@quick
@given(st.one_of(PAIRS, VIDEOS))
def test_the_json_of_every_sample_has_the_same_names_and_types(sample):
    """A reader that takes its columns from the first samples must be right about all others."""
    write, known = (pair_to_members, PAIR) if isinstance(sample, ImageText) else (video_to_members, CLIP)
    header, expected = (json.loads(dict(write(one))["json"]) for one in (sample, known))
    assert shape(header) <= shape(expected)
    fields = PAIR_FIELDS if isinstance(sample, ImageText) else VIDEO_FIELDS
    assert header.keys() == {"schema", "kind", *fields}


def shape(value, name=""):
    """Name every value in a tree, with its type."""
    if isinstance(value, dict):
        return {item for key, inner in value.items() for item in shape(inner, f"{name}.{key}")}
    if isinstance(value, list):
        return {item for inner in value for item in shape(inner, f"{name}[]")}
    return {(name, type(value).__name__)}


def test_what_readers_of_downloaded_pairs_look_for():
    members = dict(pair_to_members(PAIR))
    header = json.loads(members["json"])
    looked_for = ("key", "url", "caption", "width", "height", "sha256")
    assert [header[name] for name in looked_for] == [PAIR.key, PAIR.url, "A heron.", 3, 2, "ab"]
    assert header["texts"] == [{"kind": "alt", "text": "a heron"}, {"kind": "figcaption", "text": "A heron."}]
    assert members["txt"] == b"A heron."


def test_a_clip_is_named_by_what_it_is_of():
    assert clip_key("http://a/v", 8, 20.5) == key_of("http://a/v#t=8.000,20.500")
    assert clip_key("http://a/v", 8, 20.5) != clip_key("http://a/v", 8, 20.501)


def test_frames_are_named_in_their_order():
    assert video_part_names([MP4]) == ["mp4"]
    names = video_part_names([JPEG] * 1000)
    assert (names[0], names[-1]) == ("000.jpg", "999.jpg")
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ((), "not 0 parts of nothing"),
        ((JPEG, MP4), "not 2 parts of jpeg, mp4"),
        ((MP4, MP4), "not 2 parts of mp4"),
        ((JPEG,) * 1001, "not 1001 parts of jpeg"),
    ],
)
def test_what_is_no_clip_cannot_be_written(wrong, told):
    with pytest.raises(ValueError, match=told):
        video_to_members(dataclasses.replace(CLIP, parts=wrong))


def test_what_is_no_pair_cannot_be_written():
    with pytest.raises(ValueError, match=r"the picture of pair 0+ is mp4, not jpeg"):
        pair_to_members(dataclasses.replace(PAIR, picture=MP4))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        pair_to_members(dataclasses.replace(PAIR, text="a\ud800b"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        video_to_members(dataclasses.replace(CLIP, end_s=float("inf")))


def changed(members, **changes):
    """Change fields of the JSON among members; `None` takes a field away."""
    found = dict(members)
    header = {name: value for name, value in (json.loads(found["json"]) | changes).items() if value is not None}
    return list((found | {"json": json.dumps(header).encode()}).items())


def part_row(**changes):
    return json.loads(dict(pair_to_members(PAIR))["json"])["parts"][0] | changes


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], r"no json member among \[\]"),
        (pair_to_members(PAIR)[1:], f"sample {PAIR.key} lacks its members jpg"),
        (pair_to_members(PAIR)[:2], f"sample {PAIR.key} lacks its members txt"),
        ([*pair_to_members(PAIR)[:2], ("txt", b"Another.")], f"text of sample {PAIR.key} is not the caption"),
        ([*pair_to_members(PAIR)[:2], ("txt", b"\xff")], "decode"),
        ([("jpg", b"JPE"), *pair_to_members(PAIR)[1:]], "member jpg has 3 bytes, its sample says 4"),
        (changed(pair_to_members(PAIR), schema=99), f"sample schema 99, this version reads {SCHEMA_VERSION}"),
        (video_to_members(CLIP), "sample kind 'videos', expected 'pairs'"),
        (changed(pair_to_members(PAIR), parts=[]), "is not one jpeg with its text"),
        (changed(pair_to_members(PAIR), parts=[part_row(format="png")]), "is not one jpeg with its text"),
        *((changed(pair_to_members(PAIR), **{name: None}), f"lacks its fields {name}") for name in PAIR_FIELDS),
    ],
)
def test_a_broken_pair_is_refused_by_what_is_wrong(members, message):
    with pytest.raises(ValueError, match=message):
        pair_from_members(members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (video_to_members(CLIP)[1:], "lacks its members 000.jpg"),
        (pair_to_members(PAIR), "sample kind 'pairs', expected 'videos'"),
        (changed(video_to_members(CLIP), parts=[part_row(name="001.jpg")]), "names its parts in another way"),
        (changed(video_to_members(CLIP), parts=[]), "not 0 parts of nothing"),
        *((changed(video_to_members(CLIP), **{name: None}), f"lacks its fields {name}") for name in VIDEO_FIELDS),
    ],
)
def test_a_broken_clip_is_refused_by_what_is_wrong(members, message):
    with pytest.raises(ValueError, match=message):
        video_from_members(members)
