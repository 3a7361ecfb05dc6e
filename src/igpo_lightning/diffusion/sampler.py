"""The denoising loop: fill a masked completion block by block, around hints where there are any.

LLaDA's semi-autoregressive sampler (arXiv 2502.09992, section 2.4) with the hint-injected
initialisation of IGPO (arXiv 2509.10396): hints stand in the canvas from the start and stay.
Read `plain.py` first: it is the published loop, and makes the same tokens. Here a step costs less:
the head and the noise are computed at masked positions of the current block only, rows leave the
batch while they have nothing to commit, and with a fixed schedule the host knows all counts in
advance and never waits for the device.

A call goes through five files: this one, `slots.py` (which rows take part in a pass), `step.py`
(one step), `token_choice.py` (a token and its score for each masked position) and `unmasking.py`
(how many positions a step commits, and which). `cache.py` runs the model for a step; with a cache
the rows go through the blocks together, which is in this file.
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.block_canvas import check_attention, lay_out
from igpo_lightning.diffusion.block_causal import fill as fill_blocks
from igpo_lightning.diffusion.cache import Passes
from igpo_lightning.diffusion.canvas import (
    HINTED,
    Canvas,
    DenoiseOutput,
    end_rows,
    hinted,
)
from igpo_lightning.diffusion.compilation import compiled_encode
from igpo_lightning.diffusion.drift import Drift, drift_meter
from igpo_lightning.diffusion.growing import Growth
from igpo_lightning.diffusion.slots import Slots, fill_slots
from igpo_lightning.diffusion.step import Step, refreshes, run_step
from igpo_lightning.diffusion.token_choice import TokenRules
from igpo_lightning.diffusion.unmasking import commit_schedule
from igpo_lightning.distributed.lockstep import SOLO, Lockstep
from igpo_lightning.errors import ConfigError
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.settings import SamplerConfig

__all__ = ["DenoiseOutput", "SamplerConfig", "Slots", "denoise", "mixes_blocks"]

ALL_ROWS = Slots()


def _random_keys(batch: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Row keys [B] from a generator; without one, always the same keys."""
    generator = generator or torch.Generator().manual_seed(0)
    high = torch.iinfo(torch.int64).max
    keys = torch.randint(high, (batch,), generator=generator, device=generator.device)
    return keys.to(device)


def _token_rules(config: SamplerConfig, model: Backbone) -> TokenRules:
    forbidden = {model.mask_token_id}
    if config.eos == "never":
        forbidden.add(model.eos_token_id)
    return TokenRules(
        forbidden=tuple(sorted(forbidden)),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        strategy=config.remasking,
        last=(model.eos_token_id,) if config.eos == "last" else (),
    )


