"""Samples of every layout that is in use, whole, damaged and hostile."""

import base64
import io
import json
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flamingo_model import samples
from flamingo_model.samples import LAYOUTS, BadSample, Medium, Sample, read_sample, sniff_layout
from flamingo_model.tiff import BadTiff, split_pages
from schemas.document import Said
from schemas.page import Origin
from schemas.pair import ImageText, Part, pair_to_members
from schemas.sample import Interleaved, Picture, to_members
from schemas.video import VideoText, video_to_members

CONSTANTS = {value for name, value in vars(samples).items() if isinstance(value, str) and name.lower() == value}
REASONS = CONSTANTS - {samples.INTERLEAVED}
JPEG, PNG, WEBP, MP4 = b"\xff\xd8one", b"\x89PNGtwo", b"RIFFthree", b"\0\0\0\x18ftyp"
CAPTION = "A heron in the reeds, né à l'aube"


def as_json(tree):
    return json.dumps(tree).encode()


def ours(images=(JPEG, PNG), items=("First.", 0, "Then.", 1, 0)):
    pictures = tuple(Picture(f"http://a/{n}", "alt", "", "", "", "jpeg", 9, 9, data) for n, data in enumerate(images))
    written = to_members(Interleaved("k", "http://a", "t", "en", items, pictures, Origin("f", 1)))
    return dict(written)


def said(parts, kind=ImageText):
    known = {"key": "k", "url": "u", "page_url": "p", "text": CAPTION, "kind": "alt", "texts": (Said("alt", CAPTION),)}
    known |= {"language": "en", "licence": "", "origin": Origin("f", 1), "fetched": datetime(2024, 1, 2, tzinfo=UTC)}
    if kind is ImageText:
        return dict(pair_to_members(ImageText(picture=parts[0], **known)))
    return dict(video_to_members(VideoText(parts=parts, start_s=0, end_s=2, fps=2, **known)))


def part(data, format="jpeg"):
    return Part("", "", format, 9, 9, data)


def tiff(sizes=((5, 4), (3, 7)), **options):
    """Write pages of noise, as large as `sizes`."""
    pages = [Image.frombytes("RGB", size, Random(1).randbytes(3 * size[0] * size[1])) for size in sizes]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], **options)
    return stream.getvalue()


MMC4 = {
    "text_list": ["One.", "Two.", "", "Three."],
    "image_info": [
        {"image_name": "x", "matched_text_index": 3, "image_base64": base64.b64encode(JPEG).decode()},
        {"image_name": "gone", "matched_text_index": 0},
        {"image_name": "y", "matched_text_index": 1, "image_base64": str(base64.b64encode(PNG))},
    ],
    "similarity_matrix": [[0.1, 0.2, 0, 0.3], [1, 0, 0, 0], [0.1, 0.3, 0.2, 0.0]],
}
M4 = {
    "0.text.txt": b"First.",
    "1.image.jpg": JPEG,
    "3.image.png": PNG,
    "10.text.txt": b" Last.\n",
    "metadata.txt": b"k.0.text.txt\nk.1.image.jpg\na/b/k.3.image.png\nk.10.text.txt",
}
LISTS = {"texts": [None, "Said.", None, " ", None], "images": ["2345ew.jpg", None, "b.PNG", None, "2345ew.jpg"]}
ENERGON = {"b.PNG": PNG, "2345ew.jpg": JPEG, "json": as_json(LISTS)}
TIFF = tiff()
MINT = {"json": as_json({"texts": [None, "Said.", None], "images": ["page_0_image_85", None, "page_0_image_85"]})}
MINT["tiff"] = TIFF
I2D = as_json({"caption": CAPTION, "url": "u", "key": "0", "status": "success", "width": 9, "exif": "{}"})
JPEG_PART, PNG_PART = Medium((JPEG,), "image"), Medium((PNG,), "image")
PAIR = Sample("k", (0, CAPTION), (JPEG_PART,))

