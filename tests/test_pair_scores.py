"""Scores of pairs: settings, functions and thresholds as such, and a build that scores the texts that it writes."""

import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from score_site import HOST, build, digests, scores_in, write_site

from pipeline.folder import Folder, UserError
from pipeline.report import read_manifests
from pipeline.safety import NO_PAIR_MODEL, steps_not_run
from pipeline.score import (
    NOT_SCORED,
    SCORE_ABOVE,
    SCORE_BELOW,
    ScoreConfig,
    files_of,
    for_pictures,
    hold_pairs,
    judge_limits,
    judge_scores,
    pair_models,
    picture_models,
    stamped_pair_models,
)
from pipeline.why import story_of
from schemas.config import ConfigError, from_tree
from schemas.page import Refusal, key_of

MODELS = {"models": ("nsfw=a.onnx",), "pair_models": ("clip=m.py:f", "words=models:count")}


# Settings and thresholds.


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"pair_models": ["clip=x.onnx"]},
            "pair_models are NAME=module:function or NAME=FILE.py:function, not 'clip=x.onnx'",
        ),
        ({"pair_models": ["clip"]}, "pair_models are NAME=module:function or NAME=FILE.py:function, not 'clip'"),
        ({"models": ["a=x.onnx"], "pair_models": ["a=m:f"]}, "two models are called a"),
        (
            {"models": ["a=x.onnx"], "pair_models": ["b=m:f"], "drop_above": ["c=1"]},
            "drop_above names c, and the models are a, b",
        ),
    ],
)
def test_wrong_settings_are_told(tree, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_tree(ScoreConfig, tree, "test")


@pytest.mark.parametrize(
    ("above", "below", "scores", "refusal"),
    [
        ([], ["clip=0.28"], {"clip": 0.28}, None),
        ([], ["clip=0.28"], {"clip": 0.27}, Refusal(SCORE_BELOW, "clip 0.27 < 0.28")),
        (["words=9"], ["clip=0.28"], {"clip": 0.5, "words": 9.5}, Refusal(SCORE_ABOVE, "words 9.5 > 9")),
        (["words=9"], [], {"clip": 0.5}, Refusal(NOT_SCORED, "words")),
        (["nsfw=0.5"], [], {"nsfw": 0.6, "clip": 0.5}, Refusal(SCORE_ABOVE, "nsfw 0.6 > 0.5")),
        ([], [], {}, None),
    ],
)
def test_thresholds_on_both_sides(above, below, scores, refusal):
    config = ScoreConfig(**MODELS, drop_above=tuple(above), drop_below=tuple(below))
    assert judge_limits(scores, [*picture_models(config), *pair_models(config)], config) == refusal


def test_pictures_are_not_judged_by_what_scores_pairs():
    config = ScoreConfig(**MODELS, drop_above=("words=9", "nsfw=0.5"), drop_below=("clip=0.28",))
    assert judge_scores([{"model": "nsfw", "score": 0.5}], config) is None
    assert for_pictures(config) == ScoreConfig(MODELS["models"], drop_above=("nsfw=0.5",))
    assert files_of(config) == ["a.onnx", "m.py"]


# Functions.


def function_file(tmp_path, body):
    (tmp_path / "m.py").write_text(f"def f(pictures, texts):\n    {body}\n")
    return ScoreConfig(pair_models=(f"clip={tmp_path}/m.py:f",))


def given(config):
    return hold_pairs(config)["clip"]([Image.new("RGB", (4, 3)), Image.new("RGB", (5, 3))], ["a dog", "two cats"])


def test_a_function_gets_pictures_and_texts_in_order(tmp_path):
    body = "return [p.width * len(t) if p.mode == 'RGB' else None for p, t in zip(pictures, texts, strict=True)]"
    assert given(function_file(tmp_path, body)) == [20.0, 40.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "gave 1 scores for 2 pictures"),
        ("return [1.0, float('inf')]", "gave inf for a picture; a score is a finite number or None"),
        ("raise KeyError('no\\nsuch')", "KeyError: "),
    ],
)
def test_what_a_function_does_wrong_is_one_line(tmp_path, body, message):
    with pytest.raises(UserError) as caught:
        given(function_file(tmp_path, body))
    assert str(caught.value).startswith(f"scores.pair_models: clip: {message}")
    assert "\n" not in str(caught.value)


def test_another_content_is_another_stamp_and_is_loaded_again(tmp_path):
    config = function_file(tmp_path, "return [1, 2]")
    before, held = stamped_pair_models(config), hold_pairs(config)
    assert hold_pairs(config) is held
    function_file(tmp_path, "return [22, None]")
    assert stamped_pair_models(config) != before
    assert given(config) == [22.0, None]


# A build.

