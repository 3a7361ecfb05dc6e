"""Noised and clean tokens in one row, [x_t | x_0]: block-causal training in a single pass.

Block diffusion (BD3-LM, arXiv 2503.09573, section 3.2): a block's noised tokens see the clean
tokens of the blocks before, as they will when the sampler reaches the block. With both halves in
one row and a mask that says who sees whom, one pass scores all blocks.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from igpo_lightning.models.backbone import Backbone, Layout


def _who_sees_whom(sequences: Tensor, block_size: int) -> tuple[Tensor, Callable[..., Tensor]]:
    """Positions [B, 2 L] in [x_t | x_0], and whether a query sees a key.

    The second takes what FlexAttention asks of a mask: row, head, query and key.
    """
    sequences = sequences.long()
    same = sequences[:, :, None] == sequences[:, None, :]
    positions = (same.tril().sum(dim=2) - 1).repeat(1, 2)  # each token's within its sequence
    blocks = positions // block_size  # [B, 2 L]
    numbers = sequences.repeat(1, 2)
    length = sequences.shape[1]
    noised = torch.arange(2 * length, device=sequences.device) < length

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = numbers[row, query] == numbers[row, key]
        at, other = blocks[row, query], blocks[row, key]
        of_noised = torch.where(noised[key], other == at, other < at)
        of_clean = ~noised[key] & (other <= at)
        return own & torch.where(noised[query], of_noised, of_clean)

    return positions, sees


def dense_layout(sequences: Tensor, block_size: int) -> Layout:
    """`paired_layout` with a mask [B, 2 L, 2 L]."""
    positions, sees = _who_sees_whom(sequences, block_size)
    batch, size = positions.shape
    places = torch.arange(size, device=sequences.device)
    rows = torch.arange(batch, device=sequences.device)[:, None, None]
    return Layout(positions, sees(rows, rows, places[None, :, None], places[None, None, :]))


def flex_layout(sequences: Tensor, block_size: int) -> Layout:
    """`paired_layout` with FlexAttention's mask, which skips what no query of a tile sees."""
    positions, sees = _who_sees_whom(sequences, block_size)
    batch, size = positions.shape
    device = sequences.device.type
    return Layout(positions, create_block_mask(sees, batch, None, size, size, device=device))


def paired_layout(sequences: Tensor, block_size: int) -> Layout:
    """Who sees whom in [x_t | x_0].

    A noised token sees its own noised block and the clean blocks before it; a clean token sees its
    own clean block and those before. Both halves have the same positions.

    Args:
        sequences: [B, L], True at real tokens, or whole numbers where rows hold several sequences.
        block_size: Tokens of a block, counted from each sequence's first token.

    Returns:
        A layout of 2 L tokens: a dense mask on CPUs, FlexAttention's on GPUs.
    """
    make = flex_layout if sequences.device.type == "cuda" else dense_layout
    return make(sequences, block_size)


def noised_layout(model: Backbone, ids: Tensor, attention_mask: Tensor | None) -> Layout | None:
    """What `encode_noised` needs for canvases [B, L], whatever is masked in them.

    None for full attention, where the noised row is all that is seen.
    """
    block_size = getattr(model, "block_size", None)
    if block_size is None:
        return None
    real = torch.ones_like(ids) if attention_mask is None else attention_mask
    return paired_layout(real, block_size)


def encode_noised(
    model: Backbone,
    noised: Tensor,
    clean: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None,
    window: tuple[int, int] | None = None,
) -> Tensor:
    """Hidden states of noised rows, in one pass whatever the model's attention.

    With full attention the noised row is all that is seen. A block-causal model sees noise in its
    own block alone, and the clean tokens of the blocks before. Rows are [B, L], the layout is
    `noised_layout` of them, the result [B, L, D], or [B, stop - start, D] with a window.
    """
    if layout is None:
        return model.encode(noised, attention_mask, window=window)
    both = torch.cat((noised, clean), dim=1)
    return model.encode(both, window=window or (0, noised.shape[1]), layout=layout)


def steps_within_blocks(unmask_step: Tensor, prompt_lengths: Tensor, block_size: int) -> Tensor:
    """Order of commits within each token's own block, in place of that over the whole row.

    What stands in other blocks is either clean or not seen, so that as many inputs as a block has
    steps replay a whole trajectory (TraceRL, arXiv 2509.06949).

    Args:
        unmask_step: [B, C], steps over all blocks; -1 for hints, which come first.
        prompt_lengths: [B], real tokens of the prompts: blocks are counted from their start.
        block_size: Tokens of a block.

    Returns:
        [B, C], from 0; equal steps of a block stay equal.
    """
    places = prompt_lengths[:, None] + torch.arange(unmask_step.shape[1], device=unmask_step.device)
    block = places // block_size  # [B, C]
    same = block[:, :, None] == block[:, None, :]
    earlier = same & (unmask_step[:, None, :] < unmask_step[:, :, None])
    # Of tokens that share an earlier step, one counts: the first in the row.
    equal = same & (unmask_step[:, None, :] == unmask_step[:, :, None])
    leads = ~equal.tril(-1).any(dim=2)  # [B, C]
    return (earlier & leads[:, None, :]).sum(dim=2)
