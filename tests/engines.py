"""Real Beam engines on this machine: an engine's name comes in, the options that run a pipeline on it go out.

`with engine("prism", folder) as options: beam.Pipeline(options=PipelineOptions(options))`. Prism is Beam's own portable
runner in Go; Flink is a local mini-cluster behind Beam's job server in Java (11 or 17). Both start their workers as
processes of this virtual environment through `boot`, which does what the boot program of Beam's containers does. What
is fetched goes to the git-ignored `.engines/`; no process and no file outside `folder` outlives the `with`.

    python tests/engines.py prism flink                  send a toy through each engine
    python tests/engines.py --build SOURCE prism flink   build SOURCE here and on each engine: the shards must be equal
"""

import argparse
import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import apache_beam as beam
import grpc
import psutil
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc, beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PipelineResult, PortableRunner
from apache_beam.runners.worker import sdk_worker, sdk_worker_main
from google.protobuf import json_format, text_format

HERE = Path(__file__).resolve().parent
DOWNLOADS = HERE.parent / ".engines"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
# Job servers, the preferred one first. Beam promises nothing between versions, so `check_toy` tries what it got.
FLINK = (
    "org.apache.beam:beam-runners-flink-1.20-job-server:2.77.0",
    "org.apache.beam:beam-runners-flink-1.12-job-server:2.34.0",
)
FETCH_TIMEOUT_S = 900
READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 10
JOB_TIMEOUT_S = 3600  # the client gives a job up after this; Beam's default is 300
OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "lang.ref", "nio", "util")]  # to Flink


@contextmanager
def engine(name: str, folder: Path) -> Iterator[list[str]]:
    """Start the engine `name` ("prism" or "flink") with two workers, yield Beam's options for it, stop it.

    Its log lies in `folder`. FileNotFoundError: it, or a program, cannot be had. RuntimeError: no start, or no stop.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command, extra = {"prism": prism, "flink": flink}[name](port, folder)
    log = folder / f"{name}.log"
    with log.open("wb") as out, open(os.devnull, "rb") as none:
        place = {"cwd": folder, "env": os.environ | {"TMPDIR": str(folder)}, "start_new_session": True}
        process = subprocess.Popen(command, stdin=none, stdout=out, stderr=out, **place)
    try:
        wait_ready(process, port, log)
        yield [
            *extra,
            f"--job_endpoint=localhost:{port}",
            f"--job_server_timeout={JOB_TIMEOUT_S}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': str(write_boot(folder))})}",
        ]
    finally:
        stop_group(process)


def prism(port: int, folder: Path) -> tuple[list[str], list[str]]:
    """Return Prism's command and the Beam options only it needs."""
    # It listens on all interfaces and has no flag for that. It ends when idle, should this program be killed outright.
    flags = [f"-job_port={port}", "-serve_http=false", "-log_kind=text", "-idle_shutdown_timeout=10m"]
    return [str(prism_binary()), *flags], [f"--runner={TwoEnvironments.__module__}.TwoEnvironments"]


def prism_binary() -> Path:
    """Return Prism's program, built from source when missing."""
    return fetch(f"prism-{PRISM.partition('@')[2]}", "prism", ["go", "install", PRISM])


def flink(port: int, folder: Path) -> tuple[list[str], list[str]]:
    """Return the Flink job server's command and the Beam options only it needs."""
    flags = ["--flink-master=[local]", f"--job-port={port}", "--artifact-port=0", "--expansion-port=0"]
    flags += [f"--artifacts-dir={folder / 'artifacts'}"]
    options = ["--runner=PortableRunner", "--parallelism=2", "--sdk_worker_parallelism=2"]
    return ["java", f"-Djava.io.tmpdir={folder}", *OPENS, "-jar", str(flink_jar()), *flags], options


