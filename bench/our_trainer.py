"""Our trainer over the batches of train_batches.py, as peer_trainers.py runs those of others.

    python bench/our_trainer.py flamingo '{"size": {...}, "batches": FILE, ...}'     (bench/train.py runs this)

A step is `Trainer.update`, as `flamingo train` makes it. The language model and the vision encoder have the sizes of
the peers' (GPT-NeoX, CLIP), resampler and cross-attention as many heads of as many numbers.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from train_batches import FOLDER, data_config, pack, to_batch
from train_clock import Memory, Stopwatch, parameters, read_batches, serve

from flamingo_model import trainer as loop
from flamingo_model.batch import Batch
from flamingo_model.data import Loader
from flamingo_model.distributed import World
from flamingo_model.presets import FlamingoConfig, preset
from flamingo_model.tokens import open_tokenizer
from flamingo_model.train import make_objective
from flamingo_model.train_config import RunConfig, TrainConfig

CACHE_GB = 8.0
OPEN_FLAMINGO = {"resampler.heads": 8, "resampler.head_width": 64, "xattn.heads": 8, "xattn.head_width": 64}
"""What open_flamingo's sizes are, whatever the model's."""


class Replay:
    """The steps of a file, over and over, in place of the loader."""

    def __init__(self, steps: list[dict[str, Batch]]) -> None:
        self.steps, self.stats = cycle(steps), SimpleNamespace(wait_s=0.0)

    def __next__(self) -> dict[str, Batch]:
        return next(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Nothing is resumed."""
        return {}


def model_config(size: SimpleNamespace) -> FlamingoConfig:
    """Give the settings of a model of the peers' sizes, or those of a preset."""
    if size.preset:
        return preset(size.preset)
    told = {"layers": size.layers, "width": size.width, "heads": size.heads, "vocab": size.vocab}
    shape = {"layers": size.resampler_layers, "width": size.vision_width, "latents": size.latents}
    vision = {"kind": "hf", "image_px": size.image_px}
    large = (size.vision_layers, size.vision_width, size.patch_px) == (24, 1024, 14)
    vision |= {"variant": "clip_l14"} if large else {"weights": str(clip_folder(size))}
    overrides = {f"lm.{name}": value for name, value in told.items()}
    overrides |= {f"resampler.{name}": value for name, value in shape.items()}
    overrides |= {f"vision.{name}": value for name, value in vision.items()}
    return preset("flamingo_3b", overrides | OPEN_FLAMINGO)


def clip_folder(size: SimpleNamespace) -> Path:
    """Give the folder of a CLIP vision model with random weights, written on the first call."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": size.vision_width, "intermediate_size": 4 * size.vision_width}
    sizes |= {"num_hidden_layers": size.vision_layers, "num_attention_heads": size.vision_heads}
    sizes |= {"image_size": size.image_px, "patch_size": size.patch_px}
    folder = FOLDER / "clip-{vision_layers}-{vision_width}-{image_px}-{patch_px}".format(**vars(size))
    if not (folder / "model.safetensors").exists():
        CLIPVisionModel(CLIPVisionConfig(**sizes)).save_pretrained(folder)
    return folder


def make_run(given: SimpleNamespace, size: SimpleNamespace) -> RunConfig:
    """Set a run: the paper's optimiser, without what is measured or written beside the steps."""
    model = model_config(size)
    threads = 1 if given.device == "cpu" else 8
    mean = "imagenet" if model.vision.kind == "nfnet" else "clip"
    data = data_config(size.image_px, given.rows, threads=threads, mean=mean)
    datasets = {name: dataclasses.replace(one, weight=given.weights[name]) for name, one in data.datasets.items()}
    train = TrainConfig(
        out=str(FOLDER / "run"),
        accumulate="separate" if given.separate else "merged",
        device=given.device,
        dtype=given.dtype,
        compile=given.compiled,
        feature_cache_gb=CACHE_GB if given.cached else 0.0,
        warmup_steps=0,
        blind_every=0,
        val_every=0,
    )
    return RunConfig(dataclasses.replace(data, datasets=datasets), model, train)


def open_loader(given: SimpleNamespace, run: RunConfig) -> Loader | Replay:
    """Give the live loader, or the steps of the file: by dataset, or all samples of a step in as few rows as can be."""
    if given.live:
        return Loader(run.data)
    steps = [{name: to_batch(rows, name) for name, rows in step.items()} for step in read_batches(given.batches)]
    return Replay([{"mixed": pack(step)} for step in steps] if given.packed else steps)


def measure_parts(made: loop.Trainer, watch: Stopwatch) -> None:
    """Have the parts of a step measured."""
    model = made.objective.model
    for part in ("vision", "resampler"):
        watch.watch(getattr(model, part), part)
    watch.watch(made.objective, "forward")
    made.backward = watch.timed(made.backward, "passes")
    loop.clip_groups = watch.timed(loop.clip_groups, "optimiser")
    made.optimizer.step = watch.timed(made.optimizer.step, "optimiser")
    made.update = watch.timed(made.update, "step")


def main() -> None:
    given = SimpleNamespace(**json.loads(sys.argv[2]))
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    size, device = SimpleNamespace(**given.size), torch.device(given.device)
    run = make_run(given, size)
    loader = open_loader(given, run)
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    memory, watch = Memory(device), Stopwatch(device)
    objective = make_objective(run, open_tokenizer(run.data.tokenizer))
    made = loop.Trainer(run, World(device=device), objective, loader)
    measure_parts(made, watch)
    facts = parameters(objective) | {"embedding": 0, "flops": 0.0}
    flops: list[float] = []

    def step(_: int) -> torch.Tensor:
        done = made.update()
        flops.append(done.flops)
        facts["flops"] = sum(flops[: given.steps])
        watch.waited_s += done.wait_s
        return torch.tensor(sum(given.weights[name] * loss for name, loss in done.losses.items()))

    serve(step, given.steps, watch, memory, facts)


if __name__ == "__main__":
    main()
