"""Attention of the native backbones: heads, rotary positions, who sees whom, kept keys."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention


@dataclass(frozen=True)
class Heads:
    """Attention heads of a block: `queries` heads share `keys` key-value heads evenly."""

    queries: int
    keys: int
    width: int  # channels a head


@dataclass(frozen=True)
class Frame:
    """What every block of one pass sees beside the hidden states; n of L positions are run.

    Attributes:
        cos: [B or 1, 1, n, rotated channels of a head], float32.
        sin: Like `cos`.
        key_mask: [B or 1, 1, 1 or n, L], True at keys that may be seen, or the same as
            FlexAttention takes it; None where all may.
        start: First position that is run.
        kept: Keys and values of this block at all L positions, renewed in place where the pass
            runs; None without a cache.
        wanted: Which of the n positions the block's output is needed at: a stretch, or each row's
            own [B, m]; None for all.
        tokens: [B, n], for the first block alone, whose inputs are their embeddings.
    """

    cos: Tensor
    sin: Tensor
    key_mask: Tensor | BlockMask | None
    start: int = 0
    kept: tuple[Tensor, Tensor] | None = None
    wanted: slice | Tensor | None = None
    tokens: Tensor | None = None

    def narrow(self, x: Tensor) -> Tensor:
        """The wanted positions of x [B, n, D] or [B or 1, 1, n, D].

        They are all that queries and the MLP have to be run at.
        """
        if self.wanted is None:
            return x
        if isinstance(self.wanted, slice):
            return x[..., self.wanted, :]
        index = self.wanted[:, :, None] if x.dim() == 3 else self.wanted[:, None, :, None]
        return x.take_along_dim(index, dim=-2)


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's rotary positions for contexts longer than the model was first trained on.

    Attributes:
        factor: By how much the slowest channels turn slower.
        low: Channels that turn fewer than so many times in the first context are the slowest.
        high: Channels that turn more often than so many times stay as they are.
        context: Tokens of the first context.
    """

    factor: float
    low: float
    high: float
    context: int

    def scaled(self, frequencies: Tensor) -> Tensor:
        """Frequencies [n] in radians a position; between `low` and `high` the change is linear."""
        turns = self.context * frequencies / (2 * math.pi)
        unchanged = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return torch.lerp(frequencies / self.factor, frequencies, unchanged)


def rotary_angles(
    positions: Tensor, width: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, n, width] of rotary positions [B, n], in float32."""
    exponents = torch.arange(0, width, 2, device=positions.device) / width
    frequencies = theta**-exponents  # [width / 2]
    if scaling is not None:
        frequencies = scaling.scaled(frequencies)
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, n, width / 2]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions (Su et al., 2021) to queries or keys [B, heads, n, head_dim].

    Channels of a head beyond the width of `cos` carry no position.
    """
    rotated, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = rotated.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    rotated = (rotated * cos + turned * sin).to(x.dtype)
    return torch.cat((rotated, rest), dim=-1) if rest.shape[-1] else rotated


def attend(query: Tensor, key: Tensor, value: Tensor, heads: Heads, frame: Frame) -> Tensor:
    """Attention of the positions that are run over all that their mask shows.

    Args:
        query: [B, m, queries * width] at the wanted positions, before rotary positions.
        key: [B, n, keys * width], before rotary positions.
        value: [B, n, keys * width].
        heads: How the channels split.
        frame: Positions, mask and kept keys of the pass.

    Returns:
        [B, m, queries * width].
    """
    batch, length, _ = key.shape
    query = query.view(batch, -1, heads.queries, heads.width).transpose(1, 2)
    key = key.view(batch, length, heads.keys, heads.width).transpose(1, 2)
    value = value.view(batch, length, heads.keys, heads.width).transpose(1, 2)
    query = rotate(query, frame.narrow(frame.cos), frame.narrow(frame.sin))
    key = rotate(key, frame.cos, frame.sin)
    if frame.kept is not None:
        inside = slice(frame.start, frame.start + key.shape[2])
        kept_keys, kept_values = frame.kept
        kept_keys[:, :, inside] = key
        kept_values[:, :, inside] = value
        key, value = kept_keys, kept_values
    if heads.keys != heads.queries:
        # Not enable_gqa: with a mask it has no memory-efficient kernel.
        share = heads.queries // heads.keys
        key, value = key.repeat_interleave(share, dim=1), value.repeat_interleave(share, dim=1)
    mask = frame.key_mask
    if isinstance(mask, BlockMask):
        return _flexible(query, key, value, mask).transpose(1, 2).flatten(2)
    if mask is not None and mask.shape[2] > 1:
        mask = frame.narrow(mask)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


_NARROWEST = 16  # channels of a head that FlexAttention's kernel takes


@cache
def _fused() -> Callable[..., Tensor]:
    """FlexAttention as a kernel; uncompiled, it holds all scores in memory."""
    return torch.compile(flex_attention, dynamic=True)


def _flexible(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> Tensor:
    """FlexAttention [B, heads, n, width], compiled where a kernel can compute it."""
    if query.is_cuda and query.shape[-1] >= _NARROWEST:
        return _fused()(query, key, value, block_mask=mask)
    mixed = flex_attention(query, key, value, block_mask=mask)
    assert isinstance(mixed, Tensor)
    return mixed


def visible_keys(
    attention_mask: Tensor, start: int, stop: int, block_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Which keys the positions [start, stop) see, and their rotary positions.

    Args:
        attention_mask: [B, L], as in `Backbone`: bool, or whole numbers where rows may hold several
            sequences.
        start: First position that is run.
        stop: One past the last.
        block_size: A position sees its own block of so many tokens and those before; None: all.

    Returns:
        [B, 1, 1 or n, L], True at visible keys, and [B, n].
    """
    if attention_mask.dtype == torch.bool:
        # Counting real tokens only gives a row the same positions however far it is padded.
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)  # [B, L]
        visible = attention_mask[:, None, :]
    else:
        # Padding sees padding: a softmax over nothing would be NaN.
        own = attention_mask[:, :, None] == attention_mask[:, None, :]  # [B, L, L]
        positions = own.tril().sum(dim=2) - 1
        visible = own[:, start:stop]
    if block_size is not None:
        visible = visible & earlier_blocks(positions[:, start:stop], positions, block_size)
    return visible[:, None], positions[:, start:stop]


def earlier_blocks(queries: Tensor, keys: Tensor, block_size: int) -> Tensor:
    """Whether a key's block is the query's or one before it, [B, n, L].

    From the positions of queries [B, n] and keys [B, L] within their sequences, from whose first
    token blocks are counted.
    """
    return (queries // block_size)[:, :, None] >= (keys // block_size)[:, None, :]
