"""The settings of a training run: one TOML, and the defaults of each objective.

[model]                       preset = "tiny", then tables of overrides ([model.xattn] every = 4)
[data], [val]                 what is trained on, and what the loss is measured on (flamingo_model.config)
[contrastive]                 what stands beside the vision encoder in that stage (flamingo_model.contrastive)
[train]                       the rest (TrainConfig)

run.toml, objective, `--set a.b=c` → RunConfig
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flamingo_model.config import INTERLEAVED, DataConfig, data_config
from flamingo_model.contrastive import SIZES, ContrastiveConfig
from flamingo_model.presets import ABLATIONS, PRESETS, FlamingoConfig, one_of, toml_of
from schemas.config import ConfigError, from_tree, parse_toml, parse_value, to_tree, with_overrides

OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "flamingo": {},
    "lm": {"lr": 1e-3, "warmup_steps": 200, "schedule": "cosine", "beta2": 0.95, "blind_every": 0},
    "contrastive": {
        "steps": 1_200_000, "lr": 1e-3, "warmup_steps": 0, "schedule": "linear", "weight_decay": 0.0, "clip": 10.0,
        "agc": 0.01, "accumulate": "separate", "blind_every": 0,
    },
}  # fmt: skip
"""Where the defaults of objectives differ from `TrainConfig`'s (contrastive: SPEC-flamingo, Training; lm: ours)."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model learns, and what is kept and told of it. Sources: SPEC-flamingo, Training, if none is named."""

    out: str = "run"
    """Folder of checkpoints and logs."""
    init: str = ""
    """A checkpoint whose trainable weights are where this run begins (its optimiser and place in the data are not)."""
    seed: int = 0
    """Of new weights and of dropout."""
    steps: int = 500_000
    """Updates. 500,000 for the final models, 250,000 for the ablations."""
    max_minutes: float = 0.0
    """A checkpoint is written and the run ends after so many minutes. 0: no limit."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    gate_lr: float = 1.0
    """Learning rate of the tanh gates, as a multiple of `lr`. A gate moves by about `lr` an update and begins at 0: a
    run of a thousand updates needs more than 1, which is the paper's."""
    warmup_steps: int = 5_000
    """Steps over which the learning rate rises from 0, linearly."""
    schedule: str = "constant"
    """What follows: `constant`, `linear` or `cosine`, the latter two to 0 at the last step."""
    weight_decay: float = 0.1
    """Of all trainable parameters but the resampler's."""
    resampler_decay: float = 0.0
    """Weight decay of the resampler."""
    beta1: float = 0.9
    """Of AdamW (the paper does not say)."""
    beta2: float = 0.999
    """Of AdamW (the paper does not say)."""
    clip: float = 1.0
    """Largest norm of the gradient, scaled down to it once before the step. 0: no limit."""
    agc: float = 0.0
    """Adaptive clipping of the vision encoder: largest ratio of the norms of a unit's gradient and weights. 0: off."""
    accumulate: str = "merged"
    """Gradients of a step: of one pass over all datasets with a weight per token (`merged`), of one pass over each
    (`separate`, the same gradient), or of one dataset in turn (`round_robin`, an ablation)."""
    loss_over: str = "mean"
    """A dataset's loss is the `mean` over its tokens, or the `sum` over the tokens of a row, averaged over rows."""
    micro_rows: int = 0
    """Most rows of one pass on a rank, which bounds memory; the gradient is the same. 0: all."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: cuda where there is one."""
    dtype: str = "auto"
    """Of activations and frozen weights: `bf16`, `fp32`, or `auto`: bf16 on a GPU, fp32 on a CPU, as few have bf16.
    Trainable weights and moments are always fp32."""
    compile: bool = False
    """Compile every block."""
    checkpoint_activations: bool = False
    """Keep no activations of the blocks; compute them again in the backward pass."""
    parallel: str = "none"
    """Over ranks that torchrun starts: `ddp` (each has the whole model) or `fsdp` (each has a part). `none`: one."""
    feature_cache_gb: float = 0.0
    """Most gigabytes of frozen vision features that a rank keeps under `out`. 0: none. Not with flips or jitter."""
    train_tokenizer: int = 0
    """Train a tokenizer of so many tokens on the data's texts first, in place of `data.tokenizer`. 0: do not."""
    save_every: int = 1_000
    """Steps between checkpoints; the last step always has one."""
    keep: int = 3
    """Checkpoints that stay, the latest ones. 0: all."""
    log_every: int = 10
    """Steps between lines of the log."""
    blind_every: int = 500
    """Steps between measurements of the blind loss: the same batch with attention to images off. 0: none."""
    val_every: int = 1_000
    """Steps between measurements of the loss on `[val]`. 0: none."""
    val_steps: int = 20
    """Most steps of `[val]` that are read for it."""
    tensorboard: bool = False
    """Write scalars for TensorBoard too, into `out` (needs the package tensorboard)."""
    wandb: str = ""
    """A project of Weights & Biases that the scalars are sent to as well (needs the package wandb)."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("schedule", ("constant", "linear", "cosine")),
            ("accumulate", ("merged", "separate", "round_robin")),
            ("loss_over", ("mean", "sum")),
            ("device", ("auto", "cpu", "cuda")),
            ("dtype", ("auto", "bf16", "fp32")),
            ("parallel", ("none", "ddp", "fsdp")),
        ):
            one_of(name, getattr(self, name), allowed)
        at_least = {"steps": 1, "save_every": 1, "log_every": 1, "val_steps": 1}
        zeros = (
            *(
                "seed",
                "max_minutes",
                "lr",
                "gate_lr",
                "warmup_steps",
                "weight_decay",
                "resampler_decay",
                "clip",
                "agc",
                "keep",
            ),
            *("micro_rows", "feature_cache_gb", "train_tokenizer", "blind_every", "val_every"),
        )
        for name, least in {**dict.fromkeys(zeros, 0), **at_least}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is from 0 to less than 1, not {getattr(self, name)}")
        if not self.out:
            raise ValueError("out names the folder of the run")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A whole run."""

    data: DataConfig
    """What is trained on."""
    model: FlamingoConfig = field(default_factory=FlamingoConfig)
    """What is trained."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How."""
    val: DataConfig | None = None
    """What the loss is measured on."""
    contrastive: ContrastiveConfig | None = None
    """What stands beside the vision encoder, where the objective is `contrastive`."""
    objective: str = "flamingo"
    """What is learnt: `flamingo`, `lm` or `contrastive`."""


