"""Pictures and pages → kept, or a `Refusal`: the rules of SPEC-corpus 2, one constant a rule.

A rule is a pure function of what it judges and of its settings; the first that refuses gives the reason. The presets
`m3w` and `obelics` are named rows of overrides over the settings below, whose defaults are those of `m3w` without an
upper bound on a page's words, and over the formats that are decoded. Rules for texts are in `quality`, that for
languages in `language`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from pipeline import quality
from pipeline.evaluation import EvaluationRules
from pipeline.language import LanguageRules
from pipeline.names import split_words
from pipeline.quality import TextRules
from schemas.media import STORED, Media
from schemas.page import Refusal

TOO_SMALL = "too_small"
TOO_LARGE = "too_large"
BAD_ASPECT = "bad_aspect"
URL_WORD = "url_word"
SINGLE_COLOUR = "single_colour"
NO_IMAGE = "no_image"
TOO_MANY_IMAGES = "too_many_images"
URL_WORDS = (
    *("logo", "logos", "icon", "icons", "favicon", "button", "buttons", "sprite", "sprites"),
    *("plugin", "plugins", "widget", "widgets"),
)
"""What addresses of pictures of the page itself are called (OBELICS: logo, button, icon, plugin, widget)."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What a picture has to be; sizes are those of the original, upright."""

    min_side_px: int = 64
    """Pixels of the shorter side, at least (Flamingo A.3.1)."""
    max_side_px: int = 0
    """Pixels of the longer side, at most; 0 for no limit (OBELICS: 20,000)."""
    max_aspect: float = 3.0
    """Longer side over shorter side, at most (Flamingo A.3.1)."""
    drop_single_colour: bool = True
    """Drop pictures of a single colour (Flamingo A.3.1)."""
    single_colour_range: int = 8
    """Widest span of a channel, 0..255, that still is one colour: JPEG leaves a few levels of noise."""
    url_words: tuple[str, ...] = URL_WORDS
    """Whole words, in lower case, of the path of a picture's URL that leave it out, and that the web is not asked for;
    of the host and the query they say nothing (SPEC-corpus 2)."""

    def __post_init__(self) -> None:
        if self.max_aspect < 1:
            raise ValueError(f"max_aspect is longer over shorter side, 1 or more, not {self.max_aspect}")


@dataclass(frozen=True, slots=True)
class PageRules:
    """What a page has to hold, counted after its pictures were judged."""

    min_images: int = 1
    """Pictures, at least (Flamingo A.3.1)."""
    max_images: int = 0
    """Pictures, at most; 0 for no limit (OBELICS: 30)."""
    same_image_bits: int = 8
    """Bits of 256 in which the hash of a picture may differ from that of one before it on its page to be the same
    picture, which is left out; 0 for equal hashes, -1 leaves all. 8 finds 99 of 100 pictures that were encoded anew and
    96 of 100 at half their size; the hash knows no colours, so that more would take what differs in them alone."""
    max_pages: int = 10
    """Pages that may show a picture, at most: one on more is of a template and left out of all (OBELICS: 10); 0 for no
    limit."""

    def __post_init__(self) -> None:
        if self.same_image_bits < -1 or self.max_pages < 0:
            raise ValueError("same_image_bits is -1 or more, max_pages 0 or more")


@dataclass(frozen=True, slots=True)
class FiltersConfig:
    """The rules of every kind."""

    images: ImageRules = field(default_factory=ImageRules)
    """Rules for a picture."""
    evaluation: EvaluationRules = field(default_factory=EvaluationRules)
    """Which pictures are kept for evaluation."""
    pages: PageRules = field(default_factory=PageRules)
    """Rules for the pictures of a page."""
    language: LanguageRules = field(default_factory=LanguageRules)
    """In which language a page is."""
    texts: TextRules = field(default_factory=TextRules)
    """Rules for the texts of a page."""


Setting = bool | int | float | tuple[str, ...]
FORMATS = ("jpeg", "png", "gif", "webp", "bmp", "avif")
"""All formats that are decoded: M3W takes any (SPEC-corpus 2)."""
ENGLISH: Mapping[str, Setting] = {"filters.language.languages": ("en",), "filters.language.min_probability": 0.8}
# The table of SPEC-corpus 2, as overrides of a build's configuration.
PRESETS: Mapping[str, Mapping[str, Setting]] = {
    "m3w": {
        **ENGLISH,
        **quality.PRESETS["m3w"],
        "media.formats": FORMATS,
        "filters.images.min_side_px": 64,
        "filters.images.max_side_px": 0,
        "filters.images.max_aspect": 3.0,
        "filters.images.drop_single_colour": True,
        "filters.pages.min_images": 1,
        "filters.images.url_words": URL_WORDS,
        "filters.pages.max_images": 0,
        "filters.pages.same_image_bits": 8,
        "filters.pages.max_pages": 10,
    },
    "obelics": {
        **ENGLISH,
        **quality.PRESETS["obelics"],
        "media.formats": ("jpeg", "png", "webp"),
        "filters.images.min_side_px": 150,
        "filters.images.max_side_px": 20_000,
        "filters.images.max_aspect": 2.0,
        "filters.images.drop_single_colour": False,
        "filters.pages.min_images": 1,
        "filters.images.url_words": URL_WORDS,
        "filters.pages.max_images": 30,
        "filters.pages.same_image_bits": 8,
        "filters.pages.max_pages": 10,
    },
}


def judge_media(media: Media, rules: ImageRules) -> Refusal | None:
    """Judge a picture by its address, then by what became of it, then by what it is; `None` keeps it."""
    refusal = judge_address(media.url, rules.url_words)
    if refusal is None and media.status != STORED:
        refusal = Refusal(media.reason, media.detail)
    return refusal or judge_image(media, rules)


def judge_image(media: Media, rules: ImageRules) -> Refusal | None:
    """Judge a stored picture by size, shape and colour; `None` keeps it."""
    size = f"{media.width_px}x{media.height_px} px"
    short, long = sorted((media.width_px, media.height_px))
    if short < rules.min_side_px:
        return Refusal(TOO_SMALL, f"{size}, at least {rules.min_side_px} a side")
    if rules.max_side_px and long > rules.max_side_px:
        return Refusal(TOO_LARGE, f"{size}, at most {rules.max_side_px} a side")
    if long > rules.max_aspect * short:
        return Refusal(BAD_ASPECT, f"{size}, at most {rules.max_aspect:g} to 1")
    if rules.drop_single_colour and media.colour_range <= rules.single_colour_range:
        return Refusal(SINGLE_COLOUR, f"channels span {media.colour_range}, above {rules.single_colour_range} is kept")
    return None


def judge_address(url: str, listed: tuple[str, ...]) -> Refusal | None:
    """Judge a picture, got or not, by the words of its URL's path; `None` keeps it."""
    path = unquote(url.partition("?")[0].partition("://")[2].partition("/")[2])
    found = (split_words(path) | split_words(path.lower())).intersection(listed)
    return Refusal(URL_WORD, min(found)) if found else None


def judge_page(images: int, rules: PageRules) -> Refusal | None:
    """Judge a page by how many pictures it has left; `None` keeps it."""
    if images < rules.min_images:
        return Refusal(NO_IMAGE, f"{images} images, at least {rules.min_images}")
    if rules.max_images and images > rules.max_images:
        return Refusal(TOO_MANY_IMAGES, f"{images} images, at most {rules.max_images}")
    return None
