"""From raw rows to problems: which columns, which rows, and where the answer stands."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.extraction import (
    boxed_answer,
    extract_answer,
    hash_answer,
    stated_answer,
)
from igpo_lightning.rewards.normalization import strip_choice

FIELDS = ("id", "question", "solution", "answer", "level")
_OPTIONAL = ("id", "solution", "level")
_LEVEL = re.compile(r"(?:Level )?(\d+)")


def _box(text: str) -> str | None:
    r"""The last box's value: `\boxed{\textbf{(D)}\ 25}` says 25."""
    content = boxed_answer(text)
    return None if content is None else strip_choice(content)[1]


_ANSWERS: dict[str, Callable[[str], str | None]] = {
    "box": _box,
    "hash": hash_answer,
    "the_answer_is": stated_answer,
    "any": extract_answer,
}


@dataclass
class Reading:
    """How rows are read; part of the schema of the `data` config group."""

    columns: dict[str, str] = field(default_factory=dict)  # field: its column, where not the same
    answer_from: str = "column"  # column | in the solution: box | hash | the_answer_is | any
    keep: dict[str, list[Any]] = field(default_factory=dict)  # column: values of the rows to keep
    unique_by: str | None = None  # column; only the first row of each value is kept


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


def read_problems(
    rows: Iterable[Row], reading: Reading, id_prefix: str, drop_unanswered: bool
) -> tuple[list[Problem], int]:
    """Problems of the rows that are kept, in order.

    Args:
        rows: Raw rows.
        reading: How to read them.
        id_prefix: Begins the ids of rows without one; the row's index ends them, so that a filter
            does not rename what is left.
        drop_unanswered: Leave out rows in whose solution no answer is found (a public table,
            which nobody here can mend), instead of calling that a mistake.

    Returns:
        The problems, and how many rows were left out for want of an answer.

    Raises:
        ConfigError: A setting or a row is wrong.
    """
    if reading.answer_from != "column" and reading.answer_from not in _ANSWERS:
        allowed = ", ".join(("column", *_ANSWERS))
        raise ConfigError(f"data.answer_from={reading.answer_from}: use one of {allowed}")
    unknown = set(reading.columns) - set(FIELDS)
    if unknown:
        raise ConfigError(
            f"data.columns.{min(unknown)}: no such field; use {', '.join(FIELDS)}, each with the "
            "name of its column"
        )
    problems: list[Problem] = []
    places: dict[str, str] = {}
    seen: set[Any] = set()
    unanswered = 0
    for row in rows:
        if any(_value(row, column) not in values for column, values in reading.keep.items()):
            continue
        if reading.unique_by is not None:
            identity = _value(row, reading.unique_by)
            if identity in seen:
                continue
            seen.add(identity)
        problem = _problem(row, reading, id_prefix)
        if problem is None:
            if not drop_unanswered:
                raise ConfigError(
                    f"{row.place}: no final answer in the solution, with "
                    f"data.answer_from={reading.answer_from}; mend the row or name another place"
                )
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


def _problem(row: Row, reading: Reading, id_prefix: str) -> Problem | None:
    """The row's problem, or None where its solution has no answer."""
    question = _field(row, reading, "question")
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(f"{row.place}: question must be text, not {question!r}")
    solution = _field(row, reading, "solution")
    if not isinstance(solution, str | None):
        raise ConfigError(f"{row.place}: solution must be text or null, not {solution!r}")
    if reading.answer_from == "column":
        answer = _answer(row.place, _field(row, reading, "answer"))
    else:
        found = _ANSWERS[reading.answer_from](solution) if solution else None
        if not found:
            return None
        answer = found
    identity = _field(row, reading, "id")
    return Problem(
        id=f"{id_prefix}-{row.index}" if identity is None else str(identity),
        question=question,
        solution=solution if solution and solution.strip() else None,
        answer=answer,
        level=_level(row.place, _field(row, reading, "level")),
    )


def _answer(place: str, value: Any) -> str:
    """An answer as text; 142.0, as tables of floats hold it, is 142."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{place}: answer must be text or a number, not {value!r}")
    return value.strip()


def _level(place: str, value: Any) -> int | None:
    """A level as a number; MATH writes "Level 5", and "Level ?" where it has none."""
    if value is None or value == "Level ?":
        return None
    match = _LEVEL.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ConfigError(f"{place}: level must be a whole number, not {value!r}")
    return int(match.group(1))
