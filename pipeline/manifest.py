"""The manifest of a kind of shards: what the units said → index.parquet and, last of all, manifest.json."""

from __future__ import annotations

from typing import Any

from pipeline import __version__
from pipeline.folder import Folder
from pipeline.funnel import funnel
from pipeline.kinds import KINDS
from pipeline.plan import Totals
from pipeline.shard import Kind, merge_index
from pipeline.stage import Job
from schemas.config import to_tree
from schemas.shard import Manifest, Shard, manifest_name, manifest_to_json


def write_manifest(job: Job, totals: Totals, stage: str, kind: Kind[Any]) -> None:
    """Write the index and, last of all, the manifest: a folder of shards with a manifest is complete."""
    facts = sorted(totals.facts.get(stage, []), key=lambda fact: str(fact["name"]))
    shards = [Shard(**fact) for fact in facts]
    merge_index(job.folder, [shard.name for shard in shards], kind)
    manifest = Manifest(kind.name, tuple(shards), funnel(totals, [kind.name]), to_tree(job.config), __version__)
    job.folder.write_text(manifest_name(kind.name), manifest_to_json(manifest))


def remove_manifests(folder: Folder) -> None:
    """Take the manifests of all kinds away: the dataset is no longer complete."""
    for kind in KINDS:
        folder.remove(manifest_name(kind.name))
