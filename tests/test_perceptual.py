"""The perceptual hash: what it is, what it survives, what it tells apart, and distances."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipeline.perceptual import HASH_BYTES, bits_apart, hash_picture, mirrored, to_words

LOOKS = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)


def blocks(seed, size=(480, 360)):
    """Draw smooth random patches."""
    patches = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def recoded(picture, format="JPEG", quality=40):
    buffer = io.BytesIO()
    picture.save(buffer, format, quality=quality)
    return Image.open(buffer).convert("RGB")


def test_the_hash_is_the_signs_of_the_cosine_transform():
    grey = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    angles = np.pi / 128 * np.outer(np.arange(1, 17), 2 * np.arange(64) + 1)
    low = np.cos(angles) @ grey @ np.cos(angles).T
    assert hash_picture(Image.fromarray(grey)) == np.packbits(low > 0).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: recoded(picture, "JPEG", 30),
        lambda picture: recoded(picture, "WEBP", 50),
        lambda picture: picture.resize((120, 90), Image.Resampling.BICUBIC),
        lambda picture: picture.resize((960, 720), Image.Resampling.BICUBIC),
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
        lambda picture: picture.crop((2, 2, 478, 358)),
    ],
    ids=["jpeg", "webp", "smaller", "larger", "darker", "cropped"],
)
def test_copies_share_most_bits(change):
    for seed in range(5):
        picture = blocks(seed)
        assert bits_apart(hash_picture(picture), hash_picture(change(picture))) <= 47


def test_other_pictures_share_half_of_the_bits():
    looks = [hash_picture(blocks(seed)) for seed in range(12)]
    assert all(80 <= bits_apart(left, right) <= 176 for left, right in itertools.combinations(looks, 2))


def test_the_hash_of_the_mirrored_picture_is_known_from_the_hash():
    picture = blocks(1)
    turned = hash_picture(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert bits_apart(hash_picture(picture), turned) > 80
    assert bits_apart(mirrored(hash_picture(picture)), turned) <= 4


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_a_single_colour_has_no_bits(level):
    assert hash_picture(Image.new("RGB", (100, 70), (level,) * 3)) == bytes(HASH_BYTES)


@pytest.mark.parametrize(("mode", "size"), [("L", (1, 1)), ("RGB", (1, 3000)), ("RGBA", (65, 2)), ("CMYK", (7, 7))])
def test_every_mode_and_size_has_a_hash(mode, size):
    assert len(hash_picture(Image.new(mode, size))) == HASH_BYTES


@given(LOOKS, LOOKS)
def test_distances_are_those_of_hamming(left, right):
    assert bits_apart(left, right) == sum((a ^ b).bit_count() for a, b in zip(left, right, strict=True))
    assert bits_apart(mirrored(left), mirrored(right)) == bits_apart(left, right)
    assert mirrored(mirrored(left)) == left
    assert to_words([left, right]).tobytes() == left + right


def test_hashes_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="hashes of 1 and 32 bytes"):
        bits_apart(b"1", bytes(32))
    with pytest.raises(ValueError, match="hashes have 32 bytes each"):
        to_words([bytes(31), bytes(33)])
