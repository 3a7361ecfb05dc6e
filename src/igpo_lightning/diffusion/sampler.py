"""The denoising loop: fill a masked completion block by block, around hints where there are any.

LLaDA's semi-autoregressive sampler (arXiv 2502.09992, section 2.4) with the hint-injected
initialisation of IGPO (arXiv 2509.10396): hints stand in the canvas from the start and stay.
What a step costs is kept down without changing a token: the head and the noise are computed at
masked positions of the current block only, rows leave the batch while they have nothing to commit,
and with a fixed schedule the host knows all counts in advance and never waits for the device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.cache import Passes, keep_company
from igpo_lightning.diffusion.compilation import compiled_encode
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.sampler_config import SamplerConfig
from igpo_lightning.diffusion.token_choice import TokenRules, choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import (
    above_threshold,
    commit_schedule,
    most_confident,
    remasked,
    within_factor,
)
from igpo_lightning.models.backbone import Backbone

__all__ = ["FREE", "HINTED", "DenoiseOutput", "SamplerConfig", "denoise"]

FREE = -1  # in hint_ids: the sampler fills this position
HINTED = -1  # in unmask_step: the position was given, no step committed it
_REMASK = 0x72656D  # the stream of row keys that remasking draws from


@dataclass(frozen=True)
class DenoiseOutput:
    """What the sampler made of a batch of prompts, and what it cost.

    Attributes:
        completion_ids: [B, C], no mask token left.
        hint_mask: [B, C], True where the token was given as a hint.
        unmask_step: [B, C], the denoising step (counted over all blocks) that committed the token,
            the last one where it was masked again; -1 for hints. A parallel rule counts the row's
            own steps. Positions filled by `stop_after_eos` bear the step that ended the row.
        forward_passes: Calls of the model's body, whatever the number of rows in them.
        head_positions: Positions that went through the output head, over all passes.
        body_tokens: Rows times positions that went through the body, over all passes.
        canvas_tokens: What `body_tokens` would be if every pass ran its rows as a whole.
    """

    completion_ids: Tensor
    hint_mask: Tensor
    unmask_step: Tensor
    forward_passes: int
    head_positions: int = 0
    body_tokens: int = 0
    canvas_tokens: int = 0

    @property
    def cached_share(self) -> float:
        """Share of the rows' positions that a cache (or an equal row) spared the body."""
        return 1 - self.body_tokens / self.canvas_tokens if self.canvas_tokens else 0.0


@dataclass
class _Canvas:
    """The state of a denoising call; everything is changed in place.

    Attributes:
        ids: [B, L].
        hint_mask: [B, C].
        free: [B, C], True where the token is still masked.
        unmask_step: [B, C].
        keys: [B] int64, or None where nothing is random.
        any_rank: See `denoise`.
    """

    ids: Tensor
    hint_mask: Tensor
    free: Tensor
    unmask_step: Tensor
    keys: Tensor | None
    passes: Passes
    rules: TokenRules
    config: SamplerConfig
    any_rank: Callable[[bool], bool] | None

    @property
    def prompt_length(self) -> int:
        return self.ids.shape[1] - self.free.shape[1]


def _hinted(prompt_ids: Tensor, hint_ids: Tensor | None, length: int, mask_id: int) -> Tensor:
    """The starting completion [B, C]: hint-injected initialisation, masks elsewhere."""
    completion = prompt_ids.new_full((prompt_ids.shape[0], length), mask_id)
    if hint_ids is None:
        return completion
    if hint_ids.shape != completion.shape:
        raise ValueError(f"hint_ids is {tuple(hint_ids.shape)}, not {tuple(completion.shape)}")
    return torch.where(hint_ids != FREE, hint_ids, completion)


