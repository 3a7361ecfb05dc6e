"""What the native backbones share: rotary positions, attention with kept keys, the block loop.

An architecture (tiny.py, llada.py, dream.py) brings its parameter names and its block; everything
that must be right under padding, windows and caches is written here, once.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from igpo_lightning.models.backbone import BackboneModule, KeyValueCache
from igpo_lightning.models.special_tokens import TokenIds


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
        cos: [B or 1, 1, n, head_dim], float32.
        sin: Like `cos`.
        key_mask: [B, 1, 1 or n, L], True at keys that may be seen; None where all may.
        start: First position that is run.
        kept: Keys and values of this block at all L positions, renewed in place where the pass
            runs; None without a cache.
        wanted: Which of the n positions the block's output is needed at: a stretch, or each row's
            own [B, m]; None for all.
        tokens: [B, n], for the first block alone, whose inputs are their embeddings.
    """

    cos: Tensor
    sin: Tensor
    key_mask: Tensor | None
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


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, 1, n, head_dim] of rotary positions [B, n], in float32."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
    angles = positions[:, None, :, None].float() * theta**-exponents  # [B, 1, n, head_dim / 2]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions (Su et al., 2021) to queries or keys [B, heads, n, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: Heads, frame: Frame) -> Tensor:
    """Full attention of the positions that are run over all positions.

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
    if mask is not None and mask.shape[2] > 1:
        mask = frame.narrow(mask)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


def align_shifted(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Move hidden states [B, L, D] of a shifted checkpoint one place right.

    The checkpoint's state at i - 1 predicts token i. The first real token of a sequence has no
    state before it and keeps its own, so that it does not depend on padding or on what shares the
    row.
    """
    moved = torch.cat((hidden[:, :1], hidden[:, :-1]), dim=1)
    if attention_mask is None:
        return moved
    before = F.pad(attention_mask[:, :-1], (1, 0), value=0)
    return torch.where((before == attention_mask)[..., None], moved, hidden)


