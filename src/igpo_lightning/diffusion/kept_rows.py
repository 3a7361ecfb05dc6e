"""Keys and values that full passes leave behind, each row's window first.

A window is what later passes run: the block, the blocks that share a full pass, or all from the
block on. As it stands first in every row, rows at different blocks run the same columns.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from igpo_lightning.diffusion.view import View


@dataclass(frozen=True)
class KeptRows:
    """What is kept of S rows.

    Attributes:
        rows: Their S numbers in the canvas.
        view: Their n columns, those of the window first.
        layers: One (keys, values) pair a layer, [copies * S, heads, n, width], renewed in place.
        copies: 2 with guidance: the rows without their prompts stand behind the others.
    """

    rows: list[int]
    view: View
    layers: list[tuple[Tensor, Tensor]]
    copies: int

    def only(self, rows: list[int]) -> "KeptRows":
        """Some of the rows, in this order; the same object where these are all of them."""
        return self if rows == self.rows else self.at(self._numbers(rows), rows)

    def at(self, numbers: Tensor, rows: list[int]) -> "KeptRows":
        """Those of the S rows at `numbers` [A], as rows of the canvas."""
        of = self._copied(numbers)
        layers = [(keys[of], values[of]) for keys, values in self.layers]
        return KeptRows(rows, self.view.of_rows(numbers), layers, self.copies)

    def first(self, number: int) -> "KeptRows":
        """The first rows in the same memory; with guidance a copy, see `renew`."""
        rows = self.rows[:number]
        if number == len(self.rows):
            return self
        if self.copies > 1:
            return self.at(self._numbers(rows), rows)
        layers = [(keys[:number], values[:number]) for keys, values in self.layers]
        return KeptRows(rows, self.view.of_rows(slice(number)), layers, self.copies)

    def renew(self, part: "KeptRows", window: slice) -> None:
        """Take over what a pass over the first rows has renewed in a copy."""
        if part is self or self.copies == 1:
            return
        at = self._copied(self._numbers(part.rows))
        for own, new in zip(self.layers, part.layers, strict=True):
            for into, of in zip(own, new, strict=True):
                into[at, :, window] = of[:, :, window]

    def above(self, other: "KeptRows") -> "KeptRows":
        """These rows and then others."""
        layers = [
            (self._stacked(*keys), self._stacked(*values))
            for keys, values in (
                zip(own, new, strict=True)
                for own, new in zip(self.layers, other.layers, strict=True)
            )
        ]
        return replace(
            self, rows=self.rows + other.rows, view=self.view.above(other.view), layers=layers
        )

    def _stacked(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Keys or values of both; with guidance the copies of both stand behind them."""
        length = max(upper.shape[2], lower.shape[2])
        parts = [F.pad(part, (0, 0, 0, length - part.shape[2])) for part in (upper, lower)]
        copies = zip(*(part.chunk(self.copies) for part in parts), strict=True)
        return torch.cat([part for pair in copies for part in pair])

    def _numbers(self, rows: list[int]) -> Tensor:
        """Which of the S rows some of them are."""
        number = {row: i for i, row in enumerate(self.rows)}
        at = torch.tensor([number[row] for row in rows])
        return at.to(self.view.columns.device, non_blocking=True)

    def _copied(self, numbers: Tensor) -> Tensor:
        """Where their keys and values are."""
        return torch.cat([numbers + copy * len(self.view.columns) for copy in range(self.copies)])
