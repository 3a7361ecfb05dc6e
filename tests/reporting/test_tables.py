"""The table that an RL run ends with."""

from pathlib import Path

import pytest

from igpo_lightning.reporting.tables import print_rl_table
from tests.reporting.run_folder import accuracy, write_run


def shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    summary = {
        "evaluated_on": "held-out problems",
        **{
            f"{when}{how}": accuracy(0.5)
            for when in ("before", "after")
            for how in ("", "_sampled")
        },
    }
    print_rl_table(folder, summary, 10, (0.0, 1.0))
    return capsys.readouterr().out


def test_a_runs_rollouts_have_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(write_run(tmp_path / "run", []), capsys)
    assert "right samples, last" in text
    assert "logger=csv" not in text


def test_a_run_without_metrics_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As with `logger=trackio` alone: nothing is measured here that could be shown."""
    text = shown(tmp_path, capsys)
    assert "no metrics.csv, so nothing about rollouts: add logger=csv" in text
    assert "0 of 0 steps" not in text
    assert "0.0 s" not in text
