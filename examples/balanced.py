"""An objective of one's own; objective=balanced, of objective/balanced.yaml, chooses it."""

import torch
from torch import Tensor

from igpo_lightning.rl.objectives import TokenTerms, importance_ratio, register_objective
from igpo_lightning.settings import ObjectiveConfig


@register_objective("balanced")
def balanced(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    settings: ObjectiveConfig,
) -> TokenTerms:
    """A tanh(log ratio): no clipping; the gain of a token levels off by itself. All [B, C]."""
    ratio = importance_ratio(logp, old_logp, loss_mask, settings.ratio, settings.ratio_length)
    return TokenTerms(advantages * ratio.log().tanh(), ratio, torch.zeros_like(loss_mask))
