"""Loaders of others over the same pictures: shards come in, CPU and time of a sample go out, a JSON line a row.

    python bench/peer_loaders.py convert litdata pairs SHARDS TARGET              (bench/loader.py runs this)
    python bench/peer_loaders.py run litdata pairs SHARDS TARGET '{"workers": [0, 2], "modes": ["raw"], ...}'

Imports nothing of the project: each peer runs in an environment of its own. `raw` are the encoded pictures and the
text of a sample, `decoded` are pictures of 224x224 px, uint8, stacked for a batch, all delivered to the main process.
Every peer shuffles as it does for training: webdataset and energon with a buffer
of some 23 MB of samples, the others by their defaults.
All but `webdataset` decode with libjpeg-turbo and resize with torch's kernel, so that the rest of them is compared.
The floor is only that, one picture after the other, on bytes that are in memory.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset
from loader_clock import Found, endless, in_child, measure
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import get_worker_info

SIDE_PX = 224
FRAMES = 8
SHUFFLED = {"pairs": 1000, "large": 200, "interleaved": 200, "videos": 100}
FLOOR_PICTURES = {"pairs": 96, "large": 32, "interleaved": 96, "videos": 96}
FLOOR_ROUNDS = 3
Sample = dict[str, Any]
"""`text`: a caption, or texts and numbers of pictures in reading order; `images`: encoded, or `frames`: decoded."""
Finish = Callable[[Any, list[bytes]], Sample]
"""Makes of a text and its encoded pictures what is delivered."""


# --- what all have alike ---------------------------------------------------------------------------------------------


def decode_fast(data: bytes) -> torch.Tensor:
    """Decode with libjpeg-turbo, scaled where at least the wanted size is left; returns [3, side, side]."""
    pixels = simplejpeg.decode_jpeg(data, min_height=SIDE_PX, min_width=SIDE_PX, min_factor=2)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return interpolate(image, (SIDE_PX, SIDE_PX), mode="bicubic", antialias=True)[0]


def decode_pillow(data: bytes) -> torch.Tensor:
    """Decode and resize as most do; returns [3, side, side]."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def keep(text: Any, images: list[bytes]) -> Sample:
    return {"text": text, "images": images}


def decode(text: Any, images: list[bytes], one: Callable[[bytes], torch.Tensor]) -> Sample:
    return {"text": text, "frames": torch.stack([one(data) for data in images])}


def collate(samples: list[Sample]) -> Any:
    """Join the frames of a batch; a worker does so in shared memory, as torch's own function."""
    if "frames" not in samples[0]:
        return samples
    frames, out = [sample["frames"] for sample in samples], None
    if get_worker_info() is not None:
        shape = (sum(map(len, frames)), *frames[0].shape[1:])
        storage = frames[0]._typed_storage()._new_shared(int(np.prod(shape)), device="cpu")
        out = frames[0].new(storage).resize_(*shape)
    return {"text": [sample["text"] for sample in samples], "frames": torch.cat(frames, out=out)}


def count(batch: Any) -> tuple[int, int]:
    """Count the samples and pictures of a batch."""
    if isinstance(batch, dict):
        return len(batch["text"]), len(batch["frames"])
    return len(batch), sum(len(sample["images"]) for sample in batch)


def from_members(kind: str, members: dict[str, bytes]) -> tuple[Any, list[bytes]]:
    """Give the text and the pictures of a sample of the shards."""
    if kind in ("pairs", "large"):
        return members["txt"].decode(), [members["jpg"]]
    if kind == "videos":
        return members["txt"].decode(), [members[f"{number:03d}.jpg"] for number in range(FRAMES)]
    header = json.loads(members["json"])
    names = [name for name in header["images"] if name is not None]
    pairs = zip(header["texts"], header["images"], strict=True)
    items = [text if text is not None else names.index(name) for text, name in pairs]
    return items, [members[name] for name in names]


