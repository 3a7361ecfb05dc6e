"""Group-relative advantages."""

from torch import Tensor

KINDS = ("mean", "std", "loo", "dr_grpo")


def group_advantages(rewards: Tensor, kind: str = "mean") -> Tensor:
    """Advantages [Q, G] of rewards [Q, G], relative to each prompt's own group.

    Args:
        rewards: One row for each prompt.
        kind: "mean": r - mean(r) (IGPO, arXiv 2509.10396); "dr_grpo": the same centring, under the
            name that Dr. GRPO gave it (arXiv 2503.20783); "std": divided by the group's standard
            deviation (GRPO, arXiv 2402.03300); "loo": against the mean of the others (RLOO,
            arXiv 2402.14740).

    Raises:
        ValueError: `kind` is none of these.
    """
    rewards = rewards.float()
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if kind in ("mean", "dr_grpo"):
        return centred
    if kind == "std":
        # The small term leaves a group of equal rewards at 0.
        return centred / (rewards.std(dim=1, keepdim=True) + 1e-4)
    if kind == "loo":
        group = rewards.shape[1]
        return centred * group / (group - 1)  # r - (sum - r) / (G - 1)
    raise ValueError(f"advantage kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
