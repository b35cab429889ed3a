"""The README's commands exist as written."""

import re
import shlex
from pathlib import Path

import click
import pytest

from pipeline.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
HELPS = "\n".join(command.help or "" for command in main.commands.values())
FLAMINGO = [line.strip() for line in (BLOCKS + "\n" + HELPS).splitlines() if line.strip().startswith("flamingo ")]


def check(line):
    """Parse a command line as click would, without running it."""
    words = shlex.split(line.partition(";")[0].partition(" > ")[0], comments=True)[1:]
    command = main.commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        return context.params


@pytest.mark.parametrize("line", FLAMINGO)
def test_flamingo_commands_parse(line, monkeypatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)
    assert check(line)


def test_a_wrong_command_is_noticed():
    with pytest.raises(click.NoSuchOption):
        check("flamingo inspect dataset --colour")
    with pytest.raises(KeyError):
        check("flamingo inspekt dataset")


def test_every_command_is_in_the_readme_or_has_an_example_of_its_own():
    for name, command in main.commands.items():
        assert f"flamingo {name}" in (command.help or "")


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([a-z-]+)", BLOCKS, re.MULTILINE) + re.findall(r"`make ([a-z-]+)`", README)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_modules_named_in_the_readme_exist():
    code = README[README.index("## Read the code") :]
    of_pipeline, of_model = code.split("The loader is in `flamingo_model/`")
    for package, text in (("pipeline", of_pipeline), ("flamingo_model", of_model)):
        names = re.findall(r"`(?:pipeline/)?([a-z_]+\.py)`", text)
        assert len(names) > 10
        for name in names:
            assert (ROOT / package / name).exists(), name
