"""Tokens from a language model, one after another: greedy, sampled or by beam search; and as text while they come.

    Reading (rows of text that a model has read, and what it expects next) → the tokens that follow, up to a stop

B rows, V tokens of the vocabulary. Nothing here knows a model: whatever is a `Reading` can be continued.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor

from flamingo_model.order import roll

INCOMPLETE = "\ufffd"
"""What the first bytes of a character are written as."""


class Reading(Protocol):
    """Rows of text that a model has read. It never changes: reading on gives another one."""

    @property
    def next(self) -> Tensor:
        """[B, V] float32: the log-probability of every token to come next, minus infinity for those not wanted."""

    def read(self, tokens: Tensor) -> Self:
        """Read one more token [B] int64 in every row."""

    def pick(self, rows: Tensor) -> Self:
        """Take some rows [B'] int64, in any order and as often as wanted."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a next token is drawn; without anything said it is the most likely one."""

    temperature: float = 0.0
    """What log-probabilities are divided by; 0 takes the most likely token."""
    top_k: int = 0
    """Draw from so many of the most likely tokens; 0 from all."""
    top_p: float = 1.0
    """Draw from the fewest most likely tokens that together have this probability."""
    seed: int = 0
    """Row n of seed s draws as row 0 of seed s + n does, whatever the other rows are."""

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature is 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k is 0 or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is more than 0 and at most 1, not {self.top_p}")


def choose(scores: Tensor, how: Sampling, rows: Sequence[int], step: int) -> Tensor:
    """Choose a token [B] for each row of log-probabilities [B, V]; `rows` are the numbers that they draw by."""
    if how.temperature == 0:
        return scores.argmax(1)
    size = scores.shape[1]
    likely, tokens = scores.topk(min(how.top_k or size, size))
    shares = ((likely - likely[:, :1]).double() / how.temperature).softmax(1)
    shares = shares.where(shares.cumsum(1) - shares < how.top_p, 0)
    summed = shares.cumsum(1)
    rolls = torch.tensor([[roll(how.seed + row, step)] for row in rows], dtype=torch.float64, device=scores.device)
    drawn = torch.searchsorted(summed, rolls * summed[:, -1:], right=True)
    # A roll of nearly 1 may be rounded up to the sum.
    last = (shares > 0).sum(1, keepdim=True) - 1
    return tokens.gather(1, drawn.minimum(last))[:, 0]


def write(
    reading: Reading, how: Sampling, stops: Collection[int], most: int, rows: Sequence[int] | None = None
) -> Iterator[dict[int, tuple[int, float]]]:
    """Give, step by step, the next token and its log-probability of each row that goes on.

    A row ends with one of `stops`, which is given too, or after `most` tokens; the others go on without it. `rows`
    are their numbers, by which they draw.
    """
    rows = range(len(reading.next)) if rows is None else rows
    for step in range(most):
        tokens = choose(reading.next, how, rows, step)
        scores = reading.next.gather(1, tokens[:, None])[:, 0]
        drawn = dict(zip(rows, zip(tokens.tolist(), scores.tolist(), strict=True), strict=True))
        yield drawn
        going = [place for place, row in enumerate(rows) if drawn[row][0] not in stops]
        if not going or step + 1 == most:
            return
        if len(going) < len(rows):
            places = torch.tensor(going, device=tokens.device)
            reading, tokens, rows = reading.pick(places), tokens[places], [rows[place] for place in going]
        reading = reading.read(tokens)


@dataclass(frozen=True, slots=True)
class Written:
    """Tokens that were written after a row, with the one that ended them if one did, and their log-likelihood."""

    tokens: tuple[int, ...]
    score: float


def write_all(
    reading: Reading, how: Sampling, stops: Collection[int], most: int, rows: Sequence[int] | None = None
) -> list[Written]:
    """Write what follows each row, greedy or sampled, as `write` does."""
    rows = range(len(reading.next)) if rows is None else rows
    steps = list(write(reading, how, stops, most, rows))
    drawn = [[step[row] for step in steps if row in step] for row in rows]
    return [Written(tuple(token for token, _ in row), sum(score for _, score in row)) for row in drawn]


@dataclass(slots=True)
class Search:
    """The beam of one row: `live` texts go on, `found` ones are at their end, the best first."""

    live: list[Written] = field(default_factory=lambda: [Written((), 0.0)])
    found: list[Written] = field(default_factory=list)


def beam_search(
    reading: Reading, beams: int, stops: Collection[int], most: int, penalty: float = 0.0
) -> list[list[Written]]:
    """Search what follows each row most likely: up to `beams` texts a row, the best first.

    Texts are ranked by log-likelihood / length ** `penalty` (0 in SPEC-flamingo, Evaluation, which names none),
    the end counted. A text that ends is found if it is among the best `beams` continuations of its step; as many as
    ever go on beside it. A row is done when nothing that goes on can become better than the worst it has found.
    """
    searches = [Search() for _ in range(len(reading.next))]
    going = searches
    for length in range(1, most + 1):
        width = min(beams * (1 + len(stops)), reading.next.shape[1])
        scores, tokens = (found.tolist() for found in reading.next.topk(width))
        rows: list[int] = []
        first = 0
        for search in going:
            here = range(first, first + len(search.live))
            first = here.stop
            continued = continuations(search.live, [scores[row] for row in here], [tokens[row] for row in here])
            kept = advance(search, continued, beams, stops, length == most, penalty)
            if can_improve(search, beams, length, most, penalty):
                rows += [here.start + parent for parent in kept]
            else:
                search.live = []
        going = [search for search in going if search.live]
        if not going:
            break
        device = reading.next.device
        last = [text.tokens[-1] for search in going for text in search.live]
        reading = reading.pick(torch.tensor(rows, device=device)).read(torch.tensor(last, device=device))
    return [search.found for search in searches]


def continuations(
    live: Sequence[Written], scores: Sequence[Sequence[float]], tokens: Sequence[Sequence[int]]
) -> list[tuple[int, Written]]:
    """List the continuations of texts, the best first, each with the number of the text that it continues."""
    listed = [
        (parent, Written((*text.tokens, token), text.score + score))
        for parent, text in enumerate(live)
        for token, score in zip(tokens[parent], scores[parent], strict=True)
        if score > -math.inf
    ]
    return sorted(listed, key=lambda pair: -pair[1].score)


def advance(
    search: Search,
    continued: Sequence[tuple[int, Written]],
    beams: int,
    stops: Collection[int],
    at_end: bool,
    penalty: float,
) -> list[int]:
    """Take the best continuations as found or live; tell which text each live one continues."""
    ended = [at_end or text.tokens[-1] in stops for _, text in continued]
    search.found += [text for (_, text), end in zip(continued[:beams], ended, strict=False) if end]
    search.found.sort(key=lambda text: -rank(text.score, len(text.tokens), penalty))
    del search.found[beams:]
    going = [pair for pair, end in zip(continued, ended, strict=True) if not end][:beams]
    search.live = [text for _, text in going]
    return [parent for parent, _ in going]


def can_improve(search: Search, beams: int, length: int, most: int, penalty: float) -> bool:
    """Tell whether a live text may yet be found: its log-likelihood can only fall, its length grow to `most`."""
    if not search.live or len(search.found) < beams:
        return bool(search.live)
    worst = search.found[-1]
    reachable = max(rank(search.live[0].score, end, penalty) for end in (length + 1, most))
    return reachable > rank(worst.score, len(worst.tokens), penalty)


def rank(score: float, length: int, penalty: float) -> float:
    """Give what texts of different lengths are compared by."""
    return score / float(length**penalty)


def whole_characters(tokens: Iterable[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Give the text of tokens piece by piece as they come, holding back characters that are not complete.

    The pieces make up what decoding all tokens at once gives. Each is decoded behind the one before it: tokenizers
    drop the space before a word that begins a text.
    """
    before: list[int] = []
    held: list[int] = []
    known = ""
    for token in tokens:
        held.append(token)
        text = decode(before + held)
        if text == known or text.endswith(INCOMPLETE):
            continue
        yield text[len(known) :]
        before, held = held, []
        known = decode(before)
    rest = decode(before + held)[len(known) :]
    if rest:
        yield rest
