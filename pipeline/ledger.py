"""The ledger of rules: the funnels of a dataset → what each rule took, beside what came in, as rows or as a table.

A rule is a reason of a stage and a kind of things. What it took is counted in things (pages, images, paragraphs, ...)
and, where they were known, in the images, words and bytes of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from pipeline.evaluation import IN_EVALUATION_SET, NEAR_EVALUATION_SET, set_name
from pipeline.funnel import NEAR_MISSES
from pipeline.report import counted, human_bytes, percent, printable
from schemas.shard import FunnelRow

SIZES = ("images", "words", "bytes")
EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a rule took of a unit (things of its kind, images, words or bytes), and what of that came in."""

    count: int
    came_in: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a stage, and what it took; `sizes` lacks what was not known, or nothing."""

    stage: str
    kind: str
    reason: str
    things: Taken
    sizes: Mapping[str, Taken]


@dataclass(frozen=True, slots=True)
class SetCounts:
    """Pictures that were left out for an evaluation set, each counted once, and near misses, which were kept."""

    set: str
    equal: int
    near: int
    near_misses: int


def rules_of(funnel: Sequence[FunnelRow]) -> Iterator[Rule]:
    """Yield the rules of a funnel in the order of its stages, within a stage those that took most first."""
    for row in funnel:
        for reason, count in sorted(row.rejected.items(), key=lambda item: (-item[1], item[0])):
            sizes = {
                unit: Taken(row.sizes[unit].get(reason, 0), sum(row.sizes[unit].values()))
                for unit in SIZES
                if reason in row.sizes.get(unit, {})
            }
            yield Rule(row.stage, row.kind, reason, Taken(count, row.seen), sizes)


def rule_tree(rule: Rule) -> dict[str, Any]:
    """Write a rule for programs."""
    tree = {"stage": rule.stage, "kind": rule.kind, "reason": rule.reason, "took": rule.things.count}
    tree |= {"came_in": rule.things.came_in}
    return tree | {unit: asdict(taken) for unit, taken in rule.sizes.items()}


def rule_table(rules: Sequence[Rule]) -> Table:
    """Lay out what each rule took and which share of what came in that is."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("rule", overflow="fold")
    for name in ("took", "%", "words", "%", "bytes", "%"):
        table.add_column(name, justify="right", no_wrap=True, style="dim" if name == "%" else "")
    stage = ""
    for rule in rules:
        what = counted(rule.things.count, rule.kind)
        if "images" in rule.sizes:
            what += f", {counted(rule.sizes['images'].count, 'image')}"
        cells = [what, percent(rule.things.count, rule.things.came_in)]
        cells += size_cells(rule.sizes.get("words"), lambda count: f"{count:,}")
        cells += size_cells(rule.sizes.get("bytes"), human_bytes)
        shown = "" if rule.stage == stage else printable(rule.stage)
        table.add_row(Text(shown), Text(printable(rule.reason), "yellow"), *map(Text, map(printable, cells)))
        stage = rule.stage
    return table


def size_cells(taken: Taken | None, write: Any) -> list[str]:
    """Write a size and its share; nothing where it is not known or nothing."""
    if taken is None or not taken.count:
        return ["", ""]
    return [write(taken.count), percent(taken.count, taken.came_in)]


def set_counts(funnel: Sequence[FunnelRow], config: Mapping[str, Any]) -> list[SetCounts]:
    """Count what was found of each evaluation set of a configuration, also where that is nothing."""
    rows = [row for row in funnel if row.stage == EVALUATION]
    rejected = {reason: count for row in rows for reason, count in row.rejected.items()}
    misses = {name: count for row in rows for name, count in row.sizes.get(NEAR_MISSES, {}).items()}
    paths = config.get("filters", {}).get("evaluation", {}).get("sets", [])
    return [
        SetCounts(
            name,
            rejected.get(f"{IN_EVALUATION_SET}: {name}", 0),
            rejected.get(f"{NEAR_EVALUATION_SET}: {name}", 0),
            misses.get(name, 0),
        )
        for name in map(set_name, paths)
    ]
