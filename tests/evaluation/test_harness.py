"""Our GSM8K scores are those of lm-evaluation-harness: its filters and its metric say the same."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.evaluation.harness import (
    NO_ANSWER,
    flexible_extract,
    harness_score,
    harness_summary,
    strict_match,
)

REASON = "lm-eval is not installed: pip install 'igpo-lightning[lm_eval]'"
Score = Callable[[str, str], tuple[bool, bool]]


@pytest.fixture(scope="module")
def official() -> Score:
    """(gold, text) -> strict and flexible verdicts by the real package, as its task file says."""
    lm_eval = pytest.importorskip("lm_eval", reason=REASON)
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    file = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = yaml.safe_load(file.read_text())
    (metric,) = task["metric_list"]
    names = ("regexes_to_ignore", "ignore_case", "ignore_punctuation")
    options: dict[str, Any] = {name: metric[name] for name in names}

    filters = {}
    for entry in task["filter_list"]:
        regex, take_first = entry["filter"]
        assert (regex.pop("function"), take_first["function"]) == ("regex", "take_first")
        filters[entry["name"]] = RegexFilter(**regex)

    def verdict(name: str, gold: str, text: str) -> bool:
        ((found,),) = filters[name].apply([[text]], [{}])
        return bool(exact_match_hf_evaluate([found], [gold], **options)["exact_match"])

    def score(gold: str, text: str) -> tuple[bool, bool]:
        return verdict("strict-match", gold, text), verdict("flexible-extract", gold, text)

    return score


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("5 + 4 = 9\n#### 9", "9", "9"),
        ("#### 1,234.", "1,234.", "1,234."),
        ("It costs $18.50 in all.", NO_ANSWER, "$18.50"),
        ("so \\boxed{-3}", NO_ANSWER, "-3"),
        ("#### 7 and then 8", "7", "8"),
        ("no number", NO_ANSWER, NO_ANSWER),
        ("It is 4.", NO_ANSWER, "4."),
        ("well...", NO_ANSWER, "..."),
    ],
)
def test_what_is_found(text: str, strict: str, flexible: str) -> None:
    assert (strict_match(text), flexible_extract(text)) == (strict, flexible)


TEXTS = [
    *("5 + 4 = 9\n#### 9", "#### 1,234.", "It costs $18.50 in all.", "so \\boxed{-3}", "####9"),
    *("#### 7 and then 8", "no number", "It is 4.", "well...", "", "#### ", "#### -", "#### $5"),
    *("#### 9\n#### 10", "x #### .5", "12.0", "12", "The answer is 1,234 dollars.", "- 5", "--5"),
]


@pytest.mark.parametrize("gold", ["9", "1234", "18.50", "-3", "8", "4", "#### 9", "a #### 1,234"])
def test_hard_texts_score_as_there(official: Score, gold: str) -> None:
    for text in TEXTS:
        assert harness_score(gold, text) == official(gold, text), text


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["#", "#### ", "1", "23", "4.", ",", "$", "-", ".", " ", "\n", "x"])),
    st.sampled_from(["1", "23", "123", "4", "14", "-1", "1.23", "$1", "x #### 1,231"]),
)
def test_any_text_scores_as_there(official: Score, parts: list[str], gold: str) -> None:
    text = "".join(parts)
    assert harness_score(gold, text) == official(gold, text)


@pytest.mark.shared
def test_official_solutions_score_as_there(official: Score, shared_data: Path) -> None:
    """Each official solution is right by both filters, against its own text and against our answer.

    A solution with another's answer is wrong by both.
    """
    lines = (shared_data / "gsm8k.test.jsonl").read_text().splitlines()[:300]
    problems = [json.loads(line) for line in lines]
    for problem, other in zip(problems, problems[1:] + problems[:1], strict=True):
        solution, answer = problem["solution"], problem["answer"]
        for gold in (solution, answer):
            assert harness_score(gold, solution) == official(gold, solution) == (True, True)
        boxed = re.sub(r"#### .*", rf"\\boxed{{{answer}}}", solution)
        assert harness_score(answer, boxed) == official(solution, boxed) == (False, True)
        wrong = harness_score(other["answer"], solution)
        assert wrong == official(other["solution"], solution)
        assert wrong == ((True, True) if other["answer"] == answer else (False, False))


def test_a_summary_by_hand() -> None:
    """Right by strict and flexible, by flexible alone, by our grader alone, by none."""
    samples = [
        {"answer": "9", "completion": "#### 9", "correct": True},
        {"answer": "9", "completion": "\\boxed{9}", "correct": True},
        {"answer": "9", "completion": "\\boxed{9}, not 8", "correct": True},
        {"answer": "9", "completion": "8", "correct": False},
    ]
    assert harness_summary(samples) == {
        "strict_match": 0.25,
        "flexible_extract": 0.5,
        "agreement": 0.75,
    }
