"""What stands on each page of the demonstration site, before any HTML.

(seed, page) comes in, a `PageDraft` goes out: its texts, its pictures with their addresses, its kind of dirt. A page
depends on nothing but the seed and its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.demo import words
from pipeline.demo.dice import Dice
from pipeline.demo.facts import Fact, Telling, upper
from pipeline.demo.fill import cast_of, fill
from pipeline.demo.foreign import FRENCH, GERMAN, Foreign, sentences_of
from pipeline.demo.picture import Picture, PictureTeller, copies_of, gallery_heading, texts_of
from pipeline.demo.tell import facts_of, phrase_of, tell
from pipeline.demo.video import Video, video_of
from pipeline.demo.world import MAX_PICTURES, page_dice, scene

LAYOUTS = ("article", "gallery", "list", "table", "thread", "story")

DIRT = (
    "clean", "lazy", "srcset", "webp", "base", "relative", "odd_names", "hidden", "pixels", "banner", "flat",
    "truncated", "html_as_image", "gone", "absent", "repeated", "alpha", "cmyk", "rotated", "animated", "vector",
    "mirror", "recaptured", "no_pictures", "little_text", "german", "french", "latin1_meta", "latin1_header",
    "nested_tables", "unclosed", "robots_meta", "robots_header", "adverts", "comments", "plain",
)  # fmt: skip
"""The kinds of pages by their dirt; page `i` is of kind `i % 36`, so that 36 pages hold every kind."""

HOSTS = tuple(words.SITE_NAMES)
CDN = "https://static.paint-cdn.example"
ADVERT_HOST = "https://ads.adnet.example"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True, slots=True)
class Extra:
    """An image that no build should keep; `why` is the kind of its fault."""

    why: str
    url: str
    alt: str


@dataclass(frozen=True, slots=True)
class Section:
    """A picture or video with its heading and paragraphs."""

    heading: str
    picture: Picture | None
    paragraphs: tuple[str, ...]
    video: Video | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A related page: its address, title and thumbnail."""

    url: str
    title: str
    thumbnail: str


@dataclass(frozen=True, slots=True)
class PageDraft:
    """A page before HTML; `mirror_url` is its second address (empty for most), `edition` its older capture if 1.

    `gallery` heads the pictures of a gallery, empty where the page has none.
    """

    seed: int
    index: int
    edition: int
    layout: str
    dirt: str
    url: str
    mirror_url: str
    title: str
    language: str
    intro: tuple[str, ...]
    gallery: str
    sections: tuple[Section, ...]
    outro: tuple[str, ...]
    extras: tuple[Extra, ...]

    @property
    def dice(self) -> Dice:
        """The dice of the page."""
        return page_dice(self.seed, self.index)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of the content, in reading order."""
        return tuple(section.picture for section in self.sections if section.picture is not None)

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos of the content, in reading order."""
        return tuple(section.video for section in self.sections if section.video is not None)

    @property
    def root(self) -> str:
        """Scheme and host of the page."""
        return "/".join(self.url.split("/")[:3])


Parts = tuple[tuple[str, ...], tuple[Section, ...], tuple[str, ...]]


