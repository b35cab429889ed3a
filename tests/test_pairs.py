"""Pairs over all pages: who shares a text, which text is chosen, and what becomes of every picture."""

import itertools
import json
import random
import tarfile
from pathlib import Path

import pytest
from any_text import ANY_TEXT
from damage import http, member, page, picture, record
from web_dataset import WORDS

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.folder import Folder
from pipeline.pairs import MAX_CANDIDATES, by_page, count_shared, first_of_key
from pipeline.stage import Job, Pulse, gather, run_unit
from pipeline.tables import MEDIA, REJECTED, KeyRange, stream_range
from schemas.config import from_tree, with_overrides

HOST = "http://site.example"
EVERYTHING = KeyRange("", "")
SAID = "A heron stands in the reeds of the lake at dawn"
OTHER = "Two boats lie at the quay below the old mill"


def figure(name, caption="", alt=""):
    return f"<figure><img src='{name}' alt='{alt}' width=300 height=200><figcaption>{caption}</figcaption></figure>"


def article(*figures):
    return page("An article", f"<article><h1>An article</h1>{WORDS}{''.join(figures)}{WORDS}</article>")


SHARED = [f"shared-{number}.jpg" for number in range(12)]
PAGES = {
    "a.html": article(figure("heron.jpg", SAID), figure("boats.jpg", "", OTHER), figure("bare.jpg")),
    "b.html": article(
        figure("heron.jpg", "", "heron.jpg"), *[figure(name, "A view of the town from the hill") for name in SHARED]
    ),
    "c.html": article(figure("twice.jpg", SAID.upper()), figure("gone.jpg", "A mill that is gone from the archive")),
    "d.html": article(figure("small.jpg", "A very small picture of a mill by the river")),
}
ALL_PAGES = [*ANY_TEXT, "duplicates.near.min_jaccard=0"]
"""The pages differ in their pictures and captions alone."""
SIZES = {"small.jpg": (40, 30)}
GONE = "gone.jpg"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Write the site as two archives, one with its records in another order."""
    folder = tmp_path_factory.mktemp("pairs")
    names = ["heron.jpg", "boats.jpg", "bare.jpg", "twice.jpg", "small.jpg", *SHARED]
    records = [member(record(http(data), url=f"{HOST}/{name}")) for name, data in PAGES.items()]
    for seed, name in enumerate(names):
        data = picture(*SIZES.get(name, (300, 200)), seed=seed)
        records.append(member(record(http(data, "image/jpeg"), url=f"{HOST}/{name}")))
    (folder / "a.warc.gz").write_bytes(b"".join(records))
    random.Random(1).shuffle(records)
    (folder / "b.warc.gz").write_bytes(b"".join(records))
    return folder


def build(source, out, *, settings=ALL_PAGES, **pairs):
    """Build a dataset with pairs in this process; gives its folder."""
    tree = {"source": {"paths": [str(source)]}, "pairs": {"preset": "ltip"} | pairs}
    job = Job(Folder(str(out)), with_overrides(from_tree(BuildConfig, tree, "test"), settings))

    def execute(stage, units, done):
        for unit in units:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return job.folder


def pairs_of(folder):
    """Read the pairs of a dataset, by the file name of their picture."""
    found = {}
    for shard in sorted(Path(folder.root, "pairs").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name in (name for name in members if name.endswith(".json")):
            told = json.loads(members[name])
            assert members[name.replace(".json", ".txt")].decode() == told["caption"]
            found[told["url"].rpartition("/")[2]] = told
    return found


def test_each_picture_is_a_pair_or_has_a_reason(archives, tmp_path):
    folder = build(archives / "a.warc.gz", tmp_path)
    pairs = pairs_of(folder)
    assert {name: told["caption"] for name, told in pairs.items()} == {
        "heron.jpg": SAID,
        "boats.jpg": OTHER,
        "twice.jpg": SAID.upper(),
    }
    assert {(text["kind"], text["text"]) for text in pairs["heron.jpg"]["texts"]} == {
        ("figcaption", SAID),
        ("alt", "heron.jpg"),
    }
    dropped = {
        row["url"].rpartition("/")[2]: row["reason"]
        for row in stream_range(folder, REJECTED, EVERYTHING)
        if row["stage"] == "pair"
    }
    expected = {"bare.jpg": "no_text", "gone.jpg": "not_in_sources", "small.jpg": "too_small"}
    assert dropped == expected | dict.fromkeys(SHARED, "shared")
    asked = {row["url"].rpartition("/")[2] for row in stream_range(folder, MEDIA, EVERYTHING)}
    assert asked == pairs.keys() | dropped.keys()


def test_a_page_that_is_dropped_speaks_of_pictures_that_others_show_and_shows_none_itself(archives, tmp_path):
    folder = build(archives / "a.warc.gz", tmp_path, settings=[*ANY_TEXT, "duplicates.near.min_jaccard=0.3"])
    dropped = {row["url"] for row in stream_range(folder, REJECTED, EVERYTHING) if row["reason"] == "near_duplicate"}
    (kept,) = {f"{HOST}/{name}" for name in PAGES} - dropped
    assert kept == f"{HOST}/b.html"
    pairs = pairs_of(folder)
    assert {name: told["caption"] for name, told in pairs.items()} == {"heron.jpg": SAID}
    assert pairs["heron.jpg"]["page_url"] == f"{HOST}/a.html"
    paired = {row["url"] for row in stream_range(folder, REJECTED, EVERYTHING) if row["stage"] == "pair"}
    assert paired == {f"{HOST}/{name}" for name in SHARED}
    rows = [row["url"] for row in stream_range(folder, REJECTED, EVERYTHING) if row["stage"] == "refer"]
    names = ["heron.jpg", "boats.jpg", "bare.jpg", "twice.jpg", "gone.jpg", "small.jpg"]
    assert sorted(rows) == sorted([*dropped, *(f"{HOST}/{name}" for name in names)])


def test_the_order_of_the_archive_changes_no_byte(archives, tmp_path):
    first, second = (build(archives / f"{name}.warc.gz", tmp_path / name) for name in "ab")
    kept = [
        {
            name: {key: value for key, value in told.items() if key not in ("origin",)}
            for name, told in pairs_of(f).items()
        }
        for f in (first, second)
    ]
    assert kept[0] == kept[1]
    assert list(kept[0]) == list(kept[1])


def test_other_rules_leave_the_interleaved_shards_alone(archives, tmp_path):
    folder = build(archives / "a.warc.gz", tmp_path)
    before = Path(tmp_path, "interleaved/shard-000000.tar").stat()
    build(archives / "a.warc.gz", tmp_path, max_pictures=20)
    assert Path(tmp_path, "interleaved/shard-000000.tar").stat().st_mtime_ns == before.st_mtime_ns
    assert set(SHARED) < pairs_of(folder).keys()
    build(archives / "a.warc.gz", tmp_path, preset="none")
    assert folder.names("pairs") == []
    assert Path(tmp_path, "interleaved/manifest.json").exists()


def test_each_picture_is_a_sign_of_life(archives, tmp_path, monkeypatch):
    begun = []

    class Counting(Pulse):
        def beat(self, position):
            begun.append(position)

    build(archives / "a.warc.gz", tmp_path)
    monkeypatch.setattr("pipeline.stage.PULSE", Counting())
    folder = build(archives / "a.warc.gz", tmp_path, min_words=5)
    assert begun[: len(SHARED) + 6] == list(range(len(SHARED) + 6))
    assert len(begun) == len(SHARED) + 6 + len(pairs_of(folder))


def rows_of(pictures, pages=1, kind="alt"):
    return [
        {"url": f"u{number}", "kind": kind, "page_url": f"p{page}", "text": "t"}
        for page in reversed(range(pages))
        for number in range(pictures)
    ]


@pytest.mark.parametrize(("pictures", "pages"), [(1, 50), (10, 3), (3, 1)])
def test_a_shared_text_counts_each_picture_once(pictures, pages):
    counted = list(count_shared(iter(rows_of(pictures, pages)), 10))
    assert sorted(row["url"] for row, _ in counted) == sorted(f"u{number}" for number in range(pictures))
    assert {count for _, count in counted} == {pictures}
    assert {row["page_url"] for row, _ in counted} == {"p0"}


def test_a_text_of_a_million_pictures_is_not_held():
    seen = 0

    def rows():
        nonlocal seen
        for row in rows_of(1_000):
            seen += 1
            yield row

    counted = count_shared(rows(), 10)
    assert next(counted)[1] == 11
    assert seen == 11
    assert all(count == 11 for _, count in counted)
    assert seen == 1_000


def test_a_picture_of_a_million_pages_is_not_held():
    rows = (
        {"key": key, "page_url": f"p{(7 * n) % 10:03d}", "kind": "alt", "text": ""} for key in "ab" for n in range(10)
    )
    assert [(row["key"], row["page_url"]) for row in first_of_key(rows, 2, by_page)] == [
        (key, page) for key in "ab" for page in ("p000", "p001")
    ]
    endless = ({"key": "a" if n < 5 else "b", "page_url": "p", "kind": "alt", "text": ""} for n in itertools.count())
    assert next(first_of_key(endless, 1, by_page))["key"] == "a"


def test_another_preset_counts_nothing_anew(archives, tmp_path):
    counted, paired = (Path(tmp_path, "work/done", stage) for stage in ("count", "pair"))
    build(archives / "a.warc.gz", tmp_path)
    before = [sorted(path.name for path in stage.iterdir()) for stage in (counted, paired)]
    build(archives / "a.warc.gz", tmp_path, preset="align")
    after = [sorted(path.name for path in stage.iterdir()) for stage in (counted, paired)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_picture_of_very_many_texts_is_bounded(archives, tmp_path):
    many = [f"<img src=heron.jpg width=300 height=200 alt='The heron number {n} of the lake'>" for n in range(50)]
    assert len(many) < MAX_CANDIDATES
    data = article(*many)
    source = tmp_path / "c.warc.gz"
    records = [member(record(http(data), url=f"{HOST}/many.html"))]
    records.append(member(record(http(picture(300, 200), "image/jpeg"), url=f"{HOST}/heron.jpg")))
    source.write_bytes(b"".join(records))
    pairs = pairs_of(build(source, tmp_path / "out"))
    assert len(pairs["heron.jpg"]["texts"]) == len(many)
    assert pairs_of(build(source, tmp_path / "out", max_texts=10)) == {}
