"""Draw a token for each masked position, and say how sure the model is of it.

Works through the vocabulary's logits a few rows at a time: buffers of float64 noise stay small
enough for the processor's cache, and no copy of all logits is ever made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.cpu_draws import pruned_gumbel_argmax, two_level_argmax
from igpo_lightning.diffusion.noise import NoiseBuffers, gumbel
from igpo_lightning.diffusion.unmasking import STRATEGIES, Candidates
from igpo_lightning.settings import SamplerConfig

# Logits handled at a time, and logits of one call of the head, by device. On CPUs the first fits
# the processor's cache, and buffers of the second size are used again by the allocator, not
# mapped anew (glibc's limit is 32 MiB); on GPUs both bound memory.
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 24}
HEAD_CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}


@dataclass(frozen=True)
class TokenRules:
    """How tokens are drawn and scored.

    Attributes:
        config: Temperature, top-k, top-p and the strategy (`remasking`).
        forbidden: Ids that are never drawn; they have probability 0.
        last: Ids whose positions are scored below all others, so that they are committed last.
    """

    config: SamplerConfig
    forbidden: tuple[int, ...]
    last: tuple[int, ...] = ()


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
    logits: Tensor,
    rules: TokenRules,
    keys: Tensor | None,
    buffers: NoiseBuffers | None,
    boosts: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """`choose_tokens` for one chunk."""
    logits = logits.float()
    if boosts is not None:
        logits.scatter_add_(1, boosts[0][:, None], boosts[1][:, None])
    for token in rules.forbidden:  # one by one: an index list would have to reach the device first
        logits[:, token].fill_(-torch.inf)
    config = rules.config
    filters = config.top_k or config.top_p or config.remasking == "topk_margin"
    on_cpu, drawn_from = logits.device.type == "cpu", logits
    if buffers is None:
        tokens = _argmax(logits)
    elif on_cpu and not filters:
        assert keys is not None
        tokens = pruned_gumbel_argmax(logits, keys, config.temperature, buffers)
    else:
        assert keys is not None
        # The arg-max of logits / T + noise, in float64 and in the noise's memory.
        perturbed = gumbel(keys, logits.shape[-1], buffers).mul_(config.temperature).add_(logits)
        if filters:
            drawn_from = filter_logits(logits / config.temperature, config.top_k, config.top_p)
            perturbed.masked_fill_(drawn_from == -torch.inf, -torch.inf)
        tokens = _argmax(perturbed)
    scores = STRATEGIES[config.remasking](Candidates(logits, drawn_from, tokens, keys))
    for token in rules.last:
        scores = scores.masked_fill(tokens == token, -torch.inf)
    return tokens, scores


def _argmax(scores: Tensor) -> Tensor:
    return two_level_argmax(scores) if scores.device.type == "cpu" else scores.argmax(dim=-1)


def choose_tokens(
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    rules: TokenRules,
    keys: Tensor | None,
    rows_per_call: int | None = None,
    boosts: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw a token for each position and score it.

    Args:
        project: The head, from hidden states [m, D] to logits [m, V] that may be written to.
        hidden: [M, D].
        rules: How.
        keys: [M] int64, one random key a position; None where nothing is random.
        rows_per_call: Positions for each call of the head; None for all in one.
        boosts: A token of each position [M] and what is added to its logit [M] float32.

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
            if rules.config.temperature > 0 and buffers is None:  # the first part is the largest
                buffers = NoiseBuffers.allocate(len(part), part.shape[-1], part.device)
            rows = slice(start + inner, start + inner + len(part))
            part_keys = None if keys is None else keys[rows]
            more = None if boosts is None else (boosts[0][rows], boosts[1][rows])
            tokens[rows], scores[rows] = _choose(part, rules, part_keys, buffers, more)
    return tokens, scores


def head_rows(vocab_size: int, device: torch.device) -> int:
    """Positions for one call of the head, so that its logits stay within `HEAD_CHUNK`."""
    return _rows(HEAD_CHUNK, vocab_size, device)


def _rows(sizes: dict[str, int], vocab_size: int, device: torch.device) -> int:
    """How many rows of a vocabulary fit into a size, at least one."""
    return max(1, sizes.get(device.type, sizes["cuda"]) // vocab_size)
