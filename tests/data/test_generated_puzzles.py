"""Generated puzzles: right traces, one solution a sudoku, disjoint splits, d1's difficulty."""

import ast
import functools
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning import compose
from igpo_lightning.config import named_data
from igpo_lightning.data.countdown import COUNTDOWN_WORDINGS, countdown_problem, operate, solve
from igpo_lightning.data.generated import GENERATORS, generated_puzzles
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import encode_problem
from igpo_lightning.data.sources import SplitNotFoundError, load_problems
from igpo_lightning.data.sudoku import (
    EMPTY_CELLS,
    SUDOKU_WORDINGS,
    candidates,
    fill,
    solutions,
    solve_by_force,
    sudoku_problem,
)
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tokenizer_files import load_tokenizer
from igpo_lightning.rewards.puzzles import SUDOKU_UNITS, canonical_puzzle, is_solved
from igpo_lightning.settings.data import WORDINGS
from igpo_lightning.stages.problems import read_problems

NAMES = list(GENERATORS)
SEEDS = st.integers(0, 10**9)
SIGNS = {"plus": "+", "minus": "-", "times": "*", "over": "/"}


def value(text: str) -> float:
    """What an expression of numbers and signs comes to."""
    assert re.fullmatch(r"[\d+\-*/()]+", text)
    return float(eval(compile(ast.parse(text, mode="eval"), "", "eval")))


@given(seed=SEEDS, wording=st.sampled_from(list(COUNTDOWN_WORDINGS)))
@settings(max_examples=60, deadline=None)
def test_every_countdown_trace_is_right(seed: int, wording: str) -> None:
    problem = countdown_problem(random.Random(seed), "{numbers} {target}", wording)
    *numbers, target = (int(n) for n in problem.question.replace(",", "").split())
    steps = str(problem.solution).split("; ")
    assert len(steps) == 2
    for step in steps:
        for word, sign in SIGNS.items():
            step = step.replace(f" {word} ", sign)
        left, right = step.replace(" is ", "=").split("=")
        assert value(left) == value(right)
    first, last = reversed(steps) if wording == "backward" else steps
    middle = re.split("=| is ", first)[0 if wording == "backward" else 1]
    assert re.search(rf"\b{middle}\b", last), "the second step uses the first one's value"
    assert value(problem.answer) == target
    assert sorted(int(n) for n in re.findall(r"\d+", problem.answer)) == sorted(numbers)
    assert is_solved(problem.gold, problem.answer)
    assert not is_solved(problem.gold, str(target))


@given(seed=SEEDS, wording=st.sampled_from(list(SUDOKU_WORDINGS)))
@settings(max_examples=40, deadline=None)
def test_every_sudoku_has_one_solution_and_each_step_is_forced(seed: int, wording: str) -> None:
    problem = sudoku_problem(random.Random(seed), "{puzzle}", wording)
    grid = problem.question
    assert grid.count("0") == EMPTY_CELLS
    assert list(solutions(grid)) == [problem.answer]
    form = r"([a-z]+)(\d)(\d)=(\d)" if wording == "cells" else r"([a-z]+)(\d)@(\d)(\d)"
    for step in str(problem.solution).split():
        reason, *digits = re.fullmatch(form, step).groups()  # type: ignore[union-attr]
        row, column, digit = digits if wording == "cells" else (*digits[1:], digits[0])
        cell = 4 * (int(row) - 1) + int(column) - 1
        assert grid[cell] == "0"
        if reason == "cell":
            assert candidates(grid, cell) == {digit}
        else:
            unit = next(u for name, u in SUDOKU_UNITS if name == reason and cell in u)
            takes = [c for c in unit if grid[c] == "0" and digit in candidates(grid, c)]
            assert takes == [cell]
        grid = grid[:cell] + digit + grid[cell + 1 :]
    assert grid == problem.answer
    assert is_solved(problem.gold, problem.answer)


def test_an_operation_with_a_value_that_is_no_whole_number_above_zero_is_none() -> None:
    assert operate(3, "-", 3) is None
    assert operate(3, "/", 2) is None
    made = operate(6, "/", 2)
    assert made is not None
    assert made.value == 3


@pytest.mark.parametrize(
    ("numbers", "target", "expression"),
    [
        ([9, 61, 12], 40, "61-12-9"),  # and not 61-(12+9)
        ([30, 100, 93], 37, "100+30-93"),  # the larger number first
        ([2, 3, 20], 100, "(3+2)*20"),
        ([70, 60, 50], 1, None),
    ],
)
def test_the_simplest_solution_is_found(
    numbers: list[int], target: int, expression: str | None
) -> None:
    found = solve(numbers, target)
    assert (found and found.expression) == expression


