"""Masked versions of true completions, and what each masked token's loss weighs."""

import torch
from torch import Tensor

from igpo_lightning.diffusion.forward_process import sample_masks, sample_times
from igpo_lightning.diffusion.masked_inputs import MaskedInputs
from igpo_lightning.diffusion.noise import uniform
from igpo_lightning.settings import SFTStage


def low_discrepancy_times(step_key: Tensor, places: Tensor, rows: int) -> Tensor:
    """Times [B] in (0, 1), float64: one draw u for the step, then (u + place / rows) mod 1.

    Args:
        step_key: [] int64, the same for all rows of a step.
        places: [B], each row's place among the step's rows, from 0.
        rows: How many rows the step has over all micro-batches and ranks.
    """
    times = (uniform(step_key) + places.double() / rows) % 1.0
    return times.clamp(min=torch.finfo(torch.float64).eps)


def draw_noise(
    settings: SFTStage,
    keys: Tensor,
    length: int,
    step_key: Tensor,
    places: Tensor,
    step_rows: int,
) -> MaskedInputs:
    """Masks and weights of completions; a row's depend on no other row of its batch.

    "independent" times are t ~ U(0, 1) for each row; with "low_discrepancy" the rows of a step
    share one draw and stand 1 / rows apart, so that their times cover (0, 1) evenly (the antithetic
    sampling of arXiv 2406.07524). A row's own t is uniform in both. Complementary rows are used
    twice, the second time with exactly the other tokens masked, at time 1 - t.

    Args:
        settings: `timesteps` and `complementary`.
        keys: [B] int64, one random key a row.
        length: C.
        step_key: As in `low_discrepancy_times`, which alone needs it.
        places: Likewise.
        step_rows: Likewise.

    Returns:
        N = 1 or, with complementary masks, 2 inputs [B, N, C]; weights are 0 at visible tokens,
        and their expectation over t and masks is 1.
    """
    if settings.timesteps == "low_discrepancy":
        times = low_discrepancy_times(step_key, places, step_rows)
    else:
        times = sample_times(keys)
    masks = sample_masks(keys, times, length)[:, None]  # [B, 1, C]
    times = times[:, None]  # [B, 1]
    if settings.complementary:
        masks = torch.cat((masks, ~masks), dim=1)
        times = torch.cat((times, 1.0 - times), dim=1)
    # 1/t makes the sum a bound on the log-likelihood (arXiv 2502.09992, Eq. 3).
    weights = masks.double() / masks.shape[1] / times[..., None]
    scored = torch.ones_like(masks[:, 0])
    return MaskedInputs(masks=masks, weights=weights.float(), scored=scored)
