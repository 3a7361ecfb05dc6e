"""Grading in the background: rows that are done are graded while others are still sampled."""

from collections.abc import Sequence
from concurrent.futures import Future

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning.evaluation.runner import decode_live
from igpo_lightning.rewards import GradingPool, Verdict


class Grading:
    """Texts and verdicts of N rows, started part by part, collected once.

    Which rows are graded together changes no verdict: each item has its own limits.
    """

    def __init__(
        self,
        pool: GradingPool,
        tokenizer: PreTrainedTokenizerFast,
        eos_token_id: int,
        golds: Sequence[str],
    ) -> None:
        """`golds` are the N right answers; nothing is started yet."""
        self._pool, self._tokenizer, self._eos = pool, tokenizer, eos_token_id
        self._golds = golds
        self._parts: list[tuple[list[int], list[str], Future[list[Verdict]]]] = []

    def start(self, rows: list[int], completion_ids: Tensor) -> None:
        """Hand rows to the pool and return at once.

        Args:
            rows: Their numbers among the N.
            completion_ids: [len(rows), C].
        """
        texts = decode_live(completion_ids, self._tokenizer, self._eos)
        items = [(self._golds[row], text) for row, text in zip(rows, texts, strict=True)]
        self._parts.append((rows, texts, self._pool.submit(items)))

    def finish(self) -> tuple[list[str], list[Verdict]]:
        """Texts and verdicts in the order of the rows; waits for what is still being graded."""
        graded = {
            row: (text, verdict)
            for rows, texts, future in self._parts
            for row, text, verdict in zip(rows, texts, future.result(), strict=True)
        }
        texts, verdicts = zip(*(graded[row] for row in range(len(self._golds))), strict=True)
        return list(texts), list(verdicts)
