"""A batch: rows of tokens and the frames that they show, from the rows of lanes to tensors.

    rows → (tokens and what belongs to each; uint8 frames, decoded by threads) → Batch → the device

B rows, L tokens, M media (images and clips), F frames of all media, S pixels a side. Only what the rows show is
there: no row is filled up with empty images.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flamingo_model.augment import GpuDecoder, to_device
from flamingo_model.clips import clip_frames
from flamingo_model.config import DataConfig
from flamingo_model.lanes import Piece, Row, Source
from flamingo_model.order import FLIP, FRAMES, JITTER, chance, roll
from flamingo_model.pixels import FILLS, BadImage, decode_image
from flamingo_model.samples import Medium
from flamingo_model.skips import Skip

FRAMES_AT_ONCE = 8
"""Frames that one task decodes: a task of its own for each costs more than a twentieth of the decoding."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of samples of one dataset, or of a mixture."""

    tokens: Tensor
    """[B, L] int64; padding at the end of a row."""
    loss: Tensor
    """[B, L] bool: whether a token is predicted from those before it in its segment."""
    image_of: Tensor
    """[B, L] int32: which medium of its row a token sees, counted from 1; 0 none."""
    segment: Tensor
    """[B, L] int32: which sample of its row a token belongs to, counted from 1; 0 padding."""
    position: Tensor
    """[B, L] int32: a token's place in its segment."""
    source: Tensor
    """[B, L] int32: the dataset that a token comes from, by its place in `names`."""
    frames: Tensor
    """[F, 3, S, S] uint8: the frames of all media, in the order of the rows and of their tags."""
    media_row: Tensor
    """[M] int64: the row of each medium."""
    media_number: Tensor
    """[M] int64: its number in the row, as `image_of` has it."""
    media_frames: Tensor
    """[M] int64: how many of the frames are its."""
    flip: Tensor
    """[M] bool: whether it is to be mirrored."""
    jitter: Tensor
    """[M, 3] float32: what its brightness, contrast and saturation are to be multiplied by."""
    keys: tuple[tuple[str, ...], ...]
    """The keys of each row's samples, in the order of their segments."""
    names: tuple[str, ...]
    """The datasets."""

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor, without waiting where the memory is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Copy every tensor to page-locked memory, of which copies to the device run beside its work."""
        return self._each(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        # Between processes only the frames go through shared memory: each tensor that does costs a descriptor.
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        small = {k: v.numpy() for k, v in values.items() if isinstance(v, Tensor) and k != "frames"}
        return from_arrays, (small, self.frames, self.keys, self.names)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Change every tensor."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {k: change(v) if isinstance(v, Tensor) else v for k, v in values.items()}
        return Batch(**changed)


def from_arrays(small: Mapping[str, NDArray[Any]], frames: Tensor, keys: Any, names: Any) -> Batch:
    """Make a batch of what another process sent."""
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in small.items()}
    return Batch(**tensors, frames=frames, keys=keys, names=names)


def join(batches: Sequence[Batch], buffers: Buffers | None = None) -> Batch:
    """Put the rows of several batches under each other, their frames into memory of `buffers`."""
    if len(batches) == 1:
        return batches[0]
    joined = {
        field.name: torch.cat([getattr(batch, field.name) for batch in batches])
        for field in fields(Batch)
        if field.name not in ("keys", "names", "media_row", "frames")
    }
    frames = (buffers or Buffers()).frames(sum(len(batch.frames) for batch in batches), batches[0].frames.shape[-1])
    torch.cat([batch.frames for batch in batches], out=frames)
    starts = np.cumsum([0, *(len(batch.keys) for batch in batches)])
    rows = torch.cat([batch.media_row + int(start) for batch, start in zip(batches, starts, strict=False)])
    keys = tuple(key for batch in batches for key in batch.keys)
    return Batch(**joined, frames=frames, media_row=rows, keys=keys, names=batches[0].names)


class Buffers:
    """Memory for frames, used again once no batch refers to it: fresh pages cost a tenth of what decoding does."""

    def __init__(self) -> None:
        self.idle: list[NDArray[np.uint8]] = []

    def frames(self, count: int, side: int) -> Tensor:
        """Give frames [F, 3, S, S] whose pixels lie together, as `new_frames` does."""
        size = count * side * side * 3
        # Others only add to the end of the list meanwhile. The smallest that will do: a large one is for large batches.
        fitting = [(buffer.size, place) for place, buffer in enumerate(self.idle) if buffer.size >= size]
        if fitting:
            buffer = self.idle.pop(min(fitting)[1])
        else:
            self.idle.clear()  # too small for what comes now
            buffer = np.empty(size + size // 8, np.uint8)
        view = buffer[:size]
        # A tensor made of an array holds that very object, for as long as anything shares its memory.
        weakref.finalize(view, self.idle_again, buffer).atexit = False
        return torch.from_numpy(view).view(count, side, side, 3).permute(0, 3, 1, 2)

    def idle_again(self, buffer: NDArray[np.uint8]) -> None:
        """Take a buffer back, in whatever thread let it go."""
        self.idle.append(buffer)


class Here:
    """An executor of no threads: what is submitted is done at once."""

    def submit(self, task: Callable[..., Any], *given: Any) -> Future[Any]:
        """Do a task."""
        future: Future[Any] = Future()
        future.set_result(task(*given))
        return future


@dataclass(frozen=True, slots=True)
class Shown:
    """A medium of a batch: the `number`-th of its row, whose frames begin at `start`."""

    row: int
    number: int
    piece: Piece
    medium: Medium
    source: Source
    roots: tuple[int, ...]
    start: int
    count: int


class Unfinished:
    """A batch whose frames are still being decoded by the threads of `pool`: `finish` waits for them."""

    def __init__(
        self,
        rows: Sequence[Row],
        sources: Sequence[Source],
        tokens: int,
        pad: int,
        config: DataConfig,
        pool: Executor | Here,
        buffers: Buffers,
        gpu: GpuDecoder | None = None,
    ) -> None:
        self.rows, self.sources, self.config, self.gpu = rows, sources, config, gpu
        self.text = lay_out(rows, tokens, pad)
        self.shown = list(shown_in(rows, sources))
        self.frames = buffers.frames(sum(shown.count for shown in self.shown), config.image_px)
        here = [shown for shown in self.shown if gpu is None or shown.medium.kind != "image"]
        self.tasks = [pool.submit(self.decode, task) for task in tasks_of(here)]

    def decode(self, media: Sequence[Shown]) -> list[tuple[Shown, BadImage]]:
        """Decode some media into their frames; those that cannot be decoded become the colour of the padding."""
        out, bad = self.frames.numpy(), []
        fit, fill = self.config.fit, FILLS[self.config.mean]
        for shown in media:
            frames = out[shown.start : shown.start + shown.count]
            try:
                if shown.medium.kind == "image":
                    decode_image(shown.medium.data[0], frames[0], fit, fill)
                else:
                    fps, choice = shown.source.config.fps, roll(*shown.roots, FRAMES)
                    written = clip_frames(shown.medium, shown.count, fps, choice, frames, fit, fill)
                    frames[written:] = frames[written - 1]
            except BadImage as error:
                frames[:] = np.array(fill, np.uint8)[:, None, None]
                bad.append((shown, error))
        return bad

    def finish(self) -> tuple[Batch, tuple[Skip, ...]]:
        """Wait for the frames; tokens that see one that could not be decoded are no targets."""
        skips = [skip for row in self.rows for skip in row.skipped]
        bad = [pair for task in self.tasks for pair in task.result()]
        if self.gpu is not None:
            bad += self.decode_there(self.gpu)
        for shown, error in bad:
            of_row = self.text["image_of"][shown.row]
            self.text["loss"][shown.row][of_row == shown.number] = False
            place = f"{shown.source.place_of(shown.piece.visit)}: {shown.piece.key}"
            skips.append(Skip(shown.source.name, error.reason, f"{place}: {error}"))
        text = {name: torch.from_numpy(array) for name, array in self.text.items()}
        flipped = 0.5 if self.config.flip else 0.0
        media = {
            "media_row": torch.tensor([shown.row for shown in self.shown], dtype=torch.int64),
            "media_number": torch.tensor([shown.number for shown in self.shown], dtype=torch.int64),
            "media_frames": torch.tensor([shown.count for shown in self.shown], dtype=torch.int64),
            "flip": torch.tensor([chance(flipped, *shown.roots, FLIP) for shown in self.shown], dtype=torch.bool),
            "jitter": torch.tensor([self.jitter(shown) for shown in self.shown]).reshape(-1, 3),
        }
        keys = tuple(tuple(piece.key for piece in row.pieces) for row in self.rows)
        names = tuple(source.name for source in self.sources)
        return Batch(**text, **media, frames=self.frames, keys=keys, names=names), tuple(skips)

    def decode_there(self, gpu: GpuDecoder) -> list[tuple[Shown, BadImage]]:
        """Decode the images on the device, where the frames of clips follow them."""
        images = [shown for shown in self.shown if shown.medium.kind == "image"]
        files = [shown.medium.data[0] for shown in images]
        decoded, refused = gpu(files, self.config.image_px, self.config.fit, FILLS[self.config.mean])
        if len(images) == len(self.frames):
            self.frames = decoded
        else:
            frames = to_device(self.frames, gpu.device)
            frames[torch.tensor([shown.start for shown in images], device=gpu.device)] = decoded
            self.frames = frames
        return [(images[number], error) for number, error in refused.items()]

    def jitter(self, shown: Shown) -> list[float]:
        """Choose what brightness, contrast and saturation of a medium are multiplied by."""
        most = self.config.jitter
        if not most:
            return [1.0, 1.0, 1.0]
        return [1 + most * (2 * roll(*shown.roots, JITTER, channel) - 1) for channel in range(3)]


def lay_out(rows: Sequence[Row], tokens: int, pad: int) -> dict[str, NDArray[Any]]:
    """Write the tokens of rows, and what belongs to each, as arrays [B, L]."""
    shape = (len(rows), tokens)
    out: dict[str, NDArray[Any]] = {
        "tokens": np.full(shape, pad, np.int64),
        "loss": np.zeros(shape, np.bool_),
        **{name: np.zeros(shape, np.int32) for name in ("image_of", "segment", "position", "source")},
    }
    counting = np.arange(tokens, dtype=np.int32)
    for place, row in enumerate(rows):
        at = media = 0
        for segment, piece in enumerate(row.pieces, start=1):
            window = piece.window
            here = (place, slice(at, at + len(window.tokens)))
            out["tokens"][here] = window.tokens
            out["loss"][here] = window.loss
            out["image_of"][here] = (
                np.where(window.image_of > 0, window.image_of + media, 0) if media else window.image_of
            )
            out["segment"][here] = segment
            out["position"][here] = counting[: len(window.tokens)]
            out["source"][here] = piece.visit.source
            at += len(window.tokens)
            media += len(piece.media)
    return out


def shown_in(rows: Sequence[Row], sources: Sequence[Source]) -> Iterator[Shown]:
    """List the media of rows in order; a clip takes as many frames as its dataset's clips have."""
    start = 0
    for place, row in enumerate(rows):
        number = 0
        for piece in row.pieces:
            source = sources[piece.visit.source]
            for which, medium in zip(piece.window.media, piece.media, strict=True):
                number += 1
                count = 1 if medium.kind == "image" else source.config.frames
                roots = (source.order.root, piece.visit.epoch, piece.visit.sample, which)
                yield Shown(place, number, piece, medium, source, roots, start, count)
                start += count


def tasks_of(shown: Sequence[Shown]) -> Iterator[list[Shown]]:
    """Split media into the tasks of threads, by their number of frames."""
    task: list[Shown] = []
    for medium in shown:
        task.append(medium)
        if sum(shown.count for shown in task) >= FRAMES_AT_ONCE:
            yield task
            task = []
    if task:
        yield task
