"""Times, masks and weights: unbiased, evenly spread where asked, and a row's own affair."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from igpo_lightning.diffusion.forward_process import sample_masks, sample_times
from igpo_lightning.diffusion.masked_inputs import MaskedInputs
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.settings import SFTStage
from igpo_lightning.sft.noising import draw_noise, low_discrepancy_times


def draw(settings: SFTStage, rows: int, length: int = 8, step: int = 5) -> MaskedInputs:
    return draw_noise(
        settings,
        row_keys(list(range(rows))),
        length,
        step_key=row_keys([step])[0],
        places=torch.arange(rows),
        step_rows=rows,
    )


def test_the_plain_draw_is_the_forward_process() -> None:
    """weights = mask / t, the terms of the NELBO."""
    keys = row_keys(list(range(50)))
    times = sample_times(keys)
    masks = sample_masks(keys, times, 8)
    inputs = draw(SFTStage(), 50)
    assert torch.equal(inputs.masks[:, 0], masks)
    assert torch.equal(inputs.weights[:, 0], (masks / times[:, None]).float())


@pytest.mark.parametrize("timesteps", ["independent", "low_discrepancy"])
@pytest.mark.parametrize("complementary", [False, True])
def test_the_mean_weight_of_a_token(timesteps: str, complementary: bool) -> None:
    """E[mask / t] = 1, in every combination: the loss stays unbiased.

    1/t makes the variance of a plain mean infinite (E[1/t] diverges), so terms with t < 0.05 are
    counted by their expectation: P(mask) / t = 1 over 5 % of the times. The rest has a variance of
    at most E[1/t; t > 0.05] = log 20 = 3, over 4096 rows * 8 tokens of which those of one row share
    t but not the mask: a standard error below 0.01.
    """
    noise = SFTStage(timesteps=timesteps, complementary=complementary)
    inputs = draw(noise, 4096)
    weights = inputs.weights * inputs.weights.shape[1]
    weights = torch.where(weights > 20, 0.0, weights)
    for n in range(weights.shape[1]):
        assert weights[:, n].mean().item() == pytest.approx(0.95, abs=0.04)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_times_of_a_step_are_evenly_spread(rows: int, step: int) -> None:
    times = low_discrepancy_times(row_keys([step])[0], torch.arange(rows), rows)
    assert 0 < float(times.min()) < float(times.max()) < 1 or rows == 1
    # Exactly one time in each of `rows` equal cells of the circle.
    offset = float(times.min())
    cells = ((times - offset) * rows).round().long()
    assert sorted(cells.tolist()) == list(range(rows))


def test_each_rows_time_is_uniform_over_steps() -> None:
    keys = row_keys(list(range(2000)))
    times = torch.stack([low_discrepancy_times(k, torch.tensor([3]), 8)[0] for k in keys])
    counts = torch.histc(times, bins=10, min=0, max=1)
    # Binomial with 200 in each cell, standard deviation 13.4; 5 deviations.
    assert int((counts - 200).abs().max()) < 67


def test_complementary_masks_hide_every_token_once() -> None:
    inputs = draw(SFTStage(complementary=True), 64)
    assert inputs.masks.shape == (64, 2, 8)
    assert bool((inputs.masks.sum(dim=1) == 1).all())
    # The second time is 1 - t: 1 / (2 w) of any two weights of a row add up to 1.
    for row in inputs.weights:
        first, second = row[0][row[0] > 0], row[1][row[1] > 0]
        if len(first) and len(second):
            assert float(0.5 / first[0] + 0.5 / second[0]) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("timesteps", ["independent", "low_discrepancy"])
def test_a_row_depends_on_no_other(timesteps: str) -> None:
    noise = SFTStage(timesteps=timesteps, complementary=True)
    whole = draw(noise, 12)

    def part(rows: Tensor) -> MaskedInputs:
        keys, step_key = row_keys(rows.tolist()), row_keys([5])[0]
        return draw_noise(noise, keys, 8, step_key=step_key, places=rows, step_rows=12)

    one = part(torch.tensor([7]))
    assert torch.equal(one.masks[0], whole.masks[7])
    assert torch.equal(one.weights[0], whole.weights[7])
