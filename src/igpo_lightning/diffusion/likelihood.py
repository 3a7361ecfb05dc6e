"""Likelihood estimates of a completion under a masked diffusion model."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from igpo_lightning.models.backbone import Backbone


@dataclass(frozen=True)
class TokenScores:
    """Per-token estimates, both [B, C] in float32.

    Attributes:
        logp: Log-probability of each completion token.
        entropy: Entropy in nats of the model's distribution at each position; it carries no
            gradient.
    """

    logp: Tensor
    entropy: Tensor


def mean_field_scores(
    model: Backbone, prompt_ids: Tensor, completion_ids: Tensor, prompt_mask: Tensor | None = None
) -> TokenScores:
    """One-step mean-field estimate of diffu-GRPO (arXiv 2504.12216), without prompt masking.

    One forward pass with the whole completion masked (as IGPO has it, arXiv 2509.10396): position
    k is scored as if it were the first to be unmasked. Hints are masked with the rest.

    Args:
        model: The backbone; gradients flow into it.
        prompt_ids: [B, P], padded on the left.
        completion_ids: [B, C].
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
    """
    canvas = torch.cat((prompt_ids, torch.full_like(completion_ids, model.mask_token_id)), dim=1)
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        real = torch.ones_like(completion_ids, dtype=torch.bool)
        attention_mask = torch.cat((prompt_mask.bool(), real), dim=1)
    hidden = model.encode(canvas, attention_mask)[:, prompt_ids.shape[1] :]
    distribution = log_softmax(model.project(hidden).float(), dim=-1)  # [B, C, V]
    logp = distribution.gather(-1, completion_ids[..., None]).squeeze(-1)
    detached = distribution.detach()
    return TokenScores(logp=logp, entropy=-(detached.exp() * detached).sum(dim=-1))
