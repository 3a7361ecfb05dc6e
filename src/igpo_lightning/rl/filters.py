"""Which tokens of a completion get gradient."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("entropy", "entropy_all", "threshold", "none")


@dataclass(frozen=True)
class FilterSettings:
    """Which live tokens count; entropy is the old policy's, at the input that is scored.

    Attributes:
        kind: "entropy": of a row's hint tokens the most uncertain share, and every generated token
            (the paper); "entropy_all": the most uncertain share of all live tokens (arXiv
            2506.01939); "threshold": hint tokens with at least `threshold` nats, and every
            generated token; "none": all.
        keep_fraction: tau in (0, 1] (the paper: 0.2).
        threshold: Nats; for "threshold" alone.
    """

    kind: str = "entropy"
    keep_fraction: float = 0.2
    threshold: float = 0.0


def top_entropy(entropy: Tensor, candidates: Tensor, keep_fraction: float) -> Tensor:
    """The most uncertain candidates of each row, all [B, C].

    Of n candidates ceil(keep_fraction * n) are kept, at least one where there are any; among equal
    entropies the earlier position wins.
    """
    counts = [
        # The small term keeps 0.2 * 15 from becoming 4.
        min(n, max(1, math.ceil(keep_fraction * n - 1e-9)))
        for n in candidates.sum(dim=1).tolist()
    ]
    ranked = entropy.masked_fill(~candidates, -torch.inf)
    order = ranked.sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return candidates & (rank < torch.tensor(counts, device=entropy.device)[:, None])


def entropy_filter(
    entropy: Tensor, hint_mask: Tensor, live_mask: Tensor, keep_fraction: float
) -> Tensor:
    """Keep the most uncertain hint tokens (arXiv 2509.10396, entropy-based gradient filtering).

    Hints are off-policy: where the policy is sure of something else, their gradient is large and
    harmful; where it is undecided, they teach.

    Args:
        entropy: [B, C], under the old policy.
        hint_mask: [B, C], True at hint tokens.
        live_mask: [B, C], True up to and including the first EOS.
        keep_fraction: tau in [0, 1]. Of the n live hint tokens of a row ceil(tau * n) are kept, and
            at least one where there are any.

    Returns:
        Loss mask [B, C]: every live token that was generated, and the kept hints.
    """
    kept_hints = top_entropy(entropy, hint_mask & live_mask, keep_fraction)
    return (live_mask & ~hint_mask) | kept_hints


def filter_tokens(
    settings: FilterSettings, entropy: Tensor, hint_mask: Tensor, live_mask: Tensor
) -> Tensor:
    """Loss mask [B, C] by the configured filter; arguments as in `entropy_filter`.

    Raises:
        ValueError: The kind is unknown.
    """
    if settings.kind == "entropy":
        return entropy_filter(entropy, hint_mask, live_mask, settings.keep_fraction)
    if settings.kind == "entropy_all":
        return top_entropy(entropy, live_mask, settings.keep_fraction)
    if settings.kind == "threshold":
        return live_mask & (~hint_mask | (entropy >= settings.threshold))
    if settings.kind == "none":
        return live_mask
    raise ValueError(f"filter {settings.kind!r} is unknown; use one of {', '.join(KINDS)}")
