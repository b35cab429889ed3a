"""DATASHEET.md of a complete dataset: manifests and indexes × what people answered → the questions of a datasheet.

The questions are after "Datasheets for Datasets" (arXiv 1803.09010), in our words. What the data can answer is answered
from it. What only people know stands in `datasheet.toml`, which is written once with empty answers and then left alone;
the next build takes them over. Same dataset and answers, same bytes: no clock and no place is asked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import tomli_w

from pipeline.composition import UNNAMED, Frequent
from pipeline.folder import Folder
from pipeline.ledger import Rule
from pipeline.optout import OPTED_OUT
from pipeline.overview import Overview, overview
from pipeline.report import contents, counted, human_bytes, percent, printable, refused
from pipeline.rights import (
    CONTENT_SIGNAL,
    CONTENT_USAGE,
    META_ROBOTS,
    ROBOTS_DISALLOWED,
    ROBOTS_UNAVAILABLE,
    TDM_RESERVATION,
    X_ROBOTS_TAG,
)
from pipeline.safety import setting

DATASHEET_FILE = "DATASHEET.md"
ANSWERS_FILE = "datasheet.toml"
RIGHTS = (
    *(ROBOTS_DISALLOWED, ROBOTS_UNAVAILABLE, X_ROBOTS_TAG, META_ROBOTS),
    *(CONTENT_USAGE, CONTENT_SIGNAL, TDM_RESERVATION, OPTED_OUT),
)
"""Reasons with which sites and people keep something from being used."""
STEPS = {
    "list": "lists of URLs are read",
    "settle": "listed pages are asked of the web",
    "read": "sources are read",
    "extract": "content is told from the rest of a page",
    "refer": "pages that others stand for are left out",
    "locate": "pictures are looked for",
    "normalise": "pictures are checked, decoded and made smaller",
    "score": "models score pictures",
    "embed": "a model embeds pictures, to compare them with evaluation sets",
    "evaluation": "pictures of evaluation sets are left out",
    "locate_videos": "videos are looked for",
    "decode_videos": "videos are cut into clips",
    "filter_images": "rules for pictures, each time a page shows one",
    "filter_texts": "rules for paragraphs",
    "select": "rules for pages",
    "mask": "personal data in pages is masked",
    "shard": "pages are written",
    "pair": "pictures get the text that says most of them",
    "pair_mask": "personal data in pairs is masked",
    "pair_score": "models score pairs",
    "pair_judge": "thresholds of scores",
    "pair_shard": "pairs are written",
    "clip": "clips get their text",
    "video_mask": "personal data in texts of clips is masked",
    "video_shard": "clips are written",
}
"""What the stages of the funnel do, for people."""
HONOURED = {
    "robots": "robots.txt",
    "preferences": "AI preferences, Content-Usage and Content-Signal",
    "tags": "X-Robots-Tag headers and robots meta elements",
    "tdm": "TDMRep reservations",
}
MAX_NAME_CHARS = 200
Facts = Callable[[Overview], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a section: what the data says of it, if anything, and whether people are asked."""

    section: str
    name: str
    text: str
    facts: Facts | None = None
    people: bool = True

    @property
    def setting(self) -> str:
        """Name the answer in `datasheet.toml`."""
        return f"{self.section}.{self.name}"


def write_datasheet(folder: Folder) -> None:
    """Write the datasheet of a complete dataset, and the file for people's answers where there is none.

    Answers that cannot be read are a `UserError`.
    """
    text = folder.read_text(ANSWERS_FILE)
    if text is None:
        folder.write_text(ANSWERS_FILE, empty_answers())
    answers = read_answers(text or "", folder.path(ANSWERS_FILE))
    folder.write_text(DATASHEET_FILE, "".join(datasheet(overview(folder), answers)))


def empty_answers() -> str:
    """Write the questions that people are asked, with nothing for an answer."""
    lines = ["# What only people can say of this dataset. The next build puts it into DATASHEET.md.\n"]
    section = ""
    for question in QUESTIONS:
        if question.people:
            lines += [f"\n[{question.section}]\n"] if question.section != section else []
            lines.append(f'# {question.text}\n{question.name} = ""\n')
            section = question.section
    return "".join(lines)


