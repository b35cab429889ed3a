"""What a batch holds, as a person reads it: each row as spans of text, special tokens, images and padding.

    Batch → what it adds up to, and row by row a RowView → JSON (here), a page (`look_page`), a terminal (`look_lines`)

What is shown is what the model is given: texts are decoded from the row's tokens, pictures are the batch's own frames.
Both are of strangers: `clean`, which the caller passes in, makes text safe for where it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from flamingo_model.augment import augment
from flamingo_model.pixels import Stats

if TYPE_CHECKING:
    from flamingo_model.batch import Batch
    from flamingo_model.tokens import Tokenizer

TEXT, SPECIAL, IMAGE, PADDING = "text", "special", "image", "padding"
MAX_UNREADABLE = 64
"""Tokens tried together for whole characters; more bytes than that without one are shown as they are."""
IMAGE_PX, FRAME_PX = 128, 80
"""Largest side of the thumbnail of an image, and of each frame of a clip."""
UNCHANGED = Stats(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""Normalises pixels to what they were, 0 to 255."""
Clean = Callable[[str], str]
Steps = Iterable[Mapping[str, "Batch"]]


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens of a row that are shown as one: the fewest that make whole characters, a tag, padding.

    `image_of` is phi, the number of the image that the tokens see, 0 for none; `loss` whether they are targets;
    `segment` the number of their sample in the row, 0 for padding.
    """

    start: int
    stop: int
    what: str
    text: str
    image_of: int
    loss: bool
    segment: int

    @property
    def state(self) -> tuple[int, bool, int]:
        """What tokens of one run have in common."""
        return self.image_of, self.loss, self.segment


@dataclass(frozen=True, slots=True)
class MediumView:
    """An image (T = 1) or a clip of a row.

    frames [T, 3, S, S] uint8, flip [1] bool and jitter [1, 3] are the batch's own, S pixels a side.
    """

    number: int
    frames: Tensor
    flip: Tensor
    jitter: Tensor

    @property
    def told(self) -> str:
        """Name it, its size, and whether it is mirrored."""
        count, _, height_px, width_px = self.frames.shape
        size = f"{width_px}x{height_px}"
        told = f"image {self.number} {size}" if count == 1 else f"clip {self.number} of {count} frames {size}"
        return told + (" mirrored" if self.flip else "")

    def thumbnail(self) -> Image.Image:
        """Draw its frames in a row, made smaller, with the mirroring and the colours that the model sees."""
        side_px = IMAGE_PX if len(self.frames) == 1 else FRAME_PX
        own = torch.zeros(len(self.frames), dtype=torch.int64)
        seen = augment(self.frames, own, self.flip, self.jitter, UNCHANGED).round().to("cpu", torch.uint8)
        pictures = [Image.fromarray(frame) for frame in seen.permute(0, 2, 3, 1).contiguous().numpy()]
        for picture in pictures:
            picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        strip = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
        for place, picture in enumerate(pictures):
            strip.paste(picture, (place * picture.width, 0))
        return strip


@dataclass(frozen=True, slots=True)
class RowView:
    """A row: its tokens [L], their places in their samples [L], what they are shown as, its media by number.

    `sources` are the datasets of its samples by segment, where the batch is a mixture.
    """

    number: int
    tokens: list[int]
    position: list[int]
    spans: tuple[Span, ...]
    media: Mapping[int, MediumView]
    keys: tuple[str, ...]
    sources: Mapping[int, str]
    problems: tuple[str, ...]

    def runs(self) -> Iterator[list[Span]]:
        """Yield the spans that see the same image, are targets or are not, and belong to one sample, together."""
        for _, run in groupby(self.spans, key=lambda span: span.state):
            yield list(run)


def facts_of(batch: Batch) -> dict[str, int | float]:
    """Count what a batch holds; `padding` is the share of its tokens that are none."""
    rows, length = batch.tokens.shape
    real = int((batch.segment > 0).sum())
    samples = sum(len(keys) for keys in batch.keys)
    return {
        "rows": rows,
        "length": length,
        "samples": samples,
        "tokens": real,
        "targets": int(batch.loss.sum()),
        "padding": 1 - real / max(1, rows * length),
        "media": len(batch.media_row),
        "frames": len(batch.frames),
        "side_px": int(batch.frames.shape[-1]),
    }


def view_rows(batch: Batch, tokenizer: Tokenizer, rows: int | None = None) -> Iterator[RowView]:
    """Yield the first `rows` rows of a batch, or all."""
    count = len(batch.tokens) if rows is None else min(rows, len(batch.tokens))
    starts = list(accumulate(batch.media_frames.tolist(), initial=0))
    media: list[dict[int, MediumView]] = [{} for _ in range(count)]
    for place, row in enumerate(batch.media_row.tolist()):
        if row < count:
            medium = MediumView(
                int(batch.media_number[place]),
                batch.frames[starts[place] : starts[place + 1]],
                batch.flip[place : place + 1],
                batch.jitter[place : place + 1],
            )
            media[row][medium.number] = medium
    reader = Reader(tokenizer)
    for row in range(count):
        columns = (batch.tokens, batch.image_of, batch.loss, batch.segment)
        spans = tuple(reader.spans(*(column[row].tolist() for column in columns)))
        owners = dict(zip(batch.segment[row].tolist(), batch.source[row].tolist(), strict=True))
        yield RowView(
            row,
            batch.tokens[row].tolist(),
            batch.position[row].tolist(),
            spans,
            media[row],
            tuple(batch.keys[row]),
            {segment: batch.names[source] for segment, source in owners.items() if segment and len(batch.names) > 1},
            tuple(problems_of(spans, media[row])),
        )


class Reader:
    """Turns a row's tokens into spans."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tag = tuple(tokenizer.image)
        names: dict[int, list[str]] = {}
        for name in ("bos", "eos", "eoc", "pad"):
            names.setdefault(getattr(tokenizer, name), []).append(name.upper())
        self.special = {token: f"<{'/'.join(same)}>" for token, same in names.items()}
        # Many decoders drop a space that begins what they are given, so a letter is put before it.
        anchor = tokenizer.encode("a")[-1:]
        self.anchor = anchor if tokenizer.decode(anchor) == "a" else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode tokens from the middle of a text."""
        text: str = self.tokenizer.decode([*self.anchor, *tokens])
        return text[1:] if self.anchor and text.startswith("a") else self.tokenizer.decode(list(tokens))

    def spans(
        self, tokens: Sequence[int], image_of: Sequence[int], loss: Sequence[bool], segment: Sequence[int]
    ) -> Iterator[Span]:
        """Yield the spans of a row."""
        at, end = 0, len(tokens)
        states = list(zip(image_of, loss, segment, strict=True))
        kinds = self.kinds(tokens, states)
        while at < end:
            kind, stop = kinds[at], at + 1
            if kind == IMAGE:
                stop = at + len(self.tag)
            elif kind in (TEXT, PADDING):
                while stop < end and kinds[stop] == kind and states[stop] == states[at]:
                    stop += 1
            if kind == TEXT:
                for start, after, text in self.characters(tokens, at, stop):
                    yield Span(start, after, TEXT, text, *states[at])
            else:
                yield Span(at, stop, kind, self.special.get(tokens[at], "") if kind == SPECIAL else "", *states[at])
            at = stop

    def kinds(self, tokens: Sequence[int], states: Sequence[tuple[int, bool, int]]) -> list[str]:
        """Say of each token what it is; all tokens of a tag are an image."""
        kinds = [SPECIAL if token in self.special else TEXT for token in tokens]
        at, length = 0, len(self.tag)
        while at < len(tokens):
            if not states[at][2]:
                kinds[at] = PADDING
            elif tuple(tokens[at : at + length]) == self.tag and len(set(states[at : at + length])) == 1:
                kinds[at : at + length] = [IMAGE] * length
                at += length - 1
            at += 1
        return kinds

    def characters(self, tokens: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int, str]]:
        """Yield where the fewest tokens that make whole characters begin and end, and the characters.

        What is left of a character that another run begins or ends is shown as the replacement sign.
        """
        while start < stop:
            for after in range(start + 1, min(start + MAX_UNREADABLE, stop) + 1):
                text = self.decode(tokens[start:after])
                if text and not text.endswith("\ufffd"):
                    break
            yield start, after, text
            start = after


def problems_of(spans: Sequence[Span], media: Mapping[int, MediumView]) -> Iterator[str]:
    """Say what a row should not be like: a tag without its image or the reverse, a token that sees what is not its."""
    tags = [span for span in spans if span.what == IMAGE]
    owners = {tag.image_of: tag.segment for tag in reversed(tags)}  # the first tag of an image owns it
    if len(owners) < len(tags):
        yield "two tags are of one image"
    yield from (f"the tag of image {number} has no image" for number in owners if number not in media)
    yield from (f"image {number} has no tag" for number in media if number not in owners)
    for (number, loss, segment), run in groupby(spans, key=lambda span: span.state):
        kinds = {span.what for span in run}
        if number and number not in media and number not in owners:
            yield f"tokens see image {number}, which is not there"
        if number and owners.get(number, segment) != segment:
            yield f"tokens of sample {segment} see image {number}, which is of sample {owners[number]}"
        if loss and kinds & {IMAGE, PADDING}:
            yield "a tag or padding is a target"


def sample_name(row: RowView, segment: int) -> str:
    """Name a sample of a row: its key, and in a mixture its dataset."""
    key = row.keys[segment - 1] if segment <= len(row.keys) else "(no key)"
    return " · ".join(filter(None, [f"sample {segment}", key, row.sources.get(segment, "")]))


def rows_json(steps: Steps, tokenizer: Tokenizer, rows: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the first `rows` rows of each batch, or all, for programs."""
    for step, batches in enumerate(steps):
        for name, batch in batches.items():
            for row in view_rows(batch, tokenizer, rows):
                yield {"step": step, "batch": name} | row_json(row)


