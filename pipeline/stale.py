"""What a run before this one left: the markers, parts and shards of units that the plan does not have → nothing.

A unit's name hashes its settings and inputs, so what other units wrote was made under others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.folder import Folder
from pipeline.shard import Kind
from pipeline.stage import Stage, Unit, fingerprint, marker_name
from pipeline.tables import MEDIA, REJECTED
from schemas.shard import index_name, manifest_name


def finished(folder: Folder, stage: Stage) -> set[str]:
    """Name the units of a stage that are done."""
    return {name.removesuffix(".json") for name in folder.names(f"work/done/{stage.name}")}


def remove_stale(folder: Folder, stage: Stage, kind: Kind[Any] | None, units: Sequence[Unit]) -> None:
    """Delete what units outside the plan wrote, under other settings or from other inputs."""
    known = {unit.name for unit in units}
    for name in finished(folder, stage) - known:
        folder.remove(marker_name(stage.name, name))
    directories = {table.directory for table in (*stage.writes, MEDIA, REJECTED)} | {"work/skip"}
    for directory in sorted(directories):
        folder.remove_leftovers(directory)
        for name in folder.names(directory):
            owner, _, rest = name.partition("-")
            if owner == stage.name and rest[: len(fingerprint())] not in known:
                folder.remove(f"{directory}/{name}")
    if kind:
        remove_stale_shards(folder, kind, units)


def remove_stale_shards(folder: Folder, kind: Kind[Any], units: Sequence[Unit]) -> None:
    """Delete shards with numbers that the plan does not have, and what speaks of shards where there are none."""
    if not units:
        folder.remove(manifest_name(kind.name))
        folder.remove(index_name(kind.name))
    for directory in kind.directories:
        folder.remove_leftovers(directory)
        for name in folder.names(directory):
            if name.startswith("shard-") and int(name[6:12]) >= len(units):
                folder.remove(f"{directory}/{name}")
