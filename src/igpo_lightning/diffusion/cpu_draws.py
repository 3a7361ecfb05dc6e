"""Arg-max and Gumbel-max draws for CPUs.

A CPU vectorises a maximum but not an arg-max, and takes its time over logarithms. Both functions
give exactly what `scores.argmax(dim=-1)` and `(logits + T * gumbel).argmax(dim=-1)` give; GPUs run
those, since they are fast at both and would have to tell the host how many tokens are left.
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import NoiseBuffers, gumbel_of, stream

_WIDTH = 128  # tokens per group in the two-level arg-max


def two_level_argmax(scores: Tensor) -> Tensor:
    """The first position of the maximum of each row, [M, V] -> [M]."""
    rows, size = scores.shape
    whole = size - size % _WIDTH
    if whole == 0:
        return scores.argmax(dim=-1)
    groups = scores[:, :whole].view(rows, -1, _WIDTH)
    group = groups.amax(dim=-1).argmax(dim=-1)
    best = groups[torch.arange(rows), group]  # [M, width]
    at = torch.cat((best, scores[:, whole:]), dim=1).argmax(dim=-1)
    return torch.where(at < _WIDTH, group * _WIDTH + at, whole + at - _WIDTH)


def pruned_gumbel_argmax(
    logits: Tensor, keys: Tensor, temperature: float, buffers: NoiseBuffers
) -> Tensor:
    """The arg-max [M] of logits + T * Gumbel noise, with logarithms for a few tokens alone.

    Noise grows with the integer that it is made of. Of the sums at the largest logit and at the
    largest noise the better one is a bound: a token that beats it has a logit that reaches it with
    the row's largest noise, and noise that reaches it with the row's largest logit. Those tokens
    are found by comparing, and only they are summed up, in float64 as the others would be.

    Args:
        logits: [M, V], float32, one finite in each row at least.
        keys: [M] int64.
        temperature: T, above 0.
        buffers: Memory for the noise of M rows.
    """
    numbers = stream(keys, buffers)  # [M, V]
    largest = torch.stack((two_level_argmax(logits), two_level_argmax(numbers)), dim=1)  # [M, 2]
    sums = gumbel_of(numbers.gather(1, largest)) * temperature + logits.gather(1, largest)
    bound = sums.amax(dim=1, keepdim=True)
    top_logit = logits.gather(1, largest[:, :1]).double()
    top_noise = temperature * gumbel_of(numbers.gather(1, largest[:, 1:]))
    # Far above all rounding, float32's too; lets some tokens more through.
    slack = 1e-6 * (1 + bound.abs() + top_logit.abs() + top_noise.abs())
    least_noise = (bound - top_logit - slack) / temperature
    least_number = ((-(-least_noise).exp()).exp() * 2.0**52 * (1 - 1e-9)).long()
    least_logit = (bound - top_noise - slack).float()
    rows, tokens = ((numbers >= least_number) & (logits >= least_logit)).nonzero(as_tuple=True)
    sums = gumbel_of(numbers[rows, tokens]) * temperature + logits[rows, tokens]
    best = bound.flatten().scatter_reduce(0, rows, sums, "amax")
    # The first of equal ones, as an arg-max takes it.
    losing = tokens.masked_fill(sums < best[rows], logits.shape[1])
    first = torch.full_like(keys, logits.shape[1] - 1)
    return first.scatter_reduce(0, rows, losing, "amin")
