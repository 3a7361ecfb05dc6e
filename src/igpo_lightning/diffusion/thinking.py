"""A push towards the end of thinking: the closer the limit, the likelier `</think>` is written.

iLLaDA's generation (arXiv 2606.25331, its public code): a model that thinks before it answers would
otherwise fill a short completion with thoughts alone.
"""

import torch
from torch import Tensor

from igpo_lightning.settings import SamplerConfig

NOTHING = -1  # in place of a token that is not there yet


def end_of_thinking(
    ids: Tensor, starts: Tensor, free: Tensor, config: SamplerConfig
) -> tuple[Tensor, Tensor]:
    """Which token of the end of thinking comes next, and what its logit gains.

    A row's first masked position of the block gains `boost * progress ** power`, progress being the
    share of the completion up to there. The token is the one that goes on what stands right before
    the position. A row that holds the whole sequence gains nothing more.

    Args:
        ids: [A, C], completions; masks or `NOTHING` where no token is.
        starts: [A], where each row's block begins.
        free: [A, W], masked positions of the block.
        config: The sampler, with `think_ids` of K tokens.

    Returns:
        Tokens and what is added to their logits, [A, W] each; 0 at all other positions.
    """
    sequence = torch.tensor(config.think_ids, device=ids.device)  # [K]
    size = len(sequence)
    written = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    if ids.shape[1] >= size:
        written = (ids.unfold(1, size, 1) == sequence).all(dim=2).any(dim=1)
    place = free.long().argmax(dim=1)  # [A]; of a row without masks it does not matter
    position = starts + place
    token = sequence[0].expand(len(ids))
    for known in range(1, size):  # the longest stretch of the sequence that stands before
        at = position[:, None] - known + torch.arange(known, device=ids.device)
        fits = (ids.gather(1, at.clamp(min=0)) == sequence[:known]).all(dim=1)
        token = torch.where(fits & (at[:, 0] >= 0), sequence[known], token)
    progress = ((position + 1) / config.completion_length).clamp(max=1.0)
    gain = config.think_boost * progress**config.think_power
    first = torch.zeros_like(free).scatter(1, place[:, None], True) & free & ~written[:, None]
    return token[:, None] * first, gain.float()[:, None] * first
