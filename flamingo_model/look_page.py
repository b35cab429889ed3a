"""Batches as one HTML page: texts with thumbnails in place, coloured by the image that a token sees.

    Batch → RowView (`look`) → HTML, a piece at a time; no script, pictures as data: URLs

Text of strangers is escaped, and a policy in the page's head lets it load and run nothing.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flamingo_model.look import (
    IMAGE,
    PADDING,
    SPECIAL,
    Clean,
    MediumView,
    RowView,
    Span,
    Steps,
    facts_of,
    sample_name,
    view_rows,
)

if TYPE_CHECKING:
    from flamingo_model.batch import Batch
    from flamingo_model.tokens import Tokenizer

HUES = (205, 45, 135, 320, 15, 260, 175, 80)
"""Degrees of the colours of a row's images, in turn; neighbours differ."""
JPEG_QUALITY = 80
STYLE = """
:root{color-scheme:light dark;--line:#d7dade;--faint:#5f6670;--card:#fff;--ground:#f4f5f7;--tint:88%;--edge:42%}
@media (prefers-color-scheme:dark){
:root{--line:#3a3f46;--faint:#9aa2ad;--card:#1c1f24;--ground:#121417;--tint:23%;--edge:62%}}
body{font:15px/1.75 system-ui,sans-serif;background:var(--ground);margin:0 auto;padding:1.5rem;max-width:76rem}
h1{font-size:1.3rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 0}
.about,.facts,.more,.key,.row>b{color:var(--faint);font-size:.85rem}
.facts span{margin-right:1.4em;white-space:nowrap}.facts b{color:CanvasText;font-size:1rem;font-weight:600}
.row{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem 1rem .8rem;margin:.8rem 0}
.key{border-top:1px dashed var(--line);margin-top:.7rem;padding-top:.35rem;font-family:ui-monospace,monospace}
.row>b+.key{border:0;margin:0;padding:0}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:0}
i{font-style:normal}.text i:hover{outline:1px solid}
.see{background:hsl(var(--hue) 75% var(--tint));border-radius:3px;padding:.12em 0}
.mute i{color:var(--faint);text-decoration:line-through;text-decoration-thickness:1px;
text-decoration-color:color-mix(in srgb,currentColor 45%,transparent)}
i.special{font:600 .78em ui-monospace,monospace}
sup{font-size:.62em;font-weight:700;color:hsl(var(--hue) 60% var(--edge));user-select:none}
.shot{display:inline-block;vertical-align:middle;margin:.35rem .3rem;border:2px solid hsl(var(--hue) 60% var(--edge));
border-radius:5px;overflow:hidden;line-height:1.3;max-width:100%;width:min-content;background:var(--card)}
.shot img{display:block}.shot span{display:block;font-size:.68rem;padding:0 .35rem;white-space:normal}
.padding{color:var(--faint);font-size:.85rem}.problem{color:#c3272b;font-weight:600;margin:.2rem 0}
.legend .see{padding:.12em .35em;margin-right:.25em}
"""


def page(steps: Steps, tokenizer: Tokenizer, title: str, clean: Clean, rows: int | None = None) -> Iterator[str]:
    """Yield the page; of each batch the first `rows` rows are shown, or all."""
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{safe(title, clean)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><h1>{safe(title, clean)}</h1>\n{legend()}"
    )
    for step, batches in enumerate(steps):
        for name, batch in batches.items():
            yield head(step, safe(name, clean), batch)
            for row in view_rows(batch, tokenizer, rows):
                yield row_html(row, clean)
            if rows is not None and len(batch.tokens) > rows:
                yield f'<p class="more">and {len(batch.tokens) - rows:,} more rows (--rows)</p>\n'
    yield "</body></html>\n"


def safe(text: str, clean: Clean) -> str:
    """Make text of strangers safe for a page."""
    return html.escape(clean(text))


def hue(number: int) -> str:
    """Give the attribute that sets the colour of an image; 0 has none."""
    return f' style="--hue:{HUES[(number - 1) % len(HUES)]}"' if number else ""