FREE = {
    "train": (
        "out", "init", "steps", "max_minutes", "micro_rows", "device", "compile", "checkpoint_activations", "parallel",
        "feature_cache_gb", "train_tokenizer", "save_every", "keep", "log_every", "blind_every", "val_every",
        "val_steps", "tensorboard", "wandb",
    ),
    "data": ("workers", "threads", "prefetch", "on_damage", "max_damaged", "retries", "timeout_s", "connections"),
}  # fmt: skip
"""Settings that a run may go on with changed: they do not decide what is learnt. `steps` does where lr falls to 0."""


def read_run(path: str, objective: str = "flamingo", assignments: Iterable[str] = ()) -> RunConfig:
    """Read the settings of a run; a `ConfigError` says in one line what is wrong with them."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    tree = parse_toml(text, path)
    for assignment in assignments:
        assign(tree, assignment)
    return run_config(tree, path, objective)


def assign(tree: dict[str, Any], assignment: str) -> None:
    """Set one value of nested tables, `a.b=value` with the value written as in TOML."""
    name, equals, text = assignment.partition("=")
    *tables, last = name.strip().split(".")
    if not equals or not tables:
        raise ConfigError(f"--set {assignment}: write it as train.lr=0.001")
    for table in tables:
        tree = tree.setdefault(table, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {assignment}: '{table}' is no table of settings")
    tree[last] = parse_value(text.strip())


def run_config(tree: Mapping[str, Any], where: str, objective: str = "flamingo") -> RunConfig:
    """Read the settings of a run from nested mappings."""
    if objective not in OBJECTIVES:
        raise ConfigError(f"--objective: there is no {objective!r} (known: {', '.join(OBJECTIVES)})")
    known = ("model", "data", "val", "train", "contrastive")
    for name, table in tree.items():
        if name not in known:
            raise ConfigError(f"{where}: unknown table '{name}' (known: {', '.join(known)})")
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: '{name}' is a table of settings, not {table!r}")
    if "data" not in tree:
        raise ConfigError(f"{where}: there is no [data] with the datasets to read")
    model = model_config(tree.get("model", {}), where)
    over = ABLATIONS[tree.get("model", {}).get("ablation", "base")]
    # An ablation is laid over everything that it has a say in.
    train = {**OBJECTIVES[objective], **tree.get("train", {}), **table_of(over, "train")}
    data = data_config(ablate(tree["data"], table_of(over, "data"), where), where)
    same = {"image_px": data.image_px, "mean": data.mean, "fit": data.fit, "tokenizer": data.tokenizer, "once": True}
    val = data_config({**same, **tree["val"]}, where) if "val" in tree else None
    contrastive = contrastive_config(tree, where) if objective == "contrastive" else None
    run = RunConfig(data, model, from_tree(TrainConfig, train, where, "train."), val, contrastive, objective)
    check_together(run, where)
    return run


def model_config(tree: Mapping[str, Any], where: str) -> FlamingoConfig:
    """Read `[model]`: a preset, tables of settings over it, and an ablation over both."""
    preset, ablation = tree.get("preset", "flamingo_3b"), tree.get("ablation", "base")
    for what, name, known in (("preset", preset, PRESETS), ("ablation", ablation, ABLATIONS)):
        if name not in known:
            raise ConfigError(f"{where}: there is no {what} {name!r} (known: {', '.join(known)})")
    config = with_overrides(FlamingoConfig(), assignments_of(PRESETS[preset]))
    own = {name: value for name, value in tree.items() if name not in ("preset", "ablation")}
    config = from_tree(FlamingoConfig, merged(to_tree(config), own), where, "model.")
    rows = {name: value for name, value in ABLATIONS[ablation].items() if name.partition(".")[0] in to_tree(config)}
    return with_overrides(config, assignments_of(rows))


def contrastive_config(tree: Mapping[str, Any], where: str) -> ContrastiveConfig:
    """Read `[contrastive]`, over the sizes that the preset has."""
    rows = SIZES[tree.get("model", {}).get("preset", "flamingo_3b")]
    return from_tree(ContrastiveConfig, {**rows, **tree.get("contrastive", {})}, where, "contrastive.")


def assignments_of(rows: Mapping[str, Any]) -> list[str]:
    """Write overrides as `with_overrides` takes them."""
    return [f"{name}={toml_of(value)}" for name, value in rows.items()]


def table_of(rows: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Give the overrides of one table, by the rest of their names."""
    return {name.removeprefix(f"{table}."): value for name, value in rows.items() if name.partition(".")[0] == table}


