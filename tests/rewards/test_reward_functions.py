"""Rewards by name and their weighted sum, by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards import Verdict
from igpo_lightning.rewards.functions import (
    _REWARDS,
    Graded,
    combine_rewards,
    get_reward,
    register_reward,
    reward_parts,
)

TAGGED = "<reasoning>\n3+4</reasoning><answer>\n\\boxed{7}</answer>"


def graded(text: str = "", right: bool = True, tokens: int = 8) -> Graded:
    return Graded(text, Verdict(right, None if right else "wrong"), tokens, 32)


@pytest.mark.parametrize(
    ("item", "correctness", "format_tags", "length"),
    [
        (graded(TAGGED), 1.0, 0.75, 0.25),
        (graded("7", right=False, tokens=32), 0.0, 0.0, 1.0),
        # Three of four tags once, and a box: 3 * 0.125 + 0.25.
        (graded(TAGGED.replace("</answer>", "")), 1.0, 0.625, 0.25),
        # A tag that stands twice does not count, nor an opening one without a line break.
        (graded("<answer>\n" + TAGGED), 1.0, 0.625, 0.25),
        (graded(TAGGED.replace("\n", "")), 1.0, 0.5, 0.25),
        (graded(TAGGED.replace("boxed", "text")), 1.0, 0.5, 0.25),
    ],
)
def test_each_reward_by_hand(item, correctness, format_tags, length):
    (parts,) = reward_parts([item], ["correctness", "format_tags", "length"])
    assert parts == [correctness, format_tags, length]


def test_the_released_reward_is_three_and_up_to_three_quarters():
    parts = reward_parts(
        [graded(TAGGED), graded(TAGGED, right=False)], ["correctness", "format_tags"]
    )
    assert combine_rewards(parts, {"correctness": 3.0, "format_tags": 1.0}) == [3.75, 0.75]


@given(
    flags=st.lists(st.booleans(), min_size=1, max_size=5),
    weight=st.floats(-3, 3, allow_nan=False),
)
@settings(max_examples=25, deadline=None)
def test_the_sum_is_linear_in_the_weights(flags, weight):
    items = [graded(TAGGED, right) for right in flags]
    parts = reward_parts(items, ["correctness", "length"])
    mixed = combine_rewards(parts, {"correctness": 1.0, "length": weight})
    assert mixed == pytest.approx([float(right) + weight * 0.25 for right in flags])


def test_a_new_reward_is_one_registered_function():
    try:

        @register_reward("exclamation")
        def exclamation(item: Graded) -> float:
            return float("!" in item.text)

        assert reward_parts([graded("7!"), graded("7")], ["exclamation"]) == [[1.0], [0.0]]
        with pytest.raises(ValueError, match="registered already"):
            register_reward("exclamation")(exclamation)
    finally:
        del _REWARDS["exclamation"]


def test_an_unknown_reward_is_named_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"reward.weights.charm: .* known are correctness, format"
    ):
        get_reward("charm")
