"""The options of `flamingo train`."""

from __future__ import annotations

from collections.abc import Callable

import click

OBJECTIVES = ("flamingo", "lm", "contrastive")
TRAIN_HELP = """Train a model from shards, as a TOML file says; torchrun starts it on several GPUs.

\b
flamingo train lm.toml --objective lm
flamingo train run.toml --dry-run
flamingo train run.toml --resume --set train.lr=0.0003
"""


def train_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what a training run takes beside its file of settings."""
    options = [
        click.argument("path", metavar="CONFIG"),
        click.option(
            "--objective",
            type=click.Choice(OBJECTIVES),
            default=OBJECTIVES[0],
            show_default=True,
            help="What is learnt: text about pictures, text alone, or which text belongs to which picture.",
        ),
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting: train.lr=0.001."),
        click.option("--resume", is_flag=True, help="Go on from the latest checkpoint of the run, if it has one."),
        click.option("--dry-run", is_flag=True, help="Say how large the model and its steps are, and do nothing."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
