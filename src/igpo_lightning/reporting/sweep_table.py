"""The table over the runs of a sweep: as a file, and for the terminal."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.reporting.run_data import FINISHED, RunData, varied_keys

SWEEP_FILE = "sweep.csv"


def sweep_row(run: RunData) -> dict[str, Any]:
    """A run's line of sweep.csv; what it did not measure is None."""
    before, after = run.summary.get("before") or {}, run.summary.get("after") or {}
    return {
        "run": run.name,
        **run.overrides,
        "status": run.status,
        "error": run.error,
        "before": before.get("mean"),
        "after": after.get("mean"),
        "low": after.get("low"),
        "high": after.get("high"),
        "all-wrong before": run.summary.get("group/all_wrong_before"),
        "all-wrong after": run.summary.get("group/all_wrong_after"),
        "validation loss": run.summary.get("sft/val_loss"),
        **suite_results(run),
    }


def suite_results(run: RunData) -> dict[str, float]:
    """Accuracies of an evaluation suite: BENCHMARK_LENGTH, and the mean of the paper's four."""
    prefix = "suite/"
    found = {k[len(prefix) :]: v for k, v in run.summary.items() if k.startswith(prefix)}
    return {name: float(value) for name, value in found.items()}


def _measured(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """The columns that some row has a value for."""
    return [name for name in names if any(row.get(name) is not None for row in rows)]


def write_sweep_table(folder: Path, runs: Sequence[RunData]) -> None:
    """Write sweep.csv: a line for each run, whatever became of it."""
    rows = [sweep_row(run) for run in runs]
    overrides = list(dict.fromkeys(key for run in runs for key in run.overrides))
    empty = [key for key in sweep_row(RunData("", folder, "", {})) if key != "run"]
    results = list(dict.fromkeys([*empty, *(key for run in runs for key in suite_results(run))]))
    names = ["run", *overrides, *_measured(rows, results)]
    with (folder / SWEEP_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def sweep_table(runs: Sequence[RunData]) -> Table:
    """The table for the terminal, without what is the same in all runs."""
    keys = varied_keys(runs)
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    title = f"{len(runs)} runs: {told}"
    table = Table(title=title, title_justify="left", title_style="bold")
    rows = [_cells(run) for run in runs]
    measured = _measured(rows, list(dict.fromkeys(name for row in rows for name in row)))
    for name in [*keys, *measured]:
        table.add_column(name)
    for run, row in zip(runs, rows, strict=True):
        cells = [run.overrides.get(key, "") for key in keys] + [
            row.get(name) or "" for name in measured
        ]
        table.add_row(*cells, style=None if run.status == FINISHED else "red")
    return table


def _cells(run: RunData) -> dict[str, str | None]:
    """A run's results as text; None for what it did not measure."""
    shares = {when: run.summary.get(f"group/all_wrong_{when}") for when in ("before", "after")}
    loss = run.summary.get("sft/val_loss")
    return {
        "status": run.status,
        **{
            when: str(Accuracy(**entry)) if (entry := run.summary.get(when)) else None
            for when in ("before", "after")
        },
        **{
            f"all-wrong {when}": None if share is None else f"{100 * share:.1f} %"
            for when, share in shares.items()
        },
        "validation loss": None if loss is None else f"{loss:.4f}",
        **{name: f"{100 * value:.1f} %" for name, value in suite_results(run).items()},
    }
