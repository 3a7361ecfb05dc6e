"""Small random backbones and random tokens, for the tests of this folder."""

from collections.abc import Callable

import pytest
import torch

from igpo_lightning.models.backbone import BackboneModule
from tests.small_backbones import CONFIGS, VOCAB, build_native


def draw_tokens(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Random ids [rows, length]."""
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def native() -> Callable[..., BackboneModule]:
    """`native(name, **changes)`: a small random backbone of that architecture."""
    return build_native


@pytest.fixture(scope="session")
def models() -> dict[str, BackboneModule]:
    """One small random backbone of each native architecture; not to be changed."""
    return {name: build_native(name) for name in CONFIGS}


@pytest.fixture(scope="session")
def tokens() -> Callable[..., torch.Tensor]:
    """`tokens(rows, length, seed=0)`: random ids."""
    return draw_tokens
