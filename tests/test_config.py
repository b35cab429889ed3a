"""Settings are read strictly, written back whole, and explained field by field."""

import dataclasses
import tomllib
from dataclasses import dataclass, field

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.build import BuildConfig
from pipeline.command import toml
from pipeline.filters import PRESETS
from pipeline.settings import document_settings, field_docstrings
from pipeline.sources import SourceConfig
from schemas import SCHEMA_VERSION
from schemas.config import ConfigError, from_toml, from_tree, parse_value, to_tree, with_overrides

PRINTABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@dataclass(frozen=True, slots=True)
class Inner:
    """A table."""

    size: float = 1.5
    """Size."""
    names: tuple[str, ...] = ("a",)
    """Names."""


@dataclass(frozen=True, slots=True)
class Outer:
    """A configuration with every type of setting."""

    count: int = 1
    """Count, 0 or more. It says so over more than one line of the file, and in more words than fit into the width
    of a line of the TOML that is made of it."""
    on: bool = False
    """Switch."""
    name: str = "x"
    """Name."""
    inner: Inner = field(default_factory=Inner)
    """Table."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count is 0 or more, not {self.count}")


OUTERS = st.builds(
    Outer,
    st.integers(0, 2**70),
    st.booleans(),
    PRINTABLE,
    st.builds(Inner, st.floats(allow_nan=False, allow_infinity=False), st.lists(PRINTABLE, max_size=3).map(tuple)),
)


def build_configs():
    return [
        BuildConfig(),
        BuildConfig(
            source=SourceConfig(("s3://b/ä b.warc.gz", 'quote".warc', "back\\slash", "new\nline"), "http://ü/")
        ),
        *(with_overrides(BuildConfig(), preset_assignments(name)) for name in sorted(PRESETS)),
    ]


def preset_assignments(name):
    return [f"{key}={toml(value)}" for key, value in PRESETS[name].items()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont = 1", "x.toml: unknown setting 'cuont' (known: count, on, name, inner)"),
        ("[inner]\nsise = 1", "x.toml: unknown setting 'inner.sise' (known: size, names)"),
        ("[more]\na = 1", "x.toml: unknown setting 'more' (known: count, on, name, inner)"),
        ("count = true", "x.toml: 'count' takes int, not True"),
        ("count = 1.0", "x.toml: 'count' takes int, not 1.0"),
        ("count = '1'", "x.toml: 'count' takes int, not '1'"),
        ("count = [1]", "x.toml: 'count' takes int, not [1]"),
        ("count = {a = 1}", "x.toml: 'count' takes int, not {'a': 1}"),
        ("on = 1", "x.toml: 'on' takes bool, not 1"),
        ("on = 'true'", "x.toml: 'on' takes bool, not 'true'"),
        ("name = 1", "x.toml: 'name' takes str, not 1"),
        ("name = 2026-01-01", "x.toml: 'name' takes str, not datetime.date(2026, 1, 1)"),
        ("inner = 1", "x.toml: 'inner' is a table of settings, not 1"),
        ("[[inner]]\nsize = 1", "x.toml: 'inner' is a table of settings, not [{'size': 1}]"),
        ("[inner]\nsize = true", "x.toml: 'inner.size' takes float, not True"),
        ("[inner]\nsize = '1'", "x.toml: 'inner.size' takes float, not '1'"),
        ("[inner]\nsize = nan", "x.toml: 'inner.size' takes a finite number, not nan"),
        ("[inner]\nsize = -inf", "x.toml: 'inner.size' takes a finite number, not -inf"),
        ("[inner]\nnames = 'a'", "x.toml: 'inner.names' is a list of strings, not 'a'"),
        ("[inner]\nnames = [1]", "x.toml: 'inner.names' is a list of strings, not [1]"),
        ("count = -1", "x.toml: settings: count is 0 or more, not -1"),
        ("count 1", "x.toml: not TOML: Expected '=' after a key in a key/value pair (at line 1, column 7)"),
    ],
)
def test_what_cannot_be_taken_is_named(text, message):
    with pytest.raises(ConfigError) as caught:
        from_toml(Outer, text, "x.toml")
    assert str(caught.value) == message


def test_a_number_beyond_floats_is_refused():
    with pytest.raises(ConfigError, match=r"'inner\.size' takes a finite number"):
        from_toml(Outer, f"[inner]\nsize = 1{'0' * 400}", "x.toml")


def test_an_int_is_taken_for_a_float():
    size = from_toml(Outer, "[inner]\nsize = 2", "x.toml").inner.size
    assert (size, type(size)) == (2.0, float)


def test_what_is_not_given_keeps_its_default():
    assert from_toml(Outer, "", "x.toml") == Outer()
    assert from_toml(Outer, "on = true\n[inner]\nsize = 3.0", "x.toml") == Outer(on=True, inner=Inner(size=3.0))


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("count=3", Outer(count=3)),
        (" count = 3 ", Outer(count=3)),
        ("count=0x10", Outer(count=16)),
        ("count=1_000", Outer(count=1000)),
        ("on=true", Outer(on=True)),
        ("name=word", Outer(name="word")),
        ("name=two words", Outer(name="two words")),
        ("name='1'", Outer(name="1")),
        ("name=", Outer(name="")),
        ("name=a=b", Outer(name="a=b")),
        ("name=https://example.org/#top", Outer(name="https://example.org/#top")),
        ("name='x'\ncount=5", Outer(name="'x'\ncount=5")),
        ("inner.size=2", Outer(inner=Inner(size=2.0))),
        ('inner.names=["a", "b"]', Outer(inner=Inner(names=("a", "b")))),
        ("inner.names=[]", Outer(inner=Inner(names=()))),
        ("inner={size = 9.0}", Outer(inner=Inner(size=9.0))),
    ],
)
def test_set_takes_values_as_toml_or_as_words(assignment, expected):
    assert with_overrides(Outer(), [assignment]) == expected


def test_the_last_assignment_wins():
    assert with_overrides(Outer(), ["count=1", "name=a", "count=2"]) == Outer(count=2, name="a")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("count", "--set count: write it as name.of.setting=value"),
        ("=3", "--set =3: write it as name.of.setting=value"),
        ("", "--set : write it as name.of.setting=value"),
        ("cuont=1", "--set: unknown setting 'cuont' (known: count, on, name, inner)"),
        ("inner.sise=1", "--set: unknown setting 'inner.sise' (known: size, names)"),
        ("more.a.b=1", "--set: unknown setting 'more' (known: count, on, name, inner)"),
        ("inner..size=1", "--set: unknown setting 'inner.' (known: size, names)"),
        ("count.a=1", "--set count.a=1: 'count' is no table of settings"),
        ("inner=1", "--set: 'inner' is a table of settings, not 1"),
        ("count=three", "--set: 'count' takes int, not 'three'"),
        ("inner.names=a", "--set: 'inner.names' is a list of strings, not 'a'"),
        ("count=-1", "--set: settings: count is 0 or more, not -1"),
    ],
)
def test_set_names_what_it_cannot_take(assignment, message):
    with pytest.raises(ConfigError) as caught:
        with_overrides(Outer(), [assignment])
    assert str(caught.value) == message


@given(OUTERS)
@settings(max_examples=50, deadline=None)
def test_a_configuration_round_trips_through_toml(config):
    assert from_toml(Outer, tomli_w.dumps(to_tree(config)), "x.toml") == config
    assert from_toml(Outer, document_settings(config), "x.toml") == config
    assert with_overrides(config, []) == config


@given(PRINTABLE)
@settings(max_examples=50, deadline=None)
def test_a_value_is_toml_or_itself(text):
    found = parse_value(text)
    assert found == text or tomllib.loads(f"value = {text}")["value"] == found


@pytest.mark.parametrize("config", build_configs())
def test_the_build_configuration_round_trips(config):
    text = tomli_w.dumps(to_tree(config))
    assert from_toml(BuildConfig, text, "config.toml") == config
    assert tomli_w.dumps(to_tree(from_toml(BuildConfig, text, "config.toml"))) == text
    assert from_toml(BuildConfig, document_settings(config), "settings") == config


def test_another_schema_is_refused_by_name():
    with pytest.raises(ConfigError) as caught:
        from_toml(BuildConfig, "schema = 0", "d/config.toml")
    message = f"d/config.toml: settings: schema 0; this version of flamingo reads and writes schema {SCHEMA_VERSION}"
    assert str(caught.value) == message


def test_bounds_name_their_table():
    with pytest.raises(ConfigError) as caught:
        from_tree(BuildConfig, {"source": {"split_bytes": -1}}, "--set")
    assert str(caught.value) == "--set: source: split_bytes is 0 or more and max_record_bytes 1 or more"


def documented(kind, prefix=""):
    """List the settings of a configuration, by name, with what is said of them."""
    meanings = field_docstrings(kind)
    for one in dataclasses.fields(kind):
        value = one.default_factory() if one.default is dataclasses.MISSING else one.default
        yield prefix + one.name, meanings.get(one.name, "")
        if dataclasses.is_dataclass(value):
            yield from documented(type(value), f"{prefix}{one.name}.")


def test_every_setting_says_what_it_means():
    assert [name for name, meaning in documented(BuildConfig) if not meaning] == []


def test_settings_stand_under_what_they_mean():
    text = document_settings(Outer(name="ü"))
    assert text == (
        "# Count, 0 or more. It says so over more than one line of the file, and in more words than fit into the "
        "width\n# of a line of the TOML that is made of it.\n"
        "count = 1\n"
        "# Switch.\n"
        "on = false\n"
        "# Name.\n"
        'name = "ü"\n'
        "\n"
        "[inner]\n"
        "# Size.\n"
        "size = 1.5\n"
        "# Names.\n"
        'names = [\n    "a",\n]\n'
    )


@pytest.mark.parametrize("config", build_configs())
def test_every_setting_is_printed_with_its_meaning(config):
    lines = document_settings(config).splitlines()
    for name, meaning in documented(BuildConfig):
        last = name.rpartition(".")[2]
        if f"[{name}]" not in lines:
            found = [index for index, line in enumerate(lines) if line.startswith(f"{last} = ")]
            assert any(lines[index - 1].startswith("# ") for index in found), name
            assert meaning.split()[0] in " ".join(lines)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_set_known_names(name):
    config = with_overrides(BuildConfig(), preset_assignments(name))
    for key, value in PRESETS[name].items():
        found = config
        for part in key.split("."):
            found = getattr(found, part)
        assert (found, type(found)) == (value, type(value)), key
