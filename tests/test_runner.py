"""The stages as Beam transforms: the shuffle of a cluster gives what the key ranges of one machine give."""

import hashlib
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.build import ASSEMBLE, BUILD, EXTRACT, FETCH, BuildConfig, run_steps
from pipeline.demo import site, write_warc
from pipeline.folder import Folder, UserError
from pipeline.kinds import KINDS, VIDEO_KIND
from pipeline.plan import Totals, plan_units
from pipeline.runner import RunUnits, check_beam_args, make_runner, run_in_memory
from pipeline.stage import Job
from schemas.config import from_tree


@pytest.fixture(scope="module", autouse=True)
def small_units():
    """Cut key ranges small, so that every stage has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.plan.ROWS_PER_UNIT", 15)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Give a configuration with several units in every stage."""
    path = str(tmp_path_factory.mktemp("site") / "site.warc.gz")
    write_warc(site(12, 3), path)
    tree = {
        "source": {"paths": [path], "split_bytes": 200_000},
        "shards": {"samples": 4},
        "pairs": {"preset": "ltip"},
        "videos": {"keep": "frames"},
    }
    return from_tree(BuildConfig, tree, "test")


@pytest.fixture(scope="module")
def reference(config, tmp_path_factory):
    """Give the shards of a build in which every unit reads its own key range."""
    job = Job(Folder(str(tmp_path_factory.mktemp("reference"))), config)
    run_steps(job, BUILD, lambda stage, units, done: [run_in_memory(stage, job, unit, ()) for unit in units])
    return digests(job)


def digests(job):
    """Hash the shards of a dataset, of all kinds."""
    found = {}
    for kind in KINDS:
        names = [name for name in job.folder.names(kind.name) if name.endswith(".tar")]
        assert len(names) > (kind is not VIDEO_KIND)
        for name in names:
            with job.folder.open(f"{kind.name}/{name}") as stream:
                found[kind.name, name] = hashlib.sha256(stream.read()).hexdigest()
    return found


def shuffled(job):
    """Give an executor that runs a stage as one pipeline, as on a cluster."""

    def execute(stage, units, done):
        with beam.Pipeline(runner=make_runner()) as pipeline:
            _ = pipeline | stage.name >> RunUnits(stage, job, list(units), shuffle=True)

    return execute


@pytest.fixture(scope="module")
def job(config, tmp_path_factory):
    """Give a dataset that was built by the shuffle."""
    job = Job(Folder(str(tmp_path_factory.mktemp("shuffled"))), config)
    run_steps(job, BUILD, shuffled(job))
    return job


def test_the_shuffle_gives_the_same_shards(job, reference):
    assert digests(job) == reference


FEW = ("locate_videos", "texts", "clip", "video_shard")
"""Stages with so few rows on a small site that they may have a single unit."""


STEPS = [step for step in (EXTRACT[-1], *FETCH, *ASSEMBLE) if step.stage.name not in ("pair_score", "pair_judge")]
"""Those that a dataset without models goes through."""


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.stage.name)
def test_a_second_run_does_only_what_is_missing(job, reference, step):
    directory = f"work/done/{step.stage.name}"
    missing = job.folder.names(directory)[::2]
    assert len(missing) > (step.stage.name not in FEW)
    for name in missing:
        job.folder.remove(f"{directory}/{name}")
    asked = []

    def execute(stage, units, done):
        asked.extend((stage.name, f"{unit.name}.json") for unit in units)
        shuffled(job)(stage, units, done)

    run_steps(job, BUILD, execute)
    assert sorted(asked) == [(step.stage.name, name) for name in missing]
    assert digests(job) == reference


def test_units_have_the_same_names_whatever_order_the_sources_are_given_in(config, tmp_path):
    other = str(tmp_path / "other.warc.gz")
    write_warc(site(2, 4), other)
    path = config.source.paths[0]
    orders = [replace(config, source=replace(config.source, paths=paths)) for paths in [(path, other), (other, path)]]
    first, second = (
        [unit.name for unit in plan_units(EXTRACT[-1], Totals(), Job(Folder(str(tmp_path)), order))] for order in orders
    )
    assert first == second
    assert len(set(first)) == len(first) > 2


def test_the_runner_is_pinned():
    assert type(make_runner()) is FnApiRunner


def test_options_that_beam_would_ignore_are_refused():
    assert check_beam_args(["--runner=apache_beam.runners.DataflowRunner", "--project=p"]) == "DataflowRunner"
    assert check_beam_args(["--direct_runner_bundle_repeat=1"]) == ""
    with pytest.raises(UserError, match=r"--num_worker=3 is none that Beam"):
        check_beam_args(["--runner=DataflowRunner", "--num_worker=3"])
    with pytest.raises(UserError, match=r"Beam options --direct_num_workers=x: .*invalid int value"):
        check_beam_args(["--direct_num_workers=x"])
