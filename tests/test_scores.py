"""Scores of pictures: models and thresholds as such, and a build that scores each picture once and masks its texts."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx_made import channel_means
from PIL import Image
from score_site import HOST, SEEN, build, digests, scores_in, write_site

from pipeline import stored_pictures
from pipeline.cli import main
from pipeline.folder import Folder, UserError
from pipeline.report import read_manifests
from pipeline.score import (
    NOT_SCORED,
    SCORE_ABOVE,
    SCORE_BELOW,
    ScoreConfig,
    hold,
    hold_models,
    judge_scores,
    stamped_models,
)
from pipeline.stored_pictures import batches
from pipeline.why import story_of
from schemas.config import ConfigError, from_tree
from schemas.page import Refusal, key_of

MODELS = ("nsfw=a.onnx", "aesthetic=models:judge")


def grey(level, size=(40, 30)):
    return Image.new("RGB", size, (level, level // 2, 0))


# Thresholds.


def judged(above=(), below=(), **scores):
    rows = [{"model": name, "score": value} for name, value in scores.items()]
    return judge_scores(rows, ScoreConfig(MODELS, above, below))


@pytest.mark.parametrize(
    ("above", "below", "scores", "refusal"),
    [
        (["nsfw=0.7"], [], {"nsfw": 0.7}, None),
        (["nsfw=0.7"], [], {"nsfw": 0.71}, Refusal(SCORE_ABOVE, "nsfw 0.71 > 0.7")),
        ([], ["aesthetic=4.5"], {"aesthetic": 4.5}, None),
        ([], ["aesthetic=4.5"], {"aesthetic": 4.25}, Refusal(SCORE_BELOW, "aesthetic 4.25 < 4.5")),
        (["nsfw=0.7"], [], {}, Refusal(NOT_SCORED, "nsfw")),
        (["nsfw=0.7"], [], {"nsfw": None, "aesthetic": 9.0}, Refusal(NOT_SCORED, "nsfw")),
        ([], [], {"nsfw": None}, None),
        (["nsfw=0.7"], ["nsfw=0.1"], {"nsfw": 0.05}, Refusal(SCORE_BELOW, "nsfw 0.05 < 0.1")),
    ],
)
def test_thresholds_on_both_sides(above, below, scores, refusal):
    assert judged(tuple(above), tuple(below), **scores) == refusal


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"models": ["nsfw"]}, "models are NAME=FILE.onnx, NAME=module:function or NAME=FILE.py:function, not 'nsfw'"),
        ({"models": ["a b=x.onnx"]}, "models are NAME="),
        ({"models": ["a=x.bin"]}, "models are NAME="),
        ({"models": ["a=x.onnx", "a=y.onnx"]}, "two models are called a"),
        ({"models": ["a=x.onnx"], "drop_above": ["b=1"]}, "drop_above names b, and the models are a"),
        ({"drop_below": ["b=1"]}, "drop_below names b, and the models are none"),
        ({"models": ["a=x.onnx"], "drop_above": ["a=nan"]}, "drop_above is NAME=VALUE, such as nsfw=0.7, not 'a=nan'"),
        ({"models": ["a=x.onnx"], "drop_above": ["a"]}, "drop_above is NAME=VALUE"),
        ({"models": ["a=x.onnx"], "drop_above": ["a=1", "a=2"]}, "drop_above has two values for a"),
        ({"batch": 0}, "batch is 1 or more"),
    ],
)
def test_wrong_settings_are_told(tree, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        from_tree(ScoreConfig, tree, "test")


def test_batches_are_bounded_by_number_and_pixels(monkeypatch):
    monkeypatch.setattr(stored_pictures, "MAX_BATCH_PIXELS", 2_500)
    shown = [([], picture) for picture in (grey(1), grey(2), grey(3), None, grey(4, (100, 100)), None)]
    assert [len(batch) for batch in batches(iter(shown), 3)] == [2, 2, 1, 1]
    assert [len(batch) for batch in batches(iter(shown), 1)] == [1] * 6


# Models.


def function_file(tmp_path, body, name="m.py"):
    path = tmp_path / name
    path.write_text(f"def f(pictures):\n    {body}\n")
    return f"a={path}:f"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "a: gave 1 scores for 2 pictures"),
        ("return [1.0, float('nan')]", "a: gave nan for a picture; a score is a finite number or None"),
        ("return ['x', 1]", "a: gave 'x', which is no number"),
        ("return [True, 1]", "a: gave True, which is no number"),
        ("return None", "a: TypeError: "),
        ("raise KeyError('no\\nsuch')", "a: KeyError: "),
    ],
)
def test_what_a_function_does_wrong_is_one_line(tmp_path, body, message):
    scorer = hold(ScoreConfig((function_file(tmp_path, body),)))["a"]
    with pytest.raises(UserError) as caught:
        scorer([grey(1), grey(2)])
    assert str(caught.value).startswith(f"scores.models: {message}")
    assert "\n" not in str(caught.value)


def test_a_function_gets_pictures_and_may_leave_one_out(tmp_path):
    text = function_file(tmp_path, "return [p.width if p.mode == 'RGB' and p.width > 9 else None for p in pictures]")
    assert hold(ScoreConfig((text,)))["a"]([grey(1), grey(1, (8, 8))]) == [40.0, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a={}/none.onnx", "a: {}/none.onnx: no such file"),
        ("a={}/none.py:f", "a: {}/none.py: no such file"),
        ("a=no_such_module:f", "a: no module no_such_module"),
        ("a=no_such.module:f", "a: no module no_such.module"),
        ("a=json:nothing", "a: json has no function nothing"),
        ("a={}/broken.py:f", "a: {}/broken.py: SyntaxError: "),
    ],
)
def test_missing_models_are_told_before_anything_is_done(tmp_path, text, message):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "source").mkdir()
    given = ["build", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "out")]
    pairs = [("pair_models", "--dry-run")] if ".onnx" not in text else []
    for setting, more in [("models", "--workers=1"), ("models", "--dry-run"), *pairs]:
        models = f'scores.{setting}=["{text.format(tmp_path)}"]'
        result = CliRunner().invoke(main, [*given, more, "--set", models])
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
        assert f"scores.{setting}: {message.format(tmp_path)}" in result.stderr
        assert not (tmp_path / "out").exists()


def test_another_content_is_another_stamp_and_is_loaded_again(tmp_path):
    config = ScoreConfig((function_file(tmp_path, "return [1] * len(pictures)"),))
    before, held = stamped_models(config), hold(config)
    assert hold(config) is held
    function_file(tmp_path, "return [22] * len(pictures)")
    assert stamped_models(config) != before
    assert hold(config)["a"]([grey(1)]) == [22.0]
    assert stamped_models(ScoreConfig(config.models, ("a=1",))) == stamped_models(config)
    hold_models.cache_clear()


# ONNX.


def onnx(tmp_path, settings="", **given):
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(channel_means(**given))
    if settings:
        (tmp_path / "m.onnx.toml").write_text(settings)
    return hold(ScoreConfig((f"a={tmp_path}/m.onnx",)))["a"]


def test_an_onnx_model_gets_scaled_pixels(tmp_path):
    assert np.allclose(onnx(tmp_path)([grey(255), grey(51)]), [1.0, 0.2], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("index = 1", 127 / 255),
        ("mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.25, 1]", 1.0),
        ("index = 2\nmean = [0, 0, 0.25]\nstd = [1, 1, 0.5]", -0.5),
        ("softmax = true", np.e / (np.e + np.exp(127 / 255) + 1)),
    ],
)
def test_settings_beside_an_onnx_model(tmp_path, settings, expected):
    assert onnx(tmp_path, settings)([grey(255)]) == pytest.approx([expected], abs=1e-4)


def test_metadata_of_an_onnx_model_and_the_file_over_it(tmp_path):
    metadata = (("size_px", "4"), ("index", "1"), ("author", "somebody: unknown"))
    given = {"shape": ("n", 3, "h", "w"), "metadata": metadata}
    assert onnx(tmp_path, **given)([grey(255)]) == pytest.approx([127 / 255], abs=1e-4)
    assert onnx(tmp_path, "index = 0", **given)([grey(255)]) == pytest.approx([1.0], abs=1e-4)


def test_a_model_of_one_picture_is_run_for_each(tmp_path):
    assert len(onnx(tmp_path, shape=(1, 3, 8, 8))([grey(1), grey(2), grey(3)])) == 3


def test_the_middle_of_a_picture_is_taken_or_all_of_it(tmp_path):
    picture = Image.new("RGB", (60, 20))
    picture.paste((255, 255, 255), (20, 0, 40, 20))
    assert onnx(tmp_path)([picture])[0] > 0.9
    assert onnx(tmp_path, "crop = false")([picture])[0] < 0.5


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (("n", 3, "h", "w"), "", "takes any size; give size_px in "),
        (("n", 1, 8, 8), "", "and N x 3 x 8 x 8 is what it would be given"),
        (("n", 3, 8, 8), "size_px = 9", "and N x 3 x 9 x 9 is what it would be given"),
        ((4, 3, 8, 8), "", "takes 4 pictures at once; any number, or 1, can be given"),
        (("n", 3, 8, 8), "output = 1", "output 1 of 1"),
        (("n", 3, 8, 8), "index = 3", "value 3 of 3 a picture"),
        (("n", 3, 8, 8), "std = [1, 0, 1]", "std is not 0"),
        (("n", 3, 8, 8), "mean = [1, 0]", "mean is three numbers, not [1, 0]"),
        (("n", 3, 8, 8), "size = 9", "unknown setting 'size' (known: size_px, "),
        (("n", 3, 8, 8), "size_px = ", "not TOML: "),
    ],
)
def test_a_model_that_does_not_fit_is_told(tmp_path, shape, settings, message):
    with pytest.raises(UserError) as caught:
        onnx(tmp_path, settings, shape=shape)
    assert message in str(caught.value)


def test_what_is_no_onnx_model_and_unknown_providers_are_told(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(UserError, match=r"a: .*x\.onnx: no ONNX model: "):
        hold(ScoreConfig((f"a={tmp_path}/x.onnx",)))
    (tmp_path / "x.onnx").write_bytes(channel_means())
    with pytest.raises(UserError, match=r"scores\.providers: none of NoSuch is there \(there are: "):
        hold(ScoreConfig((f"a={tmp_path}/x.onnx",), providers=("NoSuch",)))


# A build.

MODEL = """
import os
def light(pictures):
    with open(os.environ["CALLS"], "a") as calls:
        calls.write("x" * len(pictures))
    return [None if p.width == 300 else float(sum(p.resize((1, 1)).getpixel((0, 0)))) / 3 for p in pictures]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write the site, its dataset, and a model that writes down how many pictures it is given."""
    folder = tmp_path_factory.mktemp("scores")
    os.environ["CALLS"] = str(folder / "calls")
    (folder / "model.py").write_text(MODEL)
    write_site(folder)
    yield folder
    del os.environ["CALLS"]


def scores_table(folder, **thresholds):
    return {"scores": {"models": [f"light={folder}/model.py:light"], "batch": 2, **thresholds}}


def test_scores_are_stored_and_thresholds_score_nothing_again(site):
    out, ran = build(site, **scores_table(site))
    assert [stage for stage in ran if stage in ("list_pictures", "score")] == ["list_pictures", "score"]
    assert Path(os.environ["CALLS"]).read_text() == "xxx", "equal pictures are scored once"
    shown, paired = scores_in(out)
    assert shown == paired
    light = {name: [one["score"] for one in scores] for name, scores in shown.items()}
    assert light["odd.jpg"] == []
    assert light["dark.jpg"] == light["copy.jpg"]
    assert light["dark.jpg"][0] < 100 < light["light.jpg"][0]
    row = next(row for row in read_manifests(Folder(str(out)))["interleaved"].funnel if row.stage == "score")
    assert (row.kind, row.seen, row.kept, row.rejected) == ("picture score", 3, 2, {"not_scored: light": 1})
    assert story_of(key_of(f"{HOST}/light.jpg"), Folder(str(out))).scores == (("light", light["light.jpg"][0]),)

    _, again = build(site, **scores_table(site, drop_above=["light=100"]))
    assert "score" not in again
    assert {"place", "pair"} <= {*again}
    shown, paired = scores_in(out)
    assert {*shown} == {*paired} == {"dark.jpg", "copy.jpg"}
    uses = story_of(key_of(f"{HOST}/a.html"), Folder(str(out))).images
    told = {use.image_url.rpartition("/")[2]: use.reason for use in uses}
    assert told == {"dark.jpg": "", "copy.jpg": "", "light.jpg": SCORE_ABOVE, "odd.jpg": NOT_SCORED}

    (site / "model.py").write_text(MODEL + "\n")
    assert "score" in build(site, **scores_table(site))[1]
    build(site)
    assert not any((out / "work/scores").glob("*.parquet"))
    assert scores_in(out)[0] == {name: [] for name in SEEN}


def test_the_order_of_the_work_changes_no_byte(site):
    settings = {**scores_table(site), "privacy": {"mask": ["mail"]}}
    first, ran = build(site, out="first", **settings)
    second, _ = build(site, backwards=True, out="second", **settings)
    assert "score" in ran
    assert digests(first) == digests(second)


def test_texts_of_shards_are_masked_and_the_same_pages_stay(site):
    masked, ran = build(site, out="masked", privacy={"mask": ["mail", "phone"]})
    assert {"select", "shard", "pair", "pair_shard"} <= {*ran}
    assert not {"extract", "normalise", "place"} & {*ran}
    stored = b"".join(file.read_bytes() for kind in ("interleaved", "pairs") for file in (masked / kind).glob("*.tar"))
    assert b"me@example.org" not in stored
    assert b"901820" not in stored
    assert stored.count(b"Write to <EMAIL>, please.") == 1
    assert b"A walk with <EMAIL>" in stored
    assert b"by <EMAIL>" in stored
    assert b"at dawn, call <PHONE>" in stored
    funnel = {
        (row.stage, row.kind): row.rejected for m in read_manifests(Folder(str(masked))).values() for row in m.funnel
    }
    assert funnel["mask", "mail address"]["masked"] >= 6
    assert funnel["pair_mask", "phone number"] == {"masked": 4}
