"""Samples as they stand in shards, in any known layout, read into one form.

    {part of a member's name after the key: its bytes} → Sample(key, items, media)

Texts are stripped and empty ones left out; media stay encoded and are the very bytes that came in, never copies (but
for base64 and the pages of a TIFF). The bytes may be `memoryview`s. What a sample holds is not trusted: whatever is
wrong with one is a `BadSample` with one reason. Layouts:

    interleaved  json {texts, images}: parallel lists with nulls, images named by their parts; `parts` where present
    mmc4         json {text_list, image_info[].image_base64}
    m4           0.text.txt, 1.image.jpg, ..., metadata.txt naming them all
    mint         json {texts, images} and tiff, a page an image
    pair         jpg | jpeg | png | webp, and txt or a caption in json
    video        mp4 | webm or frames 000.jpg, 001.jpg, ..., and txt or a caption in json
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_model.tiff import BadTiff, split_pages
from schemas import SCHEMA_VERSION
from schemas.sample import INTERLEAVED
from schemas.video import MAX_FRAMES

MAX_JSON_BYTES = 8 << 20
MAX_BASE64_JSON_BYTES = 64 << 20
"""The JSON of a sample of the layout mmc4, which holds the images too."""
MAX_JSON_NESTS = 1 << 20
"""Objects and lists in a JSON: what an attacker could make memory of (64 bytes for two)."""
MAX_TEXT_BYTES, MAX_CAPTION_BYTES = 8 << 20, 64 << 10
MAX_ITEMS, MIN_FPS, MAX_FPS = 10_000, 1e-3, 1e3

IMAGE_PARTS = ("jpg", "jpeg", "png", "webp")
VIDEO_PARTS = ("mp4", "webm")
TIFF_PARTS = ("tiff", "tif")
CAPTION_FIELDS = ("caption", "TEXT", "text")
"""Where a JSON has the caption: our own pairs and img2dataset, LAION, others."""
M4_NAMES = "metadata.txt"

EMPTY_PART, MISSING_PART, SHORT_PART = "empty_part", "missing_part", "short_part"
UNKNOWN_PART, UNKNOWN_LAYOUT = "unknown_part", "unknown_layout"
NO_TEXT, NO_MEDIA, BAD_TEXT = "no_text", "no_media", "bad_text"
BAD_JSON, BAD_ITEMS, BAD_PARTS, BAD_BASE64, BAD_TIFF = "bad_json", "bad_items", "bad_parts", "bad_base64", "bad_tiff"
OTHER_SCHEMA, PAGES_DIFFER = "other_schema", "pages_differ"
JSON_TOO_LARGE, TEXT_TOO_LONG, TOO_MANY_ITEMS = "json_too_large", "text_too_long", "too_many_items"

Members = Mapping[str, bytes]
M4_PART = re.compile(r"(\d{1,6})\.(text|image)\.[a-z0-9]{1,8}", re.ASCII | re.IGNORECASE)
FRAME_PART = re.compile(r"(\d{1,6})\.(?:jpe?g|png|webp)", re.ASCII)


class BadSample(ValueError):  # noqa: N818 (a name agreed between the modules)
    """A sample that cannot be read; `reason` is a constant of this module, its text one line for a person."""

    def __init__(self, reason: str, detail: str, key: str = "") -> None:
        super().__init__(reason, detail, key)
        self.reason, self.detail, self.key = reason, detail, key

    def __str__(self) -> str:
        return f"sample {self.key[:200]!r}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Medium:
    """A medium, still encoded.

    `kind` is `image` (`data` is one image file), `frames` (an image file each, in order) or `video` (one MP4 or WebM).
    `fps` is that of frames and videos, 0 where it is not known.
    """

    data: tuple[bytes, ...]
    kind: str
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample says and shows: `items` are texts and indices into `media`, in reading order.

    A pair or a video is `(0, caption)`. Each medium stands in one place; two may share bytes.
    """

    key: str
    items: tuple[str | int, ...]
    media: tuple[Medium, ...]


def read_sample(members: Members, key: str, layout: str) -> Sample:
    """Read the members of one sample; `members` maps names without the key, `m000.jpg`, to bytes.

    Entries of webdataset's own (`__key__`) may be among them. Raises `BadSample`; for an unknown layout `ValueError`.
    """
    reader = LAYOUTS.get(layout)
    if reader is None:
        raise ValueError(f"layout {layout!r} is none of {', '.join(LAYOUTS)}")
    try:
        return reader(members, key)
    except BadSample as error:
        error.key = key
        raise


