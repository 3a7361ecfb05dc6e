"""Rows of a block-causal model, laid out so that their blocks stand in the same columns."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from igpo_lightning.diffusion.cache import Work
from igpo_lightning.diffusion.token_choice import TokenRules
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import Backbone, KeyValueCache
from igpo_lightning.settings import SamplerConfig

GIVEN = -1  # in unmask_step: prompt, hint or padding


@dataclass
class BlockCanvas:
    """Rows whose blocks stand in the same columns; everything but the layout is changed in place.

    Attributes:
        model: A backbone with a `block_size` W.
        config: The sampler.
        rules: How tokens are drawn.
        ranks: See `sampler.denoise`.
        ids: [B, L], whole blocks: padding, prompt, completion, and masks up to the block's end.
        real: [B, L], True but at padding, which fills whole blocks on the left.
        free: [B, L], True where the token is still masked.
        unmask_step: [B, L], the row's own number of the step that committed the token.
        unmask_score: [B, L] float32, its score then; 1 where no step chose the token.
        starts: [B], first column of the completion.
        keys: [B] int64, or None where nothing is random.
        steps_taken: [B], steps of each row so far.
    """

    model: Backbone
    config: SamplerConfig
    rules: TokenRules
    ranks: Lockstep
    ids: Tensor
    real: Tensor
    free: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    starts: Tensor
    keys: Tensor | None
    steps_taken: Tensor
    cache: KeyValueCache = field(default_factory=KeyValueCache)
    work: Work = field(default_factory=Work)

    @property
    def width(self) -> int:
        """W."""
        assert self.model.block_size is not None
        return self.model.block_size

    def columns(self, length: int) -> Tensor:
        """Columns [B, C] of the completions' first C tokens."""
        return self.starts[:, None] + torch.arange(length, device=self.ids.device)


def check_attention(model: Backbone, config: SamplerConfig) -> None:
    """Refuse settings that have no meaning for the model's attention, full or block-causal.

    Raises:
        ConfigError: One has another value than the loop computes.
    """
    width = getattr(model, "block_size", None)
    if width is None:
        if config.edit_threshold is not None:
            raise ConfigError(
                f"sampler.edit_threshold={config.edit_threshold}: only block-causal models (LLaDA "
                "2.1) are edited; set sampler.edit_threshold=null"
            )
        return
    fixed: dict[str, tuple[object, object]] = {
        "canvas": (config.canvas, "whole"),
        "cfg_scale": (config.cfg_scale, 0.0),
        "factor": (config.factor, None),
        "think_ids": (config.think_ids, ()),
        "remask": (config.remask, 0.0),
        "compile": (config.compile, "none"),
        "drift_share": (config.drift_share, 0.0),
    }
    for key, (value, supported) in fixed.items():
        if value != supported:
            neutral = "null" if supported is None else "[]" if supported == () else supported
            raise ConfigError(
                f"sampler.{key}={value}: a block-causal model is sampled over an exact cache; "
                f"set sampler.{key}={neutral}"
            )
    parts = config.block_length < width
    if config.cache != "none" and not (config.cache == "dual" and parts):
        raise ConfigError(
            f"sampler.cache={config.cache}: a block-causal model is sampled over an exact cache; "
            "set sampler.cache=none, or dual with a sampler.block_length below the model's "
            f"{width}, which runs parts of a block alone"
        )
    if config.edit_threshold is not None and parts:
        raise ConfigError(
            f"sampler.edit_threshold={config.edit_threshold}: whole blocks are edited; set "
            f"sampler.block_length={width}"
        )
    if width % config.block_length:
        raise ConfigError(
            f"sampler.block_length={config.block_length}: the model's blocks have {width} tokens; "
            f"set sampler.block_length={width}, or a divisor of it to fill blocks in parts"
        )


def lay_out(
    model: Backbone,
    config: SamplerConfig,
    rules: TokenRules,
    ranks: Lockstep,
    prompt_ids: Tensor,
    real: Tensor,
    completion: Tensor,
    free: Tensor,
    keys: Tensor | None,
) -> tuple[BlockCanvas, int]:
    """Put rows so that their blocks stand in the same columns.

    Args:
        model: A backbone with a `block_size` W.
        config: The sampler.
        rules: How tokens are drawn.
        ranks: See `sampler.denoise`.
        prompt_ids: [B, P], padded on the left.
        real: [B, P], True at real tokens.
        completion: [B, C], hints and masks.
        free: [B, C], True where masked.
        keys: [B] int64, or None where nothing is random.

    Returns:
        The canvas, and the column of the first block with a mask in some row.
    """
    width, device = model.block_size, prompt_ids.device
    assert width is not None
    lengths = real.sum(dim=1)  # [B]
    whole = lengths // width * width  # tokens in blocks of prompt alone
    first = int(whole.max())
    starts = first + lengths - whole  # [B]
    ends = -(-(starts + completion.shape[1]) // width) * width
    shape, stop = (len(prompt_ids), int(ends.max())), prompt_ids.shape[1]
    ids = torch.full(shape, model.pad_token_id, device=device)
    column = torch.arange(shape[1], device=device)
    inside = (column >= starts[:, None]) & (column < ends[:, None])  # completion and what is cut
    ids[inside] = model.mask_token_id
    masked = inside.clone()
    completion_columns = starts[:, None] + torch.arange(completion.shape[1], device=device)
    ids.scatter_(1, completion_columns, completion)
    masked.scatter_(1, completion_columns, free)
    before = column - (starts - lengths)[:, None]  # place within the prompt
    of_prompt = (before >= 0) & (column < starts[:, None])
    source = (before + stop - lengths[:, None]).clamp(0, stop - 1)
    ids = torch.where(of_prompt, prompt_ids.gather(1, source), ids)
    canvas = BlockCanvas(
        model=model,
        config=config,
        rules=rules,
        ranks=ranks,
        ids=ids,
        real=of_prompt | inside,
        free=masked,
        unmask_step=torch.full_like(ids, GIVEN),
        unmask_score=torch.ones_like(ids, dtype=torch.float32),
        starts=starts,
        keys=keys,
        steps_taken=torch.zeros_like(starts),
    )
    return canvas, first
