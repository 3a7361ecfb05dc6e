r"""Puzzles with many right answers: countdown and 4x4 sudoku, checked rather than compared.

What is checked against is a *reference*, a text like a gold answer: `countdown: 3,7,2 -> 20` or
`sudoku: 3102200002100320`. `is_solved` tells the kinds apart, so that one grading pool serves
mixtures of puzzles and ordinary problems. Expressions are walked as a syntax tree, never run.
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from igpo_lightning.rewards.grading import is_equivalent

_COUNTDOWN = re.compile(r"countdown: (?P<numbers>\d+(?:,\d+)*) -> (?P<target>-?\d+)")
_SUDOKU = re.compile(r"sudoku: (?P<puzzle>[0-4]{16})")
# Longer texts are no solution of a puzzle with a handful of numbers, and parsing them costs time.
_LONGEST = 500
_SYMBOLS = {
    "\\times": "*", "\\cdot": "*", "\\div": "/", "\\left": "", "\\right": "", "\\,": "", "\\!": "",
    "\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "$": "", "\\(": "", "\\)": "",
    "[": "(", "]": ")",
}  # fmt: skip
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
# What holds each digit once: its name and its cells, counted row by row.
SUDOKU_UNITS: list[tuple[str, tuple[int, ...]]] = (
    [("row", tuple(range(4 * i, 4 * i + 4))) for i in range(4)]
    + [("column", tuple(range(i, 16, 4))) for i in range(4)]
    + [("box", (a, a + 1, a + 4, a + 5)) for a in (0, 2, 8, 10)]
)


def countdown_reference(numbers: Sequence[int], target: int) -> str:
    """The reference of a countdown puzzle; at least one number, none below 0."""
    return f"countdown: {','.join(map(str, numbers))} -> {target}"


def sudoku_reference(puzzle: str) -> str:
    """The reference of a 4x4 sudoku, 16 digits row by row, 0 where a cell is empty.

    Raises:
        ValueError: The text is no such puzzle.
    """
    if re.fullmatch(r"[0-4]{16}", puzzle) is None:
        raise ValueError(f"{puzzle!r}: give 16 digits from 0 to 4, 0 where a cell is empty")
    return f"sudoku: {puzzle}"


def canonical_puzzle(reference: str) -> str:
    """A text that two references share if they are the same puzzle in another order or other names.

    The numbers of a countdown puzzle are sorted; the digits of a sudoku are renamed in the order of
    their first appearance.

    Raises:
        ValueError: The text is no puzzle's reference.
    """
    countdown = _COUNTDOWN.fullmatch(reference)
    if countdown is not None:
        numbers = sorted(int(number) for number in countdown["numbers"].split(","))
        return countdown_reference(numbers, int(countdown["target"]))
    sudoku = _SUDOKU.fullmatch(reference)
    if sudoku is None:
        raise ValueError(f"{reference!r}: no reference of a countdown puzzle or a sudoku")
    shown = dict.fromkeys(digit for digit in sudoku["puzzle"] if digit != "0")
    names = {digit: str(place) for place, digit in enumerate(shown, start=1)}
    return sudoku_reference("".join(names.get(digit, "0") for digit in sudoku["puzzle"]))


def is_solved(reference: str, answer: str) -> bool:
    """Whether an answer solves a puzzle, or, where the reference is none, equals the gold answer.

    Never raises. Importable by name, as `GradingPool(grader=is_solved)` needs.
    """
    solved = puzzle_solved(reference, answer)
    return is_equivalent(reference, answer) if solved is None else solved


def puzzle_solved(reference: str, answer: str) -> bool | None:
    """Whether an answer solves the puzzle of a reference; None for a text that is none."""
    countdown = _COUNTDOWN.fullmatch(reference)
    if countdown is not None:
        numbers = [int(number) for number in countdown["numbers"].split(",")]
        return solves_countdown(numbers, int(countdown["target"]), answer)
    sudoku = _SUDOKU.fullmatch(reference)
    if sudoku is not None:
        return solves_sudoku(sudoku["puzzle"], answer)
    return None


def solves_countdown(numbers: Sequence[int], target: int, answer: str) -> bool:
    """Whether an expression uses each number exactly once and has the target's value.

    The expression may hold +, -, *, / and parentheses, also as LaTeX writes them, and may be
    followed by `= target`. Values are exact fractions: 1/3*3 is 1.
    """
    expression, equals, claim = _plain(answer).partition("=")
    if len(answer) > _LONGEST or (equals and claim.strip() != str(target)):
        return False
    used: list[int] = []
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return False
    return value == target and Counter(used) == Counter(numbers)


def solves_sudoku(puzzle: str, answer: str) -> bool:
    """Whether an answer's 16 digits keep the puzzle's and fill rows, columns and boxes with 1-4.

    Spaces, line breaks, bars, commas and brackets between the digits do not matter.
    """
    if len(answer) > _LONGEST or re.fullmatch(r"[1-4\s|,;&\\\-+\[\]()$]*", answer) is None:
        return False
    cells = re.sub(r"[^1-4]", "", answer)
    if len(cells) != 16 or any(p not in ("0", c) for p, c in zip(puzzle, cells, strict=True)):
        return False
    return all({cells[i] for i in unit} == set("1234") for _, unit in SUDOKU_UNITS)


def _plain(answer: str) -> str:
    """An expression in Python's signs."""
    for symbol, sign in _SYMBOLS.items():
        answer = answer.replace(symbol, sign)
    while True:  # inner fractions first; every round removes at least one
        shorter = _FRACTION.sub(r"((\1)/(\2))", answer)
        if shorter == answer or len(shorter) > 2 * _LONGEST:
            return answer
        answer = shorter


def _value(node: ast.expr, used: list[int]) -> Fraction:
    """The value of a tree of numbers and the four operations; notes the numbers in `used`.

    Raises:
        ValueError: The tree holds anything else.
        ZeroDivisionError: It divides by zero.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, used)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, used), _value(node.right, used)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError(f"{type(node).__name__} is no part of a countdown expression")
