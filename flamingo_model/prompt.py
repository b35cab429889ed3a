"""A prompt: texts, images and clips in reading order → tokens, and which image each of them sees.

    a file → open_medium → frames [T, 3, S, S] uint8 of one image (T = 1) or clip
    items (texts, frames) → encode_prompt → Prompt: `<BOS> text <EOC><image> text ...`, open at its end

T frames, S pixels a side. Tokens and frames are made by what makes those of the training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flamingo_model.clips import VIDEOS, clip_frames
from flamingo_model.pixels import FILLS, LIMITS, PAD, decode_image, new_frames
from flamingo_model.samples import Medium
from flamingo_model.tokens import Encoded, Tokenizer, encode_items, sample_window
from schemas.config import ConfigError

MIDDLE = 0.5
"""Which part of a longer clip is read; in training it is any."""


class Mark(Enum):
    """What a prompt may hold beside texts and media."""

    END = "end"


END = Mark.END
"""The end of a chunk, `<EOC>`; before an image it is written anyway."""

Item = str | Tensor | Mark
"""A text, the frames [T, 3, S, S] uint8 of an image or clip, or `END`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens int32 [n], which of `media` each sees int32 [n] (counted from 1; 0 none), and the frames of each."""

    tokens: NDArray[np.int32]
    image_of: NDArray[np.int32]
    media: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Looks:
    """How a model was shown images and clips in training; `DataConfig` says what each means."""

    image_px: int
    fit: str = PAD
    mean: str = "clip"
    frames: int = 8
    fps: float = 1.0


def encode_prompt(items: Iterable[Item], tokenizer: Tokenizer) -> Prompt:
    """Encode a prompt as SPEC-flamingo, Data has it, without the `<EOC><EOS>` that would end it.

    Neighbouring texts are joined as in training. `END` writes one `<EOC>`, however often it is said, and none at the
    start.
    """
    media: list[Tensor] = []
    chunks: list[list[str | int]] = [[]]
    for item in items:
        if isinstance(item, Mark):
            chunks.append([])
        elif isinstance(item, Tensor):
            chunks[-1].append(len(media))
            media.append(item)
        elif item:
            chunks[-1].append(item)
    ids = [tokenizer.bos]
    tags: list[int] = []
    for chunk in filter(None, chunks):
        if len(ids) > 1:
            ids.append(tokenizer.eoc)
        encoded = encode_items(chunk, tokenizer)
        tags += [len(ids) - 1 + tag for tag in encoded.tags]
        ids += encoded.tokens[1:-2].tolist()
    if len(ids) > 1 and not chunks[-1]:
        ids.append(tokenizer.eoc)
    joined = Encoded(np.array(ids, np.int32), tuple(tags), tuple(range(len(media))), tokenizer.image)
    window = sample_window(joined, len(ids), len(media), 0.0, False)
    return Prompt(window.tokens, window.image_of, tuple(media))


def read_medium(medium: Medium, looks: Looks) -> Tensor:
    """Decode an image, or the middle of a clip, into frames [T, 3, S, S] uint8; `BadImage` says what cannot be.

    A clip has as many frames as in training: the last one is repeated in one that is shorter.
    """
    frames = new_frames(1 if medium.kind == "image" else looks.frames, looks.image_px)
    out, fill = frames.numpy(), FILLS[looks.mean]
    if medium.kind == "image":
        decode_image(medium.data[0], out[0], looks.fit, fill)
    else:
        written = clip_frames(medium, looks.frames, looks.fps, MIDDLE, out, looks.fit, fill)
        out[written:] = out[written - 1]
    return frames


def open_medium(path: str, kind: str, looks: Looks) -> Tensor:
    """Read the frames of an `image` or a `video` from a file; a `ConfigError` says in one line what is wrong."""
    most = LIMITS.max_bytes if kind == "image" else VIDEOS.max_bytes
    try:
        with open(path, "rb") as file:
            return read_medium(Medium((file.read(most + 1),), kind), looks)
    except OSError as error:
        raise ConfigError(f"--{kind} {path}: {error.strerror or error}") from None
    except ValueError as error:  # a `BadImage`, or a name that no file can have
        raise ConfigError(f"--{kind} {path}: {error}") from None
