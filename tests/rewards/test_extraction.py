"""Where the final answer of a text is found."""

from collections.abc import Callable

import pytest

from igpo_lightning.rewards.extraction import (
    boxed_answer,
    extract_answer,
    find_boxes,
    find_marks,
    hash_answer,
    last_number,
    stated_answer,
    tagged_answer,
)

CASES: list[tuple[Callable[[str], str | None], str, str | None]] = [
    (boxed_answer, r"so \boxed{7}", "7"),
    (boxed_answer, r"\boxed {7}", "7"),
    (boxed_answer, r"\fbox{7}", "7"),
    (boxed_answer, r"\boxed{ 7 }", "7"),
    (boxed_answer, r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (boxed_answer, r"\boxed{\frac{\sqrt{3}}{2^{n}}} and so on", r"\frac{\sqrt{3}}{2^{n}}"),
    (boxed_answer, r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (boxed_answer, r"\boxed{\boxed{7}}", "7"),
    (boxed_answer, r"\boxed{a} then \boxed{b}", "b"),
    (boxed_answer, "\\boxed{\n7\n}", "7"),
    (boxed_answer, r"\boxed{1} and \boxed{2", "1"),
    (boxed_answer, r"\boxed{\frac{1}{2}", None),
    (boxed_answer, r"\boxed{}", None),
    (boxed_answer, r"\boxed{7} or \boxed{}", "7"),
    (boxed_answer, "boxed{7}", None),
    (boxed_answer, "} \\boxed{7}", "7"),
    (tagged_answer, "<answer>7</answer>", "7"),
    (tagged_answer, "<ANSWER> 7 </Answer>", "7"),
    (tagged_answer, "<answer>$7$</answer>", "7"),
    (tagged_answer, "<answer>6</answer> no: <answer>7</answer>", "7"),
    (tagged_answer, "<answer>6</answer> no: <answer>7", "6"),
    (tagged_answer, "<answer><answer>7</answer>", "7"),
    (tagged_answer, "<answer>7", None),
    (tagged_answer, "7</answer>", None),
    (hash_answer, "... is 18.\n#### 18", "18"),
    (hash_answer, "#### 1,234", "1234"),
    (hash_answer, "#### -3.5", "-3.5"),
    (hash_answer, "#### $5\n", "$5"),
    (hash_answer, "#### 5 apples", None),
    (hash_answer, "### 5", None),
    (stated_answer, "The answer is 5.", "5"),
    (stated_answer, "The answer is: 5", "5"),
    (stated_answer, "the final answer is $x=5$.", "x=5"),
    (stated_answer, "**Answer:** 5", "5"),
    (stated_answer, "Answer: (C)", "(C)"),
    (stated_answer, "The answer is 3.5 hours.", "3.5"),
    (stated_answer, "The answer is $5 and $6.", "$5 and $6"),
    (stated_answer, "The answer is 5. The answer is 6.", "6"),
    (stated_answer, r"The answer is \(\frac{1}{2}\) of it.", r"\frac{1}{2}"),
    (stated_answer, "Their answers are fine.", None),
    (last_number, "3 and then 12 cats", "12"),
    (last_number, "it costs 1,234.50", "1,234.50"),
    (last_number, "a half is 1/2", "1/2"),
    (last_number, "only x2 and R2D2", None),
    (last_number, "it falls to -4", "-4"),
    (last_number, "so we get $3 + 2 = 5$", "5"),
    (last_number, r"so it is $\frac{\sqrt{3}}{2}$.", r"\frac{\sqrt{3}}{2}"),
    (last_number, r"the pair is $(7, 6)$.", "(7, 6)"),
    (last_number, r"of $x$ apples and $y$ pears, 5 are left", "5"),
    (last_number, "none", None),
    (last_number, r"the angle is 90^\circ", "90"),
    (last_number, "216/24=", None),
    (last_number, "the 216/24= and then", None),
    (last_number, "He has 9. Then 216/24 =", "9"),
    (last_number, "3 * 72 =", None),
    (last_number, "so it is 5 + 2", None),
    (last_number, "6/2", None),
    (last_number, "10 - 2", None),
    (last_number, "- 7", "7"),
    (last_number, "x_2 and 2^{10}", None),
    (last_number, r"we get $\frac{216}{24}$", None),
    (last_number, r"we get $3 \cdot 3$", None),
    (last_number, r"we get $\sqrt{81}$", None),
    (last_number, r"we get $2\sqrt{3}$", r"2\sqrt{3}"),
    (last_number, "216/24=9", "9"),
]


@pytest.mark.parametrize(("rule", "text", "answer"), CASES)
def test_each_rule(rule: Callable[[str], str | None], text: str, answer: str | None) -> None:
    assert rule(text) == answer


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
