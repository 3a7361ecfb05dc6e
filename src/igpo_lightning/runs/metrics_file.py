"""The names of a run's files, and reading back what Lightning's CSVLogger wrote."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igpo_lightning.errors import ConfigError

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
MEASURED_FILE = "measured.yaml"  # of a suite's part: what its result follows from


def _number(text: str) -> float:
    """A cell's value; whole numbers stay whole, so that they are written again as they were."""
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.csv, without their empty cells; empty for a missing file.

    Raises:
        ConfigError: It holds something else.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        lines = [{key: _number(value) for key, value in row.items() if value} for row in rows]
        if any("step" not in line for line in lines):
            raise ValueError("a line without a step")
    except (csv.Error, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not as a run wrote it: {error}; {_BACK}") from error
    return lines


_BACK = "put it back as it was, or remove it to go on without it"


def read_summary(path: Path) -> dict[str, Any]:
    """The headline numbers of a finished run, summary.json.

    Raises:
        ConfigError: It holds something else.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(summary, dict):
            raise ValueError(f"it holds a {type(summary).__name__}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not as a run wrote it: {error}; {_BACK}") from error
    return summary


def column(rows: Sequence[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of the lines that have a metric."""
    found = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in found], [value for _, value in found]
