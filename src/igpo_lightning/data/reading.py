"""From raw rows to problems: which columns, which rows, and where the answer stands."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.extraction import STRATEGIES, extract_answer
from igpo_lightning.rewards.normalization import strip_choice
from igpo_lightning.rewards.puzzles import countdown_reference, sudoku_reference
from igpo_lightning.settings.data import KINDS, Reading

FIELDS = ("id", "question", "solution", "answer", "level", "numbers", "target", "puzzle")
# Characters of a puzzle's numbers; Python reads no longer integer than 4300.
_LONGEST_NUMBERS = 1000
_OPTIONAL = ("id", "solution", "level")
_LEVEL = re.compile(r"(?:Level )?(\d{1,9})")


def _box(text: str) -> str | None:
    r"""The last box's value: `\boxed{\textbf{(D)}\ 25}` says 25."""
    content = STRATEGIES["box"](text)
    return None if content is None else strip_choice(content)[1]


_ANSWERS: dict[str, Callable[[str], str | None]] = {
    "box": _box,
    "hash": STRATEGIES["hash"],
    "the_answer_is": STRATEGIES["stated"],
    "any": extract_answer,
}


def columns_read(reading: Reading) -> tuple[set[str], set[str]]:
    """Names of the columns that are looked at, and those among them that have to be there."""
    named = {*reading.columns.values(), *reading.keep, *reading.marks}
    if reading.unique_by is not None:
        named.add(reading.unique_by)
    return named | {reading.columns.get(name, name) for name in FIELDS}, named


@dataclass(frozen=True)
class Form:
    """What the rows of a source are, whatever their columns are called.

    Attributes:
        kind: "math": an answer to compare; "countdown": numbers and target; "sudoku": a puzzle.
        question: What is asked; {question}, {numbers}, {target} and {puzzle} are replaced.
        id_prefix: Begins the ids of rows without one; the row's index ends them, so that a filter
            does not rename what is left.
        drop_unanswered: Leave out rows without an answer or a solution marked right (a public
            table, which nobody here can mend), instead of calling that a mistake.
    """

    kind: str
    question: str
    id_prefix: str
    drop_unanswered: bool


@dataclass(frozen=True)
class Row:
    """One row as a file or a table holds it.

    Attributes:
        place: Where it stands, for messages.
        index: Its number in the file or table, from 0.
        values: Column: value.
    """

    place: str
    index: int
    values: dict[str, Any]


def read_problems(rows: Iterable[Row], reading: Reading, form: Form) -> tuple[list[Problem], int]:
    """Problems of the rows that are kept, in order, and how many were left out as unanswered.

    Raises:
        ConfigError: A setting or a row is wrong.
    """
    _check(reading, form)
    problems: list[Problem] = []
    places: dict[str, str] = {}
    seen: set[Any] = set()
    unanswered = 0
    for row in rows:
        if any(_value(row, column) not in values for column, values in reading.keep.items()):
            continue
        if reading.unique_by is not None:
            identity = _value(row, reading.unique_by)
            if not isinstance(identity, str | int | float | None):
                raise ConfigError(
                    f"{row.place}: data.unique_by={reading.unique_by}: the column holds "
                    f"{type(identity).__name__}, not text or a number; name another column"
                )
            if identity in seen:
                continue
            seen.add(identity)
        problem = _problem(row, reading, form)
        if problem is None:
            if not form.drop_unanswered:
                raise ConfigError(f"{row.place}: {_missing(reading)}")
            unanswered += 1
            continue
        if problem.id in places:
            raise ConfigError(
                f"{row.place}: id {problem.id!r} is already that of {places[problem.id]}; "
                "ids must be unique"
            )
        places[problem.id] = row.place
        problems.append(problem)
    return problems, unanswered


def _check(reading: Reading, form: Form) -> None:
    if not isinstance(reading.unique_by, str | None):
        raise ConfigError(
            f"data.unique_by={reading.unique_by}: give the name of one column, or null"
        )
    if form.kind not in KINDS:
        raise ConfigError(f"data.kind={form.kind}: use one of {', '.join(KINDS)}")
    if reading.answer_from != "column" and reading.answer_from not in _ANSWERS:
        allowed = ", ".join(("column", *_ANSWERS))
        raise ConfigError(f"data.answer_from={reading.answer_from}: use one of {allowed}")
    unknown = set(reading.columns) - set(FIELDS)
    if unknown:
        raise ConfigError(
            f"data.columns.{min(unknown)}: no such field; use {', '.join(FIELDS)}, each with the "
            "name of its column"
        )


def _missing(reading: Reading) -> str:
    if reading.answer_from == "column":
        return f"no solution is called right by data.marks={reading.marks}; mend or drop the row"
    return (
        f"no final answer in the solution, with data.answer_from={reading.answer_from}; mend the "
        "row or name another place"
    )


