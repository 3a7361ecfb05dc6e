"""Which tokens each likelihood estimator masks, and what each masked token's score weighs.

Every estimator here is a list of masked inputs: the completion with some tokens masked, scored at
masked positions only. A token's log-likelihood is a weighted sum over the inputs in which it is
masked. The masks are drawn once for a rollout, so that the old, the new and the reference policy
are compared on the same inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("mean_field",)


@dataclass(frozen=True)
class LikelihoodSettings:
    """Which estimator, and its parameters.

    Attributes:
        kind: "mean_field": one pass with the whole completion masked (diffu-GRPO, IGPO).
    """

    kind: str = "mean_field"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"likelihood kind {self.kind!r} is unknown; use {', '.join(KINDS)}")


@dataclass(frozen=True)
class MaskedInputs:
    """N masked versions of each of B completions.

    Attributes:
        masks: [B, N, C], True where the token is masked in the input.
        weights: [B, N, C] float32, what the token's log-probability in that input contributes to
            its estimate; 0 where it is not masked.
    """

    masks: Tensor
    weights: Tensor

    def rows(self, rows: slice) -> "MaskedInputs":
        """The inputs of some rows: a micro-batch."""
        return MaskedInputs(masks=self.masks[rows], weights=self.weights[rows])


def draw_masked_inputs(
    settings: LikelihoodSettings,
    completion_ids: Tensor,
    *,
    keys: Tensor,
    hint_mask: Tensor,
    live_mask: Tensor,
    unmask_step: Tensor | None = None,
    prompt_mask: Tensor | None = None,
    advantages: Tensor | None = None,
) -> MaskedInputs:
    """Draw the masked inputs of a rollout.

    Args:
        settings: The estimator.
        completion_ids: [B, C].
        keys: [B] int64, one random key a row; a row's masks are a function of its key alone.
        hint_mask: [B, C], True at hint tokens.
        live_mask: [B, C], True up to and including the first EOS.
        unmask_step: [B, C], the denoising step that committed each token, -1 for hints.
        prompt_mask: [B, P], True at real prompt tokens.
        advantages: [B].
    """
    masks = torch.ones_like(completion_ids, dtype=torch.bool)[:, None]
    return MaskedInputs(masks=masks, weights=masks.float())
