"""Likelihood estimators that mask block by block, as a semi-autoregressive sampler does.

Each function returns (masks, weights), both [B, N, C]; see estimators.py.
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.estimators import COUNT, bound_weights, mask_noise, ranks_among
from igpo_lightning.diffusion.noise import fold, uniform


def _blocks(free: Tensor, block_length: int) -> tuple[Tensor, Tensor]:
    """The block of each position, [C] as a number and [C, blocks] as one-hot."""
    length = free.shape[1]
    blocks = torch.arange(length, device=free.device) // block_length
    return blocks, torch.nn.functional.one_hot(blocks, -(-length // block_length))


def random_block_masks(
    keys: Tensor, free: Tensor, samples: int, block_length: int
) -> tuple[Tensor, Tensor]:
    """A random count within one random block, and all later blocks (SPG, arXiv 2510.09541).

    What a semi-autoregressive sampler meets: earlier blocks are complete, later ones masked. Of
    the blocks that hold free tokens one is drawn for each mask, and 1 to all of its free tokens
    are masked. All masked tokens are scored, as in the public code.
    """
    index = torch.arange(samples, device=free.device)
    blocks, onehot = _blocks(free, block_length)
    sizes = free.long() @ onehot  # free tokens of each block, [B, blocks]
    held = sizes > 0
    draw = fold(fold(keys, COUNT)[:, None], index)  # [B, N]
    place = (uniform(fold(draw, 0)) * held.sum(dim=1, keepdim=True)).long()  # among held blocks
    order = held.cumsum(dim=1) - 1  # [B, blocks]
    chosen = ((order[:, None] == place[..., None]) & held[:, None]).long().argmax(dim=2)  # [B, N]
    size = sizes.gather(1, chosen)
    counts = (uniform(fold(draw, 1)) * size).long() + 1
    inside = (blocks == chosen[..., None]) & free[:, None]  # [B, N, C]
    ranks = ranks_among(mask_noise(keys, samples, free.shape[1]), inside)
    later = (blocks > chosen[..., None]) & free[:, None]
    masks = (inside & (ranks < counts[..., None])) | later
    return masks, bound_weights(masks, free.sum(dim=1))


def every_block_weights(masks: Tensor, free: Tensor, block_length: int) -> Tensor:
    """Weights size / (count N) within each block; masks [B, N, C] hide `count` of its tokens."""
    blocks, onehot = _blocks(free, block_length)
    sizes = (free.long() @ onehot)[:, blocks]  # of each position's block, [B, C]
    counts = (masks.long() @ onehot)[..., blocks].clamp(min=1)  # [B, N, C]
    return masks * (sizes[:, None] / (counts * masks.shape[1])).float()


def every_block_masks(
    keys: Tensor, free: Tensor, samples: int, block_length: int
) -> tuple[Tensor, Tensor]:
    """Some tokens of every block (EBPO in DARE), N = `samples`.

    Of each block `every_block_counts` random free tokens are masked.
    """
    blocks, onehot = _blocks(free, block_length)
    sizes = free.long() @ onehot  # [B, blocks]
    counts = every_block_counts(uniform(fold(keys, COUNT)), sizes, samples)  # [B, N, blocks]
    noise = mask_noise(keys, samples, free.shape[1])
    masks = torch.zeros_like(noise, dtype=torch.bool)
    for number in range(sizes.shape[1]):
        inside = (free & (blocks == number))[:, None]  # [B, 1, C]
        masks |= (ranks_among(noise, inside) < counts[..., number, None]) & inside
    return masks, every_block_weights(masks, free, block_length)


def every_block_counts(start: Tensor, sizes: Tensor, samples: int) -> Tensor:
    """Tokens of each block that each mask hides, [B, N, blocks]: floor(t size) + 1, at most all.

    The times of a row are spread evenly over its masks and the blocks that hold tokens: with K of
    these, the k-th block of mask n has t = start + (n K + k) / (N K), modulo 1. Each is uniform.

    Args:
        start: [B], of the times, uniform on [0, 1).
        sizes: [B, blocks], tokens of each block.
        samples: N.
    """
    held = sizes > 0
    number = held.sum(dim=1)[:, None, None].clamp(min=1)  # K
    index = torch.arange(samples, device=sizes.device)[:, None]
    place = index * number + (held.cumsum(dim=1) - 1)[:, None]  # n K + k
    times = (start[:, None, None] + place / (number * samples)) % 1.0
    return torch.minimum((times * sizes[:, None]).long() + 1, sizes[:, None])
