"""The texts of a page's pictures and videos: what it says of each where it shows it, and what `announced` read.

    Tree, Reading, [Chosen, ...], items, Told → add_texts → (Item, ...), each medium with its texts

A text of the head or of the JSON-LD goes to the picture or video that it names by its URL. A video that only these name
stands at the end of the items, if the page is about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from pipeline.announced import Told, description_of, join_videos, keys_of, said, video_key
from pipeline.captions import MAX_CAPTION_CHARS
from pipeline.dom import Tree
from pipeline.metadata import fold
from pipeline.names import BITS, NAMED, Remembered, split_words
from pipeline.nesting import words
from pipeline.picture_features import OPENS_PICTURE
from pipeline.pieces import Chosen, Frame, Reading, figure_of
from pipeline.reading import HEADINGS, VIDEOS
from schemas.document import (
    ALT,
    CAPTION,
    DESCRIPTION,
    FIGCAPTION,
    GALLERY,
    TITLE,
    ImageRef,
    Item,
    Said,
    Text,
    VideoRef,
)

MAX_TEXTS_CHARS = 2_000_000
"""Characters of the texts of a page's media; later media have none, or one caption of many pictures fills a disk."""

# --- the texts of each item ------------------------------------------------------------------------------------------

MAX_PHOTO_PAGE_CHARS = 300
"""Characters beside the caption up to which a page with one picture is about that picture."""


def add_texts(
    tree: Tree, reading: Reading, chosen: Iterable[Chosen], items: Sequence[Item], told: Told
) -> tuple[Item, ...]:
    """Give the media among `items` all their texts; `items` are those of `attach_captions` for `chosen`."""
    places = iter([piece.position for piece in chosen if not isinstance(piece.item, Text)])
    captions = Counter(item.caption for item in items if isinstance(item, ImageRef))
    galleries = Galleries(tree, reading)
    found: list[Item] = []
    room = MAX_TEXTS_CHARS
    for item in items:
        if not isinstance(item, Text):
            piece = reading.pieces[position := next(places)]
            if isinstance(item, ImageRef):
                texts = [*attribute_texts(tree, piece.node, item.alt), *item.texts, *told_texts(item.url, told)]
                if gallery := fold(galleries.text_of(piece.frame)):
                    texts = with_gallery(texts, gallery, item.caption, captions)
            else:
                texts = [*item.texts, *video_captions(tree, reading, position)]
            if texts:
                each = tuple(dict.fromkeys(texts))
                room -= sum(len(one.text) for one in each)
                item = replace(item, texts=each if room >= 0 else ())
        found.append(item)
    return tuple(place_videos(tree, reading, describe_photo(found, told), told))


def with_gallery(texts: list[Said], gallery: str, caption: str, captions: Counter[str]) -> list[Said]:
    """Add the text of a picture's gallery; one that is the caption of several pictures of the page is the gallery's.

    One that is the caption of one picture, or a part of it, is not.
    """
    if caption == gallery and captions[gallery] > 1:
        return [Said(GALLERY, gallery) if one == Said(CAPTION, gallery) else one for one in texts]
    return texts if gallery in captions or gallery in caption else [*texts, *said(GALLERY, (gallery,))]


def attribute_texts(tree: Tree, node: int, alt: str) -> list[Said]:
    """Read what the attributes of a picture say, and those of a link and a figure right around it.

    The title of a link is the picture's where the link opens the picture: others say where they lead.
    """
    attributes = tree.attributes[node]
    alt = alt or fold(attributes.get("aria-label") or "")
    texts = [Said(ALT, alt)] if 0 < len(alt) <= MAX_CAPTION_CHARS else []
    titles, captions = [attributes.get("title")], [attributes.get("data-caption")]
    for _ in range(AROUND):
        node = tree.parents[node]
        tag, attributes = tree.tags[node], tree.attributes[node]
        if tag == "a":
            if OPENS_PICTURE.search(attributes.get("href") or ""):
                titles.append(attributes.get("title"))
                captions.append(attributes.get("data-caption"))
        elif tag == "figure":
            if tree.tags[node : min(tree.ends[node], node + MAX_FIGURE_NODES)].count("img") == 1:
                titles.append(attributes.get("title"))
            break
        elif tag not in WRAPPERS:
            break
    if any(titles):
        texts += said(TITLE, filter(None, titles))
    if any(captions):
        texts += said(CAPTION, filter(None, captions))
    return texts


