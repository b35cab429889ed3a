"""The sampler against the paper's description, and tokenizers against texts that mean harm."""

import json
import pickle
import random
import string
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from flamingo_model.tokens import (
    BETWEEN_TEXTS,
    EOC,
    IMAGE,
    ByteTokenizer,
    Encoded,
    FastTokenizer,
    break_tags,
    choose_start,
    encode_items,
    open_tokenizer,
    sample_window,
    train_tokenizer,
)
from schemas.config import ConfigError

TEXTS = ["A heron stands in the reeds of the lake at dawn.", "Two boats lie at the quay, the old one leaks: 12%."] * 3
PIECES = [IMAGE, EOC, "<s>", "</s>", "<pad>", "<BOS>", "<", "<im", "ima", "age>", ">", " ", "\n", "a heron", "é", "<s"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


class Letters:
    """A token a character; the tag is as wide as a test wants, its tokens none of any character."""

    bos, eos, eoc, pad = 10, 11, 12, 13
    vocab_size = 0x110000

    def __init__(self, width=3):
        self.image = tuple(range(20, 20 + width))

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def fast(change=None, **settings):
    """Make a tokenizer from the texts, changed before it is opened."""
    trained = train_tokenizer(TEXTS, 400)
    if change:
        change(trained)
    return FastTokenizer(trained, **settings)


def whole_tag():
    return fast(lambda trained: trained.add_tokens([AddedToken(IMAGE, special=False)]))


TOKENIZERS = {"bytes": ByteTokenizer(), "plain tag": fast(), "whole tag": whole_tag()}


# The layout of a document


def test_a_document_is_laid_out_as_the_paper_says():
    encoded = encode_items(("ab", 0, "c", 1, 2, "d"), Letters(2))
    B, E, C = Letters.bos, Letters.eos, Letters.eoc  # noqa: N806
    assert encoded.tokens.tolist() == [B, 97, 98, C, 20, 21, 99, C, 20, 21, C, 20, 21, 100, C, E]
    assert encoded.tokens.dtype == np.int32
    assert (encoded.tags, encoded.media, encoded.tag) == ((4, 8, 11), (0, 1, 2), (20, 21))


def test_a_pair_begins_with_its_image_and_may_have_a_space():
    for space, said in ((False, [97, 98]), (True, [32, 97, 98])):
        encoded = encode_items((0, "ab"), Letters(1), space)
        assert encoded.tokens.tolist() == [Letters.bos, 20, *said, Letters.eoc, Letters.eos]
        assert encoded.tags == (1,)
    assert encode_items((0, "a", 1, "b"), Letters(1), True).tokens.tolist().count(32) == 1


def test_neighbouring_texts_stand_apart():
    assert Letters().decode(encode_items(("ab", "c"), Letters()).tokens[1:-2]) == f"ab{BETWEEN_TEXTS}c"


# The window, by hand


def window_of(items, length=99, images=5, roll=0.0, following=False, width=2, start=None):
    """Sample a window, its start chosen by its number among those that may be where `start` is given."""
    encoded = encode_items(items, Letters(width))
    if start is not None:
        starts = valid_starts(encoded, length)
        roll = (starts.index(start) + 0.5) / len(starts)
    return sample_window(encoded, length, images, roll, following)


def valid_starts(encoded, length):
    inside = {at + step for at in encoded.tags for step in range(1, len(encoded.tag))}
    return [start for start in range(max(len(encoded.tokens) - length, 0) + 1) if start not in inside]


ITEMS = ("ab", 7, "c", 8, "d")
# B a b C <> c C <> d C E           the place of each token: 0 1 2 3 4-5 6 7 8-9 10 11 12


def test_a_whole_document_by_hand():
    window = window_of(ITEMS)
    assert window.tokens.tolist() == [10, 97, 98, 12, 20, 21, 99, 12, 20, 21, 100, 12, 11]
    assert window.image_of.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert window.loss.tolist() == [False, True, True, True, False, False, True, True, False, False, True, True, True]
    assert window.media == (7, 8)
    assert (window.tokens.dtype, window.image_of.dtype, window.loss.dtype) == (np.int32, np.int32, np.bool_)


def test_with_p_next_a_token_sees_the_image_that_comes():
    window = window_of(ITEMS, following=True)
    assert window.image_of.tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0]
    assert window.media == (7, 8)


