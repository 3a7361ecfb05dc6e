"""The published sampling loop, LLaDA's (arXiv 2502.09992, Algorithm 5): read this first.

Every step runs the model at every position of every row. `sampler.denoise` makes the same tokens
with less work, and this loop is what its tests compare it with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from igpo_lightning.diffusion import noise
from igpo_lightning.diffusion.unmasking import RANDOM_STREAM
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.models.backbone import Backbone


@dataclass(frozen=True)
class Draws:
    """The random numbers of each step.

    Attributes:
        gumbel: (step, V) -> standard Gumbel noise [B, C, V], float64.
        uniform: step -> [B, C] in (0, 1).
    """

    gumbel: Callable[[int, int], Tensor]
    uniform: Callable[[int], Tensor]


def keyed_draws(keys: Tensor, completion_length: int) -> Draws:
    """What `denoise` draws for row keys [B]: the same numbers, at every position."""

    def position_keys(step: int) -> Tensor:  # [B, C]
        positions = torch.arange(completion_length, device=keys.device)
        return noise.fold(noise.fold(keys, step)[:, None], positions)

    return Draws(
        gumbel=lambda step, vocab_size: noise.gumbel(position_keys(step), vocab_size),
        uniform=lambda step: noise.uniform(noise.fold(position_keys(step), RANDOM_STREAM)).float(),
    )


@torch.no_grad()
def plain_denoise(
    model: Backbone,
    prompt_ids: Tensor,
    completion_length: int,
    block_length: int,
    steps: int,
    draws: Draws,
    temperature: float = 0.0,
    remasking: str = "low_confidence",
    cfg_scale: float = 0.0,
    prompt_mask: Tensor | None = None,
    hint_ids: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Completions [B, C] of prompts [B, P], and the number of steps that were run.

    Settings are those of `SamplerConfig`, with remasking "low_confidence" or "random";
    `prompt_mask` [B, P] and `hint_ids` [B, C] are as in `denoise`.
    """
    prompt, mask_id, steps_run = prompt_ids.shape[1], model.mask_token_id, 0
    x = F.pad(prompt_ids, (0, completion_length), value=mask_id)  # [B, L]
    if hint_ids is not None:
        x[:, prompt:] = torch.where(hint_ids == FREE, mask_id, hint_ids)
    attention = None if prompt_mask is None else F.pad(prompt_mask, (0, completion_length), value=1)
    blocks = completion_length // block_length
    for block in range(blocks):
        start = prompt + block * block_length
        stop = start + block_length
        masked = (x[:, start:stop] == mask_id).sum(dim=1).tolist()  # [B]
        for step in range(steps // blocks):
            free = x == mask_id
            if not free[:, start:stop].any():
                break
            number = block * (steps // blocks) + step
            logits = model(x, attention)  # [B, L, V]
            if cfg_scale > 0:
                blank = torch.cat((torch.full_like(prompt_ids, mask_id), x[:, prompt:]), dim=1)
                unconditional = model(blank, attention)
                logits = unconditional + (cfg_scale + 1) * (logits - unconditional)
            logits[..., mask_id] = -torch.inf
            noisy = logits
            if temperature > 0:  # Gumbel-max: a draw from softmax(logits / temperature)
                noisy = logits.double()
                noisy[:, prompt:] += temperature * draws.gumbel(number, logits.shape[-1])
            tokens = noisy.argmax(dim=-1)  # [B, L]
            if remasking == "low_confidence":
                probabilities = logits.double().softmax(dim=-1)
                scores = probabilities.gather(-1, tokens[..., None]).squeeze(-1)
            else:
                scores = F.pad(draws.uniform(number), (prompt, 0))
            scores[~free] = scores[:, stop:] = -torch.inf
            for row, count in enumerate(masked):
                share, rest = divmod(count, steps // blocks)
                best = scores[row].sort(descending=True, stable=True).indices
                chosen = best[: share + (step < rest)]
                x[row, chosen] = tokens[row, chosen]
            steps_run += 1
    return x[:, prompt:], steps_run
