"""What the native backbones share: windows, caches, the hidden shift, the loop over the blocks.

An architecture (tiny.py, decoder.py) brings its parameter names and its block; everything that must
be right under padding, windows, caches and block-causal attention is written here and in
attention.py, once.
"""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.checkpoint import checkpoint

from igpo_lightning.models.attention import (
    Frame,
    Heads,
    RopeScaling,
    earlier_blocks,
    rotary_angles,
    visible_keys,
)
from igpo_lightning.models.backbone import BackboneModule, KeyValueCache, Layout
from igpo_lightning.models.special_tokens import TokenIds


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
        rope_scaling: How they are stretched for long contexts; None for not at all.
        rotary_width: Channels of a head that rotate.
    """

    supports_cache = True
    supports_packing = True
    supports_positions = True
    finishes_passes = True
    rope_scaling: RopeScaling | None = None

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
        self.rotary_width = heads.width
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
        layout: Layout | None = None,
    ) -> Tensor:
        """Hidden states before the head; arguments as in `Backbone.encode`."""
        length = input_ids.shape[1]
        first, last = window or (0, length)
        start, stop = 0, length  # what is run
        # The state that predicts the window's first token stands one place before it, if shifted.
        # Block-causal samplers know a block's first token, and the state before it is final.
        final = self.block_size is not None and cache is not None
        seen = max(0, first - int(self.shifted and not final)), last
        if cache is not None and window is not None and (cache.layers or final):
            start, stop = (seen[0] if cache.layers else 0), (last if final else seen[1])
        if cache is not None and not cache.layers:
            cache.layers = self._empty_layers(input_ids)
        context = (attention_mask, layout, start, stop)
        if positions is not None:
            at = shifted_positions(positions, attention_mask) if self.shifted else positions
            return self._run_blocks(input_ids, *context, (at - start).clamp(min=0), cache)
        wanted = slice(seen[0] - start, seen[1] - start)
        hidden = self._run_blocks(input_ids, *context, wanted, cache)
        if not self.shifted:
            return hidden
        if layout is not None:
            moved = align_shifted(hidden, None)
            begins = layout.positions[:, slice(*seen)] == 0
            return torch.where(begins[..., None], hidden, moved)[:, first - seen[0] :]
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
        cos, sin = rotary_angles(torch.zeros_like(input_ids[:1, :1]), self.rotary_width, 1.0)
        for block in self.blocks[len(reached) :]:
            x = block(x, Frame(cos, sin, None))
        raise torch.OutOfMemoryError(message)

    def _run_all_blocks(
        self,
        reached: list[int],
        input_ids: Tensor,
        attention_mask: Tensor | None,
        layout: Layout | None,
        start: int,
        stop: int,
        wanted: slice | Tensor,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """Run the positions [start, stop); normalised hidden states [B, m, D] of the wanted ones.

        `wanted` counts from `start`. The last block gives keys and values at all positions, and
        everything else at the wanted ones alone. Blocks that are done are noted in `reached`.
        """
        key_mask, positions = self._visible(input_ids, attention_mask, layout, start, stop)
        cos, sin = rotary_angles(positions, self.rotary_width, self.rope_theta, self.rope_scaling)
        late = isinstance(key_mask, BlockMask)  # its queries are all positions
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
                wanted if last and not late else None,
                tokens if i == 0 else None,
            )
            x = checkpoint(block, x, frame, use_reentrant=False) if recompute else block(x, frame)
            reached.append(i)
        return self.final_norm(Frame(cos, sin, None, wanted=wanted).narrow(x) if late else x)

    def _visible(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        layout: Layout | None,
        start: int,
        stop: int,
    ) -> tuple[Tensor | BlockMask | None, Tensor]:
        """The mask of the keys [B or 1, 1, 1 or n, L] and the positions [B or 1, n] of a pass."""
        if layout is not None:
            visible = layout.visible
            if isinstance(visible, Tensor):
                visible = visible[:, None]
                visible = visible if visible.shape[2] == 1 else visible[:, :, start:stop]
            return visible, layout.positions[:, start:stop]
        if attention_mask is not None:
            return visible_keys(attention_mask, start, stop, self.block_size)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if self.block_size is None:
            return None, places[:, start:stop]
        return earlier_blocks(places[:, start:stop], places, self.block_size)[:, None], places[
            :, start:stop
        ]

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