def layout_of(index: int) -> str:
    """Return the layout of a page: every kind of dirt meets every layout as the site grows."""
    if DIRT[index % len(DIRT)] == "nested_tables":
        return "table"
    return LAYOUTS[(index + index // len(DIRT)) % len(LAYOUTS)]


def page_title(seed: int, index: int) -> str:
    """Return the title of an English page; it is drawn apart from the page's pictures."""
    dice = page_dice(seed, index).sub("title")
    return fill(dice.pick("template", words.TITLES), dice, cast_of(seed, index))


def page_url(seed: int, index: int) -> str:
    """Return the address of a page."""
    dice = page_dice(seed, index)
    slug = "-".join(re.findall(r"[a-z]+", page_title(seed, index).lower()))
    return f"https://{dice.pick('host', HOSTS)}/{layout_of(index)}/{slug}-{dice.hex('slug', 10)}.html"


def thumbnail_url(seed: int, index: int) -> str:
    """Return the address of a page's thumbnail, which other pages show."""
    return f"{CDN}/thumb/{page_dice(seed, index).hex('thumbnail', 16)}.jpg"


def related(draft: PageDraft) -> tuple[Link, ...]:
    """Return links to earlier pages, so that a page does not depend on how many follow it."""
    back = [draft.index - step for step in (1, 2, 5) if draft.index >= step]
    return tuple(
        Link(page_url(draft.seed, i), page_title(draft.seed, i), thumbnail_url(draft.seed, i))
        for i in back
        if DIRT[i % len(DIRT)] != "no_pictures"
    )


def image_folder(draft_url: str, dirt: str, dice: Dice) -> str:
    """Return the folder of a page's pictures."""
    root = "/".join(draft_url.split("/")[:3])
    if dirt == "base":
        return f"{CDN}/{dice.hex('base', 8)}"
    if dirt == "odd_names":
        return f"{root}/images/Bl%C3%A4tter%20und%20mehr"
    return f"{root}/images"


def picture_count(seed: int, page: int) -> int:
    """Return how many pictures the content of a page has."""
    dirt = DIRT[page % len(DIRT)]
    if dirt in ("no_pictures", "little_text"):
        return 0 if dirt == "no_pictures" else 1
    return page_dice(seed, page).pick("pictures", (1, 2, 2, 3, 3, 3, 4, 4, 5, MAX_PICTURES))


def fact_sentence(fact: Fact, link: str, dice: Dice, cast: tuple[str, ...]) -> str:
    """Say one truth, after a link word if there is one."""
    sentence = dice.pick("statement", fact.statements)
    if not link:
        return sentence
    return fill(link, dice, cast).rstrip() + " " + sentence[0].lower() + sentence[1:]


def comparison(first: Picture, second: Picture, dice: Dice) -> str:
    """Compare two pictures truly, without saying what is in them."""
    one, other = ORDINALS[first.index], ORDINALS[second.index]
    left, right = tell(first.scene), tell(second.scene)
    same = first.scene.background == second.scene.background
    shared = "share a background colour" if same else "have different background colours"
    said = [
        f"The {one} and the {other} picture {shared}.",
        shape_of_sheet(second),
        colour_comparison(one, left, other, right),
    ]
    if left.count and right.count:
        said.append(count_comparison(one, left, other, right))
    return dice.pick("comparison", said)


def shape_of_sheet(picture: Picture) -> str:
    """Say whether a picture is wide or high."""
    width, height = picture.scene.width_px, picture.scene.height_px
    form = (
        "wider than it is high"
        if width > height
        else "higher than it is wide"
        if height > width
        else "as wide as it is high"
    )
    return f"The {ORDINALS[picture.index]} sheet is {form}."


def colour_comparison(one: str, left: Telling, other: str, right: Telling) -> str:
    """Say whether the leading things of two pictures have the same colour."""
    verdict = "have the same colour" if left.colour == right.colour else "differ in colour"
    return f"{upper(left.subject)} in the {one} picture and {right.subject} in the {other} one {verdict}."


def count_comparison(one: str, left: Telling, other: str, right: Telling) -> str:
    """Say in which of two pictures there is more to count."""
    if left.count == right.count:
        return f"The {one} picture has as many {left.counted} as the {other} one has {right.counted}."
    most, least, more, less = (one, other, left, right) if left.count > right.count else (other, one, right, left)
    return f"The {most} picture has more {more.counted} than the {least} one has {less.counted}."


def section_text(
    picture: Picture, previous: Picture | None, fillers: Iterator[str], dice: Dice, cast: tuple[str, ...]
) -> tuple[str, ...]:
    """Write the paragraphs about one picture: part of its truth, among sentences that say nothing of it."""
    telling, ordinal = tell(picture.scene), ORDINALS[picture.index]
    phrase = phrase_of(telling, dice.sub("lead phrase"))
    lead = fill(dice.pick("lead", words.LEADS), dice.sub("lead"), cast, phrase=phrase, nth=ordinal)
    facts = dice.order("facts", facts_of(picture.scene))[: dice.between("how many facts", 2, 4)]
    links = dice.order("links", words.LINKS)
    said = [fact_sentence(fact, links[number], dice.sub(number), cast) for number, fact in enumerate(facts)]
    first = [lead, *said[:2]]
    second = [next(fillers), *said[2:]]
    if previous is not None and dice.unit("compare") < 0.7:
        second.append(comparison(previous, picture, dice))
    if dice.unit("more") < 0.4:
        first.append(next(fillers))
    return " ".join(first), " ".join(second)


def endless_fillers(dice: Dice, cast: tuple[str, ...]) -> Iterator[str]:
    """Yield sentences that say nothing of any picture, each template once before any comes again."""
    for round_ in range(len(words.FILLERS)):
        for number, template in enumerate(dice.order(f"fillers {round_}", words.FILLERS)):
            yield fill(template, dice.sub(f"filler {round_} {number}"), cast)


def english_parts(pictures: tuple[Picture, ...], dirt: str, dice: Dice, cast: tuple[str, ...]) -> Parts:
    """Return introduction, sections and end of an English page."""
    fillers = endless_fillers(dice.sub("fillers"), cast)
    first = [fill(dice.pick("intro", words.INTROS), dice.sub("intro"), cast), next(fillers), next(fillers)]
    if dirt.startswith("latin1"):
        first.append(words.ACCENTED)
    if dirt == "no_pictures":
        first.append(words.NO_PICTURES)
    more = [" ".join((next(fillers), next(fillers), next(fillers))) for _ in range(max(0, 3 - len(pictures)))]
    sections = english_sections(pictures, fillers, dice, cast)
    outro = (next(fillers), fill(dice.pick("outro", words.OUTROS), dice.sub("outro"), cast))
    return (" ".join(first), *more), sections, (" ".join(outro),)


def english_sections(
    pictures: tuple[Picture, ...], fillers: Iterator[str], dice: Dice, cast: tuple[str, ...]
) -> tuple[Section, ...]:
    """Return a section for each picture."""
    headings = dice.order("headings", words.HEADINGS)
    sections = []
    for number, picture in enumerate(pictures):
        heading = fill(headings[number], dice.sub(f"heading {number}"), cast)
        previous = pictures[number - 1] if number else None
        sections.append(Section(heading, picture, section_text(picture, previous, fillers, dice.sub(number), cast)))
    return tuple(sections)


def foreign_parts(language: Foreign, pictures: tuple[Picture, ...], dice: Dice) -> Parts:
    """Return introduction, sections and end of a page in another language."""
    filler = dice.order("foreign", language.filler)
    sections = tuple(
        Section(
            f"{language.title} ({picture.index + 1})", picture, (sentences_of(language, picture.scene, picture.index),)
        )
        for picture in pictures
    )
    return (" ".join(filler[:3]),), sections, (" ".join(filler[3:]),)


def extras_of(dirt: str, root: str, dice: Dice) -> tuple[Extra, ...]:
    """Return the images of a page that no build should keep, by its kind of dirt."""
    name = dice.hex("extra", 16)
    table = {
        "pixels": (("pixel", "gif", ""), ("spacer", "gif", ""), ("small", "jpg", "A scrap of paper")),
        "banner": (("banner", "jpg", "A long strip of paper"),),
        "flat": (("flat", "png", "An empty sheet"),),
        "truncated": (("truncated", "jpg", "A sheet that was torn"),),
        "html_as_image": (("html", "jpg", "A sheet that was taken away"),),
        "gone": (("gone", "jpg", "A sheet that is gone"),),
        "absent": (("absent", "jpg", "A sheet that was never kept"),),
        "vector": (("vector", "svg", "A sheet of lines"),),
    }
    rows = table.get(dirt, ())
    return tuple(
        Extra(why, f"{root}/images/{name}{number}.{suffix}", alt) for number, (why, suffix, alt) in enumerate(rows)
    )


def pictures_of(seed: int, index: int, url: str, text: Dice, cast: tuple[str, ...]) -> tuple[Picture, ...]:
    """Plan the pictures of a page; only an English page says anything of them outside its paragraphs."""
    dice, dirt, site = page_dice(seed, index), DIRT[index % len(DIRT)], words.SITE_NAMES[url.split("/")[2]]
    folder, found = image_folder(url, dirt, dice), []
    for number in range(picture_count(seed, index)):
        truth = scene(seed, index, number)
        copies = copies_of(dirt, folder, number, truth.width_px, dice.sub(number).sub("picture"))
        teller = PictureTeller(text.sub(f"picture {number}"), cast, truth)
        texts = () if dirt in ("german", "french") else texts_of(teller, number, layout_of(index), site, text)
        found.append(Picture(number, truth, copies, texts))
    return tuple(found)


def video_sections(seed: int, index: int, root: str, dice: Dice, cast: tuple[str, ...]) -> tuple[Section, ...]:
    """Return the section of a page's video, if it has one; its paragraph tells nothing of what the video shows."""
    if (video := video_of(seed, index, DIRT[index % len(DIRT)], root, cast)) is None:
        return ()
    heading = fill(dice.pick("heading", words.FILM_HEADINGS), dice.sub("heading"), cast)
    return (Section(heading, None, (fill(dice.pick("lead", words.FILM_LEADS), dice.sub("lead"), cast),), video),)


def draft_page(seed: int, index: int, edition: int = 0) -> PageDraft:
    """Plan a page; `edition` 1 is the text of an older capture."""
    dice, dirt, url = page_dice(seed, index), DIRT[index % len(DIRT)], page_url(seed, index)
    root = "/".join(url.split("/")[:3])
    text, cast = dice.sub(f"text {edition}"), cast_of(seed, index)
    pictures = pictures_of(seed, index, url, text, cast)
    title, code, gallery = page_title(seed, index), "en", ""
    if dirt in ("german", "french"):
        language = GERMAN if dirt == "german" else FRENCH
        (intro, sections, outro), title, code = foreign_parts(language, pictures, text), language.title, language.code
    elif dirt == "little_text":
        intro, sections, outro = (words.LITTLE,), (Section("", pictures[0], ()),), ()
    else:
        if layout_of(index) == "gallery" and (head := gallery_heading(pictures, text, cast)) is not None:
            gallery, pictures = head.text, tuple(replace(p, texts=(*p.texts, head)) for p in pictures)
        intro, sections, outro = english_parts(pictures, dirt, text, cast)
        sections += video_sections(seed, index, root, text.sub("video"), cast)
    mirror = f"{root}/mirror/{dice.hex('mirror', 12)}.html" if dirt == "mirror" else ""
    return PageDraft(
        seed, index, edition, layout_of(index), dirt, url, mirror, title, code, intro, gallery, sections, outro,
        extras_of(dirt, root, dice),
    )  # fmt: skip
