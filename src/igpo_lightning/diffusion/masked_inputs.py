"""The masked inputs of a rollout, drawn once so that all policies are compared on the same ones."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.diffusion import estimators
from igpo_lightning.diffusion.noise import fold, uniform
from igpo_lightning.diffusion.paired_inputs import steps_within_blocks
from igpo_lightning.settings import LikelihoodConfig

_ESTIMATOR, _PROMPT = 0, 1  # independent streams of one row key


@dataclass(frozen=True)
class MaskedInputs:
    """N masked versions of each of B completions.

    Attributes:
        masks: [B, N, C], True where the token is masked in the input.
        weights: [B, N, C] float32, what the token's log-probability in that input contributes to
            its estimate; 0 where it is not scored.
        scored: [B, C], True where the estimator gives a value; False at visible hints. A token
            elsewhere that no drawn mask happened to hide counts, with the estimate 0.
        prompt_masks: [B, N, P], True where the prompt token is masked; None where none is.
        upper_share: [B] float32, share of the upper bound in the row's estimate; None for none.
        upper_beta: beta of the upper bound.
        credit: [B, C] float32, weight of each token in the loss; None for equal weights.
    """

    masks: Tensor
    weights: Tensor
    scored: Tensor
    prompt_masks: Tensor | None = None
    upper_share: Tensor | None = None
    upper_beta: float = 1.0
    credit: Tensor | None = None

    def rows(self, rows: slice) -> "MaskedInputs":
        """The inputs of some rows: a micro-batch."""
        parts: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **parts)


def _required(value: Tensor | None, name: str, why: str) -> Tensor:
    if value is None:
        raise ValueError(f"{why} needs {name}")
    return value


def _prompt_masks(keys: Tensor, prompt_mask: Tensor, rate: float, inputs: int) -> Tensor:
    """Random prompt masks [B, N, P]; keyed from the prompt's end, so that padding has no effect."""
    length = prompt_mask.shape[1]
    from_end = torch.arange(length - 1, -1, -1, device=keys.device)
    input_keys = fold(keys[:, None], torch.arange(inputs, device=keys.device))  # [B, N]
    masks = uniform(fold(input_keys[..., None], from_end)) < rate
    return masks & prompt_mask.bool()[:, None]


def draw_masked_inputs(
    settings: LikelihoodConfig,
    completion_ids: Tensor,
    *,
    keys: Tensor,
    hint_mask: Tensor,
    live_mask: Tensor,
    unmask_step: Tensor | None = None,
    prompt_mask: Tensor | None = None,
    advantages: Tensor | None = None,
    block_size: int | None = None,
) -> MaskedInputs:
    """Draw the masked inputs of a rollout.

    Masks cover the whole completion, what follows the first EOS included, as in training and
    sampling; which positions count is for the caller to say when it scores them.

    Args:
        settings: The estimator.
        completion_ids: [B, C].
        keys: [B] int64, one random key a row; a row's masks depend on no other row.
        hint_mask: [B, C], True at hint tokens.
        live_mask: [B, C], True up to and including the first EOS.
        unmask_step: [B, C], the denoising step that committed each token, -1 for hints; for
            "trajectory" and credit weights.
        prompt_mask: [B, P], True at real prompt tokens; for prompt masking.
        advantages: [B]; for "sandwich".
        block_size: Of a block-causal model: "trajectory" then follows the order within blocks.

    Raises:
        ValueError: The estimator needs an argument that is None.
    """
    free = torch.ones_like(completion_ids, dtype=torch.bool)  # hints are masked like all tokens
    own_keys = fold(keys, _ESTIMATOR)
    if settings.kind == "mean_field":
        masks, weights = estimators.mean_field_masks(free)
    elif settings.kind == "quadrature":
        masks, weights = estimators.quadrature_masks(
            own_keys,
            free,
            settings.nodes,
            settings.samples,
            settings.coupling,
            settings.fixed_counts,
        )
    elif settings.kind == "strata":
        masks, weights = estimators.strata_masks(
            own_keys, free, settings.strata, settings.full_pass
        )
    elif settings.kind == "trajectory":
        steps = _required(unmask_step, "unmask_step", "likelihood kind 'trajectory'")
        if block_size is not None:
            prompt = _required(prompt_mask, "prompt_mask", "a trajectory within blocks")
            steps = steps_within_blocks(steps, prompt.sum(dim=1), block_size)
        masks, weights = estimators.trajectory_masks(steps, free, settings.slices)
    else:  # "elbo" and "sandwich" draw the same masks
        masks, weights = estimators.elbo_masks(own_keys, free, settings.samples, settings.coupling)
    inputs = MaskedInputs(masks=masks, weights=weights, scored=free)

    if settings.kind == "sandwich":
        negative = _required(advantages, "advantages", "likelihood kind 'sandwich'") < 0
        share = negative.float() * settings.upper_share
        inputs = replace(inputs, upper_share=share, upper_beta=settings.upper_beta)
    if settings.prompt_mask_rate:
        real = _required(prompt_mask, "prompt_mask", "prompt masking")
        prompt_masks = _prompt_masks(
            fold(keys, _PROMPT), real, settings.prompt_mask_rate, masks.shape[1]
        )
        inputs = replace(inputs, prompt_masks=prompt_masks)
    if settings.credit_strength:
        steps = _required(unmask_step, "unmask_step", "credit from the denoising order")
        counted = live_mask & ~hint_mask
        credit = estimators.order_credit(steps, counted, settings.credit_strength)
        inputs = replace(inputs, credit=credit)
    return inputs
