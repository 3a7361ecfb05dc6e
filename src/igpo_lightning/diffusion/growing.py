"""A canvas that grows: a block of masks is appended after the last one, until EOS or the limit.

iLLaDA's own generation (arXiv 2606.25331): within a block the usual loop, with full attention over
the prompt, the finished blocks and this one. What is not there yet costs nothing and is not seen,
so that a row's canvas is as long as it needs. Hints behind the canvas's end stand where they will
be and are seen from the start, as IGPO means them; or they wait until the canvas reaches them.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from igpo_lightning.diffusion.unmasking import in_front
from igpo_lightning.models.backbone import Layout


@dataclass(frozen=True)
class Growth:
    """What there is of a canvas while a block is filled.

    Attributes:
        hints: [B, L], True at hints that are seen before the canvas reaches them.
        width: W, tokens of a block.
        prompt_length: P.
    """

    hints: Tensor
    width: int
    prompt_length: int

    @cached_property
    def _most_ahead(self) -> list[int]:
        """Hints behind each block's end, in the row that has most of them."""
        completion = self.hints[:, self.prompt_length :]
        blocks = completion.reshape(len(completion), -1, self.width).sum(dim=2)
        behind = blocks.flip(1).cumsum(dim=1).flip(1) - blocks  # [B, blocks]
        most: list[int] = behind.amax(dim=0).tolist()
        return most

    def cut(
        self, ids: Tensor, mask: Tensor | None, index: Tensor, stop: int, begin: int = 0
    ) -> tuple[Tensor, Tensor | None, Layout | None]:
        """What of some rows is there, with the hints behind it at the end.

        Args:
            ids: [A, L - begin].
            mask: [A, L - begin], True at real tokens; None where nothing is padded.
            index: [A], the rows among all.
            stop: End of the block that is being filled, in `ids`.
            begin: Column of the canvas that `ids` starts from.

        Returns:
            Tokens [A, n], and either their mask or, where hints are ahead, where they stand and
            what is seen.
        """
        ahead = self._most_ahead[(begin + stop - self.prompt_length) // self.width - 1]
        if not ahead:
            return ids[:, :stop], None if mask is None else mask[:, :stop], None
        hints = self.hints[index, begin + stop :]
        order = in_front(hints)[:, :ahead] + stop  # [A, ahead]
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        places = (real.cumsum(dim=1) - 1).clamp(min=0)  # [A, L]
        real = F.pad(real[:, :stop], (0, ids.shape[1] - stop), value=False)
        real[:, stop:] = hints
        column = torch.arange(stop, device=ids.device).expand(len(ids), -1)
        taken = torch.cat((column, order), dim=1)  # [A, n]
        layout = Layout(places.gather(1, taken), real.gather(1, taken)[:, None])
        return ids.gather(1, taken), None, layout
