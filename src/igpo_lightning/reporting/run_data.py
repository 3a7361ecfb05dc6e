"""Reading back run folders: what was asked, how far a run came, and what it measured."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import ListConfig, OmegaConf

from igpo_lightning.config import dotted, read_written, require_plain_files
from igpo_lightning.runs.metrics_file import METRICS_FILE, SUMMARY_FILE, read_metrics, read_summary

FAILURE_FILE = "failure.txt"  # a failed run of a sweep: the error in a line, and the traceback
PLANNED_FILE = "planned.json"  # override lists of every run that a sweep was asked for
OVERRIDES_FILE = Path(".hydra") / "overrides.yaml"  # where Hydra itself would write it
FINISHED, FAILED, UNFINISHED, MISSING = "finished", "failed", "unfinished", "missing"


@dataclass(frozen=True)
class RunData:
    """A run as its folder tells it.

    Attributes:
        name: Folder, relative to the sweep's.
        folder: Where it is; it does not exist for a missing run.
        status: finished (it has a summary) | failed (it left a traceback) | unfinished (running
            or killed) | missing (a sweep asked for it, and it never began).
        overrides: What the command line asked for, key: value.
        error: First line of a failed run's failure.txt.
        config: The resolved configuration, flat: dotted key: value; empty where there is none.
        summary: summary.json.
        metrics: Lines of metrics.csv.
    """

    name: str
    folder: Path
    status: str
    overrides: Mapping[str, str]
    error: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[dict[str, float]] = ()


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """Key: value of command-line overrides; deletions (~key) have no value."""
    pairs = (str(item).partition("=") for item in items)
    return {key.lstrip("+"): value for key, _, value in pairs}


def run_status(folder: Path) -> str:
    """How far the run of an existing folder came."""
    if (folder / SUMMARY_FILE).exists():
        return FINISHED
    return FAILED if (folder / FAILURE_FILE).exists() else UNFINISHED


def _list(file: Path) -> list[Any]:
    """The list in a file that a sweep or a run wrote; empty where nothing was written."""
    there = file.exists() and file.stat().st_size > 0
    return read_written(file, list) if there else []


def write_overrides(folder: Path, overrides: list[str] | ListConfig) -> None:
    """Keep what the command line asked for; a folder with this file is a run's.

    A value like ${seed} stays as it is: runs that differ in it alone are one setting.
    """
    asked: Any = overrides
    if isinstance(overrides, ListConfig):
        asked = OmegaConf.to_container(overrides, resolve=False)
    file = folder / OVERRIDES_FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(asked, allow_unicode=True), encoding="utf-8")


def read_run(folder: Path, name: str | None = None) -> RunData:
    """The run of a folder, with its metrics."""
    require_plain_files(folder)
    config, summary = folder / "config.yaml", folder / SUMMARY_FILE
    failure = folder / FAILURE_FILE
    status = run_status(folder)
    text = failure.read_text(encoding="utf-8", errors="replace") if status == FAILED else ""
    lines = text.strip().splitlines()
    return RunData(
        name=name or folder.name,
        folder=folder,
        status=status,
        overrides=parse_overrides(_list(folder / OVERRIDES_FILE)),
        error=lines[0] if lines else None,
        config=dotted(read_written(config)) if config.exists() else {},
        summary=read_summary(summary) if summary.exists() else {},
        metrics=read_metrics(folder / METRICS_FILE),
    )


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorting key under which 10 follows 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def run_folders(folder: Path) -> list[Path]:
    """Folders of the runs below a sweep folder; the parts of a run are not runs of the sweep."""
    found: list[Path] = []
    for file in sorted(folder.rglob(str(OVERRIDES_FILE))):
        run = file.parents[1]
        if run != folder and not any(other in run.parents for other in found):
            found.append(run)
    return found


def read_planned(folder: Path) -> list[list[str]]:
    """The override lists that a sweep was asked for; empty where nobody wrote them down."""
    return [[str(item) for item in items] for items in _list(folder / PLANNED_FILE)]


def read_sweep(folder: Path) -> list[RunData]:
    """Every run of a sweep folder, those that never began included."""
    runs = [read_run(run, str(run.relative_to(folder))) for run in run_folders(folder)]
    known = [run.overrides for run in runs]
    for items in read_planned(folder):
        overrides = parse_overrides(items)
        if overrides not in known:
            name = ",".join(sorted(items))
            runs.append(RunData(name, folder / name, MISSING, overrides))
    keys = varied_keys(runs)
    return sorted(runs, key=lambda r: [natural_order(r.overrides.get(key, "")) for key in keys])


def varied_keys(runs: Sequence[RunData]) -> list[str]:
    """Overrides whose value is not the same in all runs, in the order of the command line.

    Where a run lies (hydra.run.dir) tells no setting from another.
    """
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    keys = {key: None for key in keys if not key.startswith("hydra.")}
    return [key for key in keys if len({run.overrides.get(key) for run in runs}) > 1]
