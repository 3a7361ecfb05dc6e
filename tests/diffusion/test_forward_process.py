"""The forward process: times, masks, and which part of a completion is alive."""

import pytest
import torch

from igpo_lightning.diffusion.forward_process import live_mask, sample_masks, sample_times


def test_times_are_uniform_and_a_function_of_the_key():
    times = sample_times(torch.arange(20_000))
    assert ((times > 0) & (times < 1)).all()
    # mean 1/2 and variance 1/12; standard errors 0.002 and 0.0006
    assert float(times.mean()) == pytest.approx(1 / 2, abs=0.01)
    assert float(times.var()) == pytest.approx(1 / 12, abs=0.003)
    assert torch.equal(sample_times(torch.tensor([17]))[0], times[17])


def test_each_token_is_masked_with_its_rows_probability():
    keys = torch.arange(3)
    masks = sample_masks(keys, torch.tensor([0.0, 0.25, 1.0]), 20_000)
    shares = masks.double().mean(dim=1)
    assert shares[0] == 0
    assert shares[2] == 1
    assert float(shares[1]) == pytest.approx(0.25, abs=0.015)  # standard error 0.003


def test_masks_do_not_follow_the_times():
    """The two streams of a key are independent: times say nothing about single tokens."""
    keys = torch.arange(20_000)
    times = sample_times(keys)
    first = sample_masks(keys, torch.full_like(times, 0.5), 1)[:, 0].double()
    correlation = torch.corrcoef(torch.stack((times, first)))[0, 1]
    assert abs(float(correlation)) < 0.03  # standard error 0.007


@pytest.mark.parametrize(
    ("row", "alive"),
    [
        ([5, 1, 6, 1], [True, True, False, False]),  # up to and including the first EOS
        ([1, 5, 6, 7], [True, False, False, False]),
        ([5, 6, 7, 1], [True, True, True, True]),
        ([5, 6, 7, 8], [True, True, True, True]),  # no EOS
    ],
)
def test_a_completion_lives_to_its_first_eos(row, alive):
    assert live_mask(torch.tensor([row]), eos_token_id=1).tolist() == [alive]
