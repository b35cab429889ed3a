"""A complete dataset → what went in, what each rule took, what is in it, and what was not done.

manifests → funnel, `ledger`, `safety`; indexes → sizes, `composition`. As tables, or as one JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.composition import Composition, Frequent, describe
from pipeline.folder import Folder
from pipeline.ledger import Rule, SetCounts, rule_table, rule_tree, rules_of, set_counts
from pipeline.report import (
    KINDS,
    PAPER,
    Totals,
    add_up,
    funnel_table,
    join_funnels,
    json_line,
    percent,
    printable,
    read_manifests,
    say,
    size_table,
)
from pipeline.safety import steps_not_run
from schemas.sample import INTERLEAVED
from schemas.shard import FunnelRow, Manifest


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to say of a dataset."""

    manifests: Mapping[str, Manifest]
    funnel: Sequence[FunnelRow]
    rules: Sequence[Rule]
    totals: Mapping[str, Totals]
    composition: Composition | None
    sets: Sequence[SetCounts]
    not_run: Sequence[str]

    @property
    def manifest(self) -> Manifest:
        """The first of the manifests: they agree on settings and version."""
        return next(iter(self.manifests.values()))


def overview(folder: Folder) -> Overview:
    """Gather what there is to say; a dataset that is none, or not complete, is a `UserError`."""
    manifests = read_manifests(folder)
    funnel = join_funnels(list(manifests.values()))
    config = next(iter(manifests.values())).config
    return Overview(
        manifests,
        funnel,
        list(rules_of(funnel)),
        {kind: add_up(folder, kind) for kind in KINDS if kind in manifests},
        describe(folder) if INTERLEAVED in manifests else None,
        set_counts(funnel, config),
        steps_not_run(config),
    )


def show_overview(folder: Folder, as_json: bool, console: Console) -> None:
    """Print what there is to say of a dataset."""
    found = overview(folder)
    if as_json:
        click.echo(json_line(overview_tree(found)))
        return
    console.print(funnel_table(found.funnel))
    heading(console, "What each rule took, and its share of what came in")
    console.print(rule_table(found.rules))
    heading(console, "What there is, beside the paper's corpora")
    for kind, manifest in found.manifests.items():
        console.print(size_table(kind, manifest, found.totals[kind]))
    if found.composition is not None:
        print_composition(found.composition, found.totals[INTERLEAVED].samples, console)
    if found.sets:
        heading(console, "Pictures of evaluation sets")
        console.print(set_table(found.sets))
    if found.not_run:
        heading(console, "What did not run")
        for line in found.not_run:
            say(console, f"  {line}")


def overview_tree(found: Overview) -> dict[str, Any]:
    """Write what there is to say for programs."""
    return {
        "version": found.manifest.version,
        "schema": found.manifest.schema,
        "funnel": [asdict(row) for row in found.funnel],
        "rules": [rule_tree(rule) for rule in found.rules],
        "sizes": {
            kind: totals._asdict() | {"shards": len(found.manifests[kind].shards), "paper": PAPER[kind][1]}
            for kind, totals in found.totals.items()
        },
        "pages": asdict(found.composition) if found.composition else None,
        "evaluation_sets": [asdict(counts) for counts in found.sets],
        "not_run": list(found.not_run),
    }


def heading(console: Console, text: str) -> None:
    """Print what the next lines are about."""
    console.print(Text(text, "bold"))


def print_composition(found: Composition, pages: int, console: Console) -> None:
    """Print what the pages that are kept say of themselves."""
    heading(console, "What the pages say of themselves")
    for name, frequent in (("language", found.languages), ("licence", found.licences), ("host", found.hosts)):
        console.print(frequent_table(name, frequent, pages))
    for name, (first, last) in (("published", found.published), ("captured", found.captured)):
        if first:
            console.print(f"{name} {first} to {last}", highlight=False)
    console.print()


def frequent_table(name: str, found: Frequent, pages: int) -> Table:
    """Lay out the most frequent names, and how many others there are."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column(name, overflow="fold")
    table.add_column("pages", justify="right", no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True, style="dim")
    for value, count in found.names:
        table.add_row(Text(printable(value)), f"{count:,}", percent(count, pages))
    rest = pages - sum(count for _, count in found.names)
    if rest:
        others = "others" if found.different is None else f"{found.different - len(found.names):,} others"
        table.add_row(Text(others, "dim"), f"{rest:,}", percent(rest, pages))
    return table


def set_table(sets: Sequence[SetCounts]) -> Table:
    """Lay out what was found of each evaluation set."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("evaluation set", overflow="fold")
    for name in ("removed: equal", "removed: near", "near misses, kept"):
        table.add_column(name, justify="right")
    for counts in sets:
        numbers = (counts.equal, counts.near, counts.near_misses)
        table.add_row(Text(printable(counts.set)), *(f"{number:,}" for number in numbers))
    return table
