"""The text of a corpus without its pictures: what a language model and its tokenizer are trained on.

    DataConfig → text_only → settings whose samples show no picture
    DataConfig → texts → one text after the other

Shards are read as the loader reads them, within its limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flamingo_model.config import DataConfig
from flamingo_model.samples import BadSample, read_sample
from flamingo_model.sources import open_sources
from flamingo_model.storage import Unreadable
from flamingo_model.tar import DamagedTar, sample_parts

MOST_CHARACTERS = 200_000_000
"""What a tokenizer is trained on at most: more does not change it much, and takes memory."""


def text_only(data: DataConfig) -> DataConfig:
    """Give the same data without pictures: their tags and bytes are left out, and nothing is decoded."""
    return replace(data, datasets={name: replace(dataset, images=0) for name, dataset in data.datasets.items()})


def texts(data: DataConfig, most_characters: int = MOST_CHARACTERS) -> Iterator[str]:
    """Give the texts of all datasets in the order of their shards, up to a bound shared evenly between datasets.

    What cannot be read is left out: the loader counts it when the data is trained on.
    """
    sources = open_sources(data)
    try:
        for source in sources:
            left = most_characters // len(sources)
            for sample in range(len(source.index)):
                try:
                    key, parts = sample_parts(source.storage.read(*source.index.locate(sample)))
                    items = read_sample(parts, key, source.layout).items
                except (Unreadable, DamagedTar, BadSample):
                    continue
                for text in (item for item in items if isinstance(item, str)):
                    yield text[:left]
                    left -= len(text)
                if left <= 0:
                    break
    finally:
        for source in sources:
            source.storage.close()
