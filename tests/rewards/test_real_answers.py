"""Grading on public suites' cases and on the official solutions of real problems."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from igpo_lightning.rewards import GradingPool, is_equivalent


def _rows(file: Path) -> list[dict[str, str]]:
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    return [json.loads(line) for line in lines]


def _plain_math_verify(gold: str, prediction: str) -> bool:
    """math-verify alone, a bare answer wrapped in a box."""
    from math_verify import parse, verify

    marks = ("$", "boxed", r"\(", r"\[")
    texts = [t if any(m in t for m in marks) else rf"\boxed{{{t}}}" for t in (gold, prediction)]
    parsed = [parse(text, parsing_timeout=None) for text in texts]
    return bool(verify(*parsed, timeout_seconds=None))


def _judge(cases: list[dict[str, str]], same: Callable[[str, str], bool]) -> tuple[int, int]:
    """How many cases are right, and how many are wrongly said to be equal."""
    said = [(case["equal"], same(case["gold"], case["prediction"])) for case in cases]
    return sum(e == s for e, s in said), sum(s and not e for e, s in said)


@pytest.mark.shared
def test_the_cases_of_public_suites(shared_data: Path) -> None:
    cases = [c for c in _rows(shared_data / "grading_cases.jsonl") if c["flag"] == "core"]
    assert len(cases) == 301
    right, false_rights = _judge(cases, is_equivalent)
    plain_right, plain_false_rights = _judge(cases, _plain_math_verify)
    assert right / len(cases) >= 0.993
    assert right > plain_right
    assert false_rights <= plain_false_rights


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
