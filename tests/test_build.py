"""The whole build: the same bytes whatever happens, and an account of everything that went in."""

import gc
import hashlib
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import webdataset
from click.testing import CliRunner
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline import progress
from pipeline.build import BUILD, BuildConfig
from pipeline.cli import main
from pipeline.clusters import CLUSTER_STAGES
from pipeline.demo import site, write_warc
from pipeline.urls import join_url
from schemas.page import key_of
from schemas.sample import from_members
from schemas.shard import manifest_from_json

BOOKS = Path(__file__).parents[2] / "shared" / "corpus" / "books.warc.gz"
SPLITS = ("--set", "source.split_bytes=500000")
EVERY_PLACE = ("--set", "filters.pages.same_image_bits=-1")
"""Books show some pictures again; here each place of a picture counts."""
STAGES = [
    step.stage.name
    for step in BUILD
    if step.wanted(BuildConfig()) and step.stage not in CLUSTER_STAGES and step.stage.name not in ("list", "settle")
]
"""The stages that a small archive goes through."""
SHORT = ("address", "same_address", "link", "repeat", "same_repeat", "refer", "locate_videos", "place", "template")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Give archives to build from: two demo sites, and the books where they are."""
    folder = tmp_path_factory.mktemp("sources")
    paths = [str(folder / "a.warc.gz"), str(folder / "b.warc.gz")]
    write_warc(site(36, 1), paths[0])
    write_warc(site(8, 2), paths[1])
    return [*paths, str(BOOKS)] if BOOKS.exists() else paths


def build(sources, out, *arguments, environment=None):
    """Run the command in a process of its own, as a person does."""
    command = [sys.executable, "-m", "pipeline.cli", "build", "--out", str(out), *EVERY_PLACE]
    for source in sources:
        command += ["--source", source]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    """Wait for a build and insist that it went well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


def digests(out):
    """Hash everything a reader of the dataset sees."""
    files = sorted(Path(out, "interleaved").rglob("*"))
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file() and file.name != "manifest.json"
    }


def manifest(out):
    """Read a dataset's manifest."""
    return manifest_from_json(Path(out, "interleaved/manifest.json").read_text())


def rows_of(out, table):
    """Read all rows of a table."""
    return [row for part in Path(out, table).glob("*.parquet") for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def reference(sources, tmp_path_factory):
    """Give a build that nobody disturbed."""
    out = tmp_path_factory.mktemp("reference") / "dataset"
    finish(build(sources, out, *SPLITS, "--workers", "2"))
    return out


def test_shards_are_what_the_manifest_says(reference):
    for shard in manifest(reference).shards:
        data = Path(reference, "interleaved", shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


def test_nothing_vanishes_between_the_stages(reference):
    rows = {(row.stage, row.kind): row for row in manifest(reference).funnel}
    for row in rows.values():
        assert row.seen == row.kept + sum(row.rejected.values())
    assert rows["extract", "page"].kept == rows["refer", "page"].seen
    assert rows["refer", "page"].kept == rows["select", "page"].seen
    assert rows["refer", "image"].kept == rows["filter_images", "image"].seen
    assert rows["select", "page"].kept == rows["shard", "page"].kept
    assert rows["locate", "image url"].kept == rows["normalise", "image url"].seen
    assert rows["filter_images", "image"].kept == rows["select", "image"].seen
    assert rows["select", "image"].kept == rows["shard", "image"].kept
    assert rows["shard", "page"].rejected == {}


def test_every_rejection_is_a_row(reference):
    counted = sum(sum(row.rejected.values()) for row in manifest(reference).funnel)
    assert len(rows_of(reference, "rejected")) == counted > 0


def test_every_image_url_has_one_row_in_the_media_index(reference):
    media = [row["url"] for row in rows_of(reference, "media")]
    documents = rows_of(reference, "documents")
    asked = {item["url"] for row in documents for item in row["items"] if item["kind"] == "image"}
    assert sorted(media) == sorted(asked)


def test_the_obelics_view_holds_the_same_documents(reference):
    rows = rows_of(reference, "interleaved/obelics")
    assert len(rows) == sum(shard.samples for shard in manifest(reference).shards)
    for row in rows:
        url = json.loads(row["general_metadata"])["url"]
        sample = read_sample(reference, key_of(url))
        assert row["texts"] == [item if isinstance(item, str) else None for item in sample.items]
        assert row["images"] == [sample.images[item].url if isinstance(item, int) else None for item in sample.items]
        described = [known and known["src"] for known in json.loads(row["metadata"])]
        assert described == row["images"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore:Exception ignored in")
def test_shards_open_as_the_readme_says(reference):
    path = str(Path(reference, "interleaved", manifest(reference).shards[0].name))
    for sample in webdataset.WebDataset(path, shardshuffle=False).decode("rgb8"):
        part = sample["json"]["parts"][0]
        assert sample[part["name"]].shape == (part["height_px"], part["width_px"], 3)
    gc.collect()  # webdataset leaves its file open, and Python says so when it finds it


@pytest.mark.skipif(not BOOKS.exists(), reason="the corpus of real pages is not here")
def test_each_of_the_791_pictures_of_the_books_is_in_its_place_or_rejected(reference):
    with BOOKS.open("rb") as stream:
        pages = {
            record.headers["WARC-Target-URI"]: record.reader.read()
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response)
            if record.http_content_type == "text/html"
        }
    rejected = {(row["page_url"], row["url"]) for row in rows_of(reference, "rejected") if row["kind"] == "image"}
    asked, placed, repeated = set(), 0, 0
    for url, html in pages.items():
        shown = [join_url(url, source.decode()) for source in re.findall(rb"""<img[^>]+src\s*=\s*["']([^"']+)""", html)]
        sample = read_sample(reference, key_of(url))
        kept = [image for image in shown if (url, image) not in rejected]
        if (odd := join_url(url, "images/fig223.png")) in kept:  # its caption stands below that of figure 224
            kept[kept.index(odd) : kept.index(odd) + 2] = [join_url(url, "images/fig224.png"), odd]
        assert kept == [sample.images[item].url for item in sample.items if isinstance(item, int)]
        asked |= {(url, image) for image in shown}
        placed += len(kept)
        repeated += len(kept) - len(set(kept))
    assert (len(pages), len(asked), placed - repeated) == (4, 791, 489)


def read_sample(out, key):
    """Read a sample through the index, by its byte offset."""
    index = pq.read_table(Path(out, "interleaved/index.parquet")).to_pylist()
    (row,) = [row for row in index if row["key"] == key]
    with Path(out, "interleaved", row["shard"]).open("rb") as stream:
        stream.seek(row["offset"])
        data = stream.read(row["length"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(member.name.partition(".")[2], tar.extractfile(member).read()) for member in tar]
    return from_members(members)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--workers", "1"], id="one worker, other splits"),
        pytest.param([*SPLITS, "--workers", "3"], id="three workers"),
        pytest.param(["--workers", "2", "--", "--direct_runner_bundle_repeat=1"], id="every bundle repeated"),
    ],
)
def test_same_bytes_whatever_runs_it(sources, reference, tmp_path, arguments):
    finish(build(sources[::-1], tmp_path / "dataset", *arguments))
    assert digests(tmp_path / "dataset") == digests(reference)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in SHORT])
