"""Rollouts that drift too far from the policy go on with another sampler, say so, and stay so."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tiny_training import SAMPLER, drifting_backbone, train

from igpo_lightning.errors import ConfigError
from igpo_lightning.rl.drift_limit import FEWEST_STEPS, FEWEST_TOKENS, DriftLimit
from igpo_lightning.rl.measures import Measures, mean
from igpo_lightning.settings import SamplerConfig

APPROXIMATE = replace(SAMPLER, cache="dual", drift_share=0.9, drift_limit=1e-9)
REFRESHED = replace(APPROXIMATE, drift_action="refresh")
# Blocks of 16 tokens in 8 steps; three blocks.
LONG = SamplerConfig(48, 16, 24, cache="dual", cache_blocks=3, drift_share=0.03, drift_limit=0.3)


def never(row: int, text: str) -> bool:
    return False


def measured(cache: float, joint: float = 0.0, weight: int = FEWEST_TOKENS) -> Measures:
    """Of a step that compared so many tokens, and as many commits."""
    return {
        "rollout/drift_mean": mean(cache * weight, weight),
        "rollout/drift_joint": mean(joint * weight, weight),
    }


# ---- in training --------------------------------------------------------------------------------


def test_rollouts_above_the_limit_become_exact(caplog: pytest.LogCaptureFixture) -> None:
    run = train(never, steps=2, sampler=APPROXIMATE, policy=drifting_backbone())
    first, second = run.lines
    assert first["rollout/drift_mean"] > 1e-9
    assert "rollout/drift_mean" not in second
    assert "step 0: the rollouts' log-probabilities are" in caplog.text
    assert "above sampler.drift_limit=1e-09; from the next step on the sampler" in caplog.text
    assert run.module.sampler.config == APPROXIMATE.exact
    checkpoint: dict[str, Any] = {}
    run.module.on_save_checkpoint(checkpoint)
    resumed = train(never, steps=0, sampler=APPROXIMATE, policy=drifting_backbone()).module
    assert resumed.sampler.config == APPROXIMATE
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.sampler.config == APPROXIMATE.exact


def test_rollouts_below_the_limit_stay_as_they_are() -> None:
    far = replace(APPROXIMATE, drift_limit=100.0)
    run = train(never, steps=2, sampler=far, policy=drifting_backbone())
    assert all("rollout/drift_mean" in line for line in run.lines)
    assert run.module.sampler.config == far


def test_a_cache_that_drifts_is_renewed_before_it_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two steps a block: a cache that is renewed in every one of them is exact to rounding."""
    limit = replace(REFRESHED, drift_limit=1e-4)
    run = train(never, steps=3, sampler=limit, policy=drifting_backbone())
    first, *later = (line["rollout/drift_mean"] for line in run.lines)
    assert first > 1e-4
    assert max(later) < 1e-5
    assert run.lines[1]["compute/rollout"] > run.lines[0]["compute/rollout"]
    assert run.module.sampler.config == replace(limit, cache_refresh=1)
    assert caplog.text.count("from the next step on sampler.cache_refresh=1") == 1


# ---- the rule -----------------------------------------------------------------------------------


def test_a_cache_is_renewed_twice_as_often_each_time_and_exact_in_the_end() -> None:
    limit = DriftLimit(LONG)
    sampler, told = replace(LONG, drift_action="refresh"), []
    for _ in range(5):
        sampler, why = limit.judge(sampler, measured(0.4))
        told.append(why.partition("; from the next step on ")[2])
    assert told == [
        "sampler.cache_blocks=1",
        "sampler.cache_refresh=4",
        "sampler.cache_refresh=2",
        "sampler.cache_refresh=1",
        "the sampler is exact",
    ]
    assert sampler == LONG.exact
    assert limit.judge(sampler, {}) == (sampler, "")


def test_tokens_committed_together_that_drift_are_committed_by_schedule() -> None:
    """With a cache that does not drift the cache stays; without one the sampler is exact."""
    parallel = replace(LONG, confidence_threshold=0.5, drift_joint_limit=3.0)
    slower, why = DriftLimit(parallel).judge(parallel, measured(0.1, joint=3.5))
    assert slower == replace(LONG, drift_joint_limit=None)
    assert why == (
        "tokens committed together are 3.5 nats a token from the policy's, above "
        "sampler.drift_joint_limit=3; from the next step on sampler.confidence_threshold=null"
    )
    uncached = replace(parallel, cache="none", cache_blocks=1)
    assert DriftLimit(uncached).judge(uncached, measured(0.0, joint=3.5))[0] == uncached.exact


def test_few_tokens_decide_nothing_and_many_steps_decide_together() -> None:
    limit = DriftLimit(LONG)
    parallel = replace(LONG, confidence_threshold=0.5, drift_joint_limit=3.0)
    few = measured(0.0, joint=5.0, weight=FEWEST_STEPS - 1)
    assert DriftLimit(parallel).judge(parallel, few) == (parallel, "")
    half = FEWEST_TOKENS // 2
    assert limit.judge(LONG, measured(0.5, weight=half)) == (LONG, "")
    # (0.5 + 0.1) / 2 is not above 0.3, (0.5 + 0.1 + 0.4) / 3 is.
    assert limit.judge(LONG, measured(0.1, weight=half)) == (LONG, "")
    assert limit.judge(LONG, measured(0.4, weight=half))[0] == LONG.exact


def test_a_resumed_run_judges_as_the_one_that_went_on() -> None:
    """A checkpoint holds plain values: the text of JSON is enough."""
    given = replace(LONG, drift_action="refresh")
    whole, first, second = (DriftLimit(given) for _ in range(3))
    steps = [measured(d, weight=20) for d in (0.5, 0.4, 0.2, 0.7, 0.1, 0.9)]
    sampler, expected = given, []
    for step in steps:
        sampler, why = whole.judge(sampler, step)
        expected.append((sampler, why))
    assert sum(bool(why) for _, why in expected) >= 2
    sampler, found = given, []
    for step in steps[:3]:
        sampler, why = first.judge(sampler, step)
        found.append((sampler, why))
    sampler = second.resume(json.loads(json.dumps(first.state(sampler))))
    assert sampler == found[-1][0]
    for step in steps[3:]:
        sampler, why = second.judge(sampler, step)
        found.append((sampler, why))
    assert found == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drift_share": 0.0}, "sampler.drift_limit=0.3: needs a measurement"),
        ({"drift_joint_limit": 3.0}, "sampler.drift_joint_limit=3.0: limits parallel commits"),
        ({"drift_action": "never"}, "sampler.drift_action=never: use one of exact, refresh"),
        (
            {"cache": "none", "cache_blocks": 1, "drift_action": "refresh"},
            "sampler.drift_action=refresh: there is no cache to refresh",
        ),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(LONG, **changes)
