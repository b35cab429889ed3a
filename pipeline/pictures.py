"""Which URL a picture or video of a page has: srcset, picture sources, lazy loading, placeholders.

(Tree, index of an img) → ImageRef | None      (Tree, index of a video) → VideoRef | None      (SPEC-corpus 3)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.dom import TEXT, Tree
from pipeline.nesting import words
from pipeline.urls import MAX_URL_CHARS, join_url
from schemas.document import TITLE, ImageRef, Said, Track, VideoRef

LAZY_SRCSETS = ("data-srcset", "data-lazy-srcset", "data-original-set", "lazy-srcset")
LAZY_SOURCES = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-hi-res-src", "data-full-src", "data-actualsrc",
    "data-echo", "data-img-src", "lazy-src",
)  # fmt: skip
"""Attributes in which scripts keep the real URL, the most common first."""
NOTED_SOURCES = ("data-orig-file", "data-large-file", "data-image", "data-url")
"""Attributes that note another copy of a picture: they count where `src` is no picture."""

PLACEHOLDERS = (
    "blank", "spacer", "placeholder", "pixel", "transparent", "lazy", "loading", "loader", "clear", "dummy", "empty",
    "1x1", "grey", "gray",
)  # fmt: skip
"""Names of placeholders; a reference without one needs no regex."""
PLACEHOLDER = re.compile(
    rf"(?:^|[/_.-])(?:{'|'.join(PLACEHOLDERS)})"
    r"(?:[_-]?(?:image|img|gif|\d+|\d+x\d+))?\.(?:gif|png|jpe?g|svg|webp)(?:[?#]|$)"
)
ONE_PIXEL = re.compile("base64,R0lGOD[ld]hAQAB")
"""The beginning of a GIF of one pixel, whatever follows."""

MAX_INLINE_CHARS = 1_000
"""Characters up to which a `data:` picture is a placeholder, and that are kept of a longer one."""

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
MAX_SRCSET_CHARS = 65_536
MAX_SOURCES = 64
"""Nodes of a `picture` that are looked at for sources."""

FEW_TYPES = frozenset(["", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif"])
"""Types of a source that every decoder reads."""

NOT_SPACE = re.compile(r"[^ \t\n\f\r]+")
DESCRIPTORS = re.compile(r"[^,(]*(?:\([^)]*(?:\)|$)[^,(]*)*")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a srcset: `width_px` or `density` as given, 0 where not."""

    url: str
    width_px: int = 0
    density: float = 0.0


def parse_srcset(text: str) -> list[Candidate]:
    """Read a srcset as the HTML standard does: URLs may hold commas, and a comma ends a candidate only after one."""
    candidates, position, text = [], 0, text[:MAX_SRCSET_CHARS]
    while (match := NOT_SPACE.search(text, position)) is not None:
        word, position = match[0], match.end()
        url = word.strip(",")
        descriptors = ""
        if not word.endswith(","):
            end = DESCRIPTORS.match(text, position)
            descriptors, position = (end[0], end.end() + 1) if end else ("", position)
        if url:
            candidates.append(read_candidate(url, descriptors))
    return candidates


WIDTH = re.compile(r"\s[0-9]{1,7}w(?:[\s,]|$)")
WIDTH_GIVEN = re.compile(r"(?:^|\s)(\d{1,7})w(?:\s|$)")
DENSITY_GIVEN = re.compile(r"(?:^|\s)(\d{1,4}(?:\.\d{1,4})?)x(?:\s|$)")


def read_candidate(url: str, descriptors: str) -> Candidate:
    """Read the width or density of a candidate; what is malformed counts as not given."""
    width = WIDTH_GIVEN.search(descriptors) if "w" in descriptors else None
    density = DENSITY_GIVEN.search(descriptors) if "x" in descriptors else None
    return Candidate(url, int(width[1]) if width else 0, float(density[1]) if density else 0.0)


def choose_candidate(candidates: list[Candidate], wanted_px: int, shown_px: int | None) -> str:
    """Choose the narrowest candidate that is at least `wanted_px` wide, else the widest; the first of equals.

    A density is worth the width the page shows the picture at (`shown_px`).
    """
    widths = [one.width_px or int((one.density or 1.0) * (shown_px or 1)) for one in candidates]
    best = min(range(len(widths)), key=lambda i: (widths[i] < wanted_px, abs(widths[i] - wanted_px)))
    return candidates[best].url


