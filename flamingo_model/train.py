"""`flamingo train`: a configuration in, a trained model with its checkpoints and log out.

    train("run.toml", objective, assignments, resume, dry_run, tell)

`[train] out` is the folder of the run: step-000123/ (checkpoint), log.jsonl, config.json, tokenizer/, and what a
later stage opens. Run under torchrun for several GPUs. What a person can mend is a `ConfigError`: one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from flamingo_model.checkpoint import (
    MODEL,
    TOKENIZER,
    check_same,
    checkpoints,
    load_weights,
    open_checkpoint,
    save_tokenizer,
)
from flamingo_model.config import DataConfig
from flamingo_model.contrastive import make_contrastive
from flamingo_model.contrastive_objective import ContrastiveObjective
from flamingo_model.corpus_text import text_only, texts
from flamingo_model.data import Loader
from flamingo_model.distributed import World, start
from flamingo_model.flamingo import make_flamingo
from flamingo_model.flamingo_objective import FlamingoObjective
from flamingo_model.flops import peak_flops
from flamingo_model.lm import LanguageModel, make_lm
from flamingo_model.nfnet import BadWeights
from flamingo_model.objectives import Objective, TextObjective
from flamingo_model.prepare import size_lines
from flamingo_model.skips import DataError
from flamingo_model.tokens import FastTokenizer, Tokenizer, train_tokenizer
from flamingo_model.train_config import RunConfig, read_run, run_tree, with_tokenizer
from flamingo_model.train_log import Log, Tell
from flamingo_model.trainer import Trainer, TrainError, stopping_gently
from schemas.config import ConfigError

CONFIG_FILE = "config.json"
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)


def train(
    path: str,
    objective: str = "flamingo",
    assignments: Iterable[str] = (),
    *,
    resume: bool = False,
    dry_run: bool = False,
    tell: Tell,
) -> None:
    """Train as a TOML file says; `tell` is given lines for a person, on the first rank."""
    run = read_run(path, objective, assignments)
    with told_in_one_line(run):
        if dry_run:
            describe(run, tell)
            return
        with start(run.train.device, run.train.parallel) as world:
            train_on(run, world, resume, tell if world.first else lambda line: None)


def train_on(run: RunConfig, world: World, resume: bool, tell: Tell) -> Trainer:
    """Train on the ranks that have been joined; gives the trainer as it ended."""
    out = Path(run.train.out)
    there = checkpoints(out)
    if there and not resume:
        raise ConfigError(f"{out} holds {there[-1].name}: go on from it with --resume, or give another train.out")
    run = prepare_tokenizer(run, world, tell)
    with ExitStack() as stack:
        loader = stack.enter_context(Loader(data_of(run, run.data), world.rank, world.size, device=world.device))
        if run.val is not None:
            Loader(data_of(run, run.val), world.rank, world.size).close()  # what is wrong with it is told now
        torch.manual_seed(run.train.seed)
        made = make_objective(run, loader.tokenizer)
        if run.train.init and not there:
            begin_from(run.train.init, made)
        checkpoint = open_checkpoint(out) if there else None
        if checkpoint is not None:
            check_same(checkpoint, run, loader.tokenizer)
        trainer = Trainer(run, world, made, loader)
        if checkpoint is not None:
            trainer.resume(checkpoint)
            tell(f"going on from {checkpoint.folder}")
        if world.first:
            out.mkdir(parents=True, exist_ok=True)
            (out / CONFIG_FILE).write_text(json.dumps(run_tree(run), indent=1), "utf-8")
            peak = peak_flops(world.device, trainer.dtype)
            trainer.log = Log(out, run.train, peak, tell)
            stack.callback(trainer.log.close)
        with stopping_gently(trainer):
            tell(run_to_the_end(trainer))
        if world.first and (line := made.export(out)):
            tell(line)
    return trainer


def make_objective(run: RunConfig, tokenizer: Tokenizer) -> Objective:
    """Make what is learnt, with weights from where the settings say, or random ones."""
    if run.objective == "lm":
        return TextObjective(run, make_text_lm(run, tokenizer))
    if run.objective == "contrastive":
        assert run.contrastive is not None
        contrastive = make_contrastive(run.contrastive, run.model.vision, tokenizer.vocab_size)
        contrastive.vision.check_mean(run.data.mean)
        return ContrastiveObjective(run, contrastive)
    model = make_flamingo(run.model, tokenizer)
    model.vision.check_mean(run.data.mean)
    return FlamingoObjective(run, model)


def make_text_lm(run: RunConfig, tokenizer: Tokenizer) -> LanguageModel:
    """Make a language model to be trained whole, with a row for every token of the tokenizer."""
    config = replace(run.model.lm, trainable=True, vocab=max(run.model.lm.vocab, tokenizer.vocab_size))
    return make_lm(config)


def run_to_the_end(trainer: Trainer) -> str:
    """Make updates until the last one, or until the run is to stop; gives the line that says how it ended."""
    train, saved = trainer.train, -1
    val = trainer.run_config.val and data_of(trainer.run_config, trainer.run_config.val)
    while trainer.step < train.steps and not trainer.ended:
        step = trainer.update()
        if step is None:
            break
        if trainer.log is not None:
            trainer.log.add(step)
        if train.val_every and val is not None and (trainer.step % train.val_every == 0 or trainer.step == train.steps):
            losses = trainer.validate(val)
            if trainer.log is not None:
                trainer.log.validated(trainer.step, losses)
        if trainer.step % train.save_every == 0:
            trainer.save()
            saved = trainer.step
    if saved != trainer.step:
        trainer.save()
    how = "done" if trainer.step >= train.steps else "stopped as asked" if trainer.asked else "stopped"
    return f"{how} after step {trainer.step:,} of {train.steps:,}; {Path(train.out, f'step-{trainer.step:06d}')}"


def data_of(run: RunConfig, data: DataConfig) -> DataConfig:
    """Give the settings of a loader: a language model is shown no pictures."""
    return text_only(data) if run.objective == "lm" else data


def prepare_tokenizer(run: RunConfig, world: World, tell: Tell) -> RunConfig:
    """Train the tokenizer that the settings ask for, once; later runs in the folder use it."""
    if not run.train.train_tokenizer:
        return run
    folder = Path(run.train.out, TOKENIZER)
    if world.first and not (folder / "tokenizer.json").exists():
        tell(f"training a tokenizer of {run.train.train_tokenizer:,} tokens")
        folder.parent.mkdir(parents=True, exist_ok=True)
        trained = FastTokenizer(train_tokenizer(texts(run.data), run.train.train_tokenizer))
        save_tokenizer(trained, folder)
    world.wait()
    return with_tokenizer(run, str(folder))


def begin_from(init: str, objective: Objective) -> None:
    """Take the trainable weights of another run's checkpoint."""
    checkpoint = open_checkpoint(Path(init))
    load_weights(objective.model, checkpoint.tensors(MODEL), checkpoint.folder / MODEL)