def test_images_beyond_the_first_ones_are_gone_with_their_tag_and_chunk_end():
    window = window_of(ITEMS, images=1)
    assert window.tokens.tolist() == [10, 97, 98, 12, 20, 21, 99, 100, 12, 11]
    assert window.image_of.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert window.media == (7,)
    assert window_of(ITEMS, images=0).tokens.tolist() == [10, 97, 98, 99, 100, 12, 11]
    # A tag after <BOS> has no <EOC> before it.
    assert window_of((0, "a"), images=0).tokens.tolist() == [10, 97, 12, 11]


def test_a_tag_that_the_end_cuts_is_gone_and_its_image_too():
    window = window_of(ITEMS, length=9, start=0)
    assert window.tokens.tolist() == [10, 97, 98, 12, 20, 21, 99, 12]
    assert window.media == (7,)


def test_a_window_may_begin_with_a_tag_but_not_inside_one():
    window = window_of(ITEMS, length=5, start=4)
    assert window.tokens.tolist() == [20, 21, 99, 12]
    assert window.image_of.tolist() == [1, 1, 1, 1]
    assert window.loss.tolist() == [False, False, True, True]
    encoded = encode_items(ITEMS, Letters(2))
    assert valid_starts(encoded, 5) == [0, 1, 2, 3, 4, 6, 7, 8]
    # The <EOC> of an image that is left out may stand before the window.
    assert sample_window(encoded, 4, 0, 0.999, False).tokens.tolist() == [100, 12]


def test_a_text_has_no_part_of_the_images_around_the_window():
    window = window_of(ITEMS, length=1, start=6)
    assert (window.tokens.tolist(), window.image_of.tolist(), window.loss.tolist()) == ([99], [0], [False])
    assert window.media == ()


# The window, against a reference


def reference(items, tokenizer, length, images, roll, following):
    """Sample a window token by token, as the paper tells it."""
    document = [(tokenizer.bos, None, 0)]
    for number, item in enumerate(items):
        if isinstance(item, str):
            document += [(ord(letter), None, 0) for letter in item]
        else:
            document += [(tokenizer.eoc, number, 0)] * (len(document) > 1)
            document += [(token, number, place) for place, token in enumerate(tokenizer.image, 1)]
    document += [(tokenizer.eoc, None, 0), (tokenizer.eos, None, 0)]
    # (token, the item whose tag or <EOC> it is, its place in the tag from 1)
    starts = [at for at in range(max(0, len(document) - length) + 1) if document[at][2] < 2]
    start = starts[int(roll * len(starts))]
    window = document[start : start + length]
    width = len(tokenizer.image)
    whole = [number for _, number, place in window if place == width]
    shown = whole[:images]
    kept = [
        (token, number, place)
        for token, number, place in window
        if number is None or number in shown or (place == 0 and number not in whole)
    ]
    seen = []
    for at in range(len(kept)):
        before = [number for _, number, place in kept[: at + 1] if place == 1]
        after = [number for _, number, place in kept[at:] if place == width]
        found = after[:1] if following else before[-1:]
        seen.append(shown.index(found[0]) + 1 if found else 0)
    loss = [at > 0 and place == 0 for at, (_, _, place) in enumerate(kept)]
    return [token for token, _, _ in kept], seen, loss, tuple(items[number] for number in shown)


WORDY = st.text(string.ascii_lowercase, min_size=1, max_size=8)


@st.composite
def documents(draw):
    """Draw items in which no two texts are neighbours, and images are any numbers."""
    items = []
    for item in draw(st.lists(st.one_of(WORDY, st.integers(0, 9)), min_size=1, max_size=14)):
        if not (items and isinstance(item, str) and isinstance(items[-1], str)):
            items.append(item)
    return tuple(items)


