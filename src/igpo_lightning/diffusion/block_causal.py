"""The denoising loop of block-causal models: one block after the other over an exact cache.

A token sees its own block and those before (SDAR, Fast-dLLM v2, LLaDA 2), so the keys and values
of a finished block are final: a clean pass over its tokens writes them once, and every later pass
runs the current block alone. Blocks are counted from a row's first real token. A prompt's last
tokens may share the first block with masks; the last block is filled to its end, as the public
samplers do, and cut. A hint waits in its block until the loop reaches it.

A step commits as many positions as the schedule says, those that the strategy ranks first; with
`confidence_threshold` every position above it, if these are more (SDAR, arXiv 2510.06303). A block
may be filled in sub-blocks from left to right (Fast-dLLM v2, arXiv 2509.26328). Where logits are
shifted, a block's first token is read in the clean pass over the block before.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from igpo_lightning.diffusion.cache import Work
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.token_choice import TokenRules, choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import commit_schedule, most_confident
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


def check_block_causal(model: Backbone, config: SamplerConfig) -> None:
    """Refuse settings that have no meaning for a block-causal model.

    Raises:
        ConfigError: One has another value than the loop computes.
    """
    width = model.block_size
    assert width is not None
    fixed = {
        "canvas": (config.canvas, "whole"),
        "cfg_scale": (config.cfg_scale, 0.0),
        "cache": (config.cache, "none"),
        "factor": (config.factor, None),
        "remask": (config.remask, 0.0),
        "compile": (config.compile, "none"),
    }
    for key, (value, supported) in fixed.items():
        if value != supported:
            raise ConfigError(
                f"sampler.{key}={value}: a block-causal model is sampled over an exact cache; "
                f"set sampler.{key}={'null' if supported is None else supported}"
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
        starts=starts,
        keys=keys,
        steps_taken=torch.zeros_like(starts),
    )
    return canvas, first


def fill(canvas: BlockCanvas, first: int, eos_token_id: int) -> None:
    """Fill all blocks from the column `first` on."""
    length, width = canvas.ids.shape[1], canvas.width
    rows = torch.arange(len(canvas.ids), device=canvas.ids.device)
    if first > 0:
        _write_clean(canvas, 0, first, rows)
    for start in range(first, length, width):
        block = slice(start, start + width)
        rows = rows[canvas.real[rows, start]]  # shorter rows are done
        for inner in range(start, start + width, canvas.config.block_length):
            _fill_part(canvas, block, slice(inner, inner + canvas.config.block_length), rows)
        if canvas.config.stop_after_eos:
            rows = _leave_finished(canvas, block.stop, rows, eos_token_id)
        rows = rows[canvas.real[rows, min(block.stop, length - 1)]]
        if len(rows) == 0:
            return
        if block.stop < length:
            _write_clean(canvas, block.start, block.stop, rows)


def _fill_part(canvas: BlockCanvas, block: slice, part: slice, rows: Tensor) -> None:
    """Fill a block, or a sub-block of it, step by step."""
    config = canvas.config
    width = torch.tensor([config.block_length])
    quotas = commit_schedule(width, config.steps_per_block, config.schedule)[0].tolist()
    # The masks of a block that holds prompt or hints are fewer: they need not all of the steps.
    for quota in (quota for quota in quotas if quota):
        rows = rows[canvas.free[rows, part].any(dim=1)]
        if len(rows) == 0:
            return
        _step(canvas, block, part, rows, quota)


def _step(canvas: BlockCanvas, block: slice, part: slice, rows: Tensor, quota: int) -> None:
    """One pass over the block, and what it commits within the part."""
    hidden = _encode(canvas, block.start, block.stop, rows)[:, part.start - block.start :]
    hidden = hidden[:, : part.stop - part.start]
    free = canvas.free[rows, part]  # [A, m]
    tokens, scores = _draw(canvas, hidden, free, rows, part.start)
    count = free.sum(dim=1).clamp(max=quota)
    commit = most_confident(scores, free, count)
    if canvas.config.confidence_threshold is not None:
        above = (scores > canvas.config.confidence_threshold) & free
        commit = torch.where((above.sum(dim=1) >= count)[:, None], above, commit)
    _commit(canvas, rows, part.start, tokens, commit)
    canvas.steps_taken[rows] += 1


def _write_clean(canvas: BlockCanvas, start: int, stop: int, rows: Tensor) -> None:
    """Keep what finished blocks are seen by; if shifted, read the next block's first token."""
    behind = torch.full((len(rows), 1), stop, device=rows.device)
    shifted = canvas.model.shifted
    hidden = _encode(canvas, start, stop, rows, behind if shifted else behind - 1, keep=True)
    if shifted:
        free = canvas.free[rows, stop : stop + 1] & canvas.real[rows, stop - 1 : stop]
        tokens, _ = _draw(canvas, hidden, free, rows, stop)
        _commit(canvas, rows, stop, tokens, free)


