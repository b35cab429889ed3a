"""The loaders of open_clip and video2dataset over shards: what they read goes out as JSON, a line a sample.

    python bench/peer_readers.py open_clip SAMPLES SHARD...        (bench/readers.py runs this)

Imports nothing of the project: the loaders run in a virtual environment of their own. Each is the peer's own function,
with no change but what it takes as arguments: pictures are not resized and texts not made tokens, so that both can be
compared. A line holds the hash of a picture's pixels or of a video's bytes, and the text.
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace


def open_clip(samples: int, shards: list[str], is_train: bool) -> Iterator[tuple[str, str]]:
    """Read pairs as open_clip_train does, for one epoch."""
    import numpy
    import torch
    from open_clip_train.data import get_wds_dataset

    args = SimpleNamespace(
        train_data="::".join(shards),
        val_data="::".join(shards),
        train_num_samples=samples,
        val_num_samples=samples,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=1,
        workers=0,
        world_size=1,
        seed=0,
    )
    data = get_wds_dataset(
        args, lambda image: torch.from_numpy(numpy.array(image)), is_train, tokenizer=lambda text: [text]
    )
    for images, texts in data.dataloader:
        yield hashlib.sha256(images[0].numpy().tobytes()).hexdigest(), texts[0]


def video2dataset(shards: list[str]) -> Iterator[tuple[str, str]]:
    """Read clips as video2dataset's loader does: it takes the samples that have a video and a text."""
    import torch

    # It asks for its rank among processes: this one is alone.
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    # The package's own __init__ imports its downloader and all that this needs; the loader does not.
    package = types.ModuleType("video2dataset")
    package.__path__ = list(find_spec("video2dataset").submodule_search_locations)
    sys.modules["video2dataset"] = package
    from video2dataset.dataloader import get_video_dataset

    for sample in get_video_dataset(shards, batch_size=1, repeat=1):
        yield hashlib.sha256(sample["mp4"]).hexdigest(), sample["txt"].decode()


def main() -> None:
    name, samples, *shards = sys.argv[1:]
    readers = {
        "open_clip": lambda: open_clip(int(samples), shards, False),
        "open_clip_train": lambda: open_clip(int(samples), shards, True),
        "video2dataset": lambda: video2dataset(shards),
    }
    found = list(readers[name]())
    print("\n".join(json.dumps(line) for line in ["samples", *found]))


if __name__ == "__main__":
    main()