AROUND = 4
"""Parents of a picture among which its link and its figure are looked for."""
MAX_FIGURE_NODES = 100
WRAPPERS = words("picture span noscript div")


def told_texts(url: str, told: Told) -> list[Said]:
    """List what the head and the JSON-LD say of a picture."""
    return [text for key in keys_of(url) for text in told.pictures.get(key, ())] if told.pictures else []


def describe_photo(items: list[Item], told: Told) -> list[Item]:
    """Give the picture of a page that is about it the page's description.

    It is the only medium, the page announces it, and says little beside its caption.
    """
    media = [place for place, item in enumerate(items) if not isinstance(item, Text)]
    if told.descriptions and len(media) == 1 and isinstance(image := items[media[0]], ImageRef):
        chars = sum(len(item.text) for item in items if isinstance(item, Text) and item.text not in image.caption)
        if chars <= MAX_PHOTO_PAGE_CHARS and (description := description_of(image.url, told)):
            items[media[0]] = replace(image, texts=tuple(dict.fromkeys((*image.texts, Said(DESCRIPTION, description)))))
    return items


# --- galleries -------------------------------------------------------------------------------------------------------

GALLERY_WORDS = words(
    "gallery galleries galerie galleria galeria slider slideshow diashow carousel karussell album photogallery"
    " fotogalerie bildergalerie bilderstrecke fotostrecke"
)
NAMES_GALLERY = Remembered(lambda names: not GALLERY_WORDS.isdisjoint(split_words(names)))
WHOLE = words("html body main article")
MAX_GALLERY_CHARS = 500
"""Characters of text a picture up to which an element named so is a gallery."""
MAX_HEADING_CHARS = 200
GALLERY_EDGE = 3
"""Pieces at the beginning and the end of a gallery among which its heading and its caption are looked for."""


class Galleries:
    """The headings and captions of galleries, by the number of a frame in one; each frame is looked at once."""

    def __init__(self, tree: Tree, reading: Reading) -> None:
        """Begin with no gallery."""
        self.tree, self.reading = tree, reading
        self.found: dict[int, str] = {0: ""}
        self.sums: list[int] = []

    def text_of(self, number: int) -> str:
        """Find the text of the innermost gallery around a frame; empty where there is none."""
        path = []
        while number not in self.found:
            path.append(number)
            frame = self.reading.frames[number]
            if frame.media > 1 and self.is_gallery(frame):
                self.found[number] = self.said_of(frame, number)
                break
            number = frame.outer
        text = self.found[number]
        self.found |= dict.fromkeys(path, text)
        return text

    def is_gallery(self, frame: Frame) -> bool:
        """Say whether an element groups pictures: a figure of figures, or a gallery by its name with little text."""
        if frame.tag == "figure":
            begin = self.reading.pieces[frame.first : min(frame.stop, frame.first + GALLERY_EDGE)]
            return any(figure_of(self.reading, piece) != frame.node for piece in begin if not piece.text)
        if frame.tag in WHOLE or not NAMES_GALLERY[self.tree.attributes[frame.node].get("class") or ""]:
            return False
        self.sums = self.sums or list(accumulate((len(piece.text) for piece in self.reading.pieces), initial=0))
        return self.sums[frame.stop] - self.sums[frame.first] <= MAX_GALLERY_CHARS * frame.media

    def said_of(self, frame: Frame, number: int) -> str:
        """Find the heading at the beginning of a gallery, the caption at its end, or the heading right before it."""
        inside = range(frame.first, frame.stop)
        for position in inside[:GALLERY_EDGE]:
            if not self.reading.pieces[position].text:
                break
            if self.stands_over(position, number, heading=True):
                return self.reading.pieces[position].text
        for position in reversed(inside[-GALLERY_EDGE:]):
            if not self.reading.pieces[position].text:
                break
            if self.stands_over(position, number, heading=False):
                return self.reading.pieces[position].text
        if frame.tag != "figure" and frame.first > 0:
            before = self.reading.pieces[frame.first - 1]
            if self.reading.frames[before.frame].tag in HEADINGS and len(before.text) <= MAX_HEADING_CHARS:
                return before.text
        return ""

    def stands_over(self, position: int, number: int, *, heading: bool) -> bool:
        """Say whether a text is of a gallery as a whole, and not of a part of it that holds a picture."""
        piece = self.reading.pieces[position]
        frame = self.reading.frames[piece.frame]
        names = NAMED[self.tree.attributes[frame.node].get("class") or ""]
        is_title = heading and len(piece.text) <= MAX_HEADING_CHARS and (frame.tag in HEADINGS or names & BITS["title"])
        if not is_title and not frame.caption:
            return False
        inner = piece.frame
        for _ in range(AROUND):
            if inner == number:
                return True
            if self.reading.frames[inner].media:
                return False
            inner = self.reading.frames[inner].outer
        return False


