"""The denoising loop of block-causal models: one block after the other over an exact cache.

A token sees its own block and those before (SDAR, Fast-dLLM v2, LLaDA 2), so the keys and values
of a finished block are final: a clean pass over its tokens writes them once, and every later pass
runs the current block alone. Blocks are counted from a row's first real token. A prompt's last
tokens may share the first block with masks; the last block is filled to its end, as the public
samplers do, and cut. A hint waits in its block until the loop reaches it.

A pass takes rows at different blocks: the block that a row has reached stands first among its keys,
those before it follow. Rows that are done make place for waiting ones where a block ends, once
they are enough to be worth the pass over their prompts. Within a block a row only leaves.

A step commits as many positions as the schedule says, those that the strategy ranks first; with
`confidence_threshold` every position above it, if these are more (SDAR, arXiv 2510.06303). A block
may be filled in sub-blocks from left to right (Fast-dLLM v2, arXiv 2509.26328); `cache=dual` then
runs a sub-block alone once its first token is known, over what the last pass of its block left.
Where logits are shifted, a block's first token is read in the clean pass over the block before.
With `edit_threshold` the tokens that the sampler has committed may change while their block lasts,
never prompt and hints (LLaDA 2.1).
"""

from functools import partial

import torch
from torch import Tensor

from igpo_lightning.diffusion.block_canvas import GIVEN, BlockCanvas, KeptBlocks
from igpo_lightning.diffusion.noise import fold
from igpo_lightning.diffusion.slots import Slots
from igpo_lightning.diffusion.token_choice import choose_tokens, head_rows
from igpo_lightning.diffusion.unmasking import commit_schedule, most_confident, within_entropy
from igpo_lightning.models.backbone import KeyValueCache, Layout


def fill(canvas: BlockCanvas, slots: Slots) -> None:
    """Fill all rows."""
    free = canvas.free.sum(dim=1).tolist()
    # A row that has begun goes on, since its keys and values are kept; long ones begin first.
    waiting = sorted(range(len(free)), key=lambda row: (-free[row], -canvas.lengths[row], row))
    at_work: list[int] = []
    report, passes = slots.report([], canvas.completions), 0
    while waiting or at_work:
        room = [[canvas.lengths[row] for row in rows] for rows in (waiting, at_work)]
        joining = waiting[: slots.first(*room)]
        if len(joining) * passes < len(at_work):
            joining = []  # their prompts would cost more than a block's passes without them
        before = canvas.work.forward_passes
        waiting, at_work = waiting[len(joining) :], at_work + joining
        steps_before = canvas.steps_taken.clone()
        limit = max(len(at_work), min(slots.rows or len(free), len(free)))
        going_on: list[int] = []
        run = partial(_fill_block, canvas, joining, at_work, limit, going_on)
        fewer = slots.attempt(run, len(at_work))
        if fewer is not None:
            _give_up(canvas, at_work, steps_before)
            slots, waiting, at_work = fewer, at_work + waiting, []
            continue
        report()
        passes = canvas.work.forward_passes - before
        done = [row for row in at_work if row not in going_on]
        report, at_work = slots.report(done, canvas.completions), going_on
    report()


def _fill_block(
    canvas: BlockCanvas,
    joining: list[int],
    at_work: list[int],
    limit: int,
    going_on: list[int],
) -> None:
    """Fill the next block of the rows at work; those that go on behind it are put into a list."""
    config, width = canvas.config, canvas.width
    before = canvas.work.forward_passes
    canvas.kept.make_room(at_work)
    _write_prompts(canvas, joining)
    rows = torch.tensor(at_work).to(canvas.ids.device)
    begun = torch.zeros(len(canvas.ids), dtype=torch.bool, device=rows.device)
    for inner in range(0, width, config.block_length):
        _fill_part(canvas, slice(inner, inner + config.block_length), rows, begun)
    ended: list[int] = []
    if config.stop_after_eos:
        ended = _end_rows(canvas, rows)
    stops = (canvas.begins[rows] + width).tolist()
    going_on += [
        row
        for row, stop in zip(at_work, stops, strict=True)
        if stop < canvas.lengths[row] and row not in ended
    ]
    if going_on:
        _write_clean(canvas, torch.tensor(going_on).to(rows.device))
    canvas.begins[rows] += width
    canvas.work.slot_passes += limit * (canvas.work.forward_passes - before)


def _give_up(canvas: BlockCanvas, rows: list[int], steps_before: Tensor) -> None:
    """Undo what the rows have filled of their block, and forget all keys and values."""
    index = canvas.at(torch.tensor(rows).to(canvas.ids.device), slice(0, canvas.width))
    committed = canvas.unmask_step[index] != GIVEN
    canvas.ids[index] = canvas.ids[index].masked_fill(committed, canvas.model.mask_token_id)
    canvas.free[index] |= committed
    canvas.unmask_step[index] = GIVEN
    canvas.unmask_score[index] = 1.0
    canvas.steps_taken.copy_(steps_before)
    canvas.kept = KeptBlocks()


