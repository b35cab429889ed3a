"""The repository's own rules, read from its files: arrows, sizes, pins, packages.

Every check is a function from sources to the list of its findings, so that each can be shown a bad example.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import pipeline

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "pipeline", "flamingo_model")
BEAM_MODULES = ("runner",)
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 400
MACHINE_ROOTS = tuple("/" + name for name in ("work", "tmp", "root", "home"))
UNFINISHED = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")
# Of the text that the Apache Software Foundation publishes.
LICENSE_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name; `scope` is `module` (run on import), `function` or `typing` (never run)."""

    name: str
    scope: str
    line: int

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


Modules = Mapping[str, str]  # sources by dotted module name; a package stands under its own name


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_modules(*folders: str) -> dict[str, str]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {module_name(path): path.read_text("utf-8") for path in paths}


def imports_of(module: str, source: str) -> list[Import]:
    return list(walk_imports(ast.parse(source), module, "module"))


def walk_imports(node: ast.AST, module: str, scope: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        yield from named_imports(child, module, scope)
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            inner = "typing"
        yield from walk_imports(child, module, inner)


def named_imports(node: ast.AST, module: str, scope: str) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, scope, node.lineno) for alias in names)
        case ast.ImportFrom(module=base, names=names, level=level):
            # Relative names count from the package; packages here are flat, so that is the first part.
            parent = ".".join(filter(None, [module.partition(".")[0] if level else "", base]))
            yield from (Import(f"{parent}.{alias.name}", scope, node.lineno) for alias in names)
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(function) in ("__import__", "importlib.import_module", "import_module"):
                yield Import(name, scope, node.lineno)


def breaks_arrows(module: str, found: Import) -> bool:
    """Tell whether DESIGN's arrows forbid `module` to import what was found."""
    package, _, name = module.partition(".")
    match package:
        case "schemas":
            return found.top not in {"schemas", "pyarrow", *sys.stdlib_module_names}
        case "pipeline" if found.top == "flamingo_model":
            return not (name == "cli" and found.scope == "function")
        case "pipeline":
            return found.top == "torch" or (found.top == "apache_beam" and name not in BEAM_MODULES)
        case _:
            return found.top in ("pipeline", "apache_beam")


def wrong_arrows(modules: Modules) -> list[str]:
    return [
        f"{module}:{found.line} imports {found.name}"
        for module, source in modules.items()
        for found in imports_of(module, source)
        if breaks_arrows(module, found)
    ]


def import_graph(modules: Modules) -> dict[str, list[str]]:
    """Map each module to those of `modules` that importing it runs."""
    graph: dict[str, list[str]] = {}
    for module, source in modules.items():
        names = [found.name for found in imports_of(module, source) if found.scope == "module"]
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        # A package's own __init__ is running already when its modules import from it.
        graph[module] = sorted(target for target in targets if target in modules and target != module)
    return graph


def import_cycle(modules: Modules) -> list[str]:
    """Find one cycle of imports, as the path that closes on itself; empty where there is none."""
    try:
        TopologicalSorter(import_graph(modules)).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def missing_docstrings(modules: Modules) -> list[str]:
    return [module for module, source in modules.items() if not ast.get_docstring(ast.parse(source))]


