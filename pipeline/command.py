"""What the commands that run jobs have in common: their options in, a run of the jobs and its funnel out."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import tomli_w
from rich.console import Console

from pipeline.asked import describe_wanted
from pipeline.build import BUILD, BuildConfig
from pipeline.drawing import choose_drawing, show_picture
from pipeline.embed import check_model
from pipeline.evaluation import check_sets
from pipeline.fetch import NOT_IN_SOURCES
from pipeline.filters import PRESETS
from pipeline.folder import Folder, UserError
from pipeline.funnel import funnel
from pipeline.inspect import inspect
from pipeline.local import LocalOptions
from pipeline.plan import Step, Totals
from pipeline.progress import TerminalProgress
from pipeline.report import MANIFEST_FILE, funnel_table, print_summary, say
from pipeline.run import load_config, run
from pipeline.score import check_models
from pipeline.sources import plan_splits
from schemas.config import from_toml, from_tree, to_tree, with_overrides
from schemas.shard import manifest_from_json

HELD_OUT_SEED = 1_000_003
"""What is added to a site's seed for pictures of the same world that it does not have."""


def run_job(steps: Sequence[Step], given: dict[str, Any], *, ask: bool = True) -> None:
    """Resolve the settings, run the steps and show the funnel; `given` is what `cli.job_options` define."""
    if not given["out"]:
        raise click.UsageError("Missing option '--out' / '-o'.")
    config = resolve_config(given)
    options = LocalOptions(given["workers"], given["worker_memory"] << 20, given["stall"], given["beam_args"])
    check_sets(config.filters.evaluation)
    for line in check_model(config.filters.evaluation, config.scores):
        say(Console(stderr=True), line)
    if given["dry_run"]:
        describe_plan(given["out"], config, options)
        return
    with TerminalProgress() as progress:
        totals = run(given["out"], config, steps, options, progress, ask=ask)
    show_result(given["out"], steps, totals)


def resolve_config(given: dict[str, Any]) -> BuildConfig:
    """Put the configuration together: the dataset's own or a file, the preset, the sources, single settings."""
    if given["config_file"]:
        try:
            text = Path(given["config_file"]).read_text("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{given['config_file']}: not a text file in UTF-8") from None
        config = from_toml(BuildConfig, text, given["config_file"])
    else:
        config = load_config(Folder(given["out"])) or BuildConfig()
    config = with_preset(config, given["preset"])
    if given["sources"]:
        tree = to_tree(config)
        tree["source"]["paths"] = list(given["sources"])
        config = from_tree(BuildConfig, tree, "--source")
    for option, table, name in (
        ("contact", "fetch", "contact"),
        ("pairs", "pairs", "preset"),
        ("videos", "videos", "keep"),
    ):
        if given[option] is not None:
            tree = to_tree(config)
            tree[table][name] = given[option]
            config = from_tree(BuildConfig, tree, f"--{option}")
    return with_overrides(config, given["assignments"])


def with_preset(config: BuildConfig, preset: str | None) -> BuildConfig:
    """Apply the rules of a corpus, where one is named."""
    if not preset:
        return config
    return with_overrides(config, [f"{name}={toml(value)}" for name, value in PRESETS[preset].items()])


def toml(value: Any) -> str:
    """Write a preset's value as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_plan(root: str, config: BuildConfig, options: LocalOptions) -> None:
    """Print what a run would read and ask for, without running it."""
    check_models(config.scores)
    splits = plan_splits(config.source)
    files = sorted({split.file for split in splits})
    click.echo(tomli_w.dumps(to_tree(config)))
    click.echo(
        f"would read {len(files)} source(s) in {len(splits)} unit(s) with {options.resolved().workers} worker(s)"
    )
    if config.fetch.contact:
        click.echo(describe_wanted(Folder(root), config))


def show_result(root: str, steps: Sequence[Step], totals: Totals) -> None:
    """Show the funnel; a build that kept nothing ends with status 1."""
    console = Console()
    if missing := totals.counts["locate", "image url", NOT_IN_SOURCES]:
        click.echo(f"not in the sources: {missing:,} image(s); with --contact the web is asked for them", err=True)
    if steps[-1] is not BUILD[-1]:
        console.print(funnel_table(funnel(totals)))
        return
    folder = Folder(root)
    print_summary(console, manifest_from_json(folder.read_text(MANIFEST_FILE) or ""), folder)
    if not totals.facts:
        click.echo(f"flamingo: {root}: no page was kept; the table says why, `flamingo why` for a URL", err=True)
        sys.exit(1)


def build_demo(out: str, pages: int, seed: int, workers: int, only_site: bool) -> str:
    """Write the archive of an invented site, and unless `only_site`, build a dataset of it and show its first page.

    Gives the folder of the dataset, or nothing.
    """
    from pipeline.demo import site, write_warc

    archive = Path(out, f"site-{pages}-{seed}.warc.gz")
    dataset = str(Path(out, f"dataset-{pages}-{seed}"))
    archive.parent.mkdir(parents=True, exist_ok=True)
    click.echo(f"drawing {pages} pages into {archive}")
    write_warc(site(pages, seed), str(archive))
    if only_site:
        return ""
    wanted = {"pairs": {"preset": "ltip"}, "videos": {"keep": "frames"}}
    config = from_tree(BuildConfig, {"source": {"paths": [str(archive)]}} | wanted, "demo")
    with TerminalProgress() as progress:
        totals = run(dataset, config, BUILD, LocalOptions(workers), progress)
    show_result(dataset, BUILD, totals)
    inspect(dataset, first_key(dataset), 1, False, Console())
    click.echo(f"\nLook further: flamingo inspect {dataset}   flamingo why URL --dataset {dataset}")
    return dataset


def train_demo(dataset: str, seed: int, captions: Callable[[str, Iterable[bytes]], list[str]]) -> None:
    """Train the tiny model on a demo's dataset for about a minute, and let it caption pictures that no page has."""
    from pipeline.demo.exam import pictures_of
    from pipeline.recipe import A_MINUTE, learn

    click.echo("\nTraining the tiny model from these shards: text, pictures, then text about pictures.")
    run = str(learn(Path(f"{dataset}-model"), dataset, A_MINUTE))
    console = Console()
    way = choose_drawing(console, os.environ)
    shown = list(pictures_of(seed + HELD_OUT_SEED, 3))
    click.echo("\nThree pictures that it has never seen:")
    for picture, said in zip(shown, captions(run, [picture.data for picture in shown]), strict=True):
        show_picture(picture.name, "", picture.data, way, console)
        say(console, f"  the model says: {said}")
    click.echo(f"\nA minute teaches the words. To look takes twenty: make learn.\nAsk it: flamingo chat {run}")


def first_key(dataset: str) -> str:
    """Give the key of the first sample of a dataset."""
    with Folder(dataset).open("interleaved/index.parquet") as stream:
        return str(next(pq.ParquetFile(stream).iter_batches(1, columns=["key"], use_threads=False))["key"][0])


def write_pieces(path: str, pieces: Iterable[str]) -> None:
    """Write text to a file, whole or not at all, and say so."""
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Folder(posixpath.dirname(path)).create(posixpath.basename(path)))
        except OSError as error:
            raise UserError(f"--out {path}: {error.strerror or error}") from None
        for piece in pieces:
            stream.write(piece.encode())
    click.echo(f"wrote {path}", err=True)
