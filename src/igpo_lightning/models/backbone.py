"""What the sampler, the likelihoods and the losses need of a model, and nothing more."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers.pytorch_utils import Conv1D

from igpo_lightning.models.special_tokens import TokenIds

Weight = TypeVar("Weight")  # a tensor, or what becomes one


@dataclass
class KeyValueCache:
    """Keys and values of a whole canvas, as one full pass left them.

    Attributes:
        layers: One (keys, values) pair a block, each [B, heads, L, head_dim], keys after rotary
            positions; empty until the first full pass.
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Where tokens stand and what they see, in passes that are not one sequence a row.

    Attributes:
        positions: [B or 1, L], each token's position within its sequence.
        visible: [B or 1, L or 1, L], True where the query (second axis) sees the key (third), or
            the same as FlexAttention takes it, which needs a pass over all positions; None where
            all see all.
    """

    positions: Tensor
    visible: Tensor | BlockMask | None


@runtime_checkable
class Backbone(Protocol):
    """A bidirectional token model with **aligned** logits: `logits[:, i]` predicts token i.

    `attention_mask` [B, L] is True (or 1) at real tokens; None means that nothing is padded. The
    result at a real token depends neither on how much padding its row has nor on the other rows.
    With `supports_packing`, whole numbers tell the sequences apart that share a row: 1 at the
    tokens of the first, 2 at those of the second, and so on. Each sees itself alone, and its
    positions begin anew: its result is what it would be in a row of its own. With a `block_size`
    attention is block-causal: a token sees its own block, counted from its sequence's first token,
    and the blocks before, so that finished blocks keep their keys and values for good; if it is
    `shifted`, the state that predicts a block's first token stands in the block before. With
    `finishes_passes` a pass without gradient that runs out of memory goes through all blocks before
    it raises, so that of ranks that share the weights one may try again with fewer rows.
    """

    mask_token_id: int
    eos_token_id: int
    pad_token_id: int
    vocab_size: int
    block_size: int | None
    shifted: bool
    supports_cache: bool
    supports_packing: bool
    supports_positions: bool
    finishes_passes: bool

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits [B, L, V] of `input_ids` [B, L]."""
        ...

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
        """Hidden states that the head reads: the body without the head.

        Args:
            input_ids: [B, L], the whole canvas in any case.
            attention_mask: [B, L] or None.
            window: Positions [start, stop) to return; None for all. The result is aligned:
                `project(encode(...)[:, i])` predicts token `start + i`.
            cache: An empty one is filled by a full pass. A filled one makes the pass cheap: only
                the window is run, it attends to the kept keys and values of every position
                outside it, and its own are renewed. Needs `supports_cache`, and comes with a
                `layout`. A block-causal model never runs what lies behind the window, which has to
                end with a block: it sees nothing of it.
            positions: [B, m], each row's own positions to return, all of them in the window; None
                for the whole of it. Never given to a model without `supports_positions`, which
                may leave the argument out.
            layout: Positions and visible keys in place of what `attention_mask` gives. Never given
                to a model without `supports_packing`, which may leave the argument out.

        Returns:
            [B, L, D]; with a window [B, stop - start, D]; with positions [B, m, D].
        """
        ...

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of chosen hidden states [..., D]: the head without the body."""
        ...

    def head_weight(self) -> Tensor | None:
        """The matrix W [V, D] where `project(hidden)` is `hidden @ W.T` and nothing more.

        Gradients flow through it. None for any other head (a bias, a transform, an adapter): its
        likelihoods go through `project`, which costs some memory.
        """
        ...


class BackboneModule(nn.Module):
    """What training adds to `Backbone`: parameters, and the units that they are handled in.

    Attributes:
        raw_config: The content of config.json, kept as it was read so that exports carry it on.
        hidden_size: D, channels of what `encode` returns.
        block_size: Tokens of a block of block-causal attention; None for full attention.
        shifted: Whether the checkpoint's logits at i - 1 predict token i; hidden from callers.
        gradient_checkpointing: Recompute each block in the backward pass.
        source: The folder or hub id that it was loaded from; None for one made from scratch.
        largest_token_id: Of the tokenizer beside it; None where there is none.
        initializer_std: Of random weight matrices.
    """

    block_size: int | None = None
    shifted: bool = False
    supports_cache = False
    supports_packing = False
    supports_positions = False
    finishes_passes = False
    gradient_checkpointing = False
    source: str | None = None
    largest_token_id: int | None = None
    initializer_std: float = 0.02

    def __init__(
        self,
        raw_config: dict[str, Any],
        tokens: TokenIds,
        vocab_size: int,
        hidden_size: int,
        *of_other_base: Any,
    ) -> None:
        # Nothing for nn.Module; the configuration where PreTrainedModel is the other base class.
        super().__init__(*of_other_base)
        self.raw_config = raw_config
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.mask_token_id = tokens.mask
        self.eos_token_id = tokens.eos
        self.pad_token_id = tokens.pad

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last: the units of sharding and checkpointing."""

    @property
    def linear_names(self) -> tuple[str, ...]:
        """Last names of the blocks' linear layers, which LoRA adapts by default."""
        parts = self.blocks.named_modules()
        paths = (path for path, part in parts if isinstance(part, nn.Linear | Conv1D))
        # Adapters stand within the layer that they adapt.
        adapted = (path.partition(".lora_")[0].removesuffix(".base_layer") for path in paths)
        return tuple(dict.fromkeys(path.rpartition(".")[2] for path in adapted))

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Random weights: matrices normal, norms one, biases zero; none on the meta device."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.is_meta:  # torch would take milliseconds for each to draw nothing
                    continue
                if parameter.dim() > 1:
                    parameter.normal_(std=self.initializer_std, generator=generator)
                else:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)

    def checkpoint_blocks(self) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.gradient_checkpointing = True

    def compile_blocks(self) -> None:
        """Compile each block by itself: one graph serves them all, and names stay as they are."""
        for block in self.blocks:
            block.compile()

    def checkpoint_name(self, name: str) -> str:
        """What the original checkpoint calls a parameter of this module."""
        return name

    def checkpoint_names(self, state: Mapping[str, Weight]) -> dict[str, Weight]:
        """The weights of a state dict under the names of the original checkpoint."""
        return {self.checkpoint_name(name): tensor for name, tensor in state.items()}

    def copies(self) -> Mapping[str, str]:
        """Names in a checkpoint that may repeat a parameter, and that parameter's own name."""
        return {}

    @abstractmethod
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

    @abstractmethod
    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""

    def head_weight(self) -> Tensor | None:
        """The head as a matrix; see `Backbone.head_weight`. None unless a model says otherwise."""
        return None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Aligned logits [B, L, V] of `input_ids` [B, L]; `attention_mask` as in `Backbone`."""
        return self.project(self.encode(input_ids, attention_mask))