def oversized(modules: Modules) -> list[str]:
    long_files = [module for module, source in modules.items() if len(source.splitlines()) > MAX_FILE_LINES]
    long_functions = [
        f"{module}.{node.name}"
        for module, source in modules.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    return long_files + long_functions


def unfinished(modules: Modules) -> list[str]:
    return [
        f"{module}:{number} {found[0]}"
        for module, source in modules.items()
        for number, line in enumerate(source.splitlines(), 1)
        if (found := UNFINISHED.search(line))
    ]


def threaded_reads(modules: Modules) -> list[str]:
    """Find reads of Parquet in Arrow's own threads: one that lets go of a Python file as the process ends aborts it."""
    return [
        f"{module}:{node.lineno} {node.func.attr}"
        for module, source in modules.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "read_table"
        or (node.func.attr in ("iter_batches", "read_row_group") and not keyword(node, "use_threads"))
    ]


def keyword(node: ast.Call, name: str) -> bool:
    return any(word.arg == name for word in node.keywords)


def machine_paths(modules: Modules) -> list[str]:
    return [
        f"{module}:{node.lineno} {text}"
        for module, source in modules.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        for text in [node.value if isinstance(node.value, str) else node.value.decode("latin-1")]
        if any(text == root or text.startswith(root + "/") for root in MACHINE_ROOTS)
    ]


def undeclared(modules: Modules, declared: set[str], distributions: Mapping[str, list[str]]) -> list[str]:
    """List imports of packages that come only because something else happens to need them."""
    known = {*sys.stdlib_module_names, *PACKAGES}
    return [
        f"{module}:{found.line} imports {found.name}"
        for module, source in modules.items()
        for found in imports_of(module, source)
        if found.top not in known
        and not declared & {canonicalize_name(name) for name in distributions.get(found.top, [found.top])}
    ]


def pin_lines(constraints: str) -> list[str]:
    return [line for line in constraints.splitlines() if line.strip() and not line.startswith("#")]


def pins(constraints: str) -> list[Requirement]:
    """Read the pins, their names in canonical form."""
    found = [Requirement(line) for line in pin_lines(constraints)]
    for pin in found:
        pin.name = canonicalize_name(pin.name)
    return found


def is_exact(line: str) -> bool:
    """Tell whether a line is `name==version`, with or without a marker."""
    try:
        pin = Requirement(line)
    except InvalidRequirement:
        return False
    operators = [(part.operator, part.version.endswith("*")) for part in pin.specifier]
    return operators == [("==", False)] and not pin.url and not pin.extras


def loose_pins(constraints: str) -> list[str]:
    return [line for line in pin_lines(constraints) if not is_exact(line)]


def environments() -> list[dict[str, str]]:
    """List the environments for which the pins are resolved: three Pythons on two systems."""
    here = {key: str(value) for key, value in default_environment().items()}
    return [
        here | {"python_version": version, "python_full_version": f"{version}.7", "sys_platform": system}
        for version in ("3.11", "3.12", "3.13")
        for system in ("linux", "darwin")
    ]


def applies(pin: Requirement, environment: dict[str, str]) -> bool:
    return pin.marker is None or pin.marker.evaluate(environment)


def ambiguous_pins(constraints: str) -> list[str]:
    """List names that have more than one version in some environment."""
    found = set()
    for environment in environments():
        names = [pin.name for pin in pins(constraints) if applies(pin, environment)]
        found |= {name for name in names if names.count(name) > 1}
    return sorted(found)


def requirements_of(project: Mapping[str, Any]) -> list[Requirement]:
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(text) for texts in lists for text in texts]
    # An extra may take in another one of the package itself.
    return [requirement for requirement in wanted if requirement.name != project.get("name")]


def unmet_requirements(project: Mapping[str, Any], constraints: str) -> list[str]:
    """List requirements without exactly one pin that satisfies them, in any environment."""
    unmet, pinned = [], pins(constraints)
    for wanted in requirements_of(project):
        for environment in environments():
            here = [pin for pin in pinned if pin.name == canonicalize_name(wanted.name) and applies(pin, environment)]
            if len(here) != 1 or not wanted.specifier.contains(str(here[0].specifier).removeprefix("==")):
                unmet.append(str(wanted))
                break
    return unmet


def unpacked_files(files: list[str], packages: list[str], package_data: Mapping[str, list[str]]) -> list[str]:
    """List files of the packages that the wheel would not hold: data that is not declared, modules in folders."""
    shipped = {f"{package}/{pattern}" for package, patterns in package_data.items() for pattern in patterns}
    shipped |= {f"{package.replace('.', '/')}/*.py" for package in packages}
    # `*` of a pattern stands for one name, as setuptools reads it.
    return [f for f in files if not any(f.count("/") == p.count("/") and fnmatch(f, p) for p in shipped)]


def beam_mismatch(dockerfile: str, constraints: str) -> list[str]:
    """List Beam versions that the worker's base image and the pins do not share."""
    image = re.findall(r"^ARG BEAM_VERSION=(\S+)$", dockerfile, re.MULTILINE)
    pinned = [str(pin.specifier).removeprefix("==") for pin in pins(constraints) if pin.name == "apache-beam"]
    return [] if image == pinned and image else image + pinned


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


PYPROJECT = tomllib.loads(read("pyproject.toml"))
CODE = read_modules(*PACKAGES)


def test_arrows_point_one_way():
    assert wrong_arrows(CODE) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schemas.page", "import numpy"),
        ("schemas.page", "import pipeline.warc"),
        ("pipeline.build", "def f():\n    from flamingo_model import train"),
        ("pipeline.cli", "from flamingo_model import train"),
        ("pipeline.cli", "def f():\n    import torch.nn as nn"),
        ("pipeline.warc", "if TYPE_CHECKING:\n    import apache_beam as beam"),
        ("pipeline.dom", "importlib.import_module('apache_beam')"),
        ("flamingo_model.data", "from pipeline.warc import read"),
        ("flamingo_model.data", "class A:\n    def f(self):\n        import apache_beam"),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert [text.partition(":")[0] for text in wrong_arrows({module: source})] == [module]


def test_right_arrows_pass():
    allowed = {
        "schemas.page": "from __future__ import annotations\nimport pyarrow.parquet\nfrom . import media",
        "pipeline.cli": "def train():\n    from flamingo_model import train",
        "pipeline.runner": "import apache_beam as beam\nfrom schemas.page import Page",
        "flamingo_model.data": "import torch\nfrom schemas import sample",
    }
    assert wrong_arrows(allowed) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_without_cycles(package):
    assert import_cycle({name: source for name, source in CODE.items() if name.partition(".")[0] == package}) == []


