"""The recipe of the demo: its settings are those of real runs, its stages are run once, and a failure is told."""

import subprocess
import sys

import pytest

from flamingo_model.train_config import run_config
from pipeline import recipe
from pipeline.folder import UserError
from pipeline.recipe import A_LESSON, A_MINUTE, CONTRASTIVE, FLAMINGO, LM


@pytest.fixture
def started(monkeypatch):
    """Run a line of Python in place of each stage; gives the stages that were started."""
    stages, codes = [], {}

    def start(out, stage):
        stages.append(stage)
        code = codes.get(stage, 0)
        ending = f"E1 {recipe.LAUNCHER}/x.py failed\nTraceback\n" if code else ""
        line = f"print('of {stage}'); print({ending!r}); raise SystemExit({code})"
        return subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(recipe, "start", start)
    return stages, codes


def test_the_settings_are_those_of_runs(tmp_path):
    assert A_LESSON.keys() == A_MINUTE.keys()
    for objective, tree in recipe.recipe(tmp_path, "dataset", A_LESSON).items():
        run = run_config(tree, "test", objective)
        assert run.train.steps == A_LESSON[objective] > A_MINUTE[objective]
        assert run.train.out == str(tmp_path / objective)
    assert run.model.lm.weights == str(tmp_path / LM / "lm")
    assert run.data.tokenizer == str(tmp_path / LM / "tokenizer")


def test_stages_run_in_turn_and_those_that_are_done_do_not(started, tmp_path, capfd):
    (tmp_path / LM / f"step-{A_MINUTE[LM]:06d}").mkdir(parents=True)
    assert recipe.learn(tmp_path, "dataset", A_MINUTE) == tmp_path / FLAMINGO
    assert started[0] == [CONTRASTIVE, FLAMINGO]
    assert "contrastive | of contrastive\n" in capfd.readouterr().out
    assert {file.name for file in tmp_path.glob("*.toml")} == {f"{stage}.toml" for stage in A_MINUTE}


def test_a_stage_that_fails_ends_the_lesson(started, tmp_path, capfd):
    started[1][CONTRASTIVE] = 3
    with pytest.raises(UserError, match=r"training stopped: contrastive;"):
        recipe.learn(tmp_path, "dataset", A_MINUTE)
    assert started[0] == [LM, CONTRASTIVE]
    shown = capfd.readouterr().out
    assert "contrastive | of contrastive\n" in shown
    assert "Traceback" not in shown
