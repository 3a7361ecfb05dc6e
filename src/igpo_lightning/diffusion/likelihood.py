"""Likelihood estimates of a completion under a masked diffusion model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.forward_process import apply_masks
from igpo_lightning.diffusion.head_scores import chunk_count, head_scores
from igpo_lightning.diffusion.masked_inputs import (
    LikelihoodSettings,
    MaskedInputs,
    draw_masked_inputs,
)
from igpo_lightning.models.backbone import Backbone

__all__ = [
    "LikelihoodSettings",
    "MaskedInputs",
    "TokenScores",
    "draw_masked_inputs",
    "token_scores",
]


@dataclass(frozen=True)
class TokenScores:
    """Per-token estimates, both [B, C] in float32.

    Attributes:
        logp: Log-likelihood of each completion token; 0 where it was not asked for.
        entropy: Entropy in nats of the model's distribution at each position, the mean over the
            inputs in which the token is masked; it carries no gradient. None unless asked for.
    """

    logp: Tensor
    entropy: Tensor | None


def token_scores(
    model: Backbone,
    prompt_ids: Tensor,
    completion_ids: Tensor,
    inputs: MaskedInputs,
    prompt_mask: Tensor | None = None,
    counted: Tensor | None = None,
    with_entropy: bool = False,
) -> TokenScores:
    """Score completions at drawn masks: one forward pass of the body for each masked input.

    Args:
        model: The backbone; gradients flow into it.
        prompt_ids: [B, P], padded on the left.
        completion_ids: [B, C].
        inputs: The masked inputs of these rows.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        counted: [B, C], positions whose value is needed; the head runs at no other. None for all.
        with_entropy: Whether entropies are asked for.
    """
    batch, length = completion_ids.shape
    prompt_length = prompt_ids.shape[1]
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        real = torch.ones_like(completion_ids, dtype=torch.bool)
        attention_mask = torch.cat((prompt_mask.bool(), real), dim=1)
    logp = torch.zeros(batch, length, device=prompt_ids.device)
    entropy = torch.zeros_like(logp)
    times_scored = torch.zeros_like(logp)
    for masks, weights in zip(inputs.masks.unbind(1), inputs.weights.unbind(1), strict=True):
        noised = apply_masks(completion_ids, masks, model.mask_token_id)
        canvas = torch.cat((prompt_ids, noised), dim=1)
        hidden = model.encode(canvas, attention_mask)[:, prompt_length:]  # [B, C, D]
        scored = weights != 0 if counted is None else (weights != 0) & counted
        chosen_logp, chosen_entropy = head_scores(
            model.project,
            hidden[scored],
            completion_ids[scored],
            chunks=chunk_count(batch * length, model.vocab_size),
            with_entropy=with_entropy,
        )
        logp = logp + torch.zeros_like(logp).masked_scatter(scored, chosen_logp) * weights
        if chosen_entropy is not None:
            entropy = entropy.masked_scatter(scored, entropy[scored] + chosen_entropy)
        times_scored += scored
    mean_entropy = entropy / times_scored.clamp(min=1) if with_entropy else None
    return TokenScores(logp=logp, entropy=mean_entropy)