@torch.no_grad()
def denoise(
    model: Backbone,
    prompt_ids: Tensor,
    config: SamplerConfig,
    prompt_mask: Tensor | None = None,
    hint_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
    keys: Tensor | None = None,
    ranks: Lockstep = SOLO,
    slots: Slots = ALL_ROWS,
) -> DenoiseOutput:
    """Fill completions for a batch of prompts.

    Args:
        model: The backbone.
        prompt_ids: [B, P], padded on the left.
        config: See `SamplerConfig`.
        prompt_mask: [B, P], True at real tokens; None where nothing is padded.
        hint_ids: [B, C], the tokens to keep as they are, -1 where free.
        generator: Source of the row keys when `keys` is None. With neither, a generator of seed 0:
            every call draws the same noise. The global generator is never read.
        keys: [B] int64, one random key a row (see `noise.row_keys`). A row's completion is a
            function of its prompt, its hints and its key, whatever else is in the batch.
        ranks: Those that share the model's weights, and so make every pass together. The caller
            ends with `ranks.finish` once this rank has no more rows to denoise.
        slots: Rows of a pass, where `mixes_blocks` holds; otherwise all rows are run together.

    Returns:
        The completions, and the work they took.

    Raises:
        ValueError: `hint_ids` is of another shape than the completion, or the model has no cache
            and `config.cache` asks for one.
    """
    if config.cache != "none" and not model.supports_cache:
        raise ValueError(f"cache={config.cache!r}: this model keeps no keys and values; use 'none'")
    check_attention(model, config)
    completion = hinted(prompt_ids, hint_ids, config.completion_length, model.mask_token_id)
    free = completion == model.mask_token_id if hint_ids is None else hint_ids == FREE
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        attention_mask = torch.cat((prompt_mask.bool(), torch.ones_like(free)), dim=1)
    if keys is None and config.random:
        keys = _random_keys(prompt_ids.shape[0], generator, prompt_ids.device)
    if getattr(model, "block_size", None) is not None:
        real = torch.ones_like(prompt_ids, dtype=torch.bool) if prompt_mask is None else prompt_mask
        return _denoise_blocks(
            model, prompt_ids, real.bool(), completion, free, config, keys, ranks
        )
    rules = _token_rules(config, model)
    length = prompt_ids.shape[1] + config.completion_length
    canvas = Canvas(
        ids=torch.cat((prompt_ids, completion), dim=1),
        hint_mask=~free,
        free=free,
        unmask_step=torch.full_like(completion, HINTED),
        unmask_score=torch.ones_like(completion, dtype=torch.float32),
        keys=keys if config.random else None,
        passes=Passes(
            model,
            compiled_encode(model, config.compile, prompt_ids.device),
            model.supports_positions and config.compile == "none",
            attention_mask,
            prompt_ids.shape[1],
            config.cache,
            config.cfg_scale,
            _growth(model, config, ~free, prompt_ids.shape[1]),
        ),
        rules=rules,
        config=config,
        ranks=ranks,
        drift=drift_meter(model, rules, config, keys, length, ranks),
        paddings=[0] * len(free)
        if prompt_mask is None
        else (~prompt_mask.bool()).sum(dim=1).tolist(),
    )
    if mixes_blocks(model, config):
        fill_slots(canvas, slots, model.eos_token_id)
    else:
        _fill(canvas, model.eos_token_id)
    completion, work = canvas.ids[:, prompt_ids.shape[1] :], canvas.passes.work
    if canvas.drift is not None:
        work.forward_passes += canvas.drift.forward_passes
        work.body_tokens += canvas.drift.body_tokens
    return DenoiseOutput(
        completion,
        canvas.hint_mask,
        canvas.unmask_step,
        canvas.unmask_score,
        **vars(work),
        drift=Drift.read(canvas.drift),
    )


def mixes_blocks(model: Backbone, config: SamplerConfig) -> bool:
    """Whether rows of one pass may be in different blocks; see slots.py.

    Not with a cache (also a block-causal model's), on a canvas that grows to one length for all
    rows, or where a block has a place to end thinking at.
    """
    block_causal = getattr(model, "block_size", None) is not None
    whole = config.cache == "none" and config.canvas == "whole" and not block_causal
    return whole and not config.think_ids


def _growth(
    model: Backbone, config: SamplerConfig, hint_mask: Tensor, prompt_length: int
) -> Growth | None:
    """What there is of a growing canvas; None for a whole one."""
    if config.canvas == "whole":
        return None
    ahead = torch.nn.functional.pad(hint_mask, (prompt_length, 0), value=False)
    if config.hints_ahead == "waiting":
        ahead = torch.zeros_like(ahead)
    elif not model.supports_packing and bool(hint_mask.any()):
        raise ConfigError(
            "sampler.hints_ahead=visible: this model takes no positions for hints behind the "
            "canvas's end; set sampler.hints_ahead=waiting or sampler.canvas=whole"
        )
    return Growth(ahead, config.block_length, prompt_length)


def _denoise_blocks(
    model: Backbone,
    prompt_ids: Tensor,
    real: Tensor,
    completion: Tensor,
    free: Tensor,
    config: SamplerConfig,
    keys: Tensor | None,
    ranks: Lockstep,
) -> DenoiseOutput:
    """`denoise` for a block-causal model."""
    canvas, first = lay_out(
        model,
        config,
        _token_rules(config, model),
        ranks,
        prompt_ids,
        real,
        completion,
        free,
        keys if config.random else None,
    )
    fill_blocks(canvas, first, model.eos_token_id)
    columns = canvas.columns(config.completion_length)
    return DenoiseOutput(
        canvas.ids.gather(1, columns),
        ~free,
        canvas.unmask_step.gather(1, columns),
        canvas.unmask_score.gather(1, columns),
        **vars(canvas.work),
    )


