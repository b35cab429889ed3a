"""Beam: a stage as a transform over its units, and the runners that run it.

    units → RunUnits(stage) → names of the finished units

On one machine each unit is a pipeline of its own on Beam's in-memory runner, inside a worker process of `local`;
on a cluster a stage is one pipeline. There the rows of keyed stages come together by GroupByKey, here a unit reads
its key range from the sorted parts. Rows hold text and hashes: no image bytes pass through a shuffle.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.folder import Folder, UserError
from pipeline.stage import Inputs, Job, Stage, Unit, gather, run_unit
from pipeline.tables import KeyRange, Table, iter_rows, parts_of, range_of, sort_rows, split_part


class RunUnit(beam.DoFn):
    """Does units of a stage and says which it did; counts go to the runner's metrics."""

    def __init__(self, stage: Stage, job: Job) -> None:
        self.stage = stage
        self.job = job

    def process(self, unit: Unit) -> Iterator[str]:
        """Read the rows of a unit's key range and run it."""
        yield self.finish(unit, gather(self.stage, self.job.folder, unit))

    def finish(self, unit: Unit, inputs: Inputs) -> str:
        """Run a unit on its inputs."""
        for (stage, kind, reason), count in run_unit(self.stage, self.job, unit, inputs).items():
            Metrics.counter(stage, f"{kind}/{reason or 'kept'}").inc(count)
        return unit.name


class RunGatheredUnit(RunUnit):
    """Does units whose rows the runner brought together."""

    def process(self, element: tuple[int, Mapping[str, Iterable[Any]]]) -> Iterator[str]:  # type: ignore[override]
        """Run a unit on the rows that came with it, in the order in which it would have read them."""
        _, found = element
        (unit,) = found["units"]
        pieces: dict[str, list[tuple[str, int, pa.Table]]] = {table.directory: [] for table in self.stage.reads}
        for directory, part, order, data in found["rows"]:
            pieces[directory].append((part, order, pa.ipc.open_stream(data).read_all()))
        inputs = {
            table.directory: iter_rows(sort_rows(join_pieces(pieces[table.directory], table)))
            for table in self.stage.reads
        }
        yield self.finish(unit, inputs)


def join_pieces(pieces: list[tuple[str, int, pa.Table]], table: Table) -> pa.Table:
    """Join what came through the shuffle in the order of the parts."""
    ordered = [piece for _, _, piece in sorted(pieces, key=lambda found: found[:2])]
    return pa.concat_tables(ordered) if ordered else table.schema.empty_table()


class SplitRows(beam.DoFn):
    """Deals the rows of a part to the units whose key range holds them, as Arrow IPC streams."""

    def __init__(self, folder: Folder, ranges: list[KeyRange]) -> None:
        self.folder = folder
        self.ranges = ranges

    def process(self, element: tuple[Table, str]) -> Iterator[tuple[int, tuple[str, str, int, bytes]]]:
        """Read a part and deal its rows."""
        table, part = element
        for order, (index, rows) in enumerate(split_part(self.folder, table, part, self.ranges)):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            yield index, (table.directory, part, order, sink.getvalue().to_pybytes())


@dataclass
class RunUnits(beam.PTransform):
    """Run all units of a stage: units → names of the finished ones.

    With `shuffle` (on a cluster) the rows of keyed stages travel through the runner's GroupByKey; without it each
    unit reads its own range, which needs no memory beyond it.
    """

    stage: Stage
    job: Job
    units: list[Unit]
    shuffle: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[str]:
        """Wire the stage."""
        if not (self.shuffle and self.stage.reads):
            units = begin | "Units" >> beam.Create(self.units, reshuffle=False)
            if self.shuffle:
                units = units | "Spread" >> beam.Reshuffle()
            return units | self.stage.name >> beam.ParDo(RunUnit(self.stage, self.job))
        ordered = sorted(self.units, key=lambda unit: unit.work.keys.lo)
        ranges = [unit.work.keys for unit in ordered]
        parts = [(table, part) for table in self.stage.reads for part in parts_of(self.job.folder, table)]
        rows = (
            begin
            | "Parts" >> beam.Create(parts, reshuffle=True)
            | "SplitRows" >> beam.ParDo(SplitRows(self.job.folder, ranges))
        )
        units = begin | "Units" >> beam.Create([(range_of(unit.work.keys.lo, ranges), unit) for unit in ordered])
        return (
            {"units": units, "rows": rows}
            | "GatherRows" >> beam.CoGroupByKey()
            | self.stage.name >> beam.ParDo(RunGatheredUnit(self.stage, self.job))
        )


def run_in_memory(stage: Stage, job: Job, unit: Unit, beam_args: Sequence[str]) -> None:
    """Run one unit of a stage as a pipeline of its own, inside this process."""
    options = PipelineOptions(list(beam_args))
    with beam.Pipeline(runner=make_runner(), options=options) as pipeline:
        _ = pipeline | stage.name >> RunUnits(stage, job, [unit])


def make_runner() -> FnApiRunner:
    """Give Beam's in-memory runner, by name: the default one downloads a binary when it can."""
    return FnApiRunner()


def run_on_cluster(stage: Stage, job: Job, units: Sequence[Unit], beam_args: Sequence[str]) -> None:
    """Run a stage as one pipeline on the runner that the options name."""
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        _ = pipeline | stage.name >> RunUnits(stage, job, list(units), shuffle=True)


def check_beam_args(beam_args: Sequence[str]) -> str:
    """Refuse options that Beam would ignore in silence; returns the runner they name, without its package."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in (PipelineOptions, *PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(beam_args))
    except (SystemExit, argparse.ArgumentError) as error:
        raise UserError(f"Beam options {' '.join(beam_args)}: {error}") from None
    if unknown:
        raise UserError(f"Beam options: {unknown[0]} is none that Beam {beam.__version__} knows")
    runner = PipelineOptions(list(beam_args)).view_as(StandardOptions).runner or ""
    return str(runner).rpartition(".")[2]
