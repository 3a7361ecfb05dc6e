"""4x4 sudoku with eight empty cells, made and solved on the spot, in the form of d1's test file.

    puzzle  3102200002100320
    trace   row13=4 row22=4 column23=3 row24=1 cell31=4 row34=3 row41=1 row44=4
    answer  3142243142131324

A puzzle has one solution (a quarter of the public ones have several), and forced cells alone lead
to it: the first empty cell, in reading order, that can hold one digit only is filled, then the
next. A step names the reason, the cell (row and column) and the digit. The reason is a row, column
or box in which only that cell takes the digit, or the cell, where no other digit fits it.
"""

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from igpo_lightning.data.problem import Problem
from igpo_lightning.rewards.puzzles import SUDOKU_UNITS, sudoku_reference

EMPTY_CELLS = 8  # of a puzzle that is drawn
_DIGITS = "1234"


@dataclass(frozen=True)
class ForcedCell:
    """One step: the cell (0 to 15), its digit, and the unit or the cell that leaves no choice."""

    cell: int
    digit: str
    reason: str

    @property
    def place(self) -> str:
        """Row and column, from 1."""
        return f"{self.cell // 4 + 1}{self.cell % 4 + 1}"


def candidates(grid: str, cell: int) -> set[str]:
    """The digits that no row, column or box of an empty cell holds."""
    seen = {grid[other] for _, unit in SUDOKU_UNITS if cell in unit for other in unit}
    return set(_DIGITS) - seen


def forced_cells(grid: str) -> Iterator[ForcedCell]:
    """The empty cells that can hold one digit only, in reading order, by each of their reasons."""
    fits = {cell: candidates(grid, cell) for cell in range(16) if grid[cell] == "0"}
    for cell, digits in fits.items():
        for name, unit in SUDOKU_UNITS:
            if cell not in unit:
                continue
            others = [fits[other] for other in unit if other in fits and other != cell]
            only_here = digits.difference(*others)
            if len(only_here) == 1:
                yield ForcedCell(cell, only_here.pop(), name)
        if len(digits) == 1:
            yield ForcedCell(cell, min(digits), "cell")


def solve_by_force(puzzle: str) -> list[ForcedCell] | None:
    """The steps to the full grid, or None where forced cells alone do not lead there.

    Args:
        puzzle: 16 digits row by row, 0 where a cell is empty.
    """
    steps: list[ForcedCell] = []
    grid = puzzle
    while "0" in grid:
        step = next(forced_cells(grid), None)
        if step is None:
            return None
        steps.append(step)
        grid = fill(grid, step)
    return steps


def fill(grid: str, step: ForcedCell) -> str:
    """The grid with one cell more."""
    return grid[: step.cell] + step.digit + grid[step.cell + 1 :]


def solutions(puzzle: str) -> Iterator[str]:
    """Every full grid that keeps the puzzle's digits."""
    cell = puzzle.find("0")
    if cell < 0:
        yield puzzle
        return
    for digit in sorted(candidates(puzzle, cell)):
        yield from solutions(puzzle[:cell] + digit + puzzle[cell + 1 :])


@functools.cache
def _full_grids() -> list[str]:
    """All 288."""
    return list(solutions("0" * 16))


def draw_sudoku(draw: random.Random) -> tuple[str, list[ForcedCell]]:
    """A puzzle and the steps that solve it."""
    while True:
        grid = draw.choice(_full_grids())
        empty = set(draw.sample(range(16), EMPTY_CELLS))
        puzzle = "".join("0" if cell in empty else digit for cell, digit in enumerate(grid))
        steps = solve_by_force(puzzle)
        # Steps that are forced leave no second solution.
        if steps is not None:
            return puzzle, steps


def _cells(step: ForcedCell) -> str:
    return f"{step.reason}{step.place}={step.digit}"


def _digits(step: ForcedCell) -> str:
    """The digit before its place."""
    return f"{step.reason}{step.digit}@{step.place}"


SUDOKU_WORDINGS: dict[str, Callable[[ForcedCell], str]] = {"cells": _cells, "digits": _digits}


def sudoku_problem(draw: random.Random, question: str, wording: str) -> Problem:
    """A new puzzle with its trace.

    Args:
        question: What is asked; {puzzle} is replaced.
        wording: One of `SUDOKU_WORDINGS`.
    """
    puzzle, steps = draw_sudoku(draw)
    grid = functools.reduce(fill, steps, puzzle)
    return Problem(
        id=f"sudoku-{puzzle}",
        question=question.replace("{puzzle}", puzzle),
        # The prompt's template adds the grid.
        solution=" ".join(SUDOKU_WORDINGS[wording](step) for step in steps),
        answer=grid,
        reference=sudoku_reference(puzzle),
    )
