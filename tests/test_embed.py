"""Evaluation sets by embedding: the cosine's thresholds, the search, models and sets that do not fit, and a build."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_text import ANY_TEXT
from click.testing import CliRunner
from damage import http, member, page, record
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_made import channel_means
from PIL import Image
from web_dataset import WORDS

from pipeline import embed, nearest
from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.cli import main
from pipeline.decontaminate import write_set
from pipeline.dropped import sample_dropped
from pipeline.embed import NEAREST, check_vectors, hold_embedder, parse_embedder
from pipeline.evaluation import EVALUATION_SCHEMA, EvaluationRules, judge_nearest
from pipeline.folder import Folder, UserError
from pipeline.gallery import page as gallery
from pipeline.nearest import EMBEDDING, Embedded, Nearest, embedded_sets, find_nearest, index_metadata
from pipeline.perceptual import HASH_BYTES
from pipeline.picture_models import digest_of
from pipeline.report import read_manifests
from pipeline.stage import Job, gather, run_unit
from pipeline.tables import KeyRange, stream_range
from pipeline.why import story_of
from schemas.config import ConfigError, from_tree, with_overrides
from schemas.page import key_of

# The thresholds.


@pytest.mark.parametrize(
    ("cosine", "reason"),
    [
        (1.0, "near_evaluation_set"),
        (0.95, "near_evaluation_set"),
        (0.949999, "near_miss"),
        (0.9, "near_miss"),
        (0.899999, None),
        (-1.0, None),
    ],
)
def test_both_sides_of_the_cosine(cosine, reason):
    match = judge_nearest({"set": "a", "name": "x.jpg", "cosine": cosine}, EvaluationRules())
    assert (match and match.reason) == reason
    if match is not None:
        assert match.detail == f"a: x.jpg, cosine {cosine:.6f}"
        assert (match.refusal() is None) == (reason == "near_miss")


def test_no_near_miss_is_counted_without_a_width():
    row = {"set": "a", "name": "x", "cosine": 0.949}
    assert judge_nearest(row, EvaluationRules(near_miss_cosine=0)) is None
    assert judge_nearest(row, EvaluationRules(min_cosine=0.949)).reason == "near_evaluation_set"


@pytest.mark.parametrize(("name", "value"), [("min_cosine", 1.01), ("min_cosine", -1.01), ("near_miss_cosine", -0.01)])
def test_thresholds_are_cosines(name, value):
    with pytest.raises(ConfigError, match=f"{name} is "):
        from_tree(EvaluationRules, {name: value}, "test")


# The search.


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_embedded(path, vectors, digest="d" * 64, dimensions=0):
    """Write an index of pictures named by their place; None is a picture without an embedding."""
    rows = [
        {"sha256": f"{at:064x}", "look": bytes(HASH_BYTES), "name": str(at), "thumbnail": b"", "embedding": vector}
        for at, vector in enumerate(vectors)
    ]
    told = index_metadata("m.onnx", digest, dimensions or len(next(one for one in vectors if one is not None)))
    pq.write_table(pa.Table.from_pylist(rows, EVALUATION_SCHEMA.append(EMBEDDING).with_metadata(told)), path)
    return str(path)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 40))
def test_the_nearest_one_is_what_comparing_all_finds(tmp_path_factory, seed, dimensions, count):
    dice = np.random.default_rng(seed)
    theirs, ours = (unit(dice.integers(1, 4, (number, dimensions))) for number in (count, 5))
    path = write_embedded(tmp_path_factory.mktemp("s") / "a.parquet", list(theirs))
    expected = np.round(ours.astype(np.float64) @ theirs.T.astype(np.float64), 6)
    found = find_nearest(ours, embedded_sets([path]))
    assert [one.cosine for one in found] == pytest.approx(expected.max(axis=1), abs=1.1e-6)
    assert all(expected[at, int(one.name)] >= one.cosine - 1.1e-6 for at, one in enumerate(found))


def test_of_equally_near_ones_the_first_is_named_whatever_the_blocks(tmp_path, monkeypatch):
    paths = [
        write_embedded(tmp_path / "a.parquet", [None, *unit([[0, 1], [3, 4], [3, 4]])]),
        write_embedded(tmp_path / "b.parquet", unit([[3, 4], [1, 0]])),
    ]
    ours = unit([[3, 4], [1, 0], [-1, 0]])
    expected = [Nearest("a", "2", 1.0), Nearest("b", "1", 1.0), Nearest("a", "1", 0.0)]
    assert find_nearest(ours, embedded_sets(paths)) == expected
    monkeypatch.setattr(nearest, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(nearest, "VALUES_AT_ONCE", 1)
    assert find_nearest(ours, embedded_sets(paths)) == expected
    assert [find_nearest(ours[at : at + 1], embedded_sets(paths))[0] for at in range(3)] == expected


def test_damaged_embeddings_are_told(tmp_path):
    long = write_embedded(tmp_path / "long.parquet", [np.float32([3, 4])])
    short = write_embedded(tmp_path / "short.parquet", unit([[3, 4]]), dimensions=3)
    for path, message in ((long, "not each is of length 1"), (short, "not each has 3 numbers")):
        with pytest.raises(UserError, match=f"its embeddings are damaged: {message}"):
            find_nearest(unit([[1, 0, 0][: 2 if path == long else 3]]), embedded_sets([path]))


# Models.


MODEL = parse_embedder("m.py:f")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0]], "gave 1 embeddings for 2 pictures"),
        ([[1.0], [1.0, 2.0]], "gave embeddings of 1 and of 2 numbers"),
        ([[1.0], [float("nan")]], "gave an embedding with a number that is not finite"),
        ([[1.0], ["x"]], "gave ['x'] for a picture; an embedding is 1..8,192 numbers or None"),
        ([[1.0], 1.0], "gave 1.0 for a picture"),
        ([[1.0], []], "gave [] for a picture"),
        ([[1.0], [[1.0], [1.0, 2.0]]], "gave [[1.0], [1.0, 2.0]] for a picture"),
        ([[1.0], [1.0] * 8193], "for a picture; an embedding is 1..8,192 numbers"),
    ],
)
def test_what_is_no_embedding_is_told(given, message):
    with pytest.raises(UserError) as caught:
        check_vectors(MODEL, given, 2)
    assert str(caught.value).startswith("filters.evaluation.model: ")
    assert message in str(caught.value)


def test_vectors_are_brought_to_length_one_and_zeros_are_none():
    first, second, third = check_vectors(MODEL, [(3, 4), np.float64([1e300, 1e300]), [0.0, 0.0]], 3)
    assert np.allclose(first, [0.6, 0.8])
    assert np.allclose(second, [0.5**0.5] * 2)
    assert (third, first.dtype) == (None, np.float32)


def test_an_onnx_model_embeds_by_its_whole_row(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(channel_means())
    model = parse_embedder(str(tmp_path / "m.onnx"))
    embedder = hold_embedder(model, digest_of(model), ("CPUExecutionProvider",))
    (vector,) = embedder([Image.new("RGB", (20, 20), (150, 200, 0))])
    assert np.allclose(vector, [0.6, 0.8, 0.0], atol=1e-3)
    plain = digest_of(model)
    (tmp_path / "m.onnx.toml").write_text("mean = [0, 0, 1]")
    assert digest_of(model) != plain


# A build.

HOST = "https://site.example"
SEEN = {"copy.jpg": (40, 0, 0), "near.jpg": (160, 110, 0), "far.jpg": (0, 0, 160), "twin.jpg": (40, 0, 0)}
CODE = """
import os
def mean(pictures):
    with open(os.environ["EMBEDDED"], "a") as calls:
        calls.write("x" * sum(p.size != (64, 64) for p in pictures))
    return [p.resize((1, 1)).getpixel((0, 0)) for p in pictures]
