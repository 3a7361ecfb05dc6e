"""What a token's term weighs in the loss."""

import torch
from torch import Tensor


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
        normalization: "sequence": mean over each row's tokens, then over rows (IGPO, Eq. 3; GRPO).
            "sum": sum over each row's tokens, mean over rows (wd1; LUSPO, whose term is weighted by
            length). "constant": that sum divided by a constant (Dr. GRPO, arXiv 2503.20783).
            "batch": mean over all tokens of the optimizer step (DAPO, arXiv 2503.14476).
            "micro_batch": mean over the tokens of each micro-batch, then over micro-batches (d1 and
            its descendants, whose public code gives each the same weight, however many tokens it
            holds).
        length: The constant of "constant"; None for C.
        rows: Rows of the mean; None for B. Given where these rows are a part of a larger batch.
        tokens: Counted tokens of the whole batch; None for those of `loss_mask`.
        micro_batch: Rows of a micro-batch; None for B. Groups of rows are whole micro-batches.
        denominators: [B, C], tokens that a row's mean divides by; None for `loss_mask`.

    Raises:
        ValueError: The normalisation is unknown.
    """
    counted = loss_mask.float()
    # Where nothing counts all weights are 0, whatever they are divided by.
    rows = (len(counted) if rows is None else rows) or 1.0
    if normalization == "sequence":
        divided = counted if denominators is None else denominators.float()
        return counted / divided.sum(dim=1, keepdim=True).clamp(min=1) / rows
    if normalization == "sum":
        return counted / rows
    if normalization == "constant":
        return counted / (length or counted.shape[1]) / rows
    if normalization == "batch":
        return counted / ((float(counted.sum()) if tokens is None else tokens) or 1.0)
    if normalization == "micro_batch":
        size = micro_batch or len(counted) or 1
        parts = [part.sum().expand(len(part)) for part in torch.split(counted, size)]
        return counted / torch.cat(parts)[:, None].clamp(min=1) * (size / rows)
    raise ValueError(f"normalization {normalization!r} is unknown")