def test_a_cycle_is_found():
    modules = {"p": "", "p.a": "from p import b", "p.b": "from . import c", "p.c": "import p.a"}
    cycle = import_cycle(modules)
    assert cycle[0] == cycle[-1]
    assert set(pairwise(cycle)) == {("p.a", "p.b"), ("p.b", "p.c"), ("p.c", "p.a")}
    for source in ("from p import VERSION", "def f():\n    import p.a", "if TYPE_CHECKING:\n    import p.a"):
        assert import_cycle(modules | {"p.c": source}) == []


def test_every_module_says_what_it_is():
    assert missing_docstrings(CODE) == []
    assert missing_docstrings({"a": '"""Yes."""', "b": "x = 1"}) == ["b"]


def test_functions_and_files_are_small():
    assert oversized(CODE) == []
    exact = "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)
    assert oversized({"a": exact, "b": exact + "    y = 1\n", "c": "\n" * MAX_FILE_LINES}) == ["b.f"]
    assert oversized({"a": "\n" * (MAX_FILE_LINES + 1)}) == ["a"]


def test_nothing_is_left_unfinished():
    assert unfinished(read_modules(*PACKAGES, "bench")) == []
    assert unfinished({"a": "x = 1  # TODO later"}) == ["a:1 TODO"]
    assert unfinished({"b": "\nraise NotImplementedError"}) == ["b:2 NotImplementedError"]


def test_parquet_is_read_in_the_thread_that_asks():
    assert threaded_reads(CODE) == []
    sources = {"a": "pq.read_table(f)", "b": "p.iter_batches(1)", "c": "p.iter_batches(1, use_threads=False)"}
    assert threaded_reads(sources) == ["a:1 read_table", "b:1 iter_batches"]


def test_no_path_of_one_machine_is_written_down():
    assert machine_paths(read_modules(*PACKAGES, "tests", "bench")) == []
    bad = "/" + "tmp"
    sources = {"a": f"x = '{bad}'", "b": f"y = f'{bad}/{{n}}'", "c": f"z = b'{bad}/x'", "d": f"x = '{bad}late'"}
    assert machine_paths(sources) == [f"a:1 {bad}", f"b:1 {bad}/", f"c:1 {bad}/x"]


def test_every_import_is_declared():
    declared = {canonicalize_name(wanted.name) for wanted in requirements_of(PYPROJECT["project"])}
    assert undeclared(CODE, declared, packages_distributions()) == []
    sources = {"pipeline.a": "import bs4, requests, torch.nn"}
    found = undeclared(sources, {"beautifulsoup4", "torch"}, {"bs4": ["beautifulsoup4"]})
    assert found == ["pipeline.a:1 imports requests"]


def test_every_constraint_pins_one_version():
    assert loose_pins(read("constraints.txt")) == []
    assert ambiguous_pins(read("constraints.txt")) == []
    good = "# note\n\na==1.0\nb==2 ; python_version < '3.12'\nb==3 ; python_version >= '3.12'\n"
    bad = ["c>=1", "d==1.*", "e", "f[x]==1", "g @ https://example.org/g.whl", "-i https://example.org", "h==1,<2"]
    assert loose_pins(good + "\n".join(bad)) == bad
    assert ambiguous_pins(good) == []
    assert ambiguous_pins(good + "B==4 ; sys_platform == 'linux'") == ["b"]


def test_constraints_meet_every_requirement():
    assert unmet_requirements(PYPROJECT["project"], read("constraints.txt")) == []
    project = {
        "name": "p",
        "dependencies": ["a>=1", "b[x]==2.*"],
        "optional-dependencies": {"more": ["C>=3", "p[x]", "d"]},
    }
    pinned = "a==1\nb==2.5\nc==3\nd==1"
    assert unmet_requirements(project, pinned) == []
    assert unmet_requirements(project, "a==0.9\nb==2.5\nc==3 ; python_version < '3.12'\n") == ["a>=1", "C>=3", "d"]


def test_the_wheel_holds_every_file_of_the_packages():
    settings = PYPROJECT["tool"]["setuptools"]
    assert {name.partition(".")[0] for name in settings["packages"]} == set(PACKAGES)
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*")) if path.is_file()]
    files = [path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts]
    assert unpacked_files(files, settings["packages"], settings.get("package-data", {})) == []
    given = ["p/a.py", "p/words.txt", "p/data/page.html", "p/data/words.txt", "p/more/a.py", "q/a.py"]
    assert unpacked_files(given, ["p"], {"p": ["*.txt", "data/*.html"]}) == given[3:]


def test_versions_agree():
    assert PYPROJECT["project"]["version"] == pipeline.__version__
    assert beam_mismatch(read("Dockerfile"), read("constraints.txt")) == []
    assert beam_mismatch("ARG BEAM_VERSION=2.70.0\n", "apache-beam==2.77.0") == ["2.70.0", "2.77.0"]
    assert beam_mismatch("FROM python", "apache-beam==2.77.0") == ["2.77.0"]


def test_the_licence_is_whole():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == LICENSE_SHA256


def test_ci_runs_what_people_run():
    commands = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "exec make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
