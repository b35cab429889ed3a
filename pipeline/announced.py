"""What the head and the JSON-LD of a page say of its pictures and videos, by the URLs that they name.

Marks, things of the JSON-LD → read_told → Told
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline import jsonld
from pipeline.captions import MAX_CAPTION_CHARS
from pipeline.dates import parse_published
from pipeline.jsonld import Thing
from pipeline.marks import DESCRIPTION_METAS, PICTURE_METAS, VIDEO_METAS, Marks, contents
from pipeline.metadata import MARKUP, fold
from pipeline.picture_features import EXTENSION
from pipeline.pictures import FILE_TYPES, is_video_file, path_of
from pipeline.urls import host_of, join_url
from schemas.document import CAPTION, DESCRIPTION, NAME, TITLE, TRANSCRIPT, Said, VideoRef

MAX_TRANSCRIPT_CHARS = 50_000
"""Characters of a transcript that are kept: about an hour of speech."""


def clean(text: str, max_chars: int = MAX_CAPTION_CHARS) -> str:
    """Fold a text that may hold markup or character references; empty where it is too long to be of one medium."""
    text = text.strip()
    if len(text) > max_chars:
        return ""
    if "&" in text:
        text = html.unescape(text)
    return fold(MARKUP.sub(" ", text) if "<" in text else text)


def said(kind: str, texts: Iterable[str]) -> list[Said]:
    """Make texts of one kind; empty ones are left out."""
    return [Said(kind, text) for text in map(clean, texts) if text]


# --- what the head and the JSON-LD say -------------------------------------------------------------------------------

SIZE_IN_FILE = re.compile(r"-(?:[0-9]{2,4}x[0-9]{2,4}|scaled)$")
MIN_NAME_CHARS = 8
"""Characters from which the name of a file, and of its folder, tells a picture from others."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the head and the JSON-LD of a page say of its media.

    `pictures` holds texts by the keys of `keys_of`; a video without a URL is one whose file is not named; `main` is the
    video that the page is about. `announced` are references, relative to `base`, of the pictures that the head names as
    the page's own; `descriptions` are those of the page.
    """

    pictures: dict[str, list[Said]] = field(default_factory=dict)
    videos: tuple[VideoRef, ...] = ()
    main: VideoRef | None = None
    announced: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    base: str = ""


def read_told(marks: Marks, things: Sequence[Thing], base: str, fetched: datetime | None) -> Told:
    """Read what a page's head and the things of its JSON-LD say of its media; `base` is that of `find_base`."""
    pictures: dict[str, list[Said]] = {}
    media = jsonld.media_of(things) if things else []
    for thing, _ in media:
        if "ImageObject" in jsonld.types_of(thing):
            texts = said(
                DESCRIPTION, (text for name in ("caption", "description", "name") for text in own(thing, name))
            )
            note_texts(pictures, addresses(thing, ("contentUrl", "url"), base), texts)
    for url, text in announced_texts(marks, base):
        note_texts(pictures, [url], said(DESCRIPTION, [text]))
    videos, main = told_videos(marks, media, base, fetched)
    announced, descriptions = contents(marks, *PICTURE_METAS), contents(marks, *DESCRIPTION_METAS)
    return Told(pictures, tuple(videos), main, tuple(announced), tuple(descriptions), base)


def description_of(url: str, told: Told) -> str:
    """Read the page's description, for a picture that the head names as the page's own; empty for any other."""
    keys = {key for announced in joined(told.base, told.announced) for key in keys_of(announced)}
    return "" if keys.isdisjoint(keys_of(url)) else next(filter(None, map(clean, told.descriptions)), "")


def own(thing: Thing, name: str) -> list[str]:
    """List the strings of a property, with or without a language."""
    return jsonld.strings(thing.get(name), "@value")


def joined(base: str, references: Iterable[str]) -> list[str]:
    """Join references with the base; those that name nothing are left out."""
    return [url for url in (join_url(base, html.unescape(reference)) for reference in references) if url]


def addresses(thing: Thing, names: Iterable[str], base: str) -> list[str]:
    """List the URLs that a medium of the JSON-LD has."""
    return joined(base, (text for name in names for text in jsonld.strings(thing.get(name), "@id", "url")))


def note_texts(pictures: dict[str, list[Said]], urls: Iterable[str], texts: list[Said]) -> None:
    """Note texts under the keys of a picture."""
    if texts:
        for key in dict.fromkeys(key for url in urls for key in keys_of(url)):
            pictures.setdefault(key, []).extend(texts)


def announced_texts(marks: Marks, base: str) -> Iterator[tuple[str, str]]:
    """Pair the pictures that the head announces with the texts it gives them; only where it is clear which is whose."""
    for alt, *names in (("og:image:alt", *PICTURE_METAS[:2]), ("twitter:image:alt", "twitter:image", *PICTURE_METAS)):
        texts = list(contents(marks, alt))
        if not texts:
            continue
        urls = next(filter(None, (joined(base, contents(marks, name)) for name in names)), [])
        if len(set(urls)) == 1:
            yield urls[0], texts[0]
        elif len(texts) == len(urls):
            yield from zip(urls, texts, strict=True)


