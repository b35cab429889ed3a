"""Batches of the demo corpus for the trainers: a dataset, a tokenizer and what the loader makes of both.

    size of the images, rows, steps → PX-ROWS-STEPS.safetensors: `STEP/DATASET/FIELD` of a Batch

The corpus is that of `flamingo demo` with more pages, built on the first call (two minutes). A step has interleaved
rows of 256 tokens and up to 5 images, and twice as many pairs of up to 32 tokens, as in the paper.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from flamingo_model.batch import Batch
from flamingo_model.config import DataConfig, paper_dataset
from flamingo_model.data import Loader
from flamingo_model.merge import TEXT, merge
from flamingo_model.tokens import train_tokenizer
from schemas import SCHEMA_VERSION

FOLDER = Path(__file__).resolve().parents[1] / "build" / "train"
PAGES = 240
DATASET = FOLDER / f"demo-schema-{SCHEMA_VERSION}" / f"dataset-{PAGES}-0"
TOKENIZER = DATASET / "tokenizer.json"
VOCABULARY = 8000
"""The most tokens that are made of the corpus's words; it has fewer."""
IMAGES, PAIRS = 5, 2
"""Images of an interleaved row, and pairs to one of them."""
FIELDS = ("tokens", "loss", "image_of", "segment", "position", "source", "frames", "media_row", "media_number",
          "media_frames", "flip", "jitter")  # fmt: skip


def data_config(image_px: int, rows: int, **settings: object) -> DataConfig:
    """Set the loader as training would, with the tokenizer of the corpus; both are made on the first call.

    A token sees the last image before it (p_next 0): what else the paper does, open_flamingo cannot.
    """
    make_corpus()
    shards = (str(DATASET),)
    datasets = {
        "interleaved": paper_dataset("interleaved", shards=shards, batch=rows, images=IMAGES, p_next=0.0),
        "pairs": paper_dataset("pairs", shards=shards, batch=PAIRS * rows),
    }
    return DataConfig(datasets=datasets, tokenizer=str(TOKENIZER), image_px=image_px, **settings)


def make_batches(image_px: int, rows: int, steps: int) -> Path:
    """Give the file of the batches of so many steps, made on the first call."""
    path = DATASET / f"{image_px}-{rows}-{steps}.safetensors"
    if not path.exists():
        with Loader(data_config(image_px, rows)) as loader:
            taken = dict(enumerate(islice(loader, steps)))
        tensors = {
            f"{number}/{name}/{field}": getattr(batch, field).contiguous()
            for number, step in taken.items()
            for name, batch in step.items()
            for field in FIELDS
        }
        made = path.with_suffix(".partial")
        save_file(tensors, made)
        made.rename(path)
    return path


def to_batch(rows: dict[str, Tensor], name: str) -> Batch:
    """Make a batch again of what the file has of it, its pixels lying together as the loader has them."""
    rows = rows | {"frames": rows["frames"].contiguous(memory_format=torch.channels_last)}
    assert not rows["source"].any(), "a batch of one dataset"
    return Batch(**rows, keys=((),) * len(rows["tokens"]), names=(name,))


def pack(step: dict[str, Batch]) -> Batch:
    """Lay all samples of a step into rows of the longest's length: the longest sample first, each where it fits."""
    whole = merge(step)
    length, taken, rows = whole.tokens.shape[1], [], []
    for row, segments in enumerate(whole.segment):
        for segment in range(1, int(segments.max()) + 1):
            taken.append((row, (segments == segment).nonzero().flatten()))
    for row, tokens in sorted(taken, key=lambda sample: -len(sample[1])):
        fitting = [one for one in rows if sum(len(other) for _, other in one) + len(tokens) <= length]
        if not fitting:
            rows.append([])
            fitting = rows[-1:]
        fitting[0].append((row, tokens))
    return lay_out(whole, rows)


def lay_out(whole: Batch, rows: list[list[tuple[int, Tensor]]]) -> Batch:
    """Make the rows of which each is a list of samples: the row where one is now, and the places of its tokens."""
    fields = {name: torch.zeros(len(rows), whole.tokens.shape[1], dtype=getattr(whole, name).dtype) for name in TEXT}
    media: list[tuple[int, int, int]] = []
    for place, samples in enumerate(rows):
        at = shown = 0
        for segment, (row, tokens) in enumerate(samples, start=1):
            here = slice(at, at + len(tokens))
            for name in TEXT:
                fields[name][place, here] = getattr(whole, name)[row, tokens]
            fields["segment"][place, here] = segment
            seen = fields["image_of"][place, here]
            numbers = seen[seen > 0].unique().tolist()
            for number in numbers:
                shown += 1
                seen[seen == number] = -shown
                media.append((place, shown, int(((whole.media_row == row) & (whole.media_number == number)).nonzero())))
            fields["image_of"][place, here] = seen.abs()
            at += len(tokens)
    assert len(media) == len(whole.media_row) == len(whole.frames), "media of one frame, each in one sample"
    row_of, number_of, order = (torch.tensor(column) for column in zip(*media, strict=True))
    moved = {name: getattr(whole, name)[order] for name in ("frames", "media_frames", "flip", "jitter")}
    keys = tuple(((),) * len(rows))
    return replace(whole, **fields, **moved, media_row=row_of, media_number=number_of, keys=keys)


def make_corpus() -> None:
    """Build the dataset, and train the tokenizer on its texts."""
    if not (DATASET / "pairs" / "manifest.json").exists():
        print(f"building {DATASET} ...", file=sys.stderr, flush=True)
        command = [str(Path(sys.executable).with_name("flamingo")), "demo", "--pages", str(PAGES), "--no-train"]
        subprocess.run([*command, "--out", str(DATASET.parent)], check=True, stdout=subprocess.DEVNULL)
    if not TOKENIZER.exists():
        train_tokenizer(texts(), VOCABULARY).save(str(TOKENIZER))


def texts() -> Iterator[str]:
    """Read the texts of the documents and the captions of the pairs."""
    for path in sorted(path for kind in ("interleaved", "pairs") for path in (DATASET / kind).glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".txt"):
                    yield tar.extractfile(member).read().decode()
                elif path.parent.name == "interleaved" and member.name.endswith(".json"):
                    yield from filter(None, json.load(tar.extractfile(member))["texts"])
