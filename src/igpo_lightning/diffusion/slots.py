"""Full slots: which rows a pass takes, each row at its own pace.

A slot is a row of a forward pass. Each pass takes the rows that are furthest behind, whatever other
rows there are: no row runs ahead, so that none is left to run on alone at the end, and rows that
are done (all blocks, or EOS) leave their slots to others. A row's tokens follow from its prompt,
hints and key; its company changes nothing.

Passes that run whole rows take any rows, each at its own block and step. With a cache there are
also passes that run windows alone, over the keys and values that rows keep. A pass takes rows that
all run whole rows, or all the same window: each its own block (dual), or from the same block to the
end (prefix). No more rows keep keys and values than there are slots; others join them once as many
fit in as are still at work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from igpo_lightning.diffusion.canvas import Canvas, end_rows, mask_again
from igpo_lightning.diffusion.course import Course, Step
from igpo_lightning.diffusion.step import run_step
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
        on_memory: Told how many rows were at work when a pass ran out of memory; the call goes on
            with half of them. None raises the error instead.
    """

    rows: int | None = None
    tokens: int | None = None
    on_rows: OnRows | None = None
    on_memory: Callable[[int], None] | None = None

    def first(self, lengths: Sequence[int], at_work: Sequence[int] = ()) -> int:
        """How many of some rows, taken in their order, fit in beside those at work.

        Args:
            lengths: Canvas positions of the rows, without padding.
            at_work: The same of rows that are at work.
        """
        longest = max(at_work, default=0)
        for number, length in enumerate(lengths):
            rows, longest = len(at_work) + number + 1, max(longest, length)
            if self.tokens is not None:
                fits = rows == 1 or rows * longest <= self.tokens
            else:
                fits = self.rows is None or rows <= self.rows
            if not fits:
                return number
        return len(lengths)

    def attempt(self, run: Callable[[], None], at_work: int) -> "Slots | None":
        """Run, for so many rows at work; returns half of the slots where it needed too much memory.

        Raises:
            torch.OutOfMemoryError: A single row needs too much, or fewer rows may not be tried.
        """
        try:
            run()
            return None
        except torch.OutOfMemoryError:
            if at_work == 1 or self.on_memory is None:
                raise
        # Only here the traceback, and with it the tensors of the attempt, are gone.
        self.on_memory(at_work)
        return Slots(at_work // 2, None, self.on_rows, self.on_memory)

    def report(
        self, rows: Sequence[int], completions: Callable[[list[int]], Tensor]
    ) -> Callable[[], None]:
        """Fetch the completions of rows that are done; what is returned tells of them."""
        on_rows, done = self.on_rows, sorted(rows)
        if on_rows is None or not done:
            return lambda: None
        fetched = completions(done).cpu()
        return lambda: on_rows(done, fetched)


def fill_slots(canvas: Canvas, slots: Slots) -> None:
    """Fill all rows of a canvas."""
    config = canvas.config
    widths = torch.arange(config.block_length + 1)
    quotas = commit_schedule(widths, config.steps_per_block).tolist()
    # [B][blocks]: with a fixed schedule nothing else is read from the device, but for EOS.
    counts = canvas.free.view(-1, config.blocks, config.block_length).sum(dim=2).tolist()
    whole = canvas.ids.shape[1]
    courses = [
        Course(row, whole - padding, of_row)
        for row, (padding, of_row) in enumerate(zip(canvas.paddings, counts, strict=True))
    ]
    longest = max(course.length for course in courses)
    moved = [course for course in courses if course.advance(config, quotas) and course.block > 0]
    _end(canvas, moved)
    left, done = _split(courses, config)
    report = slots.report(done, canvas.completions)
    while left:
        left.sort(key=lambda course: (course.block, -course.length, course.row))
        taking, held = _next_rows(left, slots, config)
        # Padding that all rows of the pass have is left out, but for that of the whole canvas.
        begin = longest - max(course.length for course in taking)
        step = _next_step(taking, held, begin, config, quotas)
        at_work = len(taking) + len(held)
        fewer = slots.attempt(partial(run_step, canvas, step), at_work)
        if fewer is not None:
            slots = fewer
            _restart(canvas, [course for course in left if course.kept], quotas)
            continue
        work = canvas.passes.work
        work.row_passes += len(taking)
        work.slot_passes += max(at_work, min(slots.rows or len(courses), len(courses)))
        report()
        moved = _advance(canvas, taking, quotas)
        _end(canvas, moved)
        left, done = _split(left, config)
        report = slots.report(done, canvas.completions)
    report()


def _split(courses: Sequence[Course], config: SamplerConfig) -> tuple[list[Course], list[int]]:
    """Those that go on, and the rows that are done."""
    going_on = [course for course in courses if course.block < config.blocks]
    return going_on, [course.row for course in courses if course.block == config.blocks]


def _next_rows(
    left: list[Course], slots: Slots, config: SamplerConfig
) -> tuple[list[Course], list[Course]]:
    """Rows of the next pass, and rows whose keys and values are kept meanwhile.

    `left` are all that are not done, those that are furthest behind first.
    """
    kept = [course for course in left if course.kept]
    whole = [course for course in left if not course.kept]
    windows, ahead = kept, kept[:0]
    if config.cache != "none":
        # With a cache over several blocks those ahead wait for the others.
        window = min(course.window(config) for course in kept or whole[:1])
        windows = [course for course in kept if course.window(config) == window]
        ahead = [course for course in kept if course.window(config) != window]
        whole = [course for course in whole if course.window(config)[0] == window[0]]
    lengths = [course.length for course in whole]
    joining = whole[: slots.first(lengths, [course.length for course in kept])]
    return (joining, kept) if len(joining) >= len(windows) else (windows, ahead)


def _next_step(
    taking: Sequence[Course],
    held: Sequence[Course],
    begin: int,
    config: SamplerConfig,
    quotas: list[list[int]],
) -> Step:
    """The next step of every row of the pass."""
    commits = None
    numbers = [course.taken for course in taking]
    if not config.parallel:
        numbers = [course.block * config.steps_per_block + course.step for course in taking]
        commits = [quotas[course.counts[course.block]][course.step] for course in taking]
    return Step(
        blocks=[course.block for course in taking],
        rows=[course.row for course in taking],
        row_steps=numbers,
        masked=[course.masked for course in taking],
        commits=commits,
        refresh=not taking[0].kept,
        renews_before=taking[0].kept and taking[0].step == 0,
        first=not any(course.begun for course in taking),
        begin=begin,
        held=[course.row for course in held],
    )


def _restart(canvas: Canvas, courses: Sequence[Course], quotas: list[list[int]]) -> None:
    """Give up kept keys and values: their rows fill again what they have filled with them."""
    for course in courses:
        blocks = course.restart(canvas.config)
        mask_again(canvas, course.row, blocks)
        course.advance(canvas.config, quotas)


def _advance(canvas: Canvas, taking: Sequence[Course], quotas: list[list[int]]) -> list[Course]:
    """Note that a step was taken; returns the rows that have finished a block."""
    config, width = canvas.config, canvas.config.block_length
    if config.parallel:  # the host has to know who goes on
        rows = torch.tensor([course.row for course in taking], device=canvas.free.device)
        starts = torch.tensor([course.block * width for course in taking], device=rows.device)
        inside = starts[:, None] + torch.arange(width, device=rows.device)
        masked = canvas.free[rows[:, None], inside].sum(dim=1).tolist()
    else:
        masked = [c.masked - quotas[c.counts[c.block]][c.step] for c in taking]
    for course, count in zip(taking, masked, strict=True):
        course.step_taken(config, count)
    return [course for course in taking if course.advance(config, quotas)]


def _end(canvas: Canvas, moved: Sequence[Course]) -> None:
    """End the rows whose finished blocks hold EOS."""
    config = canvas.config
    going_on = [course for course in moved if course.block < config.blocks]
    if not going_on or not (config.stop_after_eos or config.canvas == "growing"):
        return
    rows = [course.row for course in going_on]
    finished = [course.block * config.block_length for course in going_on]
    ended = end_rows(canvas, rows, finished, [course.taken for course in going_on])
    for course, over in zip(going_on, ended, strict=True):
        if over:
            course.block, course.kept = config.blocks, False