def _encode(
    canvas: BlockCanvas,
    start: int,
    stop: int,
    rows: Tensor,
    positions: Tensor | None = None,
    keep: bool = False,
) -> Tensor:
    """Hidden states of the columns [start, stop) over what is kept; `keep` keeps their own."""
    canvas.ranks.before_pass()
    canvas.work.forward_passes += 1
    canvas.work.body_tokens += len(rows) * (stop - start)
    canvas.work.canvas_tokens += len(rows) * canvas.ids.shape[1]
    everyone = len(rows) == len(canvas.ids)
    cache = canvas.cache
    if not everyone and cache.layers:
        cache = KeyValueCache([(k[rows], v[rows]) for k, v in cache.layers])
    elif not everyone:
        cache = KeyValueCache()
    hidden = canvas.model.encode(
        canvas.ids[rows],
        canvas.real[rows],
        window=(start, stop),
        cache=cache,
        positions=positions,
    )
    if keep and not everyone:
        for (kept_keys, kept_values), (keys, values) in zip(
            canvas.cache.layers, cache.layers, strict=True
        ):
            kept_keys[rows, :, start:stop] = keys[:, :, start:stop]
            kept_values[rows, :, start:stop] = values[:, :, start:stop]
    return hidden


def _draw(
    canvas: BlockCanvas, hidden: Tensor, free: Tensor, rows: Tensor, start: int
) -> tuple[Tensor, Tensor]:
    """Tokens and their scores [A, m] for hidden states [A, m, D]; 0 where not free."""
    position_keys = None
    if canvas.keys is not None:
        # A function of the row's own numbers: its step, and the place within its completion.
        places = torch.arange(start, start + free.shape[1], device=rows.device)
        own = places - canvas.starts[rows, None] + canvas.width  # from 0
        position_keys = fold(fold(canvas.keys[rows], canvas.steps_taken[rows])[:, None], own)[free]
    wanted = hidden[free]
    canvas.work.head_positions += len(wanted)
    drawn, drawn_scores = choose_tokens(
        canvas.model.project,
        wanted,
        canvas.rules,
        position_keys,
        None if canvas.ranks.shared else head_rows(canvas.model.vocab_size, free.device),
    )
    tokens = canvas.ids.new_zeros(free.shape).masked_scatter(free, drawn)
    return tokens, drawn_scores.new_zeros(free.shape).masked_scatter(free, drawn_scores)


def _commit(canvas: BlockCanvas, rows: Tensor, start: int, tokens: Tensor, commit: Tensor) -> None:
    """Put tokens [A, m] into the canvas where `commit` says so."""
    part = slice(start, start + tokens.shape[1])
    canvas.ids[rows, part] = torch.where(commit, tokens, canvas.ids[rows, part])
    canvas.free[rows, part] &= ~commit
    numbers = canvas.steps_taken[rows, None]
    canvas.unmask_step[rows, part] = torch.where(commit, numbers, canvas.unmask_step[rows, part])


def _leave_finished(canvas: BlockCanvas, stop: int, rows: Tensor, eos_token_id: int) -> Tensor:
    """Fill rows with EOS whose finished blocks hold one; returns the rows that go on."""
    column = torch.arange(stop, device=rows.device)
    generated = column >= canvas.starts[rows, None]
    ended = ((canvas.ids[rows, :stop] == eos_token_id) & generated).any(dim=1)
    for row in rows[ended].tolist():
        rest = canvas.free[row, stop:]
        canvas.ids[row, stop:].masked_fill_(rest, eos_token_id)
        last = int(canvas.steps_taken[row]) - 1
        canvas.unmask_step[row, stop:].masked_fill_(rest, max(0, last))
        rest.fill_(False)
    return rows[~ended]
