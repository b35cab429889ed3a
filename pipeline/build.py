"""The jobs, one stage a line: this is the table of contents of `pipeline`.

    flamingo extract    lists of URLs → the web → archives; sources → documents, captures, references
    flamingo fetch      references × captures → the web → ledger; references × captures × ledger → wanted → media
    flamingo assemble   references × media → placements × documents → samples → shards
    flamingo build      all three

Each stage is planned from what the stage before it wrote, cut into units, and run by the supervisor of `local` or
by the runner that the Beam options name. A unit's name hashes the settings, the inputs and the version that decide
its output: what is done stays done, and after a change of settings only what they touch is done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline import __version__
from pipeline.ask import ask_web
from pipeline.assemble import place_images, select_documents
from pipeline.documents import extract_pages
from pipeline.extract import ExtractConfig
from pipeline.fetch import locate_media, normalise_media
from pipeline.filters import FiltersConfig
from pipeline.folder import Folder
from pipeline.lists import list_pages, settle_pages
from pipeline.media import MediaConfig
from pipeline.optout import stamped
from pipeline.politeness import FetchConfig
from pipeline.rights import RightsConfig
from pipeline.shard import OBELICS_VIEW, ShardConfig, merge_index, write_shard
from pipeline.sources import LIST, SourceConfig, plan_splits, web_splits
from pipeline.stage import Execute, Job, Stage, Unit, fingerprint, marker_name
from pipeline.tables import (
    ASKED,
    CAPTURES,
    DOCUMENTS,
    MEDIA,
    PLACEMENTS,
    REFERENCES,
    REJECTED,
    SAMPLES,
    VIDEO_REFERENCES,
    WANTED,
    key_ranges,
)
from pipeline.web import LISTED, ORIGINAL, ledger_stamp
from schemas import SCHEMA_VERSION
from schemas.asked import IMAGE, PAGE
from schemas.config import to_tree
from schemas.sample import INTERLEAVED
from schemas.shard import FunnelRow, Manifest, Shard, manifest_to_json

ROWS_PER_UNIT = 200_000
BYTES_PER_UNIT = 24 << 20
MANIFEST = f"{INTERLEAVED}/manifest.json"


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """The settings of a dataset; each table is documented beside the code that it steers."""

    schema: int = SCHEMA_VERSION
    """Version of the dataset's tables and shards."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """What is read."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """How pages become documents."""
    rights: RightsConfig = field(default_factory=RightsConfig)
    """What sites and people do not allow."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How the web is asked for what the sources do not hold."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How images are checked and stored."""
    filters: FiltersConfig = field(default_factory=FiltersConfig)
    """Which images and pages are kept."""
    shards: ShardConfig = field(default_factory=ShardConfig)
    """How large shards are."""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ValueError(f"schema {self.schema}; this version of flamingo reads and writes schema {SCHEMA_VERSION}")


@dataclass(slots=True)
class Totals:
    """What the stages so far wrote: rows and bytes by table, counts by (stage, kind, reason).

    `made` names by a hash all that a table was made of: the units of the stages that wrote it, and of those before.
    """

    rows: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    made: dict[str, str] = field(default_factory=dict)
    facts: list[dict[str, Any]] = field(default_factory=list)


Plan = Callable[[Totals, Job], Sequence[Any]]