def _value(row: Row, column: str) -> Any:
    if column not in row.values:
        raise ConfigError(
            f"{row.place}: no column {column!r}; it has {', '.join(map(str, row.values))}"
        )
    return row.values[column]


def _field(row: Row, reading: Reading, name: str) -> Any:
    """A field's raw value; None where an optional field has no column of its own name."""
    column = reading.columns.get(name, name)
    if name in _OPTIONAL and column == name and name not in row.values:
        return None
    return _value(row, column)


def _problem(row: Row, reading: Reading, form: Form) -> Problem | None:
    """The row's problem, or None where its solution has no answer."""
    if form.kind == "math":
        content = _mathematics(row, reading, form.drop_unanswered)
    else:
        content = _countdown(row, reading) if form.kind == "countdown" else _sudoku(row, reading)
    if content is None:
        return None
    identity = _field(row, reading, "id")
    if isinstance(identity, list | dict | bool):
        raise ConfigError(f"{row.place}: id must be text or a number, not {identity!r:.100}")
    question = form.question
    for name in ("numbers", "target", "puzzle", "question"):  # the question's own text comes last
        question = question.replace(f"{{{name}}}", content.get(name, ""))
    return Problem(
        id=f"{form.id_prefix}-{row.index}" if identity is None else str(identity),
        question=question,
        solution=content.get("solution"),
        answer=content["answer"],
        level=_level(row.place, _field(row, reading, "level")),
        reference=content.get("reference"),
    )


def _mathematics(row: Row, reading: Reading, may_lack: bool) -> dict[str, str] | None:
    """Question, solution and answer of an ordinary problem; None without an answer."""
    question = _field(row, reading, "question")
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(f"{row.place}: question must be text, not {question!r}")
    solution = _solution(row, reading)
    if reading.answer_from == "column":
        value = _field(row, reading, "answer")
        if (may_lack and value in (None, "")) or (solution is None and reading.marks):
            return None
        answer: str | None = _answer(row.place, value)
    else:
        answer = _ANSWERS[reading.answer_from](solution) if solution else None
    if not answer:
        return None
    content = {"question": question, "answer": answer}
    return content if solution is None else {**content, "solution": solution}


def _solution(row: Row, reading: Reading) -> str | None:
    """The solution; of several, the first that one of the columns of marks calls right."""
    solution = _field(row, reading, "solution")
    if reading.marks and isinstance(solution, list):
        columns = [_value(row, column) or [] for column in reading.marks]
        right = (
            text
            for marks in columns
            for text, mark in zip(solution, marks, strict=False)
            if mark is True
        )
        solution = next(right, None)
    if not isinstance(solution, str | None):
        raise ConfigError(f"{row.place}: solution must be text or null, not {solution!r}")
    return solution if solution and solution.strip() else None


def _countdown(row: Row, reading: Reading) -> dict[str, str]:
    """Numbers and target of a countdown puzzle."""
    numbers, target = _field(row, reading, "numbers"), _field(row, reading, "target")
    if isinstance(numbers, str):
        short = len(numbers) <= _LONGEST_NUMBERS
        numbers = [int(n) if short and n.strip().isdecimal() else n for n in numbers.split(",")]
    if isinstance(target, str) and target.isdecimal() and len(target) <= _LONGEST_NUMBERS:
        target = int(target)
    whole = isinstance(numbers, list) and all(type(n) is int for n in [*numbers, target])
    if not whole or not numbers or min(numbers) < 0:
        raise ConfigError(
            f"{row.place}: numbers must be whole numbers from 0 and target a whole number, "
            f"not {numbers!r} and {target!r}"
        )
    return {
        "numbers": ", ".join(map(str, numbers)),
        "target": str(target),
        "answer": str(target),
        "reference": countdown_reference(numbers, target),
    }


def _sudoku(row: Row, reading: Reading) -> dict[str, str]:
    """Puzzle and solved grid of a 4x4 sudoku."""
    puzzle = _field(row, reading, "puzzle")
    try:
        reference = sudoku_reference(str(puzzle))
    except ValueError as error:
        raise ConfigError(f"{row.place}: puzzle {error}") from error
    answer = _answer(row.place, _field(row, reading, "answer"))
    return {"puzzle": str(puzzle), "answer": answer, "reference": reference}


def _answer(place: str, value: Any) -> str:
    """An answer as text; 142.0, as tables of floats hold it, is 142."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place}: answer must be text or a finite number, not {value}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{place}: answer must be text or a number, not {value!r}")
    return value.strip()


def _level(place: str, value: Any) -> int | None:
    """A level as a number; MATH writes "Level 5", and "Level ?" where it has none."""
    if value is None or value == "Level ?":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    match = _LEVEL.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ConfigError(f"{place}: level must be a whole number, not {value!r}")
    return int(match.group(1))
