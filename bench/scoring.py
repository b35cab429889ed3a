"""Scores of extraction: labelled pages and an extractor come in, counts go out that add up over pages and folds.

    read_dev(corpus), read_articles(corpus) → LabelledPage, ...
    score(pages, extract) → Scores          score_extracted(pages, extracted) → Scores     (SPEC-corpus 4)

A classifier is judged on hosts that it was not trained on:

    folds = split_folds(pages, 5)
    scores = sum((score(held_out, train(the other folds)) for held_out in folds), Scores())

where `train` gives a callable Page → Document | Rejected.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.folder import Folder
from pipeline.sources import SourceConfig, plan_splits, read_split
from pipeline.urls import clean_url
from schemas.document import Document, ImageRef, Text
from schemas.page import Page, Rejected, key_of

DEV, ARTICLES = "extraction-dev", "articles"
FILES = (
    "articles.json",
    "articles.warc.gz",
    "extraction-dev-images.json",
    "extraction-dev.json",
    "extraction-dev.warc.gz",
)
"""What the scores depend on beside the extractor."""

SHINGLE_WORDS = 4
WORD = re.compile(r"\w+")
SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:(?=//)")


# --- what is compared ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture an extractor found."""

    url: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What any extractor made of a page, ours or a peer."""

    text: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture of the labels: the forms (`picture_key`) of all its URLs, and the beginning of its caption."""

    keys: frozenset[str]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class PictureLabels:
    """The pictures of a page that are content, the URLs of those in doubt, and of all others."""

    content: tuple[LabelledPicture, ...]
    unsure: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LabelledPage:
    """A page with what is known of it; None where a kind of label is missing.

    `wanted` and `unwanted` are the segments of `extraction-dev`; `text` and `article_pictures` are Readability's.
    """

    page: Page
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    pictures: PictureLabels | None = None
    text: str | None = None
    article_pictures: PictureLabels | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found and should be, what was found and should not be, what was missed; shares of a page or numbers."""

    found: float = 0.0
    wrong: float = 0.0
    missed: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.found + other.found, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Share of what was found that should be."""
        return self.found / (self.found + self.wrong) if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of what should be found that was."""
        return self.found / (self.found + self.missed) if self.found else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.found / (2 * self.found + self.wrong + self.missed) if self.found else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """The counts of some pages; sums of scores are scores of all their pages.

    `unlisted` are the distinct URLs found on pages with picture labels that stand in no list; they are part of
    `pictures.wrong`.
    """

    segments: Counts = field(default_factory=Counts)
    shingles: Counts = field(default_factory=Counts)
    pictures: Counts = field(default_factory=Counts)
    article_pictures: Counts = field(default_factory=Counts)
    captions: Counts = field(default_factory=Counts)
    unlisted: int = 0

    def __add__(self, other: Scores) -> Scores:
        return Scores(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def figures(self) -> dict[str, float]:
        """Name every figure of the bench and the floors."""
        return {
            "segments precision": self.segments.precision,
            "segments recall": self.segments.recall,
            "segments F1": self.segments.f1,
            "shingles F1": self.shingles.f1,
            "pictures recall": self.pictures.recall,
            "pictures precision": self.pictures.precision,
            "article pictures recall": self.article_pictures.recall,
            "article pictures precision": self.article_pictures.precision,
            "captions": self.captions.recall,
        }


# --- scores ----------------------------------------------------------------------------------------------------------


def score(pages: Iterable[LabelledPage], extract: Callable[[Page], Document | Rejected]) -> Scores:
    """Run an extractor over pages and score it."""
    pages = list(pages)
    return score_extracted(pages, [simplify(extract(labelled.page)) for labelled in pages])


def score_extracted(pages: Sequence[LabelledPage], extracted: Iterable[Extracted]) -> Scores:
    """Score what was extracted from each of the pages."""
    total = Scores()
    for labelled, one in zip(pages, extracted, strict=True):
        total += score_page(labelled, one)
    return total


def score_page(labelled: LabelledPage, extracted: Extracted) -> Scores:
    """Score one page by every label it has."""
    none, found = Counts(), {picture_key(picture.url) for picture in extracted.pictures}
    pictures, article, text = labelled.pictures, labelled.article_pictures, labelled.text
    return Scores(
        segments=compare_segments(labelled.wanted, labelled.unwanted, extracted.text),
        shingles=none if text is None else compare_shingles(text, extracted.text),
        pictures=none if pictures is None else compare_pictures(pictures, found),
        article_pictures=none if article is None else compare_pictures(article, found),
        captions=none if pictures is None else compare_captions(pictures, extracted.pictures),
        unlisted=0 if pictures is None else len(found - keys_of(pictures) - pictures.unsure - pictures.other),
    )


def simplify(document: Document | Rejected) -> Extracted:
    """Reduce a document to what is scored: its texts, a line each, and its images; a rejected page gave nothing."""
    if isinstance(document, Rejected):
        return Extracted()
    text = "\n".join(item.text for item in document.items if isinstance(item, Text))
    images = (item for item in document.items if isinstance(item, ImageRef))
    return Extracted(text, tuple(Picture(image.url, image.caption) for image in images))


def fold(text: str) -> str:
    """Fold white space, as Unicode defines it, and nothing else: case, accents and forms must be right."""
    return " ".join(text.split())


def compare_segments(wanted: Iterable[str], unwanted: Iterable[str], text: str) -> Counts:
    """Count the segments that occur in a text."""
    folded = fold(text)
    hits = [fold(segment) in folded for segment in wanted]
    return Counts(sum(hits), sum(fold(segment) in folded for segment in unwanted), len(hits) - sum(hits))


def compare_shingles(expected: str, text: str) -> Counts:
    r"""Compare two texts by their runs of four words, as shares of all runs, so that every page weighs the same.

    Runs are counted as often as they occur, words as `\w+` finds them. Sums of these counts give the published
    figures of the peers to .001; sets of runs, or the mean of each page's F1, do not.
    """
    wanted, found = shingles(expected), shingles(text)
    common = (wanted & found).total()
    total = wanted.total() + found.total() - common
    if not total:
        return Counts()
    return Counts(common / total, (found.total() - common) / total, (wanted.total() - common) / total)


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Count the runs of four words; a shorter text is one run."""
    words = WORD.findall(text)
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1)) if words else ()
    return Counter(tuple(words[start : start + SHINGLE_WORDS]) for start in starts)


