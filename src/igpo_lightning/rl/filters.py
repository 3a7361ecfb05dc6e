"""Which tokens of a completion get gradient."""

import math

import torch
from torch import Tensor

from igpo_lightning.diffusion.unmasking import most_confident
from igpo_lightning.settings import FilterConfig


def top_entropy(
    entropy: Tensor, candidates: Tensor, keep_fraction: float, round_down: bool = False
) -> Tensor:
    """The most uncertain candidates of each row, all [B, C].

    Of n candidates ceil(keep_fraction * n) are kept (floor with `round_down`), at least one where
    there are any; among equal entropies the earlier position wins.
    """
    # The small terms keep 0.2 * 15 from becoming 4, and from becoming 2.
    shares = [keep_fraction * n for n in candidates.sum(dim=1).tolist()]
    kept = [math.floor(s + 1e-9) if round_down else math.ceil(s - 1e-9) for s in shares]
    counts = torch.tensor([max(1, k) for k in kept], device=entropy.device)
    return most_confident(entropy, candidates, counts)


def entropy_filter(
    entropy: Tensor,
    hint_mask: Tensor,
    live_mask: Tensor,
    keep_fraction: float,
    round_down: bool = False,
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
        round_down: Keep floor(tau * n) instead.

    Returns:
        Loss mask [B, C]: every live token that was generated, and the kept hints.
    """
    kept_hints = top_entropy(entropy, hint_mask & live_mask, keep_fraction, round_down)
    return (live_mask & ~hint_mask) | kept_hints


def batch_entropy_filter(
    entropy: Tensor, live_mask: Tensor, keep_fraction: float, batch: Tensor | None = None
) -> Tensor:
    """Keep the most uncertain live tokens of the batch, hints or not (arXiv 2506.01939, as TRL).

    Args:
        entropy: [B, C], under the old policy.
        live_mask: [B, C].
        keep_fraction: Kept are tokens at or above this upper quantile of the entropies.
        batch: [M], entropies of the live tokens of all ranks; None for those of these rows.
    """
    values = (entropy[live_mask] if batch is None else batch).sort().values
    if len(values) == 0:
        return live_mask
    place = (1 - keep_fraction) * (len(values) - 1)
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return live_mask & (entropy >= torch.lerp(low, high, place - math.floor(place)))


def filter_tokens(
    settings: FilterConfig,
    entropy: Tensor,
    hint_mask: Tensor,
    live_mask: Tensor,
    batch: Tensor | None = None,
) -> Tensor:
    """Loss mask [B, C] by the configured filter; arguments as in the functions above."""
    if settings.kind == "entropy":
        return entropy_filter(
            entropy, hint_mask, live_mask, settings.keep_fraction, settings.round_down
        )
    if settings.kind == "entropy_all":
        return batch_entropy_filter(entropy, live_mask, settings.keep_fraction, batch)
    return live_mask
