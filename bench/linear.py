"""What one page costs as it grows: milliseconds of extraction for 1,000 to 8,000 of everything that can be many.

    python bench/linear.py

Prints the time (CPU, the best of three rounds) or the reason of the rejection, and how much dearer twice as much is;
then an ordinary article of 5 MB, and what a page that passes its time limit leaves behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.dom import TIMEOUT, TOO_MANY_NODES
from pipeline.extract import ExtractConfig, extract_document
from pipeline.nesting import TOO_DEEP, TOO_MANY_ATTRIBUTES
from schemas.document import Document
from schemas.page import Origin, Page, Rejected

SIZES = (1_000, 2_000, 4_000, 8_000)
ROUNDS = 3
PROSE = "The ferry leaves the harbour at seven in the morning, and it returns in the evening with a few visitors. "
FIGURE = "<figure><img src=i{0}.jpg width=640 height=480><figcaption>A boat in the harbour.</figcaption></figure>"
ARTICLE_BYTES = 5_000_000
LIMITS = (TOO_MANY_NODES, TOO_DEEP, TOO_MANY_ATTRIBUTES, TIMEOUT)
"""Reasons for which a page is rejected half read; any other page is read to its end."""

SHAPES: dict[str, Callable[[int], str]] = {
    "nested div": lambda n: "<div>" * n + PROSE + "</div>" * n,
    "nested div, text in each": lambda n: "<div>x y" * n + "z</div>" * n,
    "nested named wrappers": lambda n: "".join(f"<div class='post-{i} content wp-caption' id=w{i}>a" for i in range(n)),
    "nested figures": lambda n: "<figure><img src=a.jpg><figcaption>x" * n,
    "nested captions": lambda n: "<img src=a.jpg>" + "<div class=caption>x" * n,
    "nested lists": lambda n: "<ul><li>x" * (n // 2),
    "nested tables": lambda n: "<table><tr><td>x" * (n // 4),
    "nested tables with pictures": lambda n: "<table><tr><td><img src=a.jpg><tr><td class=caption>x" * (n // 4),
    "unclosed b": lambda n: "<p><b>x" * n,
    "unclosed font, each another": lambda n: "".join(f"<p><font size={i}>x" for i in range(n)),
    "unclosed a": lambda n: "".join(f"<p><a href=/{i}>x y" for i in range(n)),
    "siblings p": lambda n: f"<p>{PROSE}</p>" * n,
    "siblings div, each another class": lambda n: "".join(f"<div class='c{i} item'>x</div>" for i in range(n)),
    "text and inline elements": lambda n: "<p>" + "word <em>word</em> <span>word</span> " * n,
    "one long class": lambda n: f"<p>x<div class='{'nav related ' * n}'>y</div>",
    "one long text": lambda n: "<p>" + PROSE * n,
    "one word": lambda n: "<p>" + "x" * 100 * n,
    "full stops": lambda n: "<p>" + ". " * 50 * n + "<p>" + "!" * 100 * n,
    "br-paragraphs": lambda n: "<div>" + f"{PROSE}<br><br>" * n,
    "br only": lambda n: "<div>x" + "<br> " * 10 * n,
    "linked br-paragraphs": lambda n: "<div><a href=x.jpg>" + "word word<br><br>" * n,
    "pre lines": lambda n: "<pre>" + "word  word  \n" * 10 * n,
    "headings": lambda n: "<h2>A heading</h2>" * n + PROSE,
    "headings called as the title": lambda n: f"<title>{'word ' * n}</title>" + "<h1>word word</h1>" * n,
    "links in a list": lambda n: "<ul>" + "<li><a href=x>A link to a page</a>" * n + "</ul>",
    "links in one paragraph": lambda n: "<p>" + "<a href=x>a link</a>, " * n,
    "teasers": lambda n: f"<div class=item><h3><a href=x>{PROSE[:40]}</a></h3><p>x</p></div>" * n,
    "pictures": lambda n: "".join(f"<p><img src=i{i}.jpg width=640 height=480>" for i in range(n)),
    "pictures in one block": lambda n: "<p>" + "<img src=i.jpg>" * n,
    "pictures in one figure": lambda n: (
        "<figure>" + "<img src=i.jpg>" * n + f"<figcaption>{PROSE}</figcaption></figure>"
    ),
    "pictures with fallbacks": lambda n: "<div><img data-src=a.jpg><noscript><img src=a.jpg></noscript></div>" * n,
    "pictures and texts by turns": lambda n: f"<p>{PROSE}</p><img src=a.jpg>" * n,
    "figures": lambda n: "".join(FIGURE.format(i) for i in range(n)),
    "figures by their shape": lambda n: "<div><img src=a.jpg><p>A boat.</p></div>" * n,
    "captions without pictures": lambda n: "<p class=caption>A boat.</p>" * n,
    "captions, then pictures": lambda n: "<p class=caption>A boat.</p>" * n + "<img src=a.jpg>" * n,
    "pictures, then captions": lambda n: "<img src=a.jpg>" * n + "<p class=caption>A boat.</p>" * n,
    "one figure, many captions": lambda n: "<figure><img src=a.jpg>" + "<p class=caption>A boat.</p>" * n + "</figure>",
    "videos": lambda n: "<video src=v.mp4></video><p>x</p>" * n,
    "rows of data": lambda n: "<table>" + "<tr><td>one<td>two<td>three" * n + "</table>",
    "cells in one row": lambda n: "<table><tr>" + "<td>one" * n + "<tr><td>x<td>y</table>",
    "rows that reach down": lambda n: "<table>" + "<tr><td rowspan=1000>one<td>two" * n + "</table>",
    "wide cells": lambda n: "<table>" + "<tr><td colspan=1000>one<td colspan=1000>two" * n + "</table>",
    "rows of pictures": lambda n: "<table>" + "<tr><td><img src=a.jpg><tr><td class=caption>x" * n + "</table>",
    "pictures that wait": lambda n: "<table>" + "<tr><td><img src=a.jpg><td>x" * n + "<tr><td class=caption>c</table>",
    "pictures that wait, captions apart": lambda n: (
        "<table>" + "<tr><td><img src=a.jpg><td>x<td colspan=9>y<tr><td class=caption>c" * n + "</table>"
    ),
    "captions in one row": lambda n: (
        "<table><tr>" + "<td><img src=a.jpg>" * n + "<tr>" + "<td class=caption>c" * n + "</table>"
    ),
    "tables": lambda n: "<table><tr><th>a<th>b<tr><td>1<td>2</table>" * n,
    "definition lists": lambda n: "<dl>" + "<dt>word<dd>It means something." * n + "</dl>",
    "srcset candidates": lambda n: f"<img srcset='{', '.join(f'i{i}.jpg {i + 1}w' for i in range(n))}'>" + PROSE,
    "srcset brackets": lambda n: f"<img srcset='a.jpg {'(' * 10 * n}'><img srcset='a.jpg {'(),' * 4 * n}'>" + PROSE,
    "sources of a picture": lambda n: "<picture>" + "<source srcset='a.jpg 300w'>" * n + "<img src=a.jpg></picture>",
    "pictures of a picture": lambda n: "<picture>" + "<source srcset='a.jpg 300w'><img src=a.jpg>" * n + "</picture>",
    "styles": lambda n: "".join(f"<p style='{' ' * 100}color:red'>x" for _ in range(n)),
    "one long style": lambda n: f"<p style='{'display ' * 10 * n}'>x",
    "attributes of one tag": lambda n: "<p " + " ".join(f"a{i}=x" for i in range(n)) + ">x",
    "metas": lambda n: "<meta property=og:image content=/i.jpg><meta name=author content=Ann>" * n + PROSE,
}


def page_of(html: str) -> Page:
    return Page("https://h.example/page", html.encode(), "utf-8", None, Origin("linear", 0))


def timed(page: Page, config: ExtractConfig, rounds: int) -> tuple[Document | Rejected, float]:
    """Extract a page; returns the CPU seconds of the best round."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        found = extract_document(page, config)
        best = min(best, time.process_time() - started)
    return found, best


