"""Pictures in a terminal: two inline-image protocols, coloured half-blocks, or a line of text.

The console and the environment → how it shows pictures; the bytes of a picture, which strangers wrote → a drawing no
larger than the terminal. They pass through the checks of `media` first.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Literal

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from pipeline.media import MediaConfig, normalise_image
from pipeline.report import say
from schemas.media import STORED

MAX_PICTURE_ROWS = 24
CELL_PX = {"blocks": 4, "kitty": 8, "iterm": 8}
"""Pixels of a picture to a cell's width where there is room; a cell is about 8 pixels wide and twice as high."""

Drawing = Literal["kitty", "iterm", "blocks", "line"]


def show_picture(told: str, about: str, data: bytes, way: Drawing, console: Console) -> None:
    """Draw a picture, or say why it cannot be drawn; `told` names it, and `about` is what else is said of it."""
    line = " ".join(filter(None, [told, about]))
    if way == "line":
        say(console, f"[image {line}]", one_line=True)
        return
    media, jpeg = normalise_image("", data, MediaConfig())
    if media.status == STORED:
        draw(Image.open(io.BytesIO(jpeg)).convert("RGB"), way, console)
        say(console, line, "dim")
    else:
        say(console, f"[image {told} cannot be drawn: {media.reason} {media.detail}]", "red")


def choose_drawing(console: Console, environment: Mapping[str, str]) -> Drawing:
    """Tell how this terminal shows pictures: two inline-image protocols, coloured half-blocks, or a line of text."""
    term = environment.get("TERM", "")
    if not console.is_terminal or console.color_system is None or not console.encoding.startswith("utf"):
        return "line"
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return "blocks"  # a multiplexer swallows the protocols of the terminal around it
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else "blocks"


def draw(image: Image.Image, way: Drawing, console: Console) -> None:
    """Draw an RGB image no wider than the terminal and no higher than `MAX_PICTURE_ROWS`."""
    columns, rows = cells(image.size, CELL_PX[way], console.width)
    if way == "blocks":
        console.print(Segments(half_blocks(image.resize((columns, 2 * rows), Image.Resampling.LANCZOS))), end="")
        return
    png = io.BytesIO()
    image.save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode()
    console.file.write((kitty if way == "kitty" else iterm)(data, columns) + "\n")
    console.file.flush()


def cells(size_px: tuple[int, int], cell_px: int, width: int) -> tuple[int, int]:
    """Give the columns and rows that an image takes, its shape kept and never enlarged."""
    width_px, height_px = size_px
    columns = min(width - 1, -(-width_px // cell_px), max(1, 2 * MAX_PICTURE_ROWS * width_px // height_px))
    return max(1, columns), min(MAX_PICTURE_ROWS, max(1, round(columns * height_px / width_px / 2)))


def half_blocks(image: Image.Image) -> Iterator[Segment]:
    """Write two pixels a cell: the upper one in the colour of the block, the lower one in that of the ground."""
    width, pixels = image.width, image.tobytes()
    for top in range(0, image.height, 2):
        for column in range(width):
            upper, lower = (3 * ((top + row) * width + column) for row in (0, 1))
            colours = [Color.from_rgb(*pixels[at : at + 3]) for at in (upper, lower)]
            yield Segment("▀", Style(color=colours[0], bgcolor=colours[1]))
        yield Segment.line()


def kitty(data: str, columns: int) -> str:
    """Write base64 of a PNG as kitty's graphics protocol has it: pieces of 4096, no answer asked for (q=2)."""
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    heads = [f"a=T,f=100,q=2,c={columns},", *[""] * (len(pieces) - 1)]
    more = [1] * (len(pieces) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{piece}\x1b\\" for head, m, piece in zip(heads, more, pieces, strict=True))


def iterm(data: str, columns: int) -> str:
    """Write base64 of a PNG as iTerm2's inline-image protocol has it."""
    return f"\x1b]1337;File=inline=1;width={columns};preserveAspectRatio=1:{data}\x07"
