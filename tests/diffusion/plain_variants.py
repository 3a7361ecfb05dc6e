"""The plain loop with what later papers add: the oracle of the options that `plain.py` has not.

Fast-dLLM's parallel rules (arXiv 2505.22618), Dream's scores, top-k and top-p. Every
step computes logits at every position of every row, a float64 softmax over the whole vocabulary,
and loops over rows to choose what to commit. Nothing is shared, cached, or left out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from igpo_lightning.settings import SamplerConfig

# (rows' step numbers, vocabulary) -> Gumbel noise [B, C, V] in float64
Noise = Callable[[list[int], int], Tensor]


def _probabilities(logits: Tensor) -> Tensor:
    return logits.double().softmax(dim=-1)


def _score(strategy: str, logits: Tensor, drawn_from: Tensor, tokens: Tensor) -> Tensor:
    """Scores [B, L] of tokens [B, L]; logits and drawn_from are [B, L, V]."""
    if strategy == "low_confidence":
        return _probabilities(logits).gather(-1, tokens[..., None]).squeeze(-1)
    if strategy == "entropy":
        p = _probabilities(logits)
        return (p * p.clamp(min=1e-300).log()).sum(dim=-1)
    top = _probabilities(drawn_from if strategy == "topk_margin" else logits).topk(2).values
    return top[..., 0] - top[..., 1]


def _filtered(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """One position at a time: keep the k largest, then as many of them as reach the mass p."""
    kept = torch.full_like(logits, -torch.inf)
    for at in range(logits.shape[0]):
        order = logits[at].argsort(descending=True, stable=True)
        order = order[: top_k or len(order)]
        probabilities, mass, number = _probabilities(logits[at][order]).tolist(), 0.0, 0
        while number < len(order) and (top_p is None or mass < top_p):
            mass += probabilities[number]
            number += 1
        kept[at, order[:number]] = logits[at, order[:number]]
    return kept


def _commits(config: SamplerConfig, masked: int) -> list[int]:
    """LLaDA's schedule: equal shares, the remainder to the earliest steps."""
    base, rest = divmod(masked, config.steps_per_block)
    return [base + (step < rest) for step in range(config.steps_per_block)]


def _parallel_count(config: SamplerConfig, best: list[float]) -> int:
    """How many of the scores, best first, a parallel rule commits."""
    if config.confidence_threshold is not None:
        return max(1, sum(score >= config.confidence_threshold for score in best))
    fits = [n for n, c in enumerate(best, start=1) if (n + 1) * (1 - c) < config.factor]
    return max([1, *fits])


@torch.no_grad()
def denoise_variant(
    model,
    prompt_ids: Tensor,
    config: SamplerConfig,
    prompt_mask: Tensor | None = None,
    hint_ids: Tensor | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, int]:
    """Completions [B, C] and the number of forward passes.

    Args:
        model: A backbone; only its full logits are used.
        prompt_ids: [B, P].
        config: Length, blocks, steps, temperature, top-k, top-p, strategy, guidance, parallel rule.
        prompt_mask: [B, P].
        hint_ids: [B, C], -1 where free.
        noise: Gumbel noise, needed at a temperature.
    """
    batch, start = prompt_ids.shape
    length, width, mask_id = config.completion_length, config.block_length, model.mask_token_id
    x = torch.cat((prompt_ids, torch.full((batch, length), mask_id)), dim=1)
    if hint_ids is not None:
        x[:, start:] = torch.where(hint_ids >= 0, hint_ids, x[:, start:])
    mask = None
    if prompt_mask is not None:
        mask = torch.cat((prompt_mask, torch.ones(batch, length, dtype=prompt_mask.dtype)), dim=1)
    passes, taken = 0, [0] * batch
    for block in range(config.blocks):
        stop = start + (block + 1) * width
        inside = x[:, stop - width : stop]
        schedule = [_commits(config, int(n)) for n in (inside == mask_id).sum(dim=1)]
        step = 0
        while (inside == mask_id).any():
            number = [block * config.steps_per_block + step] * batch
            number = taken if config.parallel else number
            passes += 1
            logits = model(x, mask)
            if config.cfg_scale:
                blank = x.clone()
                blank[:, :start] = mask_id
                without = model(blank, mask)
                logits = without + (config.cfg_scale + 1) * (logits - without)
            logits[..., mask_id] = -torch.inf
            drawn_from = logits
            if config.temperature > 0:
                drawn_from = logits.double() / config.temperature
                if config.top_k or config.top_p:
                    flat = drawn_from.flatten(0, 1)
                    drawn_from = _filtered(flat, config.top_k, config.top_p).view_as(drawn_from)
                perturbed = drawn_from.clone()
                perturbed[:, start:] += noise(number, logits.shape[-1])
                tokens = perturbed.argmax(dim=-1)
            else:
                tokens = logits.argmax(dim=-1)
            scores = _score(config.remasking, logits, drawn_from, tokens)
            for row in range(batch):
                masked = (x[row] == mask_id).nonzero().flatten()
                masked = masked[masked < stop]
                if not len(masked):
                    continue
                best = scores[row, masked].sort(descending=True, stable=True)
                if config.parallel:
                    count = _parallel_count(config, best.values.tolist())
                else:
                    count = schedule[row][step]
                chosen = masked[best.indices[:count]]
                x[row, chosen] = tokens[row, chosen]
                taken[row] += 1
            step += 1
    return x[:, start:], passes
