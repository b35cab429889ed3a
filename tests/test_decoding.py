"""Decoding over models of a few tokens whose every text can be listed."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_model.decoding import Sampling, beam_search, choose, rank, whole_characters, write_all
from flamingo_model.order import hash_of
from flamingo_model.tokens import ByteTokenizer, FastTokenizer, train_tokenizer

STOP = 0


def scores_after(seed: int, text: tuple[int, ...], vocab: int) -> list[float]:
    """Log-probabilities of a model of its own for each seed, which hang on the whole text before."""
    logits = np.random.default_rng(hash_of(seed, *text)).normal(size=vocab) * 2
    return (logits - np.log(np.exp(logits).sum())).tolist()


@dataclass(frozen=True)
class Listed:
    """A `Reading` that knows its texts; each row is a model of its own, by its seed."""

    seeds: tuple[int, ...]
    vocab: int
    texts: tuple[tuple[int, ...], ...]

    @property
    def next(self):
        rows = zip(self.seeds, self.texts, strict=True)
        return torch.tensor([scores_after(seed, text, self.vocab) for seed, text in rows], dtype=torch.float64)

    def read(self, tokens):
        texts = zip(self.texts, tokens.tolist(), strict=True)
        return Listed(self.seeds, self.vocab, tuple((*text, token) for text, token in texts))

    def pick(self, rows):
        chosen = rows.tolist()
        return Listed(tuple(self.seeds[r] for r in chosen), self.vocab, tuple(self.texts[r] for r in chosen))


def begin(*seeds, vocab=4):
    return Listed(seeds, vocab, ((),) * len(seeds))


def score_of(seed, text, vocab):
    return sum(scores_after(seed, text[:n], vocab)[token] for n, token in enumerate(text))


def all_texts(vocab, most, stops):
    """Every text that ends with a stop, or is of the full length."""
    for length in range(1, most + 1):
        for text in itertools.product(range(vocab), repeat=length):
            if not set(text[:-1]) & set(stops) and (text[-1] in stops or length == most):
                yield text


def naive_greedy(seed, vocab, stops, most):
    text = ()
    while len(text) < most and not (text and text[-1] in stops):
        text += (int(np.argmax(scores_after(seed, text, vocab))),)
    return text


def naive_beams(seed, vocab, beams, stops, most, penalty):
    """Beam search as it is told: no early end, every continuation listed."""
    live, found = [()], []
    for length in range(1, most + 1):
        texts = sorted(((*t, k) for t in live for k in range(vocab)), key=lambda t: -score_of(seed, t, vocab))
        ended = [t[-1] in stops or length == most for t in texts]
        found += [t for t, end in zip(texts[:beams], ended, strict=False) if end]
        live = [t for t, end in zip(texts, ended, strict=True) if not end][:beams]
    return sorted(found, key=lambda t: -score_of(seed, t, vocab) / len(t) ** penalty)[:beams]


seeds = st.lists(st.integers(0, 2**40), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None)
@given(seeds=seeds, vocab=st.integers(2, 4), most=st.integers(1, 4), penalty=st.sampled_from([0.0, 0.5, 1.0, -1.0]))
def test_a_beam_as_wide_as_all_texts_finds_the_best_of_them(seeds, vocab, most, penalty):
    found = beam_search(begin(*seeds, vocab=vocab), vocab**most, (STOP,), most, penalty)
    for seed, texts in zip(seeds, found, strict=True):
        ranks = {text: rank(score_of(seed, text, vocab), len(text), penalty) for text in all_texts(vocab, most, [STOP])}
        assert texts[0].tokens == max(ranks, key=ranks.get)
        assert texts[0].score == pytest.approx(score_of(seed, texts[0].tokens, vocab))


@settings(max_examples=40, deadline=None)
@given(
    seeds=seeds,
    vocab=st.integers(2, 6),
    beams=st.integers(1, 4),
    stops=st.sampled_from([(0,), (0, 1)]),
    most=st.integers(1, 6),
    penalty=st.sampled_from([0.0, 0.7, 2.0, -0.5]),
)
def test_beam_search_finds_what_a_naive_one_finds(seeds, vocab, beams, stops, most, penalty):
    found = beam_search(begin(*seeds, vocab=vocab), beams, stops, most, penalty)
    for seed, texts in zip(seeds, found, strict=True):
        wanted = naive_beams(seed, vocab, beams, stops, most, penalty)
        assert texts[0].tokens == wanted[0]
        assert [text.tokens for text in texts] == wanted


@settings(max_examples=40, deadline=None)
@given(seeds=seeds, vocab=st.integers(2, 6), stops=st.sampled_from([(0,), (0, 1), ()]), most=st.integers(1, 9))
def test_greedy_takes_the_most_likely_token_and_is_a_beam_of_one(seeds, vocab, stops, most):
    greedy = write_all(begin(*seeds, vocab=vocab), Sampling(), stops, most)
    assert [text.tokens for text in greedy] == [naive_greedy(seed, vocab, stops, most) for seed in seeds]
    assert [text.score for text in greedy] == pytest.approx(
        [score_of(seed, text.tokens, vocab) for seed, text in zip(seeds, greedy, strict=True)]
    )
    beams = beam_search(begin(*seeds, vocab=vocab), 1, stops, most)
    assert [texts[0].tokens for texts in beams] == [text.tokens for text in greedy]


def test_tokens_that_are_not_wanted_are_in_no_beam():
    class Banned(Listed):
        @property
        def next(self):
            scores = Listed.next.fget(self)
            scores[:, 2:] = -math.inf
            return scores

        def read(self, tokens):
            return Banned(*vars(Listed.read(self, tokens)).values())

        def pick(self, rows):
            return Banned(*vars(Listed.pick(self, rows)).values())

    found = beam_search(Banned((7,), 5, ((),)), 6, (STOP,), 3)[0]
    assert {text.tokens for text in found} == {(0,), (1, 0), (1, 1, 0), (1, 1, 1)}


def test_rows_sample_alike_whatever_stands_beside_them():
    how = Sampling(temperature=1.0, seed=5)
    together = write_all(begin(11, 12, 13), how, (STOP,), 12)
    alone = [write_all(begin(11 + n), Sampling(temperature=1.0, seed=5 + n), (STOP,), 12)[0] for n in range(3)]
    assert together == alone
    assert together == write_all(begin(11, 12, 13), how, (STOP,), 12)
    others = {write_all(begin(11), Sampling(temperature=1.0, seed=seed), (), 12)[0].tokens for seed in range(8)}
    assert len(others) == 8


def counted(scores, how, draws=4000):
    """How often each token is drawn, in a row for each draw."""
    drawn = choose(torch.tensor(scores).log().expand(draws, -1), how, range(draws), 3)
    return np.bincount(drawn.numpy(), minlength=len(scores)) / draws


def test_samples_are_drawn_as_often_as_they_are_likely():
    shares = [0.1, 0.5, 0.15, 0.25]
    assert counted(shares, Sampling(temperature=1.0)) == pytest.approx(shares, abs=0.03)
    squares = np.square(shares) / np.square(shares).sum()
    assert counted(shares, Sampling(temperature=0.5)) == pytest.approx(squares, abs=0.03)
    assert counted(shares, Sampling(temperature=1.0, top_k=2)) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    # The two most likely make 0.75; the third is the one that reaches 0.8.
    top_p = counted(shares, Sampling(temperature=1.0, top_p=0.8))
    assert top_p == pytest.approx([0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9], abs=0.03)
    assert counted(shares, Sampling(temperature=1.0, top_p=0.01)) == pytest.approx([0, 1, 0, 0])
    assert counted(shares, Sampling(temperature=1e-30)) == pytest.approx([0, 1, 0, 0])
    assert counted([0.0, 0.5, 0.0, 0.5], Sampling(temperature=9.0)) == pytest.approx([0, 0.5, 0, 0.5], abs=0.03)


@pytest.mark.parametrize("given", [{"temperature": -1}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0}])
def test_sampling_that_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Sampling(**given)


def bpe():
    return FastTokenizer(train_tokenizer(["a red circle über 円 🙂 beside it"] * 9, 300))


def words_with_marks():
    """Make a tokenizer that writes spaces as marks and drops the first one, as SentencePiece's do."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f"<0x{n:02X}>": 3 + n for n in range(256)}
    letters = "▁abcdefghijklmnopqrstuvwxyz<>"
    vocabulary |= {letter: 259 + n for n, letter in enumerate(letters)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    decoders = tokenizers.decoders
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return FastTokenizer(made)


TOKENIZERS = {"bytes": ByteTokenizer(), "bpe": bpe(), "marks": words_with_marks()}


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(TOKENIZERS)), data=st.data())
def test_streamed_pieces_make_up_the_text(name, data):
    tokenizer = TOKENIZERS[name]
    text = st.text(st.sampled_from("ab cü円🙂\n")).map(tokenizer.encode)
    if name != "marks":  # whose bytes are written one by one where they are no character together
        text |= st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12)
    ids = data.draw(text)
    pieces = list(whole_characters(ids, tokenizer.decode))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert all(pieces)


def test_text_streams_as_soon_as_a_character_is_whole():
    tokenizer = ByteTokenizer()
    asked = []

    def tokens():
        for token in tokenizer.encode("a円b"):
            asked.append(token)
            yield token

    seen = [(piece, len(asked)) for piece in whole_characters(tokens(), tokenizer.decode)]
    assert seen == [("a", 1), ("円", 4), ("b", 5)]
    assert list(whole_characters(tokenizer.encode("円")[:2], tokenizer.decode)) == ["\ufffd"]
