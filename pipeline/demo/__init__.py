"""A small illustrated website of the project's own making: (pages, seed) comes in, files, a WARC or a folder go out.

`flamingo demo` writes it. Everything in it is invented and drawn from the seed, so that it is known what a picture
shows (`scene`), what can be asked of it (`facts_of`) and what a correct build keeps (`describe_expected`). A page
depends on the seed and on its own number alone: a site of 100 pages is the beginning of one of 10,000.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

import fsspec

from pipeline.demo import words
from pipeline.demo.files import FIRST_CAPTURE, SiteFile, page_files, shared_files
from pipeline.demo.head import Said, said_by
from pipeline.demo.page import Extra, draft_page
from pipeline.demo.picture import Picture
from pipeline.demo.tell import facts_of
from pipeline.demo.video import Video
from pipeline.demo.world import Scene, scene

__all__ = [
    "ExpectedPage",
    "Scene",
    "SiteFile",
    "describe_expected",
    "facts_of",
    "scene",
    "site",
    "write_folder",
    "write_warc",
]

REASONS = {
    "no_pictures": "the page has no picture",
    "little_text": "the page has almost no text",
    "german": "the page is not in English",
    "french": "the page is not in English",
    "robots_meta": "the page opts out in its head",
    "robots_header": "the page opts out in its HTTP header",
}
PHRASES = {200: "OK", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class ExpectedPage:
    """What a correct build makes of a page.

    `reason` is empty where the page is to be kept. `pictures` are to be kept in this order, each under any address of
    its copies, paired with one of those of its `texts` that have a truth (`pair` is the best); `extras` are not.
    `videos` are to be kept in the same way unless they are `unfit`. `texts` must be extracted, `boilerplate` must not;
    `title` is the page's own, `said` what else it says of itself. `mirror_url` is a second address of the same page, of
    which one is to be kept.
    """

    index: int
    url: str
    mirror_url: str
    dirt: str
    layout: str
    language: str
    title: str
    reason: str
    pictures: tuple[Picture, ...]
    videos: tuple[Video, ...]
    extras: tuple[Extra, ...]
    texts: tuple[str, ...]
    boilerplate: tuple[str, ...]
    said: Said


def site(pages: int, seed: int) -> Iterator[SiteFile]:
    """Yield the files of a site of so many pages, one page after another; memory does not grow with their number."""
    yield from shared_files()
    for index in range(pages):
        yield from page_files(seed, index)


def describe_expected(seed: int, pages: int) -> Iterator[ExpectedPage]:
    """Yield, page by page, what a correct build keeps."""
    for index in range(pages):
        draft = draft_page(seed, index)
        section_texts = [text for section in draft.sections for text in section.paragraphs]
        boilerplate = (words.COOKIES, words.FOOTER, words.SHARE, words.NEWSLETTER, words.HIDDEN, *words.ADVERTS)
        yield ExpectedPage(
            index=index,
            url=draft.url,
            mirror_url=draft.mirror_url,
            dirt=draft.dirt,
            layout=draft.layout,
            language=draft.language,
            title=draft.title,
            reason=REASONS.get(draft.dirt, ""),
            pictures=draft.pictures,
            videos=draft.videos,
            extras=draft.extras,
            texts=(*draft.intro, *section_texts, *draft.outro),
            boilerplate=(*boilerplate, *words.COMMENTS),
            said=said_by(draft),
        )


def write_warc(files: Iterable[SiteFile], path: str) -> None:
    """Write files as a .warc.gz of response records: one gzip member a record, the same bytes for the same files.

    `path` is a local path or any address that fsspec opens; the file appears under its name when it is complete.
    """
    system, target = fsspec.core.url_to_fs(path)
    part = target + ".part"
    with system.open(part, "wb") as out:
        write_record(out, "warcinfo", "", FIRST_CAPTURE, "application/warc-fields", b"format: WARC File Format 1.1\r\n")
        for file in files:
            payload = hashlib.sha1(file.data, usedforsecurity=False).digest()
            block = http_response(file)
            write_record(out, "response", file.url, file.captured, "application/http; msgtype=response", block, payload)
    system.mv(part, target)


def http_response(file: SiteFile) -> bytes:
    """Write a file as the HTTP response that carried it."""
    lines = [f"HTTP/1.1 {file.status} {PHRASES[file.status]}", f"Content-Type: {file.content_type}"]
    lines += [f"{name}: {value}" for name, value in file.headers]
    lines.append(f"Content-Length: {len(file.data)}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + file.data


def write_record(
    out: IO[bytes], kind: str, url: str, date: datetime, content_type: str, block: bytes, payload: bytes = b""
) -> None:
    """Write one WARC record as a gzip member without a time; `payload` is the SHA-1 of what the block carries."""
    stamp = date.strftime("%Y-%m-%dT%H:%M:%SZ")
    block_digest = hashlib.sha1(block, usedforsecurity=False).digest()
    lines = ["WARC/1.1", f"WARC-Type: {kind}", f"WARC-Record-ID: <urn:uuid:{record_id(url, stamp, block_digest)}>"]
    lines.append(f"WARC-Date: {stamp}")
    lines += [f"WARC-Target-URI: {url}"] if url else []
    lines += [f"WARC-Payload-Digest: {digest_text(payload)}"] if payload else []
    lines += [f"WARC-Block-Digest: {digest_text(block_digest)}", f"Content-Type: {content_type}"]
    lines.append(f"Content-Length: {len(block)}")
    record = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + block + b"\r\n\r\n"
    gzip = zlib.compressobj(6 if b"text/" in block[:200] else 1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    out.write(gzip.compress(record) + gzip.flush())


def digest_text(digest: bytes) -> str:
    """Write a SHA-1 as WARC has it."""
    return "sha1:" + base64.b32encode(digest).decode()


def record_id(url: str, stamp: str, digest: bytes) -> str:
    """Name a record by what it is: the same record has the same name in every archive."""
    name = hashlib.blake2b(f"{url} {stamp} ".encode() + digest, digest_size=16).hexdigest()
    return "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def write_folder(files: Iterable[SiteFile], folder: str) -> None:
    """Save the files that were found (status 200) as `folder/host/path`, as a browser's or wget's copy of a site.

    Of two captures of one address the newer stays; each file's modification time is that of its capture.
    """
    for file in files:
        if file.status == 200:
            path = Path(folder) / relative_path(file.url)
            seconds = int(file.captured.timestamp())
            if path.exists() and path.stat().st_mtime > seconds:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(file.data)
            os.utime(part, (seconds, seconds))
            part.replace(path)


def relative_path(url: str) -> PurePosixPath:
    """Return where a URL is saved: its host, then its decoded path, `index.html` for a folder."""
    parts = urlsplit(url)
    path = unquote(parts.path.lstrip("/"))
    if not path or path.endswith("/"):
        path += "index.html"
    place = PurePosixPath(parts.netloc, path)
    if ".." in place.parts or "\0" in path or not parts.netloc:
        raise ValueError(f"no place in a folder for {url!r}")
    return place
