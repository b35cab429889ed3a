"""Batches of several datasets as one, and one as several: the passes of a step.

    {dataset: Batch [B_m, L_m]} → merge → Batch [B, L], L the longest L_m: short rows share one, apart by segment
    Batch [B, L] → split_rows → Batches of few rows and the frames that they show
    {dataset: Batch} → count → [5, S] of what the losses are divided by, and of what is logged

The gradient of one merged batch, with a weight for every token, is that of the accumulated passes (SPEC-flamingo,
Data). B rows, L tokens, M media, F frames, S datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flamingo_model.batch import Batch, join
from flamingo_model.losses import find_targets

COUNTED = ("targets", "samples", "tokens", "media", "frames")
TARGETS, SAMPLES, TOKENS, MEDIA, FRAMES = range(len(COUNTED))
"""The rows of what `count` gives."""
MEDIA_FIELDS = ("media_number", "media_frames", "flip", "jitter")
TEXT = ("tokens", "loss", "image_of", "segment", "position", "source")


def merge(batches: Mapping[str, Batch]) -> Batch:
    """Join the batches of a step; `source` then counts the datasets of all of them, in their order."""
    given = list(batches.values())
    names = tuple(name for batch in given for name in batch.names)
    if len(given) == 1:
        return given[0]
    longest = max(batch.tokens.shape[1] for batch in given)
    starts = np.cumsum([0, *(len(batch.names) for batch in given)])
    folded = []
    for batch, start in zip(given, starts, strict=False):
        row = fold(batch, longest)
        folded.append(replace(row, source=row.source + int(start), names=names))
    return join(folded)


def fold(batch: Batch, length: int) -> Batch:
    """Lay short rows behind each other into rows of `length`, with their segments and media numbered on."""
    beside = length // batch.tokens.shape[1]
    if beside > 1:
        batch = stack(batch, beside)
    missing = length - batch.tokens.shape[1]
    # Padding is in no segment, so that it does not matter which token it is.
    padded: dict[str, Any] = {name: functional.pad(getattr(batch, name), (0, missing)) for name in TEXT}
    return replace(batch, **padded)


def stack(batch: Batch, beside: int) -> Batch:
    """Make one row of every `beside` rows; the last one is filled up with padding."""
    rows = batch.tokens.shape[0]
    missing = -rows % beside
    text = {name: functional.pad(getattr(batch, name), (0, 0, 0, missing)) for name in TEXT}
    for name, most in (("segment", text["segment"].amax(1)), ("image_of", media_of_rows(batch, rows + missing))):
        # What stands before a row in its new row is counted on; 0 stays 0.
        whole = most.view(-1, beside).cumsum(1) - most.view(-1, beside)
        before = whole.reshape(-1, 1).to(text[name].dtype)
        text[name] = torch.where(text[name] > 0, text[name] + before, 0)
        if name == "image_of":
            number = batch.media_number + whole.reshape(-1)[batch.media_row]
    keys = tuple(
        tuple(key for row in batch.keys[at : at + beside] for key in row) for at in range(0, len(batch.keys), beside)
    )
    joined: dict[str, Any] = {name: value.reshape(-1, beside * value.shape[1]) for name, value in text.items()}
    return replace(batch, **joined, media_row=batch.media_row // beside, media_number=number, keys=keys)


def media_of_rows(batch: Batch, rows: int) -> Tensor:
    """Count the media of each row [rows]."""
    return torch.bincount(batch.media_row, minlength=rows)


def split_rows(batch: Batch, most: int) -> Iterator[Batch]:
    """Split a batch into parts of at most `most` rows; 0 leaves it whole. Tensors are views."""
    rows = batch.tokens.shape[0]
    if not most or rows <= most:
        yield batch
        return
    # Media stand in the order of their rows, frames in that of the media.
    row_of, frames = batch.media_row.tolist(), np.cumsum([0, *batch.media_frames.tolist()])
    for begin in range(0, rows, most):
        end = min(begin + most, rows)
        first, last = (int(np.searchsorted(row_of, row)) for row in (begin, end))
        media = slice(first, last)
        text = {name: getattr(batch, name)[begin:end] for name in TEXT}
        yield replace(
            batch,
            **text,
            frames=batch.frames[int(frames[first]) : int(frames[last])],
            media_row=batch.media_row[media] - begin,
            **{name: getattr(batch, name)[media] for name in MEDIA_FIELDS},
            keys=batch.keys[begin:end],
        )


def count(batches: Mapping[str, Batch], datasets: Sequence[str]) -> Tensor:
    """Count, of each dataset, targets, samples, tokens, media and frames: float64 [5, S], to be added over ranks."""
    out = torch.zeros(len(COUNTED), len(datasets), dtype=torch.float64)
    for batch in batches.values():
        place = torch.tensor([datasets.index(name) for name in batch.names])
        media = place[dataset_of_media(batch)]
        real = batch.segment > 0
        for row, what in enumerate(
            (find_targets(batch).source, batch.source[(batch.position == 0) & real], batch.source[real])
        ):
            out[row] += torch.bincount(place[what.long()], minlength=len(datasets))
        out[MEDIA] += torch.bincount(media, minlength=len(datasets))
        out[FRAMES] += torch.bincount(media, batch.media_frames.double(), minlength=len(datasets))
    return out


def dataset_of_media(batch: Batch) -> Tensor:
    """Tell whose each medium is, int64 [M], by a token that sees it; the first dataset's where none does."""
    most = int(batch.media_number.max()) + 1 if len(batch.media_number) else 1
    table = torch.zeros(len(batch.tokens), most, dtype=torch.int64)
    row = torch.arange(len(batch.tokens))[:, None].expand_as(batch.tokens)
    table[row, batch.image_of.long().clamp(max=most - 1)] = batch.source.long()
    return table[batch.media_row, batch.media_number]
