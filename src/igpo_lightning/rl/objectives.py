"""Policy objectives and the KL penalty to the reference policy.

A new objective is one function, registered by its name here or in a file that `objective.plugin`
names, and one YAML file in conf/objective or in a config folder of your own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.errors import OWN_MODULES, ConfigError, call_own
from igpo_lightning.rl.kl import kl_terms
from igpo_lightning.rl.normalization import normalized_weights
from igpo_lightning.settings import ObjectiveConfig


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


# What the sequence ratio's sum of log-ratios is divided by: mask of its tokens [B, C] -> [B] or 1.
RATIO_LENGTHS: dict[str, Callable[[Tensor], Tensor | int]] = {
    "counted": lambda mask: mask.sum(dim=1).clamp(min=1),  # its tokens (GSPO, IGPO)
    "full": lambda mask: mask.shape[1],  # the completion's length C (released, ESPO, GDPO, BGPO)
    "one": lambda mask: 1,  # nothing: the ratio of the sequences' likelihoods (EBPO)
}


def sequence_log_ratio(
    logp: Tensor, old_logp: Tensor, mask: Tensor, ratio_length: str = "counted"
) -> Tensor:
    """Normalised log-ratio [B] of each row's tokens in `mask` [B, C]; see `RATIO_LENGTHS`."""
    log_ratio = torch.where(mask, logp - old_logp, 0.0)
    return log_ratio.sum(dim=1) / RATIO_LENGTHS[ratio_length](mask)


def importance_ratio(
    logp: Tensor,
    old_logp: Tensor,
    loss_mask: Tensor,
    ratio: str,
    ratio_length: str = "counted",
) -> Tensor:
    """Importance ratio [B, C] of the new to the old policy.

    "token": each token's own (GRPO). "sequence": the exponential of the row's mean log-ratio over
    its counted tokens, the same at every token (GSPO, arXiv 2507.18071; IGPO). `ratio_length`
    names another divisor of the sum.
    """
    if ratio == "token":
        # Positions that do not count may hold any value: they must not reach the result as nan.
        return torch.where(loss_mask, logp - old_logp, 0.0).exp()
    mean = sequence_log_ratio(logp, old_logp, loss_mask, ratio_length)
    return mean[:, None].expand_as(logp).exp()


def surrogate(ratio: Tensor, advantages: Tensor, settings: ObjectiveConfig) -> TokenTerms:
    """min(ratio A, clip(ratio) A), and at least clip_dual A where A is negative."""
    bounded = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain = torch.minimum(ratio * advantages, bounded * advantages)
    clipped = bounded * advantages < ratio * advantages
    if settings.clip_dual is not None:
        floor = settings.clip_dual * advantages
        too_low = (advantages < 0) & (gain < floor)
        gain, clipped = torch.where(too_low, floor, gain), clipped | too_low
    return TokenTerms(gain, ratio, clipped)


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
    return surrogate(ratio, advantages, settings)


