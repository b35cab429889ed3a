"""What `flamingo generate` and `flamingo chat` share: options, lines that come in and text that goes out.

A prompt is given by options whose order counts. What a model writes it learnt from strangers: it does not reach the
terminal as it is.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

MEDIA = ("image", "text", "video")


class Prompted(click.Command):
    """A command that is given its prompt as `ctx.obj`: pairs of an option of `MEDIA` and its value, in order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, once more for the order, which click does not keep from one option to another."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        given = {name: iter(values.get(name) or ()) for name in MEDIA}
        ctx.obj = [(str(param.name), next(given[param.name])) for param in order if param.name in given]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


def talk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what talking to a model takes."""
    options = [
        click.argument("checkpoint"),
        click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="Most tokens to write."),
        click.option("--beams", type=click.IntRange(1), default=1, show_default=True, help="Texts searched at once."),
        click.option("--temperature", type=click.FloatRange(0), default=0.0, help="Draw tokens.  [default: 0, do not]"),
        click.option("--top-k", type=click.IntRange(0), default=0, help="Draw from so many likely tokens."),
        click.option(
            "--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Draw from this share of them."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn."),
        click.option("--device", default="", help="Such as cpu or cuda:1.  [default: a GPU where there is one]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def prompt_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what a prompt is given by."""
    options = [
        click.option(
            "--image",
            multiple=True,
            expose_value=False,
            metavar="FILE",
            help="An image of the prompt, which is in the order of these.",
        ),
        click.option("--text", multiple=True, expose_value=False, help="A text of it."),
        click.option("--video", multiple=True, expose_value=False, metavar="FILE", help="A clip of it, MP4 or WebM."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def train_extra(command: str) -> Iterator[None]:
    """Import what the extra `train` brings; where it is missing, say so."""
    from pipeline.folder import UserError

    # Read as torch is imported: threads that wait sleep, and leave the cores to those that read and decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.stderr.isatty():  # bars are for a person: in a log they are a line for every step
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flamingo_model"):
            raise
        raise UserError(f"{command} needs {error.name}: pip install 'flamingo-data[train]'") from None


def tell(text: str) -> None:
    """Write a piece of text at once, without what would steer the terminal."""
    from pipeline.report import printable

    encoding = sys.stdout.encoding or "utf-8"
    shown = printable(text, one_line=False).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(shown, nl=False)


def lines(sign: str) -> Iterator[str]:
    """Read lines until there are no more, or an interrupt; a person is shown a sign, and may edit."""
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        import readline  # noqa: F401  (it is what lets `input` edit)
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            yield input(sign if at_terminal else "")
        except (EOFError, KeyboardInterrupt):
            return
