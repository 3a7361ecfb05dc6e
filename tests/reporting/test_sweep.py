"""Sweeps: names of folders, what is planned, what is run again, what the table says."""

import contextlib
import csv
import io
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from igpo_lightning import sweeping
from igpo_lightning.errors import ConfigError, RunError
from igpo_lightning.reporting.run_data import read_planned, read_sweep, write_overrides
from igpo_lightning.reporting.sweep import SweepTable, planned_runs, write_planned
from igpo_lightning.reporting.sweep_settings import settings_of
from igpo_lightning.reporting.sweep_table import sweep_table, write_sweep_table
from igpo_lightning.sweeping import folder_name, objective, run_once
from tests.composing import raw
from tests.reporting.run_folder import write_run

SUMMARY = {"after": {"mean": 0.25, "low": 0.2, "high": 0.3, "problems": 4, "samples": 1}}


@pytest.fixture
def in_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if Hydra ran a job of a sweep in a folder."""
    hydra = SimpleNamespace(
        mode=RunMode.MULTIRUN,
        runtime=SimpleNamespace(output_dir=str(tmp_path)),
        overrides=SimpleNamespace(task=["seed=1"]),
    )
    monkeypatch.setattr(sweeping, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    return tmp_path


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_names_fit_a_folder_and_tell_runs_apart(overrides: str) -> None:
    name = folder_name(overrides)
    assert 0 < len(name) <= 130
    assert "/" not in name
    assert name not in (".", "..") or overrides == name
    assert name == folder_name(overrides)
    assert name != folder_name(overrides + "x")


def test_plain_names_stay_as_they_are() -> None:
    assert folder_name("inpaint.ratio=0.2,seed=1") == "inpaint.ratio=0.2,seed=1"
    assert folder_name("model.path=/a/b").startswith("model.path=_a_b-")
    assert folder_name("model.path=/a/b") != folder_name("model.path=_a_b")


def test_a_finished_run_is_not_run_again(in_sweep: Path) -> None:
    (in_sweep / "summary.json").write_text(json.dumps(SUMMARY))

    def job(config: DictConfig) -> dict[str, Any]:
        raise AssertionError("ran")

    assert run_once(OmegaConf.create(), job) == 0.25


def test_a_failure_is_written_down_and_gone_after_a_success(in_sweep: Path) -> None:
    def failing(config: DictConfig) -> dict[str, Any]:
        raise ConfigError("stage.steps=0: give at least 1")

    assert run_once(OmegaConf.create(), failing) is None
    text = (in_sweep / "failure.txt").read_text()
    assert text.startswith("ConfigError: stage.steps=0: give at least 1\n")
    assert "Traceback" in text
    assert run_once(OmegaConf.create(), lambda config: SUMMARY) == 0.25
    assert not (in_sweep / "failure.txt").exists()


def test_a_signal_ends_the_whole_sweep(in_sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stopped(config: DictConfig) -> dict[str, Any]:
        raise RunError("stopped by SIGTERM", status=143)

    with pytest.raises(SystemExit) as caught:
        run_once(OmegaConf.create(), stopped)
    assert caught.value.code == 143
    assert "stopped by SIGTERM" in caplog.text
    assert not (in_sweep / "failure.txt").exists()  # unfinished, not failed


def test_a_search_maximises_accuracy() -> None:
    assert objective(SUMMARY) == 0.25
    assert objective({"after": None}) is None
    assert objective(None) is None


def test_every_run_of_a_grid_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    own = "stage.output='runs/${seed}'"  # every run resolves it for itself
    overrides = {"task": ["inpaint.ratio=0.2,null", "model=tiny", own]}
    sweeper = {"_target_": target, "params": {"seed": "range(2)"}}
    hydra = {"sweeper": sweeper, "overrides": overrides}
    config = OmegaConf.create({"hydra": hydra, "seed": 7})
    loader = SimpleNamespace(config_loader=lambda: None)
    monkeypatch.setattr(
        "igpo_lightning.reporting.sweep.GlobalHydra", SimpleNamespace(instance=lambda: loader)
    )
    runs = planned_runs(config)
    assert runs == [
        [f"seed={seed}", f"inpaint.ratio={ratio}", "model=tiny", own]
        for seed in (0, 1)
        for ratio in ("0.2", "null")
    ]
    write_planned(tmp_path, runs)
    write_planned(tmp_path, [["model=tiny", own, "seed=0", "inpaint.ratio=0.2"], ["seed=2"]])
    assert len(read_planned(tmp_path)) == 5  # one was known, in another order
    assert {run.status for run in read_sweep(tmp_path)} == {"missing"}


def test_a_run_with_a_value_of_its_seed_is_the_planned_one(tmp_path: Path) -> None:
    """Hydra's list would resolve ${seed} as it is read: a setting a seed, and all missing."""
    for seed in ("0", "1"):
        asked = ["model.path='start/${seed}'", f"seed={seed}"]
        config = OmegaConf.create({"seed": seed, "hydra": {"overrides": {"task": asked}}})
        write_planned(tmp_path, [asked])
        (tmp_path / seed).mkdir()
        write_overrides(tmp_path / seed, config.hydra.overrides.task)
    (setting,) = settings_of(read_sweep(tmp_path))
    assert [run.status for run in setting.runs] == ["unfinished", "unfinished"]


