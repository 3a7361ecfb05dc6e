"""95 % intervals: of a proportion, of a mean over problems, of a mean over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Z95 = 1.959963984540054  # two-sided 95 % point of the standard normal distribution
# Two-sided 95 % points of Student's t with 1, 2, ... degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def wilson_interval(right: float, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, 1927); (0, 1) without any trial."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # Rounding must not push an end past the share, as it would at 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def interval_over_problems(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and mean +- 1.96 standard errors within [0, 1], of one value for each problem.

    One problem alone tells nothing about others: its interval is (0, 1). Where all values are the
    same, as when no problem was solved, the standard error would be 0: Wilson's interval instead.
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0, 1.0
    if min(values) == max(values):
        return mean, *wilson_interval(sum(values), len(values))
    half = Z95 * stdev(values) / math.sqrt(len(values))
    return mean, max(0.0, mean - half), min(1.0, mean + half)


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
    mean = fmean(values)
    if count == 1:
        return SeedMean(mean, None, 1)
    quantile = _T95[count - 2] if count - 2 < len(_T95) else Z95
    return SeedMean(mean, quantile * stdev(values) / math.sqrt(count), count)
