"""An answer counts only where it was generated, token by token."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rewards.extraction import STRATEGIES, locate_answer
from igpo_lightning.rewards.given_answer import (
    answer_was_given,
    compared_spans,
    holds_given_answer,
)
from igpo_lightning.rewards.grading import answers_of


@pytest.mark.parametrize(
    ("pieces", "hinted", "given_away"),
    [
        (["so ", "\\boxed{", "1", "2", "}"], {0, 1}, False),  # the box was shown, not what is in it
        (["so ", "\\boxed{", "1", "2", "}"], {2}, True),
        (["so ", "\\boxed{", "1", "2", "}"], {3}, True),
        (["so ", "\\boxed{", "1", "2", "}"], {4}, False),
        (["so ", "\\boxed{1", "2}"], {2}, True),  # a token that holds more than the answer
        (["5 + 7 = ", "12", " and"], {0}, False),
        (["5 + 7 = ", "12", " and"], {1}, True),
        (["#### ", "1,", "200"], {1}, True),
        # Joined boxes are one answer; what joins them is none of it.
        (["\\boxed{3}", " and ", "\\boxed{5}"], {0}, True),
        (["\\boxed{3}", " and ", "\\boxed{5}"], {1}, False),
        (["\\boxed{3}", ". So it is ", "\\boxed{5}"], {0}, False),  # these are not joined
        # Where nothing is marked or stated, the grader compares the whole text.
        (["2", "x + 3"], {0}, True),
        (["2", "x + 3"], set(), False),
        (["seven"], {0}, True),
        (["216/24", "="], {0}, True),
        ([], set(), False),
    ],
)
def test_which_token_holds_the_answer(
    pieces: list[str], hinted: set[int], given_away: bool
) -> None:
    mask = [i in hinted for i in range(len(pieces))]
    assert holds_given_answer(pieces, mask) == given_away


def test_a_span_beside_a_hint_is_not_given() -> None:
    assert not answer_was_given(["ab", "cd", "ef"], [True, False, True], (2, 4))
    assert answer_was_given(["ab", "cd", "ef"], [True, False, True], (1, 4))
    assert answer_was_given(["ab", "cd", "ef"], [True, False, True], (3, 5))


@settings(max_examples=200, deadline=None)
@given(st.text(r"\boxedfrac{}<answer>/$()#0123456789.,= is" + "\n", max_size=60))
def test_the_place_of_an_answer_holds_it(text: str) -> None:
    for name in STRATEGIES:
        found = locate_answer(text, [name])
        if found is not None:
            assert text[found.start : found.end].replace(",", "") == found.answer.replace(",", "")
    assert locate_answer("<think>7</think> so 8") is not None


def test_the_place_after_a_think_part() -> None:
    text = r"<think>\boxed{1}</think> \boxed{\boxed{b}}"
    found = locate_answer(text)
    assert found is not None
    assert (found.answer, text[found.start : found.end]) == ("b", "b")
    assert found.end == len(text) - 2


ANSWERS = st.sampled_from(["3", "x+1", r"\frac{1}{2}", "seven", "1,200", "(2, 5)"])
FORMS = [r"\boxed{%s}", "The answer is %s.", "<answer>%s</answer>", "so we get %s", "%s"]


def bare(text: str) -> str:
    return text.replace(",", "").replace(" ", "")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(FORMS), ANSWERS), min_size=1, max_size=3),
    st.sampled_from([" and ", ", ", " ", ". Then "]),
)
def test_whatever_the_grader_compares_is_covered(parts: list[tuple[str, str]], joint: str) -> None:
    """Every answer that it takes stands in one of the spans: a hint that holds it is seen."""
    text = joint.join(form % answer for form, answer in parts)
    shown = [
        text[start:end].replace(",", "").replace(" ", "") for start, end in compared_spans(text)
    ]
    stated = any(form != "%s" and form != "so we get %s" for form, _ in parts)
    for answer in answers_of(text) if stated else []:
        assert any(bare(answer) in part for part in shown), (text, answer, shown)
