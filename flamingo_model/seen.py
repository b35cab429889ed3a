"""Which token sees which picture or clip: worked out once a batch, used by every block that looks.

    latents [M, R, V], image_of [B, T], media_row [M], media_number [M], segment [B, T] → see → Seen
    queries [B, T, I], keys and values [M, R, I] → Seen.attend → [B, T, I]

B rows, T tokens, M media, R visual tokens of a medium, V their width, N media of a row, I = heads · head width,
P pieces of spans, L their length. A token sees the visual tokens of one medium (SPEC-flamingo, Forward pass), or of
all before it (an ablation); where it sees none, attention gives exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flamingo_model.augment import to_device
from flamingo_model.resampler import attend

PIECES = (16, 32, 64, 128, 256, 512, 1024)
"""Tokens of the pieces that long spans are cut into: few lengths, so that compiled code meets few shapes."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The tokens of each medium, gathered into pieces of L slots that look at its visual tokens alone.

    Any order of tokens will do. Long spans are several pieces: all pieces are as long as the longest.
    """

    length: int
    medium: Tensor | None
    """[P] whose piece each is; None: piece p is that of medium p."""
    mask: Tensor | None
    """[P, 1, 1, R] which visual tokens there are, where media differ."""
    slot_token: Tensor
    """[P · L] the token in each slot; a piece is filled up with one of its own."""
    token_slot: Tensor
    """[B · T] the slot of each token."""
    idle_tokens: Tensor
    """Those of the B · T tokens that see nothing, and whose slot is any."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        """Let queries [B, T, I] look at keys and values [M, R, I]."""
        if not len(self.slot_token):
            return nothing(queries, keys, values)
        pieces = queries.flatten(0, 1).index_select(0, self.slot_token).view(-1, self.length, queries.shape[-1])
        if self.medium is not None:
            keys, values = keys.index_select(0, self.medium), values.index_select(0, self.medium)
        found = attend(pieces, keys, values, heads, self.mask).flatten(0, 1).index_select(0, self.token_slot)
        return found.index_fill(0, self.idle_tokens, 0).view_as(queries)


@dataclass(frozen=True, slots=True)
class Dense:
    """All visual tokens of a row under a mask: for tokens that see several media. Its cost grows with N."""

    media: Tensor
    """[B, N] the media of each row, filled up with any."""
    mask: Tensor
    """[B, 1, T, N · R] what each token sees; everything, for a token that sees nothing."""
    idle_tokens: Tensor
    """Those of the B · T tokens that see nothing."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        """Let queries [B, T, I] look at keys and values [M, R, I]."""
        if not self.media.numel():
            return nothing(queries, keys, values)
        keys, values = (part[self.media].flatten(1, 2) for part in (keys, values))
        found = attend(queries, keys, values, heads, self.mask)
        return found.flatten(0, 1).index_fill(0, self.idle_tokens, 0).view_as(queries)


def nothing(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Give zeros that all weights have had a part in: ranks whose batch shows nothing have gradients to share too."""
    return (queries + (keys.sum() + values.sum())) * 0


class Cache:
    """Keys and values that the steps of decoding need again. No tensor in it is ever changed.

    Those of visual tokens are the same for all that follows. Those of text, which only `grafting` has, grow: what is
    to be unseen by another candidate goes on from a `fork`.
    """

    def __init__(self) -> None:
        self.latents: Tensor | None = None
        self.visual: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.text: dict[nn.Module, tuple[Tensor, ...]] = {}

    def fork(self, rows: Tensor | None = None) -> Cache:
        """Give a cache that grows by itself; `rows` [B] picks the rows that go on, as beams need."""
        forked = Cache()
        forked.latents, forked.visual = self.latents, self.visual
        for module, kept in self.text.items():
            forked.text[module] = kept if rows is None else tuple(tensor.index_select(0, rows) for tensor in kept)
        return forked


@dataclass(frozen=True, slots=True)
class Seen:
    """What the blocks of a forward pass look at."""

    latents: Tensor
    """[M, R, V]."""
    reach: Spans | Dense
    segment: Tensor
    """[B, T] the sample of each token; 0 padding."""
    cache: Cache | None = None
    blind: bool = False
    """Attention to images gives zero, for the blind loss (SPEC-flamingo, Training)."""

    def blinded(self) -> Seen:
        """Look at nothing."""
        return replace(self, blind=True)


def see(
    latents: Tensor,
    image_of: Tensor,
    media_row: Tensor,
    media_number: Tensor,
    segment: Tensor,
    *,
    see_all: bool = False,
    dense: bool = False,
    lengths: Tensor | None = None,
    rows: Tensor | None = None,
    cache: Cache | None = None,
    blind: bool = False,
) -> Seen:
    """Work out what each token sees, for all blocks of a forward pass.

    Token t of row b sees the medium whose `media_row` is b and `media_number` is image_of[b, t], none if that is 0;
    with `see_all` those before it in its segment too. `lengths` [M] are the visual tokens of media that have not all R.
    `rows` [B] says whose media each row sees, where beams or candidates share those of a prompt. `dense` is the slow
    way to the same. Indices on the CPU make the device wait for nothing. Raises ValueError where a token's medium is
    not there, and for a cache of other latents.
    """
    if cache is not None:
        if cache.latents is not None and cache.latents is not latents:
            raise ValueError("the cache holds keys and values of other latents")
        cache.latents = latents
    image = image_of.cpu().numpy()
    row_of = np.arange(len(image)) if rows is None else rows.cpu().numpy()
    row, number = media_row.cpu().numpy(), media_number.cpu().numpy()
    if len(row) != len(latents):
        raise ValueError(f"there are {len(latents)} media, of which {len(row)} have a row")
    table = media_table(row, number, row_of)
    medium = look_up(table, image)
    held = None if lengths is None else lengths.cpu().numpy()
    reach: Spans | Dense
    if see_all or dense:
        known = segment.cpu().numpy()
        visible = all_before(table, medium, image, known) if see_all else the_one(image, table)
        reach = dense_of(table, visible, latents, held)
    else:
        reach = spans_of(medium.ravel(), latents, held)
    return Seen(latents, reach, segment, cache, blind)