def to_columns(kind: str, text: Any, images: list[bytes]) -> dict[str, Any]:
    """Write a sample as columns of a format that has no lists: pictures one after the other, and where each ends."""
    if kind in ("pairs", "large"):
        return {"text": text, "images": images[0]}
    ends = np.cumsum([len(data) for data in images]).astype("<u4").tobytes()
    return {"text": json.dumps(text), "images": b"".join(images), "ends": ends}


def from_columns(columns: dict[str, Any]) -> tuple[Any, list[bytes]]:
    if "ends" not in columns:
        return columns["text"], [columns["images"]]
    ends = [0, *np.frombuffer(columns["ends"], "<u4").tolist()]
    images = [columns["images"][start:end] for start, end in pairwise(ends)]
    return json.loads(columns["text"]), images


def shards_of(folder: Path, kind: str) -> list[str]:
    return sorted(map(str, (folder / ("pairs" if kind == "large" else kind)).glob("shard-*.tar")))


def read_all(folder: Path, kind: str) -> Iterator[tuple[Any, list[bytes]]]:
    for members in webdataset.WebDataset(shards_of(folder, kind), shardshuffle=False):
        yield from_members(kind, members)


# --- the peers: what converts shards once, and what opens a loader ---------------------------------------------------


def open_webdataset(folder: Path, kind: str, finish: Finish, workers: int, batch: int) -> Iterable[Any]:
    shards = shards_of(folder, kind)
    samples = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(SHUFFLED[kind], initial=SHUFFLED[kind])
    batches = samples.map(lambda members: finish(*from_members(kind, members)))
    batches = batches.batched(batch, collation_fn=collate, partial=False)
    return webdataset.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def import_mosaicml() -> Any:
    """Import the package; what it wants of torchvision is for pictures that it would decode itself."""
    import transformers  # noqa: F401  (looks for torchvision, and must not find what stands for it)

    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.transforms.functional"].to_tensor = None
    sys.modules["torchvision.datasets"].VisionDataset = object
    sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    import streaming

    return streaming


def convert_mosaicml(folder: Path, kind: str, target: Path) -> None:
    streaming = import_mosaicml()
    columns = {"text": "str", "images": "bytes"} | ({} if kind in ("pairs", "large") else {"ends": "bytes"})
    with streaming.MDSWriter(out=str(target), columns=columns) as out:
        for text, images in read_all(folder, kind):
            out.write(to_columns(kind, text, images))


def open_mosaicml(target: Path, kind: str, finish: Finish, workers: int, batch: int) -> Iterable[Any]:
    streaming = import_mosaicml()

    class Samples(streaming.StreamingDataset):
        def __getitem__(self, at: int) -> Sample:
            return finish(*from_columns(super().__getitem__(at)))

    samples = Samples(local=str(target), shuffle=True, batch_size=batch)
    options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": collate, "drop_last": True}
    return streaming.StreamingDataLoader(samples, batch_size=batch, **options)


def columns_of(number: int, kind: str, samples: list) -> dict[str, Any]:
    return to_columns(kind, *samples[number])


def convert_litdata(folder: Path, kind: str, target: Path) -> None:
    import litdata

    samples = list(read_all(folder, kind))
    write = partial(columns_of, kind=kind, samples=samples)
    options = {"chunk_bytes": "16MB", "num_workers": 1, "mode": "overwrite"}
    litdata.optimize(write, list(range(len(samples))), str(target), **options)


def open_litdata(target: Path, kind: str, finish: Finish, workers: int, batch: int) -> Iterable[Any]:
    import litdata

    class Samples(litdata.StreamingDataset):
        def __getitem__(self, at: Any) -> Sample:
            return finish(*from_columns(super().__getitem__(at)))

    samples = Samples(str(target), shuffle=True, drop_last=True)
    options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": collate, "drop_last": True}
    return litdata.StreamingDataLoader(samples, batch_size=batch, **options)


