"""Where the final answer of a text is found."""

import pytest

from igpo_lightning.rewards.extraction import (
    STRATEGIES,
    extract_answer,
    find_boxes,
    find_marks,
)

CASES: list[tuple[str, str, str | None]] = [
    ("box", r"so \boxed{7}", "7"),
    ("box", r"\boxed {7}", "7"),
    ("box", r"\fbox{7}", "7"),
    ("box", r"\boxed{ 7 }", "7"),
    ("box", r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ("box", r"\boxed{\frac{\sqrt{3}}{2^{n}}} and so on", r"\frac{\sqrt{3}}{2^{n}}"),
    ("box", r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    ("box", r"\boxed{\boxed{7}}", "7"),
    ("box", r"\boxed{a} then \boxed{b}", "b"),
    ("box", "\\boxed{\n7\n}", "7"),
    ("box", r"\boxed{1} and \boxed{2", "1"),
    ("box", r"\boxed{\frac{1}{2}", None),
    ("box", r"\boxed{}", None),
    ("box", r"\boxed{7} or \boxed{}", "7"),
    ("box", "boxed{7}", None),
    ("box", "} \\boxed{7}", "7"),
    ("tag", "<answer>7</answer>", "7"),
    ("tag", "<ANSWER> 7 </Answer>", "7"),
    ("tag", "<answer>$7$</answer>", "7"),
    ("tag", "<answer>6</answer> no: <answer>7</answer>", "7"),
    ("tag", "<answer>6</answer> no: <answer>7", "6"),
    ("tag", "<answer><answer>7</answer>", "7"),
    ("tag", "<answer>7", None),
    ("tag", "7</answer>", None),
    ("hash", "... is 18.\n#### 18", "18"),
    ("hash", "#### 1,234", "1234"),
    ("hash", "#### -3.5", "-3.5"),
    ("hash", "#### $5\n", "$5"),
    ("hash", "#### 5 apples", None),
    ("hash", "### 5", None),
    ("stated", "The answer is 5.", "5"),
    ("stated", "The answer is: 5", "5"),
    ("stated", "the final answer is $x=5$.", "x=5"),
    ("stated", "**Answer:** 5", "5"),
    ("stated", "Answer: (C)", "(C)"),
    ("stated", "The answer is 3.5 hours.", "3.5"),
    ("stated", "The answer is $5 and $6.", "$5 and $6"),
    ("stated", "The answer is 5. The answer is 6.", "6"),
    ("stated", r"The answer is \(\frac{1}{2}\) of it.", r"\frac{1}{2}"),
    ("stated", "Their answers are fine.", None),
    ("number", "3 and then 12 cats", "12"),
    ("number", "it costs 1,234.50", "1,234.50"),
    ("number", "a half is 1/2", "1/2"),
    ("number", "only x2 and R2D2", None),
    ("number", "it falls to -4", "-4"),
    ("number", "so we get $3 + 2 = 5$", "5"),
    ("number", r"so it is $\frac{\sqrt{3}}{2}$.", r"\frac{\sqrt{3}}{2}"),
    ("number", r"the pair is $(7, 6)$.", "(7, 6)"),
    ("number", r"of $x$ apples and $y$ pears, 5 are left", "5"),
    ("number", "none", None),
    ("number", r"the angle is 90^\circ", "90"),
    ("number", "216/24=", None),
    ("number", "the 216/24= and then", None),
    ("number", "He has 9. Then 216/24 =", "9"),
    ("number", "3 * 72 =", None),
    ("number", "so it is 5 + 2", None),
    ("number", "6/2", None),
    ("number", "10 - 2", None),
    ("number", "- 7", "7"),
    ("number", "x_2 and 2^{10}", None),
    ("number", r"we get $\frac{216}{24}$", None),
    ("number", r"we get $3 \cdot 3$", None),
    ("number", r"we get $\sqrt{81}$", None),
    ("number", r"we get $2\sqrt{3}$", r"2\sqrt{3}"),
    ("number", "216/24=9", "9"),
]


@pytest.mark.parametrize(("rule", "text", "answer"), CASES)
def test_each_rule(rule: str, text: str, answer: str | None) -> None:
    assert STRATEGIES[rule](text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is 1. #### 2 <answer>3</answer> \boxed{4}", "4"),
        ("The answer is 1.\n#### 2\n<answer>3</answer>", "3"),
        ("The answer is 1.\n#### 2", "2"),
        ("The answer is 1, not 2", "1, not 2"),
        ("First 1, then 2", "2"),
        (r"<answer>\boxed{7}</answer>", "7"),
        (r"\boxed{7} is what we wanted, as 5 + 2 shows.", "7"),
        (r"\boxed{1}. Final answer: The final answer is $7$. I hope it is correct.", "7"),
        (r"<think>maybe \boxed{1}</think> It is \boxed{7}.", "7"),
        (r"<think>maybe \boxed{1}</think> I do not know.", None),
        (r"<think>it is \boxed{7}</think>", "7"),
        ("", None),
        ("no idea", None),
    ],
)
def test_the_strategies_in_their_order(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_another_order() -> None:
    text = "The answer is 1.\n#### 2 \\boxed{3} and 4"
    assert extract_answer(text, ["stated", "box"]) == "1"
    assert extract_answer(text, ["number"]) == "4"
    assert extract_answer("so 5", ["box", "tag"]) is None


def test_boxes_know_their_place() -> None:
    text = r"\boxed{1} and \boxed{\frac{1}{2}}"
    assert [text[b.start : b.end] for b in find_boxes(text)] == [
        r"\boxed{1}",
        r"\boxed{\frac{1}{2}}",
    ]


def test_marks_in_order_of_their_place() -> None:
    text = "The answer is 1.\n#### 2\n<answer>3</answer> \\boxed{4}"
    assert [answer for _, answer in find_marks(text)] == ["1", "2", "3", "4"]
    starts = [start for start, _ in find_marks(text)]
    assert [text[start] for start in starts] == ["a", "#", "<", "\\"]
