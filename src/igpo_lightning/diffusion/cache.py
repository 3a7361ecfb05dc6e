"""Forward passes of the denoising loop: only the rows and positions that a step needs.

Without a cache every pass runs whole rows. With one (Fast-dLLM, arXiv 2505.22618), a full pass at
the start of a block keeps the keys and values of all positions, and later passes run a window:
from the block to the end of the canvas ("prefix") or the block alone ("dual"). What is kept has
each row's window first (kept_rows.py), so that rows at different blocks share a pass.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.profiler import record_function

from igpo_lightning.diffusion.course import Step
from igpo_lightning.diffusion.growing import Growth
from igpo_lightning.diffusion.kept_rows import KeptRows
from igpo_lightning.diffusion.view import View, whole_rows
from igpo_lightning.diffusion.work import Work
from igpo_lightning.models.backbone import Backbone, KeyValueCache, Layout
from igpo_lightning.settings import SamplerConfig

PASS = "denoising pass"  # in a profile


def empty_pass(model: Backbone, canvas: Tensor) -> None:
    """A pass on one row [1, L] that only joins the pass of other ranks; see `Lockstep`."""
    model.project(model.encode(canvas)[:, :1])


@dataclass
class Passes:
    """The model with the state that passes share.

    Attributes:
        model: The backbone.
        body: `model.encode`, as it is or compiled.
        selects: Whether the body is asked for single positions; else for the block, of which they
            are taken. One shape of a pass after the other would not do for a compiled body.
        attention_mask: [B, L], or None where nothing is padded.
        prompt_length: P.
        config: The sampler.
        growth: What there is of a canvas that grows; None for a whole one.
        work: Counters.
    """

    model: Backbone
    body: Callable[..., Tensor]
    selects: bool
    attention_mask: Tensor | None
    prompt_length: int
    config: SamplerConfig
    growth: Growth | None = None
    work: Work = field(default_factory=Work)
    _kept: KeptRows | None = None

    @property
    def copies(self) -> int:
        """Rows of a pass that each row takes; with guidance a second one, its prompt masked."""
        return 2 if self.config.cfg_scale else 1

    def encode(
        self, ids: Tensor, step: Step, index: Tensor, starts: Tensor, positions: Tensor
    ) -> Tensor:
        """Hidden states of some positions of each row's block.

        Args:
            ids: [B, L], the canvas.
            step: What is run of A rows.
            index: [A], the rows, on the canvas's device.
            starts: [A], columns of the canvas where their blocks begin.
            positions: [A, m], counted from there.

        Returns:
            [A, m, D]; with guidance [A, m, 2, D]: with the prompt, and with the prompt masked.
        """
        run = self._whole_rows if step.refresh else self._windows
        hidden = run(ids, step, index, starts, positions)
        return torch.stack(hidden.chunk(2), dim=2) if self.config.cfg_scale else hidden

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [m, V] of hidden states [m, D], or [m, 2, D] with guidance."""
        self.work.head_positions += hidden.shape[:-1].numel()
        logits = self.model.project(hidden)
        if not self.config.cfg_scale:
            return logits
        conditional, unconditional = logits.float().unbind(dim=1)
        return unconditional + (self.config.cfg_scale + 1) * (conditional - unconditional)

    def _whole_rows(
        self, ids: Tensor, step: Step, index: Tensor, starts: Tensor, positions: Tensor
    ) -> Tensor:
        """A pass over whole rows, equal ones once; a cache keeps their keys and values."""
        own, inverse = starts, None
        if step.first:
            index, own, inverse = self._distinct(ids, step.begin, index, starts)
        view = whole_rows(ids.shape[1], self.attention_mask, index, step.begin)
        if self.growth is not None:
            view = self.growth.cut(view, index, own, step.blocks)
        self._count(view, rows=len(step.rows), ran=len(index) * view.length)
        if self.config.cache == "none":
            width, first = self.config.block_length, self.prompt_length - step.begin
            window = slice(first + min(step.blocks) * width, first + (max(step.blocks) + 1) * width)
            at = positions + (starts - step.begin)[:, None]
            return self._run(ids[index], view, own, window, at, inverse)
        block, cache = self._block(step), KeyValueCache()
        view = view.with_first(self._window(step, own, view))
        hidden = self._run(ids[index], view, own, block, positions + block.start, inverse, cache)
        kept = KeptRows(step.rows, view, cache.layers, self.copies)
        kept = kept if inverse is None else kept.at(inverse, step.rows)
        if step.held and self._kept is not None:
            kept = self._kept.only(step.held).above(kept)
        self._kept = kept
        return hidden

    def _windows(
        self, ids: Tensor, step: Step, index: Tensor, starts: Tensor, positions: Tensor
    ) -> Tensor:
        """A pass over windows, which sees what is kept of the rest; their own is renewed."""
        assert self._kept is not None
        self._kept = self._kept.only([*step.rows, *step.held])
        kept, block = self._kept.first(len(step.rows)), self._block(step)
        start = block.start - (self.config.block_length if step.renews_before else 0)
        stop = block.stop + (self._behind(step) if self.config.cache == "prefix" else 0)
        self._count(kept.view, rows=len(step.rows), ran=len(step.rows) * (stop - start))
        hidden = self._run(
            ids[index],
            kept.view,
            starts,
            slice(start, stop),
            positions + block.start,
            cache=KeyValueCache(kept.layers),
        )
        self._kept.renew(kept, slice(start - self._lead, stop))
        return hidden

    def _run(
        self,
        ids: Tensor,
        view: View,
        starts: Tensor,
        window: slice,
        at: Tensor,
        inverse: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states [copies * A, m, D] at some columns of a view.

        Args:
            ids: [D, L], the rows that are run.
            view: Of these rows.
            starts: [D], columns of the canvas where their blocks begin.
            window: Columns of the view that hold `at`.
            at: [A, m], columns of the view.
            inverse: [A], which of the D rows each row is equal to; None where D = A.
            cache: See `Backbone.encode`.
        """
        tokens, mask = view.tokens(ids), view.visible
        options: dict[str, Any] = {}
        layout = None if cache is None and view.places is None else view.layout
        if self.config.cfg_scale:
            # Finished blocks of a canvas that grows count as prompt.
            given = self.prompt_length if self.growth is None else starts[:, None]
            blank = tokens.masked_fill(view.columns < given, self.model.mask_token_id)
            tokens = torch.cat((tokens, blank))
            mask = None if mask is None else torch.cat((mask, mask))
            layout = None if layout is None else _twice(layout)
        if layout is not None:
            mask, options["layout"] = None, layout
        at = at.repeat(self.copies, 1)
        whole = at.shape[1] == window.stop - window.start  # all columns of the window, in order
        # Rows that are equal but for what is masked in them share a pass, not its positions.
        selected = self.selects and inverse is None and not whole
        if selected:
            options["positions"] = at
        with record_function(PASS):
            hidden = self.body(
                tokens, mask, window=(window.start, window.stop), cache=cache, **options
            )
        if inverse is not None:
            hidden = hidden[torch.cat([inverse + copy * len(ids) for copy in range(self.copies)])]
        if not selected and not whole:
            hidden = hidden.take_along_dim((at - window.start)[..., None], dim=1)
        return hidden

    @property
    def _lead(self) -> int:
        """Columns in front of a window: a shifted model reads a block's first token there."""
        return int(self.model.shifted)

    def _block(self, step: Step) -> slice:
        """Where the block stands in a view that has the window first; the same in all rows."""
        width = self.config.block_length
        start = self._lead + step.blocks[0] % self.config.cache_blocks * width
        return slice(start, start + width)

    def _window(self, step: Step, starts: Tensor, view: View) -> Tensor:
        """Which columns [A, n] of a view later passes run: of the blocks that share this pass."""
        width, blocks = self.config.block_length, self.config.cache_blocks
        first = (starts - step.blocks[0] % blocks * width)[:, None]
        window = view.columns >= first - self._lead
        if self.config.cache == "dual":
            window &= view.columns < first + blocks * width
        return window

    def _behind(self, step: Step) -> int:
        """How many columns there are behind the block, which is the same one in all rows."""
        config, block = self.config, step.blocks[0]
        if self.growth is not None:
            return self.growth.most_ahead[block]
        return config.completion_length - (block + 1) * config.block_length

    def _count(self, view: View, rows: int, ran: int) -> None:
        """Note a pass that ran so many positions for so many rows."""
        self.work.body_tokens += self.copies * ran
        self.work.canvas_tokens += self.copies * rows * view.length
        self.work.forward_passes += 1

    def _distinct(
        self, ids: Tensor, begin: int, index: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Each distinct row once, and where each row is among them (None if all are distinct).

        The samples of a group start from the same canvas: their first pass is one row.

        Returns:
            `index` and `starts` of D rows, both [D], and [A].
        """
        if len(index) == 1:
            return index, starts, None
        parts = [starts[:, None], ids[index, begin:]]
        if self.attention_mask is not None:
            parts.append(self.attention_mask[index, begin:].long())
        if self.growth is not None:
            parts.append(self.growth.hints[index].long())
        distinct, inverse = torch.unique(torch.cat(parts, dim=1), dim=0, return_inverse=True)
        if len(distinct) == len(index):
            return index, starts, None
        row = torch.arange(len(index), device=index.device)
        chosen = torch.empty_like(distinct[:, 0]).scatter_(0, inverse, row)
        return index[chosen], starts[chosen], inverse


def _twice(layout: Layout) -> Layout:
    """The layout of rows that are run a second time."""
    visible = layout.visible
    assert not isinstance(visible, BlockMask)
    visible = None if visible is None else visible.repeat(2, 1, 1)
    return Layout(layout.positions.repeat(2, 1), visible)
