"""Evaluation sets: which pictures are copies of theirs, and that a build keeps exactly the others."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_text import ANY_TEXT
from click.testing import CliRunner
from damage import http, member, page, record
from PIL import Image, ImageOps
from rich.console import Console
from web_dataset import WORDS

from pipeline.assemble import judge
from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.cli import main
from pipeline.decontaminate import write_set
from pipeline.evaluation import (
    EVALUATION_SCHEMA,
    IN_EVALUATION_SET,
    NEAR_EVALUATION_SET,
    EvaluationRules,
    EvaluationSets,
    Match,
    find_copy,
    hold_sets,
    load_sets,
    stamped,
)
from pipeline.filters import TOO_SMALL
from pipeline.folder import Folder
from pipeline.perceptual import HASH_BITS, HASH_BYTES, hash_picture
from pipeline.report import print_summary, read_manifests
from pipeline.stage import Job, Output, Unit, gather, run_unit
from pipeline.tables import REJECTED, KeyRange, stream_range
from pipeline.why import story_of
from schemas.config import from_tree, with_overrides
from schemas.media import STORED, Media
from schemas.page import Refusal, key_of
from schemas.sample import INTERLEAVED
from schemas.shard import FunnelRow

RULES = EvaluationRules()


def picture(seed):
    patches = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((240, 180), Image.Resampling.BICUBIC)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def turned(look, count):
    """Turn the last bits of a hash."""
    number = int.from_bytes(look, "big") ^ ((1 << count) - 1)
    return number.to_bytes(HASH_BYTES, "big")


def judged(digests, look, sets, rules=RULES):
    match = sets.find(digests, look, rules)
    return match and match.refusal()


def write_rows(path, *rows):
    """Write an index of (name, content, look)."""
    table = [{"name": name, "sha256": digest(data), "look": look, "thumbnail": b""} for name, data, look in rows]
    pq.write_table(pa.Table.from_pylist(table, EVALUATION_SCHEMA), path)
    return str(path)


# The judgement of a picture.


def test_pictures_are_judged_exact_near_or_clean(tmp_path):
    rows = [("one.jpg", b"one", hash_picture(picture(1))), ("val/two.png", b"two", hash_picture(picture(2)))]
    sets = load_sets([write_rows(tmp_path / "coco.parquet", *rows)])
    exact = judged([digest(b"as fetched"), digest(b"one")], bytes(HASH_BYTES), sets)
    assert exact == Refusal(IN_EVALUATION_SET, "coco: one.jpg")
    flipped = ImageOps.mirror(picture(1))
    for copy, name in ((picture(2).resize((120, 90)), "val/two.png"), (flipped, "one.jpg")):
        near = judged([digest(b"other")], hash_picture(copy), sets)
        assert near is not None
        assert near.reason == NEAR_EVALUATION_SET
        assert near.detail.startswith(f"coco: {name}, ")
    assert judged([digest(b"other")], hash_picture(picture(3)), sets) is None
    assert judged([], hash_picture(flipped), sets, EvaluationRules(mirrored=False)) is None


@pytest.mark.parametrize(("bits", "reason"), [(0, NEAR_EVALUATION_SET), (47, NEAR_EVALUATION_SET), (48, None)])
def test_both_sides_of_the_distance(bits, reason):
    look = hash_picture(picture(1))
    sets = EvaluationSets([("a", "x", digest(b"x"), look)])
    assert judged([], turned(look, bits), sets) == (Refusal(reason, f"a: x, {bits} bits apart") if reason else None)


def test_the_nearest_picture_of_all_sets_is_named():
    look = hash_picture(picture(1))
    rows = [("a", "far", digest(b"1"), turned(look, 9)), ("b", "near", digest(b"2"), turned(look, 2))]
    rows.append(("c", "as near", digest(b"2"), turned(look, 2)))
    assert judged([], look, EvaluationSets(rows)).detail == "b: near, 2 bits apart"
    assert judged([digest(b"2")], look, EvaluationSets(rows)).detail == "b: near"


def test_a_single_colour_is_near_nothing():
    sets = EvaluationSets([("a", "white", digest(b"x"), bytes(HASH_BYTES))])
    assert judged([digest(b"y")], bytes(HASH_BYTES), sets) is None


@pytest.mark.parametrize("bits", [-1, HASH_BITS])
def test_the_distance_is_within_the_hash(bits):
    with pytest.raises(ValueError, match=r"max_bits is 0..255"):
        EvaluationRules(max_bits=bits)


def stored_as(data, look, side_px=200):
    """Give the row of a stored picture."""
    sizes = dict.fromkeys(("width_px", "height_px", "stored_width_px", "stored_height_px"), side_px)
    hashes = {"sha256_original": digest(data), "sha256": digest(b"stored"), "phash": look.hex()}
    return Media("https://a.example/p.jpg", STORED, format="jpeg", colour_range=200, **sizes, **hashes)


def test_a_picture_is_counted_once_for_its_set_after_the_rules_that_cost_less(tmp_path):
    look = hash_picture(picture(1))
    path = write_rows(tmp_path / "coco.parquet", ("one.jpg", b"one", look))
    config = from_tree(BuildConfig, {"filters": {"evaluation": {"sets": [path]}}}, "test")
    output = Output(Job(Folder(str(tmp_path)), config), Unit("place", "u", None), {})
    sets = hold_sets(config.filters.evaluation)
    found = [
        judge(stored_as(data, turned(look, bits), side_px), sets, output)["reason"]
        for data, bits, side_px in ((b"one", 90, 200), (b"two", 3, 200), (b"two", 90, 200), (b"one", 0, 20))
    ]
    assert found == [IN_EVALUATION_SET, NEAR_EVALUATION_SET, "", TOO_SMALL]
    assert output.counts == {
        ("evaluation", "image url", "in_evaluation_set: coco"): 1,
        ("evaluation", "image url", "near_evaluation_set: coco"): 1,
        ("evaluation", "image url", ""): 1,
    }
    rows = [(row["reason"], row["detail"]) for row in output.writers[REJECTED.directory].rows]
    assert rows == [(IN_EVALUATION_SET, "coco: one.jpg"), (NEAR_EVALUATION_SET, "coco: one.jpg, 3 bits apart")]
    assert find_copy(stored_as(b"one", look), None, RULES) is None


# Indexes as files.


def test_a_changed_index_is_read_again_and_changes_the_settings_of_a_stage(tmp_path):
    path = write_rows(tmp_path / "a.parquet", ("one", b"one", turned(bytes(HASH_BYTES), 5)))
    rules = EvaluationRules(sets=(path,))
    before, held = stamped(rules), hold_sets(rules)
    assert (hold_sets(rules), stamped(rules)) == (held, before)
    write_rows(path, *[(name, name.encode(), turned(bytes(HASH_BYTES), 5)) for name in ("two", "three")])
    assert stamped(rules) != before
    assert judged([digest(b"two")], bytes(HASH_BYTES), hold_sets(rules)) == Refusal(IN_EVALUATION_SET, "a: two")
    assert hold_sets(RULES) is None


@pytest.fixture
def bad_sets(tmp_path):
    """Write files that are no index; gives what is said of each."""
    short = {"sha256": ["ab"], "look": [bytes(HASH_BYTES)], "name": ["x"]}
    narrow = {"sha256": [digest(b"x")], "look": [bytes(8)], "name": ["x"]}
    (tmp_path / "text.parquet").write_text("no index")
    (tmp_path / "folder.parquet").mkdir()
    pq.write_table(pa.table(short), tmp_path / "short.parquet")
    pq.write_table(pa.table(narrow), tmp_path / "narrow.parquet")
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "other.parquet")
    write_rows(tmp_path / "empty.parquet")
    return {
        "none": "no such file; `flamingo decontaminate-index` writes it",
        "text": "no index of an evaluation set, or a damaged one: ",
        "folder": "no index of an evaluation set, or a damaged one: ",
        "short": "a damaged one: a sha256 of the wrong length",
        "narrow": f"a damaged one: a look that has not {HASH_BYTES} bytes",
        "other": "no index of an evaluation set, or a damaged one: ",
        "empty": "a damaged one: it holds no picture",
    }


def test_what_is_no_index_is_told_in_one_line_before_anything_is_done(tmp_path, bad_sets):
    write_rows(tmp_path / "good.parquet", ("x", b"x", bytes(HASH_BYTES)))
    (tmp_path / "more").mkdir()
    write_rows(tmp_path / "more" / "good.parquet", ("x", b"x", bytes(HASH_BYTES)))
    (tmp_path / "source").mkdir()
    cases = [([f"{name}.parquet"], message) for name, message in bad_sets.items()]
    cases.append((["good.parquet", "more/good.parquet"], "two sets are called good; give their files different names"))
    for names, message in cases:
        given = ", ".join(f'"{tmp_path}/{name}"' for name in names)
        for more in ([], ["--dry-run"]):
            result = CliRunner().invoke(
                main,
                [
                    *("build", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "out"), *more),
                    *("--set", f"filters.evaluation.sets=[{given}]"),
                ],
            )
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert message in result.stderr
            assert not (tmp_path / "out").exists()


def test_a_near_miss_is_told_and_kept():
    look = hash_picture(picture(1))
    sets = EvaluationSets([("a", "x", digest(b"x"), look)])
    for bits, near_miss in ((47, False), (48, True), (58, True)):
        found = sets.find([], turned(look, bits), RULES)
        assert found == Match("a", "x", bits, near_miss)
        assert (found.refusal() is None) == near_miss
        assert (found.reason, found.detail) == (
            "near_miss" if near_miss else NEAR_EVALUATION_SET,
            f"a: x, {bits} bits apart",
        )
    assert sets.find([], turned(look, 59), RULES) is None
    assert sets.find([], turned(look, 48), EvaluationRules(near_miss_bits=0)) is None
    assert (
        sets.find([], turned(look, 255), EvaluationRules(max_bits=200, near_miss_bits=99, mirrored=False)) is not None
    )
    with pytest.raises(ValueError, match="near_miss_bits is 0 or more"):
        EvaluationRules(near_miss_bits=-1)


# A build.

HOST = "https://site.example"
SEEN = {"exact.jpg": 1, "near.jpg": 2, "test.jpg": 3, "mill.jpg": 4, "boat.jpg": 5}
"""The site's pictures by their seeds; the first three are of evaluation sets."""
SHOWN = {"a.html": ["exact.jpg", "mill.jpg", "near.jpg"], "b.html": ["test.jpg", "boat.jpg"], "c.html": ["exact.jpg"]}
EXPECTED = {
    "exact.jpg": Refusal(IN_EVALUATION_SET, "val: one/a.jpg"),
    "near.jpg": Refusal(NEAR_EVALUATION_SET, "val: b.png, "),
    "test.jpg": Refusal(NEAR_EVALUATION_SET, "test: c.jpg, "),
}


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def figure(name):
    caption = f"<figcaption>A view of the {name[:-4]} at dawn</figcaption>"
    return f"<figure><img src='{name}' width=240 height=180>{caption}</figure>"