# --- videos in their places ------------------------------------------------------------------------------------------

VIDEO_REACH = 8
"""Pieces on either side of a video among which the texts of its figure are looked for."""
MAX_FIGURE_CHARS = 500


def video_captions(tree: Tree, reading: Reading, position: int) -> list[Said]:
    """Read the caption of a video: what its figure marks as one, else all of a small figure, or what is right below."""
    pieces, frames = reading.pieces, reading.frames
    figure = figure_of(reading, pieces[position])
    if not figure:
        below = pieces[position + 1 : position + 2]
        return said(CAPTION, [one.text for one in below if frames[one.frame].caption and not figure_of(reading, one)])
    near = pieces[max(0, position - VIDEO_REACH) : position + VIDEO_REACH + 1]
    inside = [piece for piece in near if piece.text and figure_of(reading, piece) == figure]
    marked = [piece for piece in inside if frames[piece.frame].caption]
    text = " ".join(" ".join(piece.text for piece in marked or inside).split())
    kind = FIGCAPTION if tree.tags[figure] == "figure" else CAPTION
    return said(kind, (text,)) if marked or len(text) <= MAX_FIGURE_CHARS else []


def place_videos(tree: Tree, reading: Reading, items: list[Item], told: Told) -> list[Item]:
    """Keep each video once, give it what the head and the JSON-LD say of it, and add one that the page is about.

    What they say of the page's only video is said of the one that the page shows, under whatever address; but one that
    runs in the background is not the video that they mean.
    """
    known = {video_key(video.url): video for video in told.videos}
    shown: dict[str, VideoRef] = {}
    for item in items:
        if isinstance(item, VideoRef):
            key = video_key(item.url)
            shown[key] = join_videos(shown[key], item) if key in shown else item
    if not known and not shown:
        return items
    if len(known) == len(shown) == 1 and known.keys() != shown.keys() and shows_one_video(tree, reading):
        known = dict(zip(shown, known.values(), strict=True))
    main = told.main if told.main in known.values() else None
    found: list[Item] = []
    for item in items:
        if not isinstance(item, VideoRef):
            found.append(item)
        elif video := shown.pop(key := video_key(item.url), None):
            found.append(join_videos(video, known.pop(key)) if key in known else video)
    return [*found, main] if main is not None and main in known.values() else found


def shows_one_video(tree: Tree, reading: Reading) -> bool:
    """Say whether a page has one `video`, and it is not one that runs in the background."""
    nodes = [piece.node for piece in reading.pieces if not piece.text and tree.tags[piece.node] in VIDEOS]
    return len(nodes) == 1 and not ("loop" in (own := tree.attributes[nodes[0]]) and "controls" not in own)