def sniff_layout(members: Members) -> str:
    """Tell the layout of a sample from its members; `BadSample` where it has none that is known."""
    if M4_NAMES in members:
        return "m4"
    header = load_json(members, MAX_BASE64_JSON_BYTES) if "json" in members else {}
    if isinstance(header.get("texts"), list) and isinstance(header.get("images"), list):
        return "mint" if first_of(TIFF_PARTS, members) else "interleaved"
    if "text_list" in header and "image_info" in header:
        return "mmc4"
    if first_of(VIDEO_PARTS, members) or any(FRAME_PART.fullmatch(name) for name in members):
        return "video"
    if first_of(IMAGE_PARTS, members):
        return "pair"
    raise BadSample(UNKNOWN_LAYOUT, f"no known layout has the members {told(members)}")


def read_pair(members: Members, key: str) -> Sample:
    """Read an image and its caption."""
    name = "jpg" if "jpg" in members else first_of(IMAGE_PARTS, members)
    if name is None:
        raise BadSample(NO_MEDIA, f"no image among {told(members)}")
    return Sample(key, (0, read_caption(members)), (Medium((bytes_of(name, members),), "image"),))


def read_video(members: Members, key: str) -> Sample:
    """Read a clip, stored as a file or as its frames, and its caption."""
    header = load_json(members) if "json" in members else {}
    check_parts(header, members)
    name = first_of(VIDEO_PARTS, members)
    names = [name] if name is not None else frame_names(members)
    fps: Any = header.get("fps")
    fps = float(fps) if type(fps) in (int, float) and MIN_FPS <= fps <= MAX_FPS else 0.0
    data = tuple(bytes_of(name, members) for name in names)
    medium = Medium(data, "frames" if name is None else "video", fps)
    return Sample(key, (0, read_caption(members, header)), (medium,))


def frame_names(members: Members) -> list[str]:
    """Name the frames in order; they are numbered from 0 or 1 without a gap."""
    found = sorted((int(match[1]), match[0]) for name in members if (match := FRAME_PART.fullmatch(name)))
    if not found:
        raise BadSample(NO_MEDIA, f"no video and no frames among {told(members)}")
    if len(found) > MAX_FRAMES:
        raise BadSample(TOO_MANY_ITEMS, f"{len(found)} frames, {MAX_FRAMES} at most")
    first = min(found[0][0], 1)
    if [number for number, _ in found] != list(range(first, first + len(found))):
        raise BadSample(MISSING_PART, "the numbers of the frames have a gap")
    return [name for _, name in found]


def read_caption(members: Members, header: Mapping[str, Any] | None = None) -> str:
    """Read the text of a pair or video: `txt`, or the JSON's caption, which is parsed only where there is no `txt`."""
    if "txt" in members:
        size, text = len(members["txt"]), ""
        if size <= MAX_CAPTION_BYTES:
            text = decode_text(members["txt"]).strip()
    else:
        header = load_json(members) if header is None else header
        text = checked_text(next((header[name] for name in CAPTION_FIELDS if header.get(name) is not None), ""))
        size = len(text)
    if size > MAX_CAPTION_BYTES:
        raise BadSample(TEXT_TOO_LONG, f"a caption of {size} bytes")
    if not text:
        raise BadSample(NO_TEXT, "the caption is empty")
    return text


def read_interleaved(members: Members, key: str) -> Sample:
    """Read parallel lists; a part that is named must be there, and as long as `parts` says."""
    header = load_json(members)
    if header.get("kind") == INTERLEAVED and header.get("schema") != SCHEMA_VERSION:
        raise BadSample(OTHER_SCHEMA, f"schema {header.get('schema')!r:.40}, this version reads {SCHEMA_VERSION}")
    check_parts(header, members)
    items, names = parallel_items(header)
    return Sample(key, checked_items(items), tuple(medium_of(name, members) for name in names))


def medium_of(name: str, members: Members) -> Medium:
    """Make the medium of an interleaved sample, of the kind that its name ends in."""
    data, ending = bytes_of(name, members), name.rpartition(".")[2].lower()
    if ending in VIDEO_PARTS:
        return Medium((data,), "video")
    if ending not in (*IMAGE_PARTS, *TIFF_PARTS, "gif"):
        raise BadSample(UNKNOWN_PART, f"{name[:100]!r} is neither an image nor a video")
    return Medium((data,), "image")


def bytes_of(name: str, members: Members) -> bytes:
    """Take the bytes of a part, which must be there and not empty."""
    data = members.get(name)
    if data is None:
        raise BadSample(MISSING_PART, f"{name[:100]!r} is not there")
    if not data:
        raise BadSample(EMPTY_PART, f"{name[:100]!r} has no bytes")
    return data


