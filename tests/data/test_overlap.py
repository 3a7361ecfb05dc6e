"""Overlap: the same question in other clothes is found, another question is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.data.overlap import (
    Shared,
    find_overlap,
    normalise_question,
)
from igpo_lightning.data.problem import Problem


def problem(identity: str, question: str) -> Problem:
    return Problem(identity, question, None, "1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "what is 2 + 2"),
        ("Find $x$ if $\\frac{1}{2}x = 3$.", "Find \\(x\\) if \\( \\dfrac{1}{2} x=3 \\)"),
        ("Let $f\\left(x\\right)=2$.\nFind it.", "Let $f(x) = 2.$ Find it."),
        ("A length of $3\\,\\text{cm}$", "a length of $3 \\mathrm{cm}$"),
        ("It costs 1,000 dollars.", "It costs 1000 dollars"),
        ("\uff11\uff12 apples", "12 apples"),
        ("$2 \\times 3$", "$2 \\cdot 3$"),
    ],
)
def test_the_same_question(one: str, other: str) -> None:
    assert normalise_question(one) == normalise_question(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "What is 2-2?"),
        ("Numbers: 1, 23", "Numbers: 12, 3"),
        ("the value 1.5", "the value 15"),
        ("Find $x^2$", "Find $x2$"),
        ("$x_1 < 2$", "$x_1 > 2$"),
        ("$3!$", "$3$"),
        ("$\\sin x$", "$\\cos x$"),
    ],
)
def test_another_question(one: str, other: str) -> None:
    assert normalise_question(one) != normalise_question(other)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.data())
def test_lists_of_other_numbers_stay_apart(numbers: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))

    def same(a: list[int], b: list[int]) -> bool:
        questions = [f"Use {', '.join(map(str, n))} to make 7." for n in (a, b)]
        return normalise_question(questions[0]) == normalise_question(questions[1])

    assert same(numbers, others) == (numbers == others)


def test_every_set_is_named_and_exact_comes_first() -> None:
    train = [problem("t0", "What is 2+2?"), problem("t1", "What is 3+3?"), problem("t2", "Else?")]
    sets = {
        "a": [problem("a0", "What is 2+2?"), problem("a1", "what is 2 + 2")],
        "b": [problem("b0", "WHAT is 2+2"), problem("b1", "what is 3+3")],
    }
    shared = find_overlap(train, sets)
    assert shared == [
        Shared("t0", "a", "a0", True),
        Shared("t0", "b", "b0", False),
        Shared("t1", "b", "b1", False),
    ]


def _read(file: Path) -> list[Problem]:
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [problem(row["id"], row["question"]) for row in rows]


@pytest.mark.shared
def test_overlap_that_is_known_to_be_there(shared_data: Path) -> None:
    amc = {"amc": _read(shared_data / "amc.test.jsonl")}
    # All 40 problems of amc23 are inside amc.test.
    assert len(find_overlap(_read(shared_data / "amc23.test.jsonl"), amc)) == 40
    # 5 questions of the sampled traces are in MATH-500.
    math500 = {"math500": _read(shared_data / "math500.test.jsonl")}
    assert len(find_overlap(_read(shared_data / "traces_sample.jsonl"), math500)) == 5


@pytest.mark.shared
def test_no_training_file_holds_an_evaluation_problem(shared_data: Path) -> None:
    names = ("amc", "aime24", "math500", "minerva", "gsm8k")
    sets = {name: _read(shared_data / f"{name}.test.jsonl") for name in names}
    assert find_overlap(_read(shared_data / "amc.train.jsonl"), sets) == []
    # And no two evaluation problems of a set are made equal.
    for rows in sets.values():
        assert len({normalise_question(p.question) for p in rows}) == len(rows)