"""


def jpeg(colour, seed):
    """Draw a picture whose mean colour is given and whose look is its own."""
    noise = np.random.default_rng(seed).integers(0, 2, (9, 12, 1))
    patches = np.uint8(noise * np.array(colour)[None, None] * 0.75 + np.array(colour) * 0.25)
    buffer = io.BytesIO()
    Image.fromarray(patches).resize((240, 180), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write a site of four pictures, a set with a picture of the colour of two of them, and the model."""
    folder = tmp_path_factory.mktemp("embed")
    patch = pytest.MonkeyPatch()
    patch.setenv("EMBEDDED", str(folder / "calls"))
    (folder / "m.py").write_text(CODE)
    (folder / "val").mkdir()
    (folder / "val" / "red.png").write_bytes(jpeg((50, 0, 0), 9))
    write_set(str(folder / "val"), str(folder / "val.parquet"), f"{folder}/m.py:mean")
    with (folder / "site.warc.gz").open("wb") as stream:
        for name, colour in SEEN.items():
            figure = f"<figure><img src='{name}'><figcaption>A view of the {name[:-4]} at dawn</figcaption></figure>"
            words = WORDS.replace("fox", f"fox of {name}").replace("lazy dog", f"dog that {name} has")
            body = f"<article><h1>A walk</h1>{words}{figure}</article>"
            stream.write(member(record(http(page("A walk", body)), url=f"{HOST}/{name[:-4]}.html")))
            data = jpeg(colour, {"twin.jpg": 0}.get(name, list(SEEN).index(name)))
            stream.write(member(record(http(data, "image/jpeg"), url=f"{HOST}/{name}")))
    (folder / "calls").unlink()
    yield folder
    patch.undo()


