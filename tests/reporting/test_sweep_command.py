"""Sweeps through the command line: failures stay apart, finished runs are skipped, plugins run."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
EVALUATION = ("stage=eval", "eval.limit=2", "data.eval_size=8", "reward.workers=1", "logger=[]")


def sweep(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "igpo_lightning", "-m", *EVALUATION, "trainer.threads=1"]
    command += [*overrides, f"hydra.sweep.dir={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_failed_run_stops_no_other_and_finished_runs_are_skipped(tmp_path: Path) -> None:
    first = sweep(tmp_path, "model.path=/nowhere,tiny", "seed=0,1")
    assert first.returncode == 1
    found = rows(tmp_path)
    assert [(row["model.path"], row["seed"], row["status"]) for row in found] == [
        ("/nowhere", "0", "failed"),
        ("/nowhere", "1", "failed"),
        ("tiny", "0", "finished"),
        ("tiny", "1", "finished"),
    ]
    assert found[0]["error"].startswith("ConfigError: model.path=/nowhere")
    assert "2 of 4 runs finished" in (tmp_path / "report.html").read_text(encoding="utf-8")
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/summary.json")}
    again = sweep(tmp_path, "model.path=tiny", "seed=0,1,2")
    assert again.stdout.count("finished before, not run again") == 2
    assert len(rows(tmp_path)) == 5
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
    assert len(list(tmp_path.glob("*/summary.json"))) == 3


def test_a_sweep_of_plans_succeeds_and_leaves_no_table(tmp_path: Path) -> None:
    result = sweep(tmp_path / "sweep", "seed=0,1", "dry_run=true")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Plan of stage=eval") == 2
    assert "unfinished" not in result.stdout
    written = {file.name for file in tmp_path.rglob("*")}
    assert not {"planned.json", "sweep.csv", "report.html", "overrides.yaml"} & written


@pytest.mark.parametrize(
    ("overrides", "module"),
    [
        (("hydra/launcher=joblib", "seed=0,1"), "hydra_joblib_launcher"),
        (
            ("hydra/sweeper=search", "hydra.sweeper.n_trials=2", "eval.temperature=interval(0,1)"),
            "hydra_optuna_sweeper",
        ),
    ],
)
def test_plugins_run(tmp_path: Path, overrides: tuple[str, ...], module: str) -> None:
    pytest.importorskip(f"hydra_plugins.{module}", reason="needs the extra sweeps")
    result = sweep(tmp_path, *overrides)
    assert result.returncode == 0, result.stderr
    assert [row["status"] for row in rows(tmp_path)] == ["finished", "finished"]
