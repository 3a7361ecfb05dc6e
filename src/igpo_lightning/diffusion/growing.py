"""A canvas that grows: a block of masks is appended after the last one, until EOS or the limit.

iLLaDA's own generation (arXiv 2606.25331): within a block the usual loop, with full attention over
the prompt, the finished blocks and this one. What is not there yet costs nothing and is not seen,
so that a row's canvas is as long as it needs. A hint waits until the canvas reaches it.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from igpo_lightning.diffusion.canvas import HINTED, DenoiseOutput
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.settings import SamplerConfig


def denoise_growing(
    denoise: Callable[..., DenoiseOutput],
    model: Backbone,
    prompt_ids: Tensor,
    config: SamplerConfig,
    prompt_mask: Tensor | None,
    hint_ids: Tensor | None,
    keys: Tensor | None,
    ranks: Lockstep,
) -> DenoiseOutput:
    """Fill completions block after block, each appended once the one before is done.

    A row ends with the block that holds its first EOS; EOS fills what is left of the completion.

    Args:
        denoise: Fills a whole canvas, here of one block.
        model: A backbone with full attention.
        prompt_ids: [B, P], padded on the left.
        config: The sampler; `steps` is the total over all blocks, as ever.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        hint_ids: [B, C], the tokens to keep as they are, -1 where free.
        keys: [B] int64, one random key a row; needed where anything is random.
        ranks: See `denoise`.
    """
    batch, device = len(prompt_ids), prompt_ids.device
    width, length, steps = config.block_length, config.completion_length, config.steps_per_block
    one_block = replace(config, completion_length=width, steps=steps, canvas="whole")
    hints = torch.full((batch, length), FREE, device=device) if hint_ids is None else hint_ids
    mask = torch.ones_like(prompt_ids, dtype=torch.bool) if prompt_mask is None else prompt_mask
    canvas = prompt_ids
    completion = torch.where(hints == FREE, model.eos_token_id, hints)
    unmask_step = torch.full_like(completion, HINTED)
    work, rows = [0, 0, 0, 0], torch.arange(batch, device=device)
    for block in range(config.blocks):
        inside = slice(block * width, (block + 1) * width)
        made = denoise(
            model,
            canvas[rows],
            one_block,
            mask[rows],
            hints[rows, inside],
            keys=None if keys is None else fold(keys[rows], block),
            ranks=ranks,
        )
        completion[rows, inside] = made.completion_ids
        own = made.unmask_step
        unmask_step[rows, inside] = torch.where(own == HINTED, own, own + block * steps)
        counts = (made.forward_passes, made.head_positions, made.body_tokens, made.canvas_tokens)
        work = [total + count for total, count in zip(work, counts, strict=True)]
        ended = (made.completion_ids == model.eos_token_id).any(dim=1)
        rest = (rows[ended, None], torch.arange(inside.stop, length, device=device))
        unmask_step[rest] = torch.where(hints[rest] == FREE, block * steps + steps - 1, HINTED)
        canvas = torch.cat((canvas, completion[:, inside]), dim=1)
        mask = torch.cat((mask, torch.ones_like(completion[:, inside], dtype=torch.bool)), dim=1)
        rows = rows[~ended]
        if len(rows) == 0:
            break
    return DenoiseOutput(completion, hints != FREE, unmask_step, *work)