@settings(max_examples=300, deadline=None)
@given(
    documents(),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(0, 6),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_every_token_sees_what_the_reference_says(items, width, length, images, roll, following):
    tokenizer = Letters(width)
    window = sample_window(encode_items(items, tokenizer), length, images, roll, following)
    tokens, seen, loss, media = reference(items, tokenizer, length, images, roll, following)
    assert window.tokens.tolist() == tokens
    assert window.image_of.tolist() == seen
    assert window.loss.tolist() == loss
    assert window.media == media


@settings(max_examples=200, deadline=None)
@given(documents(), st.integers(1, 4), st.integers(1, 40), st.integers(1, 6), st.floats(0, 1, exclude_max=True))
def test_there_are_as_many_tags_as_media(items, width, length, images, roll):
    tokenizer = Letters(width)
    window = sample_window(encode_items(items, tokenizer), length, images, roll, False)
    tokens = window.tokens.tolist()
    assert len(window.media) <= images
    assert all(tokens.count(token) == len(window.media) for token in tokenizer.image)
    assert window.image_of.max(initial=0) == len(window.media)
    assert not tokens or tokens[0] not in tokenizer.image[1:]
    assert not window.loss[np.isin(window.tokens, [*tokenizer.image, tokenizer.bos])].any()


DISTINCT = ("abcdefghij", 0, "klmnopq", 1, 2, "rstuvwxyz", 3)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("length", [1, 5, 16, 30])
def test_every_start_has_the_same_share(width, length):
    encoded = encode_items(DISTINCT, Letters(width))
    starts = valid_starts(encoded, length)
    rolls = [(place + 0.5) / len(starts) for place in range(len(starts))]
    assert [choose_start(encoded, length, roll) for roll in rolls] == starts
    assert [choose_start(encoded, length, roll) for roll in (0.0, 1 - 2**-53)] == [starts[0], starts[-1]]


def test_windows_are_uniform_by_chi_square():
    encoded = encode_items(DISTINCT, Letters(3))
    numbered = Encoded(np.arange(len(encoded.tokens), dtype=np.int32), encoded.tags, encoded.media, encoded.tag)
    starts, draws, numbers = valid_starts(encoded, 8), 6_000, random.Random(5)
    counts = Counter(int(sample_window(numbered, 8, 99, numbers.random(), False).tokens[0]) for _ in range(draws))
    assert set(counts) == set(starts)
    expected = draws / len(starts)
    chi_square = sum((counts[start] - expected) ** 2 / expected for start in starts)
    # The 99.9 % point of the distribution for this many degrees of freedom, by Wilson and Hilferty.
    freedom = len(starts) - 1
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3


# What strangers write


def has_tag(ids, tag):
    return any(tuple(ids[at : at + len(tag)]) == tag for at in range(len(ids)))


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(text=HOSTILE)
def test_no_text_makes_a_special_token_or_the_tag(name, text):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos, tokenizer.eos, tokenizer.eoc, tokenizer.pad} & set(ids)
    assert not has_tag(ids, tokenizer.image)
    if name != "plain tag" or IMAGE not in text:
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(
    items=st.lists(st.one_of(HOSTILE, st.integers(0, 3)), max_size=10),
    length=st.integers(4, 60),
    images=st.integers(1, 3),
    roll=st.floats(0, 1, exclude_max=True),
)
def test_no_texts_that_meet_make_a_tag(name, items, length, images, roll):
    tokenizer = TOKENIZERS[name]
    tokens = sample_window(encode_items(items, tokenizer), length, images, roll, False)
    ids = tokens.tokens.tolist()
    tags = sum(has_tag(ids[at : at + len(tokenizer.image)], tokenizer.image) for at in range(len(ids)))
    assert tags == len(tokens.media)


def test_a_tag_that_arises_where_an_image_was_left_out_is_broken():
    tokenizer = TOKENIZERS["plain tag"]
    assert len(tokenizer.image) > 1
    begin, end = tokenizer.decode(tokenizer.image[:1]), tokenizer.decode(tokenizer.image[1:])
    encoded = encode_items((0, "a heron " + begin, 1, end + " at dawn"), tokenizer)
    joined = np.delete(encoded.tokens, range(encoded.tags[1] - 1, encoded.tags[1] + len(encoded.tag)))
    assert has_tag(joined[encoded.tags[0] + 1 :].tolist(), tokenizer.image), "the texts do make a tag where they meet"
    window = sample_window(encoded, 99, 1, 0.0, False)
    assert not has_tag(window.tokens[encoded.tags[0] + 1 :].tolist(), tokenizer.image)
    assert len(window.tokens) == len(window.loss) == len(window.image_of) == len(joined) - 1


