"""Means over seeds, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 % points of Student's t with 1, 2, ... degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_Z95 = 1.960


@dataclass(frozen=True)
class SeedMean:
    """Mean over runs that differ in their seed alone.

    Attributes:
        mean: Of the runs.
        half: Half the width of the 95 % interval (Student's t); None for a single run.
        count: Runs.
    """

    mean: float
    half: float | None
    count: int


def seed_mean(values: Sequence[float]) -> SeedMean | None:
    """The mean with its interval; None without any value."""
    count = len(values)
    if count == 0:
        return None
    mean = sum(values) / count
    if count == 1:
        return SeedMean(mean, None, 1)
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = _T95[count - 2] if count - 2 < len(_T95) else _Z95
    return SeedMean(mean, quantile * math.sqrt(variance / count), count)
