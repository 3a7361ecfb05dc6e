"""One denoising step: a pass of the model, a token for each masked position, and what to commit."""

import torch
from torch import Tensor

from igpo_lightning.diffusion.canvas import Canvas
from igpo_lightning.diffusion.course import Step
from igpo_lightning.diffusion.drift import Committed
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.thinking import NOTHING, end_of_thinking
from igpo_lightning.diffusion.token_choice import choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import (
    above_threshold,
    in_front,
    most_confident,
    remasked,
    within_entropy,
    within_factor,
)

# States to ask a pass for at least: with fewer queries attention takes another kernel on CPUs, and
# the last bit of a state would depend on how much of its block is masked.
_FEWEST = 8
_REMASK = 0x72656D  # the stream of row keys that remasking draws from


def run_step(canvas: Canvas, step: Step) -> None:
    """Run one denoising step; changes the canvas in place, and reads no value back."""
    config, width, prompt_length = canvas.config, canvas.config.block_length, canvas.prompt_length
    # In one transfer to the device: what it needs to know of the plan, [A] each.
    starts = [block * width for block in step.blocks]
    columns = [step.rows, step.row_steps, step.masked, starts]
    columns += [] if step.commits is None else [step.commits]
    plan = torch.tensor(columns).to(canvas.ids.device, non_blocking=True)
    index, numbers, masked, begins = plan[:4]
    row = index[:, None]
    inside = begins[:, None] + torch.arange(width, device=plan.device)  # [A, W], completion's
    at = inside + prompt_length  # within the canvas
    canvas.ranks.before_pass()
    free = canvas.free[row, inside]  # [A, W]
    most = max(_FEWEST, *step.masked)
    order = in_front(free)[:, :most] if most < width else None
    own = (inside - begins[:, None]) if order is None else order  # [A, m], within the block
    hidden = canvas.passes.encode(canvas.ids, step, index, begins + prompt_length, own)
    position_keys = None
    if canvas.keys is not None:
        position_keys = fold(fold(canvas.keys[index], numbers)[:, None], inside)  # [A, W]
    boosts = None
    if config.think_ids:
        ids = canvas.ids[index, prompt_length:]
        if config.canvas == "growing" and config.hints_ahead == "waiting":
            behind = torch.arange(ids.shape[1], device=ids.device) >= begins[:, None] + width
            ids = ids.masked_fill(behind, NOTHING)
        boosts = end_of_thinking(ids, begins, free, config)
    total = sum(step.masked)
    tokens, scores = _draw(canvas, hidden, free, order, total, position_keys, boosts)

    old, again = canvas.ids[row, at], None
    if config.confidence_threshold is not None:
        commit = above_threshold(scores, free, config.confidence_threshold)
    elif config.factor is not None:
        commit = within_factor(scores, free, config.factor)
    elif config.entropy_bound is not None:
        commit = within_entropy(scores, free, config.entropy_bound)
    else:
        counts = plan[4]
        if config.remask > 0:
            assert position_keys is not None
            committed = ~free & ~canvas.hint_mask[row, inside]
            drawn = fold(position_keys, _REMASK)
            again = remasked(committed, drawn, config.remask, limit=masked - counts)
            counts = counts + again.sum(dim=1)
        commit = most_confident(scores, free, counts)
    new, free = torch.where(commit, tokens, old), free & ~commit
    compared: list[int] = []
    if canvas.drift is not None:
        compared = canvas.drift.chosen(step.rows, step.row_steps, step.masked)
    before_commit = canvas.ids[index[compared]] if compared else None
    if again is not None:
        new, free = new.masked_fill(again, canvas.passes.model.mask_token_id), free | again
    canvas.ids[row, at] = new
    canvas.free[row, inside] = free
    canvas.unmask_step[row, inside] = torch.where(
        commit, numbers[:, None], canvas.unmask_step[row, inside]
    )
    canvas.unmask_score[row, inside] = torch.where(commit, scores, canvas.unmask_score[row, inside])
    if before_commit is None or canvas.drift is None:
        return
    attention = canvas.passes.attention_mask
    keys = None if position_keys is None else position_keys.gather(1, own)[compared]
    canvas.drift.measure(
        Committed(
            before=before_commit,
            after=canvas.ids[index[compared]],
            mask=None if attention is None else attention[index[compared]],
            places=at.gather(1, own)[compared],
            chosen=commit.gather(1, own)[compared],
            tokens=tokens.gather(1, own)[compared],
            scores=scores.gather(1, own)[compared],
            hidden=hidden[compared],
            keys=keys,
        )
    )


def _draw(
    canvas: Canvas,
    hidden: Tensor,
    free: Tensor,
    order: Tensor | None,
    total: int,
    position_keys: Tensor | None,
    boosts: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Tokens and their scores, both [A, W] and 0 at positions that are not masked.

    Args:
        canvas: The state of the call.
        hidden: [A, m, D], or [A, m, 2, D] with guidance: states at `order`.
        free: [A, W], the masked positions.
        order: [A, m], positions of the block, the masked ones first; None for all of it.
        total: M, masked positions over all rows.
        position_keys: [A, W] int64, or None where nothing is random.
        boosts: Tokens and what is added to their logits, both [A, W]; None for nothing.
    """
    # Where the M masked ones are: among the [A * m] states, and in the flattened [A * W].
    wanted = free if order is None else free.gather(1, order)
    among = in_front(wanted.flatten())[:total]
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
        None if boosts is None else (boosts[0].flatten()[at], boosts[1].flatten()[at]),
    )
    tokens = canvas.ids.new_zeros(free.numel()).scatter(0, at, drawn)
    scores = drawn_scores.new_zeros(free.numel()).scatter(0, at, drawn_scores)
    return tokens.view_as(free), scores.view_as(free)
