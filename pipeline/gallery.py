"""What a rule dropped as one HTML page to look at: `dropped.Sample` → HTML, a piece at a time.

There is no script, pictures are data: URLs, addresses are text and no links. What comes from the web is escaped, and a
policy in the page's head lets it load nothing and run nothing; the one style it allows is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator

from pipeline.dropped import PICTURES, Picture, Sample, Shown
from pipeline.evaluation import NEAR_MISS
from pipeline.report import counted, printable

STYLE = """
:root{color-scheme:light dark;--line:#d9dce1;--faint:#5c6470;--card:#fff;--ground:#f3f4f6;--well:#e9ebef;--mark:#8a4b00;
--badge:#fff0d9}
@media (prefers-color-scheme:dark){
:root{--line:#343941;--faint:#9ba4b0;--card:#1b1e23;--ground:#111316;--well:#0b0c0e;--mark:#ffc069;--badge:#3a2a10}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;background:var(--ground);color:CanvasText;margin:0 auto;
padding:2rem 1.5rem 4rem;max-width:88rem}
h1{font-size:1.5rem;margin:0;font-weight:650}h2{font-size:1.05rem;margin:2rem 0 .7rem}
.about{color:var(--faint);margin:.25rem 0 0}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(15.5rem,1fr));padding:0;margin:0;list-style:none}
.cards.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden;display:flex;
flex-direction:column;min-width:0}
.shots{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;gap:1px;background:var(--line)}
figure{margin:0;background:var(--well);display:flex;flex-direction:column;min-width:0}
.well{height:12.5rem;display:flex;align-items:center;justify-content:center;padding:.5rem}
.well img{max-width:100%;max-height:100%;object-fit:contain;display:block}
.wide .well img{width:100%;height:100%}
.none{color:var(--faint);font-size:.85rem;text-align:center}
figcaption{font-size:.75rem;color:var(--faint);padding:.3rem .6rem;background:var(--card);overflow-wrap:anywhere}
.said{padding:.6rem .8rem .75rem;display:flex;flex-direction:column;gap:.35rem;min-width:0}
.why{font-weight:600;overflow-wrap:anywhere}
.badge{background:var(--badge);color:var(--mark);border-radius:99px;padding:.1rem .6rem;font-size:.8rem;font-weight:600;
align-self:start}
.quote{overflow-wrap:anywhere;unicode-bidi:isolate;margin:0}
.quote b{color:var(--faint);font-size:.75rem;font-weight:500;margin-right:.4em}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:0;border-left:3px solid var(--line);
padding-left:.7rem;max-height:18rem;overflow:auto}
.url{font:.72rem/1.4 ui-monospace,monospace;color:var(--faint);overflow-wrap:anywhere;margin:0}
"""
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
GROUPS = (("Pictures", PICTURES), ("Pages", ("page",)), ("Paragraphs", ("paragraph",)))


def page(sample: Sample, dataset: str) -> Iterator[str]:
    """Yield the page of what a rule of a dataset dropped."""
    title = f"{sample.reason} in {dataset}"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">\n'
        f"<title>{safe(title)}</title>\n<style>{STYLE}</style></head>\n"
        f'<body><h1>{safe(sample.reason)}</h1>\n<p class="about">{safe(about(sample, dataset))}</p>\n'
    )
    known = {kind for _, kinds in GROUPS for kind in kinds}
    for name, kinds in (*GROUPS, ("Others", tuple(sorted({one.kind for one in sample.shown} - known)))):
        chosen = [one for one in sample.shown if one.kind in kinds]
        if chosen:
            wide = " wide" if name != "Pictures" or any(one.copy_of for one in chosen) else ""
            yield f'<h2>{name}</h2>\n<ul class="cards{wide}">\n'
            for one in chosen:
                yield card(one)
            yield "</ul>\n"
    yield "</body></html>\n"


def about(sample: Sample, dataset: str) -> str:
    """Say what is shown, of how much."""
    verb = "kept though near to a picture of an evaluation set" if sample.reason == NEAR_MISS else "dropped"
    totals = ", ".join(counted(count, kind) for kind, count in sorted(sample.totals.items()))
    return f"{dataset} · {verb}: {totals} · shown: {len(sample.shown):,}, evenly sampled; a picture once for all places"


def safe(text: str, one_line: bool = True) -> str:
    """Make text of strangers safe for a page."""
    return html.escape(printable(text, one_line))


def card(one: Shown) -> str:
    """Write a thing that was dropped: its picture or text, why, and where it stood."""
    parts = ['<li class="card">']
    if one.kind in PICTURES:
        ours = figure(one.thumbnail, "picture not held", "here" if one.copy_of else "")
        other = theirs(one.copy_of) if one.copy_of else ""
        parts.append(f'<div class="shots">{ours}{other}</div>')
    parts.append('<div class="said">')
    if one.copy_of:
        told = "equal file" if one.copy_of.bits is None else f"{one.copy_of.bits} of 256 bits apart"
        told = told if one.copy_of.cosine is None else f"cosine {one.copy_of.cosine:.6f}"
        parts.append(f'<span class="badge">{told}</span>')
    elif one.detail:
        parts.append(f'<div class="why">{safe(one.detail)}</div>')
    if one.kind in PICTURES:
        parts += [quote(name, text) for name, text in (("alt", one.text), ("caption", one.caption)) if text]
    elif one.text:
        parts.append(f'<p class="text">{safe(one.text, one_line=False)}</p>')
    parts.append(f'<p class="url">{safe(one.url)}</p>' if one.url else "")
    if one.page_url and one.page_url != one.url:
        parts.append(f'<p class="url">on {safe(one.page_url)}</p>')
    places = f" · {one.places:,} rows" if one.places > 1 else ""
    parts.append(f'<p class="url">{safe(one.stage)}{places}</p>')
    return "".join([*parts, "</div></li>\n"])


def theirs(picture: Picture) -> str:
    """Write the picture of an evaluation set."""
    return figure(picture.thumbnail, "set not at hand", f"{picture.set}: {picture.name}")


def figure(thumbnail: bytes, otherwise: str, caption: str) -> str:
    """Write a picture, or what is said where there is none."""
    data = base64.b64encode(thumbnail).decode()
    shot = f'<img src="data:image/jpeg;base64,{data}" alt="">' if data else f'<span class="none">{otherwise}</span>'
    told = f"<figcaption>{safe(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="well">{shot}</div>{told}</figure>'


def quote(name: str, text: str) -> str:
    """Write what a page says of a picture."""
    return f'<p class="quote"><b>{name}</b>{safe(text)}</p>'
