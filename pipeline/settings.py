"""Settings as commented TOML: each field's docstring stands above it, so that the file explains itself."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import tomli_w


def document_settings(config: Any, prefix: str = "") -> str:
    """Write a configuration as TOML with what each setting means."""
    return "\n".join(setting_lines(config, prefix)).lstrip("\n") + "\n"


def setting_lines(config: Any, prefix: str) -> Iterator[str]:
    """Yield the lines of a table and of the tables in it."""
    meanings = field_docstrings(type(config))
    tables = []
    for setting in dataclasses.fields(config):
        value = getattr(config, setting.name)
        if dataclasses.is_dataclass(value):
            tables.append((setting.name, value))
            continue
        if isinstance(value, dict):
            tables += [(f"{setting.name}.{name}", table) for name, table in value.items()]
            continue
        yield from textwrap.wrap(meanings[setting.name], 110, initial_indent="# ", subsequent_indent="# ")
        plain = list(value) if isinstance(value, tuple) else value
        yield tomli_w.dumps({setting.name: plain}, multiline_strings=False).strip()
    for name, value in tables:
        yield f"\n[{prefix}{name}]"
        yield from setting_lines(value, f"{prefix}{name}.")


def field_docstrings(kind: type) -> dict[str, str]:
    """Read the docstring under each field of a dataclass; a field without one is an error of ours."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[statement.target.id] = " ".join(str(after.value.value).split())
    return found
