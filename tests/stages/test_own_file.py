"""Data of the user's own in one file: what a run trains on is never called held out."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import igpo_lightning
from igpo_lightning.checks import validate
from igpo_lightning.data.overlap import evaluated_on
from igpo_lightning.data.problem import Problem
from igpo_lightning.settings import Settings
from igpo_lightning.stages.problems import (
    evaluation_sets,
    name_asked,
    name_evaluated,
    read_problems,
)
from tests.composing import composed


def problems(*numbers: int) -> list[Problem]:
    return [Problem(id=f"p{n}", question=f"{n}?", solution=None, answer="1") for n in numbers]


def own_file(folder: Path, count: int) -> Path:
    file = folder / "mine.jsonl"
    rows = [{"question": f"A+{i} from 1", "answer": str(i + 1)} for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def config(*overrides: str) -> Settings:
    checked = composed(*overrides)
    validate(checked)
    return checked


def test_held_out_is_said_of_rows_alone_that_are_not_trained_on() -> None:
    assert evaluated_on(problems(1, 2), problems(3, 4)) == "held-out problems"
    assert evaluated_on(problems(1, 2), problems(3, 2, 1)) == "training problems"
    assert evaluated_on(problems(1, 2), problems(2, 3)) == "problems (1 of them trained on)"


def test_a_run_says_how_many_of_twelve_rows_are_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    given = config("data=jsonl", f"data.path={own_file(tmp_path, 12)}")
    train, asked = read_problems(given, "train"), read_problems(given, "test")
    assert name_evaluated(given, train, asked) == "held-out problems of mine.jsonl"
    assert "1 of its 12 problems are held out, 11 are trained on" in caplog.text
    assert evaluation_sets(given.data, "validation") == {}
    assert [p.id for p in evaluation_sets(given.data, "train")["jsonl"]] == [p.id for p in asked]


def test_rows_that_are_trained_on_are_called_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = config("data=jsonl", f"data.path={own_file(tmp_path, 12)}", "data.validation_share=0")
    train, asked = read_problems(given, "train"), read_problems(given, "test")
    assert len(train) == len(asked) == 12
    assert name_evaluated(given, train, asked) == "training problems"
    assert "the evaluation asks training problems" in caplog.text


def test_an_evaluation_alone_asks_every_row(tmp_path: Path) -> None:
    given = config("stage=eval", "data=jsonl", f"data.path={own_file(tmp_path, 12)}")
    assert len(read_problems(given, "test")) == 12
    assert name_asked(given) == "problems of mine.jsonl"
    assert name_asked(config("stage=eval")) == "test problems"
    assert name_asked(config("stage=eval", "eval.split=train")) == "training problems"


@pytest.mark.slow
@pytest.mark.parametrize(("share", "words"), [("0.05", "held-out"), ("0", "training")])
def test_table_summary_report_and_overlap_agree(tmp_path: Path, share: str, words: str) -> None:
    source = str(Path(igpo_lightning.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "COLUMNS": "140"}
    environment.pop("IGPO_DATA_DIR", None)
    own = ["data=jsonl", f"data.path={own_file(tmp_path, 12)}", f"data.validation_share={share}"]
    small = ["sampler.completion_length=16", "sampler.block_length=8", "sampler.steps=4"]
    small += ["stage.steps=1", "stage.prompts_per_step=2", "stage.group_size=2", "logger=[csv]"]

    def run(*overrides: str) -> str:
        command = [sys.executable, "-m", "igpo_lightning", *overrides]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder = tmp_path / "run"
    said = run(*own, *small, f"hydra.run.dir={folder}")
    count = {"held-out": "1 held-out problem of mine.jsonl", "training": "12 training problems"}
    assert f"accuracy on {count[words]}" in said
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["evaluated_on"].startswith(f"{words} problems")
    run("stage=report", f"path={folder}", f"hydra.run.dir={tmp_path / 'report'}")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"accuracy on {words} problems" in page
    inspected = run("stage=inspect", *own, f"hydra.run.dir={tmp_path / 'inspect'}")
    overlap = {"held-out": "none of 11 train problems", "training": "12 of 12 train problems are"}
    assert overlap[words] in inspected
    other = {"held-out": "training", "training": "held-out"}[words]
    for text in (said, page, json.dumps(summary)):
        assert f"{other} problem" not in text
