"""Forward passes of the denoising loop: only the rows and positions that a step needs.

Without a cache every pass runs whole rows. With one (Fast-dLLM, arXiv 2505.22618), a full pass at
the start of a block keeps the keys and values of all positions, and later passes run a window:
from the block to the end of the canvas ("prefix") or the block alone ("dual").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import record_function

from igpo_lightning.diffusion.growing import Growth
from igpo_lightning.models.backbone import Backbone, KeyValueCache, Layout
from igpo_lightning.settings import SamplerConfig

PASS = "denoising pass"  # in a profile


def empty_pass(model: Backbone, canvas: Tensor) -> None:
    """A pass on one row [1, L] that only joins the pass of other ranks; see `Lockstep`."""
    model.project(model.encode(canvas)[:, :1])


@dataclass
class Work:
    """What a denoising call has cost so far.

    Attributes:
        forward_passes: Calls of the model's body.
        body_tokens: Rows times positions that went through the body, over all passes.
        canvas_tokens: What that would be if every pass ran whole rows.
        head_positions: Positions that went through the output head.
        row_passes: Rows that took part in a pass, over all passes.
        slot_passes: Rows that there was room for, over all passes.
    """

    forward_passes: int = 0
    body_tokens: int = 0
    canvas_tokens: int = 0
    head_positions: int = 0
    row_passes: int = 0
    slot_passes: int = 0


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
        cache: "none", "prefix" or "dual".
        cfg_scale: Guidance weight; above 0 every row is run a second time, its prompt masked.
        growth: What there is of a canvas that grows; None for a whole one.
        work: Counters.
    """

    model: Backbone
    body: Callable[..., Tensor]
    selects: bool
    attention_mask: Tensor | None
    prompt_length: int
    cache: str
    cfg_scale: float
    growth: Growth | None = None
    work: Work = field(default_factory=Work)
    _kept: KeyValueCache = field(default_factory=KeyValueCache)
    _kept_rows: list[int] = field(default_factory=list)
    _kept_begin: int = 0

    def encode(
        self,
        canvas: Tensor,
        rows: list[int],
        index: Tensor,
        block: slice,
        positions: Tensor | None,
        *,
        refresh: bool,
        first: bool,
        before: int = 0,
        begin: int = 0,
        held: Sequence[int] = (),
    ) -> Tensor:
        """Hidden states of some positions of a block, or of a window that holds several blocks.

        Args:
            canvas: [B, L].
            rows: The A rows to run; without `refresh` they are among those that are kept.
            index: The same, as a tensor on the canvas's device.
            block: Positions of the block within the canvas.
            positions: [A, m], those of each row whose states are wanted, counted from the block's
                start; None for the whole block, m = W.
            refresh: Run whole rows and renew what the cache keeps.
            first: None of the rows has had a pass: equal ones are run once.
            before: Positions in front of the block whose kept keys and values are renewed too.
            begin: Column of the canvas that a full pass starts from, in front of which all A rows
                have padding.
            held: Other rows that stay kept; all the rest are given up.

        Returns:
            [A, m, D]; with guidance [A, m, 2, D]: with the prompt, and with the prompt masked.
        """
        refresh = refresh or self.cache == "none"
        begin = begin if refresh else self._kept_begin
        inputs = canvas[index, begin:]
        mask = None if self.attention_mask is None else self.attention_mask[index, begin:]
        block = slice(block.start - begin, block.stop - begin)
        layout, given = None, self.prompt_length - begin
        if self.growth is not None:
            inputs, mask, layout = self.growth.cut(inputs, mask, index, block.stop, begin)
            given = block.start  # finished blocks count as prompt
        length = inputs.shape[1]
        stop = length if self.cache == "prefix" and not refresh else block.stop
        copies = 2 if self.cfg_scale else 1
        start = block.start if refresh else block.start - before
        run = length if refresh else stop - start
        self.work.body_tokens += copies * len(rows) * run
        self.work.canvas_tokens += copies * len(rows) * length
        self.work.forward_passes += 1
        inverse = None
        if refresh and first and layout is None:
            inputs, mask, inverse = self._distinct(inputs, mask)
        if self.cfg_scale:
            blank = inputs.clone()
            blank[:, :given] = self.model.mask_token_id
            inputs = torch.cat((inputs, blank))
            mask = None if mask is None else torch.cat((mask, mask))
            layout = None if layout is None else _twice(layout)
        kept = None
        if self.cache != "none":
            kept = KeyValueCache() if refresh else self._select(rows)
        options: dict[str, Any] = {} if layout is None else {"layout": layout}
        # Rows that are equal but for what is masked in them share a pass, not its positions.
        selected = positions is not None and self.selects and inverse is None
        if positions is not None and selected:
            options["positions"] = positions.repeat(copies, 1) + block.start
        with record_function(PASS):
            hidden = self.body(inputs, mask, window=(start, stop), cache=kept, **options)
        if not selected:
            hidden = hidden[:, block.start - start : block.stop - start]
        if inverse is not None:
            inverse = torch.cat([inverse + i * len(inputs) // copies for i in range(copies)])
            hidden = hidden[inverse]
            if kept is not None:
                kept.layers = [(k[inverse], v[inverse]) for k, v in kept.layers]
        if positions is not None and not selected:
            hidden = hidden.take_along_dim(positions.repeat(copies, 1)[..., None], dim=1)
        if kept is not None:
            self._keep(kept, rows, begin, held)
        return torch.stack(hidden.chunk(2), dim=2) if self.cfg_scale else hidden

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [m, V] of hidden states [m, D], or [m, 2, D] with guidance."""
        self.work.head_positions += hidden.shape[:-1].numel()
        logits = self.model.project(hidden)
        if not self.cfg_scale:
            return logits
        conditional, unconditional = logits.float().unbind(dim=1)
        return unconditional + (self.cfg_scale + 1) * (conditional - unconditional)

    def _distinct(
        self, inputs: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Each distinct row once, and where each row is among them (None if all are distinct).

        The samples of a group start from the same canvas: their first pass is one row.
        """
        if len(inputs) == 1:
            return inputs, mask, None
        keyed = inputs if mask is None else torch.cat((inputs, mask.long()), dim=1)
        distinct, inverse = torch.unique(keyed, dim=0, return_inverse=True)
        if len(distinct) == len(inputs):
            return inputs, mask, None
        saved = (len(inputs) - len(distinct)) * inputs.shape[1]
        self.work.body_tokens -= (2 if self.cfg_scale else 1) * saved
        length = inputs.shape[1]
        mask = None if mask is None else distinct[:, length:].to(mask.dtype)
        return distinct[:, :length], mask, inverse

    def _keep(self, new: KeyValueCache, rows: list[int], begin: int, held: Sequence[int]) -> None:
        """Keep the keys and values of a pass beside those of other rows."""
        if held:
            begin = min(begin, self._kept_begin)
            pairs = zip(self._select(list(held)).layers, new.layers, strict=True)
            new = KeyValueCache(
                [(self._stack(a, b), self._stack(c, d)) for (a, c), (b, d) in pairs]
            )
        self._kept, self._kept_rows, self._kept_begin = new, [*held, *rows], begin

    def _stack(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Keys or values [rows, heads, L, width] of both, padded on the left to the longer one."""
        length = max(upper.shape[2], lower.shape[2])
        parts = [F.pad(part, (0, 0, length - part.shape[2], 0)) for part in (upper, lower)]
        copies = [part.chunk(2 if self.cfg_scale else 1) for part in parts]
        return torch.cat([part for pair in zip(*copies, strict=True) for part in pair])

    def _select(self, rows: list[int]) -> KeyValueCache:
        """The kept keys and values of some of the rows that are kept."""
        if rows == self._kept_rows:
            return self._kept
        number = {row: i for i, row in enumerate(self._kept_rows)}
        at = [number[row] for row in rows]
        if self.cfg_scale:
            at += [i + len(self._kept_rows) for i in at]
        index = torch.tensor(at).to(self._kept.layers[0][0].device, non_blocking=True)
        layers = [(k[index], v[index]) for k, v in self._kept.layers]
        return KeyValueCache(layers)


def _twice(layout: Layout) -> Layout:
    """The layout of rows that are run a second time."""
    assert isinstance(layout.visible, Tensor)
    return Layout(layout.positions.repeat(2, 1), layout.visible.repeat(2, 1, 1))


def computed_share(sampler: SamplerConfig, canvas: int, block_size: int | None = None) -> float:
    """Positions that the body runs in a rollout, relative to full passes in every step.

    A block-causal model runs the prompt once, a block in every step, and every block once more
    when it is whole.

    With a cache the first pass of every `cache_blocks` blocks is full, and so is every
    `cache_refresh`-th of a block. The others run the block alone (dual), or from there to the end
    of the canvas (prefix).
    """
    if block_size is not None:
        return (canvas + sampler.steps * block_size) / (sampler.steps * canvas)
    if sampler.cache == "none":
        return 1.0
    per_block, width = sampler.steps_per_block, sampler.block_length
    ran = 0
    for block in range(sampler.blocks):
        length = width if sampler.cache == "dual" else sampler.completion_length - block * width
        full = 1 if block % sampler.cache_blocks == 0 else 0
        if sampler.cache_refresh is not None:
            full += (per_block - 1) // sampler.cache_refresh
        ran += full * canvas + (per_block - full) * length
    return ran / (sampler.steps * canvas)