@given(st.lists(st.integers(0, 3), max_size=30), st.sampled_from([(1, 2), (1, 2, 3), (0, 1, 0, 2)]))
def test_broken_tags_stay_broken(ids, tag):
    kept = break_tags(list(ids), tag)
    assert not has_tag(kept, tag)
    assert (kept == ids) == (not has_tag(ids, tag))


def test_a_tag_that_only_a_normaliser_makes_is_broken():
    tokenizer = fast(lambda trained: setattr(trained, "normalizer", normalizers.NFKC()))
    assert tuple(tokenizer.encode_whole("\uff1cimage\uff1e")) == tokenizer.image
    assert not has_tag(tokenizer.encode("see \uff1cimage\uff1e"), tokenizer.image)


def test_special_tokens_that_a_model_has_among_its_pieces_are_left_out():
    vocabulary = [("<unk>", 0.0), ("<s>", -1.0), ("</s>", -1.0), *((sign, -9.0) for sign in "<>/ sabimge")]
    trained = tokenizers.Tokenizer(models.Unigram(vocabulary, 0))
    trained.encode_special_tokens = True
    assert trained.token_to_id("</s>") in trained.encode("a</s>b").ids, "the model reads it even as plain text"
    tokenizer = FastTokenizer(trained)
    assert tokenizer.encode("a</s>b") == [*tokenizer.encode("a"), *tokenizer.encode("b")]
    assert tokenizer.encode("a?") == [*tokenizer.encode("a"), 0], "what is unknown stays so"


# Tokenizers


@given(st.text())
def test_bytes_give_the_text_back(text):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


def test_special_tokens_are_written():
    tokenizer = ByteTokenizer()
    tokens = encode_items((0, "né"), tokenizer).tokens.tolist()
    assert tokenizer.decode([*tokens, tokenizer.pad]) == "<BOS><image>né<EOC><EOS><PAD>"
    assert max(tokens) < tokenizer.vocab_size
    tokenizer = TOKENIZERS["plain tag"]
    assert tokenizer.decode(encode_items((0, "a heron"), tokenizer).tokens.tolist()) == "<s><image>a heron<EOC></s>"


def test_new_tokens_are_those_that_were_missing():
    plain, whole = TOKENIZERS["plain tag"], TOKENIZERS["whole tag"]
    assert plain.eoc < plain.vocab_size
    assert (len(plain.image), len(whole.image)) == (len(plain.encode("<image") + plain.encode(">")), 1)
    bare = tokenizers.Tokenizer(models.BPE({"</s>": 0, **{sign: at for at, sign in enumerate("<image>", 1)}}, []))
    opened = FastTokenizer(bare)
    assert (opened.bos, opened.eos, opened.pad) == (0, 0, 0)
    assert (opened.eoc, opened.vocab_size) == (8, 9)


def trained_on_blanks(normal):
    """Make a tokenizer that has runs of blanks as single tokens, which a text must not be cut in."""
    trained = train_tokenizer(["a\n    b", "a \t\n b", "a\u3000 b", "  a    "] * 20, 400)
    trained.normalizer = normal
    return FastTokenizer(trained)


BLANKS = {"as it is": trained_on_blanks(None), "composed": trained_on_blanks(normalizers.NFC())}


def test_runs_of_blanks_are_one_token_there():
    tokenizer = BLANKS["as it is"]
    assert len(tokenizer.encode("\n   ")) < 4
    assert tokenizer.encode("a\n    b") != [token for word in ("a\n", "    ", "b") for token in tokenizer.encode(word)]


