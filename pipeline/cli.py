"""The one command. Imports stand inside the subcommands, so that `flamingo --help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline import __version__
from pipeline.learn import TRAIN_HELP, train_options
from pipeline.talk import Prompted, lines, prompt_options, talk_options, tell, train_extra

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
    """Turn web pages into interleaved image-text shards, see what became of every page, and train models from them.

    Tab completion: eval "$(_FLAMINGO_COMPLETE=bash_source flamingo)"  (zsh_source, fish_source)
    """


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what the jobs have in common."""
    options = [
        click.option(
            "--source", "-s", "sources", multiple=True, help="WARC or Parquet file, glob, folder of pages, URL list."
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
    flamingo build --source saved-pages/ --out dataset --set filters.texts.quality.min_words=20
    flamingo build --source crawl.warc.gz --out dataset --pairs ltip --videos frames
    flamingo build --source urls.txt --out dataset --contact you@example.org
    flamingo build --source gs://b/*.warc.gz --out gs://b/dataset -- --runner=DataflowRunner --project=p
    """
    from pipeline.build import BUILD
    from pipeline.command import run_job

    run_job(BUILD, given)


@main.command()
@job_options
def extract(**given: Any) -> None:
    """Read pages, or get them by a list of URLs, and write documents; find the pages that say what others say.

    \b
    flamingo extract --source crawl.warc.gz --out dataset
    """
    from pipeline.build import DEDUPLICATE, EXTRACT
    from pipeline.command import run_job

    run_job(EXTRACT + DEDUPLICATE, given)


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
    from pipeline.command import run_job

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
    from pipeline.command import run_job

    run_job(BUILD, given, ask=False)


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
@click.argument("source", metavar="FOLDER|SHARDS")
@click.option("--out", "-o", required=True, metavar="FILE", help="The index; the set is named after it.")
@click.option(
    "--model", default="", metavar="MODEL", help="Embed with it: FILE.onnx, module:function, FILE.py:function."
)
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Of ONNX Runtime.  [default: CPU]")
def decontaminate_index(source: str, out: str, model: str, providers: tuple[str, ...]) -> None:
    """Hash, and with a model embed, the pictures of an evaluation set; builds leave copies of them out.

    \b
    flamingo decontaminate-index coco/val2014 --out coco.parquet
    flamingo decontaminate-index coco/val2014 --out coco.parquet --model embed.onnx
    flamingo build --source crawl.warc.gz --out dataset --set 'filters.evaluation.sets=["coco.parquet"]'
    """
    from pipeline.decontaminate import write_set

    write_set(source, out, model, providers)


@main.command()
@click.argument("path", required=False)
@click.option("--key", help="Key (or its first digits) or URL of a sample.")
@click.option("--batches", metavar="CONFIG", help="In place of PATH: the first batches that a trainer's TOML makes.")
@click.option("--limit", type=click.IntRange(1), help="Samples to list, or steps of batches.  [default: 10, or 1 step]")
@click.option("--rows", type=click.IntRange(1), help="Rows to show of each batch.  [default: 16; with --json all]")
@click.option("--out", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write the batches as an HTML page.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text and pictures; a line for each row.")
def inspect(path: str | None, key: str | None, batches: str | None, limit: int | None, **given: Any) -> None:
    """Show a dataset, a shard or a sample, with its pictures, or the batches that a model is trained on.

    \b
    flamingo inspect dataset
    flamingo inspect dataset --key 3fa9
    flamingo inspect dataset/interleaved/shard-000000.tar
    flamingo inspect dataset/pairs/shard-000000.tar
    flamingo inspect --batches data.toml
    flamingo inspect --batches data.toml --limit 3 --out batches.html
    """
    from rich.console import Console

    from pipeline.folder import UserError
    from pipeline.inspect import inspect as show

    if (path is None) == (batches is None):
        raise UserError("inspect: give either a PATH or --batches CONFIG")
    if batches is not None and key is not None:
        raise UserError("inspect: --key finds a sample of a PATH; --batches has none")
    if batches is not None and given["as_json"] and given["out"]:
        raise UserError("inspect: --json prints lines and --out writes a page; give one of them")
    if batches is None and (given["rows"] or given["out"]):
        raise UserError("inspect: --rows and --out are for --batches")
    if path is not None:
        show(path, key, limit or 10, given["as_json"], Console())
    else:
        look_at_batches(str(batches), limit or 1, **given)


def look_at_batches(config: str, limit: int, **given: Any) -> None:
    """Show the first steps of a loader."""
    from pipeline.batches import Ways, show_steps
    from pipeline.folder import UserError
    from pipeline.report import refused

    try:
        from flamingo_model.config import read_config
        from flamingo_model.data import DataError, Loader
        from flamingo_model.look import rows_json
        from flamingo_model.look_lines import show_batches
        from flamingo_model.look_page import page
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flamingo_model"):
            raise
        raise UserError(f"--batches needs {error.name}: pip install 'flamingo-data[train]'") from None
    try:
        with Loader(read_config(config)) as loader:
            show_steps(loader, Ways(page, rows_json, show_batches), f"batches of {config}", limit, **given)
    except DataError as error:
        raise refused(str(error)) from None


@main.command()
@click.argument("dataset")
@click.option("--against", metavar="OTHER", help="Compare with another dataset: settings, funnel, samples.")
@click.option("--dropped", metavar="RULE", help="Write what a rule dropped (or near_miss) as a page to look at.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="The page, for --dropped.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="Things to show of --dropped.  [default: 200]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def report(dataset: str, against: str | None, dropped: str | None, **given: Any) -> None:
    """Say what went into a dataset, what each rule took, what is in it, and which safety steps did not run.

    \b
    flamingo report dataset
    flamingo report dataset --against dataset-obelics
    flamingo report dataset --dropped too_small --out gallery.html
    flamingo report dataset --dropped near_evaluation_set --out copies.html --limit 50
    """
    from pipeline.reporting import run_report

    run_report(dataset, against, dropped, **given)


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
@click.option("--data", "of_data", is_flag=True, help="What batches are made of, for a trainer, instead.")
def settings(preset: str | None, of_data: bool) -> None:
    """Print every setting with its default and what it means, as TOML to start from.

    \b
    flamingo settings > my.toml;  flamingo build --config my.toml --source crawl.warc.gz --out dataset
    flamingo settings --data > data.toml;  flamingo inspect --batches data.toml
    """
    if of_data:
        from flamingo_model.config import example
        from pipeline.settings import document_settings

        click.echo("[data]\n" + document_settings(example(), "data."), nl=False)
        return
    from pipeline.build import BuildConfig
    from pipeline.command import with_preset
    from pipeline.settings import document_settings

    click.echo(document_settings(with_preset(BuildConfig(), preset)), nl=False)


@main.command()
@click.option("--out", "-o", default="demo", show_default=True, help="Folder for the site's archive and the dataset.")
@click.option("--pages", type=click.IntRange(1), default=36, show_default=True, help="Pages of the invented site.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another site.")
@click.option("--workers", "-w", type=click.IntRange(0), default=0, help="Processes.  [default: one per processor]")
@click.option("--only-site", is_flag=True, help="Write the archive, build nothing.")
@click.option("--train/--no-train", "trains", default=True, help="Train a tiny model of it for about a minute.")
def demo(out: str, pages: int, seed: int, workers: int, only_site: bool, trains: bool) -> None:
    """Draw a small illustrated website, pack it as a WARC file, build a dataset from it, and train a model on that.

    \b
    flamingo demo
    flamingo demo --no-train
    flamingo demo --pages 10000 --seed 7 --only-site --out world
    """
    from pipeline.command import build_demo, train_demo

    dataset = build_demo(out, pages, seed, workers, only_site)
    if dataset and trains:
        with train_extra("demo"):
            from flamingo_model.chat import captions
        train_demo(dataset, seed, captions)


@main.command(help=TRAIN_HELP)
@train_options
def train(**given: Any) -> None:
    """Train a model, as `TRAIN_HELP` says."""
    with train_extra("train"):
        from flamingo_model.train import train
    train(**given, tell=click.echo)


@main.command(cls=Prompted)
@talk_options
@prompt_options
@click.pass_obj
def generate(prompt: list[tuple[str, str]], checkpoint: str, as_json: bool, **given: Any) -> None:
    """Write what follows images, texts and videos, in the order in which they are given.

    \b
    flamingo generate run --image a.jpg
    flamingo generate run --image a.jpg --text 'Output: a cat' --image b.jpg --text 'Output:' --beams 3
    flamingo generate run --video clip.mp4 --text 'Question: what happens? Answer:' --temperature 0.7
    """
    with train_extra("generate"):
        from flamingo_model.chat import answer_prompt, as_row
    answer = answer_prompt(prompt, checkpoint, (lambda piece: None) if as_json else tell, **given)
    if as_json:
        from pipeline.report import json_line

        click.echo(json_line(as_row(answer)))


@main.command()
@talk_options
@click.option("--ask", metavar="TEXT", help="What a line becomes.  [default: Question: {} Answer:]")
def chat(ask: str | None, **given: Any) -> None:
    """Talk about images and videos: each line is answered; /image FILE shows one, /quit ends.

    \b
    flamingo chat run
    """
    with train_extra("chat"):
        from flamingo_model.chat import begin, converse
    converse(begin(ask, **given), lines("> "), tell)


if __name__ == "__main__":
    main()
