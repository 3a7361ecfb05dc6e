"""The denoising loop of block-causal models: one block after the other over an exact cache.

A token sees its own block and those before (SDAR, Fast-dLLM v2, LLaDA 2), so the keys and values
of a finished block are final: a clean pass over its tokens writes them once, and every later pass
runs the current block alone. Blocks are counted from a row's first real token. A prompt's last
tokens may share the first block with masks; the last block is filled to its end, as the public
samplers do, and cut. A hint waits in its block until the loop reaches it.

A step commits as many positions as the schedule says, those that the strategy ranks first; with
`confidence_threshold` every position above it, if these are more (SDAR, arXiv 2510.06303). A block
may be filled in sub-blocks from left to right (Fast-dLLM v2, arXiv 2509.26328); `cache=dual` then
runs a sub-block alone once its first token is known, over what the last pass of its block left.
Where logits are shifted, a block's first token is read in the clean pass over the block before.
With `edit_threshold` the tokens that the sampler has committed may change while their block lasts,
never prompt and hints (LLaDA 2.1).
"""

import torch
from torch import Tensor

from igpo_lightning.diffusion.block_canvas import GIVEN, BlockCanvas
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.token_choice import choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import commit_schedule, most_confident, within_entropy
from igpo_lightning.models.backbone import KeyValueCache


def fill(canvas: BlockCanvas, first: int, eos_token_id: int) -> None:
    """Fill all blocks from the column `first` on."""
    length, width = canvas.ids.shape[1], canvas.width
    rows = torch.arange(len(canvas.ids), device=canvas.ids.device)
    if first > 0:
        _write_clean(canvas, 0, first, rows)
    for start in range(first, length, width):
        block = slice(start, start + width)
        rows = rows[canvas.real[rows, start]]  # shorter rows are done
        begun = torch.zeros(len(canvas.ids), dtype=torch.bool, device=rows.device)
        for inner in range(start, start + width, canvas.config.block_length):
            part = slice(inner, inner + canvas.config.block_length)
            _fill_part(canvas, block, part, rows, begun)
        if canvas.config.stop_after_eos:
            rows = _leave_finished(canvas, block.stop, rows, eos_token_id)
        rows = rows[canvas.real[rows, min(block.stop, length - 1)]]
        if len(rows) == 0:
            return
        if block.stop < length:
            _write_clean(canvas, block.start, block.stop, rows)


def _fill_part(canvas: BlockCanvas, block: slice, part: slice, rows: Tensor, begun: Tensor) -> None:
    """Fill a block, or a sub-block of it, step by step."""
    config = canvas.config
    width = torch.tensor([config.block_length])
    quotas = commit_schedule(width, config.steps_per_block, config.schedule)[0].tolist()
    # The masks of a block that holds prompt or hints are fewer: they need not all of the steps.
    busy = rows
    quotas = [quota for quota in quotas if quota]
    for number, quota in enumerate(quotas):
        busy = busy[canvas.free[busy, part].any(dim=1)]
        if len(busy) == 0:
            break
        last = number + 1 == len(quotas)
        for run, those in _runs(canvas, block, part, busy, begun):
            _step(canvas, run, part, those, quota, last)
    if config.edit_threshold is None:
        return
    for _ in range(config.edit_passes):  # without masks, until nothing changes any more
        rows = rows[_editable(canvas, rows, block).any(dim=1)]
        if len(rows) == 0:
            return
        rows = rows[_step(canvas, block, block, rows, 0, False)]


def _runs(
    canvas: BlockCanvas, block: slice, part: slice, rows: Tensor, begun: Tensor
) -> list[tuple[slice, Tensor]]:
    """What a step runs for which rows: the block, or the part alone (Fast-dLLM v2's block cache).

    The part alone can only be run once the pass over the block has left its keys and values, and
    while the part's first token is known, whose own state is not there. `begun` [B] is True for
    rows with such a pass.
    """
    if canvas.config.cache == "none":
        return [(block, rows)]
    whole = canvas.free[rows, part.start] | ~begun[rows]
    begun[rows[whole]] = True
    runs = [(block, rows[whole]), (part, rows[~whole])]
    return [(run, those) for run, those in runs if len(those)]


def _step(
    canvas: BlockCanvas, run: slice, part: slice, rows: Tensor, quota: int, last: bool
) -> Tensor:
    """One pass over the columns `run`, and what it commits within the part.

    Returns:
        [A], True for rows in which a token changed that had been committed before.
    """
    config = canvas.config
    keep = config.cache != "none"
    hidden = _encode(canvas, run.start, run.stop, rows, keep=keep)[:, part.start - run.start :]
    hidden = hidden[:, : part.stop - part.start]
    free, old = canvas.free[rows, part], canvas.ids[rows, part]  # [A, m]
    editable = _editable(canvas, rows, part)
    tokens, scores = _draw(canvas, hidden, free | editable, rows, part.start)
    count = free.sum(dim=1).clamp(max=quota)
    commit = most_confident(scores, free, count)
    if config.confidence_threshold is not None:
        above = (scores > config.confidence_threshold) & free
        commit = torch.where((above.sum(dim=1) >= count)[:, None], above, commit)
    elif config.entropy_bound is not None:
        commit = free if last else within_entropy(scores, free, config.entropy_bound)
    edit = editable & (tokens != old)
    if config.edit_threshold is not None:
        edit &= scores > config.edit_threshold
    _commit(canvas, rows, part.start, tokens, scores, commit | edit)
    canvas.steps_taken[rows] += 1
    return edit.any(dim=1)


def _editable(canvas: BlockCanvas, rows: Tensor, part: slice) -> Tensor:
    """Tokens [A, m] that a step may change: those that an earlier one of the block committed."""
    if canvas.config.edit_threshold is None:
        return torch.zeros_like(canvas.free[rows, part])
    return ~canvas.free[rows, part] & (canvas.unmask_step[rows, part] != GIVEN)


def _write_clean(canvas: BlockCanvas, start: int, stop: int, rows: Tensor) -> None:
    """Keep what finished blocks are seen by; if shifted, read the next block's first token."""
    behind = torch.full((len(rows), 1), stop, device=rows.device)
    shifted = canvas.model.shifted
    hidden = _encode(canvas, start, stop, rows, behind if shifted else behind - 1, keep=True)
    if shifted:
        free = canvas.free[rows, stop : stop + 1] & canvas.real[rows, stop - 1 : stop]
        tokens, scores = _draw(canvas, hidden, free, rows, stop)
        _commit(canvas, rows, stop, tokens, scores, free)


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
    canvas.work.row_passes += len(rows)
    canvas.work.slot_passes += len(canvas.ids)
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
        if not canvas.cache.layers:
            batch = len(canvas.ids)
            canvas.cache.layers = [
                (k.new_zeros(batch, *k.shape[1:]), v.new_zeros(batch, *v.shape[1:]))
                for k, v in cache.layers
            ]
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


def _commit(
    canvas: BlockCanvas, rows: Tensor, start: int, tokens: Tensor, scores: Tensor, commit: Tensor
) -> None:
    """Put tokens with their scores, both [A, m], into the canvas where `commit` says so."""
    part = slice(start, start + tokens.shape[1])
    canvas.ids[rows, part] = torch.where(commit, tokens, canvas.ids[rows, part])
    canvas.free[rows, part] &= ~commit
    numbers = canvas.steps_taken[rows, None]
    canvas.unmask_step[rows, part] = torch.where(commit, numbers, canvas.unmask_step[rows, part])
    canvas.unmask_score[rows, part] = torch.where(commit, scores, canvas.unmask_score[rows, part])


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
