"""The HTML of the demonstration site: a `PageDraft` comes in, the bytes of its page go out.

Around the content stands what the web puts there: menu, banner, adverts, share icons, related links, comments. The
page's kind of dirt decides how images are referred to and how the bytes are coded.
"""

from __future__ import annotations

import base64
from html import escape
from urllib.parse import unquote

from pipeline.demo import words
from pipeline.demo.head import encoding_of, head_html, site_name
from pipeline.demo.page import ADVERT_HOST, CDN, Extra, PageDraft, Section, related
from pipeline.demo.picture import FIGURE_LAYOUTS, Picture
from pipeline.demo.told import text_at
from pipeline.demo.video import Video
from schemas.document import FIGCAPTION, TITLE

ADVERT_FILES = 8
AVATAR_FILES = 6
ICONS = ("share", "like", "mail")

TINY_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
PLACEHOLDER = "data:image/gif;base64," + base64.b64encode(TINY_GIF).decode()

CAPTION_CLASSES = ("caption", "wp-caption-text", "image-caption")
CLOSING_TAGS_LEFT_OUT = ("</p>", "</li>", "</td>", "</tr>", "</figcaption>", "</div>")


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
            heading = f"<h2>{escape(draft.gallery)}</h2>\n" if draft.gallery else ""
            return f'<div class="gallery">{heading}{inner}</div>'
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
    medium = medium_html(draft, section)
    match draft.layout:
        case "gallery":
            return f'<div class="card">{medium}\n{text}</div>'
        case "list":
            return f"<li><strong>{heading}</strong> {medium}\n{text}</li>"
        case "table":
            return f"<tr><td>{medium}</td><td><h3>{heading}</h3>{text}</td></tr>"
        case "thread":
            avatar = draft.dice.between(f"avatar {heading}", 0, AVATAR_FILES - 1)
            face = f'<img class="avatar" src="{draft.root}/avatars/{avatar}.png" width="48" height="48" alt="">'
            return f'<div class="message">{face}<div class="message-body">{text}\n{medium}</div></div>'
        case "story":
            return f"<section>{medium}\n<h2>{heading}</h2>\n{text}</section>\n<hr>"
    return f"<h2>{heading}</h2>\n{medium}\n{text}" if heading else f"{medium}\n{text}"


def medium_html(draft: PageDraft, section: Section) -> str:
    """Write the picture or video of a section with its caption, empty where it has neither."""
    if section.video is not None:
        return video_html(draft, section.video)
    if section.picture is None:
        return ""
    image, caption = image_html(draft, section.picture), escape(section.picture.caption, quote=False)
    if draft.layout in FIGURE_LAYOUTS:
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>" if caption else f"<p>{image}</p>"
    block = f"<p>{image}</p>" if draft.layout == "thread" else image
    kind = draft.dice.pick("caption class", CAPTION_CLASSES)
    return f'{block}\n<p class="{kind}">{caption}</p>' if caption else block


def video_html(draft: PageDraft, video: Video) -> str:
    """Write the video element: one source as an attribute, or elements for all, and the track."""
    title, caption = escape(text_at(video.texts, TITLE)), escape(text_at(video.texts, FIGCAPTION), quote=False)
    first = video.animation.poses[0].scene
    attributes = f' controls width="{first.width_px}" height="{first.height_px}"'
    attributes += f' poster="{address(draft, video.poster)}"' if video.poster else ""
    attributes += f' title="{title}"' if title else ""
    parts = [
        f'<source src="{address(draft, copy.url)}" type="video/{copy.url.rpartition(".")[2]}">' for copy in video.copies
    ]
    if len(parts) == 1 and not video.linked:
        parts, attributes = [], f' src="{address(draft, video.url)}"{attributes}'
    if video.track:
        parts.append(
            f'<track kind="captions" srclang="en" label="English" src="{address(draft, video.track)}" default>'
        )
    element = f"<video{attributes}>{''.join(parts)}<p>{words.NO_VIDEO}</p></video>"
    return f"<figure>{element}<figcaption>{caption}</figcaption></figure>" if caption else f"<div>{element}</div>"


def address(draft: PageDraft, url: str) -> str:
    """Write the address of a video or its track: whole, or from the root."""
    return url if draft.dirt == "base" or draft.dice.unit("absolute") < 0.5 else url.removeprefix(draft.root)


def image_html(draft: PageDraft, picture: Picture) -> str:
    """Write the image element of a picture, as the page's dirt has it."""
    main = picture.copies[0]
    source = reference(draft, main.url, picture.index)
    title = escape(text_at(picture.texts, TITLE))
    told = f'alt="{escape(picture.alt)}"' + (f' title="{title}"' if title else "")
    plain = f'<img src="{source}" {told}>'
    if picture.index % 2:
        plain = f'<img src="{source}" {told} width="{picture.scene.width_px}" height="{picture.scene.height_px}">'
    match draft.dirt:
        case "lazy":
            lazy = f'<img class="lazy" src="{PLACEHOLDER}" data-src="{source}" {told}>'
            return f"{lazy}<noscript>{plain}</noscript>" if picture.index % 2 == 0 else lazy
        case "srcset":
            rows = ", ".join(f"{reference(draft, copy.url, 0)} {copy.width_px}w" for copy in picture.copies)
            smallest = reference(draft, picture.copies[-1].url, 0)
            return f'<img src="{smallest}" srcset="{rows}" sizes="(max-width: 40em) 100vw, 40em" {told}>'
        case "webp":
            better = f'<source type="image/webp" srcset="{reference(draft, picture.copies[1].url, 0)}">'
            return f"<picture>{better}{plain}</picture>"
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
