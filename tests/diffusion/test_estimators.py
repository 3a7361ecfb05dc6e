"""Which masks each estimator draws, checked by counting, and their bias by enumeration."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.diffusion.block_masks import every_block_counts
from igpo_lightning.diffusion.estimators import (
    elbo_masks,
    mean_field_masks,
    quadrature_masks,
    spread_counts,
    strata_masks,
)
from igpo_lightning.diffusion.ordered_masks import step_order, trajectory_masks
from igpo_lightning.settings import LikelihoodConfig
from igpo_lightning.settings.likelihood import COUPLINGS

cases = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**40))
small = settings(max_examples=30, deadline=None)


def drawn(case: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [B] and free tokens [B, C]; a row may have none."""
    rows, length, seed = case
    generator = torch.Generator().manual_seed(seed)
    free = torch.rand(rows, length, generator=generator) < 0.7
    return torch.arange(rows) + seed, free


def all_estimators(keys, free):
    yield mean_field_masks(free)
    for coupling in COUPLINGS:
        yield elbo_masks(keys, free, 4, coupling)
        yield quadrature_masks(keys, free, 3, 2, coupling)
        yield quadrature_masks(keys, free, 2, 1, coupling, fixed_counts=True)
    yield strata_masks(keys, free, 3)
    yield trajectory_masks(torch.arange(free.shape[1]).expand_as(free) // 2, free, 3)


@small
@given(cases)
def test_only_free_tokens_are_masked_and_only_masked_tokens_are_scored(case):
    keys, free = drawn(case)
    for masks, weights in all_estimators(keys, free):
        assert not (masks & ~free[:, None]).any()
        assert not ((weights > 0) & ~masks).any()
        assert weights.dtype == torch.float32


@small
@given(cases)
def test_a_rows_masks_do_not_depend_on_the_other_rows(case):
    keys, free = drawn(case)
    whole = list(all_estimators(keys, free))
    for row in range(len(keys)):
        alone = all_estimators(keys[row : row + 1], free[row : row + 1])
        for (masks, weights), (own_masks, own_weights) in zip(whole, alone, strict=True):
            assert torch.equal(masks[row], own_masks[0])
            assert torch.equal(weights[row], own_weights[0])


@small
@given(cases, st.integers(1, 5))
def test_strata_score_each_free_token_once_in_parts_of_equal_size(case, strata):
    keys, free = drawn(case)
    masks, weights = strata_masks(keys, free, strata)
    assert torch.equal(masks.float(), weights)
    assert torch.equal(masks.sum(dim=1), free.long())
    sizes = masks.sum(dim=2)
    assert (sizes.amax(dim=1) - sizes.amin(dim=1) <= 1).all()


@small
@given(cases)
def test_elbo_weights_are_the_inverse_of_the_masked_share(case):
    keys, free = drawn(case)
    for coupling in COUPLINGS:
        masks, weights = elbo_masks(keys, free, 2, coupling)
        for row in range(len(keys)):
            total = int(free[row].sum())
            for n in range(2):
                count = int(masks[row, n].sum())
                assert count >= min(1, total)
                if total:  # l tokens with weight F / (2 l): together F / 2
                    assert float(weights[row, n].sum()) == pytest.approx(total / 2)


@small
@given(cases)
def test_an_antithetic_pair_masks_every_token_and_one_twice(case):
    keys, free = drawn(case)
    masks, _ = elbo_masks(keys, free, 4, "antithetic")
    for pair in (masks[:, :2], masks[:, 2:]):
        assert torch.equal(pair.any(dim=1), free)
        assert torch.equal(pair.all(dim=1).sum(dim=1), free.any(dim=1).long())


@small
@given(cases)
def test_antithetic_quadrature_masks_of_mirrored_nodes_are_complementary(case):
    keys, free = drawn(case)
    for fixed_counts in (False, True):
        masks, _ = quadrature_masks(keys, free, 2, 3, "antithetic", fixed_counts)
        for sample in range(3):  # inputs: t1, t2, t1, t2, t1, t2
            first, second = masks[:, 2 * sample], masks[:, 2 * sample + 1]
            assert torch.equal(first ^ second, free)


@small
@given(cases)
def test_fixed_counts_are_the_masked_share_rounded_up_or_down(case):
    keys, free = drawn(case)
    total = free.sum(dim=1)
    for coupling in COUPLINGS:
        masks, _ = quadrature_masks(keys, free, 2, 2, coupling, fixed_counts=True)
        for n, time in enumerate((0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6) * 2):
            counts = masks[:, n].sum(dim=1)
            assert ((counts - time * total).abs() < 1).all()


def test_fixed_counts_leave_each_token_its_probability():
    """7 tokens at t = 0.211: one or two are masked, each token in a share t of 20,000 rows."""
    keys, free = torch.arange(20_000), torch.ones(20_000, 7, dtype=torch.bool)
    for coupling in COUPLINGS:
        masks, _ = quadrature_masks(keys, free, 2, 1, coupling, fixed_counts=True)
        for node, time in enumerate((0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6)):
            shares = masks[:, node].float().mean(dim=0)  # standard error 0.003
            assert shares.tolist() == pytest.approx([time] * 7, abs=0.015)


def test_shared_masks_are_nested():
    keys, free = torch.arange(50), torch.ones(50, 20, dtype=torch.bool)
    masks, _ = quadrature_masks(keys, free, 2, 1, "shared")
    assert not (masks[:, 0] & ~masks[:, 1]).any()
    masks, _ = elbo_masks(keys, free, 2, "shared")
    smaller, larger = masks.sum(dim=2).argmin(dim=1), masks.sum(dim=2).argmax(dim=1)
    rows = torch.arange(50)
    assert not (masks[rows, smaller] & ~masks[rows, larger]).any()


def test_quadrature_weights_are_those_of_gauss_and_legendre():
    """Two nodes on [0, 1]: t = 1/2 -+ sqrt(3)/6 with weight 1/2 each; a masked token: 1 / (2 t)."""
    keys, free = torch.arange(2000), torch.ones(2000, 10, dtype=torch.bool)
    masks, weights = quadrature_masks(keys, free, 2, 1)
    for node, time in enumerate((0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6)):
        assert torch.unique(weights[:, node]).tolist() == pytest.approx([0, 0.5 / time])
        # 20,000 coins: standard error below 0.0035
        assert float(masks[:, node].float().mean()) == pytest.approx(time, abs=0.015)


def test_the_trajectory_shows_earlier_slices_and_masks_later_ones():
    """Steps 0, 3, 3, 5, 9 are five tokens in four distinct steps; two slices of two steps each:
    {0, 3} and {5, 9}. The hint (-1) is held visible."""
    steps = torch.tensor([[5, 3, -1, 0, 9, 3]])
    free = torch.tensor([[True, True, False, True, True, True]])
    masks, weights = trajectory_masks(steps, free, 2)
    assert masks[0].long().tolist() == [[1, 1, 0, 1, 1, 1], [1, 0, 0, 0, 1, 0]]
    assert weights[0].tolist() == [[0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 1, 0]]


def test_masked_hints_are_scored_in_the_first_slice():
    """Distinct steps -1, 4, 7: with three slices each has one, the hints are first."""
    steps = torch.tensor([[-1, 7, 4, -1]])
    masks, weights = trajectory_masks(steps, torch.ones(1, 4, dtype=torch.bool), 3)
    assert weights[0].long().tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert masks[0].long().tolist() == [[1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0, 0]]


@small
@given(cases, st.integers(1, 6))
def test_trajectory_slices_score_every_free_token_once(case, slices):
    keys, free = drawn(case)
    steps = (keys[:, None] * 7 + torch.arange(free.shape[1]) * 5) % 11
    _, weights = trajectory_masks(steps, free, slices)
    assert torch.equal(weights.sum(dim=1), free.float())


def test_step_order_counts_distinct_steps_of_the_chosen_tokens():
    places, steps = step_order(
        torch.tensor([[8, 2, 8, 5]]), torch.tensor([[True, False, True, True]])
    )
    assert places[0, [0, 2, 3]].tolist() == [1, 1, 0]
    assert steps.tolist() == [[2]]


# ---- bias and variance on the 3-token, 4-word model -----------------------------------------


def test_the_enumerated_likelihood_is_a_distribution_above_its_bound(estimator_benchmark):
    model = estimator_benchmark.TableModel()
    exact = [
        estimator_benchmark.exact_log_likelihoods(model, words)
        for words in product(range(4), repeat=3)
    ]
    assert sum(math.exp(log) for log, _ in exact) == pytest.approx(1)
    assert all(bound < log for log, bound in exact)


@pytest.mark.parametrize(
    "name",
    [
        "elbo, n = 2",
        "elbo, n = 2, shared",
        "elbo, n = 2, antithetic",
        "quadrature, 2 nodes",
        "quadrature, 2 nodes, antithetic",
        "trajectory, k = 3",
    ],
)
def test_unbiased_estimators_of_the_bound(estimator_benchmark, name):
    """Also two Gauss nodes: for 3 tokens the integrand has degree 2, and they are exact to 3.
    A trajectory whose order is uniformly random, one step a slice, draws from the bound itself."""
    model, words, draws = estimator_benchmark.TableModel(), (2, 0, 3), 20_000
    _, bound = estimator_benchmark.exact_log_likelihoods(model, words)
    chosen = estimator_benchmark.ESTIMATORS[name]
    mean, variance = estimator_benchmark.moments(model, chosen, words, draws, seed=5)
    assert abs(mean - bound) < 4 * math.sqrt(variance / draws)


def test_one_quadrature_node_is_the_integrand_at_one_half(estimator_benchmark):
    """f(1/2) = sum over the 8 masks S of 1/8 * 2 * sum of log p(k | rest) over k in S: by
    enumeration, and not the bound (degree 2, one node is exact to 1)."""
    model, words, draws = estimator_benchmark.TableModel(), (2, 0, 3), 20_000
    integrand = 0.0
    for masked in product((False, True), repeat=3):
        visible = {k for k in range(3) if not masked[k]}
        integrand += sum(model.logp(words, visible, k) for k in range(3) if masked[k]) * 2 / 8
    chosen = estimator_benchmark.ESTIMATORS["quadrature, 1 node"]
    mean, variance = estimator_benchmark.moments(model, chosen, words, draws, seed=5)
    assert abs(mean - integrand) < 4 * math.sqrt(variance / draws)
    _, bound = estimator_benchmark.exact_log_likelihoods(model, words)
    assert abs(integrand - bound) > 0.01


def test_two_strata_by_enumeration(estimator_benchmark):
    """Three tokens make strata of 2 and 1; each token is the single one in a third of the draws:
    it sees both others, which see it alone."""
    model, words, draws = estimator_benchmark.TableModel(), (2, 0, 3), 20_000
    values = []
    for single in range(3):
        others = {0, 1, 2} - {single}
        values.append(
            model.logp(words, others, single) + sum(model.logp(words, {single}, k) for k in others)
        )
    expected = sum(values) / 3
    chosen = estimator_benchmark.ESTIMATORS["strata, k = 2"]
    mean, variance = estimator_benchmark.moments(model, chosen, words, draws, seed=5)
    assert abs(mean - expected) < 4 * math.sqrt(variance / draws)
    assert variance == pytest.approx(sum((v - expected) ** 2 for v in values) / 3, rel=0.05)


def test_mean_field_and_single_token_strata_by_hand(estimator_benchmark):
    """Everything masked: sum of log p(k | nothing). Three strata: sum of log p(k | the others)."""
    model, words = estimator_benchmark.TableModel(), (1, 1, 2)
    alone = sum(model.logp(words, set(), k) for k in range(3))
    given_rest = sum(model.logp(words, {0, 1, 2} - {k}, k) for k in range(3))
    for chosen, expected in (
        (LikelihoodConfig("mean_field"), alone),
        (LikelihoodConfig("strata", strata=3), given_rest),
    ):
        mean, variance = estimator_benchmark.moments(model, chosen, words, 50, seed=0)
        assert mean == pytest.approx(expected, abs=1e-5)
        assert variance < 1e-9


def test_the_upper_bound_lies_above_the_lower_one(estimator_benchmark):
    """With many masks; by Jensen log E[w p^beta] / beta >= E[w log p], since E[w] = 1."""
    model, draws = estimator_benchmark.TableModel(), 50
    upper = LikelihoodConfig("sandwich", samples=64, upper_share=1.0)
    for words in ((2, 0, 3), (1, 1, 1)):
        _, bound = estimator_benchmark.exact_log_likelihoods(model, words)
        mean, _ = estimator_benchmark.moments(model, upper, words, draws, seed=1)
        assert mean > bound


def test_bgpos_counts_are_spread_evenly():
    """F = 8, N = 3, from 8: 8, 10.67 and 13.33, rounded and modulo 8."""
    assert spread_counts(torch.tensor([8]), torch.tensor([8]), 3).tolist() == [[8, 3, 5]]


def test_ebpos_counts_are_spread_over_masks_and_blocks():
    """Times 0, 1/4, 1/2, 3/4 of two masks and two blocks; a block without tokens takes none."""
    sizes = torch.tensor([[4, 4, 0]])
    counts = every_block_counts(torch.zeros(1), sizes, 2)
    assert counts.tolist() == [[[1, 2, 0], [3, 4, 0]]]
    later = every_block_counts(torch.tensor([0.8]), torch.tensor([[4]]), 2)  # times 0.8 and 0.3
    assert later.tolist() == [[[4], [2]]]
