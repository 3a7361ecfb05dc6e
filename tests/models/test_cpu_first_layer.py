"""The first layer run once for each distinct token, against running it at every position."""

import torch
from torch.testing import assert_close as close

from igpo_lightning.models.cpu_first_layer import once_a_token


@torch.no_grad()
def test_each_distinct_token_is_mapped_once_and_put_at_its_places() -> None:
    """Tokens 7, 7, 7, 3 twice: 2 rows of 8. A layer whose tokens are not told runs every row."""
    tokens = torch.tensor([[7, 7, 7, 3]] * 2)
    x, run = tokens[..., None].float() * torch.tensor([1.0, 10.0]), []

    def layer(rows: torch.Tensor) -> torch.Tensor:
        run.append(rows.shape[:-1].numel())
        return rows.sum(dim=-1, keepdim=True)

    close(once_a_token(layer, x, tokens), layer(x))
    once_a_token(layer, x, None)
    assert run == [2, 8, 8]


@torch.no_grad()
def test_the_first_layer_maps_each_distinct_token_once(models, tokens) -> None:
    """A canvas of 2 x 10 positions with 5 different tokens: 5 rows, not 20, and the same result."""
    model, run = models["tiny"], []
    ids = torch.full((2, 10), 7)
    ids[0, :4] = torch.tensor([3, 4, 5, 6])
    hook = model.layers[0].qkv.register_forward_pre_hook(
        lambda _, args: run.append(args[0].shape[:-1].numel())
    )
    once = model.encode(ids)
    with torch.enable_grad():
        everywhere = model.encode(ids)
    model.encode(tokens(2, 3))  # 6 positions of more than 3 tokens: not worth it
    hook.remove()
    assert run == [5, 20, 6]
    close(once, everywhere)
