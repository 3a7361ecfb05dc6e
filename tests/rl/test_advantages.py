"""Group-relative advantages, by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rl import group_advantages
from igpo_lightning.rl.advantages import informative_groups
from igpo_lightning.settings.objective import ADVANTAGES

rewards_of_groups = st.integers(2, 8).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=size, max_size=size),
        min_size=1,
        max_size=3,
    )
)


def test_mean_centred():
    """Mean of 1, 0, 0, 1 is 0.5; of 3, 1, 1, 1 it is 1.5."""
    rewards = torch.tensor([[1.0, 0, 0, 1], [3, 1, 1, 1]])
    expected = torch.tensor([[0.5, -0.5, -0.5, 0.5], [1.5, -0.5, -0.5, -0.5]])
    torch.testing.assert_close(group_advantages(rewards), expected)
    torch.testing.assert_close(group_advantages(rewards, "dr_grpo"), expected)


def test_std_divides_by_the_sample_deviation():
    """Rewards 3, 1, 1, 1: squares 2.25 + 3 * 0.25 = 3, over G - 1 = 3, deviation 1."""
    advantages = group_advantages(torch.tensor([[3.0, 1, 1, 1]]), "std")
    expected = torch.tensor([[1.5, -0.5, -0.5, -0.5]])
    torch.testing.assert_close(advantages, expected, atol=2e-4, rtol=0)


def test_leave_one_out_compares_with_the_mean_of_the_others():
    """Rewards 1, 0, 0, 1: the others of the first average 1/3, of the second 2/3."""
    advantages = group_advantages(torch.tensor([[1.0, 0, 0, 1]]), "loo")
    torch.testing.assert_close(advantages, torch.tensor([[2 / 3, -2 / 3, -2 / 3, 2 / 3]]))


def test_wd1_is_the_difference_of_two_softmaxes():
    """Rewards 1, 0: centred 1/2, -1/2; w+ = 1 / (1 + e^-1) = 0.7311 and w- = 0.2689 for the first.

    G (w+ - w-) = 2 * 0.4621 = 0.9242, which is 2 tanh(1/2).
    """
    advantages = group_advantages(torch.tensor([[1.0, 0.0]]), "wd1")
    torch.testing.assert_close(advantages, torch.tensor([[0.92423, -0.92423]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("right", range(1, 8))
def test_after_replacement_advantages_are_1_minus_k_over_g_and_minus_k_over_g(right):
    """K right of G = 8: the mean is K / 8, so right ones get 1 - K/8 and wrong ones -K/8."""
    rewards = torch.tensor([[1.0] * right + [0.0] * (8 - right)])
    advantages = group_advantages(rewards)[0]
    assert advantages[:right].tolist() == [1 - right / 8] * right
    assert advantages[right:].tolist() == [-right / 8] * (8 - right)


@given(rewards=rewards_of_groups, kind=st.sampled_from(ADVANTAGES))
@settings(max_examples=50, deadline=None)
def test_advantages_sum_to_zero_and_equal_rewards_have_none(rewards, kind):
    rewards = torch.tensor(rewards)
    advantages = group_advantages(rewards, kind)
    assert advantages.shape == rewards.shape
    torch.testing.assert_close(advantages.sum(dim=1), torch.zeros(len(rewards)), atol=1e-4, rtol=0)
    uniform = ~informative_groups(rewards)
    assert bool((advantages[uniform].abs() < 1e-6).all())


@given(rewards=rewards_of_groups, kind=st.sampled_from(ADVANTAGES))
@settings(max_examples=25, deadline=None)
def test_a_group_knows_nothing_of_the_other_groups(rewards, kind):
    rewards = torch.tensor(rewards)
    together = group_advantages(rewards, kind)
    alone = torch.cat([group_advantages(row[None], kind) for row in rewards])
    torch.testing.assert_close(together, alone)


def test_groups_are_informative_when_their_rewards_differ():
    rewards = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 1], [3.75, 3.75, 3]])
    assert informative_groups(rewards).tolist() == [False, False, True, True]


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'median' is unknown"):
        group_advantages(torch.zeros(1, 2), "median")
