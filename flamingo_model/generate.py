"""A Flamingo is asked: prompts of texts, images and clips → answers, or the likelihood of given ones.

    prompts → read_prompts → Read: caches of the text and of what is looked at, and what the model expects next
    Read → decoding → Answer;   Read, candidates → log-likelihoods;   stream: an answer while it is written

B rows, T new tokens, P tokens read so far, V tokens of the vocabulary, D width, M media, R visual tokens of a medium,
W their width. Prompts of different lengths are filled up on the left, and masked there, so that each is read as if it
were alone. A `Read` never changes: candidates and beams that go on from one do not see each other (SPEC-flamingo,
Forward pass, the traps).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from flamingo_model import seen
from flamingo_model.augment import normalise
from flamingo_model.decoding import Sampling, Written, beam_search, whole_characters, write, write_all
from flamingo_model.flamingo import Flamingo
from flamingo_model.pixels import STATS
from flamingo_model.prompt import Item, Prompt, encode_prompt
from flamingo_model.seen import see
from flamingo_model.tokens import Tokenizer
from schemas.config import ConfigError

END_OF_CHUNK, END_OF_TEXT, TOKENS, NO_ROOM = "end_of_chunk", "end_of_text", "most_tokens", "no_room"
"""Why an answer ends: with `<EOC>`, with the text's end, as long as was asked for, or where positions ended."""
FRAMES_AT_ONCE = 32
"""Frames encoded in one pass."""
TOKENS_AT_ONCE = 1024
"""Tokens of candidates scored in one pass: it bounds their logits and copies of the prompt's cache."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are written."""

    tokens: int = 64
    """Most tokens of an answer."""
    beams: int = 1
    """Texts searched at once; 3 in SPEC-flamingo, Evaluation."""
    penalty: float = 0.0
    """Of beams: log-likelihoods are divided by length ** penalty."""
    sampling: Sampling = field(default_factory=Sampling)
    """Without beams: how each token is drawn."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.beams < 1:
            raise ValueError(f"tokens and beams are at least 1, not {self.tokens} and {self.beams}")
        if self.beams > 1 and self.sampling.temperature > 0:
            raise ValueError("beams search the likeliest text, a temperature draws one: give one of the two")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written: without the token that ended it, whose log-probability is part of `score`."""

    text: str
    tokens: tuple[int, ...]
    score: float
    ended: str