def article(size: int) -> str:
    """Write an article of about as many bytes, with as much markup for each text and picture as real pages have."""
    link = "<a href='https://h.example/news/2021/05/the-ferry-{0}.html' class='link link--inline'>the <b>ferry</b></a>"
    paragraph = (
        f"<div class='paragraph__wrapper'><p class='article__text'>{PROSE * 3}<em>See</em> {link}, {PROSE}</p></div>\n"
    )
    section = f"<h2 id=s{{0}}>Winter</h2>{paragraph * 3}{FIGURE}{paragraph * 3}<ul><li>One boat<li>Two boats</ul>\n"
    script = f"<script>{'window.track(1);' * 60}</script>"
    sections, length = [], 0
    while length < size:
        sections.append(section.format(len(sections)) + script)
        length += len(sections[-1])
    return f"<title>The ferry</title><main><h1>The ferry</h1>{''.join(sections)}</main>"


def print_growth() -> None:
    print(f"{'milliseconds for':36}" + "".join(f"{size:>10,}" for size in SIZES) + f"{'growth':>10}")
    for name, write in SHAPES.items():
        found = [timed(page_of(write(size)), ExtractConfig(), ROUNDS) for size in SIZES]
        cells = [
            one.reason if isinstance(one, Rejected) and one.reason in LIMITS else f"{1_000 * seconds:.1f}"
            for one, seconds in found
        ]
        growth = found[-1][1] / found[-2][1]
        shown = "" if cells[-1][0].isalpha() or cells[-2][0].isalpha() else f"{growth:.1f}x"
        print(f"{name:36}" + "".join(f"{cell[:9]:>10}" for cell in cells) + f"{shown:>10}")


def main() -> None:
    print_growth()
    page = page_of(article(ARTICLE_BYTES))
    found, seconds = timed(page, ExtractConfig(), ROUNDS)
    assert isinstance(found, Document)
    print(f"\nan article of {len(page.html) / 1e6:.1f} MB: {seconds:.2f} CPU-s, {len(found.items):,} items")
    sound = page_of(article(50_000))
    before, _ = timed(sound, ExtractConfig(), 1)
    limit = 0.05
    stopped, seconds = timed(page, ExtractConfig(timeout_s=limit), 1)
    after, _ = timed(sound, ExtractConfig(), 1)
    assert isinstance(stopped, Rejected)
    print(f"the same with a limit of {limit} s: {stopped.reason} after {seconds:.2f} CPU-s; ", end="")
    print(f"the next page is extracted {'as before' if after == before else 'DIFFERENTLY'}")


if __name__ == "__main__":
    main()
