"""Rows of a block-causal model, and the keys and values of their finished blocks."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from igpo_lightning.diffusion.token_choice import TokenRules
from igpo_lightning.diffusion.work import Work
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import Backbone, KeyValueCache
from igpo_lightning.settings import SamplerConfig

GIVEN = -1  # in unmask_step: prompt, hint or padding


@dataclass
class BlockCanvas:
    """Rows from their first real token on; everything but the layout is changed in place.

    Attributes:
        model: A backbone with a `block_size` W.
        config: The sampler.
        rules: How tokens are drawn.
        ranks: See `sampler.denoise`.
        ids: [B, L], whole blocks: prompt, completion, and masks up to the block's end.
        free: [B, L], True where the token is still masked.
        unmask_step: [B, L], the row's own number of the step that committed the token.
        unmask_score: [B, L] float32, its score then; 1 where no step chose the token.
        starts: [B], first column of the completion.
        keys: [B] int64, or None where nothing is random.
        begins: [B], first column of the block that each row has reached.
        steps_taken: [B], steps of each row so far.
        lengths: [B], columns of each row, on the host.
        kept: Keys and values of the rows at work.
    """

    model: Backbone
    config: SamplerConfig
    rules: TokenRules
    ranks: Lockstep
    ids: Tensor
    free: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    starts: Tensor
    keys: Tensor | None
    begins: Tensor
    steps_taken: Tensor
    lengths: list[int]
    kept: "KeptBlocks" = field(default_factory=lambda: KeptBlocks())
    work: Work = field(default_factory=Work)

    @property
    def width(self) -> int:
        """W."""
        assert self.model.block_size is not None
        return self.model.block_size

    def columns(self) -> Tensor:
        """Columns [B, C] of the completions."""
        places = torch.arange(self.config.completion_length, device=self.ids.device)
        return self.starts[:, None] + places

    def completions(self, rows: list[int]) -> Tensor:
        """[n, C] of some rows."""
        return self.ids[rows].gather(1, self.columns()[rows])

    def at(self, rows: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """An index of [A, m] places: a part of the block that each of the A rows has reached."""
        inside = torch.arange(part.start, part.stop, device=rows.device)
        return rows[:, None], self.begins[rows][:, None] + inside


@dataclass
class KeptBlocks:
    """Keys and values of some rows: of the block that each has reached, and of those before.

    The block's own W columns stand first, whatever its number, so that rows at different blocks
    share a pass. The finished blocks follow from the row's first token on.

    Attributes:
        rows: S rows of the canvas.
        layers: One (keys, values) pair a layer, [S, heads, L, width]; none while no row
            has anything to keep.
    """

    rows: list[int] = field(default_factory=list)
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def make_room(self, rows: list[int]) -> None:
        """Keep those of some rows alone; new ones have nothing yet."""
        if self.layers and rows != self.rows:
            number = {row: i for i, row in enumerate(self.rows)}
            device = self.layers[0][0].device
            old = torch.tensor([number.get(row, 0) for row in rows]).to(device)
            self.layers = [(keys[old], values[old]) for keys, values in self.layers]
        self.rows = rows

    def numbers(self, rows: Tensor) -> Tensor | None:
        """Which of the S rows the A rows [A] are; None for all of them in order."""
        if len(rows) == len(self.rows):
            return None
        number = {row: i for i, row in enumerate(self.rows)}
        return torch.tensor([number[row] for row in rows.tolist()]).to(rows.device)

    def of(self, numbers: Tensor | None) -> KeyValueCache:
        """What a pass over some of the S rows reads; of all rows it is renewed in place."""
        if numbers is None:
            return KeyValueCache(self.layers)
        return KeyValueCache([(keys[numbers], values[numbers]) for keys, values in self.layers])

    def write(
        self, made: KeyValueCache, numbers: Tensor | None, source: slice, columns: Tensor
    ) -> None:
        """Put what a pass has made at `source` into each row's own columns [A, n]."""
        if numbers is None:
            numbers = torch.arange(len(self.rows), device=columns.device)
        for into, of in zip(self.layers, made.layers, strict=True):
            for kept, new in zip(into, of, strict=True):
                # A copy: a pass over all rows has made them in the same tensor.
                kept[numbers[:, None], :, columns] = new[:, :, source].transpose(1, 2).clone()

    def allocate(self, like: KeyValueCache, width: int) -> None:
        """Room for all rows, if there is none yet."""
        if self.layers:
            return
        for keys, values in like.layers:
            shape = (len(self.rows), keys.shape[1], width)
            self.layers.append(
                (keys.new_zeros(*shape, keys.shape[3]), values.new_zeros(*shape, values.shape[3]))
            )


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
    rules: TokenRules,
    ranks: Lockstep,
    prompt_ids: Tensor,
    real: Tensor,
    completion: Tensor,
    free: Tensor,
    keys: Tensor | None,
) -> BlockCanvas:
    """Put rows so that each begins with its first real token.

    From prompts [B, P], True in `real` [B, P] at real tokens, and completions [B, C] of hints and
    masks, True in `free` [B, C] where masked.
    """
    width, device = model.block_size, prompt_ids.device
    assert width is not None
    starts = real.sum(dim=1)  # [B]
    ends = -(-(starts + completion.shape[1]) // width) * width
    lengths: list[int] = ends.tolist()
    shape, stop = (len(prompt_ids), max(lengths)), prompt_ids.shape[1]
    ids = torch.full(shape, model.pad_token_id, device=device)
    column = torch.arange(shape[1], device=device)
    masked = (column >= starts[:, None]) & (column < ends[:, None])  # completion and what is cut
    ids[masked] = model.mask_token_id
    completion_columns = starts[:, None] + torch.arange(completion.shape[1], device=device)
    ids.scatter_(1, completion_columns, completion)
    masked.scatter_(1, completion_columns, free)
    source = (column + stop - starts[:, None]).clamp(0, stop - 1)
    ids = torch.where(column < starts[:, None], prompt_ids.gather(1, source), ids)
    return BlockCanvas(
        model=model,
        config=rules.config,
        rules=rules,
        ranks=ranks,
        ids=ids,
        free=masked,
        unmask_step=torch.full_like(ids, GIVEN),
        unmask_score=torch.ones_like(ids, dtype=torch.float32),
        starts=starts,
        keys=keys,
        begins=starts // width * width,
        steps_taken=torch.zeros_like(starts),
        lengths=lengths,
    )
