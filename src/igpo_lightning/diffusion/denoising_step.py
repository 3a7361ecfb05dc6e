"""One denoising step: a pass of the model, a token for each masked position, and what to commit."""

import torch
from torch import Tensor

from igpo_lightning.diffusion.canvas import Canvas
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.token_choice import choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import (
    above_threshold,
    most_confident,
    remasked,
    within_factor,
)
from igpo_lightning.settings import SamplerConfig

# States to ask a pass for at least: with fewer queries attention takes another kernel on CPUs, and
# the last bit of a state would depend on how much of its block is masked.
_FEWEST = 8
_REMASK = 0x72656D  # the stream of row keys that remasking draws from


def refreshes(config: SamplerConfig, block: int, step: int) -> bool:
    """Whether a step of a block starts with a full pass that renews the cache."""
    if step == 0:
        return block % config.cache_blocks == 0
    return config.cache_refresh is not None and step % config.cache_refresh == 0


def step_rows(
    canvas: Canvas,
    block: int,
    step: int,
    rows: list[int],
    steps: list[int],
    masked: list[int],
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
        masked: Masked positions of the block in each row, M over all rows.
        commits: Positions by which each row's masked ones become fewer; None: by the parallel rule.
        left: Positions of each row that stay masked; goes with `commits`.
    """
    config, width, prompt_length = canvas.config, canvas.config.block_length, canvas.prompt_length
    inside = slice(block * width, (block + 1) * width)  # within the completion
    window = slice(prompt_length + inside.start, prompt_length + inside.stop)  # within the canvas
    plan = torch.tensor([rows, steps, commits or rows, left or rows])
    plan = plan.to(canvas.ids.device, non_blocking=True)
    index, numbers = plan[0], plan[1]
    canvas.ranks.before_pass()
    refresh = refreshes(config, block, step)
    # What the block before has committed last is not in the cache yet: its first successor runs it.
    before = width if step == 0 and not refresh else 0
    free = canvas.free[index, inside]  # [A, W]
    most, order = max(_FEWEST, *masked), None
    if most < width:
        # Each row's masked positions in front, in order; `nonzero` would wait for the device.
        order = free.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    hidden = canvas.passes.encode(canvas.ids, rows, index, window, order, refresh, before)
    position_keys = None
    if canvas.keys is not None:
        positions = torch.arange(inside.start, inside.stop, device=free.device)
        position_keys = fold(fold(canvas.keys[index], numbers)[:, None], positions)  # [A, W]
    tokens, scores = _draw(canvas, hidden, free, order, sum(masked), position_keys)

    old, again = canvas.ids[index, window], None
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


def _draw(
    canvas: Canvas,
    hidden: Tensor,
    free: Tensor,
    order: Tensor | None,
    total: int,
    position_keys: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Tokens and their scores, both [A, W] and 0 at positions that are not masked.

    Args:
        canvas: The state of the call.
        hidden: [A, m, D], or [A, m, 2, D] with guidance: states at `order`.
        free: [A, W], the masked positions.
        order: [A, m], positions of the block, the masked ones first; None for all of it.
        total: M, masked positions over all rows.
        position_keys: [A, W] int64, or None where nothing is random.
    """
    # Where the M masked ones are: among the [A * m] states, and in the flattened [A * W].
    wanted = free if order is None else free.gather(1, order)
    among = wanted.flatten().to(torch.uint8).argsort(descending=True, stable=True)[:total]
    at = among
    if order is not None:
        starts = torch.arange(0, free.numel(), free.shape[1], device=free.device)
        at = (order + starts[:, None]).flatten()[among]
    vocab_size = canvas.passes.model.vocab_size
    drawn, drawn_scores = choose_tokens(
        canvas.passes.project,
        hidden.flatten(0, 1)[among],
        canvas.rules,
        None if position_keys is None else position_keys.flatten()[at],
        # Ranks that share weights call the head equally often.
        None if canvas.ranks.shared else head_rows(vocab_size, free.device),
    )
    tokens = canvas.ids.new_zeros(free.numel()).scatter(0, at, drawn)
    scores = drawn_scores.new_zeros(free.numel()).scatter(0, at, drawn_scores)
    return tokens.view_as(free), scores.view_as(free)