@pytest.mark.parametrize("name", BLANKS)
@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.sampled_from("ab s'tT9.,<é\u0308\u00bd\u4e2d\u00a0\u3000\u2028\x85\x1c\x0b\t\r\n   "), max_size=20)
)
def test_remembered_words_have_the_tokens_of_the_whole_text(name, text):
    tokenizer = BLANKS[name]
    assert tokenizer.by_words
    assert tokenizer.encode_words(text) == tokenizer.encode_whole(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda trained: setattr(trained, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda trained: setattr(trained, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda trained: setattr(trained, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)),
        lambda trained: setattr(trained, "normalizer", normalizers.Lowercase()),
        lambda trained: trained.add_tokens(["heron stands"]),
    ],
)
def test_words_are_remembered_only_where_they_are_encoded_by_themselves(change):
    trained = train_tokenizer(TEXTS, 400)
    change(trained)
    assert not FastTokenizer(trained).by_words


def test_a_tokenizer_keeps_its_word_in_another_process():
    for tokenizer in (TOKENIZERS["plain tag"], TOKENIZERS["whole tag"]):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.encode("a <s> <EOC> <image>") == tokenizer.encode("a <s> <EOC> <image>")
        assert (copy.bos, copy.eoc, copy.image, copy.vocab_size) == (
            tokenizer.bos, tokenizer.eoc, tokenizer.image, tokenizer.vocab_size,
        )  # fmt: skip


def test_what_a_file_asks_for_beside_tokens_is_not_done():
    def change(trained):
        trained.enable_truncation(4)
        trained.enable_padding(length=64)
        trained.model.dropout = 0.9
        trained.post_processor = tokenizers.processors.TemplateProcessing("<s> $0", special_tokens=[("<s>", 0)])

    text = " ".join(TEXTS)
    assert fast(change).encode_whole(text) == TOKENIZERS["plain tag"].encode(text)


def test_training_gives_the_same_tokenizer_in_any_order():
    first = train_tokenizer(TEXTS, 300)
    assert first.to_str() == train_tokenizer(iter(TEXTS[::-1]), 300).to_str()
    assert first.get_vocab_size() == 300
    assert FastTokenizer(first).decode(FastTokenizer(first).encode("日本 <EOC>")) == "日本 <EOC>"
    with pytest.raises(ValueError, match="at least 260"):
        train_tokenizer(TEXTS, 259)


def test_a_tokenizer_is_opened_from_a_file_a_folder_or_the_hub(tmp_path, monkeypatch):
    assert isinstance(open_tokenizer("bytes"), ByteTokenizer)
    trained = train_tokenizer(TEXTS, 300)
    trained.add_tokens(["<end>", "<begin>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    opened = open_tokenizer(str(tmp_path / "tokenizer.json"))
    assert (opened.bos, opened.eos, opened.pad) == (0, 1, 2)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<begin>", "eos_token": "<s>"}))
    opened = open_tokenizer(str(tmp_path))
    assert (opened.bos, opened.eos, opened.pad) == (301, 300, 2)
    assert opened.encode("<end>") != [opened.eos]

    class Hub:
        from_pretrained = {"some/model": trained}.__getitem__

    monkeypatch.setattr(tokenizers, "Tokenizer", Hub)
    assert open_tokenizer("some/model").eos == 1
    with pytest.raises(ConfigError, match="'other/model' is not bytes"):
        open_tokenizer("other/model")


def test_what_is_no_tokenizer_is_one_line(tmp_path):
    trained = train_tokenizer(TEXTS, 300)
    file = tmp_path / "tokenizer.json"
    with pytest.raises(ConfigError, match=r"is not bytes, a tokenizer\.json"):
        open_tokenizer(str(file))
    file.write_text("{}\n")
    with pytest.raises(ConfigError, match=r"is not bytes, a tokenizer\.json") as caught:
        open_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)
    trained.save(str(file))
    for content, told in (("{", "is not JSON"), ('{"bos_token": "<gone>"}', "bos_token '<gone>' is not in")):
        (tmp_path / "tokenizer_config.json").write_text(content)
        with pytest.raises(ConfigError, match=told):
            open_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("vocabulary", "told"),
    [({"a": 0, "b": 1}, "no token ends a text"), ({"</s>": 0, "[UNK]": 1, "image": 2}, "it cannot write <image>")],
)
def test_a_tokenizer_that_will_not_do_is_refused(vocabulary, told):
    trained = tokenizers.Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ConfigError, match=told):
        FastTokenizer(trained)
