"""The row type that every data source gives and every stage consumes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem with its reference solution.

    Attributes:
        id: Stable and unique within its source; every random choice made for the problem is
            a function of it.
        question: The text a model is asked.
        solution: The ground-truth reasoning trace (y* in the paper), or None where the source
            has none. Such a problem can be graded and rolled out, but never hinted.
        answer: The final answer alone, without a box.
        level: Difficulty level, where the source has one (1 is easiest).
        reference: What the grader checks an answer against, where that is not `answer`: a puzzle
            has many right answers (see rewards/puzzles.py).
        part: The part of a mixture that it comes from; empty outside mixtures.
    """

    id: str
    question: str
    solution: str | None
    answer: str
    level: int | None = None
    reference: str | None = None
    part: str = ""

    @property
    def gold(self) -> str:
        """What the grader gets beside a completion."""
        return self.answer if self.reference is None else self.reference
