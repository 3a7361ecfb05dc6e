"""The training loss of a masked diffusion model."""

from torch import Tensor


def nelbo(estimates: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Negative evidence lower bound per completion token, in nats, as LLaDA trains it.

    Mean over rows of 1/t * sum over masked positions of -log p(x0_k | x_t), divided by the
    completion length C (arXiv 2502.09992, Algorithm 2). EOS padding counts as part of the
    completion; the prompt has no place here, since it is never masked.

    Args:
        estimates: [B, C], what each completion token adds to the bound: its weight (1/t where it
            is masked, 0 where it is visible; see `draw_noise`) times log p(x0_k | x_t).
        lengths: [B], each completion's own C where they differ; what stands behind it is 0.

    Returns:
        [], 0 where there are no rows.
    """
    rows = -estimates.sum(dim=1).div(estimates.shape[1] if lengths is None else lengths)
    return rows.mean() if len(rows) else rows.sum()