def parallel_items(header: Mapping[str, Any]) -> tuple[list[str | int], list[str]]:
    """Join the lists `texts` and `images`, of which one is null at each position; give the images' names too."""
    texts, images = header.get("texts"), header.get("images")
    if not isinstance(texts, list) or not isinstance(images, list) or len(texts) != len(images):
        raise BadSample(BAD_ITEMS, "texts and images are not two lists of one length")
    items: list[str | int] = []
    names: list[str] = []
    for text, image in zip(texts, images, strict=True):
        if image is None:
            items.append("" if text is None else checked_text(text))
        elif text is None and isinstance(image, str):
            items.append(len(names))
            names.append(image)
        else:
            raise BadSample(BAD_ITEMS, "a position has a text and an image, or an image that is no name")
    return items, names


def read_mint(members: Members, key: str) -> Sample:
    """Read parallel lists whose images are the pages of a TIFF, in order; the names only mark their places."""
    data = bytes_of(first_of(TIFF_PARTS, members) or TIFF_PARTS[0], members)
    items, names = parallel_items(load_json(members))
    try:
        pages = split_pages(bytes(data), MAX_ITEMS)
    except BadTiff as error:
        raise BadSample(BAD_TIFF, str(error)) from None
    if len(pages) != len(names):
        raise BadSample(PAGES_DIFFER, f"{len(pages)} pages for {len(names)} images")
    return Sample(key, checked_items(items), tuple(Medium((page,), "image") for page in pages))


def read_m4(members: Members, key: str) -> Sample:
    """Read texts and images that are numbered in their names; `metadata.txt` names all of them, a line each."""
    listed = bytes_of(M4_NAMES, members)
    if len(members) > MAX_ITEMS or len(listed) > MAX_JSON_BYTES:
        raise BadSample(TOO_MANY_ITEMS, f"{len(members)} members, {MAX_ITEMS} at most")
    # The part is what follows the first dot; folder and key stand before it.
    for line in decode_text(listed).split("\n"):
        part = line.rpartition("/")[2].partition(".")[2]
        if line and part not in members:
            raise BadSample(MISSING_PART, f"{M4_NAMES} names {line[-100:]!r}, which is not there")
    found: dict[int, tuple[str, bool]] = {}
    for name in members:
        if match := M4_PART.fullmatch(name):
            if int(match[1]) in found:
                raise BadSample(BAD_ITEMS, f"two members have the number {int(match[1])}")
            found[int(match[1])] = name, match[2].lower() == "text"
        elif name != M4_NAMES and not name.startswith("__"):
            raise BadSample(UNKNOWN_PART, f"{name[:100]!r} is neither a text nor an image")
    if sum(len(members[name]) for name, is_text in found.values() if is_text) > MAX_TEXT_BYTES:
        raise BadSample(TEXT_TOO_LONG, f"texts of more than {MAX_TEXT_BYTES} bytes")
    items: list[str | int] = []
    media: list[Medium] = []
    for _, (name, is_text) in sorted(found.items()):
        items.append(decode_text(members[name]).strip() if is_text else len(media))
        if not is_text:
            media.append(medium_of(name, members))
    return Sample(key, checked_items(items), tuple(media))


def read_mmc4(members: Members, key: str) -> Sample:
    """Read sentences and base64 images; an image stands before the sentence that it was matched to.

    An image without bytes was not to be had when the shard was made: it is left out.
    """
    header = load_json(members, MAX_BASE64_JSON_BYTES)
    sentences, images = header.get("text_list"), header.get("image_info")
    if not isinstance(sentences, list) or not isinstance(images, list):
        raise BadSample(BAD_ITEMS, "text_list and image_info are not two lists")
    media: list[Medium] = []
    before: dict[int, list[int]] = {}
    for row, image in enumerate(images):
        if not isinstance(image, dict):
            raise BadSample(BAD_ITEMS, "an entry of image_info is no object")
        if image.get("image_base64") is not None:
            sentence = matched_sentence(header, image, row, len(sentences))
            before.setdefault(sentence, []).append(len(media))
            media.append(Medium((decode_base64(image["image_base64"]),), "image"))
    items: list[str | int] = []
    run: list[str] = []
    for number, sentence in enumerate(sentences):
        if number in before:
            items += [" ".join(run), *before[number]]
            run = []
        run += filter(None, [checked_text(sentence)])
    return Sample(key, checked_items([*items, " ".join(run)]), tuple(media))


