"""Duplicates through the whole build: which pages and paragraphs stay, for which others, and why the rest goes."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from any_text import ANY_TEXT
from damage import http, member, page, picture, record

from pipeline import plan
from pipeline.build import BUILD, DEDUPLICATE, BuildConfig, run_steps
from pipeline.folder import CONFIG_FILE, Folder
from pipeline.stage import Job, gather, run_unit
from pipeline.tables import DOCUMENTS, MEDIA, REJECTED, KeyRange, stream_range
from pipeline.urls import join_url
from pipeline.why import why
from schemas.config import from_tree, with_overrides
from schemas.page import key_of

HOST, OTHER = "https://site.example", "https://other.example"
BANNER = "Sign up for our letter and read the best of the week every Sunday morning at breakfast."
WORDS = [f"{start}{end}" for start in ("bar", "cor", "del", "fen", "gol") for end in ("an", "est", "ium", "ola", "urn")]
EVERYTHING = KeyRange("", "")


def words(seed, count=300):
    """Draw a text that no other seed has."""
    draw = random.Random(seed)
    return [f"{draw.choice(WORDS)}{draw.randrange(400)}" for _ in range(count)]


def changed(text, at, by, count=12):
    """Write other words over a run of a text of 300 words: the similarity falls to 0.89 for a run of 12."""
    return [*text[:at], *words(by, count), *text[at + count :]]


def article(text, pictures, banner=""):
    """Write a page of paragraphs of fifty words with pictures between them."""
    shown = [f"<p><img src='/{name}.jpg' width=300 height=200></p>" for name in pictures]
    parts = [f"<p>{' '.join(text[at : at + 50])}.</p>" for at in range(0, len(text), 50)]
    parts[1:1] = shown
    parts[3:3] = [f"<p>{banner}</p>"] if banner else []
    return page("A page", f"<article><h1>{' '.join(text[-5:])}</h1>{''.join(parts)}</article>")


def chain(count):
    """Write texts that are each similar to the next, and the last not to the first."""
    text, found = words("chain"), []
    for step in range(count):
        text = changed(text, 12 * step, f"link {step}")
        found.append(text)
    return found


# (URL, words, pictures, banner, day) of each capture.
CAPTURES = [
    (f"{HOST}/news?id=4&utm_source=mail", words("older news"), ["one"], "", 1),
    (f"{HOST}/news?id=4", words("news"), ["two"], "", 2),
    (f"{HOST}/twice", words("older twice"), ["three"], "", 1),
    (f"{HOST}/twice", words("twice"), ["four"], "", 2),
    (f"{HOST}/long", [*words("copy"), "and", "more"], ["five"], "", 1),
    (f"{OTHER}/short", changed(words("copy"), 100, "changed"), ["six"], "", 2),
    *((f"https://h{at}.example/chain", text, [f"chain{at}"], "", at + 1) for at, text in enumerate(chain(8))),
    (f"{HOST}/album", words("album", 400), ["left", "right"], "", 1),
    (f"{HOST}/album/all", words("all"), ["right", "left", "right"], "", 1),
    (f"{HOST}/template/1", words("template 1"), ["template"], "", 1),
    (f"{HOST}/template/2", words("template 2"), ["template"], "", 1),
    *((f"{HOST}/banner/{at}", words(f"banner {at}"), [f"banner{at}"], BANNER, 1) for at in range(3)),
    *((f"{OTHER}/banner/{at}", words(f"other {at}"), [f"other{at}"], BANNER, 1) for at in range(2)),
]
CHAIN = {f"https://h{at}.example/chain" for at in range(8)}
DROPPED = {
    f"{HOST}/news?id=4&utm_source=mail": ("same_address", f"{HOST}/news?id=4"),
    f"{OTHER}/short": ("near_duplicate", f"{HOST}/long"),
    f"{HOST}/album/all": ("same_images", f"{HOST}/album"),
}


def write_archive(path, captures):
    """Write captures and their pictures as a WARC file."""
    pages = [
        record(http(article(text, pictures, banner)), url=url, date=f"2026-01-{day:02d}T00:00:00Z")
        for url, text, pictures, banner, day in captures
    ]
    urls = sorted({join_url(url, f"/{name}.jpg") for url, _, pictures, *_ in captures for name in pictures})
    seen = [record(http(picture(300, 200, seed=at), "image/jpeg"), url=url) for at, url in enumerate(urls)]
    Path(path).write_bytes(b"".join(map(member, [*pages, *seen])))
    return str(path)


def build(archive, out, *settings):
    """Build the archive in this process; gives the job and its totals."""
    config = from_tree(BuildConfig, {"source": {"paths": [archive]}}, "test")
    job = Job(Folder(str(out)), with_overrides(config, [*ANY_TEXT, *settings]))
    job.folder.write_text(CONFIG_FILE, "")

    def execute(stage, units, done):
        for unit in units:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    return job, run_steps(job, BUILD, execute)


def dropped_by(job):
    """Give the pages that others stand for: why, and which page stays."""
    urls = {row["key"]: row["url"] for row in stream_range(job.folder, DOCUMENTS, EVERYTHING)}
    rows = [row for row in stream_range(job.folder, REJECTED, EVERYTHING) if row["kind"] == "page"]
    return {
        row["url"]: (row["reason"], urls.get(row["detail"].removeprefix("page ").removesuffix(" is kept"), ""))
        for row in rows
    }


def samples(job):
    """Give the texts of each sample, by URL."""
    parts = Path(job.folder.root, "interleaved/obelics").glob("*.parquet")
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return {json.loads(row["general_metadata"])["url"]: [text for text in row["texts"] if text] for row in rows}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("archive") / "a.warc.gz", CAPTURES)


@pytest.fixture(scope="module")
def built(archive, tmp_path_factory):
    return build(archive, tmp_path_factory.mktemp("built"))


def test_pages_that_others_stand_for_are_dropped_and_say_for_which(built):
    job, _ = built
    dropped = dropped_by(job)
    of_chain = {url: dropped.pop(url) for url in CHAIN & dropped.keys()}
    assert len(of_chain) == 7
    assert set(of_chain.values()) == {("near_duplicate", *(CHAIN - of_chain.keys()))}
    assert dropped == DROPPED | {f"{HOST}/twice": ("duplicate_url", "")}
    assert samples(job).keys() == {url for url, *_ in CAPTURES} - DROPPED.keys() - of_chain.keys()


def test_the_newer_capture_of_a_url_and_the_longer_of_two_copies_stay(built):
    found = samples(built[0])
    assert " ".join(words("twice")[:50]) in found[f"{HOST}/twice"][0]
    assert found[f"{HOST}/long"][-1].endswith("and more.")


def test_a_paragraph_on_three_pages_of_a_host_is_left_out_there_alone(built):
    job, totals = built
    holding = {url for url, texts in samples(job).items() if any(BANNER in text for text in texts)}
    assert holding == {f"{OTHER}/banner/{at}" for at in range(2)}
    rows = [row for row in stream_range(job.folder, REJECTED, EVERYTHING) if row["kind"] == "paragraph"]
    assert {(row["url"], row["stage"], row["reason"]) for row in rows} == {
        (f"{HOST}/banner/{at}", "filter_texts", "repeated_paragraph") for at in range(3)
    }
    assert totals.counts["filter_texts", "paragraph", "repeated_paragraph"] == len(rows) == 3


def test_why_names_the_page_that_is_kept(built):
    job, _ = built
    kept = f"{HOST}/long"
    (told,) = [found for found in why(f"{OTHER}/short", job.folder).rejections if found.kind == "page"]
    assert (told.stage, told.reason, told.detail) == ("refer", "near_duplicate", f"page {key_of(kept)} is kept")
    assert why(key_of(kept), job.folder).url == kept


def test_what_only_dropped_pages_show_is_not_looked_for_and_each_picture_has_its_row(built):
    job, totals = built
    shown = {join_url(url, f"/{name}.jpg") for url, _, pictures, *_ in CAPTURES for name in pictures}
    dropped = {row["url"] for row in stream_range(job.folder, REJECTED, EVERYTHING) if row["stage"] == "refer"}
    known = {row["url"] for row in stream_range(job.folder, MEDIA, EVERYTHING)}
    assert shown - known == {f"{HOST}/one.jpg", f"{HOST}/three.jpg", f"{OTHER}/six.jpg"} | {
        f"{url.removesuffix('chain')}chain{at}.jpg" for at, url in enumerate(sorted(CHAIN)) if url in dropped
    }
    counts = {reason: count for names, reason, count in by_reason(totals) if names == ("refer", "image")}
    assert sum(counts.values()) == sum(len(pictures) for _, _, pictures, *_ in CAPTURES)
    assert counts == {"": 13, "page_rejected": 13}
    pages = {reason: count for names, reason, count in by_reason(totals) if names == ("refer", "page")}
    assert pages == {"": 12, "duplicate_url": 1, "same_address": 1, "near_duplicate": 8, "same_images": 1}


def by_reason(totals):
    """Give what the stages counted: stage and kind, reason, number."""
    return [((stage, kind), reason, count) for (stage, kind, reason), count in totals.counts.items()]


def test_why_tells_of_a_picture_that_only_a_dropped_page_shows(built):
    told = why(f"{OTHER}/six.jpg", built[0].folder)
    assert (told.media, told.references) == (None, 1)
    assert [(use.page_url, use.stage, use.reason, use.detail) for use in told.pages] == [
        (f"{OTHER}/short", "refer", "page_rejected", "near_duplicate")
    ]
    shared = why(f"{HOST}/left.jpg", built[0].folder)
    assert shared.references == 2
    assert [(use.page_url, use.part, use.reason) for use in shared.pages] == [
        (f"{HOST}/album", "m000.jpg", ""),
        (f"{HOST}/album/all", "", "page_rejected"),
    ]


def test_few_pages_need_no_rounds(built):
    job, _ = built
    done = {step.stage.name for step in DEDUPLICATE if job.folder.names(f"work/done/{step.stage.name}")}
    assert done == {"address", "same_address", "sign", "link", "repeat", "same_repeat", "refer"}


@pytest.mark.parametrize(("rows", "rounds"), [(6, True), (150, False)])
def test_units_do_not_change_what_stays(archive, built, tmp_path, monkeypatch, rows, rounds):
    monkeypatch.setattr(plan, "ROWS_PER_UNIT", rows)
    job, _ = build(archive, tmp_path)
    assert (len(job.folder.names("work/done/cluster")) > 0) == rounds
    assert len(job.folder.names("work/done/star_1")) > 0
    assert dropped_by(job) == dropped_by(built[0])
    assert shards(job) == shards(built[0])


def shards(job):
    """Read the shards."""
    return {path.name: path.read_bytes() for path in Path(job.folder.root, "interleaved").glob("*.tar")}


def test_the_order_of_the_archive_does_not_change_what_stays(built, tmp_path):
    captures = random.Random(2).sample(CAPTURES, len(CAPTURES))
    job, _ = build(write_archive(tmp_path / "b.warc.gz", captures), tmp_path / "out")
    assert dropped_by(job) == dropped_by(built[0])
    assert samples(job) == samples(built[0])


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("same_address=false", {f"{HOST}/news?id=4&utm_source=mail"}),
        ("near.min_jaccard=0", {f"{OTHER}/short", *CHAIN}),
        ("min_images=0", {f"{HOST}/album/all"}),
        ("min_images=3", {f"{HOST}/album/all"}),
        ("min_pages=0", set()),
        ("min_pages=4", set()),
    ],
)
def test_each_part_can_be_switched_off(archive, built, tmp_path, setting, kept):
    job, _ = build(archive, tmp_path, f"duplicates.{setting}")
    before = samples(built[0])
    after = samples(job)
    assert after.keys() == before.keys() | kept
    left = {url for url, texts in after.items() if url.startswith(HOST) and any(BANNER in text for text in texts)}
    assert left == ({f"{HOST}/banner/{at}" for at in range(3)} if setting.startswith("min_pages") else set())


def test_one_picture_is_a_set_if_asked_for(archive, tmp_path):
    job, _ = build(archive, tmp_path, "duplicates.min_images=1")
    pages = {url: dropped_by(job).get(url, ("kept", ""))[0] for url in (f"{HOST}/template/1", f"{HOST}/template/2")}
    assert sorted(pages.values()) == ["kept", "same_images"]


def test_parts_that_are_switched_off_leave_nothing_of_an_earlier_build(archive, tmp_path):
    off = ["same_address=false", "near.min_jaccard=0", "min_images=0", "min_pages=0"]
    job, _ = build(archive, tmp_path)
    assert len(dropped_by(job)) > 4
    job, _ = build(archive, tmp_path, *(f"duplicates.{setting}" for setting in off))
    assert {reason for reason, _ in dropped_by(job).values()} == {"duplicate_url"}
    assert [step.stage.name for step in DEDUPLICATE if job.folder.names(f"work/done/{step.stage.name}")] == ["refer"]
