"""What a step costs: seconds, forward passes and tokens, by phase."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from torch.profiler import record_function

from igpo_lightning.diffusion.cache import PASS
from igpo_lightning.evaluation.grade import HAND_OVER
from igpo_lightning.rl.measures import Measure, Measures, join_measures, mean

# What a profile of a step shows, in the order of its lanes; "grading" is waiting for graders.
SPANS = ("rollout", PASS, "hints", HAND_OVER, "grading", "update", "logging")


class Cost:
    """Counts up from one `clear` to the next; handed to every part of a step.

    Attributes:
        seconds: Of each phase, in this process.
        work: Passes, tokens and computed tokens of each phase, and gradings made twice, in this
            process.
        measured: What else was noted.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.work: dict[str, int] = defaultdict(int)
        self.measured: Measures = {}

    def clear(self) -> None:
        """Begin a step."""
        self.seconds.clear()
        self.work.clear()
        self.measured = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase, which a profile shows."""
        start = time.perf_counter()
        try:
            with record_function(name):
                yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def count(self, phase: str, passes: int, tokens: int, computed: int) -> None:
        """Add forward passes, the tokens they were for, and those that went through the model."""
        self.add(f"passes/{phase}", passes)
        self.add(f"tokens/{phase}", tokens)
        self.add(f"compute/{phase}", computed)

    def add(self, name: str, number: int) -> None:
        """Add to a metric that sums over the step and over ranks."""
        self.work[name] += number

    def note(self, measures: Measures) -> None:
        """Add measures of a part of the step."""
        self.measured = join_measures([self.measured, measures])

    def measures(self) -> Measures:
        """Mean seconds, and the sum of the work over ranks."""
        seconds = {f"time/{name}": mean(spent, 1) for name, spent in self.seconds.items()}
        work = {name: Measure("sum", number) for name, number in self.work.items()}
        return seconds | work | self.measured
