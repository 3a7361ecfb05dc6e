"""Group-relative advantages, by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rl import group_advantages
from igpo_lightning.rl.advantages import (
    ADVANTAGES,
    accuracy_within,
    informative_groups,
    summed_advantages,
)
from igpo_lightning.settings import objective

# Those that sum to 0 over a group and compare it with nothing else.
KINDS = tuple(kind for kind in ADVANTAGES if kind not in ("batch", "wd1_positive"))

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


@given(rewards=rewards_of_groups, kind=st.sampled_from(KINDS))
@settings(max_examples=50, deadline=None)
def test_advantages_sum_to_zero_and_equal_rewards_have_none(rewards, kind):
    rewards = torch.tensor(rewards)
    advantages = group_advantages(rewards, kind)
    assert advantages.shape == rewards.shape
    torch.testing.assert_close(advantages.sum(dim=1), torch.zeros(len(rewards)), atol=1e-4, rtol=0)
    uniform = ~informative_groups(rewards)
    assert bool((advantages[uniform].abs() < 1e-6).all())


@given(rewards=rewards_of_groups, kind=st.sampled_from(KINDS))
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


@pytest.mark.parametrize("kind", ["mean", "std", "z_score", "batch", "loo", "wd1"])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, 3.3, 1e-3])
def test_equal_rewards_have_no_advantage_whatever_float32_makes_of_their_mean(kind, reward):
    """Eight times 0.1 have the mean 0.1 + 1.5e-9: a deviation of that size would make it 1."""
    for size in (3, 5, 7, 8, 16):
        advantages = group_advantages(torch.full((1, size), reward), kind)
        assert torch.equal(advantages, torch.zeros(1, size))


def test_the_population_z_score():
    """Rewards 1, 0, 0, 0: mean 1/4, variance 3/16, so 3/4 over sqrt(3)/4 and -1/4 over it."""
    advantages = group_advantages(torch.tensor([[1.0, 0, 0, 0]]), "z_score")
    root = 3**0.5
    torch.testing.assert_close(advantages, torch.tensor([[root, *([-1 / root] * 3)]]))


def test_batch_scaling_divides_by_the_deviation_of_all_rewards():
    """Rewards 2, 0 and 1, 1: their mean is 1, the squares 1 + 1 over 3, deviation sqrt(2/3)."""
    advantages = group_advantages(torch.tensor([[2.0, 0], [1, 1]]), "batch", epsilon=0.0)
    scale = (2 / 3) ** -0.5
    torch.testing.assert_close(advantages, torch.tensor([[scale, -scale], [0.0, 0.0]]))


def test_normalize_then_sum_gives_each_reward_the_same_say():
    """One reward is 0 or 100, one 0 or 1: of two samples with one each, neither is ahead."""
    parts = torch.tensor([[[100.0, 0.0], [0.0, 1.0], [0.0, 0.0], [100.0, 1.0]]])
    advantages = summed_advantages(parts, epsilon=0.0)[0]
    torch.testing.assert_close(advantages[0], advantages[1])
    assert advantages[2] < advantages[0] < advantages[3]


def test_accuracy_within_counts_its_ends():
    """Of ten answers 0, 1, 2, 8 and 9 right: 2 and 8 lie within 0.2 and 0.8."""
    correct = torch.arange(10) < torch.tensor([0, 1, 2, 8, 9])[:, None]
    assert accuracy_within(correct, 0.2, 0.8).tolist() == [False, False, True, True, False]


def test_the_settings_know_every_kind():
    assert (*ADVANTAGES, "normalize_then_sum") == objective.ADVANTAGES


@given(
    value=st.floats(-1e6, 1e6, width=32),
    others=st.lists(st.floats(-10, 10, width=32), min_size=5, max_size=5),
    kind=st.sampled_from([kind for kind in ADVANTAGES if kind != "wd1_positive"]),
)
@settings(max_examples=100, deadline=None)
def test_equal_rewards_have_no_advantage_to_the_last_bit(value, others, kind):
    """Whatever rounding leaves of a mean of five, and beside a group of other rewards."""
    rewards = torch.tensor([[value] * 5, others])
    assert group_advantages(rewards, kind)[0].tolist() == [0.0] * 5
    parts = torch.stack((rewards, 0.1 * rewards), dim=2)
    assert summed_advantages(parts)[0].tolist() == [0.0] * 5