def convert_energon(folder: Path, kind: str, target: Path) -> None:
    """Index the shards; the format is the same, and the files are too."""
    target.mkdir(parents=True)
    for shard in shards_of(folder, kind):
        os.link(shard, target / Path(shard).name)
    command = [str(Path(sys.executable).with_name("energon")), "prepare", "--non-interactive", "--split-ratio", "1,0,0"]
    subprocess.run([*command, "--sample-type", "CrudeWebdataset", str(target)], check=True, stdout=sys.stderr)
    if kind != "interleaved":
        # The JSON of a pair or clip is not read, then.
        with (target / ".nv-meta" / "dataset.yaml").open("a") as out:
            names = ["txt", "jpg", *(f"{number:03d}.jpg" for number in range(FRAMES))]
            out.write(f"part_filter: {json.dumps(names)}\n")


def open_energon(target: Path, kind: str, finish: Finish, workers: int, batch: int) -> Iterable[Any]:
    from megatron import energon

    def cook(members: dict[str, Any]) -> dict[str, Any]:
        text, images = from_members(kind, members)
        return energon.basic_sample_keys(members) | {"text": text, "images": images}

    class Encoder(energon.DefaultTaskEncoder):
        decoder = None
        cookers = (energon.Cooker(energon.stateless(cook)),)

        @energon.stateless
        def encode_sample(self, sample: Any) -> Any:
            return finish(sample["text"], sample["images"])

        @energon.stateless
        def batch(self, samples: list[Any]) -> Any:
            return collate(samples)

        def encode_batch(self, joined: Any) -> Any:
            return joined

    config = energon.WorkerConfig(rank=0, world_size=1, num_workers=workers)
    options = {"shuffle_buffer_size": SHUFFLED[kind], "max_samples_per_sequence": 100, "task_encoder": Encoder()}
    return energon.get_loader(energon.get_train_dataset(str(target), batch_size=batch, worker_config=config, **options))


PEERS: dict[str, tuple[Callable[[Path, str, Path], None] | None, Callable[..., Iterable[Any]]]] = {
    "webdataset": (None, open_webdataset),
    "webdataset-fast": (None, open_webdataset),
    "mosaicml": (convert_mosaicml, open_mosaicml),
    "litdata": (convert_litdata, open_litdata),
    "energon": (convert_energon, open_energon),
}


# --- measuring -------------------------------------------------------------------------------------------------------


def floor_ms(folder: Path, kind: str) -> Callable[[], float]:
    """Give what measures the floor: CPU milliseconds to decode a picture of those that are in memory."""
    several = (data for _, images in read_all(folder, kind) for data in images)
    pictures = list(islice(several, FLOOR_PICTURES[kind]))

    def once() -> float:
        started = time.process_time()
        for data in pictures:
            decode_fast(data)
        return 1000 * (time.process_time() - started) / len(pictures)

    return lambda: min(once() for _ in range(FLOOR_ROUNDS))


def print_rows(kind: str, folder: Path, given: dict[str, Any], run: Callable[[str, int], Found]) -> None:
    """Print a line for each mode and number of workers, with the mean of the floor before and after it."""
    torch.set_num_threads(1)
    floor = floor_ms(folder, kind)
    before = floor()
    for mode in given["modes"]:
        for workers in given["workers"]:
            found = in_child(partial(run, mode, workers))
            after = floor()
            print(json.dumps({"mode": mode, "workers": workers, "floor_ms": (before + after) / 2, **found}), flush=True)
            before = after


def run(name: str, kind: str, target: Path, given: dict[str, Any], mode: str, workers: int) -> Found:
    """Open the loader of a peer and measure it."""
    finish = keep if mode == "raw" else partial(decode, one=decode_pillow if name == "webdataset" else decode_fast)
    batches = endless(PEERS[name][1](target, kind, finish, workers, given["batch"]))
    return measure(batches, count, given["warm"][mode], given["samples"][mode], given["rounds"])


def main() -> None:
    task, name, kind, folder, target, *more = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if task == "convert":
        PEERS[name][0](Path(folder), kind, Path(target))
        return
    given = json.loads(more[0])
    if name == "mosaicml":
        import_mosaicml()
    print_rows(kind, Path(folder), given, partial(run, name, kind, Path(target), given))


if __name__ == "__main__":
    main()