WHOLE = [
    ("interleaved", ours(), Sample("k", ("First.", 0, "Then.", 1, 2), (JPEG_PART, PNG_PART, JPEG_PART))),
    ("interleaved", ENERGON, Sample("k", (0, "Said.", 1, 2), (JPEG_PART, PNG_PART, JPEG_PART))),
    (
        "interleaved",
        {"json": as_json({"texts": [None, "Said."], "images": ["v.mp4", None]}), "v.mp4": MP4},
        Sample("k", (0, "Said."), (Medium((MP4,), "video"),)),
    ),
    ("mmc4", {"json": as_json(MMC4)}, Sample("k", ("One.", 1, "Two.", 0, "Three."), (JPEG_PART, PNG_PART))),
    ("m4", M4, Sample("k", ("First.", 0, 1, "Last."), (JPEG_PART, PNG_PART))),
    (
        "mint",
        MINT,
        Sample("k", (0, "Said.", 1), tuple(Medium((page,), "image") for page in split_pages(TIFF, 2))),
    ),
    ("pair", said((part(JPEG),)), PAIR),
    ("pair", {"jpg": JPEG, "json": I2D, "txt": CAPTION.encode()}, PAIR),
    ("pair", {"jpg": JPEG, "json": I2D}, PAIR),
    ("pair", {"jpeg": JPEG, "txt": f" {CAPTION}\n".encode()}, PAIR),
    ("pair", {"JPG": JPEG, "txt": CAPTION.encode()}, PAIR),
    ("pair", {"png": PNG, "json": as_json({"TEXT": CAPTION})}, Sample("k", (0, CAPTION), (PNG_PART,))),
    ("pair", {"webp": WEBP, "json": as_json({"caption": None, "text": "x"})},
     Sample("k", (0, "x"), (Medium((WEBP,), "image"),))),
    ("video", said((part(JPEG), part(PNG)), VideoText),
     Sample("k", (0, CAPTION), (Medium((JPEG, PNG), "frames", 2.0),))),
    ("video", said((part(MP4, "mp4"),), VideoText), Sample("k", (0, CAPTION), (Medium((MP4,), "video", 2.0),))),
    ("video", {"mp4": MP4, "json": I2D, "txt": CAPTION.encode()},
     Sample("k", (0, CAPTION), (Medium((MP4,), "video"),))),
    (
        "video",
        {**{f"{n}.jpg": bytes([n]) for n in range(1, 12)}, "txt": b"x"},
        Sample("k", (0, "x"), (Medium(tuple(bytes([n]) for n in range(1, 12)), "frames"),)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "members", "sample"), WHOLE)
def test_a_sample_of_every_layout_is_read(layout, members, sample):
    assert read_sample(members, "k", layout) == sample
    assert sniff_layout(members) == layout


@pytest.mark.parametrize(("layout", "members", "sample"), WHOLE)
def test_members_may_be_views_of_a_shard_beside_entries_of_webdataset(layout, members, sample):
    views = {name: memoryview(data) for name, data in members.items()}
    assert read_sample({**views, "__key__": "k", "__url__": "u", "__visit__": 3}, "k", layout) == sample


def test_media_are_not_copied():
    for layout, members, _ in WHOLE:
        if layout not in ("mmc4", "mint"):
            given = {id(data) for data in members.values()}
            read = read_sample(members, "k", layout)
            assert all(id(data) in given for medium in read.media for data in medium.data)


def test_the_json_of_a_pair_with_a_text_is_not_parsed():
    assert read_sample({"jpg": JPEG, "txt": b"said", "json": b"{"}, "k", "pair").items == (0, "said")


def test_an_image_of_mmc4_stands_where_it_fits_best():
    info = [
        {name: value for name, value in image.items() if name != "matched_text_index"} for image in MMC4["image_info"]
    ]
    read = read_sample({"json": as_json({**MMC4, "image_info": info})}, "k", "mmc4")
    assert read.items == ("One.", 1, "Two.", 0, "Three.")


def without(members, *names):
    return {name: data for name, data in members.items() if name not in names}


def changed(members, **fields):
    """Change fields of the JSON; None leaves a field out."""
    tree = {**json.loads(members["json"]), **fields}
    return {**members, "json": as_json({name: value for name, value in tree.items() if value is not None})}


def info(**fields):
    return {"json": as_json({**MMC4, "image_info": [{**MMC4["image_info"][0], **fields}]})}


DEEP = b'{"texts":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
DAMAGED = [
    ("interleaved", without(ours(), "m001.jpg"), "missing_part"),
    ("interleaved", {**ours(), "m001.jpg": PNG[:-1]}, "short_part"),
    ("interleaved", {**ours(), "m001.jpg": b""}, "missing_part"),
    ("interleaved", without(ENERGON, "b.PNG"), "missing_part"),
    ("interleaved", {**ENERGON, "b.PNG": b""}, "empty_part"),
    ("interleaved", without(ours(), "json"), "missing_part"),
    ("interleaved", changed(ours(), schema=99), "other_schema"),
    ("interleaved", changed(ours(), parts=3), "bad_parts"),
    ("interleaved", changed(ours(), parts=[{"name": "m000.jpg"}]), "bad_parts"),
    ("interleaved", changed(ours(), parts=[{"name": "__visit__", "bytes": 1}]) | {"__visit__": 3}, "missing_part"),
    ("interleaved", changed(ENERGON, texts=["one too few"]), "bad_items"),
    ("interleaved", changed(ENERGON, texts=["both"] * 5), "bad_items"),
    ("interleaved", changed(ENERGON, texts=[None, 5, None, None, None]), "bad_items"),
    ("interleaved", changed(ENERGON, images=[{}, None, None, None, None]), "bad_items"),
    ("interleaved", changed(ENERGON, texts=[None, " ", None, None, None]), "no_text"),
    ("interleaved", changed(ENERGON, texts=[None, "\ud800", None, None, None]), "bad_text"),
    ("interleaved", changed(ENERGON, texts=["x", None], images=[None, "__key__"]) | {"__key__": "k"}, "unknown_part"),
    ("interleaved", changed(ENERGON, texts=["a"] * 10_001, images=[None] * 10_001), "too_many_items"),
    ("interleaved", {**ENERGON, "json": b"\xff"}, "bad_text"),
    ("interleaved", {**ENERGON, "json": b"[]"}, "bad_json"),
    ("interleaved", {**ENERGON, "json": DEEP}, "bad_json"),
    ("interleaved", {**ENERGON, "json": b'{"texts":[' + b"9" * 5000 + b"]}"}, "bad_json"),
    ("interleaved", {**ENERGON, "json": b" " * (8 << 20) + b"{}"}, "json_too_large"),
    ("interleaved", {**ENERGON, "json": b'{"a":[' + b"[]," * (1 << 20) + b"[]]}"}, "json_too_large"),
    ("mmc4", info(image_base64="/9j*"), "bad_base64"),
    ("mmc4", info(image_base64="/9j"), "bad_base64"),
    ("mmc4", info(image_base64="/9j/\n"), "bad_base64"),
    ("mmc4", info(image_base64="é"), "bad_base64"),
    ("mmc4", info(image_base64=3), "bad_base64"),
    ("mmc4", info(image_base64=""), "empty_part"),
    ("mmc4", info(matched_text_index=4), "bad_items"),
    ("mmc4", info(matched_text_index=True), "bad_items"),
    ("mmc4", {"json": as_json({**MMC4, "text_list": {"0": "a"}})}, "bad_items"),
    ("mmc4", {"json": as_json({**MMC4, "image_info": ["a"]})}, "bad_items"),
    ("mmc4", {"json": as_json({**MMC4, "text_list": [1, 2, 3, 4]})}, "bad_items"),
    ("m4", without(M4, "metadata.txt"), "missing_part"),
    ("m4", without(M4, "3.image.png"), "missing_part"),
    ("m4", {**M4, "4.video.mp4": MP4}, "unknown_part"),
    ("m4", {**M4, "01.image.jpg": JPEG}, "bad_items"),
    ("m4", {**M4, "0.text.txt": b"\xff"}, "bad_text"),
    ("m4", {**M4, "0.text.txt": b"a" * (8 << 20)}, "text_too_long"),
    ("m4", {**M4, **{f"{n}.text.txt": b"a" for n in range(20, 10_020)}}, "too_many_items"),
    ("mint", without(MINT, "tiff"), "missing_part"),
    ("mint", {**MINT, "tiff": TIFF[:60]}, "bad_tiff"),
    ("mint", {**MINT, "tiff": tiff(((2, 2),))}, "pages_differ"),
    ("pair", {"txt": b"said", "json": I2D}, "no_media"),
    ("pair", {"jpg": b"", "txt": b"said"}, "empty_part"),
    ("pair", {"jpg": JPEG}, "missing_part"),
    ("pair", {"jpg": JPEG, "txt": b" \n"}, "no_text"),
    ("pair", {"jpg": JPEG, "txt": b"\xc3"}, "bad_text"),
    ("pair", {"jpg": JPEG, "txt": b"a" * 70_000}, "text_too_long"),
    ("pair", {"jpg": JPEG, "json": as_json({"caption": "a" * 70_000})}, "text_too_long"),
    ("pair", {"jpg": JPEG, "json": as_json({"url": "u"})}, "no_text"),
    ("pair", {"jpg": JPEG, "json": as_json({"caption": ["a"]})}, "bad_items"),
    ("video", {"txt": b"said"}, "no_media"),
    ("video", {"000.jpg": JPEG, "002.jpg": JPEG, "txt": b"said"}, "missing_part"),
    ("video", {"000.jpg": JPEG, "0.jpg": JPEG, "txt": b"said"}, "missing_part"),
    ("video", {**{f"{n}.jpg": JPEG for n in range(1001)}, "txt": b"said"}, "too_many_items"),
    ("video", without(said((part(JPEG), part(PNG)), VideoText), "001.jpg"), "missing_part"),
    ("video", {**said((part(MP4, "mp4"),), VideoText), "mp4": MP4[:-1]}, "short_part"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "members", "reason"), DAMAGED)
def test_what_is_wrong_with_a_sample_has_one_reason(layout, members, reason):
    with pytest.raises(BadSample) as caught:
        read_sample(members, "the\nkey", layout)
    assert caught.value.reason == reason
    assert reason in REASONS
    assert str(caught.value).startswith(f"sample 'the\\nkey': {reason}: ")
    assert "\n" not in str(caught.value)


def test_every_reason_is_shown():
    assert REASONS - {reason for _, _, reason in DAMAGED} == {"unknown_layout"}
    with pytest.raises(BadSample, match=r"unknown_layout: .* 'cls', 'npy'$"):
        sniff_layout({"cls": b"3", "npy": b"", "__key__": b"k"})
    with pytest.raises(ValueError, match="layout 'parquet' is none of interleaved, mmc4"):
        read_sample({}, "k", "parquet")


@pytest.mark.parametrize("fps", [True, "2", -1, 0, 1e9, float("nan"), float("inf"), 10**400, [2]])
def test_a_rate_that_is_none_is_not_known(fps):
    assert read_sample({"mp4": MP4, "txt": b"said", "json": as_json({"fps": fps})}, "k", "video").media[0].fps == 0


# Hostile samples: whatever is in them, a sample that keeps its promises or a reason

WORDS = ["texts", "images", "parts", "name", "bytes", "text_list", "image_info", "image_base64", "matched_text_index",
         "similarity_matrix", "caption", "TEXT", "fps", "kind", "schema", "m000.jpg", "000.jpg", "jpg", "mp4", "/9j/",
         "interleaved", "__key__", "\ud800", ""]  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 9), st.sampled_from(WORDS), st.floats(allow_nan=True), st.text(max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)),
    max_leaves=12,
)
PARTS = ["jpg", "JPEG", "png", "webp", "mp4", "webm", "tiff", "txt", "m000.jpg", "000.jpg", "1.png", "0.text.txt",
         "1.image.jpg", "1.image.txt", "metadata.txt", "", ".", "v.mp4"]  # fmt: skip
