"""Which masked positions a denoising step commits: how many, and which of them.

A *strategy* scores the masked positions (higher is committed first), the *schedule* says how many a
step commits, and a *parallel rule* lets the scores themselves decide how many.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, uniform

RANDOM_STREAM = 0x72616E64  # the stream of row keys that the strategy "random" draws from

# ---- strategies: how sure the model is of a position ------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """M masked positions with the token that was drawn for each.

    Attributes:
        logits: [M, V] float32, -inf at tokens that are never allowed.
        filtered: [M, V], what the tokens were drawn from: `logits` after temperature, top-k and
            top-p, where any of these or the strategy asks for it.
        tokens: [M].
        keys: [M] int64, one random key a position; None where nothing is random.
    """

    logits: Tensor
    filtered: Tensor
    tokens: Tensor
    keys: Tensor | None


def _margin(logits: Tensor) -> Tensor:
    """Top-1 minus top-2 probability [M] of logits [M, V]."""
    top = logits.topk(2, dim=-1).values.float()
    probability = (top - logits.logsumexp(dim=-1, keepdim=True)).exp()
    return probability[:, 0] - probability[:, 1]


def low_confidence(candidates: Candidates) -> Tensor:
    """Softmax probability [M] of the drawn token (LLaDA, arXiv 2502.09992)."""
    logits = candidates.logits
    chosen = logits.gather(-1, candidates.tokens[:, None]).squeeze(-1)
    return (chosen - logits.logsumexp(dim=-1)).exp()


def random(candidates: Candidates) -> Tensor:
    """Uniform in (0, 1), [M]: the order of unmasking says nothing about the model."""
    assert candidates.keys is not None
    return uniform(fold(candidates.keys, RANDOM_STREAM)).float()


def entropy(candidates: Candidates) -> Tensor:
    """Negative entropy [M] in nats of the model's distribution (Dream's `entropy`)."""
    logits = candidates.logits
    logp = logits - logits.logsumexp(dim=-1, keepdim=True)
    return torch.special.entr(logp.exp()).sum(dim=-1).neg()


def margin(candidates: Candidates) -> Tensor:
    """Top-1 minus top-2 probability [M] of the model's distribution (arXiv 2502.06768)."""
    return _margin(candidates.logits)


def topk_margin(candidates: Candidates) -> Tensor:
    """The margin of what tokens are drawn from, after temperature, top-k and top-p (as Dream)."""
    return _margin(candidates.filtered)


def sequential(candidates: Candidates) -> Tensor:
    """The same score [M] for all: equal scores go to the earlier position (SDAR)."""
    return torch.zeros_like(candidates.tokens, dtype=torch.float32)


STRATEGIES: dict[str, Callable[[Candidates], Tensor]] = {
    "sequential": sequential,
    "low_confidence": low_confidence,
    "random": random,
    "entropy": entropy,
    "margin": margin,
    "topk_margin": topk_margin,
}

# ---- the schedule: how many positions each step of a block commits ----------------------------


def commit_schedule(masked_count: Tensor, steps: int) -> Tensor:
    """How many positions each step of a block commits: [B] masked positions -> [B, steps].

    Equal shares, the remainder to the earliest steps (LLaDA): rows sum to their count.
    """
    base = masked_count[:, None] // steps
    remainder = masked_count[:, None] % steps
    return base + (torch.arange(steps, device=masked_count.device) < remainder)


# ---- choosing positions -----------------------------------------------------------------------


def in_front(mask: Tensor) -> Tensor:
    """Positions of each row [..., K], first those where `mask` [..., K] holds, both in order.

    `nonzero` would give the first ones alone, but wait for the device to count them.
    """
    return mask.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)


def ranks(scores: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [..., K] from best to worst, and each position's rank [..., K] among them.

    Positions that are no candidates come last; equal scores go to the earlier position.
    """
    candidates = candidates.expand_as(scores)
    ranked = scores.masked_fill(~candidates, -torch.inf)
    # Two stable sorts: candidates stay in front even of -inf scores of their own.
    by_score = ranked.sort(dim=-1, descending=True, stable=True).indices
    order = by_score.gather(-1, in_front(candidates.gather(-1, by_score)))
    rank = torch.empty_like(order)
    rank.scatter_(-1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order))
    return ranked.gather(-1, order), rank


def most_confident(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Choose the `counts` [B] best of the `candidates` [B, K].

    Returns:
        Mask [B, K] of the chosen positions; equal scores go to the earlier position.
    """
    _, rank = ranks(scores, candidates)
    return (rank < counts[:, None]) & candidates


def above_threshold(confidence: Tensor, candidates: Tensor, threshold: float) -> Tensor:
    """Choose every candidate whose confidence is at least `threshold`, and always the best one.

    Fast-dLLM's confidence-aware parallel decoding (arXiv 2505.22618). All arguments and the result
    are [B, K] but the threshold.
    """
    _, rank = ranks(confidence, candidates)
    return ((confidence >= threshold) | (rank == 0)) & candidates


def within_factor(confidence: Tensor, candidates: Tensor, factor: float) -> Tensor:
    """Choose the largest n best candidates with (n + 1)(1 - c_n) < factor, and always the best.

    c_n is the n-th highest confidence: Fast-dLLM's factor-based rule (arXiv 2505.22618, Theorem 1),
    which bounds how far the product of marginals is from the joint distribution.
    """
    best, rank = ranks(confidence, candidates)
    number = torch.arange(1, best.shape[1] + 1, device=best.device)
    # (n + 1)(1 - c_n) grows with n, so the n that satisfy the bound are the first ones.
    count = ((number + 1) * (1 - best) < factor).sum(dim=1).clamp(min=1)
    return (rank < count[:, None]) & candidates


def within_entropy(confidence: Tensor, candidates: Tensor, bound: float) -> Tensor:
    """Choose the best candidates whose -c ln c sums to less than `bound`, and always the best.

    DreamReasoner's form of the entropy-bounded rule (EB-Sampler, arXiv 2505.24857): of a position's
    entropy it takes the term of the drawn token, and ranks by it. All arguments and the result are
    [B, K] but the bound.
    """
    terms = torch.special.entr(confidence.clamp(min=1e-12))
    cheapest, rank = ranks(-terms, candidates)
    cost = cheapest.neg().masked_fill(cheapest == -torch.inf, torch.inf).cumsum(dim=1)
    count = (cost < bound).sum(dim=1).clamp(min=1)
    return (rank < count[:, None]) & candidates


def remasked(committed: Tensor, keys: Tensor, probability: float, limit: Tensor) -> Tensor:
    """Which committed positions to mask again: each with `probability`, at most `limit` a row.

    ReMDM's remasking (arXiv 2503.00307) with a constant probability; the step then commits that
    many more, so that the number of masked positions follows the schedule.

    Args:
        committed: [B, K], True at positions that a step has committed: never hints.
        keys: [B, K] int64, one random key a position.
        probability: sigma, in [0, 1).
        limit: [B], positions that will still be masked after the step.

    Returns:
        Mask [B, K].
    """
    drawn = uniform(keys)
    chosen = committed & (drawn < probability)
    _, rank = ranks(-drawn, chosen)
    return chosen & (rank < limit[:, None])
