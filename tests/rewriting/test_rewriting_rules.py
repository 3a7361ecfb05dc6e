"""The rule-based rewriter, and what every rewrite must fulfil."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rewards import GradingPool
from igpo_lightning.rewriting.rules import (
    REFLECTION,
    RewriteLimits,
    form_fault,
    is_copy,
    rewrite_by_rules,
)

LIMITS = RewriteLimits(max_tokens=20, copy_share=0.8, keep_fitting=False)

LONG = """<think>
Okay, so I need to find how much she pays.

There are 3 boxes with 4 pens, so 3 * 4 = 12 pens.

Wait, let me check: 3 * 4 = 12. Yes.

Each pen costs $2. So 12 * 2 = 24 dollars.

Let me verify that. 3 * 4 = 12 and 12 * 2 = 24.

That is a nice problem.

The answer is 24. Alternatively, 3 * 8 = 24.
</think>"""


def always(text: str) -> bool:
    return True


def test_steps_and_the_conclusion_stay_each_once() -> None:
    assert rewrite_by_rules(LONG, "24", always) == (
        "There are 3 boxes with 4 pens, so 3 * 4 = 12 pens.\n\n"
        "Each pen costs $2. So 12 * 2 = 24 dollars.\n\n"
        "The answer is 24."
    )


def test_a_think_part_goes_where_an_answer_follows() -> None:
    text = "<think>Wait, 2 + 2 = 5?</think>\n2 + 2 = 4\n\\boxed{4}"
    assert rewrite_by_rules(text, "4", always) == "2 + 2 = 4\n\\boxed{4}"


def test_what_follows_the_answer_goes() -> None:
    text = "3 + 4 = 7.\nSo it is \\boxed{7}. ~Ann\nSolution 2: 14/2 = \\boxed{7}."
    assert rewrite_by_rules(text, "7", always) == "3 + 4 = 7.\nSo it is \\boxed{7}."


def test_a_display_is_kept_whole() -> None:
    text = "Clearly.\n\\[x = 3.\n\\]\nThus $x = \\boxed{3}$."
    assert rewrite_by_rules(text, "3", always) == "\\[x = 3.\n\\]\nThus $x = \\boxed{3}$."


def test_too_long_a_rewrite_keeps_equations_only() -> None:
    text = "There are 3 cats here and 4 dogs there.\n3 + 4 = 7\nThe answer is 7."
    assert rewrite_by_rules(text, "7", lambda t: len(t) < 40) == "3 + 4 = 7\nThe answer is 7."


def test_a_trace_without_its_answer_gives_nothing() -> None:
    assert rewrite_by_rules("3 + 4 = 7. It is clear.", "8", always) == ""


@settings(max_examples=50)
@given(st.lists(st.sampled_from(LONG.splitlines()), max_size=12), st.integers(0, 30))
def test_rules_never_leave_reflection_nor_repeat_themselves(lines: list[str], answer: int) -> None:
    text = "\n".join([*lines, f"The answer is {answer}."])
    short = rewrite_by_rules(text, str(answer), always)
    steps = short.split("\n")
    assert short.endswith(f"{answer}.") or "24" in short
    assert not REFLECTION.search("\n".join(steps[:-1]))
    assert len(short) <= len(text)
    assert rewrite_by_rules(short, str(answer), always) == short


@pytest.mark.parametrize(
    "text",
    ["Wait, no.", "Hmm.", "Let me check this.", "I think so.", "</think>", "Actually 5.",
     "Let's double-check: 5", "Alternatively, use 3."],
)  # fmt: skip
def test_reflection(text: str) -> None:
    assert REFLECTION.search(f"2 + 2 = 4. {text}")


@pytest.mark.parametrize(
    "text",
    ["He waited 5 minutes.", "An alternating sum.", "The waiter has 5.", "Checking accounts.",
     "We verify by induction for n = 1.", "Let us think of x as 5"],
)  # fmt: skip
def test_no_reflection(text: str) -> None:
    assert not REFLECTION.search(text)


WORDS = [f"word{i}" for i in range(12)]


def test_a_copy() -> None:
    text = " ".join(WORDS)
    assert is_copy(text, text, 0.8)
    assert is_copy(text, text.upper() + " indeed", 0.8)
    # 12 words have 7 runs of six; one other word at the end spoils one of them: 6 of 7 is 86 %.
    assert is_copy(text, " ".join([*WORDS[:-1], "x"]), 0.8)
    assert not is_copy(text, " ".join([*WORDS[:-1], "x"]), 0.9)
    assert not is_copy(text, " ".join(WORDS[::-1]), 0.8)


def test_a_part_of_the_original_is_no_copy() -> None:
    # Dropping is what a rewrite is for: 9 of 12 words are below nine tenths.
    assert not is_copy(" ".join(WORDS), " ".join(WORDS[:9]), 0.1)
    assert is_copy("a b c", "a b c", 0.8)
    assert not is_copy("a b c", "a b d", 0.8)


@pytest.mark.parametrize(
    ("rewrite", "tokens", "fault"),
    [
        ("3 * 4 = 12. The answer is 12.", 20, None),
        ("3 * 4 = 12. The answer is 12.", 21, "too_long"),
        (" \n", 0, "empty"),
        ("Wait, 3 * 4 = 12. The answer is 12.", 9, "reflection"),
        (" ".join(WORDS), 12, "copy"),
    ],
)
def test_faults_of_form(rewrite: str, tokens: int, fault: str | None) -> None:
    assert form_fault(" ".join(WORDS), rewrite, tokens, LIMITS) == fault


@pytest.mark.shared
def test_long_model_written_traces(shared_data: Path) -> None:
    """Rewrites of real traces are shorter and right, or the trace was fine as it was."""
    rows = [json.loads(line) for line in (shared_data / "traces_sample.jsonl").open()]
    limits = RewriteLimits(max_tokens=6000, copy_share=0.8, keep_fitting=True)
    short = [rewrite_by_rules(r["solution"], r["answer"], lambda t: len(t) < 6000) for r in rows]
    with GradingPool(workers=2) as pool:
        verdicts = pool.grade([(r["answer"], s) for r, s in zip(rows, short, strict=True)])
    assert sum(v.correct for v in verdicts) >= 0.95 * len(rows)
    faults = [
        form_fault(r["solution"], s, len(s), limits) for r, s in zip(rows, short, strict=True)
    ]
    assert sum(fault in (None, "copy") for fault in faults) >= 0.95 * len(rows)
    thinking = [(r, s) for r, s in zip(rows, short, strict=True) if "<think>" in r["solution"]]
    assert len(thinking) == 10
    assert sum(len(s) for _, s in thinking) < 0.5 * sum(len(r["solution"]) for r, _ in thinking)
