"""The hint ratio over steps and rounds, by hand."""

import pytest

from igpo_lightning.errors import ConfigError
from igpo_lightning.inpainting.schedule import ratio_range, schedule_scale
from igpo_lightning.settings import InpaintConfig


def test_constant_is_the_papers_range_at_every_step():
    paper = InpaintConfig()
    assert [ratio_range(paper, step, 10, 0.3) for step in (0, 5, 9)] == [(0.2, 0.6)] * 3


def test_linear_goes_from_one_to_the_final_scale():
    """11 steps, final 0.2: half-way the scale is 0.2 + 0.8 * 0.5 = 0.6."""
    schedule = InpaintConfig(schedule="linear", schedule_final=0.2)
    scales = [schedule_scale(schedule, step, 11, 0.0) for step in (0, 5, 10)]
    assert scales == pytest.approx([1.0, 0.6, 0.2])


def test_cosine_starts_and_ends_flat():
    """cos(pi/3) = 1/2 at a third of the way: (1 + 0.5) / 2 = 0.75."""
    schedule = InpaintConfig(schedule="cosine", schedule_final=0.0)
    scales = [schedule_scale(schedule, step, 4, 0.0) for step in range(4)]
    assert scales == pytest.approx([1.0, 0.75, 0.25, 0.0])


def test_adaptive_follows_the_share_of_all_wrong_groups():
    """final 0.5: at a share of 0.4 the scale is 0.5 + 0.5 * 0.4 = 0.7, so 0.14 to 0.42."""
    schedule = InpaintConfig(schedule="adaptive", schedule_final=0.5)
    assert ratio_range(schedule, 3, 10, 0.4) == pytest.approx((0.14, 0.42))
    assert ratio_range(schedule, 3, 10, 1.0) == pytest.approx((0.2, 0.6))


def test_rounds_grow_the_range_up_to_one():
    """Growth 2: 0.2 to 0.6, 0.4 to 1 (1.2 is cut), 0.8 to 1."""
    schedule = InpaintConfig(round_growth=2.0)
    ranges = [ratio_range(schedule, 0, 10, 0.0, hint_round) for hint_round in range(3)]
    assert ranges == [(0.2, 0.6), (0.4, 1.0), (0.8, 1.0)]


def test_a_run_of_one_step_starts_at_the_full_range():
    assert schedule_scale(InpaintConfig(schedule="linear"), 0, 1, 0.0) == 1.0


def test_an_unknown_kind_is_named():
    with pytest.raises(ConfigError, match=r"inpaint\.schedule=steep: use one of constant"):
        InpaintConfig(schedule="steep")


def test_a_fixed_ratio_takes_the_place_of_the_range():
    assert ratio_range(InpaintConfig(ratio=0.4), 0, 10) == (0.4, 0.4)
