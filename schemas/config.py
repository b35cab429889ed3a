"""Settings: frozen dataclasses beside what they steer, read strictly from TOML and `--set a.b=c`.

An unknown key or a value of the wrong type is a `ConfigError` that names what would be right. A preset is a named
row of overrides. The resolved configuration is written beside the output and reads back to itself.
"""

from __future__ import annotations

import dataclasses
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

ConfigType = TypeVar("ConfigType")


class ConfigError(ValueError):
    """A setting that cannot be taken; its text is one line for the person who wrote it."""


def from_toml(kind: type[ConfigType], text: str, where: str) -> ConfigType:
    """Read a whole configuration; settings that are not given keep their defaults."""
    return from_tree(kind, parse_toml(text, where), where)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Read TOML as nested dictionaries."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None


def from_tree(kind: type[ConfigType], tree: Mapping[str, Any], where: str, prefix: str = "") -> ConfigType:
    """Build the dataclass `kind` from nested mappings, refusing unknown keys and wrong types."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in names:
            raise ConfigError(f"{where}: unknown setting '{prefix}{name}' (known: {', '.join(names)})")
        values[name] = read_value(hints[name], value, where, prefix + name)
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {prefix.rstrip('.') or 'settings'}: {error}") from None


def read_value(hint: Any, value: Any, where: str, name: str) -> Any:
    """Check one value against the type of its field."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: '{name}' is a table of settings, not {value!r}")
        return from_tree(typing.cast(type, hint), value, where, name + ".")
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: '{name}' holds a table of settings for each name, not {value!r}")
        _, kind = typing.get_args(hint)
        return {key: read_value(kind, inner, where, f"{name}.{key}") for key, inner in value.items()}
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
            raise ConfigError(f"{where}: '{name}' is a list of strings, not {value!r}")
        return tuple(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:
            raise ConfigError(f"{where}: '{name}' takes a finite number, not {value!r}")
        return float(value)
    if isinstance(hint, types.UnionType) or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: '{name}' takes {hint.__name__}, not {value!r}")
    return value


def with_overrides(config: ConfigType, assignments: Iterable[str]) -> ConfigType:
    """Apply `a.b=value` assignments, each value written as in TOML (a bare word is a string)."""
    tree = to_tree(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {assignment}: write it as name.of.setting=value")
        *parents, last = path.strip().split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"--set {assignment}: '{parent}' is no table of settings")
        branch[last] = parse_value(text.strip())
    return from_tree(type(config), tree, "--set")


def parse_value(text: str) -> Any:
    """Read a value as TOML would; what is no TOML is taken as the string it is."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tree["value"] if len(tree) == 1 else text


def to_tree(config: Any) -> dict[str, Any]:
    """Write a configuration, or a table of configurations by name, as nested dictionaries of TOML's types."""
    if isinstance(config, dict):
        return {name: to_tree(value) for name, value in config.items()}
    return {
        field.name: to_tree(value)
        if dataclasses.is_dataclass(value := getattr(config, field.name)) or isinstance(value, dict)
        else (list(value) if isinstance(value, tuple) else value)
        for field in dataclasses.fields(config)
    }
