"""Tensors that are made when they are written: an export needs no second copy of the weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning import distributed


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose sizes are known and whose values are made when they are written.

    Attributes:
        shape: As it will be written.
        dtype: As it will be written.
        make: Its values in full, on any device. Where ranks share them, all ranks call it in the
            same order.
    """

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> "LazyTensor":
        """A tensor that exists, whole or shared over ranks."""
        return cls(tensor.shape, tensor.dtype, lambda: distributed.full(tensor.detach()))
