"""What is read, and how: the `[data]` of a configuration, from TOML to frozen dataclasses.

    [data]
    image_px = 224
    [data.datasets.pages]
    shards = ["dataset"]
    [data.datasets.pairs]
    kind = "pairs"
    shards = ["dataset", "laion/{00000..00099}.tar"]

What a dataset does not say is as the paper has it for its kind (SPEC-flamingo, Data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from schemas.config import ConfigError, from_tree, parse_toml

INTERLEAVED, PAIRS, VIDEOS = "interleaved", "pairs", "videos"
PAPER: Mapping[str, Mapping[str, Any]] = {
    INTERLEAVED: {},
    PAIRS: {"batch": 512, "tokens": 32, "images": 1, "window": "start", "p_next": 0.0, "p_space": 0.5, "weight": 0.2},
    VIDEOS: {"batch": 64, "tokens": 32, "images": 1, "window": "start", "p_next": 0.0, "p_space": 0.5, "weight": 0.03},
}
"""Where a kind differs from the defaults of `DatasetConfig`, which are those of interleaved documents."""
LAYOUTS = {INTERLEAVED: ("interleaved", "mmc4", "m4", "mint"), PAIRS: ("pair",), VIDEOS: ("video",)}
"""The layouts that each kind of samples may have."""
BOUNDS = {
    "weight": (1e-6, 1e6), "batch": (1, 1 << 20), "tokens": (8, 1 << 20), "images": (0, 10_000),
    "frames": (1, 10_000), "fps": (0.001, 1000.0), "lanes": (0, 1 << 16), "shuffle_block": (1, 1 << 30),
    "shuffle_samples": (1, 1 << 40), "image_px": (1, 8192), "workers": (0, 1024), "threads": (1, 1024),
    "prefetch": (1, 1024), "max_damaged": (0.0, 1.0), "retries": (0, 100), "timeout_s": (0.001, 86_400.0),
    "connections": (1, 1024), "p_next": (0.0, 1.0), "p_space": (0.0, 1.0), "jitter": (0.0, 0.99),
}  # fmt: skip
"""The least and the most that a number may be."""
MAX_LANES = 64
FITS = ("pad", "crop", "stretch")
MIXES = ("accumulate", "mixed")
MEANS = ("clip", "imagenet", "siglip", "half")


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """One dataset of the mixture."""

    shards: tuple[str, ...]
    """Dataset folders, shards, globs or braces (`a/shard-{000000..000099}.tar`), local or any URL that fsspec opens."""
    kind: str = INTERLEAVED
    """What the samples are: `interleaved`, `pairs` or `videos`."""
    layout: str = "auto"
    """How a sample is stored: auto (told from the first one), interleaved, mmc4, m4, mint, pair or video."""
    weight: float = 1.0
    """Of the loss where datasets are accumulated; share of the samples where they are mixed."""
    batch: int = 256
    """Rows of a batch over all ranks, where datasets are accumulated."""
    tokens: int = 256
    """Tokens of a row, where datasets are accumulated."""
    images: int = 5
    """Images of a sample: the first ones of its window. 0: text alone, without the tags."""
    frames: int = 8
    """Frames of a clip, in a row."""
    fps: float = 1.0
    """Frames to a second of a clip."""
    window: str = "random"
    """Which tokens of a longer sample are read: a `random` window, or those from its `start`."""
    p_next: float = 0.5
    """How often, by sample, a token sees the next image instead of the last one."""
    p_space: float = 0.0
    """How often, by sample, a caption begins with a space."""
    pack: bool = False
    """Put several short samples into a row, kept apart."""

    def __post_init__(self) -> None:
        if self.kind not in PAPER:
            raise ValueError(f"kind is {', '.join(PAPER)}, not {self.kind!r}")
        if self.window not in ("random", "start"):
            raise ValueError(f"window is random or start, not {self.window!r}")
        if self.layout not in ("auto", *LAYOUTS[self.kind]):
            allowed = " or ".join(("auto", *LAYOUTS[self.kind]))
            raise ValueError(f"layout is {allowed} where kind is {self.kind}, not {self.layout!r}")
        check_bounds(self)
        if not self.shards:
            raise ValueError("shards names no shard")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """All that decides what the batches hold, and how they are made."""

    datasets: dict[str, DatasetConfig]
    """The datasets, by a name of one's own."""
    seed: int = 0
    """Of the order, windows and augmentation."""
    tokenizer: str = "bytes"
    """A `tokenizer.json`, a folder that holds one, a name on the hub, or `bytes`, which needs no file."""
    mix: str = "accumulate"
    """`accumulate`: a batch of every dataset a step; `mixed`: one batch, its samples drawn by weight."""
    batch: int = 256
    """Rows of a mixed batch over all ranks."""
    tokens: int = 256
    """Tokens of a row of a mixed batch."""
    pack: bool = False
    """Pack the rows of a mixed batch."""
    lanes: int = 0
    """Virtual readers, which the number of ranks must divide. 0: the most that divide every batch, up to 64."""
    shuffle: bool = True
    """Permute blocks of samples over the whole dataset and shuffle within a window; off, shards are read in order."""
    shuffle_block: int = 32
    """Neighbouring samples that are permuted together."""
    shuffle_samples: int = 4_096
    """Samples that a window of all lanes together is shuffled over."""
    once: bool = False
    """Read every sample once, then end, with empty rows where a lane has no more (evaluation); not with packing."""
    image_px: int = 320
    """Side of the square that an image becomes."""
    fit: str = "pad"
    """How: `pad` keeps all of it and its aspect, `crop` the middle of it and its aspect, `stretch` all of it."""
    mean: str = "clip"
    """Whose mean and deviation normalise the pixels (clip, imagenet, siglip, half); padding has the mean's colour."""
    flip: bool = False
    """Mirror half of the images (not where texts tell left from right)."""
    jitter: float = 0.0
    """The most that brightness, contrast and saturation are changed by, as a share."""
    decode: str = "cpu"
    """Where images are decoded: on the `cpu`, or the `gpu` where nvJPEG is installed (the extra `nvjpeg`)."""
    workers: int = 0
    """Processes that read and decode. 0: threads of this process alone, which cost least."""
    threads: int = 2
    """Decoding threads in each process; 1 is the thread that reads, which costs least."""
    prefetch: int = 2
    """Steps made ahead; a worker process makes as many again, which wait in shared memory."""
    on_damage: str = "skip"
    """What cannot be read or decoded is a `skip`, counted by name, or an error at once: `raise`."""
    max_damaged: float = 0.001
    """Share of the samples that may be skipped as damaged before it is an error (the first 16 are free)."""
    retries: int = 4
    """Further tries of a read that failed and may yet succeed."""
    timeout_s: float = 30.0
    """Longest wait for a connection, and for its next bytes."""
    connections: int = 16
    """Reads at once from a store that is not a local disk."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mix", MIXES),
            ("fit", FITS),
            ("mean", MEANS),
            ("decode", ("cpu", "gpu")),
            ("on_damage", ("skip", "raise")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {' or '.join(allowed)}, not {getattr(self, name)!r}")
        check_bounds(self)
        if self.decode == "gpu" and self.workers:
            raise ValueError("decode = gpu goes with workers = 0: a GPU decodes in the process that it trains in")
        if not self.datasets:
            raise ValueError("no dataset is named: write [data.datasets.NAME] with its shards")
        if self.once and (self.pack or any(dataset.pack for dataset in self.datasets.values())):
            raise ValueError("once reads without packing: how many rows there are must be known beforehand")
        batches = {name: rows for name, rows in self.batches.items() if rows % self.lane_count}
        if batches:
            told = ", ".join(f"{name} {rows}" for name, rows in batches.items())
            raise ValueError(f"lanes ({self.lanes}) must divide every batch ({told})")

    @property
    def batches(self) -> dict[str, int]:
        """The rows of each batch of a step, by the batch's name."""
        if self.mix == "mixed":
            return {"mixed": self.batch}
        return {name: dataset.batch for name, dataset in self.datasets.items()}

    @property
    def lane_count(self) -> int:
        """The number of lanes: as set, or the most that divide every batch."""
        if self.lanes:
            return self.lanes
        return max(
            count for count in range(1, MAX_LANES + 1) if all(rows % count == 0 for rows in self.batches.values())
        )


