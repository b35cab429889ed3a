"""What `flamingo report` says: the ledger of rules, what pages say of themselves, what did not run, two builds."""

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from site_made import HOST, PAGES, build, write_set, write_site

from pipeline.build import BuildConfig
from pipeline.cli import main
from pipeline.compare import differing, flatten, merge_keys, pair_rows
from pipeline.composition import Frequent, describe, most_frequent
from pipeline.datasheet import (
    ANSWERS_FILE,
    DATASHEET_FILE,
    QUESTIONS,
    STEPS,
    empty_answers,
    read_answers,
    write_datasheet,
)
from pipeline.dropped import ITEM, Smallest, read_copy, sample_dropped
from pipeline.folder import Folder, UserError
from pipeline.funnel import STAGES
from pipeline.gallery import page
from pipeline.ledger import SetCounts, Taken, rules_of
from pipeline.overview import overview
from pipeline.safety import NO_FLAGGED, OFF, SHORT_LIST, steps_not_run
from pipeline.tables import MEDIA, KeyRange, stream_range
from schemas.config import to_tree, with_overrides
from schemas.page import key_of
from schemas.shard import FunnelRow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the site without an evaluation set, and another time with one."""
    folder = tmp_path_factory.mktemp("report")
    archive = write_site(folder)
    plain = build(archive, folder / "plain")
    media = [row for row in stream_range(plain, MEDIA, KeyRange("", "")) if row["phash"]]
    path = write_set(folder, media)
    return plain, build(archive, folder / "clean", f'filters.evaluation.sets=["{path}"]')


def rows_of(found):
    return {(row.stage, row.kind): row for row in found.funnel}


# The ledger.


def test_words_and_bytes_are_neither_lost_nor_made(built):
    for folder in built:
        found = overview(folder)
        rows = rows_of(found)
        words = {name: Counter(row.sizes.get("words", {})) for name, row in rows.items()}
        assert words["extract", "page"][""] == (
            words["select", "page"].total()
            + words["filter_texts", "paragraph"].total()
            - words["filter_texts", "paragraph"][""]
        )
        assert words["select", "page"][""] == found.totals["interleaved"].words
        sizes = {name: row.sizes["bytes"] for name, row in rows.items() if "bytes" in row.sizes}
        assert sizes["filter_images", "image"][""] == sum(sizes["select", "image"].values())
        assert sizes["select", "page"] == {
            "": sizes["select", "image"][""],
            "too_few_words": sizes["select", "image"]["page_rejected"],
        }
        assert sizes["select", "image"][""] == found.totals["interleaved"].part_bytes


def test_what_a_rule_took_stands_beside_what_came_in(built):
    found = {(rule.stage, rule.reason): rule for rule in overview(built[0]).rules}
    few = found["select", "too_few_words"]
    assert few.things == Taken(1, len(PAGES))
    assert few.sizes["images"] == Taken(1, 4)
    assert 0 < few.sizes["words"].count < 30 < few.sizes["words"].came_in
    assert found["filter_images", "too_small"].things == Taken(1, 5)


def test_unknown_sizes_are_left_out():
    row = FunnelRow("s", "page", 10, 5, {"b": 2, "a": 2, "c": 1}, {"words": {"": 90, "a": 10}})
    assert [(rule.reason, dict(rule.sizes)) for rule in rules_of([row])] == [
        ("a", {"words": Taken(10, 100)}),
        ("b", {}),
        ("c", {}),
    ]


def test_copies_and_near_misses_are_counted_by_set(built):
    assert overview(built[0]).sets == []
    assert overview(built[1]).sets == [SetCounts("val", equal=0, near=1, near_misses=1)]


def test_what_pages_say(built):
    told = describe(built[0])
    assert told.hosts == Frequent((("site.example", 2),), 1)
    assert told.licences == Frequent((("(none)", 2),), 1)
    assert told.published == ("", "")
    assert told.captured == ("2026-01-01", "2026-01-01")


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=200), st.integers(1, 4))
def test_frequent_names_are_counted_exactly_in_little_memory(names, held):
    found = most_frequent(lambda: iter(names), 3, held)
    counts = Counter(names)
    assert all(counts[name] == count for name, count in found.names)
    assert found.different in (None, len(counts))
    told = {name for name, _ in found.names}
    must = [name for name, count in counts.items() if count * (held + 1) > len(names)]
    assert len(told) == 3 or set(must) <= told


def test_steps_that_did_not_run():
    off = ["rights.robots=false", "rights.tdm=false", "filters.texts.page.max_flagged_words=0"]
    lines = steps_not_run(to_tree(with_overrides(BuildConfig(), off)))
    assert {OFF["rights.robots"], OFF["rights.tdm"], OFF["scores.models"], OFF["privacy.mask"], NO_FLAGGED} <= set(
        lines
    )
    assert SHORT_LIST in steps_not_run(to_tree(BuildConfig()))
    everything = dict.fromkeys(("robots", "preferences", "tags", "tdm"), True) | {"opt_out": ["x"]}
    tree = {"rights": everything, "scores": {"models": ["m"]}, "privacy": {"mask": True}}
    tree["filters"] = {
        "evaluation": {"sets": ["s"]},
        "texts": {"flagged_words": "w", "page": {"max_flagged_words": 0.1}},
    }
    assert steps_not_run(tree) == []


def run(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)], env={"COLUMNS": "120"})


def test_the_command_in_words_and_as_json(built):
    said = run(built[1].root).stdout
    for text in ("What each rule took", "too_few_words", "1 page, 1 image", "near misses", "What did not run", "M3W"):
        assert text in said
    tree = json.loads(run(built[1].root, "--json").stdout)
    assert tree["evaluation_sets"] == [{"set": "val", "equal": 0, "near": 1, "near_misses": 1}]
    assert tree["sizes"]["interleaved"]["samples"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dropped", "x"], "--dropped RULE and --out FILE go together"),
        (["--out", "x.html"], "--dropped RULE and --out FILE go together"),
        (["--limit", "3"], "--limit is for --dropped"),
        (["--against", "y", "--dropped", "x"], "either --against OTHER or --dropped RULE"),
        (["--dropped", "x", "--out", "y", "--json"], "give one of them"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    result = run("dataset", *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr


def test_what_is_no_complete_dataset_is_told_in_a_line(built, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text("")
    for path, message in ((tmp_path / "none", "no dataset"), (tmp_path / "begun", "not complete")):
        for arguments in ([path], [built[0].root, "--against", path], [path, "--dropped", "x", "--out", "y"]):
            result = run(*arguments)
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert message in result.stderr


# Two builds.


def test_two_builds_side_by_side(built):
    tree = json.loads(run(built[0].root, "--against", built[1].root, "--json").stdout)
    assert [setting["name"] for setting in tree["settings"]] == ["filters.evaluation.sets"]
    assert (tree["samples"]["interleaved"]["both"], tree["samples"]["interleaved"]["only_here"]) == (2, 0)
    turned = json.loads(run(built[1].root, "--against", built[0].root, "--json").stdout)
    pairs = turned["samples"]["pairs"]
    assert pairs["only_there"] == sum(pairs["dropped_here"].values())
    row = next(row for row in turned["funnel"] if (row["stage"], row["kind"]) == ("filter_images", "image"))
    assert row["points"] == pytest.approx(-20)


def test_samples_only_there_have_the_reason_why_they_are_not_here(built, tmp_path):
    all_pages = build(
        Path(built[0].root).parent / "site.warc.gz", tmp_path / "all", "filters.texts.quality.min_words=0"
    )
    tree = json.loads(run(built[0].root, "--against", all_pages.root, "--json").stdout)
    samples = tree["samples"]["interleaved"]
    assert (samples["only_there"], samples["keys_there"]) == (1, [key_of(f"{HOST}/few.html")])
    assert samples["dropped_here"] == {"too_few_words": 1}
    assert "1 too_few_words" in run(built[0].root, "--against", all_pages.root).stdout


@given(st.sets(st.text("abc", min_size=1, max_size=3)), st.sets(st.text("abc", min_size=1, max_size=3)))
def test_merged_keys(here, there):
    found = list(merge_keys(iter(sorted(here)), iter(sorted(there))))
    assert found == [(key, key in here, key in there) for key in sorted(here | there)]


def test_settings_and_rows_that_only_one_has():
    here, there = dict(flatten({"a": {"b": 1, "c": 2}})), dict(flatten({"a": {"b": 1, "d": 3}}))
    assert [(s.name, s.here, s.there) for s in differing(here, there)] == [("a.c", 2, None), ("a.d", None, 3)]
    (one, two) = pair_rows([FunnelRow("select", "page", 4, 1, {})], [FunnelRow("read", "page", 4, 2, {})])
    assert (one.stage, one.here, one.points, two.there) == ("read", None, None, None)
    (both,) = pair_rows([FunnelRow("select", "page", 4, 1, {})], [FunnelRow("select", "page", 4, 2, {})])
    assert both.points == -25


# The gallery.


def test_dropped_pictures_stand_beside_those_of_the_set(built):
    for reason, name, bits in (("near_evaluation_set", "one.jpg", 10), ("near_miss", "two.jpg", 50)):
        sample = sample_dropped(built[1], reason, 10)
        (one,) = sample.shown
        assert (one.url, one.copy_of.name, one.copy_of.bits) == (f"{HOST}/{name}", f"val: {name}", bits)
        assert one.thumbnail.startswith(b"\xff\xd8")
        assert one.copy_of.thumbnail.startswith(b"\xff\xd8")
        html = "".join(page(sample, "dataset"))
        assert f"{bits} of 256 bits apart" in html
        assert html.count("<img ") == 2


def test_text_of_strangers_does_nothing_on_the_page(built):
    for reason in ("too_few_words", "page_rejected", "too_small"):
        html = "".join(page(sample_dropped(built[0], reason, 10), "<data>"))
        assert "alert(" in html
        assert "<script" not in html.lower()
        assert "\u202e" not in html
        assert "default-src 'none'" in html
        assert "href" not in html
        assert "style=" not in html.replace("style-src", "")


def test_the_sample_is_even_and_the_same_in_any_order():
    rows = [
        {"kind": "page", "key": f"{n:024x}", "detail": "", "origin": None, "page_url": "", "stage": "s"}
        for n in range(999)
    ]
    first, second = Smallest(50), Smallest(50)
    for row in rows:
        first.add(row)
    for row in rows[::-1]:
        second.add(row)
    first.prune()
    second.prune()
    assert sorted(first.held) == sorted(second.held)
    keys = sorted(int(held.row["key"], 16) for held in first.held.values())
    assert len(keys) == 50
    assert keys[5] < 333 < keys[25] < 800 < keys[-1]


def test_a_picture_in_many_places_is_shown_once():
    smallest = Smallest(2)
    for number in (3, 1, 2):
        row = {"kind": "image", "key": "k", "detail": "", "origin": None, "stage": "s", "page_url": f"p{number}"}
        smallest.add(row)
    (held,) = smallest.held.values()
    assert (held.places, held.row["page_url"]) == (3, "p1")


def test_details_are_read_back():
    assert [bool(ITEM.match(text)) for text in ("item 3", "item 3: x", "item x", "item 33 px")] == [
        True,
        True,
        False,
        False,
    ]
    found = read_copy("a: b, 7 bits apart, 12 bits apart", ["a", "a: b"])
    assert (found.set, found.name, found.bits) == ("a", "b, 7 bits apart", 12)
    assert read_copy("a: b", ["a"]).bits is None
    assert read_copy("z: b", ["a"]) is None


def test_a_rule_that_dropped_nothing_is_told_with_those_that_did(built):
    with pytest.raises(UserError, match=r"nothing was dropped as 'x'; what was: .*too_few_words"):
        sample_dropped(built[0], "x", 5)


# The datasheet.


def test_the_datasheet_is_made_of_the_data_and_keeps_answers(built, tmp_path):
    folder = build(Path(built[0].root).parent / "site.warc.gz", tmp_path / "out", backwards=True)
    text = folder.read_text(DATASHEET_FILE)
    assert text == built[0].read_text(DATASHEET_FILE)
    for question in QUESTIONS:
        assert f"### {question.text}" in text
        assert (f"`{question.setting}` in `datasheet.toml`" in text) == question.people
    assert "| `select` | `too_few_words` | 1 page | 33.3 |" in text
    assert "no evaluation set was kept out" in text
    assert f"| `select` | {STEPS['select']} | 3 pages |" in text
    assert "| `read` | sources are read |" in text
    answers = folder.read_text(ANSWERS_FILE).replace('purpose = ""', 'purpose = "To learn."')
    folder.write_text(ANSWERS_FILE, answers)
    build(Path(built[0].root).parent / "site.warc.gz", tmp_path / "out")
    assert folder.read_text(ANSWERS_FILE) == answers
    assert "\nTo learn.\n" in folder.read_text(DATASHEET_FILE)
    assert "`motivation.purpose`" not in folder.read_text(DATASHEET_FILE)
    assert "1 near pictures were removed, 1 near misses kept" in built[1].read_text(DATASHEET_FILE)


@pytest.mark.parametrize(
    ("text", "message"),
    [("x", "not TOML"), ("[motivation]\nx = 1", "motivation.x: no question"), ("a = 1", "no question")],
)
def test_answers_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=message):
        read_answers(text, "datasheet.toml")
    assert read_answers(empty_answers(), "datasheet.toml") == {}


def test_every_stage_of_the_funnel_is_told_in_words():
    assert STEPS.keys() == {*STAGES}


def test_a_datasheet_needs_a_complete_dataset(tmp_path):
    with pytest.raises(UserError, match="no dataset"):
        write_datasheet(Folder(str(tmp_path)))
