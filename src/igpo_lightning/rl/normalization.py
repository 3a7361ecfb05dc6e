"""What a token's term weighs in the loss: one function a normalisation, in `NORMALIZATIONS`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Counted:
    """The tokens of a batch that count, and what the means over them divide by.

    Attributes:
        tokens: [B, C] float, 1 at counted tokens.
        lengths: [B, 1], what a row's mean divides by, at least 1.
        rows: Rows of the mean over rows; these rows may be a part of a larger batch.
        total: Tokens of the mean over the whole batch.
        length: The constant of "constant".
        micro_batch: Rows of a micro-batch.
    """

    tokens: Tensor
    lengths: Tensor
    rows: float
    total: float
    length: int
    micro_batch: int


def row_means(counted: Counted) -> Tensor:
    """Mean over each row's tokens, then over rows (IGPO, Eq. 3; GRPO)."""
    return counted.tokens / counted.lengths / counted.rows


def row_sums(counted: Counted) -> Tensor:
    """Sum over each row's tokens, mean over rows (wd1; LUSPO, whose term is weighted by length)."""
    return counted.tokens / counted.rows


def constant_length(counted: Counted) -> Tensor:
    """Sum over each row's tokens divided by a constant, mean over rows (Dr. GRPO, 2503.20783)."""
    return counted.tokens / counted.length / counted.rows


def batch_mean(counted: Counted) -> Tensor:
    """Mean over all tokens of the optimizer step (DAPO, arXiv 2503.14476)."""
    return counted.tokens / counted.total


def micro_batch_means(counted: Counted) -> Tensor:
    """Mean over the tokens of each micro-batch, then over micro-batches (d1 and its descendants).

    Their public code accumulates gradients over micro-batches of a few rows, mostly one group, and
    gives each the same weight, however many tokens it holds.
    """
    size = counted.micro_batch
    parts = [part.sum().expand(len(part)) for part in torch.split(counted.tokens, size)]
    totals = torch.cat(parts)[:, None].clamp(min=1)
    return counted.tokens / totals * (size / counted.rows)


NORMALIZATIONS: dict[str, Callable[[Counted], Tensor]] = {
    "sequence": row_means,
    "sum": row_sums,
    "constant": constant_length,
    "batch": batch_mean,
    "micro_batch": micro_batch_means,
}


def normalized_weights(
    loss_mask: Tensor,
    normalization: str = "sequence",
    *,
    length: int | None = None,
    rows: float | None = None,
    tokens: float | None = None,
    micro_batch: int | None = None,
    denominators: Tensor | None = None,
) -> Tensor:
    """Weight [B, C] of each token in the loss; the loss is the weighted sum.

    Args:
        loss_mask: [B, C], True at counted tokens. A row without any adds 0 to the mean.
        normalization: Name in `NORMALIZATIONS`; each function there says what it averages.
        length: The constant of "constant"; None for C.
        rows: Rows of the mean; None for B. Given where these rows are a part of a larger batch.
        tokens: Counted tokens of the whole batch; None for those of `loss_mask`.
        micro_batch: Rows of a micro-batch; None for B. Groups of rows are whole micro-batches.
        denominators: [B, C], tokens that a row's mean divides by; None for `loss_mask`.

    Raises:
        ValueError: The normalisation is unknown.
    """
    if normalization not in NORMALIZATIONS:
        known = ", ".join(NORMALIZATIONS)
        raise ValueError(f"normalization {normalization!r} is unknown; use one of {known}")
    weights = loss_mask.float()
    divided = weights if denominators is None else denominators.float()
    return NORMALIZATIONS[normalization](
        Counted(
            weights,
            divided.sum(dim=1, keepdim=True).clamp(min=1),
            # Where nothing counts all weights are 0, whatever they are divided by.
            rows=(loss_mask.shape[0] if rows is None else rows) or 1.0,
            total=(float(weights.sum()) if tokens is None else tokens) or 1.0,
            length=length or loss_mask.shape[1],
            micro_batch=micro_batch or loss_mask.shape[0] or 1,
        )
    )
