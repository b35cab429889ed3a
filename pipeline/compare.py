"""`flamingo report DATASET --against OTHER`: two complete datasets → what differs in settings, funnel and samples.

Samples are compared by a merge of the two indexes, which are sorted by key, and of what was rejected here: memory does
not grow with the datasets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import click
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.folder import Folder
from pipeline.funnel import FUNNEL, STAGES
from pipeline.report import (
    KINDS,
    join_funnels,
    json_line,
    printable,
    read_manifests,
    reading,
    reason_lines,
    refused,
    say,
)
from pipeline.tables import REJECTED, KeyRange, stream_range
from schemas.pair import IMAGE_TEXT
from schemas.sample import INTERLEAVED
from schemas.shard import FunnelRow, Manifest, index_name

SHOWN_KEYS = 10
NOT_SEEN = "not_in_the_sources"
THINGS = {INTERLEAVED: ("page",), IMAGE_TEXT: ("image", "image url")}
"""What a sample of a kind is counted as where it is dropped; rejections do not name clips by their keys."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that differs; None where a dataset has none of that name."""

    name: str
    here: Any
    there: Any


@dataclass(frozen=True, slots=True)
class FunnelPair:
    """A row of both funnels; `points` are percentage points by which more is kept here."""

    stage: str
    kind: str
    here: FunnelRow | None
    there: FunnelRow | None

    @property
    def points(self) -> float | None:
        """The difference of the kept shares; None where one of them is of nothing."""
        if not (self.here and self.there and self.here.seen and self.there.seen):
            return None
        return 100 * (self.here.kept / self.here.seen - self.there.kept / self.there.seen)


@dataclass(slots=True)
class Samples:
    """The samples of a kind by where they are: numbers, the first keys, and why what is only there is not here."""

    both: int = 0
    only_here: int = 0
    only_there: int = 0
    keys_here: list[str] = field(default_factory=list)
    keys_there: list[str] = field(default_factory=list)
    dropped_here: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two datasets."""

    settings: Sequence[Setting]
    funnel: Sequence[FunnelPair]
    samples: Mapping[str, Samples]


def compare(here: Folder, there: Folder) -> Comparison:
    """Compare two complete datasets; one that is not is a `UserError`."""
    ours, others = read_manifests(here), read_manifests(there)
    kinds = [kind for kind in KINDS if kind in ours or kind in others]
    return Comparison(
        list(differing(settings_of(ours), settings_of(others))),
        pair_rows(join_funnels(list(ours.values())), join_funnels(list(others.values()))),
        {kind: compare_samples(here, there, kind, kind in ours, kind in others) for kind in kinds},
    )


def settings_of(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Give the settings of a dataset by their dotted names, and its version."""
    manifest = next(iter(manifests.values()))
    return {"version": manifest.version} | dict(flatten(manifest.config))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries by their dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield the settings that are not the same, by name."""
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            yield Setting(name, here.get(name), there.get(name))


def pair_rows(here: Iterable[FunnelRow], there: Iterable[FunnelRow]) -> list[FunnelPair]:
    """Put the rows of two funnels side by side, in the order of the stages."""
    ours, others = ({(row.stage, row.kind): row for row in rows} for rows in (here, there))
    names = sorted({*ours, *others}, key=lambda name: (stage_order(name[0]), name))
    return [FunnelPair(*name, ours.get(name), others.get(name)) for name in names]


def stage_order(stage: str) -> int:
    """Give the place of a stage in the funnel; unknown ones come last."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


# --- samples ---------------------------------------------------------------------------------------------------------


def compare_samples(here: Folder, there: Folder, kind: str, is_here: bool, is_there: bool) -> Samples:
    """Compare the samples of a kind; what is only there is looked up among what was dropped here."""
    found = Samples()
    reasons = dropped_by_key(here, kind)
    head = next(reasons, None)
    for key, in_here, in_there in merge_keys(
        index_keys(here, kind) if is_here else iter(()), index_keys(there, kind) if is_there else iter(())
    ):
        if in_here and in_there:
            found.both += 1
        elif in_here:
            found.only_here += 1
            found.keys_here += [key] if len(found.keys_here) < SHOWN_KEYS else []
        else:
            found.only_there += 1
            found.keys_there += [key] if len(found.keys_there) < SHOWN_KEYS else []
            while head is not None and head[0] < key:
                head = next(reasons, None)
            if kind in THINGS:
                reason = head[1] if head is not None and head[0] == key else NOT_SEEN
                found.dropped_here[reason] = found.dropped_here.get(reason, 0) + 1
    return found