DATA = st.one_of(st.binary(max_size=8), st.sampled_from([JPEG, b"k.1.image.jpg", b"said", TIFF, TIFF[:50]]))


@st.composite
def hostile_members(draw):
    members = draw(st.dictionaries(st.sampled_from(PARTS), DATA, max_size=5))
    if draw(st.booleans()):
        tree = draw(st.one_of(TREES, st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6)))
        whole = draw(st.sampled_from([{}, {}, MMC4, LISTS, json.loads(ours()["json"])]))
        members["json"] = as_json({**whole, **tree} if isinstance(tree, dict) else tree)
    return members


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=50, deadline=None)
@given(members=hostile_members())
def test_a_hostile_sample_keeps_the_promises_or_has_a_reason(layout, members):
    try:
        sniff_layout(members)
    except BadSample as error:
        assert error.reason in REASONS  # noqa: PT017 - either outcome is right
    try:
        sample = read_sample(members, "k", layout)
    except BadSample as error:
        assert error.reason in REASONS  # noqa: PT017
        return
    shown = [item for item in sample.items if isinstance(item, int)]
    said = [item for item in sample.items if isinstance(item, str)]
    assert sorted(shown) == list(range(len(sample.media)))
    assert shown
    assert said
    assert all(text and text == text.strip() and text.encode() for text in said)
    assert all(medium.data and all(medium.data) for medium in sample.media)
    assert all(medium.kind in ("image", "frames", "video") and 0 <= medium.fps <= 1000 for medium in sample.media)


