"""The HTML of the demonstration site: a `PageDraft` comes in, the bytes of its page go out.

Around the content stands what the web puts there: menu, banner, adverts, share icons, related links, comments. The
page's kind of dirt decides how images are referred to and how the bytes are coded.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from html import escape
from urllib.parse import unquote

from pipeline.demo import words
from pipeline.demo.page import ADVERT_HOST, CDN, Extra, PageDraft, Picture, Section, cast_of, image_folder, related

ADVERT_FILES = 8
AVATAR_FILES = 6
ICONS = ("share", "like", "mail")

TINY_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
PLACEHOLDER = "data:image/gif;base64," + base64.b64encode(TINY_GIF).decode()

FIRST_DAY = datetime(2025, 1, 1, 9, tzinfo=UTC)
LICENCES = ("by/4.0", "by-sa/4.0", "by-nc/4.0")
CLOSING_TAGS_LEFT_OUT = ("</p>", "</li>", "</td>", "</tr>", "</figcaption>", "</div>")


def encoding_of(draft: PageDraft) -> str:
    """Return the charset of the page's bytes."""
    return "iso-8859-1" if draft.dirt.startswith("latin1") else "utf-8"


def page_bytes(draft: PageDraft) -> bytes:
    """Write a page as HTML in its charset; what the charset lacks becomes a character reference."""
    content = f"<h1>{escape(draft.title)}</h1>\n{intro_html(draft)}\n{body_html(draft)}\n{paragraphs(draft.outro)}"
    if draft.dirt == "unclosed":
        for tag in CLOSING_TAGS_LEFT_OUT:
            content = content.replace(tag, "")
    main = f'<main id="content"><article class="post {draft.layout}">\n{content}\n</article></main>'
    html = (
        f'<!DOCTYPE html>\n<html lang="{draft.language}">\n{head_html(draft)}\n<body>\n{header_html(draft)}\n'
        f"{main}\n{around_html(draft)}\n</body>\n</html>\n"
    )
    return html.encode(encoding_of(draft), "xmlcharrefreplace")


def head_html(draft: PageDraft) -> str:
    """Write the head; a page may keep its charset or its robots rules out of it."""
    lines = [f"<title>{escape(draft.title)} | {escape(site_name(draft))}</title>"]
    if draft.dirt != "latin1_header":
        lines.insert(0, f'<meta charset="{encoding_of(draft)}">')
    if draft.dirt == "base":
        lines.append(f'<base href="{image_folder(draft.url, draft.dirt, draft.dice)}/">')
    if draft.dirt == "robots_meta":
        lines.append('<meta name="robots" content="noindex, noai, noimageai">')
    lines.append('<meta name="viewport" content="width=device-width, initial-scale=1">')
    lines.append(f'<meta property="og:title" content="{escape(draft.title)}">')
    lines += said_lines(draft)
    lines.append("<style>body{font-family:sans-serif;max-width:60rem;margin:auto}.cookie{position:fixed}</style>")
    lines.append('<script>window.dataLayer = [{"event": "page", "paid": "<p>no text of the page</p>"}];</script>')
    return "<head>\n" + "\n".join(filter(None, lines)) + "\n</head>"


@dataclass(frozen=True, slots=True)
class Said:
    """What a page says of itself; empty where it says nothing."""

    canonical: str = ""
    published: datetime | None = None
    author: str = ""
    licence: str = ""


def said_by(draft: PageDraft) -> Said:
    """Return what a page says of itself; one page in four says nothing."""
    if draft.index % 4 == 3:
        return Said()
    licence = f"https://creativecommons.org/licenses/{LICENCES[draft.index % len(LICENCES)]}/"
    day = FIRST_DAY + timedelta(days=draft.index % 300)
    return Said(draft.url, day, cast_of(draft.seed, draft.index)[0], licence)


def said_lines(draft: PageDraft) -> list[str]:
    """Write what a page says of itself as Open Graph has it, as JSON-LD or as Dublin Core, by the page's number."""
    said = said_by(draft)
    if said.published is None:
        return []
    author, url = escape(said.author), escape(said.canonical)
    match draft.index % 4:
        case 0:
            return [
                f'<link rel="canonical" href="{url}">',
                f'<link rel="license" href="{said.licence}">',
                f'<meta name="author" content="{author}">',
                f'<meta property="article:published_time" content="{said.published.isoformat()}">',
            ]
        case 1:
            person = {"@type": "Person", "@id": "#author", "name": said.author}
            day = said.published.isoformat().replace("+00:00", "Z")
            article = {"@type": "Article", "url": said.canonical, "author": {"@id": "#author"}, "datePublished": day}
            graph = {"@context": "https://schema.org", "@graph": [article | {"license": said.licence}, person]}
            lines = ["//<![CDATA[", json.dumps(graph, indent=1), "//]]>"]
            return [f'<link rel="canonical" href="{url}">', '<script type="application/ld+json">', *lines, "</script>"]
    return [
        f'<meta property="og:url" content="{url}">',
        f'<meta name="dcterms.license" content="{said.licence}deed.en">',
        f'<meta name="DC.creator" content="By {author}">',
        f'<meta name="DC.date.issued" content="{format_datetime(said.published)}">',
    ]


