"""Numbers that combine honestly over micro-batches, updates and ranks."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Measure:
    """A number and how two of its kind become one.

    Attributes:
        kind: "mean": a sum with its weight, so that parts of unequal size average rightly; "sum";
            "max".
        value: The sum, or the largest value.
        weight: What a mean divides by.
    """

    kind: str
    value: float
    weight: float = 1.0

    def join(self, other: "Measure") -> "Measure":
        """This and another part as one."""
        if self.kind == "max":
            return Measure("max", max(self.value, other.value))
        return Measure(self.kind, self.value + other.value, self.weight + other.weight)


Measures = dict[str, Measure]


def mean(total: float, weight: float) -> Measure:
    """A mean of `weight` things that sum to `total`."""
    return Measure("mean", total, weight)


def join_measures(parts: Iterable[Measures]) -> Measures:
    """Measures of several parts as one; a name may be missing in some."""
    joined: Measures = {}
    for part in parts:
        for name, measure in part.items():
            joined[name] = joined[name].join(measure) if name in joined else measure
    return joined


def measured_values(measures: Measures) -> dict[str, float]:
    """Plain numbers; a mean over nothing (the ratio on hints where none was given) is left out."""
    return {
        name: m.value / m.weight if m.kind == "mean" else m.value
        for name, m in measures.items()
        if m.kind != "mean" or m.weight > 0
    }


def share(flags: Tensor) -> Measure:
    """The share of True among flags."""
    return mean(float(flags.sum()), flags.numel())
