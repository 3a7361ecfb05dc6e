"""Puzzles: every right answer is right, and no text of a model is ever run."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rewards import GradingPool
from igpo_lightning.rewards.puzzles import (
    canonical_puzzle,
    countdown_reference,
    is_solved,
    solves_countdown,
    solves_sudoku,
    sudoku_reference,
)
from igpo_lightning.rewards.released import same_string

GRID = "3142243142131324"
PUZZLE = "3102200002100320"


@pytest.mark.parametrize(
    ("numbers", "target", "answer"),
    [
        ([30, 100, 93], 23, "93-(100-30)"),
        ([30, 100, 93], 23, "93 - 100 + 30 = 23"),
        ([3, 8, 3, 8], 24, "8/(3-8/3)"),  # exact fractions: floats give 23.999999999999989
        ([1, 2, 3], 6, r"1 \times 2 \cdot 3"),
        ([6, 3, 2], 4, r"\frac{6}{3} + 2"),
        ([6, 3, 2], 1, r"\frac{6}{\left(3 \times 2\right)}"),
        ([1, 2, 4], 2, r"\dfrac{\frac{4}{2}}{1}"),
        ([2, 3], 6, "$2 × 3$"),  # noqa: RUF001
        ([2, 8], 4, "8 ÷ 2"),
        ([5, 3], -2, "3 - 5"),
        ([5, 3], 2, "-3 + 5"),
        ([7, 7], 14, "7 + 7"),
    ],
)
def test_countdown_right(numbers: list[int], target: int, answer: str) -> None:
    assert solves_countdown(numbers, target, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "23",
        "93-100",  # a number is left out
        "93-(100-30)+30-30",  # one is used three times
        "93-100+30.0",
        "93-(100-30) = 24",
        "93-(100-30) = 23 = 23",
        "100-93+30",  # 37
        "93-(100-30",
        "93-(100-30)/0",
        "93**1-100+30",
        "93//1-100+30",
        "93-100+30 if 1 else 0",
        "abs(93-100+30)",
        "__import__('os').getpid()",
        "(lambda: 23)()",
        "[93-100+30]*1",
        "True*93-100+30",
        "9 3-100+30",
        "0b1011101-100+30 and 23",
        "93-100+30, 23",
        "9" * 10_000,
        "(" * 400,
        "-" * 499 + "1",
        "\x00",
    ],
)
def test_countdown_wrong(answer: str) -> None:
    assert not solves_countdown([30, 100, 93], 23, answer)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_an_expression_solves_its_own_puzzle(numbers: list[int], random: object) -> None:
    """A random tree over the numbers, valued by hand in Fractions, is its puzzle's solution."""
    parts = [(str(n), Fraction(n)) for n in numbers]
    while len(parts) > 1:
        (a, x), (b, y) = (parts.pop(random.randrange(len(parts))) for _ in range(2))  # type: ignore[attr-defined]
        sign = random.choice("+-*" if y == 0 else "+-*/")  # type: ignore[attr-defined]
        value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else x}[sign]
        parts.append((f"({a}{sign}{b})", value))
    text, value = parts[0]
    target = value.numerator
    assert solves_countdown(numbers, target, text) == (value.denominator == 1)
    assert not solves_countdown(numbers, target + 1, text)
    assert not solves_countdown([*numbers, 5], target, text)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_graded(text: str) -> None:
    assert not solves_sudoku(PUZZLE, text)
    assert solves_countdown([3, 4], 7, text) in (True, False)


@pytest.mark.parametrize(
    "answer",
    [
        GRID,
        "3142 2431\n4213 1324",
        "3 1 4 2\n2 4 3 1\n4 2 1 3\n1 3 2 4",
        "31|42\n24|31\n---\n4213\n1324",
    ],
)
def test_sudoku_right(answer: str) -> None:
    assert solves_sudoku(PUZZLE, answer)


@pytest.mark.parametrize(
    "answer",
    [
        GRID[:-1],
        GRID + "1",
        PUZZLE,
        "1342243142131324",  # a given digit is changed
        "3142243142134321",  # a column holds 4 twice
        "the grid is " + GRID,
        "",
    ],
)
def test_sudoku_wrong(answer: str) -> None:
    assert not solves_sudoku(PUZZLE, answer)


def test_a_comment_is_passed_over() -> None:
    assert solves_countdown([30, 100, 93], 23, "93-100+30 # = 23")


def test_a_latin_square_without_its_boxes_is_wrong() -> None:
    # Rows and columns hold 1-4, but the first box is 1 2 / 2 3.
    assert not solves_sudoku("0" * 16, "1234234134124123")
    # Any solution of an empty grid is right: this one is not the first grid's.
    assert solves_sudoku("0" * 16, "1234341221434321")


def test_references_tell_the_kinds_apart() -> None:
    assert is_solved(countdown_reference([3, 4], 7), "4+3")
    assert not is_solved(countdown_reference([3, 4], 7), "7")
    assert is_solved(sudoku_reference(PUZZLE), GRID)
    assert is_solved("\\frac{1}{2}", "0.5")
    assert not is_solved("\\frac{1}{2}", "2")


@pytest.mark.parametrize("puzzle", ["", "310220000210032", "5102200002100320"])
def test_a_reference_of_no_puzzle(puzzle: str) -> None:
    with pytest.raises(ValueError, match="16 digits"):
        sudoku_reference(puzzle)


def test_the_order_of_numbers_and_the_names_of_digits_make_no_other_puzzle() -> None:
    assert canonical_puzzle(countdown_reference([3, 7, 2], 20)) == canonical_puzzle(
        countdown_reference([2, 3, 7], 20)
    )
    assert canonical_puzzle(countdown_reference([3, 7, 2], 20)) != canonical_puzzle(
        countdown_reference([3, 7, 2], 21)
    )
    assert canonical_puzzle(sudoku_reference("3102200002100320")) == sudoku_reference(
        "1203300003200130"
    )
    with pytest.raises(ValueError, match="no reference"):
        canonical_puzzle("42")


def test_puzzles_and_problems_share_a_pool() -> None:
    countdown = countdown_reference([30, 100, 93], 23)
    items = [
        (countdown, "<answer>\\boxed{93 - (100 - 30)}</answer>"),
        (countdown, "<answer>23</answer>"),
        (countdown, "I give up."),
        (sudoku_reference(PUZZLE), f"<answer>\n{GRID[:8]}\n{GRID[8:]}\n</answer>"),
        (sudoku_reference(PUZZLE), f"So it is {PUZZLE}"),
        ("\\frac{3}{4}", "The answer is 0.75."),
    ]
    with GradingPool(workers=1, grader=is_solved) as pool:
        verdicts = pool.grade(items)
    assert [v.correct for v in verdicts] == [True, False, False, True, False, True]
    assert verdicts[2].reason == "no_answer"


@pytest.mark.shared
def test_the_official_grids_solve_their_puzzles(shared_data: Path) -> None:
    lines = (shared_data / "sudoku.test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(solves_sudoku(row["question"], row["answer"]) for row in rows)
    assert not any(solves_sudoku(row["question"], row["question"]) for row in rows)


def test_a_puzzle_is_checked_where_answers_are_compared_as_strings() -> None:
    """experiment=igpo_released on a puzzle: no answer is spelled like a reference."""
    countdown = countdown_reference([3, 7, 2], 20)
    assert same_string(countdown, "2*(3+7)")
    assert not same_string(countdown, "3+7+2")
    assert same_string(sudoku_reference(PUZZLE), GRID)
    assert same_string("20", "20")
    assert not same_string("20", "20.0"), "other answers are still one spelling"
