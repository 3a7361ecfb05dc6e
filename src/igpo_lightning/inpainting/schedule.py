"""How much of the trace is given: the range of the hint ratio over training steps and rounds."""

import math

from igpo_lightning.settings import InpaintConfig


def schedule_scale(
    settings: InpaintConfig, step: int, total_steps: int, all_wrong_share: float
) -> float:
    """Factor in [schedule_final, 1] on the hint ratio at a rollout step.

    "constant" is the paper's; "linear" and "cosine" go from 1 at the first step to
    `schedule_final` at the last; "adaptive" follows the share of all-wrong groups of the step: 1
    where all are, `schedule_final` where none is.

    Args:
        settings: Its schedule.
        step: Counted from 0.
        total_steps: Rollout steps of the run.
        all_wrong_share: Share of all-wrong groups of this step over all ranks, before injection.
    """
    progress = min(1.0, step / max(1, total_steps - 1))
    kind, final = settings.schedule, settings.schedule_final
    if kind == "constant":
        return 1.0
    if kind == "linear":
        remaining = 1.0 - progress
    elif kind == "cosine":
        remaining = (1.0 + math.cos(math.pi * progress)) / 2
    else:  # "adaptive"
        remaining = all_wrong_share
    return final + (1.0 - final) * remaining


def ratio_range(
    settings: InpaintConfig,
    step: int,
    total_steps: int,
    all_wrong_share: float = 0.0,
    hint_round: int = 0,
) -> tuple[float, float]:
    """The range (low, high) in [0, 1] that eta is drawn from; arguments as in `schedule_scale`.

    It grows with `hint_round`, the rounds that the group has been through already.
    """
    scale = schedule_scale(settings, step, total_steps, all_wrong_share)
    scale *= settings.round_growth**hint_round
    low, high = settings.ratio_bounds
    return min(1.0, scale * low), min(1.0, scale * high)
