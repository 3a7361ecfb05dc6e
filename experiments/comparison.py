"""Comparing the settings of a sweep: curves, areas under them, and differences paired by seed.

A setting is what runs share that differ in their seed alone (`reporting.sweep_settings`). The seed
decides the order of problems and all randomness of a run, so two settings are compared seed by
seed: what makes a seed easy is common to both and drops out of the difference.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from igpo_lightning.evaluation.intervals import SeedMean, seed_mean
from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.runs.metrics_file import column

EVALUATED = "eval/accuracy"
GENERATED = ("tokens/rollout",)
COMPUTED = ("compute/rollout", "compute/update")


def accuracy_curve(run: RunData) -> tuple[list[float], list[float]]:
    """Rollout steps that the policy had made, and its held-out accuracy then."""
    return column(list(run.metrics), EVALUATED)


def spent(run: RunData, names: Sequence[str]) -> list[float]:
    """What a run had spent after 0, 1, 2, ... rollout steps, by metrics that are added up."""
    total = [0.0]
    for row in run.metrics:
        if all(name in row for name in names):
            total.append(total[-1] + sum(row[name] for name in names))
    return total


def curve_over(run: RunData, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """The accuracy curve over what was spent instead of over steps."""
    steps, values = accuracy_curve(run)
    total = spent(run, names)
    return [total[int(step)] for step in steps], values


def mean_height(places: Sequence[float], values: Sequence[float]) -> float:
    """Area under straight lines between points, over the width: the mean value on the way."""
    if places[-1] == places[0]:
        return values[-1]
    return float(np.trapezoid(values, places)) / (places[-1] - places[0])


def value_at(places: Sequence[float], values: Sequence[float], place: float) -> float:
    """The value on the straight line between the points around a place; the end values beyond."""
    return float(np.interp(place, places, values))


def mean_of(run: RunData, name: str) -> float | None:
    """A metric's mean over the steps that have it."""
    _, values = column(list(run.metrics), name)
    return sum(values) / len(values) if values else None


def paired_ratio(values: Mapping[str, float], baseline: Mapping[str, float]) -> SeedMean | None:
    """Mean over common seeds of value / baseline, with its 95 % interval (paired t)."""
    return seed_mean([values[seed] / baseline[seed] for seed in values if seed in baseline])


def paired_difference(
    values: Mapping[str, float], baseline: Mapping[str, float]
) -> SeedMean | None:
    """Mean over common seeds of (value - baseline), with its 95 % interval (paired t)."""
    return seed_mean([values[seed] - baseline[seed] for seed in values if seed in baseline])
