"""Which masked positions a denoising step commits."""

import torch
from torch import Tensor


def commit_schedule(masked_count: Tensor, steps: int) -> Tensor:
    """How many positions each step of a block commits: [B] masked positions -> [B, steps].

    Equal shares, the remainder to the earliest steps (LLaDA's schedule). Rows sum to their count.
    """
    base = masked_count[:, None] // steps
    remainder = masked_count[:, None] % steps
    return base + (torch.arange(steps, device=masked_count.device) < remainder)


def most_confident(confidence: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Choose the `counts` [B] most confident of the `candidates` [B, K] (low-confidence remasking).

    Returns:
        Mask [B, K] of the chosen positions; equal confidences go to the earlier position.
    """
    ranked = confidence.masked_fill(~candidates, -torch.inf)
    order = ranked.sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return (rank < counts[:, None]) & candidates
