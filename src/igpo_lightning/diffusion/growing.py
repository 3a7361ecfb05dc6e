"""A canvas that grows: a block of masks is appended after the last one, until EOS or the limit.

iLLaDA's own generation (arXiv 2606.25331): within a block the usual loop, with full attention over
the prompt, the finished blocks and this one. What is not there yet costs nothing and is not seen,
so that a row's canvas is as long as it needs. Hints behind the canvas's end stand where they will
be and are seen from the start, as IGPO means them; or they wait until the canvas reaches them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from igpo_lightning.diffusion.unmasking import in_front
from igpo_lightning.diffusion.view import View


@dataclass(frozen=True)
class Growth:
    """What there is of a canvas while blocks are filled.

    Attributes:
        hints: [B, L], True at hints that are seen before the canvas reaches them.
        width: W, tokens of a block.
        prompt_length: P.
    """

    hints: Tensor
    width: int
    prompt_length: int

    @cached_property
    def most_ahead(self) -> list[int]:
        """Hints behind each block's end, in the row that has most of them."""
        completion = self.hints[:, self.prompt_length :]
        blocks = completion.reshape(len(completion), -1, self.width).sum(dim=2)
        behind = blocks.flip(1).cumsum(dim=1).flip(1) - blocks  # [B, blocks]
        most: list[int] = behind.amax(dim=0).tolist()
        return most

    def cut(self, whole: View, index: Tensor, starts: Tensor, blocks: Sequence[int]) -> View:
        """What of some rows is there, up to the end of the longest; then the hints behind that.

        Args:
            whole: A rows to the canvas's end.
            index: [A], the rows among all.
            starts: [A], columns of the canvas where their blocks begin.
            blocks: Numbers of the blocks, on the host.
        """
        first, last = min(blocks), max(blocks)
        beyond = self.hints.shape[1] - self.prompt_length - (last + 1) * self.width
        stop = whole.length - beyond  # of the longest row, in the view
        column = torch.arange(stop, device=index.device).expand(len(index), -1)
        there = whole.columns < starts[:, None] + self.width  # [A, n]
        there = there if whole.visible is None else there & whole.visible
        if not self.most_ahead[first]:
            whole_too = whole.visible is None and first == last
            return View(whole.columns[:, :stop], None if whole_too else there[:, :stop])
        hints = self.hints[index, -whole.length :]
        behind = in_front(hints[:, stop:])[:, : self.most_ahead[last]] + stop
        shown = replace(whole, visible=there | hints, places=whole.positions)
        return shown.take(torch.cat((column, behind), dim=1))