MODEL = """
import os
def light(pictures):
    return [float(sum(p.resize((1, 1)).getpixel((0, 0)))) / 3 for p in pictures]
def agree(pictures, texts):
    with open(os.environ["CALLS"], "a") as calls:
        calls.writelines(text + "\\n" for text in texts)
    return [None if p.width == 300 else float(len(t)) for p, t in zip(pictures, texts, strict=True)]
"""
LAST = {"pair_judge", "pair_shard"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write the site, its dataset, and a model that writes down the texts that it is given."""
    folder = tmp_path_factory.mktemp("pair_scores")
    os.environ["CALLS"] = str(folder / "calls")
    (folder / "model.py").write_text(MODEL)
    write_site(folder)
    yield folder
    del os.environ["CALLS"]


def tables(folder, **thresholds):
    scores = {"models": [f"light={folder}/model.py:light"], "pair_models": [f"clip={folder}/model.py:agree"]}
    return {"scores": {**scores, "batch": 3, **thresholds}, "privacy": {"mask": ["phone"]}}


def samples_of(out):
    """Give the text and scores of each pair as they stand in the shards, by picture."""
    samples = {}
    for path in sorted((out / "pairs").glob("*.tar")):
        with tarfile.open(path) as shard:
            told = {one.name: shard.extractfile(one).read() for one in shard}
        for name in told:
            if name.endswith(".json"):
                header = json.loads(told[name])
                text = told[name.replace(".json", ".txt")].decode()
                samples[header["url"].rpartition("/")[2]] = {"text": text, "scores": header["scores"]}
    return samples


def reasons(out):
    """Give the reason for which a pair was dropped, by picture."""
    keys = {name: key_of(f"{HOST}/{name}.jpg") for name in ("dark", "light", "odd")}
    folder = Folder(str(out))
    counts = {name: story_of(key, folder).counts for name, key in keys.items()}
    return {name: reason for name, told in counts.items() for stage, _, reason, _ in told if stage == "pair_judge"}


def rows_of(out):
    """Give the funnel of pairs."""
    return {(row.stage, row.kind): row for row in read_manifests(Folder(str(out)))["pairs"].funnel}


def test_pairs_are_scored_with_the_text_that_is_written_and_thresholds_score_nothing_again(site):
    out, ran = build(site, **tables(site))
    assert {"pair", "pair_score", *LAST} <= {*ran}
    stored = samples_of(out)
    calls = Path(os.environ["CALLS"]).read_text()
    assert sorted(calls.splitlines()) == sorted(sample["text"] for sample in stored.values())
    assert "<PHONE>" in calls
    given = {name: {one["model"]: one["score"] for one in sample["scores"]} for name, sample in stored.items()}
    assert {name: scores.get("clip") for name, scores in given.items()} == {
        name: None if name == "odd.jpg" else len(sample["text"]) for name, sample in stored.items()
    }
    assert {*given["odd.jpg"]} == {"light"}
    assert scores_in(out)[1] == {name: sample["scores"] for name, sample in stored.items()}
    row = rows_of(out)["pair_score", "pair score"]
    assert (row.seen, row.kept, row.rejected) == (4, 3, {"not_scored: clip": 1})
    assert dict(story_of(key_of(f"{HOST}/dark.jpg"), Folder(str(out))).scores) == given["dark.jpg"]

    # "light" has a longer caption than "dark" and "copy".
    limit = given["dark.jpg"]["clip"]
    _, again = build(site, **tables(site, drop_above=[f"clip={limit}"]))
    assert {*again} == LAST
    assert {*samples_of(out)} == {"dark.jpg", "copy.jpg"}
    assert reasons(out) == {"light": SCORE_ABOVE, "odd": NOT_SCORED}
    row = rows_of(out)["pair_judge", "image"]
    assert (row.seen, row.kept, row.rejected) == (4, 2, {SCORE_ABOVE: 1, NOT_SCORED: 1})

    _, again = build(site, **tables(site, drop_below=["light=100"]))
    assert {"place", *LAST} <= {*again}
    assert not {"pair", "score", "pair_score"} & {*again}
    assert {*samples_of(out)} == {"light.jpg", "odd.jpg"}, "scores of pictures are judged, too"
    assert Path(os.environ["CALLS"]).read_text() == calls


def test_without_models_of_pairs_there_is_no_such_stage(site):
    scored, _ = build(site, out="scored", **tables(site))
    build(site, out="scored")
    assert digests(scored) == digests(site / "plain")
    assert not [*(scored / "work/chosen").glob("*.parquet"), *(scored / "work/pair_scores").glob("*.parquet")]
    done = {path.name for path in (site / "plain" / "work" / "done").iterdir()}
    assert not {"pair_score", "pair_judge"} & done


def test_the_order_of_the_work_changes_no_byte(site):
    first, _ = build(site, out="first", **tables(site))
    second, _ = build(site, backwards=True, out="second", **tables(site))
    assert digests(first) == digests(second)


def test_a_report_says_that_nothing_compared_pairs():
    pairs = {"pairs": {"preset": "align"}}
    assert NO_PAIR_MODEL in steps_not_run(pairs)
    assert NO_PAIR_MODEL not in steps_not_run(pairs | {"scores": {"pair_models": ["a=m:f"]}})
    assert NO_PAIR_MODEL not in steps_not_run({"pairs": {"preset": "none"}})