def test_a_sweep_without_its_launcher_is_not_planned(igpo, tmp_path: Path) -> None:
    with contextlib.suppress(PackageNotFoundError):
        pytest.skip(f"its launcher is installed: {version('hydra-joblib-launcher')}")
    refused = igpo("-m", "seed=0,1", "hydra/launcher=joblib", "hydra.sweep.dir=sweep", code=2)
    assert "pip install 'igpo-lightning[sweeps]'" in refused.stderr
    assert not (tmp_path / "sweep").exists()


def test_table_and_page_show_every_run_and_the_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, status in enumerate(("finished", "failed", "unfinished")):
        overrides = [f"seed={seed}", "stage.steps=20"]
        write_run(tmp_path / ",".join(overrides), overrides, status, seed)
    write_planned(tmp_path, [["stage.steps=20", "seed=3"]])
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "dry_run": False})
    with pytest.raises(SystemExit) as caught:
        SweepTable().on_multirun_end(config)
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert "4 runs: 1 finished, 1 failed, 1 unfinished, 1 missing" in printed.out
    assert "RuntimeError: out of memory" in printed.out
    assert "error: 3 of 4 runs did not finish" in printed.err
    assert "1 of 4 runs finished" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished", "failed", "unfinished", "missing"]
    assert [row["after"] for row in rows] == ["0.6", "", "", ""]
    assert rows[0]["stage.steps"] == "20"


def test_the_terminal_shows_what_differs(tmp_path: Path) -> None:
    for seed in (10, 9):
        write_run(tmp_path / f"seed={seed}", [f"seed={seed}", "a=1"], seed=seed)
    runs = read_sweep(tmp_path)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sweep_table(runs))
    text = console.export_text()
    assert " a " not in text
    assert text.index("│ 9 ") < text.index("│ 10 ")
    assert "69.0 % [64.0, 74.0]" in text  # 0.6 + 0.01 * 9
    write_sweep_table(tmp_path, runs)
    assert (tmp_path / "sweep.csv").read_text().startswith("run,seed,a,status,before,after,")


@pytest.mark.parametrize(
    ("choice", "plugin"),
    [
        ("hydra/launcher=basic", "hydra"),
        ("hydra/launcher=joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("hydra/launcher=slurm", "hydra_plugins.hydra_submitit_launcher"),
        ("hydra/sweeper=search", "hydra_plugins.hydra_optuna_sweeper"),
    ],
)
def test_launchers_and_sweepers_compose(choice: str, plugin: str) -> None:
    pytest.importorskip(plugin, reason="needs the extra sweeps")
    group, name = choice.split("=")
    node = raw(choice, hydra=True).hydra[group.split("/")[1]]
    assert node["_target_"]
    if name == "search":
        assert str(node.direction).endswith("maximize")
        assert node.sampler.seed == 0
