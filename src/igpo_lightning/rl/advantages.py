"""Group-relative advantages."""

import torch
from torch import Tensor

from igpo_lightning.settings.objective import ADVANTAGES


def group_advantages(rewards: Tensor, kind: str = "mean") -> Tensor:
    """Advantages [Q, G] of rewards [Q, G], relative to each prompt's own group.

    Args:
        rewards: One row for each prompt.
        kind: "mean": r - mean(r) (IGPO, arXiv 2509.10396); "dr_grpo": the same centring, under the
            name that Dr. GRPO gave it (arXiv 2503.20783); "std": divided by the group's standard
            deviation (GRPO, arXiv 2402.03300); "loo": against the mean of the others (RLOO,
            arXiv 2402.14740); "wd1": G (w+ - w-) with w+ and w- the softmax over the group of the
            centred rewards and of their negatives (arXiv 2507.08838), so that a mean over rows is
            that paper's sum over the group.

    Every kind sums to 0 over a group and is 0 where all rewards of a group are equal.

    Raises:
        ValueError: `kind` is none of these.
    """
    rewards = rewards.float()
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    group = rewards.shape[1]
    if kind in ("mean", "dr_grpo"):
        return centred
    if kind == "std":
        # The small term leaves a group of equal rewards at 0.
        return centred / (rewards.std(dim=1, keepdim=True) + 1e-4)
    if kind == "loo":
        return centred * group / (group - 1)  # r - (sum - r) / (G - 1)
    if kind == "wd1":
        return group * (torch.softmax(centred, dim=1) - torch.softmax(-centred, dim=1))
    raise ValueError(f"advantage kind {kind!r} is unknown; use one of {', '.join(ADVANTAGES)}")


def informative_groups(rewards: Tensor) -> Tensor:
    """Groups [Q] whose rewards [Q, G] differ: the others have no advantage (DAPO, 2503.14476)."""
    return (rewards != rewards[:, :1]).any(dim=1)