def site_name(draft: PageDraft) -> str:
    """Return the name of the page's site."""
    return words.SITE_NAMES[draft.url.split("/")[2]]


def header_html(draft: PageDraft) -> str:
    """Write cookie banner, logo and menu."""
    items = "".join(f'<li><a href="{draft.root}/{name.lower()}/">{name}</a></li>' for name in words.MENU)
    return (
        f'<div class="cookie cookie-banner" role="dialog"><p>{words.COOKIES}</p><button>Accept</button></div>\n'
        f'<header class="site-header"><a href="{draft.root}/"><img src="{draft.root}/logo.png" width="120" height="60" '
        f'alt="{escape(site_name(draft))}"></a>\n<nav class="menu"><ul>{items}</ul></nav></header>'
    )


def paragraphs(texts: tuple[str, ...]) -> str:
    """Write paragraphs."""
    return "\n".join(f"<p>{escape(text, quote=False)}</p>" for text in texts)


def intro_html(draft: PageDraft) -> str:
    """Write the introduction and what the page's dirt puts beside it."""
    parts = [paragraphs(draft.intro)]
    if draft.dirt == "hidden":
        parts.append(f'<p style="display:none">{words.HIDDEN}</p><div hidden><p>{words.HIDDEN}</p></div>')
        parts.append(f"<template><p>{words.HIDDEN}</p></template>")
    if draft.dirt == "odd_names":
        parts.append(f'<p><a href="/über uns/ein weg.html">{words.ODD_LINK}</a></p>')
    parts += [extra_html(extra) for extra in draft.extras]
    return "\n".join(parts)


def extra_html(extra: Extra) -> str:
    """Write an image that should not be kept."""
    size = ' width="1" height="1"' if extra.why in ("pixel", "spacer") else ""
    return f'<p><img src="{extra.url}" alt="{extra.alt}"{size}></p>'


def body_html(draft: PageDraft) -> str:
    """Write the sections in the page's layout, an advert after the first."""
    blocks = [section_html(draft, section) for section in draft.sections]
    if draft.layout in ("article", "gallery", "story", "thread") and blocks:
        blocks.insert(1, advert_html(draft, 0))
    inner = "\n".join(blocks)
    match draft.layout:
        case "gallery":
            return f'<div class="gallery">{inner}</div>'
        case "list":
            return f"<ol>{inner}</ol>"
        case "table":
            return nested_table(inner) if draft.dirt == "nested_tables" else f"<table><tbody>{inner}</tbody></table>"
    return inner


def nested_table(rows: str) -> str:
    """Put the rows of a table into tables of tables."""
    for _ in range(3):
        rows = f"<tr><td><table><tbody>{rows}</tbody></table></td></tr>"
    return f"<table><tbody>{rows}</tbody></table>"


def section_html(draft: PageDraft, section: Section) -> str:
    """Write a section in the page's layout."""
    heading, text = escape(section.heading), paragraphs(section.paragraphs)
    picture = section.picture
    image = "" if picture is None else image_html(draft, picture)
    figure = "" if picture is None else figure_html(image, picture)
    match draft.layout:
        case "gallery":
            return f'<div class="card">{figure}\n{text}</div>'
        case "list":
            return f"<li><strong>{heading}</strong> {image}\n{text}</li>"
        case "table":
            return f"<tr><td>{image}</td><td><h3>{heading}</h3>{text}</td></tr>"
        case "thread":
            avatar = draft.dice.between(f"avatar {heading}", 0, AVATAR_FILES - 1)
            face = f'<img class="avatar" src="{draft.root}/avatars/{avatar}.png" width="48" height="48" alt="">'
            return f'<div class="message">{face}<div class="message-body">{text}\n<p>{image}</p></div></div>'
        case "story":
            return f"<section>{image}\n<h2>{heading}</h2>\n{text}</section>\n<hr>"
    if not heading:
        return f"{figure}\n{text}"
    return f"<h2>{heading}</h2>\n{figure}\n{text}"


