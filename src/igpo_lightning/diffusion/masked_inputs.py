"""The masked inputs of a rollout, drawn once so that all policies are compared on the same ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.diffusion import block_masks, estimators, ordered_masks
from igpo_lightning.diffusion.noise import fold, uniform
from igpo_lightning.diffusion.paired_inputs import steps_within_blocks
from igpo_lightning.settings import LikelihoodConfig

_ESTIMATOR, _PROMPT = 0, 1  # independent streams of one row key


@dataclass(frozen=True)
class Drawing:
    """What an estimator may look at.

    Attributes:
        settings: Its parameters.
        keys: [B] int64.
        free: [B, C], tokens that may be masked.
        unmask_step: [B, C], the denoising step that committed each token; None where unknown.
    """

    settings: LikelihoodConfig
    keys: Tensor
    free: Tensor
    unmask_step: Tensor | None

    @property
    def steps(self) -> Tensor:
        """The denoising steps, of a rollout that keeps them."""
        return _required(self.unmask_step, "unmask_step", f"likelihood kind {self.settings.kind!r}")


MasksAndWeights = tuple[Tensor, Tensor]


def _elbo(drawing: Drawing) -> MasksAndWeights:
    s = drawing.settings
    return estimators.elbo_masks(drawing.keys, drawing.free, s.samples, s.coupling)


def _quadrature(drawing: Drawing) -> MasksAndWeights:
    s = drawing.settings
    return estimators.quadrature_masks(
        drawing.keys, drawing.free, s.nodes, s.samples, s.coupling, s.fixed_counts, s.round_down
    )


def _trajectory(drawing: Drawing) -> MasksAndWeights:
    s = drawing.settings
    if s.shrink is None:
        return ordered_masks.trajectory_masks(drawing.steps, drawing.free, s.slices)
    return ordered_masks.merged_step_masks(drawing.steps, drawing.free, s.slices, s.shrink)


# A new estimator is one function of masks and weights, and a line here.
KINDS: dict[str, Callable[[Drawing], MasksAndWeights]] = {
    "mean_field": lambda d: estimators.mean_field_masks(d.free),
    "elbo": _elbo,
    "pairs": lambda d: estimators.pair_masks(d.keys, d.free, d.settings.samples),
    "spread": lambda d: estimators.spread_masks(d.keys, d.free, d.settings.samples),
    "quadrature": _quadrature,
    "coupled": lambda d: estimators.coupled_masks(d.keys, d.free),
    "strata": lambda d: estimators.strata_masks(d.keys, d.free, d.settings.strata),
    "sandwich": _elbo,
    "blocks": lambda d: block_masks.random_block_masks(
        d.keys, d.free, d.settings.samples, d.settings.block_length
    ),
    "every_block": lambda d: block_masks.every_block_masks(
        d.keys, d.free, d.settings.samples, d.settings.block_length
    ),
    "trajectory": _trajectory,
    "autoregressive": lambda d: ordered_masks.autoregressive_masks(
        d.keys, d.free, d.settings.positions
    ),
}


@dataclass(frozen=True)
class MaskedInputs:
    """N masked versions of each of B completions.

    Attributes:
        masks: [B, N, C], True where the token is masked in the input.
        weights: [B, N, C] float32, what the token's log-probability in that input contributes to
            its estimate; 0 where it is not scored.
        scored: [B, C], True where the estimator gives a value; a token that no drawn mask happened
            to hide counts, with the estimate 0.
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

    def separated(self, partition: bool) -> "MaskedInputs":
        """Each input as a row of its own, [B N, 1, C], in the order of the rows.

        Args:
            partition: Each token is scored in one input: a row's tokens are those that it scores.
                Otherwise every input is an estimate of the whole completion, and N times what it
                contributes to the mean.
        """
        number = self.masks.shape[1]
        weights = self.weights.flatten(0, 1)[:, None]
        repeated: dict[str, Any] = {
            name: value.repeat_interleave(number, dim=0)
            for name in ("scored", "upper_share", "credit")
            if (value := getattr(self, name)) is not None
        }
        if partition:
            repeated["scored"] = repeated["scored"] & (weights[:, 0] > 0)
        if self.prompt_masks is not None:
            repeated["prompt_masks"] = self.prompt_masks.flatten(0, 1)[:, None]
        return replace(
            self,
            masks=self.masks.flatten(0, 1)[:, None],
            weights=weights if partition else weights * number,
            **repeated,
        )


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
    live_mask: Tensor,
    unmask_step: Tensor | None = None,
    prompt_mask: Tensor | None = None,
    advantages: Tensor | None = None,
    block_size: int | None = None,
) -> MaskedInputs:
    """Draw the masked inputs of a rollout.

    Masks cover the whole completion, what follows the first EOS included, as in training and
    sampling; which positions count is for the caller to say when it scores them. With `live_only`
    they are drawn up to the first EOS, and hide all that follows.

    Args:
        settings: The estimator.
        completion_ids: [B, C].
        keys: [B] int64, one random key a row; a row's masks depend on no other row.
        live_mask: [B, C], True up to and including the first EOS.
        unmask_step: [B, C], the denoising step that committed each token, -1 for hints; for
            "trajectory".
        prompt_mask: [B, P], True at real prompt tokens; for prompt masking.
        advantages: [B]; for the kinds with an upper bound.
        block_size: Of a block-causal model: "trajectory" and "autoregressive" then follow the order
            within blocks, all blocks side by side.

    Raises:
        ValueError: The estimator needs an argument that is None.
    """
    free = torch.ones_like(completion_ids, dtype=torch.bool)  # hints are masked like all tokens
    if settings.live_only:
        free = free & live_mask
    in_order = settings.kind == "autoregressive" and settings.positions is None
    if block_size is not None and (settings.kind == "trajectory" or in_order):
        prompt = _required(prompt_mask, "prompt_mask", "an order within blocks").sum(dim=1)
    if block_size is not None and settings.kind == "trajectory":
        steps = _required(unmask_step, "unmask_step", "likelihood kind 'trajectory'")
        unmask_step = steps_within_blocks(steps, prompt, block_size)
    if block_size is not None and in_order:
        masks, weights = ordered_masks.left_to_right_in_blocks(prompt, free, block_size)
    else:
        drawing = Drawing(settings, fold(keys, _ESTIMATOR), free, unmask_step)
        masks, weights = KINDS[settings.kind](drawing)
    if settings.live_only:
        masks = masks | ~live_mask[:, None]
    inputs = MaskedInputs(masks=masks, weights=weights, scored=free)

    if settings.kind == "autoregressive":  # what stands for the positions left out is no logarithm
        share = weights.sum(dim=1)
        inputs = replace(
            inputs, weights=(weights > 0).float(), scored=free & (share > 0), credit=share
        )
    if settings.has_upper_bound:
        negative = _required(advantages, "advantages", f"likelihood kind {settings.kind!r}") < 0
        share = negative.float() * settings.upper_share
        inputs = replace(inputs, upper_share=share, upper_beta=settings.upper_beta)
    if settings.prompt_mask_rate:
        real = _required(prompt_mask, "prompt_mask", "prompt masking")
        prompt_masks = _prompt_masks(
            fold(keys, _PROMPT), real, settings.prompt_mask_rate, masks.shape[1]
        )
        inputs = replace(inputs, prompt_masks=prompt_masks)
    return inputs