def build(folder, out="out", backwards=False, **rules):
    """Build the site's dataset in this process; gives the stages that were run."""
    evaluation = {"sets": [f"{folder}/val.parquet"], "model": f"{folder}/m.py:mean", "near_miss_cosine": 0.3, **rules}
    tree = {"source": {"paths": [f"{folder}/site.warc.gz"]}, "pairs": {"preset": "ltip"}}
    tree |= {"filters": {"evaluation": evaluation}}
    job = Job(Folder(str(folder / out)), with_overrides(from_tree(BuildConfig, tree, "test"), ANY_TEXT))
    ran = []

    def execute(stage, units, done):
        ran.append(stage.name)
        for unit in units[:: -1 if backwards else 1]:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return ran


def rows_of(folder):
    rows = list(stream_range(folder, NEAREST, KeyRange("", "")))
    return sorted((row["url"].rpartition("/")[2], row["set"], row["name"], row["cosine"]) for row in rows)


def kept(out):
    return {row["url"].rpartition("/")[2] for row in pq.read_table(Path(out, "pairs/index.parquet")).to_pylist()}


def test_a_build_leaves_out_what_is_near_by_embedding_and_embeds_once(site):
    out = Folder(str(site / "out"))
    assert "embed" in build(site)
    assert Path(site / "calls").read_text() == "xxx", "equal pictures are embedded once"
    rows = rows_of(out)
    assert [row[:3] for row in rows] == [(name, "val", "red.png") for name in sorted(SEEN)]
    cosines = {row[0]: row[3] for row in rows}
    assert cosines["copy.jpg"] == cosines["twin.jpg"] >= 0.95 > cosines["near.jpg"] >= 0.65 > cosines["far.jpg"]
    assert kept(site / "out") == {"near.jpg", "far.jpg"}
    detail = f"val: red.png, cosine {cosines['copy.jpg']:.6f}"
    rejection = story_of(key_of(f"{HOST}/copy.jpg"), out).rejections[0]
    assert (rejection.stage, rejection.reason, rejection.detail) == ("evaluation", "near_evaluation_set", detail)
    funnel = {row.stage: row for row in read_manifests(out)["interleaved"].funnel}
    assert funnel["evaluation"].rejected == {"near_evaluation_set: val": 2}
    assert funnel["evaluation"].sizes["near misses"] == {"val": 1}
    assert (funnel["embed"].kind, funnel["embed"].kept) == ("picture embedding", 3)
    sample = sample_dropped(out, "near_miss", 5)
    (copy,) = [one.copy_of for one in sample.shown]
    assert (copy.set, copy.name, copy.bits, copy.cosine) == ("val", "red.png", None, cosines["near.jpg"])
    assert copy.thumbnail
    assert f"cosine {cosines['near.jpg']:.6f}" in "".join(gallery(sample, "out"))

    again = build(site, min_cosine=0.7)
    assert "place" in again
    assert not {"embed", "list_pictures"} & {*again}, "another threshold embeds nothing anew"
    assert kept(site / "out") == {"far.jpg"}
    build(site, model="")
    assert kept(site / "out") == {*SEEN}
    assert rows_of(out) == []


