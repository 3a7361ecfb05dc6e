"""Generate, decode and grade a batch: what evaluation and rollouts share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, denoise
from igpo_lightning.models.backbone import Backbone


@dataclass(frozen=True)
class Completions:
    """Completions of a batch with the prompts they answer.

    Attributes:
        prompt_ids: [N, P], padded on the left.
        prompt_mask: [N, P], True at real tokens.
        output: What the sampler returned.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    output: DenoiseOutput


def complete(
    model: Backbone,
    problems: Sequence[EncodedProblem],
    seeds: Sequence[int],
    config: SamplerConfig,
    device: torch.device,
    batch_size: int,
    hint_ids: Tensor | None = None,
    passes: int | None = None,
) -> Completions:
    """Complete one row for each problem, in micro-batches.

    Args:
        model: The backbone.
        problems: N problems; a problem may stand more than once.
        seeds: N row seeds: a row's completion follows from its prompt, hints and seed.
        config: Of the sampler.
        device: Where the model is.
        batch_size: Rows a denoising pass.
        hint_ids: [N, C], -1 where free.
        passes: Number of denoising passes to make; more than N needs keeps ranks in step (the
            last rows are denoised again and thrown away).
    """
    prompt_ids, prompt_mask = pad_left([p.prompt_ids for p in problems], model.pad_token_id)
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device)
    keys = row_keys(list(seeds), device)
    hints = None if hint_ids is None else hint_ids.to(device)
    starts = list(range(0, len(problems), batch_size))
    outputs = []
    for number in range(max(len(starts), passes or 0)):
        start = starts[min(number, len(starts) - 1)]
        rows = slice(start, start + batch_size)
        output = denoise(
            model,
            prompt_ids[rows],
            config,
            prompt_mask=prompt_mask[rows],
            hint_ids=None if hints is None else hints[rows],
            keys=keys[rows],
        )
        if number < len(starts):
            outputs.append(output)
    joined = DenoiseOutput(
        completion_ids=torch.cat([o.completion_ids for o in outputs]),
        hint_mask=torch.cat([o.hint_mask for o in outputs]),
        unmask_step=torch.cat([o.unmask_step for o in outputs]),
        forward_passes=sum(o.forward_passes for o in outputs),
    )
    return Completions(prompt_ids, prompt_mask, joined)


def decode_live(
    completion_ids: Tensor, tokenizer: PreTrainedTokenizerFast, eos_token_id: int
) -> list[str]:
    """Texts of completions [N, C], each up to its first EOS."""
    kept = live_mask(completion_ids, eos_token_id) & (completion_ids != eos_token_id)
    rows = [row[mask].tolist() for row, mask in zip(completion_ids, kept, strict=True)]
    texts: list[str] = tokenizer.batch_decode(rows)
    return texts