def find_image(tree: Tree, index: int, base: str, wanted_px: int) -> ImageRef | None:
    """Describe an `img`; None if it names no picture, or only a placeholder that a `noscript` beside it replaces.

    A reference that cannot be resolved is kept as it is written, so that the fetch can say what is wrong with it.
    """
    attributes = tree.attributes[index]
    width_px, height_px = (side_of(attributes.get(name)) for name in ("width", "height"))
    src = (attributes.get("src") or "").strip()
    url = next(filter(None, image_urls(tree, index, base, wanted_px)), None)
    if url is None and src and not is_placeholder(src):
        url = join_url(base, src) or write_plainly(src) or None
    if url is None:
        url = next(filter(None, lazy_urls(attributes, NOTED_SOURCES, base)), None)
    if url is None and src and src[:5].lower() != "data:" and not noscript_follows(tree, index):
        url = join_url(base, src)
    if url is None:
        return None
    return ImageRef(url, " ".join((attributes.get("alt") or "").split()), "", width_px, height_px)


def write_plainly(src: str) -> str:
    """Write down a reference that cannot be resolved, without what cannot be printed and not all of a long one."""
    most = MAX_INLINE_CHARS if src[:5].lower() == "data:" else MAX_URL_CHARS
    return CONTROLS.sub("", src).removeprefix("./")[:most]


def image_urls(tree: Tree, index: int, base: str, wanted_px: int) -> Iterator[str | None]:
    """Try the places that are better than `src`, the best first."""
    attributes = tree.attributes[index]
    shown_px = side_of(attributes.get("width"))
    for name in (*LAZY_SRCSETS, "srcset"):
        if text := attributes.get(name):
            yield from srcset_url(text, base, wanted_px, shown_px)
    for text in picture_sources(tree, index):
        yield from srcset_url(text, base, wanted_px, shown_px)
    yield from lazy_urls(attributes, LAZY_SOURCES, base)


def lazy_urls(attributes: dict[str, str | None], names: tuple[str, ...], base: str) -> Iterator[str | None]:
    """Try attributes in which scripts keep a URL."""
    for name in names:
        if (text := attributes.get(name)) and not is_placeholder(text):
            yield join_url(base, text)


def srcset_url(text: str, base: str, wanted_px: int, shown_px: int | None) -> Iterator[str | None]:
    """Choose among the candidates of a srcset that name a picture."""
    candidates = parse_srcset(text)
    if candidates and is_placeholder(choose_candidate(candidates, wanted_px, shown_px)):
        candidates = [candidate for candidate in candidates if not is_placeholder(candidate.url)]
    if candidates:
        yield join_url(base, choose_candidate(candidates, wanted_px, shown_px))


def picture_sources(tree: Tree, index: int) -> list[str]:
    """List the srcsets of a picture's sources, the best first: of common types, and not meant for narrow screens.

    Srcsets that give widths are joined into one, from which the wanted width is chosen.
    """
    picture = tree.parents[index]
    if picture < 0 or tree.tags[picture] != "picture":
        return []
    ranked: list[tuple[bool, bool, str]] = []
    for node in range(picture + 1, min(index, picture + MAX_SOURCES)):
        attributes = tree.attributes[node]
        text = tree.tags[node] == "source" and (attributes.get("data-srcset") or attributes.get("srcset"))
        if text:
            rare = (attributes.get("type") or "").lower() not in FEW_TYPES
            narrow = "max-width" in (attributes.get("media") or "")
            ranked.append((rare, narrow, text))
    ranked.sort(key=lambda source: source[:2])
    wide = [text for rare, _, text in ranked if not rare and WIDTH.search(text)]
    return [", ".join(wide), *(text for _, _, text in ranked)] if wide else [text for _, _, text in ranked]


def is_placeholder(reference: str) -> bool:
    """Say whether a reference stands for a picture that a script puts there later."""
    text = reference.strip()
    if text[:5].lower() == "data:":
        return len(text) <= MAX_INLINE_CHARS or ONE_PIXEL.search(text, 0, 100) is not None
    end = text[-200:].lower()
    named = any(map(end.__contains__, PLACEHOLDERS)) and PLACEHOLDER.search(end)
    return text in ("", "#", "about:blank") or bool(named)