def media_table(row: NDArray[Any], number: NDArray[Any], row_of: NDArray[Any]) -> NDArray[np.int64]:
    """Tell the medium of each row and number [B, N + 1], -1 where there is none; numbers begin at 1."""
    rows = int(max(row.max(initial=-1), row_of.max(initial=-1))) + 1
    table = np.full((rows, int(number.max(initial=0)) + 1), -1, np.int64)
    table[row, number] = np.arange(len(row))
    of_rows: NDArray[np.int64] = table[row_of]
    return of_rows


def look_up(table: NDArray[np.int64], image: NDArray[Any]) -> NDArray[np.int64]:
    """Tell the medium that each token sees [B, T], -1 for none."""
    if image.min(initial=0) < 0 or image.max(initial=0) >= table.shape[1]:
        raise ValueError(f"a token sees image {image.max()}: no row has more than {table.shape[1] - 1}")
    medium: NDArray[np.int64] = np.take_along_axis(table, image.astype(np.int64), 1)
    if (bad := (medium < 0) & (image > 0)).any():
        at, token = np.argwhere(bad)[0]
        raise ValueError(f"a token of row {at} sees image {image[at, token]}, which is not there")
    return medium


def spans_of(medium: NDArray[np.int64], latents: Tensor, lengths: NDArray[Any] | None) -> Spans:
    """Lay the tokens [B · T] out in pieces, by the medium that each sees."""
    shown = np.flatnonzero(medium >= 0)
    order = shown[np.argsort(medium[shown], kind="stable")]
    counts = np.bincount(medium[shown], minlength=len(latents))
    length = piece_length(counts, latents.shape[1])
    pieces = -(-counts // length)
    within = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    slot = np.repeat((pieces.cumsum() - pieces) * length, counts) + within  # only its last piece is not full
    any_token = np.zeros(int(pieces.sum()), np.int64)
    any_token[slot // length] = order
    slot_token = np.repeat(any_token, length)
    slot_token[slot] = order
    # What is in no slot, or fills one up, points at many rows: gradients added to a single one would wait in line.
    token_slot = np.arange(len(medium)) % max(1, len(slot_token))
    token_slot[order] = slot
    owner = np.repeat(np.arange(len(latents)), pieces)
    here = latents.device
    return Spans(
        length=length,
        medium=None if (pieces == 1).all() else put(owner, here),
        mask=None if lengths is None else put(there(lengths[owner], latents.shape[1])[:, None, None], here),
        slot_token=put(slot_token, here),
        token_slot=put(token_slot, here),
        idle_tokens=put(np.flatnonzero(medium < 0), here),
    )


def piece_length(counts: NDArray[np.int64], visual_tokens: int) -> int:
    """Choose the length of pieces that moves the fewest rows: each piece has its slots and a copy of its keys."""
    longest = int(counts.max(initial=1))
    choices = [length for length in PIECES if length < longest]
    if not choices or longest <= PIECES[-1]:
        choices.append(longest)
    return min(choices, key=lambda length: int((-(-counts // length)).sum()) * (length + visual_tokens))


def the_one(image: NDArray[Any], table: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which media of its row each token sees [B, T, N]: the one it names."""
    visible: NDArray[np.bool_] = image[:, :, None] == np.arange(1, table.shape[1])
    return visible


def all_before(
    table: NDArray[np.int64], medium: NDArray[np.int64], image: NDArray[Any], segment: NDArray[Any]
) -> NDArray[np.bool_]:
    """Tell which media of its row each token sees [B, T, N]: the one it names, and those before it in its segment.

    A medium's segment is that of the tokens that name it. One that none of these tokens names, as in a step of
    decoding, is of any.
    """
    numbers = np.arange(1, table.shape[1])
    rows, tokens = np.nonzero(medium >= 0)
    home = np.zeros((len(table), table.shape[1]), np.int64)
    home[rows, image[rows, tokens]] = segment[rows, tokens]
    own = (home[:, None, 1:] == segment[:, :, None]) | (home[:, None, 1:] == 0)
    visible: NDArray[np.bool_] = (numbers <= image[:, :, None]) & own & (table[:, None, 1:] >= 0)
    return visible


def dense_of(
    table: NDArray[np.int64], visible: NDArray[np.bool_], latents: Tensor, lengths: NDArray[Any] | None
) -> Dense:
    """Make the mask of what is visible [B, T, N] of each row's media."""
    idle: NDArray[np.bool_] = ~np.any(visible, axis=2)
    media, count = table[:, 1:].clip(0), latents.shape[1]
    here = latents.device
    shown = put(visible | idle[:, :, None], here)[..., None].expand(-1, -1, -1, count)
    if lengths is not None:
        shown = shown & put(there(lengths, count)[media], here)[:, None]
    return Dense(put(media, here), shown.flatten(2)[:, None], put(np.flatnonzero(idle), here))


def there(lengths: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Tell which of `count` visual tokens media of these lengths have."""
    present: NDArray[np.bool_] = np.arange(count) < lengths[:, None]
    return present


def put(array: NDArray[Any], device: torch.device) -> Tensor:
    """Move an array to a device without waiting for it."""
    return to_device(torch.from_numpy(np.ascontiguousarray(array)), device)
