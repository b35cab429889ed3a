"""A stage is a function over units of work, each of which can be run again at any time for the same result.

    run_unit: skip what is done → stage.run(unit, inputs, output) → parts under their names → a done marker

A unit names all that decides its output, so its marker is proof. Map stages read their input themselves; keyed
stages are given the rows of their key range. Beam runs units on one machine or many: see `runner`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.folder import Folder
from pipeline.tables import REJECTED, PartWriter, Table, parts_of, stream_range
from schemas.page import Rejected, rejected_to_row

SET_ASIDE = "set_aside"
"""Reason of a record that killed, stopped or overgrew its worker twice; the detail says how."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a stage's work; `name` is a hash of everything that decides its output.

    `work` is a `Split` of the sources or a `KeyRange`; both tell which `keys` of the stage's tables belong to it.
    """

    stage: str
    name: str
    work: Any


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: which tables it is given by key range, and the function that does a unit of it."""

    name: str
    reads: tuple[Table, ...]
    writes: tuple[Table, ...]
    run: Callable[[Unit, Inputs, Output], None]


Execute = Callable[[Stage, Sequence[Unit], int], None]
"""Runs the units of a stage that are still to do; the number says how many others are done."""

Inputs = Mapping[str, Iterator[dict[str, Any]]]
"""The rows of a unit's key range in order of their keys, by the directory of their table."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every unit of a run shares: the dataset's folder and its configuration."""

    folder: Folder
    config: Any


class Pulse:
    """Tells whoever watches this process which record it is at; the default tells nobody."""

    def beat(self, position: int) -> None:
        """Say that the record at `position` is begun."""


PULSE = Pulse()


@dataclass(slots=True)
class Output:
    """What a unit has to say: rows, rejections and counts. Nothing of it counts until `commit`."""

    job: Job
    unit: Unit
    skip: Mapping[str, str]
    writers: dict[str, PartWriter] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Folder:
        """The dataset's folder."""
        return self.job.folder

    def begin(self, position: int) -> str | None:
        """Mark the record that is worked on; returns why it was set aside, if it was."""
        PULSE.beat(position)
        return self.skip.get(str(position))

    def write(self, table: Table, row: Mapping[str, Any], size: int = 256) -> None:
        """Add a row of about `size` bytes to a table."""
        writer = self.writers.get(table.directory)
        if writer is None:
            prefix = f"{self.unit.stage}-{self.unit.name}"
            writer = self.writers[table.directory] = PartWriter(self.folder, table, prefix)
        writer.add(row, size)

    def keep(self, stage: str, kind: str, count: int = 1, **sizes: int) -> None:
        """Count something that a rule or stage let through, and how large it is: `words`, `bytes`, `images`."""
        self.count(stage, kind, "", count, sizes)

    def reject(self, rejected: Rejected, group: str = "", **sizes: int) -> None:
        """Write down something that was dropped, and count it under its reason, or under `REASON: GROUP`."""
        reason = f"{rejected.reason}: {group}" if group else rejected.reason
        self.count(rejected.stage, rejected.kind, reason, 1, sizes)
        self.write(REJECTED, rejected_to_row(rejected), 256 + len(rejected.detail))

    def count(self, stage: str, kind: str, reason: str, count: int, sizes: Mapping[str, int]) -> None:
        """Count under a reason, and each size under the kind `KIND UNIT`."""
        self.counts[stage, kind, reason] += count
        for unit, size in sizes.items():
            if size:
                self.counts[stage, f"{kind} {unit}", reason] += size

    def commit(self) -> None:
        """Write what is left and the marker that says so."""
        for writer in self.writers.values():
            writer.flush()
        marker = {
            "counts": [[*names, count] for names, count in sorted(self.counts.items())],
            "tables": {
                directory: {"parts": writer.parts, "rows": writer.total_rows, "bytes": writer.total_bytes}
                for directory, writer in sorted(self.writers.items())
            },
            "facts": self.facts,
        }
        self.folder.write_json(marker_name(self.unit.stage, self.unit.name), marker)


def marker_name(stage: str, unit: str) -> str:
    """Name the file that says that a unit is done."""
    return f"work/done/{stage}/{unit}.json"


def skip_name(stage: str, unit: str) -> str:
    """Name the file that lists the records of a unit that are set aside."""
    return f"work/skip/{stage}-{unit}.json"


def fingerprint(*parts: object) -> str:
    """Hash anything JSON can hold into a short name."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def run_unit(stage: Stage, job: Job, unit: Unit, inputs: Inputs) -> dict[tuple[str, str, str], int]:
    """Do one unit of a stage, unless it is done; returns what it counted."""
    if job.folder.read_json(marker_name(stage.name, unit.name)) is not None:
        return {}
    skip = job.folder.read_json(skip_name(stage.name, unit.name)) or {}
    if skip:
        remove_parts(job.folder, stage, unit)
    output = Output(job, unit, skip)
    stage.run(unit, inputs, output)
    output.commit()
    return output.counts


def remove_parts(folder: Folder, stage: Stage, unit: Unit) -> None:
    """Delete what an earlier try of a unit left, in case the next one writes fewer parts."""
    for table in (*stage.writes, REJECTED):
        for part in parts_of(folder, table):
            if part.startswith(f"{stage.name}-{unit.name}-"):
                folder.remove(f"{table.directory}/{part}")


def gather(stage: Stage, folder: Folder, unit: Unit) -> Inputs:
    """Read the rows of a unit's key range from the parts of earlier stages."""
    return {table.directory: stream_range(folder, table, unit.work.keys) for table in stage.reads}