def test_a_sudoku_with_two_solutions_is_not_solved_by_force() -> None:
    full = next(solutions("0" * 16))
    assert solve_by_force("0" * 16) is None
    assert solve_by_force(full) == []
    steps = solve_by_force("0" + full[1:])
    assert steps is not None
    assert functools.reduce(fill, steps, "0" + full[1:]) == full


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_whatever_the_seed(name: str) -> None:
    def keys(split: str) -> set[str]:
        rows = (generated_puzzles(name, split, 150, "?", WORDINGS[name][0], s) for s in (0, 1))
        return {canonical_puzzle(problem.gold) for part in rows for problem in part}

    assert not keys("train") & keys("validation")


@pytest.mark.parametrize("name", NAMES)
def test_wordings_tell_the_same_puzzles(name: str) -> None:
    kinds: dict[str, list[Problem]] = {
        wording: generated_puzzles(name, "train", 20, "{numbers}{puzzle}", wording)
        for wording in WORDINGS[name]
    }
    first, *others = kinds.values()
    for other in others:
        for one, same in zip(first, other, strict=True):
            assert one.solution != same.solution
            assert replace(one, solution=same.solution) == same


def test_the_settings_name_the_wordings_that_there_are() -> None:
    assert WORDINGS["countdown"] == tuple(COUNTDOWN_WORDINGS)
    assert WORDINGS["sudoku"] == tuple(SUDOKU_WORDINGS)


def test_more_puzzles_than_there_are() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            GENERATORS, "sudoku", lambda *_: sudoku_problem(random.Random(0), "?", "cells")
        )
        with pytest.raises(ConfigError, match="ask for fewer than 2"):
            generated_puzzles("sudoku", "train", 2, "?", "cells")


@pytest.mark.parametrize("name", NAMES)
def test_a_source_without_a_file_gives_generated_training_problems(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IGPO_DATA_DIR", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = replace(named_data(name, "data"), train_size=30, eval_size=10, hub={})
    train, validation = load_problems(source, "train"), load_problems(source, "validation")
    assert (len(train), len(validation)) == (30, 10)
    assert not {p.id for p in train} & {p.id for p in validation}
    with pytest.raises(SplitNotFoundError, match="the generator makes train and validation only"):
        load_problems(source, "test")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_no_problem_of_the_test_file_is_trained_on(
    name: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five generated problems, in another order or other names, become the test file."""
    monkeypatch.setenv("IGPO_DATA_DIR", str(tmp_path))
    config = compose(["stage=sft", f"data={name}", "data.train_size=40", "data.eval_size=40"])
    before = load_problems(config.data, split)
    rows = []
    for problem in before[:5]:
        if name == "countdown":
            numbers, target = problem.gold.removeprefix("countdown: ").split(" -> ")
            rows.append(
                f'{{"numbers": [{",".join(reversed(numbers.split(",")))}], "target": {target}}}'
            )
        else:
            renamed = str.maketrans("1234", "2341")
            puzzle, answer = (
                problem.gold[-16:].translate(renamed),
                problem.answer.translate(renamed),
            )
            rows.append(f'{{"question": "{puzzle}", "answer": "{answer}"}}')
    (tmp_path / f"{name}.test.jsonl").write_text("\n".join(rows))
    kept = read_problems(config, split)
    assert [p.id for p in kept] == [p.id for p in before[5:]]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_traces_fit_the_small_models_canvas(name: str) -> None:
    for wording in WORDINGS[name]:
        config = compose(
            ["stage=sft", f"data={name}", "data.train_size=200", f"data.wording={wording}"]
        )
        tokenizer = load_tokenizer(config.model.path)
        for problem in load_problems(config.data):
            encoded = encode_problem(problem, tokenizer, config.prompt)
            assert encoded.trace_ids is not None
            assert encoded.answer_span is not None
            start, end = encoded.answer_span
            assert end == len(encoded.trace_ids) < config.sampler.completion_length
            assert problem.answer in tokenizer.decode(encoded.trace_ids[start:])
            assert problem.answer not in tokenizer.decode(encoded.trace_ids[:start])


@pytest.mark.shared
def test_generated_puzzles_are_as_hard_as_the_public_ones(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty cells of a sudoku; the share of countdown puzzles that sums and differences solve."""
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    sudokus = [p.gold[-16:] for p in load_problems("sudoku", "test")]
    assert {puzzle.count("0") for puzzle in sudokus} == {EMPTY_CELLS}
    # docs/data.md names the number.
    assert sum(solve_by_force(puzzle) is None for puzzle in sudokus) == 124
    assert sum(len(list(solutions(puzzle))) > 1 for puzzle in sudokus) == 124

    public = [p.gold for p in load_problems("countdown", "test")]
    made = [p.gold for p in generated_puzzles("countdown", "train", 1000, "", "forward")]
    assert abs(_plain_share(public) - _plain_share(made)) < 0.05


def _plain_share(references: list[str]) -> float:
    plain = 0
    for reference in references:
        numbers, target = reference.removeprefix("countdown: ").split(" -> ")
        found = solve([int(n) for n in numbers.split(",")], int(target))
        assert found is not None
        plain += not set(found.expression) & set("*/")
    return plain / len(references)
