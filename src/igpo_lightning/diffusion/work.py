"""What denoising costs: counted in a call, and estimated before a run."""

from dataclasses import dataclass

from igpo_lightning.settings import SamplerConfig


@dataclass
class Work:
    """What a denoising call has cost so far.

    Attributes:
        forward_passes: Calls of the model's body, whatever the number of rows in them.
        body_tokens: Rows times positions that went through the body, over all passes.
        canvas_tokens: What that would be if every pass ran whole rows.
        head_positions: Positions that went through the output head.
        row_passes: Rows that took part in a pass, over all passes.
        slot_passes: Rows that there was room for, over all passes.
    """

    forward_passes: int = 0
    body_tokens: int = 0
    canvas_tokens: int = 0
    head_positions: int = 0
    row_passes: int = 0
    slot_passes: int = 0


def computed_share(sampler: SamplerConfig, canvas: int, block_size: int | None = None) -> float:
    """Positions that the body runs in a rollout, relative to full passes in every step.

    A block-causal model runs the prompt once, a block in every step, and every block once more
    when it is whole.

    With a cache the first pass of every `cache_blocks` blocks is full, and so is every
    `cache_refresh`-th of a block. The others run the block alone (dual), or from there to the end
    of the canvas (prefix).
    """
    if block_size is not None:
        return (canvas + sampler.steps * block_size) / (sampler.steps * canvas)
    if sampler.cache == "none":
        return 1.0
    per_block, width = sampler.steps_per_block, sampler.block_length
    ran = 0
    for block in range(sampler.blocks):
        length = width if sampler.cache == "dual" else sampler.completion_length - block * width
        full = 1 if block % sampler.cache_blocks == 0 else 0
        if sampler.cache_refresh is not None:
            full += (per_block - 1) // sampler.cache_refresh
        ran += full * canvas + (per_block - full) * length
    return ran / (sampler.steps * canvas)