# Pages of a TIFF


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_adobe_deflate"},
     {"strip_size": 64, "compression": "packbits"}],
)  # fmt: skip
def test_a_page_by_itself_has_the_same_pixels(options):
    data = tiff(((40, 30), (7, 90), (16, 16)), **options)
    whole, pages = Image.open(io.BytesIO(data)), split_pages(data, 3)
    assert len(pages) == 3
    assert sum(map(len, pages)) < len(data) + 300
    for number, page in enumerate(pages):
        whole.seek(number)
        with Image.open(io.BytesIO(page)) as alone:
            assert (alone.size, alone.n_frames, alone.tobytes()) == (whole.size, 1, whole.tobytes())
    with pytest.raises(BadTiff, match="more than 2 pages"):
        split_pages(data, 2)


def test_pages_of_the_other_byte_order_are_read():
    page = Image.frombytes("I;16B", (9, 5), Random(1).randbytes(90))
    stream = io.BytesIO()
    page.save(stream, "TIFF")
    assert stream.getvalue()[:2] == b"MM"
    (alone,) = split_pages(stream.getvalue(), 1)
    assert Image.open(io.BytesIO(alone)).tobytes() == page.tobytes()


def test_pages_that_share_their_pixels_are_not_copied_without_end():
    data = bytearray(tiff(((200, 200),)))
    # The directory is its own next one.
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = data[4:8]
    with pytest.raises(BadTiff, match="strips or tiles of"):
        split_pages(bytes(data), 10_000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TIFF) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(TIFF)))
def test_a_damaged_tiff_is_split_or_refused(changes, length):
    data = bytearray(TIFF)
    for at, byte in changes:
        data[at] = byte
    try:
        pages = split_pages(bytes(data[:length]), 50)
    except BadTiff:
        return
    assert sum(map(len, pages)) <= 2 * length
