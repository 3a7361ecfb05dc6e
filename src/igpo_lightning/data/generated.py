"""Puzzles for training, made on the spot; the public files of the same names are for tests."""

import random
from collections.abc import Callable

from igpo_lightning.data.countdown import countdown_problem
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.sudoku import sudoku_problem
from igpo_lightning.data.synthetic import split_of
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.puzzles import canonical_puzzle

# Draws a puzzle, given what is asked and the wording of its trace.
GENERATORS: dict[str, Callable[[random.Random, str, str], Problem]] = {
    "countdown": countdown_problem,
    "sudoku": sudoku_problem,
}
_PATIENCE = 10_000  # draws without a new puzzle after which there are no more


def generated_puzzles(
    name: str, split: str, size: int, question: str, wording: str, seed: int = 0
) -> list[Problem]:
    """`size` different puzzles of a split.

    Args:
        name: One of `GENERATORS`.
        split: "train" or "validation"; no puzzle is in both, whatever the seed, the order of its
            numbers or the names of its digits.
        question: What is asked, with the puzzle's fields in braces.
        wording: Of the traces; puzzles and ids are the same in each.

    Raises:
        ConfigError: There are not so many.
    """
    draw = random.Random(f"{name}-{split}-{seed}")
    puzzles: dict[str, Problem] = {}
    failures = 0
    while len(puzzles) < size:
        problem = GENERATORS[name](draw, question, wording)
        key = canonical_puzzle(problem.gold)
        if key not in puzzles and split_of(key) == split:
            puzzles[key] = problem
            failures = 0
            continue
        failures += 1
        if failures == _PATIENCE:
            raise ConfigError(
                f"data={name}: there are only about {len(puzzles)} different {split} puzzles; ask "
                f"for fewer than {size} (data.train_size, data.eval_size)"
            )
    return list(puzzles.values())
