"""Noised and clean tokens in one row, [x_t | x_0]: block-causal training in a single pass.

Block diffusion (BD3-LM, arXiv 2503.09573, section 3.2): a block's noised tokens see the clean
tokens of the blocks before, as they will when the sampler reaches the block. With both halves in
one row and a mask that says who sees whom, one pass scores all blocks.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from igpo_lightning.models.backbone import Layout


def sequence_positions(sequences: Tensor) -> Tensor:
    """Position [B, L] of each token within its sequence, for sequence numbers [B, L]."""
    own = sequences[:, :, None] == sequences[:, None, :]
    return own.tril().sum(dim=2) - 1


def paired_layout(sequences: Tensor, block_size: int) -> Layout:
    """Who sees whom in [x_t | x_0].

    A noised token sees its own noised block and the clean blocks before it; a clean token sees its
    own clean block and those before. Both halves have the same positions.

    Args:
        sequences: [B, L], True at real tokens, or whole numbers where rows hold several sequences.
        block_size: Tokens of a block, counted from each sequence's first token.

    Returns:
        A layout of 2 L tokens: a mask on CPUs, FlexAttention's on GPUs, which skips what is hidden.
    """
    sequences = sequences.long()
    positions = sequence_positions(sequences)
    blocks = (positions // block_size).repeat(1, 2)  # [B, 2 L]
    numbers = sequences.repeat(1, 2)
    batch, length = sequences.shape
    noised = torch.arange(2 * length, device=sequences.device) < length

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = numbers[row, query] == numbers[row, key]
        at, other = blocks[row, query], blocks[row, key]
        of_noised = torch.where(noised[key], other == at, other < at)
        of_clean = ~noised[key] & (other <= at)
        return own & torch.where(noised[query], of_noised, of_clean)

    if sequences.device.type == "cuda":
        size = 2 * length
        mask = create_block_mask(sees, batch, None, size, size, device=sequences.device.type)
        return Layout(positions.repeat(1, 2), mask)
    places = torch.arange(2 * length, device=sequences.device)
    rows = torch.arange(batch, device=sequences.device)[:, None, None]
    visible = sees(rows, rows, places[None, :, None], places[None, None, :])
    return Layout(positions.repeat(1, 2), visible)
