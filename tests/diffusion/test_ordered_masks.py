"""Masks in an order: exact left-to-right likelihoods by enumeration, and TraceRL's merged steps."""

from itertools import product

import pytest
import torch
from sampler_cases import tiny

from igpo_lightning.diffusion.likelihood import token_scores
from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.ordered_masks import autoregressive_masks, merged_step_masks
from igpo_lightning.settings import LikelihoodConfig

VOCAB, MASK, LENGTH = 5, 0, 3
ALL_ROWS = torch.tensor(list(product(range(VOCAB), repeat=LENGTH)))  # 125 completions


def scores(settings: LikelihoodConfig, key: int = 0):
    """Log-probabilities [125, C] of every completion, and the inputs that gave them."""
    model = tiny(scale=1.0, vocab_size=VOCAB, mask_token_id=MASK, eos_token_id=1)
    prompt = torch.tensor([[2, 3, 4]]).expand(len(ALL_ROWS), -1)
    everywhere = torch.ones_like(ALL_ROWS, dtype=torch.bool)
    inputs = draw_masked_inputs(
        settings,
        ALL_ROWS,
        keys=torch.arange(len(ALL_ROWS)) + 1000 * key,
        live_mask=everywhere,
    )
    with torch.no_grad():
        return token_scores(model, prompt, ALL_ROWS, inputs).logp, inputs


def test_left_to_right_likelihoods_are_a_distribution():
    """Probabilities of all 125 completions add up to 1: nothing is left out or counted twice."""
    logp, _ = scores(LikelihoodConfig("autoregressive"))
    assert float(logp.sum(dim=1).exp().sum()) == pytest.approx(1.0, abs=1e-5)
    prefixes = logp.view(VOCAB, VOCAB, VOCAB, LENGTH)
    # The first token's probability does not depend on what follows.
    assert torch.allclose(prefixes[..., 0], prefixes[:, :1, :1, 0], atol=1e-6)


def test_a_subsample_of_positions_is_unbiased_with_the_stated_variance():
    """m = 2 of F = 3: variance F^2 (1 - m / F) / m = 9 / 6 times that of a row's tokens."""
    whole, _ = scores(LikelihoodConfig("autoregressive"))
    keys = 400
    draws = torch.stack(
        [
            (logp * inputs.credit).sum(dim=1)
            for logp, inputs in (
                scores(LikelihoodConfig("autoregressive", positions=2), key) for key in range(keys)
            )
        ]
    )
    exact = whole.sum(dim=1)
    expected = whole.var(dim=1) * 9 * (1 - 2 / 3) / 2
    error = (draws.mean(dim=0) - exact) / (expected / keys).sqrt()
    assert float(error.abs().max()) < 5  # standard errors, over 125 rows
    ratio = draws.var(dim=0).mean() / expected.mean()
    assert float(ratio) == pytest.approx(1.0, abs=0.05)


def test_positions_more_than_there_are_tokens_leave_inputs_empty():
    free = torch.tensor([[True, False, True]])
    masks, weights = autoregressive_masks(torch.arange(1), free, 5)
    assert masks.shape == (1, 5, 3)
    assert torch.equal(weights.sum(dim=1), free.float())
    assert masks[0, 0].tolist() == [True, False, True]
    assert masks[0, 1].tolist() == [False, False, True]
    assert not masks[0, 2:].any()


def test_merged_steps_group_neighbours_and_leave_the_last_slices_empty():
    """Steps 0, 4, 9 of one row, shrink 2: slices {0, 4} and {9}; the third slice has no step."""
    steps, free = torch.tensor([[4, 0, 9]]), torch.ones(1, 3, dtype=torch.bool)
    masks, weights = merged_step_masks(steps, free, 3, 2)
    assert weights[0].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert masks[0].tolist() == [[True] * 3, [False, False, True], [False] * 3]
    with pytest.raises(ValueError, match="1 slices of 2 steps cannot hold 3 steps"):
        merged_step_masks(steps, free, 1, 2)


def test_separated_inputs_are_rows_that_add_up_to_the_whole():
    logp, inputs = scores(LikelihoodConfig("autoregressive"))
    apart = inputs.separated(partition=True)
    assert apart.masks.shape == (len(ALL_ROWS) * LENGTH, 1, LENGTH)
    model = tiny(scale=1.0, vocab_size=VOCAB, mask_token_id=MASK, eos_token_id=1)
    rows = ALL_ROWS.repeat_interleave(LENGTH, dim=0)
    prompt = torch.tensor([[2, 3, 4]]).expand(len(rows), -1)
    with torch.no_grad():
        parts = token_scores(model, prompt, rows, apart).logp
    torch.testing.assert_close(parts.view(-1, LENGTH, LENGTH).sum(dim=1), logp)
    assert torch.equal(
        apart.scored.view(-1, LENGTH, LENGTH),
        torch.eye(LENGTH, dtype=torch.bool).expand(len(ALL_ROWS), -1, -1),
    )