@register_objective("linear_clip")
def linearized_ratio(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """The surrogate with 1 + log ratio for the ratio where A is positive (BGPO, arXiv 2510.11683).

    A lower bound of the objective that is linear in the lower bound of the likelihood. The
    published code takes the logarithm of it and becomes NaN at a log ratio below -1; this does not.
    """
    mean = sequence_log_ratio(logp, old_logp, loss_mask, settings.ratio_length)[:, None]
    ratio = torch.where(advantages > 0, 1 + mean, mean.exp())
    return surrogate(ratio.expand_as(logp), advantages, settings)


@register_objective("cispo")
def clipped_weight(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """min(ratio, 1 + clip_high) A log p, the ratio without gradient: CISPO (arXiv 2506.13585).

    Every token keeps its gradient; the ratio only weighs it. `clip_high` is the bound less 1.
    """
    ratio = importance_ratio(logp, old_logp, loss_mask, settings.ratio, settings.ratio_length)
    weight = ratio.detach().clamp(max=1 + settings.clip_high)
    gain = weight * advantages * torch.where(loss_mask, logp, 0.0)
    return TokenTerms(gain, ratio, (ratio > 1 + settings.clip_high) & (advantages > 0))


@register_objective("sapo")
def soft_gate(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """4 / T sigmoid(T (ratio - 1)) A: SAPO's smooth gate in place of a clip (arXiv 2511.20347)."""
    ratio = importance_ratio(logp, old_logp, loss_mask, settings.ratio, settings.ratio_length)
    temperature = torch.where(advantages > 0, settings.sapo_positive, settings.sapo_negative)
    gain = torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantages
    return TokenTerms(gain, ratio, torch.zeros_like(loss_mask))


# VESPO's k and lambda where the advantage is not negative, and where it is (TRL's defaults).
VESPO_POSITIVE, VESPO_NEGATIVE = (2.0, 3.0), (3.0, 2.0)


@register_objective("vespo")
def gamma_weight(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """phi(w) A log p, phi(w) = w^k exp(lambda (1 - w)) without gradient: TRL's VESPO.

    w is the ratio of the sequences' likelihoods. phi is 1 at w = 1 and falls off smoothly on both
    sides, where a clip would cut.
    """
    with torch.no_grad():
        bounded = (logp - old_logp).clamp(-20, 20)
        log_ratio = sequence_log_ratio(bounded, torch.zeros_like(bounded), loss_mask, "one")
        log_ratio = log_ratio.clamp(math.log(1e-8), 20)[:, None]
        above = advantages >= 0
        power, rate = (
            torch.where(above, *pair) for pair in zip(VESPO_POSITIVE, VESPO_NEGATIVE, strict=True)
        )
        weight = (power * log_ratio + rate * (1 - log_ratio.exp())).exp()
    gain = weight * advantages * torch.where(loss_mask, logp, 0.0)
    return TokenTerms(gain, log_ratio.exp().expand_as(logp), torch.zeros_like(loss_mask))


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


_MOST_NATS = 20.0  # of a row's log ratio, above which its exponential says nothing (verl's bound)


@torch.no_grad()
def sampler_ratio(old_logp: Tensor, sampler_logp: Tensor, sampled: Tensor, level: str) -> Tensor:
    """Importance ratio [B, C] of the policy that sampled to its approximate sampler.

    `policy_loss` truncates it (truncated importance sampling: `rollout_is` in verl,
    `vllm_importance_sampling_correction` in TRL, modes token_truncate and sequence_truncate).

    Args:
        old_logp: [B, C], the exact policy's, at the canvas that each token was committed on.
        sampler_logp: [B, C], what the sampler took it for.
        sampled: [B, C], True at tokens that the sampler drew from what the policy is scored on.
        level: "token": each token's own, 1 where none was drawn. "sequence": the product over a
            row's drawn tokens, the same at every token.
    """
    log_ratio = torch.where(sampled, old_logp - sampler_logp, 0.0)
    if level == "sequence":
        log_ratio = log_ratio.sum(dim=1, keepdim=True).expand_as(log_ratio)
    return log_ratio.clamp(-_MOST_NATS, _MOST_NATS).exp()


def near_policy(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, loss_mask: Tensor, limit: float
) -> Tensor:
    """Rows [B] that are learnt from: all but bad ones that the policy has moved away from already.

    False where the advantage is negative and the mean of log(old / new) over the row's tokens is
    above the limit (off-policy sequence mask of DeepSeek-V3.2, arXiv 2512.02556, as TRL has it).
    """
    moved = -sequence_log_ratio(logp.detach(), old_logp, loss_mask)
    return (advantages >= 0) | (moved <= limit)


_TOKEN_RATIO = ObjectiveConfig(ratio="token", beta=0.0)


def _token_terms(loss: str, *arguments: Tensor | ObjectiveConfig) -> TokenTerms:
    """The terms of the objective of this name.

    Raises:
        ConfigError: A plugin's objective raised, or returned something else.
    """
    objective = OBJECTIVES[loss]
    expected = (
        f"{objective.__name__}(logp, old_logp, advantages, loss_mask, settings) to return "
        "TokenTerms(gain, ratio, clipped), each [B, C]"
    )
    terms = call_own(objective, expected, *arguments)
    if not isinstance(terms, TokenTerms):
        file = objective.__module__.removeprefix(OWN_MODULES)
        told = f"{file}: {objective.__name__} returned {type(terms).__name__}"
        raise ConfigError(f"{told}; expected {expected}")
    return terms


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    *,
    ref_logp: Tensor | None = None,
    weights: Tensor | None = None,
    kl_weights: Tensor | None = None,
    ratio_mask: Tensor | None = None,
    sampler_ratio: Tensor | None = None,
    settings: ObjectiveConfig = _TOKEN_RATIO,
    **options: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that training minimises (arXiv 2509.10396, Eq. 3): -sum of weights (gain - beta KL).

    Args:
        logp: [B, C], under the policy that is trained.
        old_logp: [B, C], under the policy that sampled.
        advantages: [B].
        loss_mask: [B, C], True at counted tokens. A row without any adds 0 to the mean.
        ref_logp: [B, C], under the reference policy; needed for a penalty that refers to it.
        weights: [B, C], of each token, where these rows are a part of a larger batch; None for
            `normalized_weights` of these rows alone, by the settings.
        kl_weights: Likewise for the penalty; None for those of the loss, or by the settings' own.
        ratio_mask: [B, C], tokens that the sequence ratio covers; None for `loss_mask`.
        sampler_ratio: [B, C], see the function of that name; truncated, it weighs the gain.
        settings: What is maximised; by default one clipped ratio a token and no penalty.
        options: Single fields of the settings: clip_low, clip_high, ratio, beta, kl, ...

    Returns:
        The loss, and detached statistics. Scalars: "ratio_mean", "ratio_max", "clip_fraction"
        (counted tokens at which the clipped branch binds) and "kl" (the penalty, weighted as the
        loss is). [B, C]: "token_ratio", "token_clipped" and, with a penalty, "token_kl".

    Raises:
        ValueError: beta without a reference, or an unknown kind.
    """
    settings = replace(settings, **options)
    if settings.loss not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise ValueError(f"objective {settings.loss!r} is unknown; use one of {known}")
    covered = loss_mask if ratio_mask is None else ratio_mask
    terms = _token_terms(settings.loss, logp, old_logp, advantages[:, None], covered, settings)
    if settings.off_policy_limit is not None:
        near = near_policy(logp, old_logp, advantages, covered, settings.off_policy_limit)
        terms = replace(terms, gain=terms.gain * near[:, None])
    if sampler_ratio is not None:
        truncated = sampler_ratio.clamp(max=settings.rollout_is_threshold)
        terms = replace(terms, gain=terms.gain * truncated)

    def own_weights(kind: str) -> Tensor:
        length, rows = settings.normalization_length, settings.normalization_rows
        return normalized_weights(loss_mask, kind, length=length, micro_batch=rows)

    if weights is None:
        weights = own_weights(settings.normalization)
    value = -(terms.gain * weights).sum()
    penalty, counted = torch.zeros_like(value), loss_mask.sum().clamp(min=1)
    stats = {"token_ratio": terms.ratio, "token_clipped": terms.clipped}
    if settings.has_penalty:
        other = old_logp if settings.kl_target == "old" else ref_logp
        if other is None:
            raise ValueError(f"beta={settings.beta} needs ref_logp")
        if kl_weights is None:
            own = settings.kl_normalization
            kl_weights = weights if own is None else own_weights(own)
        stats["token_kl"] = kl_terms(settings, logp, other, loss_mask)
        if settings.kl_weighted:
            stats["token_kl"] = stats["token_kl"] * terms.ratio
        penalty = (stats["token_kl"] * kl_weights).sum()
        value = value + settings.beta * penalty
    stats |= {
        "ratio_mean": (terms.ratio * loss_mask).sum() / counted,
        "ratio_max": terms.ratio.masked_fill(~loss_mask, 0).max(),
        "clip_fraction": (terms.clipped & loss_mask).sum() / counted,
        "kl": penalty,
    }
    return value, {name: statistic.detach() for name, statistic in stats.items()}
