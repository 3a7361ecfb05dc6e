"""Full slots: rows that are done make place for waiting ones, each row at its own pace.

A slot is a row of a forward pass. Every pass takes the next step of each row at work, whatever
block the row has reached: a row whose block needs no more commits goes on to the next block, and a
row that is done (all blocks, or EOS) gives its slot to the one that waits with the longest canvas.
A row's tokens follow from its prompt, hints and key, so that its company changes nothing.

Only passes that run whole rows can be mixed like this. With a prefix or dual cache a pass renews
the keys and values of one window, the same for all rows: there rows take part block by block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning.diffusion.canvas import Canvas, end_rows
from igpo_lightning.diffusion.step import Step, run_step
from igpo_lightning.diffusion.unmasking import commit_schedule
from igpo_lightning.settings import SamplerConfig

OnRows = Callable[[list[int], Tensor], None]


@dataclass(frozen=True)
class Slots:
    """How many rows a pass may take, and who is told of those that are done.

    Attributes:
        rows: Of a pass; None for all that there are.
        tokens: Canvas positions of a pass, which take the place of `rows`; a row that is longer
            goes alone. None for no such limit.
        on_rows: Told row numbers and completions [n, C], on the host, of rows that are done, while
            the device runs the pass that follows.
        on_memory: Told how many rows a pass had that ran out of memory; the call goes on with half
            of them. None raises the error instead.
    """

    rows: int | None = None
    tokens: int | None = None
    on_rows: OnRows | None = None
    on_memory: Callable[[int], None] | None = None


@dataclass
class Course:
    """A row's way through its blocks.

    Attributes:
        row: Number in the canvas.
        length: Positions of its canvas, without padding.
        counts: [blocks], masked positions at the start.
        block: Where it stands.
        step: Steps of the schedule that this block has had.
        masked: Masked positions of the block.
        taken: Number of the row's next step over all blocks, with a parallel rule; otherwise one
            past the last step of the last block that it filled.
    """

    row: int
    length: int
    counts: list[int]
    block: int = -1
    step: int = 0
    masked: int = 0
    taken: int = 0

    def advance(self, config: SamplerConfig, quotas: list[list[int]]) -> bool:
        """Go to the next step that changes something.

        Args:
            config: The sampler.
            quotas: [W + 1][steps per block], commits of each step by the masked positions at the
                start of the block.

        Returns:
            Whether it is in another block than before; `block` is their number once all are done.
        """
        before = self.block
        while self.block < config.blocks:
            if self.masked and config.parallel:
                break
            if self.block >= 0 and self.step < config.steps_per_block:
                commits = quotas[self.counts[self.block]][self.step]
                # A pass that commits nothing may mask again.
                if commits or (self.masked and config.remask > 0):
                    break
                self.step += 1
                continue
            if not config.parallel and self.block >= 0 and self.counts[self.block]:
                self.taken = (self.block + 1) * config.steps_per_block
            self.block, self.step = self.block + 1, 0
            self.masked = self.counts[self.block] if self.block < config.blocks else 0
            if config.parallel:
                self.step = config.steps_per_block  # has no schedule
        return self.block != before


def fill_slots(canvas: Canvas, slots: Slots, eos_token_id: int) -> None:
    """Fill all rows of a canvas."""
    config = canvas.config
    widths = torch.arange(config.block_length + 1)
    quotas = commit_schedule(widths, config.steps_per_block, config.schedule).tolist()
    # [B][blocks]: with a fixed schedule nothing else is read from the device, but for EOS.
    counts = canvas.free.view(-1, config.blocks, config.block_length).sum(dim=2).tolist()
    whole = canvas.ids.shape[1]
    courses = [
        Course(row, whole - padding, of_row)
        for row, (padding, of_row) in enumerate(zip(canvas.paddings, counts, strict=True))
    ]
    for course in courses:
        course.advance(config, quotas)
    done = [course.row for course in courses if course.block == config.blocks]  # hints alone
    waiting = sorted(
        (course for course in courses if course.block < config.blocks),
        key=lambda course: (course.length, course.row),
    )
    at_work: list[Course] = []
    limit, tokens = slots.rows or len(courses), slots.tokens
    longest = max(course.length for course in courses)
    report = _report(canvas, slots.on_rows, done)
    while waiting or at_work:
        joining = _admit(waiting, at_work, limit, tokens)
        if joining:
            at_work = sorted(at_work + joining, key=lambda course: (course.length, course.row))
            # Padding that all rows at work have is left out, but for that of the whole canvas.
            canvas.begin = longest - at_work[-1].length
        if not _stepped(canvas, _next_step(at_work, config, quotas), slots):
            limit, tokens = len(at_work) // 2, None
            waiting, at_work = waiting + at_work[limit:], at_work[:limit]
            continue
        canvas.passes.work.row_passes += len(at_work)
        canvas.passes.work.slot_passes += max(len(at_work), min(limit, len(courses)))
        report()
        moved = _advance(canvas, at_work, quotas)
        if config.stop_after_eos and moved:
            _end(canvas, moved, eos_token_id)
        done = [course.row for course in at_work if course.block == config.blocks]
        at_work = [course for course in at_work if course.block < config.blocks]
        report = _report(canvas, slots.on_rows, done)
    report()


def _admit(
    waiting: list[Course], at_work: Sequence[Course], limit: int, tokens: int | None
) -> list[Course]:
    """Take rows that fit from the end of those that wait, the longest first."""
    joining: list[Course] = []
    longest = max((course.length for course in at_work), default=0)
    while waiting:
        rows = len(at_work) + len(joining) + 1
        longest = max(longest, waiting[-1].length)
        if rows > limit if tokens is None else rows > 1 and rows * longest > tokens:
            break
        joining.append(waiting.pop())
    return joining


def _next_step(at_work: Sequence[Course], config: SamplerConfig, quotas: list[list[int]]) -> Step:
    """The next step of every row at work."""
    rows = [course.row for course in at_work]
    blocks = [course.block for course in at_work]
    masked = [course.masked for course in at_work]
    if config.parallel:
        return Step(blocks, rows, [course.taken for course in at_work], masked)
    numbers = [course.block * config.steps_per_block + course.step for course in at_work]
    commits = [quotas[course.counts[course.block]][course.step] for course in at_work]
    return Step(blocks, rows, numbers, masked, commits)


def _stepped(canvas: Canvas, step: Step, slots: Slots) -> bool:
    """Run a step; False where it needed too much memory and fewer rows may be tried."""
    try:
        run_step(canvas, step)
        return True
    except torch.OutOfMemoryError:
        if len(step.rows) == 1 or slots.on_memory is None:
            raise
    # Only here the traceback, and with it the tensors of the attempt, are gone.
    slots.on_memory(len(step.rows))
    return False


def _advance(canvas: Canvas, at_work: Sequence[Course], quotas: list[list[int]]) -> list[Course]:
    """Note that a step was taken; returns the rows that have finished a block."""
    config, width = canvas.config, canvas.config.block_length
    if config.parallel:  # the host has to know who goes on
        rows = torch.tensor([course.row for course in at_work], device=canvas.free.device)
        starts = torch.tensor([course.block * width for course in at_work], device=rows.device)
        inside = starts[:, None] + torch.arange(width, device=rows.device)
        left = canvas.free[rows[:, None], inside].sum(dim=1).tolist()
        for course, masked in zip(at_work, left, strict=True):
            course.masked, course.taken = masked, course.taken + 1
    else:
        for course in at_work:
            course.masked -= quotas[course.counts[course.block]][course.step]
            course.step += 1
    return [course for course in at_work if course.advance(config, quotas)]


def _end(canvas: Canvas, moved: Sequence[Course], eos_token_id: int) -> None:
    """End the rows whose finished blocks hold EOS."""
    config = canvas.config
    going_on = [course for course in moved if course.block < config.blocks]
    if not going_on:
        return
    rows = [course.row for course in going_on]
    finished = [course.block * config.block_length for course in going_on]
    ended = end_rows(canvas, rows, finished, [course.taken for course in going_on], eos_token_id)
    for course, over in zip(going_on, ended, strict=True):
        if over:
            course.block = config.blocks


def _report(canvas: Canvas, on_rows: OnRows | None, rows: list[int]) -> Callable[[], None]:
    """Fetch rows that are done; what is returned tells of them."""
    if on_rows is None or not rows:
        return lambda: None
    rows = sorted(rows)
    completions = canvas.ids[rows, canvas.prompt_length :].cpu()
    return lambda: on_rows(rows, completions)
