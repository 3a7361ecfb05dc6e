"""4x4 sudoku as d1's public evaluation scores it, for comparison with numbers that were made there.

It counts cells, where our grader asks for a whole right grid (dllm-reasoning/d1, eval/ and
diffu-grpo/reward_func.py).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_PUZZLE = re.compile(r"(?<!\d)[0-4]{16}(?!\d)")
_CELLS = 16


def right_cells(puzzle: str, gold: str, text: str) -> tuple[int, int]:
    """How many empty cells of a puzzle the answer fills as the official grid does, and all of them.

    The answer is the digits of the last `<answer>`; too few are filled up, too many cut. A text
    without that tag has none right.

    Args:
        puzzle: 16 digits, 0 where a cell is empty.
        gold: The official grid; puzzles with several solutions have one all the same.
        text: The completion.
    """
    found = _ANSWER.findall(text)
    digits = "".join(c for c in found[-1] if c.isdecimal()) if found else ""
    filled = digits.ljust(_CELLS, "0")
    empty = [cell for cell, digit in enumerate(puzzle) if digit == "0"]
    return sum(filled[cell] == gold[cell] for cell in empty), len(empty)


def cell_accuracy(samples: Iterable[Mapping[str, Any]]) -> float:
    """The share of right cells among the empty ones of all puzzles of an evaluation's records."""
    right = total = 0
    for sample in samples:
        puzzle = _PUZZLE.findall(sample["question"])[-1]
        some, cells = right_cells(puzzle, sample["answer"], sample["completion"])
        right, total = right + some, total + cells
    return right / total
