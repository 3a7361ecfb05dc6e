"""Grading in the background: rows that are done are graded while others are still sampled."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Protocol

from torch import Tensor
from torch.profiler import record_function

from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.rewards import Verdict

HAND_OVER = "texts to graders"  # in a profile
_A_WHILE = 1.0  # seconds


class Pool(Protocol):
    """What grades: a `GradingPool`, which its owner closes."""

    @property
    def retried(self) -> int:
        """Items graded a second time because a worker failed, since the pool began."""

    def submit(self, items: Sequence[tuple[str, str]]) -> Future[list[Verdict]]:
        """Begin to grade (gold, text) pairs."""


class Grading:
    """Texts and verdicts of N rows, one for each problem, started part by part, collected once.

    `texts` makes texts of completions [n, C]. Which rows are graded together changes no verdict:
    each item has its own limits.
    """

    def __init__(
        self,
        pool: Pool,
        texts: Callable[[Tensor], list[str]],
        problems: Sequence[EncodedProblem],
    ) -> None:
        self._pool, self._texts = pool, texts
        self._golds = [encoded.problem.gold for encoded in problems]
        self._parts: list[tuple[list[int], list[str], Future[list[Verdict]]]] = []

    def start(self, rows: list[int], completion_ids: Tensor) -> None:
        """Hand rows, by their numbers among the N, with completions [n, C] to the pool."""
        with record_function(HAND_OVER):
            texts = self._texts(completion_ids)
            items = [(self._golds[row], text) for row, text in zip(rows, texts, strict=True)]
            self._parts.append((rows, texts, self._pool.submit(items)))

    def so_far(self) -> tuple[int, int]:
        """Right answers and graded ones, of what is graded already; waits for nothing."""
        done = [future.result() for *_, future in self._parts if future.done()]
        verdicts = [verdict for part in done for verdict in part]
        return sum(verdict.correct for verdict in verdicts), len(verdicts)

    def finish(self, between: Callable[[], None] = lambda: None) -> tuple[list[str], list[Verdict]]:
        """Texts and verdicts in the order of the rows; waits for what is still being graded.

        Args:
            between: Called every second of the wait; what it raises ends the wait.
        """
        for *_, future in self._parts:
            while not wait([future], timeout=_A_WHILE).done:
                between()
        graded = {
            row: (text, verdict)
            for rows, texts, future in self._parts
            for row, text, verdict in zip(rows, texts, future.result(), strict=True)
        }
        inorder = [graded[row] for row in range(len(self._golds))]
        return [text for text, _ in inorder], [verdict for _, verdict in inorder]