def _random_keys(batch: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Row keys [B] from a generator; without one, always the same keys."""
    generator = generator or torch.Generator().manual_seed(0)
    high = torch.iinfo(torch.int64).max
    keys = torch.randint(high, (batch,), generator=generator, device=generator.device)
    return keys.to(device)


def _token_rules(config: SamplerConfig, model: Backbone) -> TokenRules:
    forbidden = {model.mask_token_id, *config.forbidden_ids}
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
    any_rank: Callable[[bool], bool] | None = None,
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
        any_rank: For ranks that share the model's weights, whose every pass is everybody's: asked
            before each pass whether this rank has work, it answers whether any rank has. A rank
            without work then makes an empty pass. None: this rank is alone.

    Returns:
        The completions, and the work they took.

    Raises:
        ValueError: `hint_ids` is of another shape than the completion, or the model has no cache
            and `config.cache` asks for one.
    """
    if config.cache != "none" and not model.supports_cache:
        raise ValueError(f"cache={config.cache!r}: this model keeps no keys and values; use 'none'")
    completion = _hinted(prompt_ids, hint_ids, config.completion_length, model.mask_token_id)
    free = completion == model.mask_token_id if hint_ids is None else hint_ids == FREE
    attention_mask = None
    if prompt_mask is not None and not bool(prompt_mask.all()):
        attention_mask = torch.cat((prompt_mask.bool(), torch.ones_like(free)), dim=1)
    if keys is None and config.random:
        keys = _random_keys(prompt_ids.shape[0], generator, prompt_ids.device)
    canvas = _Canvas(
        ids=torch.cat((prompt_ids, completion), dim=1),
        hint_mask=~free,
        free=free,
        unmask_step=torch.full_like(completion, HINTED),
        keys=keys if config.random else None,
        passes=Passes(
            model,
            compiled_encode(model, config.compile, prompt_ids.device),
            attention_mask,
            prompt_ids.shape[1],
            config.cache,
            config.cfg_scale,
            None if config.autocast == "none" else getattr(torch, config.autocast),
        ),
        rules=_token_rules(config, model),
        config=config,
        any_rank=any_rank,
    )
    _fill(canvas, model.eos_token_id)
    while any_rank is not None and any_rank(False):
        keep_company(model, canvas.ids[:1])
    work = canvas.passes.work
    return DenoiseOutput(
        canvas.ids[:, prompt_ids.shape[1] :],
        canvas.hint_mask,
        canvas.unmask_step,
        work.forward_passes,
        work.head_positions,
        work.body_tokens,
        work.canvas_tokens,
    )


def _fill(canvas: _Canvas, eos_token_id: int) -> None:
    """Fill all blocks from left to right."""
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
        if config.stop_after_eos and block + 1 < config.blocks:
            rows = _leave_finished(canvas, block, rows, steps_taken, eos_token_id)


def _refreshes(config: SamplerConfig, block: int, step: int) -> bool:
    """Whether a step of a block starts with a full pass that renews the cache."""
    if step == 0:
        return block % config.cache_blocks == 0
    return config.cache_refresh is not None and step % config.cache_refresh == 0


def _fill_by_schedule(canvas: _Canvas, block: int, rows: list[int], masked: list[int]) -> None:
    """Fill a block of some rows, so many positions a step as the schedule says."""
    config, steps = canvas.config, canvas.config.steps_per_block
    schedule = commit_schedule(torch.tensor(masked), steps, config.schedule)  # [A, steps]
    left_after = torch.tensor(masked)[:, None] - schedule.cumsum(dim=1)
    for step in range(steps):
        commits, left = schedule[:, step], left_after[:, step]
        # A pass that commits nothing changes nothing, unless it masks again or fills the cache.
        active = commits > 0
        if config.remask > 0 or (_refreshes(config, block, step) and config.cache != "none"):
            active |= left > 0
        if config.cache_blocks > 1 and (step == 0 or bool(active.any())):
            active[:] = True  # a window that is run twice is the same: no row need leave the cache
        chosen = active.nonzero().flatten().tolist()
        if chosen:
            _step(
                canvas,
                block,
                step,
                [rows[i] for i in chosen],
                [block * steps + step] * len(chosen),
                int((commits + left)[active].sum()),
                commits[active].tolist(),
                left[active].tolist(),
            )


def _fill_in_parallel(
    canvas: _Canvas, block: int, rows: list[int], masked: list[int], steps_taken: list[int]
) -> None:
    """Fill a block of some rows, as many positions a step as the scores allow."""
    config, width = canvas.config, canvas.config.block_length
    inside = slice(block * width, (block + 1) * width)
    step = 0
    while step == 0 or any(masked):
        _step(canvas, block, step, rows, [steps_taken[row] for row in rows], sum(masked))
        for row, count in zip(rows, masked, strict=True):
            steps_taken[row] += count > 0
        step += 1
        masked = canvas.free[rows, inside].sum(dim=1).tolist()  # the host has to know who goes on
        if config.cache_blocks == 1:
            rows = [row for row, count in zip(rows, masked, strict=True) if count]
            masked = [count for count in masked if count]


def _step(
    canvas: _Canvas,
    block: int,
    step: int,
    rows: list[int],
    steps: list[int],
    masked: int,
    commits: list[int] | None = None,
    left: list[int] | None = None,
) -> None:
    """One denoising step of A rows.

    Args:
        canvas: Changed in place.
        block: Number of the block.
        step: Number of the step within the block.
        rows: The rows.
        steps: The number of this step for each row, over all blocks.
        masked: Masked positions of the block over all these rows, M.
        commits: Positions by which each row's masked ones become fewer; None: by the parallel rule.
        left: Positions of each row that stay masked; goes with `commits`.
    """
    config, width, prompt_length = canvas.config, canvas.config.block_length, canvas.prompt_length
    inside = slice(block * width, (block + 1) * width)  # within the completion
    window = slice(prompt_length + inside.start, prompt_length + inside.stop)  # within the canvas
    plan = torch.tensor([rows, steps, commits or rows, left or rows])
    plan = plan.to(canvas.ids.device, non_blocking=True)
    index, numbers = plan[0], plan[1]
    if canvas.any_rank is not None:
        canvas.any_rank(True)
    refresh = _refreshes(config, block, step)
    # What the block before has committed last is not in the cache yet: its first successor runs it.
    before = width if step == 0 and not refresh else 0
    hidden = canvas.passes.encode(canvas.ids, rows, index, window, refresh, before)

    free = canvas.free[index, inside]  # [A, W]
    # Indices of the masked positions in the flattened [A * W]; `nonzero` would wait for the device.
    at = free.flatten().to(torch.uint8).argsort(descending=True, stable=True)[:masked]
    position_keys = None
    if canvas.keys is not None:
        positions = torch.arange(inside.start, inside.stop, device=free.device)
        position_keys = fold(fold(canvas.keys[index], numbers)[:, None], positions)  # [A, W]
    drawn, drawn_scores = choose_tokens(
        canvas.passes.project,
        hidden.flatten(0, 1)[at],
        canvas.rules,
        None if position_keys is None else position_keys.flatten()[at],
        # Ranks that share weights call the head equally often.
        None
        if canvas.any_rank is not None
        else head_rows(canvas.passes.model.vocab_size, free.device),
    )
    tokens = torch.zeros_like(free, dtype=canvas.ids.dtype).flatten().scatter(0, at, drawn)
    scores = torch.zeros_like(free, dtype=drawn_scores.dtype).flatten().scatter(0, at, drawn_scores)
    tokens, scores = tokens.view_as(free), scores.view_as(free)

    old = canvas.ids[index, window]
    again = None
    if config.confidence_threshold is not None:
        commit = above_threshold(scores, free, config.confidence_threshold)
    elif config.factor is not None:
        commit = within_factor(scores, free, config.factor)
    else:
        counts = plan[2]
        if config.remask > 0:
            assert position_keys is not None
            committed = ~free & ~canvas.hint_mask[index, inside]
            again = remasked(committed, fold(position_keys, _REMASK), config.remask, plan[3])
            counts = counts + again.sum(dim=1)
        commit = most_confident(scores, free, counts)
    new, free = torch.where(commit, tokens, old), free & ~commit
    if again is not None:
        new, free = new.masked_fill(again, canvas.passes.model.mask_token_id), free | again
    canvas.ids[index, window] = new
    canvas.free[index, inside] = free
    canvas.unmask_step[index, inside] = torch.where(
        commit, numbers[:, None], canvas.unmask_step[index, inside]
    )


def _leave_finished(
    canvas: _Canvas, block: int, rows: list[int], steps_taken: list[int], eos_token_id: int
) -> list[int]:
    """Fill rows with EOS whose finished blocks hold one; returns the rows that go on."""
    start = canvas.prompt_length
    end = (block + 1) * canvas.config.block_length
    ended = (canvas.ids[rows, start : start + end] == eos_token_id).any(dim=1).tolist()
    for row in (row for row, over in zip(rows, ended, strict=True) if over):
        rest = canvas.free[row, end:]
        canvas.ids[row, start + end :].masked_fill_(rest, eos_token_id)
        canvas.unmask_step[row, end:].masked_fill_(rest, max(0, steps_taken[row] - 1))
        rest.fill_(False)
    return [row for row, over in zip(rows, ended, strict=True) if not over]