def figure_html(image: str, picture: Picture) -> str:
    """Write a figure with its caption, or the bare image where there is none."""
    if not picture.caption:
        return f"<p>{image}</p>"
    return f"<figure>{image}<figcaption>{escape(picture.caption, quote=False)}</figcaption></figure>"


def image_html(draft: PageDraft, picture: Picture) -> str:
    """Write the image element of a picture, as the page's dirt has it."""
    main = picture.copies[0]
    address, alt = reference(draft, main.url, picture.index), escape(picture.alt)
    plain = f'<img src="{address}" alt="{alt}">'
    if picture.index % 2:
        plain = f'<img src="{address}" alt="{alt}" width="{picture.scene.width_px}" height="{picture.scene.height_px}">'
    match draft.dirt:
        case "lazy":
            lazy = f'<img class="lazy" src="{PLACEHOLDER}" data-src="{address}" alt="{alt}">'
            return f"{lazy}<noscript>{plain}</noscript>" if picture.index % 2 == 0 else lazy
        case "srcset":
            rows = ", ".join(f"{reference(draft, copy.url, 0)} {copy.width_px}w" for copy in picture.copies)
            smallest = reference(draft, picture.copies[-1].url, 0)
            return f'<img src="{smallest}" srcset="{rows}" sizes="(max-width: 40em) 100vw, 40em" alt="{alt}">'
        case "webp":
            source = f'<source type="image/webp" srcset="{reference(draft, picture.copies[1].url, 0)}">'
            return f"<picture>{source}{plain}</picture>"
        case "repeated" if picture.index == 0:
            return f'{plain} {plain} <img src="{reference(draft, picture.copies[1].url, 0)}" alt="">'
    return plain


def reference(draft: PageDraft, url: str, index: int) -> str:
    """Write the address of an image: absolute, from the root, relative or without a scheme."""
    if draft.dirt == "base":
        return url.rpartition("/")[2]
    if draft.dirt == "odd_names":
        return unquote(url.removeprefix(draft.root))
    path = url.removeprefix(draft.root)
    if draft.dirt == "relative" and path != url:
        return (f"..{path}", f"../{draft.layout}/..{path}", path, url.removeprefix("https:"))[index % 4]
    return path if draft.dice.unit("absolute") < 0.5 else url


def advert_html(draft: PageDraft, slot: int) -> str:
    """Write an advert; its image is one of a few that stand on many pages."""
    number = draft.dice.between(f"advert {slot}", 0, ADVERT_FILES - 1)
    text = draft.dice.pick(f"advert text {slot}", words.ADVERTS)
    image = f'<img src="{ADVERT_HOST}/creative/{number}.jpg" width="300" height="250" alt="Advertisement">'
    return f'<div class="ad"><a href="{ADVERT_HOST}/click?id={number}" rel="sponsored">{image}</a><p>{text}</p></div>'


def around_html(draft: PageDraft) -> str:
    """Write what follows the content: share icons, related links, adverts, comments, footer."""
    icons = "".join(
        f'<li><a href="#"><img src="{draft.root}/icons/{icon}.png" width="16" height="16" alt="{icon}"></a></li>'
        for icon in ICONS
    )
    links = "".join(
        f'<li><a href="{link.url}"><img src="{link.thumbnail}" width="120" alt="">{escape(link.title)}</a></li>'
        for link in related(draft)
    )
    parts = [f'<div class="share social-share"><h3>{words.SHARE}</h3><ul>{icons}</ul></div>']
    parts.append(f'<aside class="related"><h3>{words.RELATED}</h3><ul>{links}</ul></aside>' if links else "")
    slots = 3 if draft.dirt == "adverts" else 1
    parts += [advert_html(draft, slot) for slot in range(1, slots + 1)]
    if draft.dirt == "comments" or draft.dice.unit("comments") < 0.3:
        parts.append(comments_html(draft))
    pixel = f'<img src="{CDN}/pixel.gif" width="1" height="1" alt="">' if draft.dirt == "pixels" else ""
    parts.append(f'<div class="newsletter"><p>{words.NEWSLETTER}</p><form><input type="email"></form></div>')
    parts.append(f'<footer class="site-footer"><p>{words.FOOTER}</p>{pixel}</footer>')
    return "\n".join(filter(None, parts))


def comments_html(draft: PageDraft) -> str:
    """Write the comments below a page."""
    chosen = draft.dice.order("comment order", words.COMMENTS)[:3]
    rows = "".join(f'<li class="comment"><p>{escape(text)}</p></li>' for text in chosen)
    return f'<section id="comments" class="comments"><h3>Comments</h3><ol class="comment-list">{rows}</ol></section>'