def compare_pictures(labels: PictureLabels, found: set[str]) -> Counts:
    """Count the pictures of the content that were found, and the distinct URLs that are none of them.

    A URL in no list is wrong too: a reader judged every picture of the page, so it is none of the page.
    """
    hits = sum(not picture.keys.isdisjoint(found) for picture in labels.content)
    wrong = found - keys_of(labels) - labels.unsure
    return Counts(hits, len(wrong), len(labels.content) - hits)


def compare_captions(labels: PictureLabels, pictures: Iterable[Picture]) -> Counts:
    """Count the labelled captions that stand, white space folded, in a caption found for their picture.

    Anywhere in it: a label is the beginning of a caption, cut even within a word, and what precedes it there may be a
    heading or a credit that the reader left out.
    """
    captions: dict[str, list[str]] = {}
    for picture in pictures:
        captions.setdefault(picture_key(picture.url), []).append(fold(picture.caption))
    hits = [
        any(fold(label.caption) in caption for key in label.keys for caption in captions.get(key, ()))
        for label in labels.content
        if label.caption
    ]
    return Counts(sum(hits), 0, len(hits) - sum(hits))


def keys_of(labels: PictureLabels) -> frozenset[str]:
    """Collect the URLs of all pictures of the content."""
    return frozenset().union(*(picture.keys for picture in labels.content))


def picture_key(url: str) -> str:
    """Write a picture's URL in the form that is compared: without scheme and fragment, else as it stands.

    Other spellings of an address are other pictures. So it was when the peers' published figures were made: they are
    met this way, and passed where URLs are normalised first.
    """
    return SCHEME.sub("", url.partition("#")[0])


# --- folds -----------------------------------------------------------------------------------------------------------

WITHOUT_URL = re.compile(r"hard::([^.]+\.[a-z]+)[.-]")
SAVED_ARTICLE = re.compile(r"https?://fakehost/test/([^/.-]+)")
ARCHIVED = re.compile(r"https?://web\.archive\.org/web/[^/]+/(?:https?:/+)?")
MAX_SECOND_LEVEL_CHARS = 3


