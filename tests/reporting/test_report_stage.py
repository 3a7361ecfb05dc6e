"""stage=report through the configuration: the page is written; mistakes name the key and a fix."""

from pathlib import Path
from typing import Any

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.stages import run
from tests.composing import composed
from tests.reporting.run_folder import write_run


def report_of(*overrides: str) -> Any:
    return composed("stage=report", "logger=[]", *overrides)


def test_a_run_and_a_sweep_get_their_page(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path / "sweep" / "seed=0", ["seed=0"])
    for folder in (tmp_path / "sweep", tmp_path / "sweep" / "seed=0"):
        config = report_of(f"path='{folder}'", "stage.samples=5")
        validate(config)
        assert run(config) == {"report": str(folder / "report.html")}
        assert f"report: {folder}/report.html" in capsys.readouterr().out
    # Of 2 steps with 8 samples each, 5 fit: the first 5 of the last step; 1 of each evaluation.
    assert "7 of 22 logged samples" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"^path=null: name the folder of a run or of a sweep"):
        validate(report_of())


def test_the_path_must_hold_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds neither a run"):
        run(report_of(f"path='{tmp_path}'"))
    with pytest.raises(ConfigError, match="is not a folder"):
        run(report_of(f"path='{tmp_path}/absent'"))
