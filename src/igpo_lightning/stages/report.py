"""stage=report: one HTML file about a run or a sweep, or its results added to the scoreboard."""

from pathlib import Path
from typing import Any

from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.html import write_report
from igpo_lightning.reporting.run_data import read_run, read_sweep, run_folders
from igpo_lightning.reporting.scoreboard import write_scoreboard
from igpo_lightning.reporting.sweep_settings import settings_of
from igpo_lightning.settings import ReportStage, Settings


def run(config: Settings) -> dict[str, Any]:
    """Write report.html into the folder that `path` names, or the scoreboard; returns its place.

    Raises:
        ConfigError: `path` is not the folder of a run or of a sweep.
    """
    stage = config.stage
    assert isinstance(stage, ReportStage)
    assert config.path is not None
    folder = Path(config.path)
    if stage.scoreboard is not None:
        return _add(folder, Path(stage.scoreboard))
    marks = (".hydra", "config.yaml", "summary.json", "metrics.csv")
    if not folder.is_dir():
        raise ConfigError(f"path={folder} is not a folder; name a run or a sweep below runs/")
    if not any((folder / mark).exists() for mark in marks) and not run_folders(folder):
        raise ConfigError(
            f"path={folder} holds neither a run (config.yaml, metrics.csv) nor runs in sub-folders"
        )
    file = write_report(folder, stage.samples)
    print(f"report: {file}")
    return {"report": str(file)}


def _add(folder: Path, page: Path) -> dict[str, Any]:
    """Add the finished runs of a folder to a scoreboard; its own entries' folder adds none.

    Raises:
        ConfigError: The folder holds no finished run with an accuracy.
    """
    runs = [read_run(folder)] if (folder / "config.yaml").exists() else read_sweep(folder)
    count = write_scoreboard(page, folder.resolve().name, settings_of(runs))
    if count == 0 and folder.resolve() != page.with_suffix("").resolve():
        raise ConfigError(
            f"path={folder} holds no finished run with an accuracy to add; name a run or a sweep, "
            f"or {page.with_suffix('')} to write the page again from its entries"
        )
    print(f"scoreboard: {page}, {count} results added")
    return {"scoreboard": str(page), "added": count}
