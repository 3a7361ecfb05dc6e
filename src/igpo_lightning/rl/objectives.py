"""The clipped objective with a KL penalty to the reference policy."""

import torch
from torch import Tensor

RATIOS = ("token", "sequence")
KL_KINDS = ("k1", "k2", "k3")


def _row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean [B] over each row's counted tokens; 0 for a row without any."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str = "k3") -> Tensor:
    """Per-token estimate of KL(policy || reference) from samples of the policy (Schulman, 2020).

    With d = ref_logp - logp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d.
    """
    difference = ref_logp - logp
    if kind == "k1":
        return -difference
    if kind == "k2":
        return difference.square() / 2
    if kind == "k3":
        return difference.exp() - 1 - difference
    raise ValueError(f"KL estimate {kind!r} is unknown; use one of {', '.join(KL_KINDS)}")


def importance_ratio(logp: Tensor, old_logp: Tensor, loss_mask: Tensor, ratio: str) -> Tensor:
    """Importance ratio [B, C] of the new to the old policy.

    "token": each token's own (GRPO). "sequence": the exponential of the row's mean log-ratio over
    its counted tokens, the same at every token (GSPO, arXiv 2507.18071; IGPO).
    """
    log_ratio = logp - old_logp
    if ratio == "token":
        return log_ratio.exp()
    if ratio == "sequence":
        return _row_mean(log_ratio, loss_mask)[:, None].expand_as(logp).exp()
    raise ValueError(f"importance ratio {ratio!r} is unknown; use one of {', '.join(RATIOS)}")


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio: str = "token",
    ref_logp: Tensor | None = None,
    beta: float = 0.0,
    kl: str = "k3",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped policy loss (arXiv 2509.10396, Eq. 3): mean over counted tokens, then over rows.

    Args:
        logp: [B, C], under the policy that is trained.
        old_logp: [B, C], under the policy that sampled.
        advantages: [B].
        loss_mask: [B, C], True at counted tokens. A row without any adds 0 to the mean.
        clip_low: epsilon below 1 (the paper: 0.2).
        clip_high: epsilon above 1 (the paper: 0.2).
        ratio: "token" or "sequence", see `importance_ratio`.
        ref_logp: [B, C], under the reference policy; needed when beta is not 0.
        beta: Weight of the KL penalty (the paper: 0.01).
        kl: Estimator of the penalty, see `kl_estimate`.

    Returns:
        The loss to minimise, and detached scalars: "ratio_mean", "ratio_max", "clip_fraction"
        (counted tokens at which the clipped branch binds) and "kl".

    Raises:
        ValueError: beta without a reference, or an unknown kind.
    """
    weights = importance_ratio(logp, old_logp, loss_mask, ratio)
    clipped = weights.clamp(1 - clip_low, 1 + clip_high)
    gain = torch.minimum(weights * advantages[:, None], clipped * advantages[:, None])
    loss = -_row_mean(gain, loss_mask).mean()
    penalty = torch.zeros_like(loss)
    if beta:
        if ref_logp is None:
            raise ValueError(f"beta={beta} needs ref_logp")
        penalty = _row_mean(kl_estimate(logp, ref_logp, kl), loss_mask).mean()
        loss = loss + beta * penalty

    counted = loss_mask.sum().clamp(min=1)
    binding = (clipped * advantages[:, None] < weights * advantages[:, None]) & loss_mask
    stats = {
        "ratio_mean": (weights * loss_mask).sum() / counted,
        "ratio_max": weights.masked_fill(~loss_mask, 0).max(),
        "clip_fraction": binding.sum() / counted,
        "kl": penalty,
    }
    return loss, {name: value.detach() for name, value in stats.items()}
