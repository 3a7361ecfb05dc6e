"""Verifiable rewards over text: find the answer, compare it, grade many in bounded time.

Nothing here knows of tensors: worker processes import this package and must start fast.
"""

from igpo_lightning.rewards.answer_span import find_answer_span
from igpo_lightning.rewards.extraction import extract_answer
from igpo_lightning.rewards.grading import is_equivalent
from igpo_lightning.rewards.worker_pool import GradingPool, Verdict

__all__ = ["GradingPool", "Verdict", "extract_answer", "find_answer_span", "is_equivalent"]
