"""Grading on public suites' cases and on the official solutions of real problems."""

import gzip
import json
from pathlib import Path

import pytest

from igpo_lightning.rewards import GradingPool, is_equivalent


def _rows(file: Path) -> list[dict[str, str]]:
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.shared
def test_the_cases_of_public_suites(shared_data: Path) -> None:
    cases = [c for c in _rows(shared_data / "grading_cases.jsonl") if c["flag"] == "core"]
    assert len(cases) == 301
    said = [(case["equal"], is_equivalent(case["gold"], case["prediction"])) for case in cases]
    assert sum(equal == same for equal, same in said) / len(cases) >= 0.993
    # Plain math-verify 0.9.0, bare answers boxed, has 292 right and no false right either.
    assert not [case["id"] for case, (equal, same) in zip(cases, said, strict=True) if same > equal]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "rows", "wrong"),
    [
        ("gsm8k.test.jsonl", 1319, set()),
        ("gsm8k.train.jsonl.gz", 7473, set()),
        ("math500.test.jsonl", 500, set()),
        ("minerva.test.jsonl", 272, set()),
        ("aime24.test.jsonl", 30, set()),
    ],
)
def test_official_solutions_give_the_official_answer(
    shared_data: Path, file: str, rows: int, wrong: set[str]
) -> None:
    problems = _rows(shared_data / file)
    assert len(problems) == rows
    with GradingPool(workers=2) as pool:
        verdicts = pool.grade([(p["answer"], p["solution"]) for p in problems])
    assert {p["id"] for p, v in zip(problems, verdicts, strict=True) if not v.correct} == wrong


@pytest.mark.shared
@pytest.mark.parametrize("form", [r"\boxed{{%s}}", "{%s}", r"\boxed{ %s }"])
def test_real_answers_in_more_braces(shared_data: Path, form: str) -> None:
    rows = _rows(shared_data / "math500.test.jsonl")
    with GradingPool(workers=2) as pool:
        verdicts = pool.grade([(row["answer"], form % row["answer"]) for row in rows])
    assert [row["id"] for row, v in zip(rows, verdicts, strict=True) if not v.correct] == []
