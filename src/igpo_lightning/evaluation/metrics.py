"""Accuracy, avg@k and their intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_Z95 = 1.959963984540054  # two-sided 95 % point of the standard normal distribution


@dataclass(frozen=True)
class Accuracy:
    """avg@k over problems, with a 95 % interval; accuracy where k = 1.

    Attributes:
        mean: Mean over problems of the share of right samples, in [0, 1].
        low: Lower end of the interval.
        high: Upper end.
        problems: Number of problems.
        samples: k, samples a problem.
    """

    mean: float
    low: float
    high: float
    problems: int
    samples: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, 1927); (0, 1) without any trial."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, _Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy(verdicts: Sequence[Sequence[bool]]) -> Accuracy:
    """avg@k of verdicts, one row of k samples for each problem.

    With one sample a problem the interval is Wilson's. With several, the samples of a problem are
    not independent, so the interval is over problems: mean of the shares +- 1.96 standard errors.
    """
    count = len(verdicts)
    samples = len(verdicts[0]) if verdicts else 0
    shares = [sum(row) / len(row) for row in verdicts]
    mean = sum(shares) / count if count else 0.0
    if samples <= 1 or count < 2:
        low, high = wilson_interval(sum(map(sum, verdicts)), sum(map(len, verdicts)))
    else:
        variance = sum((share - mean) ** 2 for share in shares) / (count - 1)
        half = _Z95 * math.sqrt(variance / count)
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Accuracy(mean, low, high, count, samples)


def accuracy_of(samples: Iterable[Mapping[str, Any]]) -> Accuracy:
    """avg@k of the records of an evaluation (`id`, `correct`)."""
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        by_problem[sample["id"]].append(sample["correct"])
    return accuracy(list(by_problem.values()))
