"""A run of the jobs on a dataset folder: whose it is, what runs it, and how a person sees it go on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import tomli_w

from pipeline.build import BuildConfig, run_steps
from pipeline.embed import check_model, files_of_embedder
from pipeline.evaluation import check_sets
from pipeline.folder import CONFIG_FILE, PROGRESS_FILE, Folder, UserError, sole_writer
from pipeline.local import LocalOptions, Progress, supervise
from pipeline.plan import Step, Totals
from pipeline.score import check_models, files_of
from pipeline.sources import LIST, SourceConfig, plan_splits
from pipeline.stage import Job, Stage, Unit
from schemas.config import ConfigError, from_toml, to_tree

LOCAL_RUNNERS = ("", "FnApiRunner", "DirectRunner")
PROGRESS_EVERY_S = 1.0
SECONDS_FILE = "work/seconds.json"


def load_config(folder: Folder) -> BuildConfig | None:
    """Read the configuration of a dataset; `None` where the folder holds none."""
    text = folder.read_text(CONFIG_FILE)
    if text is None:
        return None
    try:
        return from_toml(BuildConfig, text, folder.path(CONFIG_FILE))
    except ConfigError as error:
        raise UserError(f"{error}; rebuild into another --out, or delete this dataset") from None


def check_claim(folder: Folder, config: BuildConfig) -> None:
    """Refuse a folder that holds something else, and sources that cannot be read, before anything is written."""
    earlier = load_config(folder)
    if earlier is None and (strangers := [name for name in folder.names("") if name != "work"]):
        raise UserError(f"{folder.root}: holds {strangers[0]} and no dataset; give an empty or new folder as --out")
    if earlier is None and any(split.kind == LIST for split in plan_splits(config.source)):
        require_contact(config)
    if earlier is not None and identity(earlier.source) != identity(config.source):
        was = ", ".join(earlier.source.paths)
        raise UserError(f"{folder.root}: holds a dataset built from {was}; give another --out or the same --source")


def require_contact(config: BuildConfig) -> None:
    """Refuse to ask the web in nobody's name."""
    if not config.fetch.contact:
        raise UserError("a list of URLs is asked from the web: give --contact with your mail address or web page")


def absolute(path: str) -> str:
    """Write a local path so that it means the same in every process; URLs stay."""
    return path if "://" in path else os.path.abspath(path)


def identity(source: SourceConfig) -> SourceConfig:
    """Tell which sources are meant, whatever order they are given in."""
    return replace(SourceConfig(), paths=tuple(sorted(set(source.paths))), base_url=source.base_url)


def run(
    root: str,
    config: BuildConfig,
    steps: Sequence[Step],
    options: LocalOptions,
    watch: Callable[[Progress], None],
    *,
    ask: bool = True,
) -> Totals:
    """Run stages on the dataset in `root`, on this machine or on the runner that the Beam options name.

    The web is asked only with `ask`, and in the name of `fetch.contact`.
    """
    runner = named_runner(options.beam_args)
    folder = Folder(absolute(root))
    evaluation = config.filters.evaluation
    paths = [*config.source.paths, *evaluation.sets, *files_of(config.scores), *files_of_embedder(evaluation)]
    relative = [path for path in paths if absolute(path) != path.rstrip("/")]
    if runner not in LOCAL_RUNNERS and relative:
        raise UserError(f"{relative[0]}: a path from here means nothing on {runner}; give an absolute path or a URL")
    check_sets(evaluation)
    check_model(evaluation, config.scores)
    check_models(config.scores)
    check_claim(folder, config)
    with sole_writer(folder):
        check_claim(folder, config)  # another run may have come first
        folder.write_text(CONFIG_FILE, tomli_w.dumps(to_tree(config)))
        job = Job(folder, config)
        teller = Teller(folder, watch)
        if runner not in LOCAL_RUNNERS:
            return run_steps(
                job, steps, lambda stage, units, done: on_cluster(stage, job, units, options.beam_args), ask=ask
            )
        with supervise(job, options, teller) as supervisor:
            totals = run_steps(job, steps, supervisor.run, ask=ask)
        teller.finish()
        return totals


class Teller:
    """Passes progress on to the terminal, and once a second to a file for `flamingo status`."""

    def __init__(self, folder: Folder, watch: Callable[[Progress], None]) -> None:
        self.folder = folder
        self.watch = watch
        self.written = 0.0
        self.begun = time.time()
        self.spans: dict[str, tuple[float, float]] = {}

    def __call__(self, progress: Progress) -> None:
        """Tell how far the run is."""
        self.watch(progress)
        now = time.time()
        first, _ = self.spans.get(progress.stage, (max([self.begun, *(end for _, end in self.spans.values())]), now))
        self.spans[progress.stage] = (first, now)
        if now - self.written >= PROGRESS_EVERY_S:
            self.written = now
            state = {"stage": progress.stage, "units_done": progress.units_done, "units": progress.units}
            kept, dropped = progress.kept_and_dropped()
            state |= {"records": progress.records, "kept": kept, "dropped": dropped}
            state |= {"failures": progress.failures, "seconds": now - self.begun}
            self.folder.write_json(PROGRESS_FILE, state)

    def finish(self) -> None:
        """Forget the progress of a run that is over, and note how long its stages took."""
        self.folder.remove(PROGRESS_FILE)
        self.folder.write_json(SECONDS_FILE, {stage: end - begin for stage, (begin, end) in self.spans.items()})


def named_runner(beam_args: Sequence[str]) -> str:
    """Give the runner that the Beam options name, empty for this machine; options that Beam ignores are refused."""
    if not beam_args:
        return ""
    logging.getLogger().setLevel(logging.ERROR)  # Beam warns at import of cloud libraries that are not needed here
    from pipeline.runner import check_beam_args

    return check_beam_args(beam_args)


def on_cluster(stage: Stage, job: Job, units: Sequence[Unit], beam_args: Sequence[str]) -> None:
    """Run a stage on the runner that the Beam options name."""
    from pipeline.runner import run_on_cluster

    run_on_cluster(stage, job, units, beam_args)
