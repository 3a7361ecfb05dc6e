"""One table over the runs of a Hydra multirun."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

# Hydra loads callbacks before it composes: nothing heavy may be imported up here.
from igpo_lightning.reporting.metrics_file import SUMMARY_FILE

_COLUMNS = ("before", "after", "low", "high", "all-wrong before", "all-wrong after")


def collect_runs(folder: Path) -> list[dict[str, Any]]:
    """One row for each run of a sweep folder; a run without a summary is marked as failed."""
    rows = []
    for run in sorted(folder.glob("*/.hydra/overrides.yaml")):
        items = [str(item) for item in OmegaConf.load(run)]
        overrides = dict(item.split("=", 1) for item in items if "=" in item)
        row: dict[str, Any] = {"run": run.parents[1].name, **overrides, "status": "failed"}
        summary_file = run.parents[1] / SUMMARY_FILE
        if summary_file.exists():
            summary = json.loads(summary_file.read_text())
            before, after = summary.get("before") or {}, summary.get("after") or {}
            row |= {
                "status": "finished",
                "before": before.get("mean"),
                "after": after.get("mean"),
                "low": after.get("low"),
                "high": after.get("high"),
                "all-wrong before": summary.get("group/all_wrong_before"),
                "all-wrong after": summary.get("group/all_wrong_after"),
            }
        rows.append(row)
    return sorted(rows, key=lambda row: (len(row["run"].split("_")[0]), row["run"]))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)


class SweepTable(Callback):  # type: ignore[misc]
    """Hydra callback: after the last run, print the table and write sweep.csv."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect what the runs left behind."""
        folder = Path(config.hydra.sweep.dir)
        rows = collect_runs(folder)
        if not rows:
            return
        names = list(dict.fromkeys(key for row in rows for key in row))
        names = [n for n in names if n not in _COLUMNS] + [n for n in _COLUMNS if n in names]
        with (folder / "sweep.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        _print_table(rows, [n for n in names if n != "run"], folder)


def _print_table(rows: list[dict[str, Any]], shown: list[str], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(rows)} runs", title_justify="left", title_style="bold")
    for name in shown:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in shown))
    console = Console()
    console.print(table)
    console.print(f"sweep folder: {folder}", soft_wrap=True, highlight=False)