def row_json(row: RowView) -> dict[str, Any]:
    """Write a row for programs: [start, stop, value] for what stretches over tokens, no pixels."""
    runs = [(run[0].start, run[-1].stop, *run[0].state) for run in row.runs()]
    return {
        "row": row.number,
        "keys": list(row.keys),
        "tokens": row.tokens,
        "text": "".join("<image>" if span.what == IMAGE else span.text for span in row.spans),
        "image_of": merge((start, stop, number) for start, stop, number, _, _ in runs),
        "loss": merge((start, stop, loss) for start, stop, _, loss, _ in runs),
        "segment": merge((start, stop, segment) for start, stop, _, _, segment in runs),
        "padding": sum(span.stop - span.start for span in row.spans if span.what == PADDING),
        "media": [
            {
                "number": medium.number,
                "frames": len(medium.frames),
                "flip": bool(medium.flip),
                "jitter": medium.jitter[0].tolist(),
            }
            for medium in row.media.values()
        ],
        "problems": list(row.problems),
    }


def merge(stretches: Iterable[tuple[int, int, Any]]) -> list[list[Any]]:
    """Join neighbouring stretches of the same value."""
    found: list[list[Any]] = []
    for start, stop, value in stretches:
        if found and found[-1][2] == value:
            found[-1][1] = stop
        else:
            found.append([start, stop, value])
    return found
