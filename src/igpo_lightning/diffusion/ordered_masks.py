"""Likelihood estimators that score tokens in an order: the sampler's, or from left to right.

Each function returns (masks, weights), both [B, N, C]; see estimators.py.
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.estimators import mask_noise, ranks_among


def step_order(unmask_step: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each chosen token's step among the distinct steps of its row.

    Args:
        unmask_step: [B, C], the step that committed the token; steps need not be consecutive.
        chosen: [B, C].

    Returns:
        Places [B, C], 0 for the earliest step (meaningless where not chosen), and the number of
        distinct steps [B, 1].
    """
    last = torch.iinfo(unmask_step.dtype).max
    ordered, order = unmask_step.masked_fill(~chosen, last).sort(dim=1)
    is_new = torch.ones_like(chosen)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = torch.empty_like(order).scatter_(1, order, is_new.cumsum(dim=1) - 1)
    return places, (is_new & (ordered != last)).sum(dim=1, keepdim=True)


def _slices(slice_of: Tensor, free: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """Input j masks slice j and all later ones, and scores slice j."""
    index = torch.arange(slices, device=free.device)[:, None]
    masks = (slice_of[:, None] >= index) & free[:, None]
    return masks, ((slice_of[:, None] == index) & free[:, None]).float()


def trajectory_masks(unmask_step: Tensor, free: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """The order in which the sampler committed tokens, in k slices of equally many steps, N = k.

    Input j shows the slices before j, masks slice j and all later ones, and scores slice j. With
    as many slices as steps this is what the sampler really saw. Hints that are not held visible
    carry step -1 and thus belong to the first slice.
    """
    places, steps = step_order(unmask_step, free)
    return _slices(places * slices // steps.clamp(min=1), free, slices)


def merged_step_masks(
    unmask_step: Tensor, free: Tensor, slices: int, shrink: int
) -> tuple[Tensor, Tensor]:
    """As `trajectory_masks`, each slice `shrink` neighbouring steps (TraceRL, arXiv 2509.06949).

    N = `slices`, so that all rows make as many passes; a row of fewer steps leaves the last ones
    empty. shrink = 1 scores each token at the canvas that the sampler saw (CJ-GRPO).

    Raises:
        ValueError: Some row has more steps than the slices hold.
    """
    # Hints that are not held visible carry step -1: they join the first step, and add none.
    places, steps = step_order(unmask_step.clamp(min=0), free)
    if bool((steps > slices * shrink).any()):
        raise ValueError(f"{slices} slices of {shrink} steps cannot hold {int(steps.max())} steps")
    return _slices(places // shrink, free, slices)


def autoregressive_masks(
    keys: Tensor, free: Tensor, positions: int | None
) -> tuple[Tensor, Tensor]:
    """Exact left-to-right log-probabilities (JustGRPO, arXiv 2601.15165): input j scores token j.

    Input j shows the tokens before j, and masks token j and all that follow. The sum over all C
    inputs is the log-likelihood of a policy that samples strictly left to right.

    Args:
        keys: [B] int64.
        free: [B, C]. A position that is not free is visible in every input; its input is empty.
        positions: m, score only so many random free positions of each row, each weighing F / m:
            unbiased. The sum's variance is F^2 (1 - m / F) / m times the variance of the row's
            token log-probabilities. None for all; N = m or C.
    """
    order = torch.arange(free.shape[1], device=free.device)
    if positions is None:
        return _slices(order.expand(free.shape), free, free.shape[1])
    ranks = ranks_among(mask_noise(keys, 1, free.shape[1])[:, 0], free)
    drawn = (ranks < positions) & free  # [B, C]
    # The drawn positions of a row from left to right; rows of fewer free tokens leave inputs empty.
    place = drawn.cumsum(dim=1) - 1
    index = torch.arange(positions, device=free.device)[:, None]
    scored = (place[:, None] == index) & drawn[:, None]  # [B, m, C]
    first = torch.where(scored.any(dim=2), scored.long().argmax(dim=2), free.shape[1])
    masks = (order >= first[..., None]) & free[:, None]
    share = free.sum(dim=1).float() / drawn.sum(dim=1).clamp(min=1)
    return masks, scored * share[:, None, None]


def left_to_right_in_blocks(
    prompt_lengths: Tensor, free: Tensor, block_size: int
) -> tuple[Tensor, Tensor]:
    """`autoregressive_masks` of a block-causal model, whose blocks are scored side by side: N = W.

    Input j scores the token of place j in every block, and shows those before it there. Blocks are
    counted from the start of the prompts, which have `prompt_lengths` [B] real tokens.
    """
    places = prompt_lengths[:, None] + torch.arange(free.shape[1], device=free.device)
    return _slices(places % block_size, free, block_size)
