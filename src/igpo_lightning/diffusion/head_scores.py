"""Log-probability and entropy at chosen positions, without their logits ever being kept.

At LLaDA's vocabulary of 126,464 words the logits of one completion of 256 tokens are 130 MB in
float32, and a plain log-softmax with its gradient holds several such tensors at once: more than the
transformer's own activations. Here the logits of all chosen positions are made for a few thousand
words at a time, in the forward and again in the backward pass, and two numbers a position are kept.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# Logits that exist at one time: 16 MB in float32.
CHUNK_ELEMENTS = 2**22


class _LinearHeadScores(torch.autograd.Function):
    """Log-softmax, gather and entropy of `hidden @ weight.T`, over chunks of the vocabulary."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        tokens: Tensor,
        dtype: torch.dtype,
        words: int,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        """Scores [M], [M] of hidden states [M, D] with a head [V, D], `words` rows at a time."""
        states = hidden.to(dtype)
        largest = torch.full(tokens.shape, -torch.inf, device=hidden.device)
        total = torch.zeros_like(largest)  # sum of exp(logit - largest)
        moment = torch.zeros_like(largest)  # sum of exp(logit - largest) * logit
        chosen = torch.zeros_like(largest)  # the logit of the token
        for start in range(0, len(weight), words):
            logits = (states @ weight[start : start + words].to(dtype).T).float()
            inside, place = _within(tokens, start, logits.shape[1])
            chosen = torch.where(inside, logits.gather(1, place).squeeze(1), chosen)
            before, largest = largest, torch.maximum(largest, logits.amax(dim=1))
            rescale = (before - largest).exp()
            scaled = (logits - largest[:, None]).exp_()
            total = total * rescale + scaled.sum(dim=1)
            if with_entropy:
                moment = moment * rescale + scaled.mul_(logits).sum(dim=1)
        log_normalizer = largest + total.log()
        ctx.save_for_backward(hidden, weight, tokens, log_normalizer)
        ctx.dtype, ctx.words = dtype, words
        entropy = log_normalizer - moment / total  # log Z - E[logit]
        ctx.mark_non_differentiable(entropy)
        return chosen - log_normalizer, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        """d logp / d logits = one-hot - softmax, from logits that are made again."""
        hidden, weight, tokens, log_normalizer = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        states = hidden.to(ctx.dtype)
        grad_hidden = torch.zeros(hidden.shape, device=hidden.device) if needs_hidden else None
        grad_weight = torch.empty_like(weight) if needs_weight else None
        for start in range(0, len(weight), ctx.words):
            rows = slice(start, start + ctx.words)
            part = weight[rows].to(ctx.dtype)
            logits = (states @ part.T).float()
            grad_logits = (logits - log_normalizer[:, None]).exp_().mul_(-grad[:, None])
            inside, place = _within(tokens, start, logits.shape[1])
            grad_logits.scatter_add_(1, place, (grad * inside)[:, None])
            grad_logits = grad_logits.to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden += grad_logits @ part
            if grad_weight is not None:
                grad_weight[rows] = grad_logits.T @ states
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(hidden.dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _within(tokens: Tensor, start: int, words: int) -> tuple[Tensor, Tensor]:
    """Which tokens [M] lie in a chunk of the vocabulary, and their place [M, 1] in it."""
    inside = (tokens >= start) & (tokens < start + words)
    return inside, (tokens - start).clamp(0, words - 1)[:, None]


def linear_head_scores(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    with_entropy: bool = False,
    limit: int = CHUNK_ELEMENTS,
) -> tuple[Tensor, Tensor | None]:
    """Score tokens with a linear head, over chunks of the vocabulary.

    Logits have the precision that `F.linear` would give them (autocast's, where it is on);
    everything after them is float32.

    Args:
        hidden: [M, D]; gradients flow into it.
        weight: [V, D], the head; gradients flow into it.
        tokens: [M], the tokens whose log-probability is asked for.
        with_entropy: Whether entropies are asked for.
        limit: Logits that may exist at one time.

    Returns:
        Log-probabilities [M] in float32, differentiable once, and entropies [M] in nats without
        gradient (None unless asked for).
    """
    device = hidden.device.type
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    words = min(len(weight), max(1, limit // max(1, len(tokens))))
    with torch.autocast(device, enabled=False):
        logp, entropy = _LinearHeadScores.apply(  # type: ignore[no-untyped-call]
            hidden, weight, tokens, dtype, words, with_entropy
        )
    return logp, entropy if with_entropy else None


def _part_scores(
    project: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [m] and entropies [m] (empty unless asked for) of a few positions."""
    logits = project(hidden).float()  # [m, V]
    log_normalizer = logits.logsumexp(dim=-1)
    logp = logits.gather(-1, tokens[:, None]).squeeze(-1) - log_normalizer
    entropy = logits.new_empty(0)
    if with_entropy:
        with torch.no_grad():
            probabilities = (logits - log_normalizer[:, None]).exp_()
            entropy = log_normalizer - probabilities.mul_(logits).sum(dim=-1)
    return logp, entropy


def any_head_scores(
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    tokens: Tensor,
    *,
    parts: int,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Score tokens with a head of any kind, a part of the positions at a time.

    Whole rows of logits exist for one part, and the head runs again in the backward pass. A head
    that is trained has its gradient made once for each part: `linear_head_scores` is better where
    it applies.

    Args:
        project: The head, from hidden states [m, D] to logits [m, V].
        hidden: [M, D]; gradients flow into it and into the head's parameters.
        tokens: [M].
        parts: Into how many parts the positions are split; see `part_count`.
        with_entropy: Whether entropies are asked for.

    Returns:
        As `linear_head_scores`.
    """
    logps, entropies = [], []
    for part, ids in zip(hidden.tensor_split(parts), tokens.tensor_split(parts), strict=True):
        if parts > 1 and torch.is_grad_enabled():
            logp, entropy = checkpoint(
                _part_scores, project, part, ids, with_entropy, use_reentrant=False
            )
        else:
            logp, entropy = _part_scores(project, part, ids, with_entropy)
        logps.append(logp)
        entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies).detach() if with_entropy else None


def part_count(positions: int, vocab_size: int, limit: int = CHUNK_ELEMENTS) -> int:
    """How many parts keep the logits of one below `limit` elements, if `positions` are scored.

    Callers give the most positions there can be, not those that happen to count: ranks that
    share a sharded head must call it equally often.
    """
    return max(1, math.ceil(positions * vocab_size / limit))