def noscript_follows(tree: Tree, index: int) -> bool:
    """Say whether the next element beside a picture is a `noscript`."""
    following = tree.ends[index]
    if following < len(tree.tags) and tree.tags[following] == TEXT and not tree.texts[following].strip():
        following += 1
    return following < len(tree.tags) and tree.tags[following] == "noscript"


MAX_SIDE_DIGITS = 6


def side_of(text: str | None) -> int | None:
    """Read a width or height that is a plain number of pixels."""
    if not text:
        return None
    text = text.strip()
    return int(text) if len(text) <= MAX_SIDE_DIGITS and text.isascii() and text.isdigit() else None


# --- videos ----------------------------------------------------------------------------------------------------------

FILE_TYPES = words(
    "video/mp4 video/x-m4v video/m4v video/webm video/ogg video/quicktime video/mov application/mp4 application/ogg"
)
STREAM_TYPES = words(
    "application/x-mpegurl application/vnd.apple.mpegurl audio/mpegurl audio/x-mpegurl video/mpegurl"
    " application/dash+xml video/vnd.mpeg.dash.mpd"
)
VIDEO_FILE = re.compile(r"\.(?:mp4|m4v|webm|ogv|ogg|mov|qt)$", re.IGNORECASE)
STREAM_FILE = re.compile(r"\.(?:m3u8|mpd)$", re.IGNORECASE)

TRACK_KINDS = words("subtitles captions descriptions chapters metadata")
MAX_LANGUAGE_CHARS = 35


def find_video(tree: Tree, index: int, base: str) -> VideoRef | None:
    """Describe a `video` by its best source; None if it names no file (a script loads it, or there is none).

    A list of pieces (HLS, DASH) is taken only where there is no file.
    """
    attributes = tree.attributes[index]
    sources = [(attributes.get(name) or "", "") for name in ("src", "data-src")]
    tracks = []
    for node in range(index + 1, min(tree.ends[index], index + MAX_SOURCES)):
        own = tree.attributes[node]
        if tree.tags[node] == "source":
            sources.append((own.get("src") or own.get("data-src") or "", own.get("type") or ""))
        elif tree.tags[node] == "track":
            tracks.append(find_track(own, base))
    ranked = ((join_url(base, reference), of_type) for reference, of_type in sources)
    ranks = [(rank, url) for url, of_type in ranked if url and (rank := rank_source(url, of_type)) is not None]
    if not ranks:
        return None
    _, url = min(ranks, key=lambda source: source[0])
    text = attributes.get("title") or attributes.get("aria-label") or ""
    texts = (Said(TITLE, " ".join(text.split())),) if text.strip() else ()
    poster = join_url(base, attributes.get("poster") or "") or ""
    return VideoRef(url, texts, poster, tracks=tuple(dict.fromkeys(filter(None, tracks))))


def rank_source(url: str, of_type: str) -> int | None:
    """Rank a source: 0 for a file, 1 for what may be one, 2 for a list of pieces; None for no video at all."""
    kind = of_type.partition(";")[0].strip().lower()
    if kind in STREAM_TYPES or STREAM_FILE.search(path_of(url)):
        return 2
    if kind in FILE_TYPES or is_video_file(url):
        return 0
    return None if kind else 1


def path_of(url: str) -> str:
    """Cut the query of a URL."""
    return url.partition("?")[0]


def is_video_file(url: str) -> bool:
    """Say whether a URL ends as a video file does."""
    return VIDEO_FILE.search(path_of(url)) is not None


def find_track(attributes: dict[str, str | None], base: str) -> Track | None:
    """Describe a `track`; without a kind it is subtitles, with an unknown one metadata, as the HTML standard says."""
    url = join_url(base, attributes.get("src") or "")
    if url is None:
        return None
    kind = (attributes.get("kind") or "subtitles").strip().lower()
    language = (attributes.get("srclang") or "").strip().lower()[:MAX_LANGUAGE_CHARS]
    return Track(url, kind if kind in TRACK_KINDS else "metadata", CONTROLS.sub("", language))