def check_bounds(config: DatasetConfig | DataConfig) -> None:
    """Refuse a number that is too small or too large."""
    for field in fields(config):
        if field.name in BOUNDS:
            (least, most), value = BOUNDS[field.name], getattr(config, field.name)
            if not least <= value <= most:
                raise ValueError(f"{field.name} is from {least} to {most}, not {value}")


def paper_dataset(kind: str = INTERLEAVED, **settings: Any) -> DatasetConfig:
    """Make the settings of a dataset, as the paper has them for its kind where nothing else is said."""
    return DatasetConfig(**{**PAPER.get(kind, {}), "kind": kind, **settings})


def example() -> DataConfig:
    """Give settings to start from: the three kinds of shards of one dataset."""
    return DataConfig({kind: paper_dataset(kind, shards=("dataset",)) for kind in PAPER})


def read_config(path: str) -> DataConfig:
    """Read the `[data]` of a TOML file; a `ConfigError` says what is wrong with it, in one line."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    tree = parse_toml(text, path)
    if not isinstance(tree.get("data"), Mapping):
        raise ConfigError(f"{path}: there is no [data] with the datasets to read")
    return data_config(tree["data"], path)


def data_config(tree: Mapping[str, Any], where: str) -> DataConfig:
    """Read the settings of the data from nested mappings, filling in the paper's for each kind."""
    datasets = tree.get("datasets")
    if not isinstance(datasets, Mapping) or not all(isinstance(table, Mapping) for table in datasets.values()):
        raise ConfigError(f"{where}: name the datasets to read: [data.datasets.NAME] with shards = [...]")
    filled = {name: {**PAPER.get(str(table.get("kind")), {}), **table} for name, table in datasets.items()}
    for name, table in filled.items():
        if "shards" not in table:
            raise ConfigError(f"{where}: 'data.datasets.{name}' lacks its shards")
    return from_tree(DataConfig, {**tree, "datasets": filled}, where, "data.")