def test_stretches_and_order_change_no_row(site, monkeypatch):
    build(site, "first")
    monkeypatch.setattr(embed, "HELD_PICTURES", 1)
    build(site, "second", backwards=True)
    first, second = (Folder(str(site / name)) for name in ("first", "second"))
    assert rows_of(first) == rows_of(second) != []


# What does not fit, told in one line before anything is done.


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("plain", "{}/m.py:mean", "filters.evaluation.model: no set has embeddings; "),
        ("val", "{}/other.py:mean", "/val.parquet: embedded by "),
        ("long", "{}/m.py:mean", "embeddings have 3 numbers, those of "),
        ("val", "{}/none.py:mean", "filters.evaluation.model: {}/none.py: no such file"),
        ("val", "m.bin", "filters.evaluation.model: a model is FILE.onnx, module:function or FILE.py:function, not "),
        ("val", "{}/m.py:none", "filters.evaluation.model: {}/m.py has no function none"),
    ],
)
def test_models_and_sets_that_do_not_fit(site, tmp_path, name, model, message):
    (site / "other.py").write_text(CODE + "\n")
    write_set(str(site / "val"), str(site / "plain.parquet"))
    digest = digest_of(parse_embedder(f"{site}/m.py:mean"))
    write_embedded(site / "long.parquet", [np.float32([1, 0, 0, 0])], digest)
    said = [f'filters.evaluation.sets=["{site}/{name}.parquet"]']
    said.append(f"filters.evaluation.model={model.format(site)}")
    given = ["build", "--source", str(site / "site.warc.gz"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*given, "--dry-run", *(part for one in said for part in ("--set", one))])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert message.format(site) in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_set_without_embeddings_beside_one_is_told_and_held_by_hash(site, tmp_path):
    write_set(str(site / "val"), str(site / "plain.parquet"))
    sets = f'filters.evaluation.sets=["{site}/val.parquet", "{site}/plain.parquet"]'
    given = ["build", "--source", str(site / "site.warc.gz"), "--out", str(tmp_path / "out"), "--dry-run"]
    result = CliRunner().invoke(main, [*given, "--set", sets, "--set", f"filters.evaluation.model={site}/m.py:mean"])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.endswith("plain.parquet: has no embeddings: its pictures are found by hash alone\n")


def test_the_index_command_embeds(site, tmp_path):
    out = str(tmp_path / "a.parquet")
    result = CliRunner().invoke(
        main, ["decontaminate-index", str(site / "val"), "-o", out, "--model", f"{site}/m.py:mean"]
    )
    assert (result.exit_code, result.stderr) == (0, f"wrote {out}: 1 picture; refused: none\n")
    digest = digest_of(parse_embedder(f"{site}/m.py:mean"))
    assert embedded_sets([out]) == [Embedded(out, f"{site}/m.py:mean", digest, 3)]
    (vector,) = pq.read_table(out)["embedding"].to_pylist()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert Path(out).read_bytes() == Path(site / "val.parquet").read_bytes()
    (tmp_path / "none.py").write_text("def f(pictures):\n    return [None for _ in pictures]\n")
    given = ["decontaminate-index", str(site / "val"), "-o", str(tmp_path / "b.parquet")]
    result = CliRunner().invoke(main, [*given, "--model", f"{tmp_path}/none.py:f"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "gave no embedding of the first 1 picture" in result.stderr