def visible_keys(attention_mask: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Which keys the positions [start, stop) see, and their rotary positions.

    Args:
        attention_mask: [B, L], as in `Backbone`: bool, or whole numbers where rows may hold several
            sequences.
        start: First position that is run.
        stop: One past the last.

    Returns:
        [B, 1, 1 or n, L], True at visible keys, and [B, n].
    """
    if attention_mask.dtype == torch.bool:
        # Counting real tokens only gives a row the same positions however far it is padded.
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        return attention_mask[:, None, None, :], positions[:, start:stop]
    # Padding sees padding: a softmax over nothing would be NaN.
    own = attention_mask[:, start:stop, None] == attention_mask[:, None, :]  # [B, n, L]
    return own[:, None], own.tril(start).sum(dim=2) - 1


def shifted_positions(positions: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Where the states stand that predict `positions` [B, m]: what `align_shifted` does to them."""
    before = (positions - 1).clamp(min=0)
    if attention_mask is None:
        return before
    return torch.where(attention_mask.bool().gather(1, before), before, positions)


class NativeBackbone(BackboneModule):
    """A bidirectional transformer of this project's own code; see `Backbone` for the interface.

    Attributes:
        heads: Attention heads of every block.
        rope_theta: Base of the rotary positions.
        shifted: Whether the checkpoint's logits at i - 1 predict token i; hidden from callers.
    """

    shifted: ClassVar[bool] = False
    supports_cache = True
    supports_packing = True
    supports_positions = True
    finishes_passes = True

    def __init__(
        self,
        raw_config: dict[str, Any],
        tokens: TokenIds,
        vocab_size: int,
        hidden_size: int,
        heads: Heads,
        rope_theta: float,
        initializer_std: float,
        *of_other_base: Any,
    ) -> None:
        super().__init__(raw_config, tokens, vocab_size, hidden_size, *of_other_base)
        self.heads = heads
        self.rope_theta = rope_theta
        self.initializer_std = initializer_std

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The token embedding."""

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module:
        """The normalisation between the last block and the head."""

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """The layer that makes logits; the token embedding where they share their weight."""

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        if self.head is self.embedding:
            return F.linear(hidden, self.embedding.weight)
        return self.head(hidden)

    def head_weight(self) -> Tensor | None:
        """The head as a matrix; None where an adapter has taken the layer's place."""
        head = self.head
        if type(head) is nn.Linear and head.bias is None:
            weight: Tensor = head.weight
        elif head is self.embedding:
            weight = self.embedding.weight
        else:
            return None
        # A view, since FSDP hangs hooks on what a forward method returns, for good on a parameter.
        return weight.view_as(weight)

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        window: tuple[int, int] | None = None,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Hidden states before the head; arguments as in `Backbone.encode`."""
        length = input_ids.shape[1]
        first, last = window or (0, length)
        start, stop = 0, length  # what is run
        # The state that predicts the window's first token stands one place before it, if shifted.
        seen = max(0, first - int(self.shifted)), last
        if cache is not None and cache.layers and window is not None:
            start, stop = seen
        if cache is not None and not cache.layers:
            cache.layers = self._empty_layers(input_ids)
        if positions is not None:
            at = shifted_positions(positions, attention_mask) if self.shifted else positions
            return self._run_blocks(input_ids, attention_mask, start, stop, at - start, cache)
        wanted = slice(seen[0] - start, seen[1] - start)
        hidden = self._run_blocks(input_ids, attention_mask, start, stop, wanted, cache)
        if not self.shifted:
            return hidden
        real = None if attention_mask is None else attention_mask[:, slice(*seen)]
        return align_shifted(hidden, real)[:, first - seen[0] :]

    def _run_blocks(self, input_ids: Tensor, *others: Any) -> Tensor:
        """`_run_all_blocks`, and what is left of it where the memory runs out midway.

        Ranks that share the weights gather every block together. One that cannot go on runs the
        blocks that are left on a single token before it raises: all are at the end of a pass then.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._run_all_blocks([], input_ids, *others)
        reached: list[int] = []
        try:
            return self._run_all_blocks(reached, input_ids, *others)
        except torch.OutOfMemoryError as error:
            message = str(error)
        # Only here the traceback, and with it the tensors of the attempt, are gone.
        x = self.embedding(input_ids[:1, :1])
        cos, sin = rotary_angles(torch.zeros_like(input_ids[:1, :1]), self.heads.width, 1.0)
        for block in self.blocks[len(reached) :]:
            x = block(x, Frame(cos, sin, None))
        raise torch.OutOfMemoryError(message)

    def _run_all_blocks(
        self,
        reached: list[int],
        input_ids: Tensor,
        attention_mask: Tensor | None,
        start: int,
        stop: int,
        wanted: slice | Tensor,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """Run the positions [start, stop); normalised hidden states [B, m, D] of the wanted ones.

        `wanted` counts from `start`. The last block gives keys and values at all positions, and
        everything else at the wanted ones alone. Blocks that are done are noted in `reached`.
        """
        if attention_mask is None:
            key_mask = None
            positions = torch.arange(start, stop, device=input_ids.device)[None]
        else:
            key_mask, positions = visible_keys(attention_mask, start, stop)
        cos, sin = rotary_angles(positions, self.heads.width, self.rope_theta)
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        tokens = input_ids[:, start:stop]
        x = self.embedding(tokens)
        for i, block in enumerate(self.blocks):
            kept = None if cache is None else cache.layers[i]
            last = i + 1 == len(self.blocks)
            frame = Frame(
                cos,
                sin,
                key_mask,
                start,
                kept,
                wanted if last else None,
                tokens if i == 0 else None,
            )
            x = checkpoint(block, x, frame, use_reentrant=False) if recompute else block(x, frame)
            reached.append(i)
        return self.final_norm(x)

    def _empty_layers(self, input_ids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Room for the keys and values of a whole canvas, one pair a block."""
        batch, length = input_ids.shape
        device, dtype = input_ids.device, self.embedding.weight.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        shape = (batch, self.heads.keys, length, self.heads.width)
        return [
            (
                torch.zeros(shape, dtype=dtype, device=device),
                torch.zeros(shape, dtype=dtype, device=device),
            )
            for _ in self.blocks
        ]