def _fill_part(canvas: BlockCanvas, part: slice, rows: Tensor, begun: Tensor) -> None:
    """Fill a block, or a sub-block of it, step by step."""
    config, block = canvas.config, slice(0, canvas.width)
    width = torch.tensor([config.block_length])
    quotas = commit_schedule(width, config.steps_per_block)[0].tolist()
    # The masks of a block that holds prompt or hints are fewer: they need not all of the steps.
    busy = rows
    quotas = [quota for quota in quotas if quota]
    for number, quota in enumerate(quotas):
        busy = busy[canvas.free[canvas.at(busy, part)].any(dim=1)]
        if len(busy) == 0:
            break
        last = number + 1 == len(quotas)
        for run, those in _runs(canvas, part, busy, begun):
            _step(canvas, run, part, those, quota, last)
    if config.edit_threshold is None:
        return
    for _ in range(config.edit_passes):  # without masks, until nothing changes any more
        rows = rows[_editable(canvas, rows, block).any(dim=1)]
        if len(rows) == 0:
            return
        rows = rows[_step(canvas, block, block, rows, 0, False)]


def _runs(
    canvas: BlockCanvas, part: slice, rows: Tensor, begun: Tensor
) -> list[tuple[slice, Tensor]]:
    """What a step runs for which rows: the block, or the part alone (Fast-dLLM v2's block cache).

    The part alone can only be run once the pass over the block has left its keys and values, and
    while the part's first token is known, whose own state is not there. `begun` [B] is True for
    rows with such a pass.
    """
    block = slice(0, canvas.width)
    if canvas.config.cache == "none":
        return [(block, rows)]
    first = canvas.free[canvas.at(rows, slice(part.start, part.start + 1))].squeeze(1)
    whole = first | ~begun[rows]
    begun[rows[whole]] = True
    runs = [(block, rows[whole]), (part, rows[~whole])]
    return [(run, those) for run, those in runs if len(those)]


def _step(
    canvas: BlockCanvas, run: slice, part: slice, rows: Tensor, quota: int, last: bool
) -> Tensor:
    """One pass over the places `run` of the block, and what it commits within the part.

    Returns:
        [A], True for rows in which a token changed that had been committed before.
    """
    config = canvas.config
    hidden, _ = _encode(canvas, run, rows, keep=config.cache != "none")
    hidden = hidden[:, part.start - run.start : part.stop - run.start]
    index = canvas.at(rows, part)
    free, old = canvas.free[index], canvas.ids[index]  # [A, m]
    editable = _editable(canvas, rows, part)
    tokens, scores = _draw(canvas, hidden, free | editable, rows, index[1])
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
    _commit(canvas, rows, index, tokens, scores, commit | edit)
    canvas.steps_taken[rows] += 1
    return edit.any(dim=1)


def _editable(canvas: BlockCanvas, rows: Tensor, part: slice) -> Tensor:
    """Tokens [A, m] that a step may change: those that an earlier one of the block committed."""
    index = canvas.at(rows, part)
    if canvas.config.edit_threshold is None:
        return torch.zeros_like(canvas.free[index])
    return ~canvas.free[index] & (canvas.unmask_step[index] != GIVEN)


def _write_prompts(canvas: BlockCanvas, joining: list[int]) -> None:
    """Keep what the first block of the rows that join is seen by: all blocks before it."""
    rows = torch.tensor(joining, dtype=torch.long).to(canvas.ids.device)
    rows = rows[canvas.begins[rows] > 0]
    if len(rows) == 0:
        return
    begins = canvas.begins[rows][:, None]
    first, made = int(begins.max()), KeyValueCache()
    column = torch.arange(first, device=rows.device)
    # Columns behind a shorter row's own blocks are seen by none until its blocks are written there.
    ids = canvas.ids[rows, :first].masked_fill(column >= begins, canvas.model.pad_token_id)
    # The samples of a group have one prompt, which is run once.
    prompts = torch.cat((_behind(canvas, begins), ids), dim=1)
    distinct, inverse = torch.unique(prompts, dim=0, return_inverse=True)
    _count_pass(canvas, len(rows), first, ran=len(distinct))
    hidden = canvas.model.encode(
        distinct[:, 1:], window=(0, first), cache=made, positions=distinct[:, :1]
    )
    made = KeyValueCache([(keys[inverse], values[inverse]) for keys, values in made.layers])
    columns = column.expand(len(rows), -1) + canvas.width
    canvas.kept.allocate(made, canvas.ids.shape[1])
    canvas.kept.write(made, canvas.kept.numbers(rows), slice(0, first), columns)
    _read_next(canvas, hidden[inverse], rows, slice(0, 1))


