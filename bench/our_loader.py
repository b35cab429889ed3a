"""Our loader over the shards, as peer_loaders.py runs those of others: a JSON line a row goes out.

    python bench/our_loader.py pairs SHARDS '{"workers": [0, 2], "modes": ["raw"], ...}'   (bench/loader.py runs this)

`raw` are the samples of the lanes: their encoded pictures and texts. `rows` are what a batch is made of: tokens, and
the encoded pictures that they show. `decoded` are the batches that a model trains on, tokens and frames. All
words of a sample and all its pictures are in its row, so that the peers have the same to do; of making tokens they do
nothing. Without worker processes two threads decode, in a worker process one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from loader_clock import Count, Found, measure
from peer_loaders import SIDE_PX, print_rows
from shards_made import FOLDER, sentence
from torch.utils.data import IterableDataset, get_worker_info
from webdataset import WebLoader

from flamingo_model.config import DataConfig, paper_dataset
from flamingo_model.data import Loader
from flamingo_model.lanes import Lane
from flamingo_model.samples import read_sample
from flamingo_model.sources import open_sources
from flamingo_model.tokens import open_tokenizer, train_tokenizer

VOCABULARY = 8000
TOKENS = {"pairs": 64, "large": 64, "interleaved": 2048, "videos": 64}
IMAGES = 8


def tokenizer_of_words() -> Path:
    """Give a tokenizer of the words that the texts are drawn from, made on the first call."""
    path = FOLDER / "tokenizer.json"
    if not path.exists():
        import numpy as np

        dice = np.random.default_rng(5)
        train_tokenizer((sentence(dice, 200) for _ in range(2000)), VOCABULARY).save(str(path))
    return path


def config_of(kind: str, folder: Path, workers: int, batch: int) -> DataConfig:
    """Set the loader as a training run would, but for the sides of a picture and the length of a row."""
    stored = "pairs" if kind == "large" else kind
    settings = {"shards": (str(folder),), "batch": batch, "tokens": TOKENS[kind], "images": IMAGES, "window": "start"}
    return DataConfig(
        datasets={kind: paper_dataset(stored, **settings)},
        tokenizer=str(tokenizer_of_words()),
        image_px=SIDE_PX,
        fit="stretch",
        workers=workers,
        threads=1 if workers else 2,
    )


class Encoded(IterableDataset):
    """Batches of what the lanes of a process read: `rows`, or samples that are still as they are stored."""

    def __init__(self, config: DataConfig, rows: bool, batch: int) -> None:
        self.config, self.rows, self.batch = config, rows, batch

    def __iter__(self) -> Iterator[list[Any]]:
        sources, worker, lanes = open_sources(self.config), get_worker_info(), range(self.config.lane_count)
        mine = lanes[worker.id :: worker.num_workers] if worker else lanes
        tokenizer, tokens = open_tokenizer(self.config.tokenizer), sources[0].config.tokens
        opened = [Lane(number, sources, tokenizer, tokens) for number in mine]
        turns = cycle(opened if self.rows else [samples_of(lane) for lane in opened])
        while True:
            yield [next(lane) for lane in islice(turns, self.batch)]


def samples_of(lane: Lane) -> Iterator[Any]:
    """Read the samples of a lane and give their texts and pictures."""
    for parts in lane.read(lane.visits()):
        yield read_sample(parts, parts["__key__"], lane.sources[0].layout)


def ours(kind: str, folder: Path, mode: str, workers: int, batch: int) -> tuple[Iterable[Any], Count]:
    """Open our loader: its batches, and what counts the samples and pictures of one."""
    config = config_of(kind, folder, workers, batch)
    if mode == "decoded":
        return Loader(config), count_batch
    encoded = Encoded(config, mode == "rows", batch)
    context = "forkserver" if workers else None
    batches = WebLoader(encoded, batch_size=None, num_workers=workers, multiprocessing_context=context)
    return batches, count_rows if mode == "rows" else count_samples


def count_batch(batches: dict[str, Any]) -> tuple[int, int]:
    (batch,) = batches.values()
    return sum(map(len, batch.keys)), len(batch.frames)


def count_rows(rows: list[Any]) -> tuple[int, int]:
    media = [medium for row in rows for piece in row.pieces for medium in piece.media]
    return sum(len(row.pieces) for row in rows), sum(len(medium.data) for medium in media)


def count_samples(samples: list[Any]) -> tuple[int, int]:
    return len(samples), sum(len(medium.data) for sample in samples for medium in sample.media)


def run(kind: str, folder: Path, given: dict[str, Any], mode: str, workers: int) -> Found:
    batches, count = ours(kind, folder, mode, workers, given["batch"])
    return measure(iter(batches), count, given["warm"][mode], given["samples"][mode], given["rounds"])


def main() -> None:
    kind, folder, given = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    print_rows(kind, folder, given, partial(run, kind, folder, given))


if __name__ == "__main__":
    main()
