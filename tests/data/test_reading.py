"""Rows of puzzles, and of tables with several solutions each."""

from typing import Any

import pytest

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.reading import Form, Reading, Row, read_problems
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.puzzles import is_solved

MATH = Form("math", "{question}", "own", drop_unanswered=False)


def read(values: dict[str, Any], reading: Reading, form: Form) -> Problem:
    (problem,), _ = read_problems([Row("row 0", 0, values)], reading, form)
    return problem


@pytest.mark.parametrize(("numbers", "target"), [([3, 8, 2], 12), ("3, 8,2", "12")])
def test_a_countdown_row(numbers: Any, target: Any) -> None:
    form = Form("countdown", "Make {target} of {numbers}.", "own", drop_unanswered=False)
    reading = Reading(columns={"numbers": "nums"})
    problem = read({"nums": numbers, "target": target}, reading, form)
    assert problem.question == "Make 12 of 3, 8, 2."
    assert (problem.id, problem.answer, problem.solution) == ("own-0", "12", None)
    assert is_solved(problem.gold, "3*8/2")
    assert not is_solved(problem.gold, "12")


def test_a_sudoku_row() -> None:
    form = Form("sudoku", "Solve {puzzle}.", "own", drop_unanswered=False)
    values = {"question": "3102200002100320", "answer": "3142243142131324"}
    problem = read(values, Reading(columns={"puzzle": "question"}), form)
    assert problem.question == "Solve 3102200002100320."
    assert is_solved(problem.gold, problem.answer)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("countdown", {"numbers": [], "target": 1}, "whole numbers"),
        ("countdown", {"numbers": [1, 2.5], "target": 1}, "whole numbers"),
        ("countdown", {"numbers": [1, -2], "target": 1}, "whole numbers"),
        ("countdown", {"numbers": "1,x", "target": 1}, "whole numbers"),
        ("countdown", {"numbers": [1], "target": "1.5"}, "whole number"),
        ("countdown", {"target": 1}, "no column 'numbers'"),
        ("sudoku", {"puzzle": "123", "answer": "1"}, "16 digits"),
        ("chess", {}, "data.kind=chess: use one of math, countdown, sudoku"),
    ],
)
def test_a_row_that_is_no_puzzle(kind: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(values, Reading(), Form(kind, "{puzzle}", "own", drop_unanswered=False))
    assert says in str(error.value)


def test_the_first_solution_that_is_marked_right() -> None:
    reading = Reading(columns={"solution": "traces"}, marks=["verified", "judged"])
    values = {"question": "?", "answer": "1", "traces": ["a", "b", "c"]}
    marked = {**values, "verified": [False, True, True], "judged": None}
    assert read(marked, reading, MATH).solution == "b"
    # The second column counts where the first calls none right.
    judged = {**values, "verified": [False, False, False], "judged": [False, False, True]}
    assert read(judged, reading, MATH).solution == "c"
    # Without a right one the row is left out, or a mistake in a file of one's own.
    none = {**values, "verified": [False, False, False], "judged": None}
    public = Form("math", "{question}", "own", drop_unanswered=True)
    rows = [Row("row 0", 0, none), Row("row 1", 1, marked)]
    problems, left_out = read_problems(rows, reading, public)
    assert ([p.solution for p in problems], left_out) == (["b"], 1)
    with pytest.raises(ConfigError, match="row 0"):
        read(none, reading, MATH)


def test_a_public_table_may_lack_answers() -> None:
    rows = [Row(f"row {i}", i, {"question": "?", "answer": a}) for i, a in enumerate((None, "", 3))]
    public = Form("math", "{question}", "own", drop_unanswered=True)
    problems, left_out = read_problems(rows, Reading(), public)
    assert ([p.id for p in problems], left_out) == (["own-2"], 2)
    with pytest.raises(ConfigError, match="row 0: answer must be text or a number"):
        read_problems(rows, Reading(), MATH)


def test_a_question_in_words_of_ones_own() -> None:
    form = Form("math", "Think: {question} ({target})", "own", drop_unanswered=False)
    problem = read({"question": "what is {numbers}?", "answer": 3}, Reading(), form)
    assert problem.question == "Think: what is {numbers}? ()"


def test_a_field_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"data\.columns\.qestion: no such field"):
        read({"question": "?", "answer": "1"}, Reading(columns={"qestion": "q"}), MATH)
