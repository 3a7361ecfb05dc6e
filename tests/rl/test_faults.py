"""A reward or objective that gives NaN ends the run at once, by its name, file and sample."""

import math
from pathlib import Path

import pytest
import torch
from tiny_training import SETTINGS, problem, train

from igpo_lightning.errors import RunError
from igpo_lightning.rewards import functions
from igpo_lightning.rl import objectives
from igpo_lightning.settings import InpaintConfig, ObjectiveConfig

PLAIN = InpaintConfig(trigger="never")
PROBLEMS = [problem("one"), problem("two")]


def first_of_each_group(row: int, text: str) -> bool:
    return row % 4 == 0


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(functions, "_REWARDS", dict(functions._REWARDS))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_is_named_with_its_first_sample(bad: float) -> None:
    """The sixth of eight samples is the second (number 1) of the second problem."""
    calls = []

    @functions.register_reward("moody")
    def moody(graded: functions.Graded) -> float:
        calls.append(graded)
        return bad if len(calls) == 6 else 0.0

    with pytest.raises(RunError) as error:
        train(
            first_of_each_group,
            steps=2,
            problems=PROBLEMS,
            inpaint=PLAIN,
            reward_weights={"correctness": 1.0, "moody": 0.5},
        )
    text = str(error.value)
    assert text.startswith("step 0 made no update: the reward moody (")
    assert f"moody in {Path(__file__)}" in text
    assert f"gave {bad} for 1 of 8 samples" in text
    assert "first for sample 1 (counted from 0) of problem two" in text
    assert "correctness" not in text
    assert "lr" not in text
    assert error.value.status == 1
    assert len(calls) == 8, "the run goes on after the first step"


def test_weights_that_make_a_sum_infinite_are_named() -> None:
    """3e38 and 3e38 are floats of 32 bits; their sum is none."""
    with pytest.raises(RunError, match=r"reward.weights make the sum inf for 2 of 8 samples"):
        train(
            first_of_each_group,
            problems=PROBLEMS,
            inpaint=PLAIN,
            reward_weights={"correctness": 1e39},
        )


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_an_objective_that_is_not_finite_is_named(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN at the first of each group; in the gradient alone: the root of 0 has slope inf."""

    def broken(logp, old_logp, advantages, loss_mask, settings):
        rows = advantages[:, 0] > 0
        zero = (logp - old_logp).abs()[rows]
        gain = logp.clone()
        gain[rows] = torch.nan * zero if where == "value" else zero.sqrt()
        ones = torch.ones_like(logp)
        return objectives.TokenTerms(gain, ones, torch.zeros_like(loss_mask))

    monkeypatch.setitem(objectives.OBJECTIVES, "broken", broken)
    with pytest.raises(RunError) as error:
        train(
            first_of_each_group,
            problems=PROBLEMS,
            inpaint=PLAIN,
            objective=ObjectiveConfig(loss="broken", beta=0.0),
        )
    text = str(error.value)
    assert f"in {Path(__file__)}" in text
    assert "the objective broken (" in text
    assert "for 2 of 8 samples" in text
    assert "first for sample 0 (counted from 0) of problem one" in text
    assert "lr" not in text


def test_a_loss_that_is_nan_by_neither_is_left_to_the_count_of_skipped_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverged(*args, **named):
        loss, stats = objectives.policy_loss(*args, **named)
        return loss * math.nan, stats

    monkeypatch.setattr("igpo_lightning.rl.module.policy_loss", diverged)
    run = train(first_of_each_group, steps=2, problems=PROBLEMS, inpaint=PLAIN)
    updates = run.module.stage.inner_updates
    assert [line["policy/skipped"] for line in run.lines] == [updates, updates]
    assert run.module.skipped_in_row == 2 * updates
    assert SETTINGS.objective.loss == "clip"