@dataclass(frozen=True, slots=True)
class Read:
    """Rows of text that a Flamingo has read; a `decoding.Reading`."""

    model: Flamingo
    unwanted: Tensor
    """[V] bool: tokens that no answer has."""
    latents: Tensor
    """[M, R, W] of all prompts."""
    media: tuple[Tensor, Tensor]
    """[M] the prompt of each medium, and [M] its number there, from 1."""
    lengths: Tensor | None
    """[M] visual tokens of each, where they have not all R."""
    prompt: Tensor
    """[B] the prompt of each row, whose media it sees; on the CPU, as what follows."""
    image: Tensor
    """[B] int32: the number of the last image in each row; 0 none."""
    count: Tensor
    """[B] int64: how many tokens of each row were read."""
    padded: Tensor | None = None
    """[B, P] bool: what of the cache is padding; None if nothing is."""
    text: Cache = field(default_factory=DynamicCache)
    """Keys and values of the language model's self-attention."""
    looked: seen.Cache = field(default_factory=seen.Cache)
    """Keys and values of the cross-attention."""
    next: Tensor = field(default_factory=lambda: torch.empty(0))
    """[B, V] float32: log-probabilities of the next token."""

    def read(self, tokens: Tensor) -> Read:
        """Read one more token [B] in every row."""
        return self.extend(tokens[:, None], self.image[:, None])[0]

    def pick(self, rows: Tensor) -> Read:
        """Take some rows [B'], in any order and as often as wanted."""
        here = rows.cpu()
        text = fork(self.text)
        text.reorder_cache(rows)
        return replace(
            self,
            prompt=self.prompt[here],
            image=self.image[here],
            count=self.count[here],
            padded=None if self.padded is None else self.padded[here],
            text=text,
            looked=self.looked.fork(rows),
            next=self.next[rows],
        )

    @torch.no_grad()
    def extend(self, tokens: Tensor, image_of: Tensor, padding: Tensor | None = None) -> tuple[Read, Tensor]:
        """Read more tokens [B, T] that see images [B, T]; gives their hidden states [B, T, D] too.

        `padding` [B, T] bool, at the beginning of rows that nothing was read of yet, is not read.
        """
        model = self.model
        new = torch.zeros(tokens.shape, dtype=torch.bool) if padding is None else padding
        padded = new if self.padded is None else torch.cat([self.padded, new], 1)
        looked, text = self.looked.fork(), fork(self.text)
        segment = (~new).int().to(model.device)
        shown = see(
            self.latents, image_of, *self.media, segment,
            see_all=model.see_all, lengths=self.lengths, rows=self.prompt, cache=looked,
        )  # fmt: skip
        mask = position = None
        if padded.any():
            mask = (~padded).long().to(model.device)
            position = (self.count[:, None] + (~new).cumsum(1) - 1).clamp(min=0).to(model.device)
        hidden = model.read(tokens, shown, position, cache=text, mask=mask)
        read = replace(
            self,
            image=image_of[:, -1],
            count=self.count + (~new).sum(1),
            padded=padded if mask is not None else None,
            text=text,
            looked=looked,
            next=self.likelihoods(hidden[:, -1]).masked_fill(self.unwanted, -torch.inf),
        )
        return read, hidden

    def likelihoods(self, hidden: Tensor) -> Tensor:
        """Give the log-probabilities [..., V] of what follows hidden states [..., D]."""
        return self.model.lm.head(hidden).float().log_softmax(-1)

    def score(self, candidates: Sequence[Sequence[int]]) -> list[float]:
        """Give the log-likelihood of candidates, lists of tokens, after the one row that was read."""
        if len(self.prompt) != 1 or not all(candidates):
            raise ValueError("candidates of one token or more are scored, after one row")
        order = sorted(range(len(candidates)), key=lambda number: len(candidates[number]))
        if order and len(candidates[order[-1]]) > room(self.model, int(self.count)):
            raise ConfigError(f"a candidate of {len(candidates[order[-1]])} tokens leaves the model's positions")
        scores = [0.0] * len(order)
        while order:
            # The longest of those that are left are scored, as many as fit.
            width = len(candidates[order[-1]])
            chosen = order[-max(1, TOKENS_AT_ONCE // width) :]
            del order[-len(chosen) :]
            for number, score in zip(chosen, self.score_some([candidates[n] for n in chosen]), strict=True):
                scores[number] = score
        return scores

    @torch.no_grad()
    def score_some(self, candidates: Sequence[Sequence[int]]) -> list[float]:
        """Score candidates in one pass: padding behind them changes nothing, for no token sees what follows it."""
        device = self.next.device
        tokens = pad_sequence([torch.tensor(ids) for ids in candidates], batch_first=True).to(device)
        scores = self.next[0, tokens[:, :1]]
        if tokens.shape[1] > 1:
            read = self.pick(torch.zeros(len(candidates), dtype=torch.int64, device=device))
            hidden = read.extend(tokens[:, :-1], read.image[:, None].expand(-1, tokens.shape[1] - 1))[1]
            scores = torch.cat([scores, self.likelihoods(hidden).gather(2, tokens[:, 1:, None])[..., 0]], 1)
        sizes = torch.tensor([len(ids) for ids in candidates], device=device)
        there = torch.arange(tokens.shape[1], device=device) < sizes[:, None]
        summed: list[float] = scores.double().where(there, 0).sum(1).tolist()
        return summed


def fork(cache: Cache) -> Cache:
    """Give a cache that grows by itself: layers take other tensors, and do not change those they have."""
    forked = copy.copy(cache)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    forked.layers = [copy.copy(layer) if type(layer) in plain else copy.deepcopy(layer) for layer in cache.layers]
    return forked


def room(model: Flamingo, tokens: int) -> int | float:
    """Tell how many tokens can follow so many; the last one needs no position, as nothing reads it."""
    return math.inf if model.lm.max_tokens is None else model.lm.max_tokens + 1 - tokens


def read_prompts(model: Flamingo, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> Read:
    """Read prompts, a row each; `ConfigError` for one that is longer than the language model's positions."""
    longest = max(len(prompt.tokens) for prompt in prompts)
    if room(model, longest) < 1:
        raise ConfigError(f"the prompt has {longest} tokens, the language model {model.lm.max_tokens} positions")
    latents, lengths = look(model, [frames for prompt in prompts for frames in prompt.media])
    places = [(row, number) for row, prompt in enumerate(prompts) for number in range(1, len(prompt.media) + 1)]
    row, number = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).unbind(1)
    tokens = np.full((len(prompts), longest), tokenizer.pad, np.int64)
    image_of = np.zeros((len(prompts), longest), np.int32)
    padding = np.ones((len(prompts), longest), np.bool_)
    for place, prompt in enumerate(prompts):
        start = longest - len(prompt.tokens)
        tokens[place, start:], image_of[place, start:], padding[place, start:] = prompt.tokens, prompt.image_of, False
    begun = Read(
        model,
        unwanted_tokens(tokenizer, model.lm.vocab_size).to(model.device),
        latents,
        (row, number),
        lengths,
        prompt=torch.arange(len(prompts)),
        image=torch.zeros(len(prompts), dtype=torch.int32),
        count=torch.zeros(len(prompts), dtype=torch.int64),
        text=DynamicCache(config=model.lm.settings),
    )
    return begun.extend(
        torch.from_numpy(tokens).to(model.device), torch.from_numpy(image_of), torch.from_numpy(padding)
    )[0]


@torch.no_grad()
def look(model: Flamingo, media: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Give the latents [M, R, W] of media, frames [n, 3, S, S] uint8 each.

    Gives how many visual tokens each has [M] too, where they have not all as many.
    """
    counts = torch.tensor([len(frames) for frames in media], dtype=torch.int64)
    dtype, stats = next(model.vision.parameters()).dtype, STATS[model.vision.stats]
    parts = torch.split(torch.cat(list(media)), FRAMES_AT_ONCE) if media else ()
    encoded = [model.encode(normalise(frames.to(model.device), stats, dtype)) for frames in parts]
    features = torch.cat(encoded) if encoded else model.no_features()
    return model.resample(features, counts), model.resampler.sizes(counts, features.shape[1])


def unwanted_tokens(tokenizer: Tokenizer, vocab_size: int) -> Tensor:
    """Tell which tokens [V] no answer has: what ends none and is no text, and rows that the tokenizer does not know."""
    unwanted = torch.arange(vocab_size) >= tokenizer.vocab_size
    unwanted[[tokenizer.bos, tokenizer.pad]] = True
    if len(tokenizer.image) == 1:
        unwanted[tokenizer.image[0]] = True
    unwanted[[tokenizer.eos, tokenizer.eoc]] = False
    return unwanted


@contextmanager
def evaluated(model: Flamingo) -> Iterator[None]:
    """Take a model out of train mode for as long as it is asked."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def generate(
    model: Flamingo, tokenizer: Tokenizer, prompts: Sequence[Iterable[Item]], how: Decoding | None = None
) -> list[Answer]:
    """Answer prompts, all at once; `ConfigError` for one that is longer than the language model's positions.

    What a prompt is answered does not hang on the others, but for rounding.
    """
    how = how or Decoding()
    encoded = [encode_prompt(items, tokenizer) for items in prompts]
    rooms = [room(model, len(prompt.tokens)) for prompt in encoded]
    together = [number for number, most in enumerate(rooms) if most >= how.tokens]
    # A prompt that leaves no room for all tokens would have the others cut short too.
    batches = [together] * bool(together) + [[number] for number, most in enumerate(rooms) if most < how.tokens]
    answers: dict[int, Answer] = {}
    with evaluated(model):
        for numbers in batches:
            read = read_prompts(model, tokenizer, [encoded[number] for number in numbers])
            most = int(min(how.tokens, rooms[numbers[0]]))
            for number, text in zip(numbers, continue_rows(read, tokenizer, how, most, numbers), strict=True):
                answers[number] = answer_of(text, tokenizer, most < how.tokens)
    return [answers[number] for number in range(len(encoded))]


def continue_rows(read: Read, tokenizer: Tokenizer, how: Decoding, most: int, numbers: Sequence[int]) -> list[Written]:
    """Write what follows each row; `numbers` are what rows draw by."""
    stops = {tokenizer.eoc, tokenizer.eos}
    if how.beams > 1:
        return [found[0] for found in beam_search(read, how.beams, stops, most, how.penalty)]
    return write_all(read, how.sampling, stops, most, numbers)


def answer_of(written: Written, tokenizer: Tokenizer, no_room: bool) -> Answer:
    """Make an answer of what was written."""
    ends = {tokenizer.eos: END_OF_TEXT, tokenizer.eoc: END_OF_CHUNK}
    ended = ends.get(written.tokens[-1])
    tokens = written.tokens[:-1] if ended else written.tokens
    return Answer(tokenizer.decode(tokens), tokens, written.score, ended or (NO_ROOM if no_room else TOKENS))


def stream(
    model: Flamingo, tokenizer: Tokenizer, items: Iterable[Item], how: Decoding | None = None
) -> Generator[str, None, Answer]:
    """Answer one prompt piece by piece, whole characters only; the pieces make up the answer's text.

    With beams there is one piece: which text is the best is known at the end.
    """
    how = how or Decoding()
    if how.beams > 1:
        answer = generate(model, tokenizer, [items], how)[0]
        yield answer.text
        return answer
    prompt = encode_prompt(items, tokenizer)
    most = int(min(how.tokens, room(model, len(prompt.tokens))))
    stops = {tokenizer.eoc, tokenizer.eos}
    ids: list[int] = []
    score = 0.0

    def shown() -> Iterator[int]:
        nonlocal score
        for drawn in write(read_prompts(model, tokenizer, [prompt]), how.sampling, stops, most):
            token, likelihood = drawn[0]
            ids.append(token)
            score += likelihood
            if token not in stops:
                yield token

    with evaluated(model):
        yield from whole_characters(shown(), tokenizer.decode)
    return answer_of(Written(tuple(ids), score), tokenizer, most < how.tokens)


def score(model: Flamingo, tokenizer: Tokenizer, items: Iterable[Item], candidates: Sequence[str]) -> list[float]:
    """Give the log-likelihood of each candidate answer, its `<EOC>` included (SPEC-flamingo, Evaluation).

    Without its end, an answer would be as likely as all that begin with it.
    """
    prompt = encode_prompt(items, tokenizer)
    with evaluated(model):
        read = read_prompts(model, tokenizer, [prompt])
        return read.score([[*tokenizer.encode(candidate), tokenizer.eoc] for candidate in candidates])