def matched_sentence(header: Mapping[str, Any], image: Mapping[str, Any], row: int, sentences: int) -> int:
    """Find the sentence of an image: `matched_text_index`, or the best of its row in `similarity_matrix`."""
    index = image.get("matched_text_index")
    if index is None:
        matrix = header.get("similarity_matrix")
        scores = matrix[row] if isinstance(matrix, list) and row < len(matrix) else None
        if not isinstance(scores, list) or {type(score) for score in scores} - {int, float} or not scores:
            raise BadSample(BAD_ITEMS, "an image has neither matched_text_index nor a row of similarity_matrix")
        index = max(range(len(scores)), key=scores.__getitem__)
    if type(index) is not int or not 0 <= index < sentences:
        raise BadSample(BAD_ITEMS, f"an image is matched to sentence {index!r:.40} of {sentences}")
    return index


def decode_base64(text: Any) -> bytes:
    """Decode base64 without a byte of slack; `b'...'` around it is how open_flamingo's writer left it."""
    if isinstance(text, str) and text.startswith("b'"):
        text = text.removeprefix("b'").removesuffix("'")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (TypeError, ValueError) as error:
        raise BadSample(BAD_BASE64, f"{error}") from None
    if not data:
        raise BadSample(EMPTY_PART, "an image has no bytes")
    return data


def load_json(members: Members, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Parse the member `json`, which holds an object; its size is judged before."""
    if "json" not in members:
        raise BadSample(MISSING_PART, f"no json among {told(members)}")
    data = bytes(members["json"])
    if len(data) > max_bytes or data.count(b"{") + data.count(b"[") > MAX_JSON_NESTS:
        raise BadSample(JSON_TOO_LARGE, f"a json of {len(data)} bytes")
    text = decode_text(data)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadSample(BAD_JSON, f"{error}"[:200]) from None
    if not isinstance(header, dict):
        raise BadSample(BAD_JSON, f"an object is expected, not {type(header).__name__}")
    return header


def check_parts(header: Mapping[str, Any], members: Members) -> None:
    """Compare the members with `parts` (name and bytes of each), where the JSON has it: a cut sample shows here."""
    parts = header.get("parts", [])
    for part in parts if isinstance(parts, list) else [None]:
        name, size = (part.get("name"), part.get("bytes")) if isinstance(part, dict) else (None, None)
        if not isinstance(name, str) or type(size) is not int:
            raise BadSample(BAD_PARTS, "parts is no list of names and bytes")
        length = len(members[name]) if name in members and not name.startswith("__") else 0
        if length != size:
            reason = SHORT_PART if length else MISSING_PART
            raise BadSample(reason, f"{name[:100]!r} has {length} bytes, its json says {size}")


def checked_items(items: Iterable[str | int]) -> tuple[str | int, ...]:
    """Leave empty texts out; a document must have a text, and not too much. One without pictures is text to learn."""
    kept = [item for item in items if item != ""]
    if len(kept) > MAX_ITEMS:
        raise BadSample(TOO_MANY_ITEMS, f"{len(kept)} items, {MAX_ITEMS} at most")
    length = sum(len(item) for item in kept if isinstance(item, str))
    if not length:
        raise BadSample(NO_TEXT, "no text but empty ones")
    if length > MAX_TEXT_BYTES:
        raise BadSample(TEXT_TOO_LONG, f"texts of {length} characters")
    return tuple(kept)


def checked_text(text: Any) -> str:
    """Strip a text that JSON held; half a surrogate pair, which JSON can write, is no text."""
    if not isinstance(text, str):
        raise BadSample(BAD_ITEMS, f"a text is {type(text).__name__}")
    if not text.isascii() and SURROGATE.search(text):
        raise BadSample(BAD_TEXT, "a text holds half a surrogate pair")
    return text.strip()


def decode_text(data: bytes) -> str:
    """Decode UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise BadSample(BAD_TEXT, f"not UTF-8 at byte {error.start}") from None


def first_of(names: Sequence[str], members: Members) -> str | None:
    """Find the first member that has one of some names, in small or capital letters."""
    return next((name for name in members if name.lower() in names), None)


def told(members: Members) -> str:
    """Name some members for a person."""
    return ", ".join([repr(name[:40]) for name in members if not name.startswith("__")][:8]) or "none"


SURROGATE = re.compile("[\ud800-\udfff]")
LAYOUTS = {
    "interleaved": read_interleaved, "mmc4": read_mmc4, "m4": read_m4, "mint": read_mint, "pair": read_pair,
    "video": read_video,
}  # fmt: skip
"""How each layout is read."""
