"""Policy objectives and the KL penalty to the reference policy.

A new objective is one function, registered by its name here or in a file that `objective.plugin`
names, and one YAML file in conf/objective or in a config folder of your own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.settings import ObjectiveConfig
from igpo_lightning.settings.objective import (
    KL_ESTIMATES,
    NORMALIZATIONS,
    RATIO_LENGTHS,
    RATIOS,
)


@dataclass(frozen=True)
class TokenTerms:
    """An objective at each token, all [B, C]; `gain` carries gradient.

    Attributes:
        gain: To be maximised.
        ratio: Importance ratio of the new to the old policy.
        clipped: True where the clipped branch binds.
    """

    gain: Tensor
    ratio: Tensor
    clipped: Tensor


# (logp, old_logp, advantages [B, 1], loss_mask, settings) -> terms
Objective = Callable[[Tensor, Tensor, Tensor, Tensor, ObjectiveConfig], TokenTerms]
OBJECTIVES: dict[str, Objective] = {}


def register_objective(name: str) -> Callable[[Objective], Objective]:
    """Make an objective known as `objective.loss=NAME`.

    Raises:
        ValueError: The name is taken.
    """

    def add(function: Objective) -> Objective:
        if name in OBJECTIVES:
            raise ValueError(f"objective {name!r} is registered already")
        OBJECTIVES[name] = function
        return function

    return add


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
    raise ValueError(f"KL estimate {kind!r} is unknown; use one of {', '.join(KL_ESTIMATES)}")


def importance_ratio(
    logp: Tensor,
    old_logp: Tensor,
    loss_mask: Tensor,
    ratio: str,
    ratio_length: str = "counted",
) -> Tensor:
    """Importance ratio [B, C] of the new to the old policy.

    "token": each token's own (GRPO). "sequence": the exponential of the row's mean log-ratio over
    its counted tokens, the same at every token (GSPO, arXiv 2507.18071; IGPO). With
    `ratio_length` "full" the sum over counted tokens is divided by C instead of their number.
    """
    # Positions that do not count may hold any value: they must not reach the result as nan.
    log_ratio = torch.where(loss_mask, logp - old_logp, 0.0)
    if ratio == "token":
        return log_ratio.exp()
    if ratio == "sequence":
        if ratio_length not in RATIO_LENGTHS:
            known = ", ".join(RATIO_LENGTHS)
            raise ValueError(f"ratio length {ratio_length!r} is unknown; use one of {known}")
        counted = loss_mask.sum(dim=1).clamp(min=1)
        length = counted if ratio_length == "counted" else logp.shape[1]
        return (log_ratio.sum(dim=1) / length)[:, None].expand_as(logp).exp()
    raise ValueError(f"importance ratio {ratio!r} is unknown; use one of {', '.join(RATIOS)}")


@register_objective("clip")
def clipped_ratio(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """min(ratio A, clip(ratio) A): PPO's surrogate, of GRPO, GSPO, DAPO and IGPO (Eq. 3)."""
    ratio = importance_ratio(logp, old_logp, loss_mask, settings.ratio, settings.ratio_length)
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain = torch.minimum(ratio * advantages, bounded * advantages)
    return TokenTerms(gain, ratio, bounded * advantages < ratio * advantages)


