"""The kinds of accuracy of an RL run, as tables of one or more runs tell them apart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from igpo_lightning.evaluation.intervals import SeedMean
from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.runs.metrics_file import column

NOT_MEASURED = "not measured"
WINDOW = 5  # rollout steps at either end of a run that are averaged
WHEN = ("before", "after")
# What is counted in the rollouts, and its metrics as sampled and after injection.
COUNTED = {
    "right samples": ("reward/accuracy_before", "reward/accuracy"),
    "all-wrong groups": ("group/all_wrong_before", "group/all_wrong_after"),
}


def percent(value: float | None) -> str:
    """A share for people."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def mean_text(result: SeedMean | None) -> str:
    """A share's mean over seeds, and with several of them half of its 95 % interval."""
    if result is None or result.half is None:
        return percent(None if result is None else result.mean)
    return f"{percent(result.mean)} ± {100 * result.half:.1f}"


def accuracy_text(entry: Mapping[str, Any] | None) -> str:
    """An accuracy of summary.json with its interval over problems."""
    return str(Accuracy(**entry)) if entry else NOT_MEASURED


def drawn_how(temperature: float) -> str:
    """How completions are drawn."""
    return "greedy" if temperature == 0 else f"sampled at temperature {temperature:g}"


def evaluated_label(summary: Mapping[str, Any], total: int | None = None) -> str:
    """What the accuracies of summary.json are of.

    Args:
        total: Problems of the split, where more than were asked.
    """
    entry = summary["after"] or summary["before"]
    if entry is None:
        return "accuracy"
    count = entry["problems"]
    part = f"{count} of {total}" if total is not None and total != count else f"{count}"
    name = "accuracy" if entry["samples"] == 1 else f"avg@{entry['samples']}"
    problems = summary["evaluated_on"]
    if part == "1":
        problems = problems.replace("problems", "problem")
    return f"{name} on {part} {problems}"


def evaluated_on(runs: Iterable[RunData]) -> str:
    """On which problems accuracy is measured; runs that have not ended do not say."""
    told = {str(run.summary["evaluated_on"]) for run in runs if "evaluated_on" in run.summary}
    return told.pop() if len(told) == 1 else "evaluation problems"


def window_means(rows: Sequence[dict[str, float]], name: str) -> tuple[float, float] | None:
    """A metric's mean over the first and the last `WINDOW` rollout steps; None without any."""
    values = column(rows, name)[1]
    if not values:
        return None
    first, last = values[:WINDOW], values[-WINDOW:]
    return sum(first) / len(first), sum(last) / len(last)
