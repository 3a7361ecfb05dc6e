"""Settings of a sweep compared seed by seed, on made-up runs."""

from pathlib import Path

import pytest
from comparison import (
    COMPUTED,
    GENERATED,
    accuracy_curve,
    curve_over,
    mean_height,
    mean_of,
    paired_difference,
    paired_ratio,
    spent,
    value_at,
)
from hypothesis import given
from hypothesis import strategies as st

from igpo_lightning.reporting.run_data import FAILED, FINISHED, RunData
from igpo_lightning.reporting.sweep_settings import settings_of

RUN = RunData(
    name="run",
    folder=Path("run"),
    status=FINISHED,
    overrides={},
    metrics=(
        {"step": 0, "eval/accuracy": 0.1},
        {"step": 0, "tokens/rollout": 30, "compute/rollout": 300, "compute/update": 100},
        {"step": 1, "tokens/rollout": 10, "compute/rollout": 100, "compute/update": 100},
        {"step": 2, "eval/accuracy": 0.5},
        {"step": 2, "tokens/rollout": 20, "compute/rollout": 200, "compute/update": 100},
        {"step": 3, "eval/accuracy": 0.6},
    ),
)


def run(seed: int, status: str = FINISHED, **overrides: str) -> RunData:
    return RunData(
        f"{overrides}-{seed}", Path(), status, {"experiment": "x", **overrides, "seed": str(seed)}
    )


def test_runs_that_differ_in_seed_alone_are_one_setting() -> None:
    runs = [run(seed, inpaint=kind) for kind in ("none", "partial") for seed in (0, 1)]
    settings = settings_of([*runs, run(2, FAILED, inpaint="partial")])
    assert [setting.name for setting in settings] == ["inpaint=none", "inpaint=partial"]
    assert [list(setting.finished) for setting in settings] == [["0", "1"], ["0", "1"]]
    assert len(settings[1].unfinished) == 1, "a failed run is told, not counted"


def test_a_sweep_over_seeds_alone_is_one_setting() -> None:
    (setting,) = settings_of([run(seed) for seed in range(3)])
    assert (setting.name, list(setting.finished)) == ("", ["0", "1", "2"])


def test_curve_stands_at_the_steps_that_the_policy_had_made() -> None:
    assert accuracy_curve(RUN) == ([0, 2, 3], [0.1, 0.5, 0.6])


def test_spent_adds_up_over_rollout_steps() -> None:
    assert spent(RUN, GENERATED) == [0, 30, 40, 60]
    assert spent(RUN, COMPUTED) == [0, 400, 600, 900]


def test_curve_over_tokens_pairs_each_evaluation_with_what_came_before_it() -> None:
    assert curve_over(RUN, GENERATED) == ([0, 40, 60], [0.1, 0.5, 0.6])


def test_mean_height_is_the_area_over_the_width() -> None:
    # (0.1 + 0.5) / 2 * 2 + (0.5 + 0.6) / 2 * 1 = 1.15; over a width of 3.
    assert mean_height(*accuracy_curve(RUN)) == pytest.approx(1.15 / 3)
    assert mean_height([4], [0.3]) == 0.3


def test_value_between_points_lies_on_the_line() -> None:
    places, values = accuracy_curve(RUN)
    assert value_at(places, values, 1) == pytest.approx(0.3)
    assert value_at(places, values, -1) == 0.1
    assert value_at(places, values, 9) == 0.6


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_mean_height_and_value_stay_between_the_values(values: list[float], at: float) -> None:
    places = list(range(len(values)))
    for found in (mean_height(places, values), value_at(places, values, at * places[-1])):
        assert min(values) - 1e-12 <= found <= max(values) + 1e-12


def test_mean_of_a_metric_is_over_the_lines_that_have_it() -> None:
    assert mean_of(RUN, "tokens/rollout") == 20
    assert mean_of(RUN, "policy/kl") is None


def test_differences_are_paired_by_seed() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), t(2) = 4.303.
    values = {"0": 0.5, "1": 0.3, "2": 0.8, "9": 1.0}
    difference = paired_difference(values, {"0": 0.4, "1": 0.1, "2": 0.5, "8": 0.0})
    assert difference is not None
    assert (difference.mean, difference.count) == (pytest.approx(0.2), 3)
    assert difference.half == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert paired_difference({"0": 1.0}, {}) is None


def test_ratios_are_paired_by_seed() -> None:
    # Ratios 0.5, 0.25, 0.3: mean 0.35, deviations 0.15, -0.1, -0.05, variance 0.035 / 2.
    ratio = paired_ratio({"0": 1.0, "1": 2.0, "2": 3.0}, {"0": 2.0, "1": 8.0, "2": 10.0, "8": 1.0})
    assert ratio is not None
    assert (ratio.mean, ratio.count) == (pytest.approx(0.35), 3)
    assert ratio.half == pytest.approx(4.303 * (0.0175 / 3) ** 0.5)