def legend() -> str:
    """Say what colours and lines mean."""
    images = "".join(f'<span class="see"{hue(number)}>image {number}</span>' for number in range(1, 6))
    return (
        f'<p class="about legend">Coloured as the image that a token sees: {images}; without colour it sees none. '
        '<span class="mute"><i>Struck</i></span>: no target of the loss. ↵: a line break. '
        "A tooltip gives a token's id, its image (phi), position and sample.</p>\n"
    )


def head(step: int, name: str, batch: Batch) -> str:
    """Write what a batch adds up to."""
    facts = facts_of(batch)
    told = [
        (f"{facts['rows']:,} × {facts['length']:,}", "rows × tokens"),
        (f"{facts['tokens']:,}", "tokens"),
        (f"{facts['targets']:,}", "targets"),
        (f"{facts['padding']:.1%}", "padding"),
        (f"{facts['media']:,}", "images or clips"),
        (f"{facts['frames']:,} × {facts['side_px']} px", "frames"),
    ]
    if facts["samples"] > facts["rows"]:
        told.append((f"{facts['samples'] / facts['rows']:.1f}", "samples a row"))
    spans = "".join(f"<span><b>{value}</b> {unit}</span>" for value, unit in told)
    return f'<h2>step {step} · {name}</h2>\n<p class="facts">{spans}</p>\n'


def row_html(row: RowView, clean: Clean) -> str:
    """Write a row: its samples, each below its key, with their pictures in place."""
    parts = [f'<div class="row"><b>row {row.number}</b>']
    parts += [f'<p class="problem">{safe(problem, clean)}</p>' for problem in row.problems]
    segment, announced, is_open = 0, 0, False
    for run in row.runs():
        first = run[0]
        if first.segment not in (0, segment):
            parts.append("</div>" if is_open else "")
            parts.append(f'<div class="key">{safe(sample_name(row, first.segment), clean)}</div><div class="text">')
            segment, announced, is_open = first.segment, 0, True
        number = first.image_of
        see, mute = "see " if number else "", "" if first.loss else "mute"
        parts.append(f'<span class="{see}{mute}"{hue(number)}>')
        if number != announced and first.what not in (IMAGE, PADDING):
            parts.append(f"<sup>{number}</sup>")
        announced = number
        parts += [span_html(span, row, clean) for span in run]
        parts.append("</span>")
    return "".join([*parts, "</div>" if is_open else "", "</div>\n"])


def span_html(span: Span, row: RowView, clean: Clean) -> str:
    """Write a span: a picture for a tag, the number of tokens for padding, else its text with a tooltip."""
    if span.what == PADDING:
        return f'<span class="padding"> … {span.stop - span.start} padding</span>'
    tip = tooltip(span, row)
    if span.what == IMAGE:
        return picture_html(row.media.get(span.image_of), tip)
    kind = ' class="special"' if span.what == SPECIAL else ""
    return f'<i title="{tip}"{kind}>{safe(span.text, clean).replace(chr(10), "↵" + chr(10))}</i>'


def tooltip(span: Span, row: RowView) -> str:
    """Say of a span's tokens what the model is given with them."""
    ids = " ".join(map(str, row.tokens[span.start : span.stop]))
    position = join_ends(row.position[span.start : span.stop])
    target = "" if span.loss else " · no target"
    return f"id {ids} · phi {span.image_of} · position {position} · segment {span.segment}{target}"


def join_ends(numbers: Sequence[int]) -> str:
    """Write the first and the last of several numbers."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def picture_html(medium: MediumView | None, tip: str) -> str:
    """Write a picture as the model is given it, mirrored where it is; its tooltip says how its colours change."""
    if medium is None:
        return f'<span class="shot" title="{tip}"><span class="problem">no image</span></span>'
    stream = io.BytesIO()
    thumbnail = medium.thumbnail()
    thumbnail.save(stream, "JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    brightness, contrast, saturation = medium.jitter[0].tolist()
    changed = f" · brightness ×{brightness:.2f}, contrast ×{contrast:.2f}, saturation ×{saturation:.2f}"
    return (
        f'<span class="shot" title="{tip}{changed}"><img src="data:image/jpeg;base64,{data}" alt="{medium.told}" '
        f'width="{thumbnail.width}" height="{thumbnail.height}"><span>{medium.told}</span></span>'
    )