def ablate(data: Mapping[str, Any], over: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Lay the rows of an ablation over `[data]`: `without` a kind, `KIND.NAME` for all datasets of a kind."""
    out = dict(data)
    for name, value in over.items():
        kind, _, setting = name.partition(".")
        if not setting and kind != "without":
            out[kind] = value
            continue
        datasets = {key: dict(table) for key, table in out.get("datasets", {}).items()}
        for key, table in list(datasets.items()):
            if table.get("kind", INTERLEAVED) == (kind if setting else value):
                if setting:
                    table[setting] = value
                else:
                    del datasets[key]
        if not datasets:
            raise ConfigError(f"{where}: model.ablation leaves no dataset")
        out["datasets"] = datasets
    return out


def merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested mappings over others."""
    out = dict(tree)
    for name, value in over.items():
        below = out.get(name)
        out[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return out


def check_together(run: RunConfig, where: str) -> None:
    """Refuse settings that are right alone and wrong together."""
    train, data = run.train, run.data
    if run.objective == "flamingo" and data.image_px != run.model.vision.image_px:
        raise ConfigError(
            f"{where}: data.image_px is {data.image_px}, model.vision.image_px is {run.model.vision.image_px}: one size"
        )
    if train.feature_cache_gb and (data.flip or data.jitter or run.model.vision.trainable):
        raise ConfigError(
            f"{where}: train.feature_cache_gb goes without data.flip, data.jitter and model.vision.trainable: "
            "features must be the same whenever a picture comes again"
        )
    if train.feature_cache_gb and train.parallel == "fsdp":
        raise ConfigError(
            f"{where}: train.feature_cache_gb goes without parallel = 'fsdp', where all ranks encode at once"
        )
    if run.objective == "contrastive" and (
        train.accumulate == "merged" or train.micro_rows or train.parallel == "fsdp"
    ):
        raise ConfigError(
            f"{where}: the contrastive loss compares the rows of a batch, so that train.accumulate is separate or "
            "round_robin, micro_rows is 0 and parallel none or ddp"
        )
    if data.mix == "mixed" and train.accumulate != "merged":
        raise ConfigError(f"{where}: data.mix is mixed: there is one batch a step, train.accumulate is merged")


def differing(now: RunConfig, then: Mapping[str, Any]) -> list[str]:
    """Name the settings that decide what is learnt and differ from those of a checkpoint, with both values."""
    tree = run_tree(now)
    free = {f"{table}.{name}" for table, names in FREE.items() for name in names}
    if now.train.schedule != "constant":
        free.discard("train.steps")
    ours, theirs = dict(leaves(tree)), dict(leaves(then))
    names = [name for name in {**theirs, **ours} if name.partition(".")[0] != "val" and name not in free]
    return [
        f"{name} {theirs.get(name)!r}, now {ours.get(name)!r}" for name in names if ours.get(name) != theirs.get(name)
    ]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """List the settings of nested mappings by their whole names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def run_tree(run: RunConfig) -> dict[str, Any]:
    """Write the settings of a run as nested mappings of JSON's types."""
    tree = {name: to_tree(getattr(run, name)) for name in ("model", "data", "train")}
    given = {name: getattr(run, name) for name in ("val", "contrastive")}
    return {**tree, "objective": run.objective, **{name: to_tree(value) for name, value in given.items() if value}}


def run_of_tree(tree: Mapping[str, Any], where: str) -> RunConfig:
    """Read back what `run_tree` wrote."""
    rest = {name: value for name, value in tree.items() if name != "objective"}
    return run_config(rest, where, str(tree.get("objective")))


def with_tokenizer(run: RunConfig, tokenizer: str) -> RunConfig:
    """Give the same run with another tokenizer."""
    val = replace(run.val, tokenizer=tokenizer) if run.val else None
    return replace(run, data=replace(run.data, tokenizer=tokenizer), val=val)
