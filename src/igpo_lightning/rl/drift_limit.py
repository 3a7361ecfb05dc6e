"""Rollouts that drift too far from the policy: which sampler a run goes on with."""

from dataclasses import fields, replace
from typing import Any

from igpo_lightning.rl.measures import Measure, Measures, mean
from igpo_lightning.settings import SamplerConfig

# Before a limit is asked. Of a step's tokens the joint drift compares one.
FEWEST_TOKENS, FEWEST_STEPS = 32, 8


class DriftLimit:
    """Judges a run's rollouts by all that was measured since the sampler last changed.

    What one step measures is little. The cache's drift is cured by renewing it, that of tokens
    committed together by committing fewer.

    Attributes:
        given: The sampler of the settings.
        cache: Mean difference of log-probabilities on the same canvas, `rollout/drift_mean`.
        joint: The same once the other tokens of the step are seen, `rollout/drift_joint`.
    """

    def __init__(self, given: SamplerConfig) -> None:
        self.given = given
        self.cache = self.joint = mean(0.0, 0.0)

    def judge(self, sampler: SamplerConfig, measures: Measures) -> tuple[SamplerConfig, str]:
        """The sampler of the next step, and in words why it is another one; empty if it is not.

        Args:
            sampler: Of the step.
            measures: Of the step, over all ranks.
        """
        nothing = mean(0.0, 0.0)
        self.cache = self.cache.join(measures.get("rollout/drift_mean", nothing))
        self.joint = self.joint.join(measures.get("rollout/drift_joint", nothing))
        if _above(self.joint, FEWEST_STEPS, sampler.drift_joint_limit):
            after = sampler.exact if sampler.cache == "none" else sampler.by_schedule
            why = _why("tokens committed together are", self.joint, sampler, "drift_joint_limit")
        elif _above(self.cache, FEWEST_TOKENS, sampler.drift_limit):
            after = sampler.fresher if sampler.drift_action == "refresh" else sampler.exact
            why = _why("the rollouts' log-probabilities are", self.cache, sampler, "drift_limit")
        else:
            return sampler, ""
        self.cache = self.joint = nothing
        return after, f"{why}; from the next step on {_change(sampler, after)}"

    def state(self, sampler: SamplerConfig) -> dict[str, Any]:
        """For a checkpoint: what was measured, and what is changed in the sampler."""
        parts = {"cache": self.cache, "joint": self.joint}
        measured: dict[str, Any] = {name: [m.value, m.weight] for name, m in parts.items()}
        return measured | {"changed": _changed(self.given, sampler)}

    def resume(self, state: dict[str, Any]) -> SamplerConfig:
        """Take up a checkpoint's; returns its sampler."""
        self.cache, self.joint = mean(*state["cache"]), mean(*state["joint"])
        return replace(self.given, **state["changed"])


def _above(drift: Measure, fewest: int, limit: float | None) -> bool:
    enough = drift.weight >= fewest
    return limit is not None and enough and drift.value / drift.weight > limit


def _why(what: str, drift: Measure, sampler: SamplerConfig, key: str) -> str:
    value = drift.value / drift.weight
    limit = getattr(sampler, key)
    return f"{what} {value:.3g} nats a token from the policy's, above sampler.{key}={limit:g}"


def _changed(before: SamplerConfig, after: SamplerConfig) -> dict[str, Any]:
    values = {field.name: getattr(after, field.name) for field in fields(after)}
    return {name: value for name, value in values.items() if value != getattr(before, name)}


def _change(before: SamplerConfig, after: SamplerConfig) -> str:
    if after == before.exact:
        return "the sampler is exact"
    changed = _changed(before, after).items()
    shown = [(name, value) for name, value in changed if not name.startswith("drift_")]
    return ", ".join(f"sampler.{name}={'null' if v is None else v}" for name, v in shown)