def keys_of(url: str) -> Iterator[str]:
    """Yield the keys by which two addresses are known to be those of one picture.

    These are the address without scheme, and the file's name without a size with that of its folder: a page shows a
    smaller copy of what it announces. A short name, such as `image`, does not tell pictures apart.
    """
    plain = url.partition("://")[2].removeprefix("www.")
    yield plain
    folder, _, name = path_of(plain).rpartition("/")
    stem = SIZE_IN_FILE.sub("", EXTENSION.sub("", name.lower()))
    if len(stem) >= MIN_NAME_CHARS:
        yield f"{folder.rpartition('/')[2]}/{stem}"


# --- videos that the head and the JSON-LD name -----------------------------------------------------------------------

DURATION = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,7}(?:\.\d{1,6})?)S)?)?")
SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,6})?")
UNIT_SECONDS = (86_400, 3_600, 60, 1)


def parse_duration(text: str) -> float:
    """Read a duration of ISO 8601 in seconds; 0 where it is none."""
    match = DURATION.fullmatch(text.strip()) if len(text) < 50 else None
    return (
        sum(unit * float(part or 0) for unit, part in zip(UNIT_SECONDS, match.groups(), strict=True)) if match else 0.0
    )


def told_videos(
    marks: Marks, media: list[tuple[Thing, bool]], base: str, fetched: datetime | None
) -> tuple[list[VideoRef], VideoRef | None]:
    """List the videos that the JSON-LD and the head name, each file once, and the one that the page is about."""
    objects = [(thing, main) for thing, main in media if "VideoObject" in jsonld.types_of(thing)]
    described = [(describe_video(thing, base, fetched), main) for thing, main in objects]
    alone = len({(video.url, video.texts) if video else number for number, (video, _) in enumerate(described)}) == 1
    videos: dict[str, VideoRef] = {}
    mains: list[str] = []
    for video, main in described:
        if video is not None:
            key = video_key(video.url)
            videos[key] = join_videos(videos[key], video) if key in videos else video
            if key and (main or alone) and key not in mains:
                mains.append(key)
    if announced := announced_video(marks, base):
        # One video under two addresses is more common than two videos.
        key = next(iter(videos)) if alone and len(videos) == 1 and "" not in videos else video_key(announced.url)
        videos[key] = join_videos(videos[key], announced) if key in videos else announced
        mains = mains or [key]
    return list(videos.values()), videos[mains[0]] if len(mains) == 1 else None


def describe_video(thing: Thing, base: str, fetched: datetime | None) -> VideoRef | None:
    """Describe a video of the JSON-LD; None where its address is that of a player, or of another site's."""
    urls = addresses(thing, ("contentUrl",), base)
    typed = not FILE_TYPES.isdisjoint(text.strip().lower() for text in own(thing, "encodingFormat"))
    url = next((url for url in urls if typed or is_video_file(url)), "")
    if not url and (urls or any(host_of(player) != host_of(base) for player in addresses(thing, ("embedUrl",), base))):
        return None
    texts = [
        *said(NAME, own(thing, "name")),
        *said(CAPTION, own(thing, "caption")),
        *said(DESCRIPTION, own(thing, "description")),
    ]
    transcript = " ".join(own(thing, "transcript"))[:MAX_TRANSCRIPT_CHARS]
    if text := clean(transcript, MAX_TRANSCRIPT_CHARS):
        texts.append(Said(TRANSCRIPT, text))
    posters = addresses(thing, ("thumbnailUrl", "thumbnail"), base)
    uploaded = (parse_published(text, fetched) for text in (*own(thing, "uploadDate"), *own(thing, "datePublished")))
    return VideoRef(
        url,
        tuple(dict.fromkeys(texts)),
        next(iter(posters), ""),
        next(filter(None, map(parse_duration, own(thing, "duration"))), 0.0),
        next(filter(None, uploaded), None),
    )


def announced_video(marks: Marks, base: str) -> VideoRef | None:
    """Describe the video that the head announces; None where it is no file but a player."""
    if marks.metas.keys().isdisjoint(VIDEO_METAS):
        return None
    types = [text.partition(";")[0].strip().lower() for text in contents(marks, "og:video:type")]
    typed = bool(types) and FILE_TYPES.issuperset(types)
    urls = [url for name in VIDEO_METAS for url in joined(base, contents(marks, name))]
    url = next((url for url in urls if is_video_file(url) or typed), None)
    if url is None or (len(types) == 1 and not typed):
        return None
    texts = said(TITLE, contents(marks, "og:title"))[:1]
    if any(text.strip().lower().startswith("video") for text in contents(marks, "og:type")):
        texts += said(DESCRIPTION, contents(marks, "og:description"))[:1]
    lengths = (text.strip() for text in contents(marks, "og:video:duration", "video:duration"))
    return VideoRef(url, tuple(texts), duration_s=next((float(t) for t in lengths if SECONDS.fullmatch(t)), 0.0))


def video_key(url: str) -> str:
    """Name a file whatever the scheme and the query of its address; a query names the file where the path does not."""
    plain = url.partition("://")[2].removeprefix("www.")
    return path_of(plain) if is_video_file(url) else plain


def join_videos(video: VideoRef, other: VideoRef) -> VideoRef:
    """Add what is said of the same video elsewhere; what `video` holds already is not replaced."""
    return VideoRef(
        video.url,
        tuple(dict.fromkeys((*video.texts, *other.texts))),
        video.poster or other.poster,
        video.duration_s or other.duration_s,
        video.uploaded or other.uploaded,
        tuple(dict.fromkeys((*video.tracks, *other.tracks))),
    )
