"""The embedded task: true sums, traces that say each result once, splits that never meet."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.synthetic import (
    arithmetic_problems,
    arithmetic_sft_example,
)
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards import extract_answer, find_answer_span
from igpo_lightning.settings.data import MAX_LEVEL

LEVELS = list(range(1, MAX_LEVEL + 1))


def check(problem: Problem) -> None:
    """Follow the chain by hand: the trace's results and the answer are what the question says."""
    *steps, _, start = problem.question.split()
    assert len(steps) == problem.level + 1
    value, lines = int(start), str(problem.solution).split("; ")
    for step, line in zip(steps, lines, strict=True):
        value += int(step[1:])
        assert 10 <= value <= 99
        name, result = line.split("=")
        assert name == step
        assert result in (str(value), f"\\boxed{{{value}}}")
    assert problem.answer == str(value)
    assert extract_answer(str(problem.solution)) == problem.answer


@given(split=st.sampled_from(["train", "validation", "test"]), seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_every_trace_is_true(split: str, seed: int) -> None:
    for problem in arithmetic_problems(split, 8, LEVELS, seed):
        check(problem)


@given(split=st.sampled_from(["train", "validation", "test"]), seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_traces_in_other_words_are_as_true(split: str, seed: int) -> None:
    own = arithmetic_problems(split, 8, LEVELS, seed)
    for problem, same in zip(
        arithmetic_problems(split, 8, LEVELS, seed, "values"), own, strict=True
    ):
        value = int(problem.question.split()[-1])
        for line in str(problem.solution).split(","):
            asked, result = line.split("=")
            assert int(asked[:2]) == value
            value += int(asked[2:])
            assert result in (str(value), f"\\boxed{{{value}}}")
        assert extract_answer(str(problem.solution)) == problem.answer == str(value)
        assert problem == replace(same, solution=problem.solution)
        assert len(str(problem.solution).split(",")) == len(str(same.solution).split("; "))


def test_nothing_is_carried_or_borrowed() -> None:
    for problem in arithmetic_problems("train", 200, LEVELS):
        *steps, _, start = problem.question.split()
        digits = [int(d) for d in start]
        for step in steps:
            sign = -1 if step[1] == "-" else 1
            digits = [d + sign * int(s) for d, s in zip(digits, step[2:], strict=True)]
            assert all(0 <= d <= 9 for d in digits), problem.question


def test_splits_are_disjoint_whatever_the_seed() -> None:
    questions = {
        split: {p.question for seed in (0, 1) for p in arithmetic_problems(split, 300, [1], seed)}
        for split in ("train", "validation", "test")
    }
    assert not questions["train"] & questions["validation"]
    assert not questions["train"] & questions["test"]
    assert not questions["validation"] & questions["test"]
    taught = {arithmetic_sft_example(i, 0, LEVELS, [0.5] * 4).question for i in range(500)}
    assert not taught & (questions["validation"] | questions["test"])


def test_a_seed_decides_everything_and_no_problem_comes_twice() -> None:
    once, again = (arithmetic_problems("test", 100, LEVELS, seed=3) for _ in range(2))
    assert once == again
    assert once != arithmetic_problems("test", 100, LEVELS, seed=4)
    assert len({p.id for p in once}) == len({p.question for p in once}) == 100
    assert [p.level for p in once] == LEVELS * 25
    # The first problems do not depend on how many are asked for.
    assert arithmetic_problems("test", 10, LEVELS, seed=3) == once[:10]


def test_a_level_that_is_used_up_is_told() -> None:
    with pytest.raises(ConfigError, match=r"level 1 has too few chains"):
        arithmetic_problems("test", 100_000, [1])


def test_hints_cannot_give_the_answer_away() -> None:
    for problem in arithmetic_problems("train", 100, LEVELS):
        span = find_answer_span(str(problem.solution), problem.answer)
        assert span is not None
        assert not re.search(rf"\b{problem.answer}\b", str(problem.solution)[: span[0]])


def test_the_ladder_starts_with_sums_and_ends_with_every_level() -> None:
    def examples(progress: float) -> list[Problem]:
        return [arithmetic_sft_example(i, 0, LEVELS, [1.0] * 4, progress) for i in range(300)]

    first = examples(0.0)
    assert {p.level for p in first} == {0}
    assert all(re.fullmatch(r"A[+-]\d\d=\d\d", str(p.solution)) for p in first)
    assert {p.level for p in examples(0.11)} == {0, 1}
    climbing = examples(0.49)
    assert {p.level for p in climbing} == {0, *LEVELS}
    # A share of 1 makes every trace bare, from the top of the ladder on.
    assert all("=" in str(p.solution) for p in climbing)
    assert all(p.solution == f"\\boxed{{{p.answer}}}" for p in examples(1.0))


def test_terse_examples_come_in_the_given_share() -> None:
    stream = [arithmetic_sft_example(i, 0, [1, 2], [0.25, 0.75]) for i in range(2000)]
    shares = [
        sum("=" not in str(p.solution) for p in stream if p.level == level)
        / sum(p.level == level for p in stream)
        for level in (1, 2)
    ]
    # 1,000 draws: a standard deviation of 1.4 points.
    assert shares == pytest.approx([0.25, 0.75], abs=0.05)
