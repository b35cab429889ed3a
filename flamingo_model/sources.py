"""Opening the datasets of a configuration: what to read, in which order, from where.

DatasetConfig → index of its samples, order of its lanes, storage, layout of its samples = Source
"""

from __future__ import annotations

import logging

from flamingo_model.config import LAYOUTS, DataConfig, DatasetConfig
from flamingo_model.index import Index, open_index
from flamingo_model.lanes import Source
from flamingo_model.order import Order, root_of
from flamingo_model.places import BadIndex
from flamingo_model.samples import sniff_layout
from flamingo_model.storage import Storage, Unreadable, plain
from flamingo_model.tar import DamagedTar, sample_parts
from schemas.config import ConfigError

LOG = logging.getLogger(__name__)
SNIFFED_SAMPLES = 16
BLOCK_BYTES = 8 << 20
"""Most bytes of a block of samples of mean size: what one read from a remote store brings."""
WINDOW_BYTES = 512 << 20
"""Most bytes of a shuffle window of samples of mean size, over all lanes: what remote stores keep in memory."""


def open_sources(config: DataConfig) -> list[Source]:
    """Open every dataset of a configuration, in its order."""
    return [
        open_source(config, number, name, dataset) for number, (name, dataset) in enumerate(config.datasets.items())
    ]


def open_source(config: DataConfig, number: int, name: str, dataset: DatasetConfig) -> Source:
    """Open one dataset; `number` is its place in a mixture."""
    try:
        index = open_index(
            dataset.shards,
            dataset.kind,
            on_damage=config.on_damage,
            retries=config.retries,
            timeout_s=config.timeout_s,
        )
    except BadIndex as error:
        raise ConfigError(f"data.datasets.{name}: {error}") from None
    for damage in index.damage:
        told = f"{plain(damage.url)}: {damage.reason}; {damage.samples_kept} samples of it are read"
        LOG.warning("%s: %s", name, told)
    if not len(index):
        why = "".join(f": {plain(damage.url)}: {damage.reason}" for damage in index.damage[:1])
        raise ConfigError(f"data.datasets.{name}: its shards hold no sample{why}")
    storage = Storage(
        index.urls, index.sizes, retries=config.retries, timeout_s=config.timeout_s, connections=config.connections
    )
    layout = dataset.layout if dataset.layout != "auto" else sniff(index, storage, name, dataset.kind)
    source = number if config.mix == "mixed" else 0
    return Source(name, dataset, index, order_of(config, name, index, source), storage, layout)


def order_of(config: DataConfig, name: str, index: Index, source: int) -> Order:
    """Choose how large blocks and windows are: as set, but smaller where samples are few or large."""
    lanes = config.lane_count
    mean_bytes = max(1, int(index.length.mean()))
    # Every lane has at least four blocks of an epoch where there are that many samples.
    block = max(1, min(config.shuffle_block, len(index) // (4 * lanes), BLOCK_BYTES // mean_bytes))
    window = max(1, min(config.shuffle_samples, WINDOW_BYTES // mean_bytes) // (block * lanes))
    return Order(
        index.first.tolist(),
        root_of(config.seed, name),
        lanes,
        block,
        window,
        shuffle=config.shuffle,
        epochs=1 if config.once else 0,
        source=source,
    )


def sniff(index: Index, storage: Storage, name: str, kind: str) -> str:
    """Tell the layout of the samples from the first that can be read."""
    failed: Exception | None = None
    for sample in range(min(SNIFFED_SAMPLES, len(index))):
        try:
            _, parts = sample_parts(storage.read(*index.locate(sample)))
            layout = sniff_layout(parts)
        except (Unreadable, DamagedTar, ValueError) as error:
            failed = error
            continue
        if layout not in LAYOUTS[kind]:
            raise ConfigError(f"data.datasets.{name}: kind is {kind}, but its samples are stored as {layout}")
        return layout
    raise ConfigError(f"data.datasets.{name}: the first samples cannot be read: {failed}")
