"""Weights that are NaN or infinite are found, without a copy of the largest of them."""

from pathlib import Path

import pytest
import torch

from igpo_lightning.errors import RunError
from igpo_lightning.stages.checkup.speed import peak_bytes
from igpo_lightning.stages.export import require_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    weights = {"head": torch.zeros(4, 5), "body": torch.zeros(2**24 + 3), "ids": torch.arange(3)}
    require_finite(weights.items(), tmp_path)
    weights["body"][-1] = value
    with pytest.raises(RunError, match="body holds NaN or inf"):
        require_finite(weights.items(), tmp_path)


def test_a_large_weight_is_looked_at_in_parts(tmp_path: Path) -> None:
    """512 MB of bfloat16: a comparison of the whole makes a copy and a byte a number."""
    weights = {"embedding": torch.zeros(2**28, dtype=torch.bfloat16)}
    device = torch.device("cpu")
    peak_bytes(lambda: require_finite(weights.items(), tmp_path), device)  # of the libraries
    grown = peak_bytes(lambda: require_finite(weights.items(), tmp_path), device)
    if grown is None:
        pytest.skip("the system does not say how much memory a process has used")
    assert grown < 200 * 2**20
