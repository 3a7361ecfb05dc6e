"""The JSON files of a run folder."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from igpo_lightning.distributed import rank
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.runs import durable, json_lines
from igpo_lightning.runs.metrics_file import METRICS_FILE, SUMMARY_FILE, column, read_metrics


class SampleFile:
    """JSON lines of samples, written by the first rank."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, records: Iterable[dict[str, Any]]) -> None:
        """Add the samples of a training step."""
        if rank() == 0:
            with self.path.open("ab") as file:
                file.write(json_lines.encode(records))

    def write(self, records: Iterable[dict[str, Any]]) -> None:
        """Write all samples of an evaluation, or none."""
        if rank() == 0:
            durable.write_bytes(self.path, json_lines.encode(records))

    def read(self) -> list[dict[str, Any]]:
        """All samples; none where there is no file.

        Raises:
            ConfigError: A line is not a record.
        """
        records = []
        for number, (_, record) in enumerate(json_lines.read(self.path), 1):
            if record is None:
                raise ConfigError(
                    f"{self.path}, line {number}: not a JSON object; the file is damaged. Put it "
                    "back as it was, or remove it to continue without it"
                )
            records.append(record)
        return records


def _mean(rows: list[dict[str, float]], name: str) -> float | None:
    values = column(rows, name)[1]
    return sum(values) / len(values) if values else None


def accuracy_entry(accuracy: Accuracy | None) -> dict[str, Any] | None:
    """An accuracy as summary.json holds it; pass@k stands there with several samples alone."""
    if accuracy is None:
        return None
    entry = asdict(accuracy)
    return entry if accuracy.pass_at_k else {k: v for k, v in entry.items() if k != "pass_at_k"}


def write_summary(
    folder: Path,
    before: Accuracy | None,
    after: Accuracy | None,
    evaluated_on: str | None = None,
    other_scores: Mapping[str, float] | None = None,
    sampled: tuple[Accuracy | None, Accuracy | None] | None = None,
) -> dict[str, Any]:
    """Write summary.json from the evaluations and metrics.csv, and return it.

    Args:
        after: Accuracy after it, or of the evaluation.
        evaluated_on: What its problems are, in words; None where there was no evaluation.
        other_scores: What other rules say of the same samples, by name (harness/, d1/).
        sampled: Accuracy before and after training at the rollouts' temperature; None where it was
            not asked for.
    """
    rows = read_metrics(folder / METRICS_FILE)
    summary: dict[str, Any] = {"before": accuracy_entry(before), "after": accuracy_entry(after)}
    if sampled is not None:
        entries = [accuracy_entry(accuracy) for accuracy in sampled]
        summary |= {"before_sampled": entries[0], "after_sampled": entries[1]}
    if evaluated_on is not None:
        summary["evaluated_on"] = evaluated_on
    means = ("group/all_wrong_before", "group/all_wrong_after", "hint/correct_share")
    summary |= {name: value for name in means if (value := _mean(rows, name)) is not None}
    for name in ("time/rollout", "time/grading", "time/update"):
        values = column(rows, name)[1]
        if values:
            summary[name] = sum(values)
    validation = column(rows, "sft/val_loss")[1]
    if validation:
        summary["sft/val_loss"] = validation[-1]
    summary |= other_scores or {}
    durable.write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    return summary
