"""Accuracy, avg@k and pass@k, with their intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igpo_lightning.evaluation.intervals import interval_over_problems, wilson_interval


@dataclass(frozen=True)
class Accuracy:
    """avg@k over problems, with a 95 % interval; accuracy where k = 1.

    Attributes:
        mean: Mean over problems of the share of right samples, in [0, 1].
        low: Lower end of the interval.
        high: Upper end.
        problems: Number of problems.
        samples: k, samples per problem.
        pass_at_k: k: [mean, low, high] of pass@k, for k = 1, 2, 4, ... up to `samples`; None with
            one sample per problem, where pass@1 is the accuracy.
    """

    mean: float
    low: float
    high: float
    problems: int
    samples: int
    pass_at_k: dict[int, list[float]] | None = None

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Probability that at least one of k samples of a problem is right, estimated from n samples.

    1 - C(n - c, k) / C(n, k): the share of the k-subsets of the n samples that hold a right one.
    It is unbiased, unlike 1 - (1 - c / n)^k (Chen et al., arXiv 2107.03374, Eq. 1). `samples` is n,
    `right` is c.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not (0 <= right <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {right} right among {samples} samples is not defined")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def pass_curve(verdicts: Sequence[Sequence[bool]]) -> dict[int, list[float]]:
    """k: [mean, low, high] of pass@k over problems, for k = 1, 2, 4, ... and n.

    `verdicts` has a row for each problem; n is the length of the shortest.
    """
    most = min(len(row) for row in verdicts)
    steps = sorted({2**power for power in range(most.bit_length())} | {most})
    return {
        k: list(interval_over_problems([pass_at_k(len(row), sum(row), k) for row in verdicts]))
        for k in steps
    }


def accuracy(verdicts: Sequence[Sequence[bool]]) -> Accuracy:
    """avg@k of verdicts, one row of k samples for each problem.

    With one sample per problem the interval is Wilson's. With several, the samples of a problem are
    not independent, so the interval is over problems: mean of the shares +- 1.96 standard errors.
    """
    count = len(verdicts)
    samples = len(verdicts[0]) if verdicts else 0
    shares = [sum(row) / len(row) for row in verdicts]
    mean = sum(shares) / count if count else 0.0
    if samples <= 1 or count < 2:
        low, high = wilson_interval(sum(map(sum, verdicts)), sum(map(len, verdicts)))
    else:
        mean, low, high = interval_over_problems(shares)
    curve = pass_curve(verdicts) if samples > 1 else None
    return Accuracy(mean, low, high, count, samples, curve)


def accuracy_of(samples: Iterable[Mapping[str, Any]]) -> Accuracy:
    """avg@k of the records of an evaluation (`id`, `correct`)."""
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        by_problem[sample["id"]].append(sample["correct"])
    return accuracy(list(by_problem.values()))
