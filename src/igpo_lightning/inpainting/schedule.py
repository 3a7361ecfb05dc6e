"""How much of the trace is given: the range of the hint ratio over training steps and rounds."""

import math
from dataclasses import dataclass

SCHEDULES = ("constant", "linear", "cosine", "adaptive")


@dataclass(frozen=True)
class RatioSchedule:
    """The range that a sample's hint ratio eta is drawn from.

    Attributes:
        low: eta_low (the paper: 0.2).
        high: eta_high (the paper: 0.6); equal to `low` for a fixed ratio.
        kind: "constant" (the paper); "linear" and "cosine" go from the full range at the first
            step to `final_scale` times the range at the last; "adaptive" scales with the share of
            all-wrong groups of the step: the full range where all are, `final_scale` where none is.
        final_scale: Factor on the range at the end, in [0, 1].
        total_steps: Rollout steps of the run.
        round_growth: Factor on the range with every further round of hints for the same group.
    """

    low: float = 0.2
    high: float = 0.6
    kind: str = "constant"
    final_scale: float = 0.0
    total_steps: int = 1
    round_growth: float = 1.5


def schedule_scale(schedule: RatioSchedule, step: int, all_wrong_share: float) -> float:
    """Factor in [final_scale, 1] on the hint ratio at a rollout step.

    Args:
        schedule: Kind and end.
        step: Counted from 0.
        all_wrong_share: Share of all-wrong groups of this step over all ranks, before injection.

    Raises:
        ValueError: The kind is unknown.
    """
    progress = min(1.0, step / max(1, schedule.total_steps - 1))
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "linear":
        remaining = 1.0 - progress
    elif schedule.kind == "cosine":
        remaining = (1.0 + math.cos(math.pi * progress)) / 2
    elif schedule.kind == "adaptive":
        remaining = all_wrong_share
    else:
        raise ValueError(
            f"schedule {schedule.kind!r} is unknown; use one of {', '.join(SCHEDULES)}"
        )
    return schedule.final_scale + (1.0 - schedule.final_scale) * remaining


def ratio_range(
    schedule: RatioSchedule, step: int, all_wrong_share: float = 0.0, hint_round: int = 0
) -> tuple[float, float]:
    """The range (low, high) in [0, 1] that eta is drawn from.

    Args:
        schedule: See there.
        step: Rollout step, from 0.
        all_wrong_share: As in `schedule_scale`.
        hint_round: Rounds that the group has been through already, 0 for the first.
    """
    scale = schedule_scale(schedule, step, all_wrong_share) * schedule.round_growth**hint_round
    return min(1.0, scale * schedule.low), min(1.0, scale * schedule.high)