def describe(run: RunConfig, tell: Tell) -> None:
    """Say what a run would be, and make nothing: the model has sizes and no numbers."""
    loader = Loader(data_of(run, run.data))
    loader.close()
    with torch.device("meta"):
        made = make_objective(run, loader.tokenizer)
    for line in size_lines(made, run, ranks=1):
        tell(line)


@contextmanager
def told_in_one_line(run: RunConfig) -> Iterator[None]:
    """Tell what a person can mend as a `TrainError`: memory that ran out, data, weights; the rest goes on as it is."""
    try:
        yield
    except (DataError, BadWeights) as error:
        # It may name what strangers wrote into shards.
        raise TrainError("".join(sign if sign.isprintable() else "\ufffd" for sign in str(error))) from None
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        first = str(error).partition("\n")[0][:200]
        raise TrainError(f"out of memory: {' or '.join(needing_less(run))} ({first})") from None


def needing_less(run: RunConfig) -> Iterator[str]:
    """Name the settings that would take less memory."""
    train = run.train
    if run.objective == "contrastive":
        yield "lower the batches of [data]"
    else:
        yield f"lower train.micro_rows (now {train.micro_rows or max(run.data.batches.values())})"
    if not train.checkpoint_activations:
        yield "set train.checkpoint_activations = true"
    if train.dtype == "fp32":
        yield "set train.dtype = 'bf16'"
    if train.parallel != "fsdp" and run.objective != "contrastive":
        yield "set train.parallel = 'fsdp' under torchrun"
