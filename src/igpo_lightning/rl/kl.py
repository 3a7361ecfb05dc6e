"""The KL penalty: one estimate a token or a row, from log-probabilities of two policies."""

from collections.abc import Callable

import torch
from torch import Tensor

from igpo_lightning.settings import ObjectiveConfig

# Of d = ref_logp - logp.
KL_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {
    # Unbiased, but of no use as a loss: the gradient of log p has expectation 0 under the policy.
    "k1": lambda d: -d,
    # Biased in value; its gradient is the divergence's own.
    "k2": lambda d: d.square() / 2,
    # Unbiased and never negative.
    "k3": lambda d: d.exp() - 1 - d,
}


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str) -> Tensor:
    """Estimate of KL(policy || reference) from samples of the policy (Schulman, 2020)."""
    return KL_ESTIMATES[kind](ref_logp - logp)


def kl_terms(
    settings: ObjectiveConfig, logp: Tensor, other_logp: Tensor, loss_mask: Tensor
) -> Tensor:
    """The penalty at each token, [B, C]: its own estimate, or an equal share of its row's.

    Of a row's estimate every counted token gets one part in n, so that a row's mean over tokens is
    the divergence a token, and its sum the divergence of the row.
    """
    # Positions that do not count may hold any value: they must not reach the loss as nan.
    here, there = (torch.where(loss_mask, values, 0.0) for values in (logp, other_logp))
    if settings.kl_level == "token":
        return kl_estimate(here, there, settings.kl)
    whole = kl_estimate(here.sum(dim=1), there.sum(dim=1), settings.kl)
    return (whole / loss_mask.sum(dim=1).clamp(min=1))[:, None].expand_as(logp)
