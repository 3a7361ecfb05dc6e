"""What a pass sees of some rows of the canvas, and in which order.

Attention goes by places and by what is visible, not by where a column stands. So a pass may leave
columns out (a canvas that grows), and put a row's block first (a cache: rows at different blocks
then run the same columns).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from igpo_lightning.diffusion.unmasking import in_front
from igpo_lightning.models.backbone import Layout


@dataclass(frozen=True)
class View:
    """Some columns of A rows.

    Attributes:
        columns: [A or 1, n], where they stand in the canvas.
        visible: [A, n], True where they are seen; None where all are.
        places: [A, n], each one's position within its sequence; None where it is the number of
            visible columns before it.
    """

    columns: Tensor
    visible: Tensor | None = None
    places: Tensor | None = None

    @property
    def length(self) -> int:
        """n."""
        return self.columns.shape[1]

    @property
    def positions(self) -> Tensor:
        """[A or 1, n], each column's position within its sequence."""
        if self.places is not None:
            return self.places
        if self.visible is None:
            return torch.arange(self.length, device=self.columns.device)[None]
        return (self.visible.cumsum(dim=1) - 1).clamp(min=0)

    @property
    def layout(self) -> Layout:
        """What a model is told of it."""
        return Layout(self.positions, None if self.visible is None else self.visible[:, None])

    def tokens(self, ids: Tensor) -> Tensor:
        """[A, n] of whole rows [A, L]."""
        return ids.gather(1, self.columns.expand(len(ids), -1))

    def take(self, order: Tensor) -> "View":
        """The columns at `order` [A, m]."""
        return View(
            self.columns.expand(len(order), -1).gather(1, order),
            None if self.visible is None else self.visible.gather(1, order),
            self.positions.expand(len(order), -1).gather(1, order),
        )

    def with_first(self, window: Tensor) -> "View":
        """The columns of a window [A, n] first; the others follow in order."""
        return self.take(in_front(window))

    def of_rows(self, numbers: Tensor | slice) -> "View":
        """Some of the rows, which all have columns of their own."""
        visible = None if self.visible is None else self.visible[numbers]
        return View(self.columns[numbers], visible, self.positions[numbers])

    def above(self, other: "View") -> "View":
        """These rows and then others; at the end of the shorter ones are columns unseen."""
        length = max(self.length, other.length)
        parts = []
        for view in (self, other):
            more = (0, length - view.length)
            seen = view.visible
            if seen is None:
                seen = torch.ones_like(view.columns, dtype=torch.bool)
            all_of = (F.pad(part, more) for part in (view.columns, seen, view.positions))
            parts.append(tuple(all_of))
        return View(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def whole_rows(length: int, mask: Tensor | None, index: Tensor, begin: int) -> View:
    """All of L columns from `begin` on, in front of which the rows `index` [A] have padding.

    `mask` [B, L] is True at real tokens, None where nothing is padded.
    """
    columns = torch.arange(begin, length, device=index.device)[None]
    return View(columns, None if mask is None else mask[index, begin:])
