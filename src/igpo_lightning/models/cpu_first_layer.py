"""The first layer once for each distinct token: a saving on CPUs.

In front of the first attention equal tokens are equal rows, and most of a canvas are masks. A GPU
would have to tell the host how many distinct tokens there are, so it runs every row.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def once_a_token(layer: Callable[[Tensor], Tensor], x: Tensor, tokens: Tensor | None) -> Tensor:
    """`layer(x)` [B, n, E] of a layer that maps each position of x [B, n, D] by itself.

    On CPUs without gradient each distinct row is run once.

    Args:
        layer: Maps [..., D] to [..., E].
        x: The first layer's inputs: embeddings of `tokens`.
        tokens: [B, n]; None for any other layer, which runs every row.
    """
    if tokens is None or torch.is_grad_enabled() or x.device.type != "cpu":
        return layer(x)
    if torch.compiler.is_compiling():
        return layer(x)
    distinct, number = torch.unique(tokens.flatten(), return_inverse=True)  # [u], [B * n]
    if 2 * len(distinct) > len(number):
        return layer(x)
    places = torch.arange(len(number))
    rows = torch.empty_like(distinct).scatter_(0, number, places)  # one place of each token
    return layer(x.flatten(0, 1)[rows])[number].view(*x.shape[:2], -1)