def test_same_bytes_after_kill_9_of_the_whole_build_in_a_stage(sources, reference, tmp_path, stage):
    out = tmp_path / "dataset"
    process = build(sources, out, *SPLITS, "--workers", "2")
    wait_for_stage(process, out, stage)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(alive(pid) for pid in workers), "the workers outlive their supervisor")
    assert not (out / "interleaved/manifest.json").exists()
    finish(build(sources, out, *SPLITS, "--workers", "2"))
    assert digests(out) == digests(reference)
    assert not list(out.rglob("*.tmp"))


def exhaust_memory(pid):
    """Give a process no more memory than it has."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("this system cannot limit another process")
    size = psutil.Process(pid).memory_info().vms
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


HARM = {
    "SIGKILL": lambda pid: os.kill(pid, signal.SIGKILL),
    "SIGSTOP": lambda pid: os.kill(pid, signal.SIGSTOP),
    "memory": exhaust_memory,
}


@pytest.mark.parametrize("harm", HARM)
def test_same_bytes_after_harm_to_one_worker(sources, reference, tmp_path, harm):
    out = tmp_path / "dataset"
    process = build(sources, out, *SPLITS, "--workers", "2", "--stall", "5")
    wait_for_stage(process, out, "normalise")
    HARM[harm](children(process.pid)[0])
    finish(process)
    assert digests(out) == digests(reference)


def test_a_change_of_rules_redoes_only_what_it_touches(sources, reference, tmp_path):
    out = tmp_path / "dataset"
    finish(build(sources, out, *SPLITS))
    media = {file: file.stat().st_mtime_ns for file in (out / "media").iterdir()}
    assert media
    assert assemble(out, "filters.images.min_side_px=320").exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in (out / "media").iterdir()} == media
    assert manifest(out).config["filters"]["images"]["min_side_px"] == 320
    assert digests(out) != digests(reference)
    assert assemble(out, "filters.images.min_side_px=64").exit_code == 0
    assert digests(out) == digests(reference)


def assemble(out, setting):
    """Assemble again under another rule."""
    return CliRunner().invoke(main, ["assemble", "--out", str(out), "--set", setting])


def wait_for_stage(process, out, stage):
    """Wait until a stage has begun: one of its units is done, or the stage before it is."""
    before = STAGES[: STAGES.index(stage)]
    done = out / "work/done"

    def begun():
        assert process.poll() is None, process.stderr.read()
        own = done / stage
        return own.exists() or bool(before and stage_complete(done / before[-1]))

    wait_until(begun, f"{stage} never began")


def stage_complete(folder):
    """Tell whether a stage of few units has left its markers."""
    return folder.exists() and folder.name in ("locate", "place", "select") and bool(list(folder.iterdir()))


def wait_until(condition, complaint):
    """Wait for something that must happen soon."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.005)


def children(pid):
    """List the worker processes of a build: they are forked by the server that it starts."""
    return [child.pid for server in psutil.Process(pid).children() for child in server.children()]


def alive(pid):
    """Tell whether a process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_status_knows_every_stage():
    assert [step.stage.name for step in BUILD] == list(progress.STAGES)


def test_status_from_a_second_terminal(reference):
    result = CliRunner().invoke(main, ["status", str(reference), "--json"])
    state = json.loads(result.output)
    assert state["complete"]
    assert all(state["units_done"][stage] > 0 for stage in STAGES)