def by_split(web: str) -> Plan:
    """Plan a unit for each stretch of the sources, and for each log of a kind that was got from the web."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        splits = [split for split in plan_splits(job.config.source) if split.kind != LIST]
        return [*splits, *web_splits(job.folder, web)]

    return plan


def by_list(totals: Totals, job: Job) -> Sequence[Any]:
    """Plan a unit for each stretch of the lists of URLs."""
    return [split for split in plan_splits(job.config.source) if split.kind == LIST]


def by_rows(*tables: str) -> Plan:
    """Plan key ranges with a bounded number of rows and bytes of these tables."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        rows = sum(totals.rows[table] for table in tables)
        size = sum(totals.bytes[table] for table in tables)
        return key_ranges(max(1, -(-rows // ROWS_PER_UNIT), -(-size // BYTES_PER_UNIT)))

    return plan


def by_listed(totals: Totals, job: Job) -> Sequence[Any]:
    """Plan key ranges of the listed pages, none where no list was given."""
    return by_rows(LISTED.directory)(totals, job) if totals.rows[LISTED.directory] else []


def by_shard(totals: Totals, job: Job) -> Sequence[Any]:
    """Plan the shards: as many as the samples and their bytes ask for."""
    samples = totals.counts["select", "page", ""]
    size = totals.bytes[SAMPLES.directory] + totals.counts["select", "image bytes", ""]
    wanted = max(1, -(-samples // job.config.shards.samples), -(-size // job.config.shards.max_bytes))
    return key_ranges(wanted) if samples else []


@dataclass(frozen=True, slots=True)
class Step:
    """A stage of a job, what of the configuration decides its output, and how it is cut into units.

    `ask` names what the web is asked for before the stage is planned: pages or images. The paths of the sources are
    no setting: each unit names its own file, whatever order they were given in.
    """

    stage: Stage
    settings: Callable[[BuildConfig], Any]
    plan: Plan
    ask: str = ""


EXTRACT = (
    Step(
        Stage("list", (), (LISTED,), list_pages),
        lambda config: [],
        by_list,
    ),
    Step(
        Stage("settle", (LISTED, ASKED), (), settle_pages),
        lambda config: [stamped(config.rights)],
        by_listed,
        ask=PAGE,
    ),
    Step(
        Stage("extract", (), (DOCUMENTS, REFERENCES, VIDEO_REFERENCES, CAPTURES), extract_pages),
        lambda config: [replace(config.source, paths=()), config.extract, stamped(config.rights)],
        by_split(PAGE),
    ),
)
FETCH = (
    Step(
        Stage("locate", (REFERENCES, CAPTURES, ASKED), (WANTED, MEDIA), locate_media),
        lambda config: [stamped(config.rights)],
        by_rows(REFERENCES.directory, CAPTURES.directory),
        ask=IMAGE,
    ),
    Step(
        Stage("normalise", (WANTED,), (MEDIA,), normalise_media),
        lambda config: [replace(config.source, paths=()), config.media],
        by_split(ORIGINAL),
    ),
)
ASSEMBLE = (
    Step(
        Stage("place", (REFERENCES, MEDIA), (PLACEMENTS,), place_images),
        lambda config: [config.filters.images],
        by_rows(REFERENCES.directory, MEDIA.directory),
    ),
    Step(
        Stage("select", (DOCUMENTS, PLACEMENTS), (SAMPLES,), select_documents),
        lambda config: [config.filters.pages],
        by_rows(DOCUMENTS.directory, PLACEMENTS.directory),
    ),
    Step(
        Stage("shard", (SAMPLES,), (), write_shard),
        lambda config: [config.shards],
        by_shard,
    ),
)
BUILD = EXTRACT + FETCH + ASSEMBLE


def run_steps(job: Job, steps: Sequence[Step], execute: Execute, *, ask: bool = True) -> Totals:
    """Run the steps that are asked for; the steps before them must be done. Without `ask` the web is left alone."""
    totals = Totals()
    for step in BUILD[: BUILD.index(steps[-1]) + 1]:
        if step.ask and ask and job.config.fetch.contact:
            ask_web(job, step.ask, sum(totals.rows[table.directory] for table in step.stage.reads), execute)
        if step.ask:
            totals.made[ASKED.directory] = fingerprint(ledger_stamp(job.folder, step.ask))
        units = plan_units(step, totals, job)
        remove_stale(job.folder, step.stage, units)
        done = finished(job.folder, step.stage)
        todo = [unit for unit in units if unit.name not in done]
        if todo:
            job.folder.remove(MANIFEST)
            execute(step.stage, todo, len(units) - len(todo))
        add_totals(job.folder, step.stage, units, totals)
    if steps[-1] is BUILD[-1]:
        write_manifest(job, totals)
    return totals


def plan_units(step: Step, totals: Totals, job: Job) -> list[Unit]:
    """Cut a stage into units, each named by all that decides its output."""
    settings = [to_tree(setting) for setting in step.settings(job.config)]
    made_of = [totals.made.get(table.directory, "") for table in step.stage.reads]
    base = fingerprint(__version__, SCHEMA_VERSION, step.stage.name, settings, made_of)
    return [Unit(step.stage.name, fingerprint(base, asdict(work)), work) for work in step.plan(totals, job)]


def finished(folder: Folder, stage: Stage) -> set[str]:
    """Name the units of a stage that are done."""
    return {name.removesuffix(".json") for name in folder.names(f"work/done/{stage.name}")}


def remove_stale(folder: Folder, stage: Stage, units: Sequence[Unit]) -> None:
    """Delete what units outside the plan wrote, under other settings or from other inputs."""
    known = {unit.name for unit in units}
    for name in finished(folder, stage) - known:
        folder.remove(marker_name(stage.name, name))
    directories = {table.directory for table in (*stage.writes, REJECTED)} | {"work/skip"}
    for directory in sorted(directories):
        folder.remove_leftovers(directory)
        for name in folder.names(directory):
            owner, _, rest = name.partition("-")
            if owner == stage.name and rest[: len(fingerprint())] not in known:
                folder.remove(f"{directory}/{name}")
    if stage.name == BUILD[-1].stage.name:
        remove_stale_shards(folder, units)


def remove_stale_shards(folder: Folder, units: Sequence[Unit]) -> None:
    """Delete shards with numbers that the plan does not have."""
    for directory in (INTERLEAVED, OBELICS_VIEW, "work/index"):
        folder.remove_leftovers(directory)
        for name in folder.names(directory):
            if name.startswith("shard-") and int(name[6:12]) >= len(units):
                folder.remove(f"{directory}/{name}")


def add_totals(folder: Folder, stage: Stage, units: Sequence[Unit], totals: Totals) -> None:
    """Add up what the units of a stage said in their done markers."""
    for unit in units:
        marker = folder.read_json(marker_name(stage.name, unit.name))
        assert marker is not None, f"{stage.name} unit {unit.name} has no done marker"
        for name, kind, reason, count in marker["counts"]:
            totals.counts[name, kind, reason] += count
        for directory, written in marker["tables"].items():
            totals.rows[directory] += written["rows"]
            totals.bytes[directory] += written["bytes"]
        if marker["facts"]:
            totals.facts.append(marker["facts"])
    names = sorted(unit.name for unit in units)
    for table in stage.writes:
        totals.made[table.directory] = fingerprint(totals.made.get(table.directory, ""), names)


def funnel(totals: Totals) -> tuple[FunnelRow, ...]:
    """Tell what went into every stage and what came out, in the order of the data."""
    order = ["list", "settle", "read", "extract", "locate", "normalise", "filter_images", "select", "shard"]
    kinds = ["record", "page", "image url", "image", "video"]
    rows = []
    for stage, kind in sorted({key[:2] for key in totals.counts}, key=lambda k: (order.index(k[0]), k[1])):
        if kind in kinds:
            reasons = {reason: n for (s, k, reason), n in sorted(totals.counts.items()) if (s, k) == (stage, kind)}
            kept = reasons.pop("", 0)
            rows.append(FunnelRow(stage, kind, kept + sum(reasons.values()), kept, reasons))
    return tuple(rows)


def write_manifest(job: Job, totals: Totals) -> None:
    """Write the index and, last of all, the manifest: a folder of shards with a manifest is complete."""
    shards = [Shard(**facts) for facts in sorted(totals.facts, key=lambda facts: str(facts["name"]))]
    merge_index(job.folder, [shard.name for shard in shards])
    manifest = Manifest(INTERLEAVED, tuple(shards), funnel(totals), to_tree(job.config), __version__)
    job.folder.write_text(MANIFEST, manifest_to_json(manifest))