def make_sets(folder):
    """Index two sets: a picture as it is, a small mirrored one, a small one, and one that no page has."""
    half = (120, 90)
    for name, data in (
        ("val/one/a.jpg", jpeg(picture(1))),
        ("val/b.jpg", jpeg(picture(9))),
        ("val/b.png", jpeg(ImageOps.mirror(picture(2)).resize(half))),
        ("test/c.jpg", jpeg(picture(3).resize(half))),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for name in ("val", "test"):
        write_set(str(folder / name), str(folder / f"{name}.parquet"))
    return [str(folder / "val.parquet"), str(folder / "test.parquet")]


def build(folder, out, sets, backwards=False):
    """Build the site's dataset in this process, the units of each stage in their order or backwards."""
    tree = {
        "source": {"paths": [str(folder / "site.warc.gz")]},
        "pairs": {"preset": "ltip"},
        "filters": {"evaluation": {"sets": sets}},
    }
    job = Job(Folder(str(out)), with_overrides(from_tree(BuildConfig, tree, "test"), ANY_TEXT))
    ran = []

    def execute(stage, units, done):
        ran.append(stage.name)
        for unit in units[:: -1 if backwards else 1]:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return ran


def rows_of(out, table):
    return list(stream_range(Folder(str(out)), table, KeyRange("", "")))


def digests(out):
    files = [file for kind in ("interleaved", "pairs") for file in sorted(Path(out, kind).rglob("*"))]
    return {str(file.relative_to(out)): digest(file.read_bytes()) for file in files if file.is_file()}


def pictures_in(out, kind):
    """Name the pictures that the index of a kind of shards has."""
    rows = pq.read_table(out / kind / "index.parquet").to_pylist()
    urls = [part["url"] for row in rows for part in row["parts"]] if kind == INTERLEAVED else [r["url"] for r in rows]
    return sorted(url.rpartition("/")[2] for url in urls)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a site without sets and then with them; gives the folder and the stages that were run again."""
    folder = tmp_path_factory.mktemp("evaluation")
    with (folder / "site.warc.gz").open("wb") as stream:
        for name, shown in SHOWN.items():
            words = WORDS.replace("fox", f"fox of {name}").replace("lazy dog", f"dog that {name} has")
            body = f"<article><h1>A walk</h1>{words}{''.join(map(figure, shown))}</article>"
            stream.write(member(record(http(page("A walk", body)), url=f"{HOST}/{name}")))
        for name, seed in SEEN.items():
            stream.write(member(record(http(jpeg(picture(seed)), "image/jpeg"), url=f"{HOST}/{name}")))
    build(folder, folder / "out", [])
    assert pictures_in(folder / "out", "pairs") == sorted(SEEN)
    return folder, build(folder, folder / "out", make_sets(folder))


def test_copies_of_the_sets_are_gone_and_the_others_stay(built):
    folder, ran = built
    assert pictures_in(folder / "out", INTERLEAVED) == pictures_in(folder / "out", "pairs") == ["boat.jpg", "mill.jpg"]
    assert ran == ["place", "template", "select", "shard", "pair", "pair_shard"]


def test_each_copy_has_its_reason_as_itself_and_wherever_it_stood(built):
    folder, _ = built
    found = {}
    for row in rows_of(folder / "out", REJECTED):
        if row["kind"] in ("image", "image url"):
            found.setdefault((row["stage"], row["url"].rpartition("/")[2]), []).append((row["reason"], row["detail"]))
    standing = Counter(name for names in SHOWN.values() for name in names)
    assert {name for _, name in found} == EXPECTED.keys()
    for name, refusal in EXPECTED.items():
        for stage, count in (("evaluation", 1), ("filter_images", standing[name]), ("pair", 1)):
            told = found.pop((stage, name))
            assert [reason for reason, _ in told] == [refusal.reason] * count
            assert all(refusal.detail in detail for _, detail in told)
    assert found == {}
    story = story_of(key_of(f"{HOST}/near.jpg"), Folder(str(folder / "out")))
    assert (story.rejections[0].stage, story.rejections[0].reason) == ("evaluation", NEAR_EVALUATION_SET)


def test_the_report_counts_copies_by_set(built):
    out = Folder(str(built[0] / "out"))
    manifests = read_manifests(out)
    by_set = {"in_evaluation_set: val": 1, "near_evaluation_set: test": 1, "near_evaluation_set: val": 1}
    for manifest in manifests.values():
        (row,) = (row for row in manifest.funnel if row.stage == "evaluation")
        sizes = {"bytes": {name: row.sizes["bytes"][name] for name in ("", *by_set)}}
        assert row == FunnelRow("evaluation", "image url", 5, 2, by_set, sizes)
    console = Console(file=io.StringIO(), width=120)
    print_summary(console, manifests[INTERLEAVED], out)
    assert "1 near_evaluation_set: val" in console.file.getvalue()


def test_the_order_and_earlier_settings_change_no_byte(built):
    folder, _ = built
    build(folder, folder / "fresh", [str(folder / "val.parquet"), str(folder / "test.parquet")], backwards=True)
    assert digests(folder / "fresh") == digests(folder / "out")