def flink_jar() -> Path:
    """Return the job server that is there, or the first of `FLINK` that the registry has."""
    program("java")
    names = {artifact: "{1}-{2}.jar".format(*artifact.split(":")) for artifact in FLINK}
    if there := [DOWNLOADS / name for name in names.values() if (DOWNLOADS / name).exists()]:
        return there[0]
    wrong = []
    for artifact, name in names.items():
        words = ["-B", "-q", "-U", "-Dstyle.color=never", "dependency:copy", f"-Dartifact={artifact}"]
        try:
            return fetch(name, name, ["mvn", *words, "-DoutputDirectory={fresh}"])
        except FileNotFoundError as error:
            wrong.append(str(error))
    raise FileNotFoundError("; ".join(dict.fromkeys(wrong)))


def program(name: str) -> str:
    if (path := shutil.which(name)) is None:
        raise FileNotFoundError(f"{name} is not installed, and this engine needs it")
    return path


def fetch(name: str, made_as: str, command: list[str]) -> Path:
    """Return the download `name`; when it is missing, `command` writes it as `made_as` into a fresh folder."""
    if (target := DOWNLOADS / name).exists():
        return target
    DOWNLOADS.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=DOWNLOADS) as fresh:
        words = [program(command[0]), *(word.replace("{fresh}", fresh) for word in command[1:])]
        told = {**os.environ, "GOBIN": fresh}
        done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
        if done.returncode != 0:
            lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            wrong = next((line for line in lines if "[ERROR]" in line), lines[-1])
            raise FileNotFoundError(f"{command[0]} could not fetch {name}: {wrong.partition('[ERROR] ')[2] or wrong}")
        os.replace(Path(fresh, made_as), target)
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the engine's port answers; RuntimeError with the log's last line if it ends or takes long."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.1)
    lines = log.read_text("utf-8", "replace").splitlines() or ["it wrote nothing"]
    raise RuntimeError(f"{log.stem} ended, or was not ready after {READY_TIMEOUT_S} s: {lines[-1]}")


