"""The KL penalty: one estimate a token or a row, from log-probabilities of two policies."""

from collections.abc import Callable

import torch
from torch import Tensor

from igpo_lightning.settings import ObjectiveConfig


def _k1(difference: Tensor) -> Tensor:
    """-d. Unbiased, but of no use as a loss: the expectation of its gradient is 0."""
    return -difference


def _k2(difference: Tensor) -> Tensor:
    """d^2 / 2. Biased in value; its gradient is the divergence's own."""
    return difference.square() / 2


def _k3(difference: Tensor) -> Tensor:
    """exp(d) - 1 - d. Unbiased and never negative."""
    return difference.exp() - 1 - difference


KL_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {"k1": _k1, "k2": _k2, "k3": _k3}
KL_KINDS = (*KL_ESTIMATES, "none")


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str = "k3") -> Tensor:
    """Per-token estimate of KL(policy || reference) from samples of the policy (Schulman, 2020).

    With d = ref_logp - logp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d. As a loss k1 does nothing
    but add noise: the gradient of log p has expectation 0 under the policy itself.
    """
    if kind not in KL_ESTIMATES:
        raise ValueError(f"KL estimate {kind!r} is unknown; use one of {', '.join(KL_KINDS)}")
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
