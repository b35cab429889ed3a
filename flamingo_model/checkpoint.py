"""Checkpoints: what a run goes on from, and what a trained model is opened from.

    OUT/step-000123/
        model.safetensors        the trainable weights, float32, by their names in the model
        optimizer.safetensors    NAME.exp_avg, NAME.exp_avg_sq, NAME.step
        state.json               step, settings, loader state of all ranks, the tokenizer's hash, counters
        tokenizer/               the tokenizer, unless it is `bytes`

A folder is written under a temporary name and renamed, so that one that has the name is whole. Nothing is pickled.
Frozen weights are not written: they come from where the settings say. Random numbers are drawn from seeds of step
and rank, so there is no state of a generator to keep.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flamingo_model.optim import like, trainable, whole
from flamingo_model.presets import FlamingoConfig
from flamingo_model.tokens import BYTES, FastTokenizer, Tokenizer, open_tokenizer
from flamingo_model.train_config import RunConfig, differing, run_of_tree, run_tree
from schemas.config import ConfigError

if TYPE_CHECKING:
    from flamingo_model.flamingo import Flamingo

VERSION = 1
STEP = re.compile(r"step-(\d{6,12})")
MODEL, OPTIMIZER, STATE, TOKENIZER = "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer"
MAX_STATE_BYTES = 256 << 20
"""The state of a loader holds up to some thousand visits for each lane."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint: tensors are read when they are asked for."""

    folder: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Count the updates behind it."""
        return int(self.state["step"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read one of the files of tensors."""
        return read_tensors(self.folder / name)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; `ConfigError` where it is none."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: no file of weights: {error}") from None


def save(
    out: Path,
    step: int,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
    tokenizer: Tokenizer,
) -> Path:
    """Write a checkpoint, whole or not at all; a checkpoint of that step that is there already is replaced."""
    folder = out / f"step-{step:06d}"
    temporary = out / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(dict(model), temporary / MODEL, metadata={"format": "pt"})
    save_file(dict(optimizer), temporary / OPTIMIZER, metadata={"format": "pt"})
    save_tokenizer(tokenizer, temporary / TOKENIZER)
    document = {"version": VERSION, "step": step, "tokenizer": tokenizer_hash(tokenizer), **state}
    (temporary / STATE).write_text(json.dumps(document, indent=1), "utf-8")
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    sync(out)
    return folder


def sync(path: Path) -> None:
    """Have a file or folder on the disk before what follows, also where the power fails."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer as a folder that `open_tokenizer` opens; `bytes` needs none."""
    if isinstance(tokenizer, FastTokenizer):
        folder.mkdir()
        tokenizer.tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "special_tokens_map.json").write_text(json.dumps(tokenizer.names), "utf-8")


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Tell tokenizers apart: by all that decides which tokens a text has."""
    if not isinstance(tokenizer, FastTokenizer):
        return BYTES
    told = json.dumps([tokenizer.tokenizer.to_str(), tokenizer.names], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def checkpoints(out: Path) -> list[Path]:
    """List the checkpoints of a run, the latest one last."""
    found = {int(match[1]): path for path in out.glob("step-*") if (match := STEP.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def prune(out: Path, keep: int) -> None:
    """Remove all checkpoints but the latest `keep`, and what interrupted writes left; 0 keeps all."""
    for path in checkpoints(out)[:-keep] if keep else ():
        shutil.rmtree(path)
    for path in out.glob(".step-*"):
        shutil.rmtree(path)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint, or the latest one of a run's folder; `ConfigError` where there is none."""
    if not (folder / STATE).is_file():
        there = checkpoints(folder)
        if not there:
            raise ConfigError(f"{folder}: there is no checkpoint (a folder step-000123 with {STATE})")
        folder = there[-1]
    path = folder / STATE
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise ConfigError(f"{path}: more than {MAX_STATE_BYTES >> 20} MiB")
        state = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no state of a run: {error}") from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        version = state.get("version") if isinstance(state, dict) else None
        raise ConfigError(f"{path}: version {version!r}, this program reads {VERSION}")
    wanted = {"step": int, "config": dict, "loader": dict, "tokenizer": str}
    wrong = [name for name, kind in wanted.items() if not isinstance(state.get(name), kind)]
    if wrong:
        raise ConfigError(f"{path}: {', '.join(wrong)} is missing or of another type")
    return Checkpoint(folder, state)


def check_same(checkpoint: Checkpoint, run: RunConfig, tokenizer: Tokenizer) -> None:
    """Refuse to go on with other settings than a checkpoint was made with, where they decide what is learnt."""
    wrong = differing(run, checkpoint.state["config"])
    if tokenizer_hash(tokenizer) != checkpoint.state["tokenizer"]:
        wrong.append("another tokenizer")
    if wrong:
        raise ConfigError(
            f"{checkpoint.folder} is of other settings: {'; '.join(wrong)} (train.init begins anew from its weights)"
        )


def gathered(parameters: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Join tensors that are spread over ranks, on the CPU; every rank takes part, those with `keep` hold the result."""
    out = {}
    for name, parameter in parameters.items():
        joined = whole(parameter.detach())
        if keep:
            out[name] = joined.to("cpu", copy=True).contiguous()
    return out


@torch.no_grad()
def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Put trainable weights into a model, all of them and no other; `ConfigError` names what does not fit."""
    ours = trainable(model)
    lacking, unknown = sorted(ours.keys() - tensors.keys()), sorted(tensors.keys() - ours.keys())
    shapes = [name for name in ours.keys() & tensors.keys() if ours[name].shape != tensors[name].shape]
    for what, names in (("lacks", lacking), ("has no place for", unknown), ("has another shape of", sorted(shapes))):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            model_of = "the model" if what == "has no place for" else str(where)
            raise ConfigError(f"{where}: {model_of} {what} {', '.join(names[:3])}{more}")
    for name, parameter in ours.items():
        parameter.copy_(like(parameter, tensors[name]))


def opened_run(checkpoint: Checkpoint) -> RunConfig:
    """Read the settings that a checkpoint was made with."""
    return run_of_tree(checkpoint.state["config"], str(checkpoint.folder / STATE))


def opened_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Open the tokenizer of a checkpoint."""
    folder = checkpoint.folder / TOKENIZER
    return open_tokenizer(str(folder) if folder.is_dir() else BYTES)


def state_of(run: RunConfig, loader: Mapping[str, Any], counters: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what `save` writes as JSON."""
    return {"config": run_tree(run), "loader": loader, "counters": counters}


def load_flamingo(folder: str | Path, device: torch.device | str = "cpu") -> tuple[Flamingo, Tokenizer, FlamingoConfig]:
    """Open a trained Flamingo for use: in eval mode, nothing of it trainable.

    `folder` is a checkpoint, or a run's folder, of which the latest one is taken. Frozen parts come from where the
    settings of the run say.
    """
    from flamingo_model.flamingo import make_flamingo

    checkpoint = open_checkpoint(Path(folder))
    run, tokenizer = opened_run(checkpoint), opened_tokenizer(checkpoint)
    if run.objective != "flamingo":
        raise ConfigError(f"{checkpoint.folder}: a checkpoint of the objective {run.objective}, not of a Flamingo")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)  # a frozen part without weights of its own is as random as it was
        model = make_flamingo(run.model, tokenizer)
    load_weights(model, checkpoint.tensors(MODEL), checkpoint.folder / MODEL)
    model.requires_grad_(False).eval().to(device)
    return model, tokenizer, run.model
