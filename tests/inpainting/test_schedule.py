"""The hint ratio over steps and rounds, by hand."""

import pytest

from igpo_lightning.inpainting.schedule import RatioSchedule, ratio_range, schedule_scale


def test_constant_is_the_papers_range_at_every_step():
    schedule = RatioSchedule(total_steps=10)
    assert [ratio_range(schedule, step, 0.3) for step in (0, 5, 9)] == [(0.2, 0.6)] * 3


def test_linear_goes_from_one_to_the_final_scale():
    """11 steps, final 0.2: half-way the scale is 0.2 + 0.8 * 0.5 = 0.6."""
    schedule = RatioSchedule(kind="linear", final_scale=0.2, total_steps=11)
    scales = [schedule_scale(schedule, step, 0.0) for step in (0, 5, 10)]
    assert scales == pytest.approx([1.0, 0.6, 0.2])


def test_cosine_starts_and_ends_flat():
    """cos(pi/3) = 1/2 at a third of the way: (1 + 0.5) / 2 = 0.75."""
    schedule = RatioSchedule(kind="cosine", final_scale=0.0, total_steps=4)
    scales = [schedule_scale(schedule, step, 0.0) for step in range(4)]
    assert scales == pytest.approx([1.0, 0.75, 0.25, 0.0])


def test_adaptive_follows_the_share_of_all_wrong_groups():
    """final 0.5: at a share of 0.4 the scale is 0.5 + 0.5 * 0.4 = 0.7, so 0.14 to 0.42."""
    schedule = RatioSchedule(kind="adaptive", final_scale=0.5)
    assert ratio_range(schedule, 3, 0.4) == pytest.approx((0.14, 0.42))
    assert ratio_range(schedule, 3, 1.0) == pytest.approx((0.2, 0.6))


def test_rounds_grow_the_range_up_to_one():
    """Growth 2: 0.2 to 0.6, 0.4 to 1 (1.2 is cut), 0.8 to 1."""
    schedule = RatioSchedule(round_growth=2.0)
    ranges = [ratio_range(schedule, 0, 0.0, hint_round) for hint_round in range(3)]
    assert ranges == [(0.2, 0.6), (0.4, 1.0), (0.8, 1.0)]


def test_a_run_of_one_step_starts_at_the_full_range():
    assert schedule_scale(RatioSchedule(kind="linear", total_steps=1), 0, 0.0) == 1.0


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'steep' is unknown"):
        schedule_scale(RatioSchedule(kind="steep"), 0, 0.0)
