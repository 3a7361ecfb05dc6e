"""stage=report: one HTML file about a finished, running or failed run, or about a sweep."""

from pathlib import Path
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.html import write_report
from igpo_lightning.reporting.run_data import run_folders
from igpo_lightning.settings import ReportStage, Settings


def run(config: Settings) -> dict[str, Any]:
    """Write report.html into the folder that `path` names; returns its place.

    Raises:
        ConfigError: `path` is not the folder of a run or of a sweep.
    """
    stage = config.stage
    assert isinstance(stage, ReportStage)
    assert config.path is not None
    folder = Path(config.path)
    marks = (".hydra", "config.yaml", "summary.json", "metrics.csv")
    if not folder.is_dir():
        raise ConfigError(f"path={folder} is no folder; name a run or a sweep below runs/")
    if not any((folder / mark).exists() for mark in marks) and not run_folders(folder):
        raise ConfigError(
            f"path={folder} holds neither a run (config.yaml, metrics.csv) nor runs in sub-folders"
        )
    file = write_report(folder, stage.samples)
    print(f"report: {file}")
    return {"report": str(file)}