def _fill(canvas: Canvas, eos_token_id: int) -> None:
    """Fill all blocks from left to right, every block of all rows together: with a cache."""
    config = canvas.config
    # [B][blocks], masked positions: with a fixed schedule nothing else is read from the device.
    counts = canvas.free.view(-1, config.blocks, config.block_length).sum(dim=2).tolist()
    rows, steps_taken = list(range(len(counts))), [0] * len(counts)
    for block in range(config.blocks):
        # Rows that share a cache over several blocks stay until none of these is left to fill.
        until = (block // config.cache_blocks + 1) * config.cache_blocks
        busy = [row for row in rows if any(counts[row][block:until])]
        masked = [counts[row][block] for row in busy]
        if busy and config.parallel:
            _fill_in_parallel(canvas, block, busy, masked, steps_taken)
        elif busy:
            _fill_by_schedule(canvas, block, busy, masked)
            for row in busy:
                steps_taken[row] = (block + 1) * config.steps_per_block
        if (config.stop_after_eos or config.canvas == "growing") and block + 1 < config.blocks:
            finished = [(block + 1) * config.block_length] * len(rows)
            taken = [steps_taken[row] for row in rows]
            ended = end_rows(canvas, rows, finished, taken, eos_token_id)
            rows = [row for row, over in zip(rows, ended, strict=True) if not over]


def _fill_by_schedule(canvas: Canvas, block: int, rows: list[int], masked: list[int]) -> None:
    """Fill a block of some rows, so many positions a step as the schedule says."""
    config, steps = canvas.config, canvas.config.steps_per_block
    schedule = commit_schedule(torch.tensor(masked), steps, config.schedule)  # [A, steps]
    masked_before = torch.tensor(masked)[:, None] - schedule.cumsum(dim=1) + schedule
    for number in range(steps):
        commits, left = schedule[:, number], masked_before[:, number] - schedule[:, number]
        # A pass that commits nothing changes nothing, unless it masks again or renews the cache.
        # The cache keeps the rows of the pass before alone: a row that goes on later stays in.
        active = commits > 0
        cached = config.cache != "none" and (refreshes(config, block, number) or bool(active.any()))
        if config.remask > 0 or cached:
            active |= left > 0
        if config.cache_blocks > 1 and (number == 0 or bool(active.any())):
            active[:] = True  # a window that is run twice is the same: no row need leave the cache
        chosen = active.nonzero().flatten().tolist()
        if chosen:
            row_steps = [block * steps + number] * len(chosen)
            counts = masked_before[active, number].tolist(), commits[active].tolist()
            taking = [rows[i] for i in chosen]
            _run(canvas, Step([block] * len(chosen), taking, row_steps, *counts, number=number))


def _fill_in_parallel(
    canvas: Canvas, block: int, rows: list[int], masked: list[int], steps_taken: list[int]
) -> None:
    """Fill a block of some rows, as many positions a step as the scores allow."""
    config, width = canvas.config, canvas.config.block_length
    inside = slice(block * width, (block + 1) * width)
    number = 0
    while number == 0 or any(masked):
        taken = [steps_taken[row] for row in rows]
        _run(canvas, Step([block] * len(rows), rows, taken, masked, number=number))
        for row, count in zip(rows, masked, strict=True):
            steps_taken[row] += count > 0
        number += 1
        masked = canvas.free[rows, inside].sum(dim=1).tolist()  # the host has to know who goes on
        if config.cache_blocks == 1:
            rows = [row for row, count in zip(rows, masked, strict=True) if count]
            masked = [count for count in masked if count]


def _run(canvas: Canvas, step: Step) -> None:
    """Run a step, and count the rows that it took of those that there are."""
    run_step(canvas, step)
    canvas.passes.work.row_passes += len(step.rows)
    canvas.passes.work.slot_passes += len(canvas.ids)
