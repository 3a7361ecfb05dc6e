"""The training loss of a masked diffusion model."""

from torch import Tensor
from torch.nn.functional import cross_entropy


def nelbo(logits: Tensor, completion_ids: Tensor, masks: Tensor, times: Tensor) -> Tensor:
    """Negative evidence lower bound per completion token, in nats, as LLaDA trains it.

    Mean over rows of 1/t * sum over masked positions of -log p(x0_k | x_t), divided by the
    completion length C (arXiv 2502.09992, Algorithm 2). EOS padding counts as part of the
    completion; the prompt has no place here, since it is never masked.

    Args:
        logits: [B, C, V], of the noised completion.
        completion_ids: [B, C], the clean completion x0.
        masks: [B, C], True at masked positions.
        times: [B], t in (0, 1).
    """
    losses = cross_entropy(logits.float().transpose(1, 2), completion_ids, reduction="none")
    weights = masks / times[:, None].to(losses.dtype)
    return (losses * weights).sum(dim=1).div(completion_ids.shape[1]).mean()
