"""How far a run is: a live line for a terminal, plain lines without one, and `flamingo status` for a second one."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.folder import CONFIG_FILE, PROGRESS_FILE, Folder, UserError
from pipeline.local import Progress as State

STAGES = (
    *("list", "settle", "extract", "address", "same_address", "sign", "link"),
    *(f"star_{turn}" for turn in range(1, 13)),
    *("cluster", "repeat", "same_repeat", "refer", "locate", "normalise", "locate_videos", "decode_videos"),
    *("list_pictures", "score", "embed", "place", "template", "select", "shard"),
    *("texts", "count", "pair", "pair_score", "pair_judge", "pair_shard", "clip", "video_shard"),
)
PLAIN_EVERY_S = 10.0
MANIFEST = "interleaved/manifest.json"


class TerminalProgress:
    """Shows the progress of a run on stderr: units, what was kept and dropped, the rate, the time left of the stage."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("units"),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.tasks: dict[str, Any] = {}
        self.begun: dict[str, tuple[float, int]] = {}
        self.said = 0.0

    def __enter__(self) -> TerminalProgress:
        self.bars.start()
        return self

    def __call__(self, state: State) -> None:
        """Show a state of the run."""
        now = time.monotonic()
        started, done_before = self.begun.setdefault(state.stage, (now, state.units_done))
        rate, left = pace(state, now - started, done_before)
        kept, dropped = state.kept_and_dropped()
        told = f"{kept:,} kept, {dropped:,} dropped, {rate:,.0f}/s" + (
            f", {left:.0f} s left" if left is not None else ""
        )
        if self.live:
            if state.stage not in self.tasks:
                self.tasks[state.stage] = self.bars.add_task(state.stage, total=state.units, told="")
            self.bars.update(self.tasks[state.stage], completed=state.units_done, told=told)
        elif now - self.said >= PLAIN_EVERY_S or state.units_done == state.units:
            self.said = now
            counted = f"{state.units_done}/{state.units} units, {told}"
            print(f"{state.stage}: {counted}", file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()


def pace(state: State, seconds: float, done_before: int) -> tuple[float, float | None]:
    """Give records per second and the seconds left of the stage, `None` before that can be told."""
    rate = state.records / seconds if seconds > 0 else 0.0
    finished = state.units_done - done_before
    if not finished or state.units_done == state.units:
        return rate, None
    return rate, seconds / finished * (state.units - state.units_done)


def read_status(folder: Folder) -> dict[str, Any]:
    """Tell how far the dataset in a folder is: what is done, and what a running build last said."""
    if folder.read_text(CONFIG_FILE) is None:
        raise UserError(f"{folder.root}: no dataset is built here")
    done = {stage: len(folder.names(f"work/done/{stage}")) for stage in STAGES}
    running = folder.read_json(PROGRESS_FILE)
    return {"complete": folder.read_text(MANIFEST) is not None, "units_done": done, "running": running}


def describe(state: dict[str, Any]) -> str:
    """Write a status for a person."""
    lines = [f"{stage:13} {count:6} units done" for stage, count in state["units_done"].items() if count]
    running = state["running"]
    if state["complete"]:
        lines.append("complete: interleaved/manifest.json is written")
    elif running:
        units = f"{running['units_done']}/{running['units']} units"
        fate = f"{running['kept']:,} kept, {running['dropped']:,} dropped"
        lines.append(f"in {running['stage']}: {units}, {fate}, {running['seconds']:.0f} s")
    else:
        lines.append("not complete: `flamingo build --out` goes on from here")
    return "\n".join(lines)