def stop_group(process: "subprocess.Popen[bytes]") -> None:
    """End the engine and the workers it started, which share its process group; RuntimeError if one stays."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_TIMEOUT_S
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        while time.monotonic() < deadline:
            if process.poll() is not None and not members(process.pid):
                return
            time.sleep(0.05)
    raise RuntimeError(f"processes of group {process.pid} did not end: {members(process.pid)}")


def members(group: int) -> list[int]:
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(each.pid) == group and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


class TwoEnvironments(PortableRunner):
    """Prism's way to two workers: one process an environment, so every second step gets a second environment."""

    def run_portable_pipeline(self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> PipelineResult:
        components = pipeline.components
        name, *others = components.environments
        if not others:  # resource hints already made some
            components.environments[f"{name}_second"].CopyFrom(components.environments[name])
            give_environments(components, pipeline.root_transform_ids, cycle((name, f"{name}_second")))
        return super().run_portable_pipeline(pipeline, options)


def give_environments(
    components: beam_runner_api_pb2.Components, ids: Iterable[str], names: Iterator[str], whole: str = ""
) -> None:
    """Hand out environments to the ParDos in the order they were written; the parts of a combiner stay together."""
    for each in ids:
        step = components.transforms[each]
        kind = step.spec.urn.removeprefix("beam:transform:").partition(":")[0]
        if kind == "reshuffle":  # Prism drops its parts
            continue
        own = whole or (next(names) if kind == "pardo" or kind.startswith("combine") else "")
        step.environment_id = own or step.environment_id
        give_environments(components, step.subtransforms, names, own)


def write_boot(folder: Path) -> Path:
    """Write the program that an engine starts for a worker: this Python, these modules, and the engine's flags."""
    # Beam's channels read WORKER_ID when they are imported, so it is set before. Prism puts the id in quotation marks.
    code = (
        f"import os, sys; sys.path.insert(0, {str(HERE)!r}); told = dict(f[2:].split('=', 1) for f in sys.argv[1:]);"
        "os.environ['WORKER_ID'] = told['id'].strip(chr(39)); import engines; engines.boot(told['provision_endpoint'])"
    )
    path = folder / "boot"
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", code])} "$@"\n')
    path.chmod(0o755)
    return path


def boot(provision: str) -> None:
    """Be a worker: ask the engine at `provision` for the job's options, then run Beam's SDK harness."""
    worker = os.environ["WORKER_ID"]
    with grpc.insecure_channel(provision) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        info = service.GetProvisionInfo(request, metadata=(("worker_id", worker),), timeout=READY_TIMEOUT_S).info
    os.environ |= {
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    # A worker numbers its metrics from 1, and Prism takes equal numbers of two workers for one metric: begin elsewhere.
    sdk_worker.SHORT_ID_CACHE._last_short_id = int.from_bytes(hashlib.sha256(worker.encode()).digest()[:4]) << 20
    sdk_worker_main.main([])


@dataclass(frozen=True, slots=True)
class Unit:
    """A toy unit of work."""

    number: int
    body: bytes


def sign(step: str, folder: str) -> None:
    """Leave a file that says which process works on a step."""
    Path(folder, f"{step}-by-{os.getpid()}").touch()


def start_unit(number: int, folder: str) -> Unit:
    sign("start", folder)
    return Unit(number, b"\xff" * number)


def write_unit(unit: Unit, folder: str) -> Unit:
    """Write the unit's body under a temporary name and rename it, as the real stages do."""
    assert type(unit) is Unit
    sign("write", folder)
    temporary = Path(folder, f".{unit.number}.{os.getpid()}")
    temporary.write_bytes(unit.body)
    os.replace(temporary, Path(folder, f"unit-{unit.number:03d}"))
    Metrics.counter("toy", "written").inc()
    return unit


def write_row(row: tuple[int, dict[str, Iterable[object]]], folder: str) -> None:
    """Write how many values a key has on its two sides; they must have kept their types on the way."""
    units, bodies = list(row[1]["units"]), list(row[1]["bodies"])
    assert {type(each) for each in units} == {Unit}
    assert {type(each) for each in bodies} == {bytes}
    sign("row", folder)
    Path(folder, f"row-{row[0]}").write_text(f"{len(units)} {len(bodies)}")


def check_toy(options: list[str], folder: Path) -> tuple[int, int]:
    """Run 40 units through Reshuffle, GroupByKey and CoGroupByKey, none of them in this process.

    Returns how many processes worked, and how many of them at most on the same step.
    """
    folder.mkdir()
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    units = pipeline | beam.Create(range(40)) | beam.Reshuffle() | "Start" >> beam.Map(start_unit, str(folder))
    written = units | "Spread" >> beam.Reshuffle() | "Write" >> beam.Map(write_unit, str(folder))
    grouped = units | beam.Map(lambda unit: (unit.number % 5, unit.body)) | beam.GroupByKey()
    bodies = grouped | beam.FlatMapTuple(lambda key, bodies: [(key, body) for body in bodies])
    keyed = written | "Key" >> beam.Map(lambda unit: (unit.number % 5, unit))
    _ = {"units": keyed, "bodies": bodies} | beam.CoGroupByKey() | "Row" >> beam.Map(write_row, str(folder))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("toy"))["counters"]
    assert [counter.result for counter in counters] == [40]
    assert [path.read_bytes() for path in sorted(folder.glob("unit-*"))] == [b"\xff" * number for number in range(40)]
    assert [Path(folder, f"row-{key}").read_text() for key in range(5)] == ["8 8"] * 5
    signed = [path.name.split("-by-") for path in folder.glob("*-by-*")]
    assert str(os.getpid()) not in {worker for _, worker in signed}
    return len({worker for _, worker in signed}), max(Counter(step for step, _ in signed).values())


def failure(options: list[str]) -> str:
    """Return what a job with a failing step says."""
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    _ = pipeline | beam.Create([1, 0]) | "Divide" >> beam.Map(lambda number: 1 // number)
    try:
        pipeline.run().wait_until_finish()
    except RuntimeError as error:
        return str(error)
    return "it succeeded"


def available(names: list[str]) -> dict[str, str]:
    """Return what each engine is, such as prism-v2.77.0; say on standard error which cannot be had."""
    found = {}
    for name in names:
        try:
            found[name] = f"{(prism_binary if name == 'prism' else flink_jar)().name} for Beam {beam.__version__}"
        except FileNotFoundError as missing:
            print(f"{name}: {missing}", file=sys.stderr)  # noqa: T201
    return found


def main(names: list[str]) -> int:
    """Run two toys and a failing job on every engine named, in this process; print a line an engine.

    Returns 2 when an engine cannot be had.
    """
    logging.disable()  # the failing job's error is meant, and a job's error reaches us as an exception too
    found = available(names)
    for name, what in found.items():
        started = time.monotonic()
        # Beam's client leaves files behind wherever temporary ones go.
        with TemporaryDirectory() as folder, patch("tempfile.tempdir", folder), engine(name, Path(folder)) as options:
            ready_s = time.monotonic() - started
            seen = [check_toy(options, Path(folder, each)) for each in ("first", "second")]
            assert "ZeroDivisionError" in (said := failure(options)), said
        workers, abreast = (min(counts) for counts in zip(*seen, strict=True))
        assert workers >= 2, seen
        took = f"{time.monotonic() - started:.1f} seconds, ready after {ready_s:.1f}"
        print(f"{name}: ok, {workers} workers seen, {abreast} on one step, {took}, {what}")  # noqa: T201
    return 0 if len(found) == len(names) else 2


def main_build(source: str, names: list[str]) -> int:
    """Build `source` on this machine and on every engine named; print a line each.

    Returns 1 when an engine's shards are other bytes, 2 when an engine cannot be had.
    """
    source = source if "://" in source else os.path.abspath(source)
    found = available(names)
    with TemporaryDirectory() as folder:
        wanted, took = build(source, Path(folder, "local"), ["--workers=2"])
        print(f"local: {wanted}, {took}", flush=True)  # noqa: T201
        same = []
        for name, what in found.items():
            with engine(name, Path(folder, f"{name}-engine")) as options:
                made, took = build(source, Path(folder, name), ["--", *options])
            same.append(made == wanted)
            print(f"{name}: {made}, {'same' if same[-1] else 'DIFFERENT'}, {took}, {what}", flush=True)  # noqa: T201
    return 1 if not all(same) else 0 if len(found) == len(names) else 2


def build(source: str, dataset: Path, more: list[str]) -> tuple[str, str]:
    """Run `flamingo build` in a process of its own; return the hash of its shards and the time it took.

    RuntimeError: the build failed, or made no shard.
    """
    found_at = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))  # for TwoEnvironments
    told = os.environ | {"PYTHONPATH": found_at, "TMPDIR": str(dataset.parent)}
    flamingo = str(Path(sys.executable).with_name("flamingo"))
    words = [flamingo, "build", f"--source={source}", f"--out={dataset}", *more]
    started = time.monotonic()
    done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=JOB_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"the build of {dataset.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    return shards_hash(dataset), f"{time.monotonic() - started:.1f} seconds"


def shards_hash(dataset: Path) -> str:
    """Return how many shards a dataset has, and what `sha256sum */shard-*.tar | sha256sum` prints in its folder."""
    lines = []
    for path in sorted(dataset.glob("*/shard-*.tar")):
        with path.open("rb") as shard:
            lines.append(f"{hashlib.file_digest(shard, 'sha256').hexdigest()}  {path.relative_to(dataset)}\n")
    if not lines:
        raise RuntimeError(f"the build of {dataset.name} made no shard")
    return f"{len(lines)} shard(s), {hashlib.sha256(''.join(lines).encode()).hexdigest()}"


if __name__ == "__main__":
    import engines  # the workers import the toy by this name, so it is pickled by it

    parser = argparse.ArgumentParser(description="Send jobs through real Beam engines on this machine.")
    parser.add_argument("--build", metavar="SOURCE", help="build it here and on each engine, and compare the shards")
    parser.add_argument("names", nargs="+", choices=["prism", "flink"], metavar="prism|flink")
    asked = parser.parse_args()
    sys.exit(engines.main(asked.names) if asked.build is None else engines.main_build(asked.build, asked.names))