def host_of(key: str) -> str:
    """Name the site that a page counts to when pages are split: `spiegel` for https://www.spiegel.de/politik/.

    `key` is a key of `extraction-dev` or the URL of a page. The name is the domain's without its suffix: subdomains and
    countries of a site stay together, and so do the articles, which are saved under one host and named after their
    site. Sites that only share a name fall together too, which costs a fold some balance and no honesty.
    """
    if saved := SAVED_ARTICLE.match(key):
        return saved[1].lower()
    original = ARCHIVED.sub("http://", key, count=1)
    without_url = WITHOUT_URL.match(key)
    host = without_url[1] if without_url else urlsplit(original).hostname or key
    labels = host.lower().removeprefix("www.").split(".")
    # The suffix of example.co.uk has two parts, that of sz.de one.
    has_second_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= MAX_SECOND_LEVEL_CHARS
    return labels[max(0, len(labels) - (3 if has_second_level else 2))]


def split_folds(pages: Iterable[LabelledPage], count: int) -> list[list[LabelledPage]]:
    """Deal pages into folds by the hash of their site, all pages of a site into one."""
    folds: list[list[LabelledPage]] = [[] for _ in range(count)]
    for labelled in pages:
        folds[int(key_of(host_of(labelled.page.url)), 16) % count].append(labelled)
    return folds


# --- the corpus ------------------------------------------------------------------------------------------------------


def read_dev(corpus: Path) -> list[LabelledPage]:
    """Read the pages of `extraction-dev` with their segments, and pictures where they are labelled."""
    segments, pictures = read_labels(corpus / f"{DEV}.json"), read_labels(corpus / f"{DEV}-images.json")
    pages = read_pages(corpus / f"{DEV}.warc.gz", segments)
    assert pictures.keys() <= segments.keys(), "pictures of a page that is not there"
    return [
        LabelledPage(
            page,
            tuple(segments[page.url]["with"]),
            tuple(segments[page.url]["without"]),
            picture_labels(pictures[page.url]) if page.url in pictures else None,
        )
        for page in pages
    ]


def picture_labels(judged: dict[str, Any]) -> PictureLabels:
    """Read what a reader said of the pictures of a page."""
    return PictureLabels(
        tuple(LabelledPicture(to_keys(one["urls"]), one["caption"] or "") for one in judged["content"]),
        *(frozenset().union(*(to_keys(urls) for urls in judged[kind])) for kind in ("unsure", "other")),
    )


def read_articles(corpus: Path) -> list[LabelledPage]:
    """Read the articles with Readability's text and pictures; repeated pictures count once."""
    articles = read_labels(corpus / f"{ARTICLES}.json")
    found = []
    for page in read_pages(corpus / f"{ARTICLES}.warc.gz", articles):
        article = articles[page.url]
        pictures = dict.fromkeys(to_keys(addresses(entry)) for entry in article["images"])
        labels = PictureLabels(tuple(LabelledPicture(keys) for keys in pictures))
        found.append(LabelledPage(page, text=article["text"], article_pictures=labels))
    return found


def addresses(entry: str) -> list[str]:
    """List the URLs of an entry, which may hold a whole `srcset`."""
    parts = entry.split()
    sizes = [part.rstrip(",") for part in parts[1::2]]
    is_srcset = sizes and all(size[-1:] in ("w", "x") and size[:-1].replace(".", "").isdigit() for size in sizes)
    return parts[::2] if is_srcset else [entry]


def to_keys(urls: Iterable[str]) -> frozenset[str]:
    """Write URLs in the form that is compared."""
    return frozenset(map(picture_key, urls))


def read_labels(path: Path) -> dict[str, Any]:
    """Read a file of annotations, its keys written as the URLs of pages are."""
    return {clean_url(key) or key.strip(): labels for key, labels in json.loads(path.read_text("utf-8")).items()}


def read_pages(archive: Path, labels: dict[str, Any]) -> list[Page]:
    """Read the pages of an archive as a build does."""
    config = SourceConfig(paths=(str(archive),))
    records = (record for split in plan_splits(config) for record in read_split(split, config, Folder("")))
    pages = [record for record in records if isinstance(record, Page)]
    assert sorted(page.url for page in pages) == sorted(labels), f"{archive.name} holds other pages than its labels"
    return pages


def corpus_sha256(corpus: Path) -> str:
    """Hash the pages and annotations."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(hashlib.sha256((corpus / name).read_bytes()).digest())
    return digest.hexdigest()