def _write_clean(canvas: BlockCanvas, rows: Tensor) -> None:
    """Keep what the blocks behind a finished one are seen by."""
    block = slice(0, canvas.width)
    behind = torch.full((len(rows), 1), canvas.width, device=rows.device)
    hidden, made = _encode(canvas, block, rows, _behind(canvas, behind), keep=True)
    columns = canvas.at(rows, block)[1] + canvas.width
    canvas.kept.write(made, canvas.kept.numbers(rows), block, columns)
    _read_next(canvas, hidden, rows, slice(canvas.width, canvas.width + 1))


def _behind(canvas: BlockCanvas, stops: Tensor) -> Tensor:
    """The place [A, 1] to read in a clean pass; if shifted, of the next block's first token."""
    return stops if canvas.model.shifted else stops - 1


def _read_next(canvas: BlockCanvas, hidden: Tensor, rows: Tensor, place: slice) -> None:
    """If shifted, a block's first token is read in the clean pass over what is before it."""
    if not canvas.model.shifted:
        return
    index = canvas.at(rows, place)
    free = canvas.free[index]
    tokens, scores = _draw(canvas, hidden, free, rows, index[1])
    _commit(canvas, rows, index, tokens, scores, free)


def _count_pass(canvas: BlockCanvas, rows: int, columns: int, ran: int | None = None) -> None:
    """Note a pass over so many columns of some rows, of which it runs `ran` (None: all)."""
    canvas.ranks.before_pass()
    canvas.work.forward_passes += 1
    canvas.work.body_tokens += (rows if ran is None else ran) * columns
    canvas.work.row_passes += rows
    canvas.work.canvas_tokens += rows * canvas.ids.shape[1]


def _encode(
    canvas: BlockCanvas,
    run: slice,
    rows: Tensor,
    positions: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, KeyValueCache]:
    """Hidden states of a part of each row's block over what is kept, and what the pass made.

    `keep` keeps the part's own keys and values, too.
    """
    width, kept = canvas.width, canvas.kept
    _count_pass(canvas, len(rows), run.stop - run.start)
    begins = canvas.begins[rows][:, None]
    # The last block is never among the finished ones: all fit into as many columns as a row has.
    columns = torch.arange(canvas.ids.shape[1] if kept.layers else width, device=rows.device)
    visible = columns - width < begins  # [A, n]: the block itself, and those before it
    layout = Layout(begins + columns[:width], visible[:, None])
    numbers = kept.numbers(rows)
    cache = kept.of(numbers)
    hidden = canvas.model.encode(
        canvas.ids[canvas.at(rows, slice(0, width))],
        window=(run.start, run.stop),
        cache=cache,
        positions=positions,
        layout=layout,
    )
    if keep and (numbers is not None or not kept.layers):
        kept.allocate(cache, canvas.ids.shape[1])
        inside = torch.arange(run.start, run.stop, device=rows.device).expand(len(rows), -1)
        kept.write(cache, numbers, run, inside)
    return hidden, cache


def _draw(
    canvas: BlockCanvas, hidden: Tensor, free: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens and their scores [A, m] for hidden states [A, m, D] at columns; 0 where not free."""
    position_keys = None
    if canvas.keys is not None:
        # A function of the row's own numbers: its step, and the place within its completion.
        own = columns - canvas.starts[rows][:, None] + canvas.width  # from 0
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
    canvas: BlockCanvas,
    rows: Tensor,
    index: tuple[Tensor, Tensor],
    tokens: Tensor,
    scores: Tensor,
    commit: Tensor,
) -> None:
    """Put tokens with their scores, both [A, m], into the canvas where `commit` says so."""
    canvas.ids[index] = torch.where(commit, tokens, canvas.ids[index])
    canvas.free[index] &= ~commit
    numbers = canvas.steps_taken[rows][:, None]
    canvas.unmask_step[index] = torch.where(commit, numbers, canvas.unmask_step[index])
    canvas.unmask_score[index] = torch.where(commit, scores, canvas.unmask_score[index])


def _end_rows(canvas: BlockCanvas, rows: Tensor) -> list[int]:
    """Fill rows with EOS whose finished blocks hold one; returns these rows."""
    eos_token_id = canvas.model.eos_token_id
    column = torch.arange(canvas.ids.shape[1], device=rows.device)
    stops = canvas.begins[rows][:, None] + canvas.width
    finished = (column >= canvas.starts[rows][:, None]) & (column < stops)
    ended = ((canvas.ids[rows] == eos_token_id) & finished).any(dim=1)
    numbers: list[int] = rows[ended].tolist()
    for row, stop in zip(numbers, stops[ended].flatten().tolist(), strict=True):
        rest = canvas.free[row, stop:]
        canvas.ids[row, stop:].masked_fill_(rest, eos_token_id)
        last = int(canvas.steps_taken[row]) - 1
        canvas.unmask_step[row, stop:].masked_fill_(rest, max(0, last))
        rest.fill_(False)
    return numbers
