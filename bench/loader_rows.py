"""The order and the rows of our loader: how well it shuffles beside webdataset, and how much of its rows is padding.

    python bench/loader_rows.py

Shuffling: 200 shards of 1,000 samples, batches of 256, one reader, by webdataset's own functions (its shards shuffled,
then a reservoir) and by ours, by the number of samples held. Counted over an epoch: the shards that a batch is
of, how often the next sample is of the same shard, samples that are read twice or never. Chance alone gives the last
line. Padding: the share of the tokens of rows that are none, over captions and documents that are drawn from a seed,
with a row a sample and packed.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from our_loader import config_of
from rich.console import Console
from rich.table import Table
from shards_made import make_dataset
from webdataset.filters import shuffle

from flamingo_model.config import DataConfig
from flamingo_model.lanes import Lane, Row
from flamingo_model.order import Order, root_of
from flamingo_model.sources import open_sources
from flamingo_model.tokens import open_tokenizer

SHARDS, SHARD_SAMPLES, BATCH, BLOCK, LANES = 200, 1000, 256, 32, 64
HELD = (1024, 4096)
RESERVOIRS = (1000, 5000)
ROWS = 640
PADDED = (
    ("pairs", 4000, 32), ("pairs", 4000, 64), ("pairs", 4000, 256), ("pairs", 4000, 2048),
    ("interleaved", 600, 256), ("interleaved", 600, 2048),
)  # fmt: skip
"""Kind, samples in the dataset, tokens of a row."""


def main() -> None:
    """Count both and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-rows", action="store_true", help="only the order, which needs no shards")
    given = parser.parse_args()
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(shuffling())
    if not given.no_rows:
        console.print(padding())


# --- order -----------------------------------------------------------------------------------------------------------


def shuffling() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("order")
    for head in ("samples\nheld", "shards\na batch", "next of the\nsame shard", "twice\nor never"):
        table.add_column(head, justify="right")
    for held in RESERVOIRS:
        table.add_row("webdataset", f"{held:,}", *told(by_webdataset(held)))
    for held in HELD:
        table.add_row("flamingo", f"{held:,}", *told(by_lanes(held)))
    everything = list(range(SHARDS * SHARD_SAMPLES))
    random.Random(0).shuffle(everything)
    table.add_row("chance", f"{len(everything):,}", *told(everything))
    return table


def told(samples: Iterable[int]) -> tuple[str, str, str]:
    shards_a_batch, same, wrong = quality(samples)
    return f"{shards_a_batch:.1f}", f"{same:.3f}", f"{wrong:,}"


def quality(samples: Iterable[int]) -> tuple[float, float, int]:
    """Give the mean number of shards of a batch, the share of neighbours of one shard, the samples not read once."""
    order = np.fromiter(samples, np.int64)
    shards = order // SHARD_SAMPLES
    whole = shards[: len(shards) // BATCH * BATCH].reshape(-1, BATCH)
    counts = np.bincount(order, minlength=SHARDS * SHARD_SAMPLES)
    same = np.mean([left == right for left, right in pairwise(shards.tolist())])
    return float(np.mean([len(np.unique(batch)) for batch in whole])), float(same), int((counts != 1).sum())


def by_webdataset(held: int) -> Iterator[int]:
    """Shuffle the shards, and then their samples in a reservoir."""
    dice = random.Random(0)
    shards = list(range(SHARDS))
    dice.shuffle(shards)
    samples = (shard * SHARD_SAMPLES + sample for shard in shards for sample in range(SHARD_SAMPLES))
    return iter(shuffle(held, initial=held, rng=dice)(samples))


def by_lanes(held: int) -> Iterator[int]:
    """Take a sample of every lane in turn, as a batch does."""
    firsts = list(range(0, (SHARDS + 1) * SHARD_SAMPLES, SHARD_SAMPLES))
    lanes = min(LANES, held // BLOCK)
    order = Order(firsts, root_of(0, "shuffling"), lanes, BLOCK, held // (BLOCK * lanes), epochs=1)
    reading = [samples_of(order, lane) for lane in range(lanes)]
    while reading:
        # A lane that has ended stays silent, as it does where every sample is read once.
        turn = [next(lane, None) for lane in reading]
        yield from (sample for sample in turn if sample is not None)
        reading = [lane for lane, sample in zip(reading, turn, strict=True) if sample is not None]


def samples_of(order: Order, lane: int) -> Iterator[int]:
    window = 0
    while visits := order.window_of(lane, window):
        yield from (visit.sample for visit in visits)
        window += 1


# --- rows ------------------------------------------------------------------------------------------------------------


def padding() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("rows of")
    for head in ("tokens\na row", "padding,\none sample a row", "padding,\npacked", "samples a row,\npacked"):
        table.add_column(head, justify="right")
    for kind, samples, tokens in PADDED:
        folder = make_dataset(kind, samples)
        alone, packed = (filled(kind, folder, tokens, pack) for pack in (False, True))
        shares = [f"{100 * share:.1f} %" for share in (alone[0], packed[0])]
        table.add_row(kind, f"{tokens:,}", *shares, f"{packed[1]:.1f}")
    return table


def filled(kind: str, folder: Path, tokens: int, pack: bool) -> tuple[float, float]:
    """Give the share of padding, and the samples of a row."""
    config = config_of(kind, folder, 0, LANES)
    dataset = dataclasses.replace(config.datasets[kind], tokens=tokens, window="random", pack=pack)
    rows = list(islice(rows_of(dataclasses.replace(config, datasets={kind: dataset})), ROWS))
    real = sum(len(piece.window.tokens) for row in rows for piece in row.pieces)
    return 1 - real / (tokens * len(rows)), sum(len(row.pieces) for row in rows) / len(rows)


def rows_of(config: DataConfig) -> Iterator[Row]:
    """Take a row of every lane in turn; no picture is decoded."""
    sources, tokenizer = open_sources(config), open_tokenizer(config.tokenizer)
    dataset = sources[0].config
    lanes = [Lane(number, sources, tokenizer, dataset.tokens, dataset.pack) for number in range(config.lane_count)]
    while True:
        yield from map(next, lanes)


if __name__ == "__main__":
    main()
