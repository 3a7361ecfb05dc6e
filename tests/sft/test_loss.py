"""The NELBO against numbers worked out by hand."""

import math

import pytest
import torch

from igpo_lightning.sft import nelbo


def test_by_hand() -> None:
    """Two rows of C = 4 tokens.

    Row 1, t = 0.5: tokens 0 and 2 are masked, with probabilities 1/2 and 1/4.
        1/t * (log 2 + log 4) / C = 2 * 3 log 2 / 4 = 1.5 log 2
    Row 2, t = 0.25: token 3 is masked, with probability 1/8.
        1/t * log 8 / C = 4 * 3 log 2 / 4 = 3 log 2
    Mean: 2.25 log 2.
    """
    logp = torch.tensor([[0.5, 0.9, 0.25, 0.3], [0.1, 0.2, 0.3, 0.125]]).log()
    masks = torch.tensor([[True, False, True, False], [False, False, False, True]])
    weights = masks / torch.tensor([[0.5], [0.25]])
    assert nelbo(weights * logp).item() == pytest.approx(2.25 * math.log(2))


def test_nothing_masked_costs_nothing() -> None:
    assert nelbo(torch.zeros(3, 5)).item() == 0.0
