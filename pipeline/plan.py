"""The steps of a job and how the work of each is cut: what came before → splits, key ranges or shards, a unit each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline import __version__
from pipeline.folder import Folder
from pipeline.shard import Kind
from pipeline.sources import LIST, plan_splits, web_splits
from pipeline.stage import Job, Stage, Unit, fingerprint, marker_name
from pipeline.tables import Table, key_ranges
from schemas import SCHEMA_VERSION
from schemas.config import to_tree

ROWS_PER_UNIT = 200_000
BYTES_PER_UNIT = 24 << 20


@dataclass(slots=True)
class Totals:
    """What the stages so far wrote: rows and bytes by table, counts by (stage, kind, reason).

    `made` names by a hash all that a table was made of: the units of the stages that wrote it, and of those before.
    """

    rows: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    made: dict[str, str] = field(default_factory=dict)
    facts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


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
            totals.facts.setdefault(stage.name, []).append(marker["facts"])
    names = sorted(unit.name for unit in units)
    for table in stage.writes:
        totals.made[table.directory] = fingerprint(totals.made.get(table.directory, ""), names)


Plan = Callable[[Totals, Job], Sequence[Any]]


def always(config: Any) -> bool:
    """Every dataset has this."""
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """A stage of a job, what of the configuration decides its output, and how it is cut into units.

    `ask` names what the web is asked for before the stage is planned, `shards` the kind of shards that it writes, and
    `wanted` tells whether a dataset has the stage at all. The paths of the sources are no setting: each unit names its
    own file, whatever order they were given in.
    """

    stage: Stage
    settings: Callable[[Any], Any]
    plan: Plan
    ask: str = ""
    shards: Kind[Any] | None = None
    wanted: Callable[[Any], bool] = always


def plan_units(step: Step, totals: Totals, job: Job) -> list[Unit]:
    """Cut a stage into units, each named by all that decides its output; a stage that is not wanted has none."""
    if not step.wanted(job.config):
        return []
    settings = [to_tree(setting) for setting in step.settings(job.config)]
    made_of = [totals.made.get(table.directory, "") for table in step.stage.reads]
    base = fingerprint(__version__, SCHEMA_VERSION, step.stage.name, settings, made_of)
    return [Unit(step.stage.name, fingerprint(base, asdict(work)), work) for work in step.plan(totals, job)]


def by_split(web: str) -> Plan:
    """Plan a unit for each stretch of the sources, and for each log of a kind that was got from the web."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        splits = [split for split in plan_splits(job.config.source) if split.kind != LIST]
        return [*splits, *web_splits(job.folder, web)]

    return plan


def by_list(totals: Totals, job: Job) -> Sequence[Any]:
    """Plan a unit for each stretch of the lists of URLs."""
    return [split for split in plan_splits(job.config.source) if split.kind == LIST]


def by_rows(*tables: str, rows_per_unit: int = 0) -> Plan:
    """Plan key ranges with a bounded number of rows and bytes of these tables; 0 rows are `ROWS_PER_UNIT`."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        rows = sum(totals.rows[table] for table in tables)
        size = sum(totals.bytes[table] for table in tables)
        return key_ranges(max(1, -(-rows // (rows_per_unit or ROWS_PER_UNIT)), -(-size // BYTES_PER_UNIT)))

    return plan


def by_any_rows(*tables: str) -> Plan:
    """Plan key ranges as `by_rows` does, but none where these tables are empty."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        return by_rows(*tables)(totals, job) if any(totals.rows[table] for table in tables) else []

    return plan


def by_shard(table: Table, stage: str, sample: str, size: str) -> Plan:
    """Plan shards: as many as the samples and bytes ask for that a stage kept, by what it counts them as."""

    def plan(totals: Totals, job: Job) -> Sequence[Any]:
        samples = totals.counts[stage, sample, ""]
        total_bytes = totals.bytes[table.directory] + totals.counts[stage, size, ""]
        wanted = max(1, -(-samples // job.config.shards.samples), -(-total_bytes // job.config.shards.max_bytes))
        return key_ranges(wanted) if samples else []

    return plan
