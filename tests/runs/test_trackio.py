"""Trackio gets a run's settings and numbers, and one run of Trackio's for each of ours."""

import json
import os
import sqlite3
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import igpo_lightning
from igpo_lightning.runs.trackio import TrackioLogger


class Recorder(types.ModuleType):
    """Stands for the package: remembers what is asked of it."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.asked: list[tuple[Any, ...]] = []

    def init(self, project: str, name: str, config: dict[str, Any], resume: str) -> "Recorder":
        self.asked.append(("init", project, name, config, resume))
        return self

    def log(self, metrics: dict[str, float], step: int | None) -> None:
        self.asked.append(("log", metrics, step))

    def finish(self) -> None:
        self.asked.append(("finish",))


def test_the_loops_of_a_run_are_one_run_of_trackios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning ends its loggers after the evaluation before training, and again after it."""
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", recorder)
    logger = TrackioLogger("runs/rl_arithmetic/mine", "a-project")
    logger.log_hyperparams({"seed": 1, "stage": {"steps": 2}})
    logger.log_metrics({"eval/accuracy": 0.5}, 0)
    logger.finalize("success")
    logger.log_metrics({"policy/loss": 0.1}, 1)
    logger.finalize("success")
    settings, name = {"seed": 1, "stage.steps": 2}, "rl_arithmetic/mine"
    assert recorder.asked == [
        ("init", "a-project", name, settings, "never"),
        ("log", {"eval/accuracy": 0.5}, 0),
        ("finish",),
        ("init", "a-project", name, settings, "allow"),
        ("log", {"policy/loss": 0.1}, 1),
        ("finish",),
    ]


def test_nothing_is_begun_where_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", recorder)
    TrackioLogger("runs/mine", "a-project").finalize("success")
    assert recorder.asked == []


@pytest.mark.slow
def test_trackio_keeps_what_a_run_logs(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="needs the extra trackio")
    folder = f"hydra.run.dir={tmp_path / 'a' / 'run'}"
    small = ("stage.steps=2", "stage.prompts_per_step=2", "stage.group_size=2", "eval.limit=2")
    source = str(Path(igpo_lightning.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "igpo_lightning", "logger=trackio", *small, folder],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "kept"), "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "kept").glob("igpo_lightning.db")
    with sqlite3.connect(file) as base:
        rows = base.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
        ((settings,),) = base.execute("SELECT config FROM configs").fetchall()
    assert {name for name, _, _ in rows} == {"a/run"}
    logged = {step for _, step, metrics in rows if "reward/accuracy" in json.loads(metrics)}
    assert logged == {0, 1}
    assert json.loads(settings)["stage.steps"] == 2