def index_keys(folder: Folder, kind: str) -> Iterator[str]:
    """Yield the keys of an index, which are in order; an index in another order is damaged."""
    name, last = index_name(kind), ""
    with reading(folder, name), folder.open(name) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=["key"], use_threads=False):
            for key in batch.column(0).to_pylist():
                if key <= last:
                    raise refused(f"{folder.path(name)}: damaged: keys out of order at {key}")
                last = key
                yield key


def merge_keys(here: Iterator[str], there: Iterator[str]) -> Iterator[tuple[str, bool, bool]]:
    """Yield each key of two sorted sequences once, with where it is."""
    mine, other = next(here, None), next(there, None)
    while mine is not None or other is not None:
        key = min(one for one in (mine, other) if one is not None)
        yield key, mine == key, other == key
        mine = next(here, None) if mine == key else mine
        other = next(there, None) if other == key else other


def dropped_by_key(folder: Folder, kind: str) -> Iterator[tuple[str, str]]:
    """Yield keys of what was dropped, in order, each with its reason in the last stage that has one."""
    things, stages = THINGS.get(kind, ()), (*FUNNEL[""], *FUNNEL[kind])
    rows = stream_range(folder, REJECTED, KeyRange("", "")) if things else iter(())
    told = (row for row in rows if row["kind"] in things and row["stage"] in stages)
    for key, same in groupby(told, key=lambda row: str(row["key"])):
        last = max(same, key=lambda row: (stages.index(row["stage"]), row["reason"]))
        yield key, last["reason"]


# --- shown -----------------------------------------------------------------------------------------------------------


def show_comparison(here: Folder, there: Folder, as_json: bool, console: Console) -> None:
    """Print what differs between two datasets."""
    found = compare(here, there)
    if as_json:
        click.echo(json_line(comparison_tree(found)))
        return
    console.print(setting_table(found.settings) if found.settings else "the settings are the same", highlight=False)
    console.print(pair_table(found.funnel))
    for kind, samples in found.samples.items():
        console.print(
            f"{kind}: {samples.both:,} samples in both, {samples.only_here:,} only here, "
            f"{samples.only_there:,} only there",
            highlight=False,
        )
        for where, keys in (("here", samples.keys_here), ("there", samples.keys_there)):
            if keys:
                say(console, f"  only {where}, the first: {' '.join(keys)}")
        if samples.dropped_here:
            console.print("  why what is only there is not here:")
            console.print(reason_lines(FunnelRow("", "", 0, 0, samples.dropped_here)))


def comparison_tree(found: Comparison) -> dict[str, Any]:
    """Write what differs for programs."""
    return {
        "settings": [asdict(setting) for setting in found.settings],
        "funnel": [asdict(pair) | {"points": pair.points} for pair in found.funnel],
        "samples": {kind: asdict(samples) for kind, samples in found.samples.items()},
    }


def new_table() -> Table:
    """Begin a table in the style of the funnel."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")


def setting_table(settings: Sequence[Setting]) -> Table:
    """Lay out the settings that differ."""
    table = new_table()
    for name in ("setting", "here", "there"):
        table.add_column(name, overflow="fold")
    for setting in settings:
        table.add_row(setting.name, *(Text(written(value)) for value in (setting.here, setting.there)))
    return table


def written(value: Any) -> str:
    """Write a setting's value."""
    return "-" if value is None else json_line(value)


def pair_table(pairs: Sequence[FunnelPair]) -> Table:
    """Lay out two funnels side by side."""
    table = new_table()
    table.add_column("stage", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in ("here: kept", "of", "there: kept", "of", "points"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in pairs:
        sides = [cell for row in (pair.here, pair.there) for cell in kept_of(row)]
        points = "-" if pair.points is None else f"{pair.points:+.1f}" if abs(pair.points) >= 0.05 else "0"
        table.add_row(Text(printable(pair.stage)), Text(printable(pair.kind)), *sides, points)
    return table


def kept_of(row: FunnelRow | None) -> tuple[str, str]:
    """Write what a row kept and of how much."""
    return ("-", "-") if row is None else (f"{row.kept:,}", f"{row.seen:,}")
