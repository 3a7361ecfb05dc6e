"""Log-probability and entropy at chosen positions, without their logits ever being kept.

At LLaDA's vocabulary of 126,464 words the logits of one completion of 256 tokens are 130 MB in
float32, and a plain log-softmax with its gradient holds several such tensors at once: more than the
transformer's own activations. Here the head runs over a few positions at a time, keeps one number
for each, and runs again in the backward pass.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits that exist at one time: 64 MB in float32, 132 positions of LLaDA's vocabulary.
CHUNK_ELEMENTS = 2**24


def _chunk_scores(
    project: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [m] and entropies [m] (empty unless asked for) of one chunk."""
    logits = project(hidden).float()  # [m, V]
    log_normalizer = logits.logsumexp(dim=-1)
    logp = logits.gather(-1, tokens[:, None]).squeeze(-1) - log_normalizer
    entropy = logits.new_empty(0)
    if with_entropy:
        with torch.no_grad():  # H = log Z - E[logit]
            probabilities = (logits - log_normalizer[:, None]).exp_()
            entropy = log_normalizer - probabilities.mul_(logits).sum(dim=-1)
    return logp, entropy


def head_scores(
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    tokens: Tensor,
    *,
    chunks: int,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Score tokens from hidden states, `chunks` parts one after the other.

    Args:
        project: The head, from hidden states [m, D] to logits [m, V].
        hidden: [M, D]; gradients flow into it and into the head's parameters.
        tokens: [M], the tokens whose log-probability is asked for.
        chunks: Into how many parts the positions are split; see `chunk_count`.
        with_entropy: Whether entropies are asked for.

    Returns:
        Log-probabilities [M] in float32, differentiable, and entropies [M] in nats without
        gradient (None unless asked for).
    """
    logps, entropies = [], []
    for part, ids in zip(hidden.tensor_split(chunks), tokens.tensor_split(chunks), strict=True):
        if chunks > 1 and torch.is_grad_enabled():
            logp, entropy = checkpoint(
                _chunk_scores, project, part, ids, with_entropy, use_reentrant=False
            )
        else:
            logp, entropy = _chunk_scores(project, part, ids, with_entropy)
        logps.append(logp)
        entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies).detach() if with_entropy else None


def chunk_count(positions: int, vocab_size: int, limit: int = CHUNK_ELEMENTS) -> int:
    """How many parts keep the logits of one below `limit` elements, if `positions` are scored.

    Callers give the most positions there can be, not those that happen to count: ranks that
    share a sharded head must call it equally often.
    """
    return max(1, math.ceil(positions * vocab_size / limit))
