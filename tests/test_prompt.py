"""Prompts: their tokens are those of the training, and files become the frames that training would show."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from videos_made import SHADE, encode

from flamingo_model.prompt import END, Looks, encode_prompt, open_medium
from flamingo_model.tokens import ByteTokenizer, FastTokenizer, encode_items, sample_window, train_tokenizer
from schemas.config import ConfigError

# Of the second one the tag is several tokens.
TOKENIZERS = [ByteTokenizer(), FastTokenizer(train_tokenizer(["a red circle"] * 9, 300))]
LOOKS = Looks(16, "stretch", "half", frames=4)
IMAGE = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)


def written(items, tokenizer=TOKENIZERS[0]):
    return tokenizer.decode(encode_prompt(items, tokenizer).tokens.tolist())


texts = st.text("ab <>image", min_size=1, max_size=8)


@given(items=st.lists(texts | st.none(), max_size=8), tokenizer=st.sampled_from(TOKENIZERS))
def test_a_prompt_is_what_a_document_begins_with(items, tokenizer):
    shown = [torch.full((1, 3, 2, 2), number, dtype=torch.uint8) for number in range(len(items))]
    prompt = encode_prompt([shown[n] if item is None else item for n, item in enumerate(items)], tokenizer)
    encoded = encode_items([n if item is None else item for n, item in enumerate(items)], tokenizer)
    window = sample_window(encoded, len(encoded.tokens), len(items), 0.0, False)
    assert prompt.tokens.tolist() == window.tokens[:-2].tolist()
    assert prompt.image_of.tolist() == window.image_of[:-2].tolist()
    assert [int(medium[0, 0, 0, 0]) for medium in prompt.media] == list(window.media)


def test_chunks_end_where_they_are_told_to():
    assert written(["Output: a", END]) == "<BOS>Output: a<EOC>"
    assert written(["a", END, "b", END, END]) == "<BOS>a<EOC>b<EOC>"
    assert written(["a", END, IMAGE, "b"]) == written(["a", IMAGE, "b"]) == "<BOS>a<EOC><image>b"
    assert written([END, "", IMAGE]) == "<BOS><image>"
    assert written([]) == written([END]) == "<BOS>"
    assert encode_prompt(["a", END, IMAGE, "b", END, "c"], TOKENIZERS[0]).image_of.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_texts_can_say_nothing_special():
    ids = encode_prompt(["<image><EOC>"], TOKENIZERS[1]).tokens.tolist()
    assert TOKENIZERS[1].eoc not in ids
    assert encode_prompt(["<image>"], TOKENIZERS[1]).media == ()


def save(path, colour=(9, 200, 30)):
    Image.new("RGB", (8, 8), colour).save(path)
    return str(path)


def test_files_are_read_as_training_reads_them(tmp_path):
    image = open_medium(save(tmp_path / "a.png"), "image", LOOKS)
    assert image.shape == (1, 3, 16, 16)
    assert image.dtype == torch.uint8
    assert image[0, :, 8, 8].tolist() == [9, 200, 30]
    padded = open_medium(save_wide(tmp_path / "b.png"), "image", Looks(16, "pad", "half"))
    assert padded[0, :, 0, 8].tolist() == [128, 128, 128]
    (tmp_path / "clip.mp4").write_bytes(encode(frames=12 * 6, rate=12))
    # Six seconds: four frames a second apart, with as much before as behind them.
    clip = open_medium(str(tmp_path / "clip.mp4"), "video", LOOKS)
    assert clip.shape == (4, 3, 16, 16)
    numbers = (clip[:, 0, 8, 8].double() - 8) / SHADE
    assert numbers.tolist() == pytest.approx([18, 30, 42, 54], abs=1)
    short = open_medium(str(tmp_path / "clip.mp4"), "video", Looks(16, "stretch", "half", frames=9))
    assert short.shape == (9, 3, 16, 16)
    assert torch.equal(short[5], short[8])
    assert not torch.equal(short[4], short[5])


def save_wide(path):
    Image.new("RGB", (16, 4)).save(path)
    return str(path)


def test_what_cannot_be_read_is_told_in_one_line(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:900])
    for kind, name, told in [
        ("image", "none.jpg", "No such file"),
        ("image", ".", "Is a directory"),
        ("image", "text.jpg", "unreadable: no format that is read"),
        ("image", "empty.jpg", "empty"),
        ("image", "cut.jpg", "truncated"),
        ("video", "cut.jpg", "unreadable: no MP4 or WebM"),
        ("image", "a\0b", "null"),
    ]:
        with pytest.raises(ConfigError) as caught:
            open_medium(str(tmp_path / name), kind, LOOKS)
        assert told in str(caught.value)
        assert str(caught.value).startswith(f"--{kind} ")
        assert "\n" not in str(caught.value)
