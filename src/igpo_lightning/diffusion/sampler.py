"""The denoising loop: fill a masked completion block by block, around hints where there are any.

LLaDA's semi-autoregressive sampler (arXiv 2502.09992, section 2.4) with the hint-injected
initialisation of IGPO (arXiv 2509.10396): hints stand in the canvas from the start and stay.
Read `plain.py` first: it is the published loop, and makes the same tokens. Here a step costs less:
the head and the noise are computed at masked positions of the current block only, rows leave the
batch while they have nothing to commit, and with a fixed schedule the host knows all counts in
advance and never waits for the device.

A call makes its state here and goes through four files: `slots.py` (which rows a pass takes),
`step.py` (one step), `token_choice.py` (a token and its score for each masked position) and
`unmasking.py` (how many positions a step commits, and which). `cache.py` runs the model for a step.
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.block_canvas import BlockCanvas, check_attention, lay_out
from igpo_lightning.diffusion.block_causal import fill as fill_blocks
from igpo_lightning.diffusion.cache import Passes
from igpo_lightning.diffusion.canvas import HINTED, Canvas, DenoiseOutput, hinted
from igpo_lightning.diffusion.compilation import compiled_encode
from igpo_lightning.diffusion.drift import Drift, drift_meter
from igpo_lightning.diffusion.growing import Growth
from igpo_lightning.diffusion.slots import Slots, fill_slots
from igpo_lightning.diffusion.token_choice import TokenRules
from igpo_lightning.diffusion.work import Work
from igpo_lightning.distributed.lockstep import SOLO, Lockstep
from igpo_lightning.errors import ConfigError
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.settings import SamplerConfig

__all__ = ["DenoiseOutput", "SamplerConfig", "Slots", "denoise"]

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
    last = (model.eos_token_id,) if config.eos == "last" else ()
    return TokenRules(config, tuple(sorted(forbidden)), last)


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
        slots: Rows of a pass.

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
    rules, drawn = _token_rules(config, model), keys if config.random else None
    if getattr(model, "block_size", None) is not None:
        real = torch.ones_like(prompt_ids) if prompt_mask is None else prompt_mask
        blocks = lay_out(model, rules, ranks, prompt_ids, real.bool(), completion, free, drawn)
        return _denoise_blocks(blocks, ~free, slots)
    length, work = prompt_ids.shape[1] + config.completion_length, Work()
    canvas = Canvas(
        ids=torch.cat((prompt_ids, completion), dim=1),
        hint_mask=~free,
        free=free,
        unmask_step=torch.full_like(completion, HINTED),
        unmask_score=torch.ones_like(completion, dtype=torch.float32),
        keys=drawn,
        passes=Passes(
            model,
            compiled_encode(model, config.compile, prompt_ids.device),
            model.supports_positions and config.compile == "none",
            attention_mask,
            prompt_ids.shape[1],
            config,
            _growth(model, config, ~free, prompt_ids.shape[1]),
            work,
        ),
        rules=rules,
        config=config,
        ranks=ranks,
        drift=drift_meter(model, rules, keys, length, ranks, work),
        paddings=[0] * len(free)
        if prompt_mask is None
        else (~prompt_mask.bool()).sum(dim=1).tolist(),
    )
    fill_slots(canvas, slots)
    return DenoiseOutput(
        canvas.ids[:, prompt_ids.shape[1] :],
        canvas.hint_mask,
        canvas.unmask_step,
        canvas.unmask_score,
        **vars(work),
        drift=Drift.read(canvas.drift),
    )


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


def _denoise_blocks(canvas: BlockCanvas, hint_mask: Tensor, slots: Slots) -> DenoiseOutput:
    """`denoise` for the rows of a block-causal model."""
    fill_blocks(canvas, slots)
    columns = canvas.columns()
    return DenoiseOutput(
        canvas.ids.gather(1, columns),
        hint_mask,
        canvas.unmask_step.gather(1, columns),
        canvas.unmask_score.gather(1, columns),
        **vars(canvas.work),
    )
