"""The one command. Imports stand inside the subcommands, so that `flamingo --help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from pipeline import __version__

PRESETS = ("m3w", "obelics")


class OneLineErrors(click.Group):
    """Shows what a person can mend as one line and exit status 2; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        from pipeline.folder import UserError
        from schemas.config import ConfigError

        try:
            return super().invoke(ctx)
        except (UserError, ConfigError) as error:
            click.echo(f"flamingo: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("flamingo: interrupted; the same command goes on from here", err=True)
            ctx.exit(130)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flamingo")
def main() -> None:
    """Turn web pages into interleaved image-text shards, and see what became of every page and picture.

    Tab completion: eval "$(_FLAMINGO_COMPLETE=bash_source flamingo)"  (zsh_source, fish_source)
    """


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what the jobs have in common."""
    options = [
        click.option(
            "--source",
            "-s",
            "sources",
            multiple=True,
            help="WARC or Parquet file, glob, folder of pages, list of URLs.",
        ),
        click.option(
            "--out", "-o", metavar="DATASET", help="Dataset folder or URL; a second run goes on where one stopped."
        ),
        click.option(
            "--contact",
            metavar="MAIL|URL",
            help="Ask the web for what the sources lack; sites see whom to write to.  [default: the dataset's]",
        ),
        click.option("--config", "config_file", type=click.Path(exists=True, dir_okay=False), help="Settings as TOML."),
        click.option("--preset", type=click.Choice(PRESETS), help="Rules of a corpus.  [default: m3w, any length]"),
        click.option("--pairs", type=click.Choice(["none", "ltip", "align"]), help="Write pairs, by these rules."),
        click.option("--videos", type=click.Choice(["none", "frames", "clips"]), help="Write videos, in this form."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME=VALUE",
            help="One setting, such as filters.images.min_side_px=150.  See `flamingo settings`.",
        ),
        click.option(
            "--workers", "-w", type=click.IntRange(0), default=0, help="Processes.  [default: one per processor]"
        ),
        click.option(
            "--worker-memory",
            type=click.IntRange(0),
            default=0,
            metavar="MiB",
            help="Memory above which a worker is replaced.  [default: 2048, or its share of 80 %]",
        ),
        click.option(
            "--stall",
            type=float,
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="A worker that begins no record for so long is replaced.",
        ),
        click.option("--dry-run", is_flag=True, help="Say what would be read and done, and do nothing."),
        click.argument("beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM OPTIONS]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@job_options
def build(**given: Any) -> None:
    """Build a dataset: extract, fetch and assemble.

    \b
    flamingo build --source crawl.warc.gz --out dataset
    flamingo build --source 'crawl/*.warc.gz' --out dataset --preset obelics --workers 8
    flamingo build --source saved-pages/ --out dataset --set filters.pages.min_words=20
    flamingo build --source crawl.warc.gz --out dataset --pairs ltip --videos frames
    flamingo build --source urls.txt --out dataset --contact you@example.org
    flamingo build --source gs://b/*.warc.gz --out gs://b/dataset -- --runner=DataflowRunner --project=p
    """
    from pipeline.build import BUILD

    run_job(BUILD, given)


@main.command()
@job_options
def extract(**given: Any) -> None:
    """Read pages, or get them by a list of URLs, and write documents: text and media references in reading order.

    \b
    flamingo extract --source crawl.warc.gz --out dataset
    """
    from pipeline.build import EXTRACT

    run_job(EXTRACT, given)


@main.command()
@click.option("--status", metavar="DATASET", help="Say what became of all that was asked of the web, host by host.")
@click.option("--json", "as_json", is_flag=True, help="The status as JSON lines.")
@job_options
def fetch(status: str | None, as_json: bool, **given: Any) -> None:
    """Get the documents' images, from the sources or with --contact from the web, check and normalise them.

    A later run asks only for what is missing, or failed for a reason that may have passed.

    \b
    flamingo fetch --out dataset
    flamingo fetch --out dataset --contact you@example.org --dry-run
    flamingo fetch --out dataset --contact you@example.org
    flamingo fetch --status dataset
    """
    from pipeline.build import BUILD, FETCH

    if status is not None:
        from pipeline.asked import print_status
        from pipeline.folder import Folder

        print_status(Folder(status), as_json)
        return
    run_job(BUILD[: BUILD.index(FETCH[-1]) + 1], given)


@main.command()
@job_options
def assemble(**given: Any) -> None:
    """Apply the rules and write shards; with other rules, only this is done again. The web is never asked.

    \b
    flamingo assemble --out dataset --set filters.images.min_side_px=150
    """
    from pipeline.build import BUILD

    run_job(BUILD, given, ask=False)


def run_job(steps: Sequence[Any], given: dict[str, Any], *, ask: bool = True) -> None:
    """Resolve the settings, run the steps and show the funnel."""
    from pipeline.local import LocalOptions
    from pipeline.progress import TerminalProgress
    from pipeline.run import run

    if not given["out"]:
        raise click.UsageError("Missing option '--out' / '-o'.")
    config = resolve_config(given)
    options = LocalOptions(given["workers"], given["worker_memory"] << 20, given["stall"], given["beam_args"])
    if given["dry_run"]:
        describe_plan(given["out"], config, options)
        return
    with TerminalProgress() as progress:
        totals = run(given["out"], config, steps, options, progress, ask=ask)
    show_result(given["out"], steps, totals)


def resolve_config(given: dict[str, Any]) -> Any:
    """Put the configuration together: the dataset's own or a file, the preset, the sources, single settings."""
    from pathlib import Path

    from pipeline.build import BuildConfig
    from pipeline.filters import PRESETS as ROWS
    from pipeline.folder import Folder, UserError
    from pipeline.run import load_config
    from schemas.config import from_toml, from_tree, to_tree, with_overrides

    if given["config_file"]:
        try:
            text = Path(given["config_file"]).read_text("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{given['config_file']}: not a text file in UTF-8") from None
        config = from_toml(BuildConfig, text, given["config_file"])
    else:
        config = load_config(Folder(given["out"])) or BuildConfig()
    if given["preset"]:
        config = with_overrides(config, [f"{name}={toml(value)}" for name, value in ROWS[given["preset"]].items()])
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


def toml(value: Any) -> str:
    """Write a preset's value as TOML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_plan(root: str, config: Any, options: Any) -> None:
    """Print what a run would read and ask for, without running it."""
    import tomli_w

    from pipeline.asked import describe_wanted
    from pipeline.folder import Folder
    from pipeline.sources import plan_splits
    from schemas.config import to_tree

    splits = plan_splits(config.source)
    files = sorted({split.file for split in splits})
    click.echo(tomli_w.dumps(to_tree(config)))
    click.echo(
        f"would read {len(files)} source(s) in {len(splits)} unit(s) with {options.resolved().workers} worker(s)"
    )
    if config.fetch.contact:
        click.echo(describe_wanted(Folder(root), config))


def show_result(root: str, steps: Sequence[Any], totals: Any) -> None:
    """Show the funnel; a build that kept nothing ends with status 1."""
    from rich.console import Console

    from pipeline.build import BUILD, funnel
    from pipeline.fetch import NOT_IN_SOURCES
    from pipeline.folder import Folder
    from pipeline.report import MANIFEST_FILE, funnel_table, print_summary
    from schemas.shard import manifest_from_json

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


@main.command()
@click.argument("dataset")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(dataset: str, as_json: bool) -> None:
    """Say how far a build is, from a second terminal.

    \b
    flamingo status dataset
    """
    import json

    from pipeline.folder import Folder
    from pipeline.progress import describe, read_status

    state = read_status(Folder(dataset))
    click.echo(json.dumps(state) if as_json else describe(state))


@main.command()
@click.argument("path")
@click.option("--key", help="Key (or its first digits) or URL of a sample.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Samples to list.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text and pictures.")
def inspect(path: str, key: str | None, limit: int, as_json: bool) -> None:
    """Show a dataset, a shard or a sample, with its pictures.

    \b
    flamingo inspect dataset
    flamingo inspect dataset --key 3fa9
    flamingo inspect dataset/interleaved/shard-000000.tar
    flamingo inspect dataset/pairs/shard-000000.tar
    """
    from rich.console import Console

    from pipeline.inspect import inspect as show

    show(path, key, limit, as_json, Console())


@main.command()
@click.argument("url")
@click.option("--dataset", "-d", required=True, help="Dataset folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def why(url: str, dataset: str, as_json: bool) -> None:
    """Say what became of a page or picture, at which stage and for which reason.

    \b
    flamingo why https://example.org/photo.jpg --dataset dataset
    """
    from rich.console import Console

    from pipeline.folder import Folder
    from pipeline.why import print_story
    from pipeline.why import why as tell

    print_story(tell(url, Folder(dataset)), as_json, Console())


@main.command()
@click.option("--preset", type=click.Choice(PRESETS), help="Rules of a published corpus.")
def settings(preset: str | None) -> None:
    """Print every setting with its default and what it means, as TOML to start from.

    \b
    flamingo settings > my.toml;  flamingo build --config my.toml --source crawl.warc.gz --out dataset
    """
    from pipeline.build import BuildConfig
    from pipeline.filters import PRESETS as ROWS
    from pipeline.settings import document_settings
    from schemas.config import with_overrides

    config = with_overrides(
        BuildConfig(), [f"{name}={toml(value)}" for name, value in ROWS.get(preset or "", {}).items()]
    )
    click.echo(document_settings(config), nl=False)


@main.command()
@click.option("--out", "-o", default="demo", show_default=True, help="Folder for the site's archive and the dataset.")
@click.option("--pages", type=click.IntRange(1), default=36, show_default=True, help="Pages of the invented site.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another site.")
@click.option("--workers", "-w", type=click.IntRange(0), default=0, help="Processes.  [default: one per processor]")
@click.option("--only-site", is_flag=True, help="Write the archive, build nothing.")
def demo(out: str, pages: int, seed: int, workers: int, only_site: bool) -> None:
    """Draw a small illustrated website, pack it as a WARC file, and build a dataset from it.

    \b
    flamingo demo
    flamingo demo --pages 10000 --seed 7 --only-site --out world
    """
    from pathlib import Path

    from rich.console import Console

    from pipeline.build import BUILD, BuildConfig
    from pipeline.demo import site, write_warc
    from pipeline.inspect import inspect as show
    from pipeline.local import LocalOptions
    from pipeline.progress import TerminalProgress
    from pipeline.run import run
    from schemas.config import from_tree

    archive = Path(out, f"site-{pages}-{seed}.warc.gz")
    dataset = Path(out, f"dataset-{pages}-{seed}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    click.echo(f"drawing {pages} pages into {archive}")
    write_warc(site(pages, seed), str(archive))
    if only_site:
        return
    wanted = {"pairs": {"preset": "ltip"}, "videos": {"keep": "frames"}}
    config = from_tree(BuildConfig, {"source": {"paths": [str(archive)]}} | wanted, "demo")
    with TerminalProgress() as progress:
        totals = run(str(dataset), config, BUILD, LocalOptions(workers), progress)
    show_result(str(dataset), BUILD, totals)
    show(str(dataset), first_key(str(dataset)), 1, False, Console())
    click.echo(f"\nLook further: flamingo inspect {dataset}   flamingo why URL --dataset {dataset}")


def first_key(dataset: str) -> str:
    """Give the key of the first sample of a dataset."""
    import pyarrow.parquet as pq

    from pipeline.folder import Folder

    with Folder(dataset).open("interleaved/index.parquet") as stream:
        return str(next(pq.ParquetFile(stream).iter_batches(1, columns=["key"]))["key"][0])


if __name__ == "__main__":
    main()
