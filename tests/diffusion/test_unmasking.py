"""Strategies, schedules and the choice of positions, by hand-made numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from igpo_lightning.diffusion.unmasking import (
    STRATEGIES,
    Candidates,
    above_threshold,
    commit_schedule,
    most_confident,
    remasked,
    within_factor,
)


def candidates(probabilities: list[list[float]], tokens: list[int]) -> Candidates:
    logits = torch.tensor(probabilities).log()
    return Candidates(logits, logits * 2, torch.tensor(tokens), torch.arange(len(tokens)))


def test_strategies_by_hand() -> None:
    """Row 0: (0.5, 0.3, 0.2), token 1 drawn. Row 1: (0.25, 0.25, 0.5), token 2 drawn."""
    rows = candidates([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]], [1, 2])

    def scores(name: str) -> list[float]:
        return STRATEGIES[name](rows).tolist()

    assert scores("low_confidence") == pytest.approx([0.3, 0.5])
    negative = [sum(p * math.log(p) for p in row) for row in ([0.5, 0.3, 0.2], [0.25, 0.25, 0.5])]
    assert scores("entropy") == pytest.approx(negative)
    assert scores("margin") == pytest.approx([0.2, 0.25])
    # Twice the logits square the probabilities: (25, 9, 4) / 38 and (1, 1, 4) / 6.
    assert scores("topk_margin") == pytest.approx([16 / 38, 3 / 6])


def test_random_scores_come_from_the_keys_alone() -> None:
    one = STRATEGIES["random"](candidates([[0.5, 0.5], [0.5, 0.5]], [0, 1]))
    other = STRATEGIES["random"](candidates([[0.9, 0.1], [0.2, 0.8]], [1, 1]))
    assert torch.equal(one, other)
    assert one[0] != one[1]


def test_the_schedule_by_hand() -> None:
    """10 / 4 = 2, and the remainder 2 goes to the first two steps."""
    assert commit_schedule(torch.tensor([10]), 4).tolist() == [[3, 3, 2, 2]]


@given(counts=st.lists(st.integers(0, 64), min_size=1, max_size=5), steps=st.integers(1, 70))
def test_the_schedule_commits_everything_and_never_less_than_nothing(
    counts: list[int], steps: int
) -> None:
    schedule = commit_schedule(torch.tensor(counts), steps)
    assert schedule.shape == (len(counts), steps)
    assert schedule.sum(dim=1).tolist() == counts
    assert (schedule >= 0).all()


def test_equal_scores_go_to_the_earlier_position_and_only_candidates_are_chosen() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.5]])
    free = torch.tensor([[True, False, True, True]])
    chosen = most_confident(scores, free, torch.tensor([2]))
    assert chosen.tolist() == [[True, False, True, False]]


def test_a_candidate_of_score_minus_infinity_still_comes_before_what_is_no_candidate() -> None:
    scores = torch.tensor([[0.5, -torch.inf, 0.2]])
    free = torch.tensor([[False, True, False]])
    assert most_confident(scores, free, torch.tensor([1])).tolist() == [[False, True, False]]


def test_threshold_commits_at_least_the_best() -> None:
    confidence = torch.tensor([[0.3, 0.8, 0.5], [0.1, 0.2, 0.15]])
    free = torch.ones(2, 3, dtype=torch.bool)
    assert above_threshold(confidence, free, 0.5).tolist() == [
        [False, True, True],
        [False, True, False],
    ]


def test_factor_by_hand() -> None:
    """c = 0.9, 0.8, 0.5: (n + 1)(1 - c_n) = 2 * 0.1, 3 * 0.2, 4 * 0.5 = 0.2, 0.6, 2.0."""
    confidence, free = torch.tensor([[0.8, 0.5, 0.9]]), torch.ones(1, 3, dtype=torch.bool)
    assert within_factor(confidence, free, 1.0).tolist() == [[True, False, True]]
    assert within_factor(confidence, free, 2.1).tolist() == [[True, True, True]]
    assert within_factor(confidence, free, 0.1).tolist() == [[False, False, True]]


@given(
    confidence=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8),
    bits=st.integers(0, 255),
    threshold=st.floats(0, 1),
)
def test_parallel_rules_commit_only_candidates_and_at_least_one(
    confidence: list[float], bits: int, threshold: float
) -> None:
    free = torch.tensor([[bool(bits >> i & 1) for i in range(len(confidence))]])
    for rule in (above_threshold, within_factor):
        chosen = rule(torch.tensor([confidence]), free, max(threshold, 1e-3))
        assert not (chosen & ~free).any()
        assert chosen.any() == free.any()


def remask(committed: Tensor, probability: float, limit: int) -> Tensor:
    keys = torch.arange(committed.numel()).view_as(committed)
    return remasked(committed, keys, probability, torch.full((len(committed),), limit))


def test_remasking_keeps_to_committed_positions_the_probability_and_the_limit() -> None:
    committed = torch.arange(4000).view(4, 1000) % 2 == 0  # 500 a row
    chosen = remask(committed, 0.3, 1000)
    assert not (chosen & ~committed).any()
    # 2000 draws of probability 0.3: standard deviation sqrt(0.3 * 0.7 / 2000) = 0.0102.
    assert abs(chosen.sum() / 2000 - 0.3) < 0.04
    assert remask(committed, 0.3, 7).sum(dim=1).tolist() == [7, 7, 7, 7]
    assert not remask(committed, 0.0, 1000).any()
