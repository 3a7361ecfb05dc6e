"""Draw a token for each masked position, and say how sure the model is of it.

Works through the vocabulary's logits a few rows at a time: buffers of float64 noise stay small
enough for the processor's cache, and no copy of all logits is ever made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import NoiseBuffers, gumbel, gumbel_of, stream
from igpo_lightning.diffusion.unmasking import STRATEGIES, Candidates

# Logits handled at a time, and logits of one call of the head, by device. On CPUs the first fits
# the processor's cache, and buffers of the second size are used again by the allocator, not
# mapped anew (glibc's limit is 32 MiB); on GPUs both bound memory.
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 24}
HEAD_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}
_ARGMAX_WIDTH = 128  # tokens a group in the two-level arg-max


@dataclass(frozen=True)
class TokenRules:
    """How tokens are drawn and scored.

    Attributes:
        forbidden: Ids that are never drawn; they have probability 0.
        temperature: Of the Gumbel-max draw; 0 takes the most probable token.
        top_k: Draw from the k most probable tokens; None for all.
        top_p: Draw from the smallest set of most probable tokens with at least this mass.
        strategy: Name of the score, a key of `unmasking.STRATEGIES`.
        last: Ids whose positions are scored below all others, so that they are committed last.
    """

    forbidden: tuple[int, ...]
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    strategy: str = "low_confidence"
    last: tuple[int, ...] = ()


def argmax(scores: Tensor) -> Tensor:
    """The first position of the maximum of each row, [M, V] -> [M].

    In two levels, since a maximum is vectorised on CPUs and an arg-max is not.
    """
    rows, size = scores.shape
    whole = size - size % _ARGMAX_WIDTH
    if scores.device.type != "cpu" or whole == 0:
        return scores.argmax(dim=-1)
    groups = scores[:, :whole].view(rows, -1, _ARGMAX_WIDTH)
    group = groups.amax(dim=-1).argmax(dim=-1)
    best = groups[torch.arange(rows), group]  # [M, width]
    tail = scores[:, whole:]
    at = torch.cat((best, tail), dim=1).argmax(dim=-1)
    return torch.where(at < _ARGMAX_WIDTH, group * _ARGMAX_WIDTH + at, whole + at - _ARGMAX_WIDTH)


def perturbed_argmax(
    logits: Tensor, keys: Tensor, temperature: float, buffers: NoiseBuffers
) -> Tensor:
    """The arg-max [M] of logits + T * Gumbel noise, with logarithms for a few tokens alone.

    Noise grows with the integer that it is made of. Of the sums at the largest logit and at the
    largest noise the better one is a bound: a token that beats it has a logit that reaches it with
    the row's largest noise, and noise that reaches it with the row's largest logit. Those tokens
    are found by comparing, and only they are summed up, in float64 as the others would be. It
    waits for the device to count them, and so serves CPUs alone.

    Args:
        logits: [M, V], float32, one finite in each row at least.
        keys: [M] int64.
        temperature: T, above 0.
        buffers: Memory for the noise of M rows.
    """
    numbers = stream(keys, buffers)  # [M, V]
    largest = torch.stack((argmax(logits), argmax(numbers)), dim=1)  # [M, 2]
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


def filter_logits(scaled: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits [M, V] with -inf outside the top-k and the nucleus (top-p, arXiv 1904.09751).

    Top-p counts the distribution that top-k leaves. Equal logits at the edge of top-k all stay.
    """
    if top_k is not None and top_k < scaled.shape[-1]:
        edge = scaled.topk(top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < edge, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
        probability = ordered.double().softmax(dim=-1)
        # A token stays while the mass before it is below top_p: the first one always does.
        outside = probability.cumsum(dim=-1) - probability >= top_p
        scaled = scaled.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return scaled


def _choose(
    logits: Tensor, rules: TokenRules, keys: Tensor | None, buffers: NoiseBuffers | None
) -> tuple[Tensor, Tensor]:
    """`choose_tokens` for one chunk."""
    logits = logits.float()
    for token in rules.forbidden:  # one by one: an index list would have to reach the device first
        logits[:, token].fill_(-torch.inf)
    filtered = logits
    if buffers is None:
        tokens = argmax(logits)
    else:
        assert keys is not None
        filters = rules.top_k or rules.top_p or rules.strategy == "topk_margin"
        if logits.device.type == "cpu" and not filters:
            tokens = perturbed_argmax(logits, keys, rules.temperature, buffers)
            return tokens, _scores(logits, logits, tokens, rules, keys)
        # The arg-max of logits / T + noise, in float64 and in the noise's memory.
        perturbed = gumbel(keys, logits.shape[-1], buffers).mul_(rules.temperature).add_(logits)
        if filters:
            filtered = filter_logits(logits / rules.temperature, rules.top_k, rules.top_p)
            perturbed.masked_fill_(filtered == -torch.inf, -torch.inf)
        tokens = argmax(perturbed)
    return tokens, _scores(logits, filtered, tokens, rules, keys)


def _scores(
    logits: Tensor, filtered: Tensor, tokens: Tensor, rules: TokenRules, keys: Tensor | None
) -> Tensor:
    scores = STRATEGIES[rules.strategy](Candidates(logits, filtered, tokens, keys))
    for token in rules.last:
        scores = scores.masked_fill(tokens == token, -torch.inf)
    return scores


def choose_tokens(
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    rules: TokenRules,
    keys: Tensor | None,
    rows_per_call: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw a token for each position and score it.

    Args:
        project: The head, from hidden states [m, D] to logits [m, V] that may be written to.
        hidden: [M, D].
        rules: See `TokenRules`.
        keys: [M] int64, one random key a position; None where nothing is random.
        rows_per_call: Positions for each call of the head; None for all in one.

    Returns:
        Tokens [M] and their scores [M], float32.
    """
    tokens = torch.empty(len(hidden), dtype=torch.int64, device=hidden.device)
    scores = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    size, buffers = rows_per_call or max(1, len(hidden)), None
    for start in range(0, max(1, len(hidden)), size):  # once at least, for all ranks
        logits = project(hidden[start : start + size])
        few = _rows(CHUNK, logits.shape[-1], logits.device)
        for inner in range(0, len(logits), few):
            part = logits[inner : inner + few]
            if rules.temperature > 0 and buffers is None:  # the first part is the largest
                buffers = NoiseBuffers.allocate(len(part), part.shape[-1], part.device)
            rows = slice(start + inner, start + inner + len(part))
            part_keys = None if keys is None else keys[rows]
            tokens[rows], scores[rows] = _choose(part, rules, part_keys, buffers)
    return tokens, scores


def head_rows(vocab_size: int, device: torch.device) -> int:
    """Positions for one call of the head, so that its logits stay within `HEAD_CHUNK`."""
    return _rows(HEAD_CHUNK, vocab_size, device)


def _rows(sizes: dict[str, int], vocab_size: int, device: torch.device) -> int:
    """How many rows of a vocabulary fit into a size, at least one."""
    return max(1, sizes.get(device.type, sizes["cuda"]) // vocab_size)
