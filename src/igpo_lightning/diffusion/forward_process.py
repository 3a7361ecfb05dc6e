"""The forward process: which completion tokens are masked at time t."""

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, uniform

_TIME, _MASK = 0, 1  # independent streams of one row key


def sample_times(keys: Tensor) -> Tensor:
    """Times t ~ U(0, 1), shape [B], in float64, one for each row key [B]."""
    return uniform(fold(keys, _TIME))


def sample_masks(keys: Tensor, times: Tensor, length: int) -> Tensor:
    """Masks [B, C]: each token is masked (True) with its row's probability t, independently."""
    counters = torch.arange(length, dtype=torch.int64, device=keys.device)
    return uniform(fold(fold(keys, _MASK)[:, None], counters)) < times[:, None]


def live_mask(completion_ids: Tensor, eos_token_id: int) -> Tensor:
    """Mask [B, C], True up to and including the first EOS of each row (all True without one)."""
    is_eos = completion_ids == eos_token_id
    return is_eos.cumsum(dim=1) - is_eos.long() == 0
