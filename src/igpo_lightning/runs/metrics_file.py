"""The names of a run's files, and reading back what Lightning's CSVLogger wrote."""

import csv
from pathlib import Path

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
MEASURED_FILE = "measured.yaml"  # of a suite's part: what its result follows from


def _number(text: str) -> float:
    """A cell's value; whole numbers stay whole, so that they are written again as they were."""
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.csv, without their empty cells; empty for a missing file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: _number(value) for key, value in row.items() if value} for row in rows]


def column(rows: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of the lines that have a metric."""
    found = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in found], [value for _, value in found]
