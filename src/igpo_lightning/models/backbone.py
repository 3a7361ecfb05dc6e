"""What the sampler, the likelihoods and the losses need of a model, and nothing more."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Backbone(Protocol):
    """A bidirectional token model with **aligned** logits: `logits[:, i]` predicts token i.

    `attention_mask` [B, L] is True (or 1) at real tokens; None means that nothing is padded. The
    result at a real token depends neither on how much padding its row has nor on the other rows.
    """

    mask_token_id: int
    eos_token_id: int
    pad_token_id: int
    vocab_size: int

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits [B, L, V] of `input_ids` [B, L]."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states [B, L, D] that the head reads: the body without the head."""
        ...

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of chosen hidden states [..., D]: the head without the body."""
        ...
