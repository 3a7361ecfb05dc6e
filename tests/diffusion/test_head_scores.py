"""Scores made in chunks equal a plain log-softmax, in value and gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.diffusion.head_scores import any_head_scores, linear_head_scores, part_count


def plain(hidden, weight, tokens):
    """All logits, a log-softmax, a gather, and the entropy by its definition."""
    distribution = F.linear(hidden, weight).float().log_softmax(dim=-1)
    logp = distribution.gather(-1, tokens[:, None]).squeeze(-1)
    return logp, -(distribution.exp() * distribution).sum(dim=-1)


def leaves(positions: int, words: int, seed: int, dtype=torch.float32, scale: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(positions, 5, generator=generator)).to(dtype).requires_grad_()
    weight = torch.randn(words, 5, generator=generator).to(dtype).requires_grad_()
    tokens = torch.randint(words, (positions,), generator=generator)
    return hidden, weight, tokens


def compare(score, hidden, weight, tokens, atol: float = 1e-5) -> None:
    direction = torch.randn(len(tokens), generator=torch.Generator().manual_seed(9))
    logp, entropy = score(hidden, weight, tokens)
    gradients = torch.autograd.grad((logp * direction).sum(), (hidden, weight))
    expected, expected_entropy = plain(hidden, weight, tokens)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), (hidden, weight))
    torch.testing.assert_close(logp, expected, atol=atol, rtol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy.detach(), atol=atol, rtol=1e-5)
    assert not entropy.requires_grad
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == other.dtype
        torch.testing.assert_close(gradient, other, atol=atol, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 7), st.integers(2, 23), st.integers(1, 60), st.integers(0, 10**6))
def test_vocabulary_chunks_change_nothing(positions, words, limit, seed):
    """Whatever the chunk, down to one word, and the last one shorter; no position at all, too."""
    compare(
        lambda *leaf: linear_head_scores(*leaf, with_entropy=True, limit=limit),
        *leaves(positions, words, seed),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 7), st.integers(2, 23), st.integers(1, 9), st.integers(0, 10**6))
def test_parts_of_the_positions_change_nothing(positions, words, parts, seed):
    """More parts than positions leave some empty."""
    compare(
        lambda hidden, weight, tokens: any_head_scores(
            lambda h: F.linear(h, weight), hidden, tokens, parts=parts, with_entropy=True
        ),
        *leaves(positions, words, seed),
    )


def test_large_logits_neither_overflow_nor_lose_the_entropy():
    """Logits of several hundred: exp would overflow without the running maximum."""
    hidden, weight, tokens = leaves(6, 17, seed=1, scale=300.0)
    logp, entropy = linear_head_scores(hidden, weight, tokens, with_entropy=True, limit=12)
    expected, expected_entropy = plain(hidden, weight, tokens)
    torch.testing.assert_close(logp, expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy.detach(), atol=1e-3, rtol=1e-4)


def test_values_by_hand():
    """Logits (log 1, log 2, log 5): p = 1/8, 2/8, 5/8 whatever the chunks; H by definition."""
    weight = torch.tensor([[1.0], [2.0], [5.0]]).log()
    logp, entropy = linear_head_scores(
        torch.ones(1, 1), weight, torch.tensor([1]), with_entropy=True, limit=2
    )
    assert logp.item() == pytest.approx(math.log(2 / 8))
    by_hand = -sum(p * math.log(p) for p in (1 / 8, 2 / 8, 5 / 8))
    assert entropy.item() == pytest.approx(by_hand)


def test_gradients_agree_with_finite_differences():
    """In float64 hidden states and weights; the scores themselves are float32, so loosely."""
    hidden, weight, tokens = leaves(3, 7, seed=4, dtype=torch.float64)
    logp, _ = linear_head_scores(hidden, weight, tokens, limit=6)
    (gradient,) = torch.autograd.grad(logp.sum(), hidden)
    step = 1e-2
    for row in range(3):
        for column in range(5):
            moved = torch.zeros_like(hidden)
            moved[row, column] = step
            up, _ = linear_head_scores(hidden + moved, weight, tokens)
            down, _ = linear_head_scores(hidden - moved, weight, tokens)
            slope = float((up - down).sum()) / (2 * step)
            assert float(gradient[row, column]) == pytest.approx(slope, abs=2e-3)


def test_a_frozen_head_gets_no_gradient_and_costs_none():
    hidden, weight, tokens = leaves(4, 9, seed=2)
    frozen = weight.detach()
    logp, _ = linear_head_scores(hidden, frozen, tokens, limit=8)
    logp.sum().backward()
    expected, _ = plain(hidden, weight, tokens)
    (gradient,) = torch.autograd.grad(expected.sum(), hidden)
    torch.testing.assert_close(hidden.grad, gradient)
    assert frozen.grad is None


def test_autocast_makes_logits_as_the_head_itself_would():
    """bfloat16 logits, float32 after them; equal to the plain version under the same autocast."""
    hidden, weight, tokens = leaves(6, 40, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp, entropy = linear_head_scores(hidden, weight, tokens, with_entropy=True, limit=48)
        expected, expected_entropy = plain(hidden, weight, tokens)
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy.detach(), atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(logp.sum(), (hidden, weight))
    references = torch.autograd.grad(expected.sum(), (hidden, weight))
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, atol=0.05, rtol=0.05)  # bfloat16


def test_bfloat16_weights_give_bfloat16_gradients():
    hidden, weight, tokens = leaves(5, 12, seed=5, dtype=torch.bfloat16)
    compare(
        lambda *leaf: linear_head_scores(*leaf, with_entropy=True, limit=15),
        hidden,
        weight,
        tokens,
        atol=0.05,
    )


def test_part_count_keeps_a_part_below_the_limit():
    """1,024 positions of 126,464 words under 2^22 elements: 33.2 positions a part, so 31 parts."""
    assert part_count(1024, 126_464, limit=2**22) == 31
    assert part_count(0, 126_464) == 1
