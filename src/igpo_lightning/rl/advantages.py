"""Group-relative advantages: one function a kind, in the table `ADVANTAGES`."""

from collections.abc import Callable

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, kind: str = "mean", epsilon: float = 1e-4) -> Tensor:
    """Advantages [Q, G] of rewards [Q, G], relative to each prompt's own group.

    A group of equal rewards gets exactly 0 ("wd1_positive": 1), whatever rounding leaves of its
    mean and deviation.

    Args:
        rewards: One row for each prompt.
        kind: Name in `ADVANTAGES`; each function there names its source.
        epsilon: Added to a standard deviation before division; for the kinds that have one.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in ADVANTAGES:
        raise ValueError(f"advantage kind {kind!r} is unknown; use one of {', '.join(ADVANTAGES)}")
    return ADVANTAGES[kind](rewards.float(), epsilon)


def summed_advantages(parts: Tensor, epsilon: float = 1e-4) -> Tensor:
    """Advantages [Q, G] of weighted reward parts [Q, G, R]: normalise first, then add up.

    Each reward is normalised within its group, the results are added, and the sums are normalised
    over all groups (GDPO of arXiv 2601.05242, TRL's `normalize_then_sum`): a reward of a small
    range counts as much as one of a large range. `objective.advantage=normalize_then_sum`.
    """
    each = [group_advantages(part, "std", epsilon) for part in parts.unbind(dim=2)]
    total = torch.stack(each).sum(dim=0)
    # Their mean is 0; what rounding leaves of it would give equal rewards an advantage.
    return total / (total.std() + epsilon)


def informative_groups(rewards: Tensor) -> Tensor:
    """Groups [Q] whose rewards [Q, G] differ: the others have no advantage (DAPO, 2503.14476)."""
    return (rewards != rewards[:, :1]).any(dim=1)


def accuracy_within(correct: Tensor, low: float, high: float) -> Tensor:
    """Groups [Q] whose share of right answers lies in [low, high], from verdicts [Q, G]."""
    # In float64, so that 2 of 10 is not below 0.2.
    share = correct.double().mean(dim=1)
    return (share >= low) & (share <= high)


def _centred(rewards: Tensor) -> Tensor:
    # The mean of equal rewards is not always one of them: 0.1 + 0.1 + 0.1 is not 3 * 0.1.
    differ = informative_groups(rewards)[:, None]
    return torch.where(differ, rewards - rewards.mean(dim=1, keepdim=True), 0.0)


def mean_centred(rewards: Tensor, epsilon: float) -> Tensor:
    """r - mean(r): IGPO (arXiv 2509.10396), d1, and Dr. GRPO (arXiv 2503.20783)."""
    return _centred(rewards)


def standardized(rewards: Tensor, epsilon: float) -> Tensor:
    """(r - mean(r)) / (std(r) + epsilon), std over G - 1: GRPO (arXiv 2402.03300)."""
    return _centred(rewards) / (rewards.std(dim=1, keepdim=True) + epsilon)


def population_z_score(rewards: Tensor, epsilon: float) -> Tensor:
    """(r - mean(r)) / std(r), std over G, no epsilon: TraceRL (arXiv 2509.06949)."""
    deviation = rewards.std(dim=1, keepdim=True, unbiased=False)
    return torch.where(deviation > 0, _centred(rewards) / deviation, 0.0)


def batch_scaled(rewards: Tensor, epsilon: float) -> Tensor:
    """(r - mean(r)) / (std of all rewards + epsilon): TRL's "batch" (2508.08221)."""
    return _centred(rewards) / (rewards.std() + epsilon)


def leave_one_out(rewards: Tensor, epsilon: float) -> Tensor:
    """r - mean of the others: RLOO (arXiv 2402.14740), ESPO, coupled GRPO."""
    group = rewards.shape[1]
    return _centred(rewards) * group / (group - 1)  # r - (sum - r) / (G - 1)


def weighted_both_ways(rewards: Tensor, epsilon: float) -> Tensor:
    """G (softmax(a) - softmax(-a)) with a = r - mean(r): wd1 (arXiv 2507.08838).

    The factor G makes a mean over rows the paper's sum over the group.
    """
    return _softmax_weights(_centred(rewards)) - _softmax_weights(-_centred(rewards))


def weighted_positive(rewards: Tensor, epsilon: float) -> Tensor:
    """G softmax(a): wd1 without the term that pushes worse samples down. Not centred."""
    return _softmax_weights(_centred(rewards))


def _softmax_weights(centred: Tensor) -> Tensor:
    return centred.shape[1] * torch.softmax(centred, dim=1)


# All but "wd1_positive" sum to 0 over a group.
ADVANTAGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "mean": mean_centred,
    "dr_grpo": mean_centred,
    "std": standardized,
    "z_score": population_z_score,
    "batch": batch_scaled,
    "loo": leave_one_out,
    "wd1": weighted_both_ways,
    "wd1_positive": weighted_positive,
}