def read_answers(text: str, where: str) -> dict[str, str]:
    """Read people's answers by the names of their questions; empty ones are left out."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise refused(f"{where}: not TOML: {error}; mend it and build again") from None
    known = {question.setting for question in QUESTIONS if question.people}
    answers: dict[str, str] = {}
    for section, table in tree.items():
        for name, answer in (table if isinstance(table, Mapping) else {"": table}).items():
            if f"{section}.{name}" not in known or not isinstance(answer, str):
                raise refused(f"{where}: {section}.{name}: no question of this name, or its answer is no text")
            answers |= {f"{section}.{name}": answer.strip()} if answer.strip() else {}
    return answers


def datasheet(found: Overview, answers: Mapping[str, str]) -> Iterator[str]:
    """Yield the datasheet in Markdown."""
    yield "# Datasheet\n\nThe questions are after [Datasheets for Datasets](https://arxiv.org/abs/1803.09010). "
    yield "What the data can answer is answered from it by `flamingo build`; "
    yield f"what only people can answer is taken from `{ANSWERS_FILE}`.\n"
    section = ""
    for question in QUESTIONS:
        if question.section != section:
            section = question.section
            yield f"\n## {section.capitalize()}\n"
        yield f"\n### {question.text}\n\n"
        gap = "\n" if question.facts is not None else ""
        if question.facts is not None:
            yield from (f"{line}\n" for line in question.facts(found))
        if answer := answers.get(question.setting):
            yield f"{gap}{answer}\n"
        elif question.people:
            yield f"{gap}**To be answered by people:** `{question.setting}` in `{ANSWERS_FILE}`\n"
    yield f"\n## Settings\n\n````toml\n{tomli_w.dumps(dict(found.manifest.config))}````\n"


# --- what the data says ----------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """Write a name, which may come from a page, so that Markdown shows it and does nothing with it."""
    return f"`{printable(text[:MAX_NAME_CHARS]).replace('`', chr(39)).replace('|', chr(0xA6))}`"


def things(count: int, kind: str) -> str:
    """Write a number of things of a kind of the funnel."""
    return counted(count, kind.replace("url", "URL"))


def instances(found: Overview) -> Iterator[str]:
    """Say what there is and how much."""
    for number, (kind, totals) in enumerate(found.totals.items()):
        shards = found.manifests[kind].shards
        size = human_bytes(sum(shard.bytes for shard in shards))
        yield f"{'' if number == 0 else chr(10)}In `{kind}/`, {counted(len(shards), 'shard')} of {size}:\n"
        yield from (f"- {name}: {value}" for name, value in contents(kind, totals).items())


def selection(found: Overview) -> Iterator[str]:
    """Say how much of what was read is kept."""
    yield "It is what the rules below leave of the sources. What came into each step, and what was kept:\n"
    yield "| stage | step | came in | kept | % |\n|---|---|---:|---:|---:|"
    for row in found.funnel:
        cells = [code(row.stage), STEPS[row.stage], things(row.seen, row.kind), f"{row.kept:,}"]
        yield f"| {' | '.join([*cells, percent(row.kept, row.seen)])} |"


def said_of_pages(found: Overview) -> Iterator[str]:
    """Say which languages, hosts and dates the pages have."""
    if (told := found.composition) is None:
        return
    for name, frequent in (("language", told.languages), ("host", told.hosts)):
        yield frequent_line(name, frequent)
    for name, (first, last) in (("Published", told.published), ("Captured", told.captured)):
        if first:
            yield f"- {name} from {first} to {last}"


def frequent_line(name: str, frequent: Frequent) -> str:
    """Name what is most frequent, with its numbers of pages."""
    most = ""
    if frequent.different is None:
        most = f", the {len(frequent.names)} most frequent of very many"
    elif frequent.different > len(frequent.names):
        most = f", the {len(frequent.names)} most frequent of {frequent.different:,}"
    told = ", ".join(
        f"{'none named' if value == UNNAMED else code(value)} {count:,}" for value, count in frequent.names
    )
    return f"- Pages by {name}{most}: {told or 'none'}"


def missing(found: Overview) -> Iterator[str]:
    """Say what could not be had or read."""
    stages = ("settle", "read", "locate", "normalise", "locate_videos", "decode_videos")
    yield from rule_lines(found, lambda rule: rule.stage in stages and rule.reason not in RIGHTS)


def rule_lines(found: Overview, wanted: Callable[[Rule], bool]) -> Iterator[str]:
    """Say what some rules took."""
    chosen = [rule for rule in found.rules if wanted(rule)]
    for rule in chosen:
        share = percent(rule.things.count, rule.things.came_in)
        told = f"{rule.things.count:,} of {things(rule.things.came_in, rule.kind)} ({share} %)"
        yield f"- {code(rule.reason)}, in {code(rule.stage)}: {told}"
    if not chosen:
        yield "Nothing was counted."


def duplicates(found: Overview) -> Iterator[str]:
    """Say what was dropped as a duplicate."""
    reasons = ("duplicate_url", "same_address", "near_duplicate", "same_images", "repeated_paragraph", "duplicate_line")
    yield from rule_lines(found, lambda rule: rule.reason in reasons)


def splits(found: Overview) -> Iterator[str]:
    """Say that there are none."""
    yield "The build makes no splits. A sample's key is a hash of its address: a range of keys is a random share."


def external(found: Overview) -> Iterator[str]:
    """Say that pictures lie in the shards."""
    yield "Texts, pictures and clips lie in the shards. Addresses say where they come from; nothing need be fetched."


def not_run(found: Overview) -> Iterator[str]:
    """Say which steps of safety did not run."""
    if found.not_run:
        yield "These steps, which may keep such things out, did not run:\n"
    yield from (f"- {line}" for line in found.not_run)
    if not found.not_run:
        yield "Every step of safety and rights that the software has was run."


def acquired(found: Overview) -> Iterator[str]:
    """Say what was read, and whether the web was asked."""
    yield from (f"- Source: {code(path)}" for path in setting(found.manifest.config, "source.paths") or [])
    contact = setting(found.manifest.config, "fetch.contact")
    asked = f"asked in the name of {code(contact)}" if contact else "not asked: all comes from the sources"
    yield f"- The web was {asked}"
    if found.composition and found.composition.captured[0]:
        yield f"- Captured from {found.composition.captured[0]} to {found.composition.captured[1]}"


def rights(found: Overview) -> Iterator[str]:
    """Say which refusals are honoured, and how many there were."""
    for name, what in HONOURED.items():
        on = setting(found.manifest.config, f"rights.{name}")
        yield f"- {what}: {'honoured' if on else 'not honoured'} (`rights.{name}`)"
    lists = len(setting(found.manifest.config, "rights.opt_out") or [])
    yield f"- Lists of people who opted out: {lists or 'none'} (`rights.opt_out`)"
    yield "\nWhat was refused for them:\n"
    yield from rule_lines(found, lambda rule: rule.reason in RIGHTS)


def rules(found: Overview) -> Iterator[str]:
    """Lay out what each rule took; the numbers of the rules are in the settings."""
    yield "What each rule took, and its share of what came in. The numbers of the rules are in the settings below.\n"
    yield "| stage | rule | took | % | words | bytes |\n|---|---|---:|---:|---:|---:|"
    for rule in found.rules:
        words, size = rule.sizes.get("words"), rule.sizes.get("bytes")
        cells = [code(rule.stage), code(rule.reason), things(rule.things.count, rule.kind)]
        cells += [percent(rule.things.count, rule.things.came_in)]
        cells += [f"{words.count:,}" if words else "", human_bytes(size.count) if size else ""]
        yield f"| {' | '.join(cells)} |"


def decontamination(found: Overview) -> Iterator[str]:
    """Say which evaluation sets were kept out."""
    for counts in found.sets:
        yield (
            f"- {code(counts.set)}: {counts.equal:,} equal and {counts.near:,} near pictures were removed, "
            f"{counts.near_misses:,} near misses kept"
        )
    if not found.sets:
        yield "No evaluation set was named: its pictures may be in the dataset."


def masking(found: Overview) -> Iterator[str]:
    """Say whether personal data was masked."""
    on = setting(found.manifest.config, "privacy.mask")
    yield "Personal data was masked, as the settings say." if on else "Nothing was masked: texts stand as on the pages."


def software(found: Overview) -> Iterator[str]:
    """Say what made it."""
    manifest = found.manifest
    yield f"flamingo {manifest.version}, schema {manifest.schema}. The same sources and settings give the same bytes."


def licences(found: Overview) -> Iterator[str]:
    """Say which licences the pages name."""
    if found.composition is not None:
        yield frequent_line("the licence that they name", found.composition.licences)


def updates(found: Overview) -> Iterator[str]:
    """Say how something is taken out."""
    yield "A list of addresses in `rights.opt_out` takes pages and pictures out when the dataset is built again."


QUESTIONS = (
    Question("motivation", "purpose", "What was the dataset made for?"),
    Question("motivation", "makers", "Who made it, and for whom?"),
    Question("motivation", "funding", "Who paid for it?"),
    Question("composition", "instances", "What does it hold, and how much?", instances, people=False),
    Question("composition", "selection", "Is it all there is, or a selection?", selection, people=False),
    Question("composition", "pages", "What do the pages say of themselves?", said_of_pages, people=False),
    Question("composition", "missing", "What is missing?", missing, people=False),
    Question("composition", "duplicates", "What was found more than once?", duplicates, people=False),
    Question("composition", "splits", "Are there splits?", splits, people=False),
    Question("composition", "external", "Does it depend on anything outside?", external, people=False),
    Question("composition", "people", "Does it show or name people, and may it offend or harm them?", not_run),
    Question("collection", "sources", "Where does it come from, and when was it captured?", acquired, people=False),
    Question("collection", "rights", "Whose refusals were honoured?", rights, people=False),
    Question("collection", "consent", "Were the people behind the pages told, and did they agree?"),
    Question("collection", "review", "Did anybody review it for its ethics?"),
    Question("preprocessing", "rules", "What was filtered, by which rules?", rules, people=False),
    Question("preprocessing", "evaluation", "Were evaluation sets kept out?", decontamination, people=False),
    Question("preprocessing", "masking", "Was personal data masked?", masking, people=False),
    Question("preprocessing", "software", "What software made it?", software, people=False),
    Question("uses", "so_far", "What has it been used for?"),
    Question("uses", "fit", "What else could it be used for?"),
    Question("uses", "unfit", "What should it not be used for?"),
    Question("distribution", "who", "Who gets it, how and when?"),
    Question("distribution", "licence", "Under which terms?", licences),
    Question("maintenance", "keeper", "Who looks after it, and how are they reached?"),
    Question("maintenance", "updates", "Will it be mended and updated, and how is something taken out?", updates),
)