@register_objective("log_likelihood")
def weighted_log_likelihood(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """A log p, free of ratios: plain policy gradient, and wd1 with its own advantages.

    The ratio is computed for the log alone.
    """
    with torch.no_grad():
        ratio = importance_ratio(logp, old_logp, loss_mask, settings.ratio, settings.ratio_length)
    gain = advantages * torch.where(loss_mask, logp, 0.0)
    return TokenTerms(gain, ratio, torch.zeros_like(loss_mask))


def normalized_weights(
    loss_mask: Tensor,
    normalization: str = "sequence",
    *,
    length: int | None = None,
    rows: float | None = None,
    tokens: float | None = None,
) -> Tensor:
    """Weight [B, C] of each token in the loss; the loss is the weighted sum.

    "sequence": mean over each row's counted tokens, then over rows (Eq. 3; GRPO). "batch": mean
    over all counted tokens (DAPO). "constant": sum over tokens divided by `length`, then mean over
    rows (Dr. GRPO).

    Args:
        loss_mask: [B, C], True at counted tokens. A row without any adds 0 to the mean.
        normalization: One of the three.
        length: The constant; None for C.
        rows: Rows of the mean; None for B. Given where these rows are a part of a larger batch.
        tokens: Counted tokens of the whole batch; None for those of `loss_mask`.

    Raises:
        ValueError: The normalisation is unknown.
    """
    counted = loss_mask.float()
    # Where nothing counts all weights are 0, whatever they are divided by.
    rows = (loss_mask.shape[0] if rows is None else rows) or 1.0
    tokens = (float(counted.sum()) if tokens is None else tokens) or 1.0
    if normalization == "sequence":
        return counted / counted.sum(dim=1, keepdim=True).clamp(min=1) / rows
    if normalization == "batch":
        return counted / tokens
    if normalization == "constant":
        return counted / (length or loss_mask.shape[1]) / rows
    known = ", ".join(NORMALIZATIONS)
    raise ValueError(f"normalization {normalization!r} is unknown; use one of {known}")


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
    loss: str = "clip",
    ratio_length: str = "counted",
    normalization: str = "sequence",
    normalization_length: int | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that training minimises (arXiv 2509.10396, Eq. 3): -sum of weights (gain - beta KL).

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
        kl: Estimator of the penalty, see `kl_estimate`; "none" for no penalty.
        loss: Name of a registered objective.
        ratio_length: See `importance_ratio`.
        normalization: See `normalized_weights`.
        normalization_length: Its constant; None for C.
        weights: [B, C], of each token, where these rows are a part of a larger batch; None for
            `normalized_weights` of these rows alone, by the two arguments before.

    Returns:
        The loss, and detached statistics. Scalars: "ratio_mean", "ratio_max", "clip_fraction"
        (counted tokens at which the clipped branch binds) and "kl" (the penalty, weighted as the
        loss is). [B, C]: "token_ratio", "token_clipped" and, with a penalty, "token_kl".

    Raises:
        ValueError: beta without a reference, or an unknown kind.
    """
    settings = ObjectiveConfig(
        loss=loss,
        ratio=ratio,
        ratio_length=ratio_length,
        clip_low=clip_low,
        clip_high=clip_high,
        beta=beta,
        kl=kl,
        normalization=normalization,
        normalization_length=normalization_length,
    )
    if loss not in OBJECTIVES:
        raise ValueError(f"objective {loss!r} is unknown; use one of {', '.join(OBJECTIVES)}")
    terms = OBJECTIVES[loss](logp, old_logp, advantages[:, None], loss_mask, settings)
    if weights is None:
        weights = normalized_weights(loss_mask, normalization, length=normalization_length)
    value = -(terms.gain * weights).sum()
    penalty, counted = torch.zeros_like(value), loss_mask.sum().clamp(min=1)
    stats = {"token_ratio": terms.ratio, "token_clipped": terms.clipped}
    if settings.needs_reference:
        if ref_logp is None:
            raise ValueError(f"beta={beta} needs ref_logp")
        # Positions that do not count may hold any value: they must not reach the loss as nan.
        here, there = (torch.where(loss_mask, values, 0.0) for values in (logp, ref_logp))
        stats["token_kl"] = kl_estimate(here, there, kl)
        penalty = (stats["token_kl"] * weights).sum()
        value = value + beta * penalty
    stats |= {
        "ratio_mean": (terms.ratio * loss_mask).sum() / counted,
        "ratio_max": terms.ratio.masked_fill(~loss_mask, 0).max(),
        "clip_fraction": (terms.clipped & loss_mask).sum() / counted,
        "kl": penalty,
    }
    return value, {name: statistic.detach() for name, statistic in stats.items()}
