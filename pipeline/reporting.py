"""`flamingo report`: what is asked of it → an overview, a comparison, or a page of what a rule dropped."""

from __future__ import annotations

from rich.console import Console

from pipeline.command import write_pieces
from pipeline.compare import show_comparison
from pipeline.dropped import sample_dropped
from pipeline.folder import Folder, UserError
from pipeline.gallery import page
from pipeline.overview import show_overview

SHOWN = 200
"""Things of a page of what a rule dropped."""


def run_report(
    dataset: str, against: str | None, dropped: str | None, out: str | None, limit: int | None, as_json: bool
) -> None:
    """Do what the command asks for; options that do not go together are a `UserError`."""
    if against is not None and dropped is not None:
        raise UserError("report: give either --against OTHER or --dropped RULE")
    if (dropped is None) != (out is None):
        raise UserError("report: --dropped RULE and --out FILE go together")
    if dropped is None and limit is not None:
        raise UserError("report: --limit is for --dropped")
    if dropped is not None and as_json:
        raise UserError("report: --json prints an object and --dropped writes a page; give one of them")
    if dropped is not None:
        write_pieces(str(out), page(sample_dropped(Folder(dataset), dropped, limit or SHOWN), dataset))
    elif against is not None:
        show_comparison(Folder(dataset), Folder(against), as_json, Console())
    else:
        show_overview(Folder(dataset), as_json, Console())
