"""The settings of a sweep: what its runs share that differ in their seed alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from igpo_lightning.config import DEFAULT_EXPERIMENT
from igpo_lightning.evaluation.intervals import SeedMean, seed_mean
from igpo_lightning.reporting.run_data import FINISHED, RunData, varied_keys


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
        told: The overrides ("key=value") that tell the setting from the others; () for a sweep over
            seeds alone, and for the runs that leave out what the others override.
        runs: Its runs, of whatever status.
        others: Whether the sweep has other settings, too.
    """

    told: tuple[str, ...]
    runs: tuple[RunData, ...]
    others: bool = False

    @property
    def label(self) -> str:
        """For people; beside others, what overrides nothing has the name of its experiment."""
        if self.told or not self.others:
            return ", ".join(self.told) or ("all runs" if len(self.runs) > 1 else "run")
        return f"experiment={self.runs[0].overrides.get('experiment', DEFAULT_EXPERIMENT)}"

    @property
    def name(self) -> str:
        """For patterns: the overrides as a command line holds them; "" without any."""
        return " ".join(self.told)

    @property
    def finished(self) -> dict[str, RunData]:
        """The finished runs by seed."""
        done = [run for run in self.runs if run.status == FINISHED]
        return {run.overrides.get("seed", "0"): run for run in done}

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of the runs that did not finish: every number lacks them."""
        return tuple(run.name for run in self.runs if run.status != FINISHED)

    def over_seeds(self, measure: Callable[[RunData], float | None]) -> dict[str, float]:
        """A finished run's number by seed, where it has one."""
        values = {seed: measure(run) for seed, run in self.finished.items()}
        return {seed: value for seed, value in values.items() if value is not None}

    def summary_mean(self, *keys: str) -> SeedMean | None:
        """Mean over the runs of a number of summary.json, found under nested keys."""
        return seed_mean([value for run in self.runs if (value := _nested(run, *keys)) is not None])


def _nested(run: RunData, *keys: str) -> float | None:
    node: Any = run.summary
    for key in keys:
        node = (node or {}).get(key)
    return None if node is None else float(node)


def settings_of(runs: Sequence[RunData]) -> list[Setting]:
    """The settings of a sweep, in the order of their first runs."""
    keys = [key for key in varied_keys(runs) if key != "seed"]
    groups: dict[tuple[str, ...], list[RunData]] = {}
    for run in runs:
        told = tuple(f"{key}={run.overrides[key]}" for key in keys if key in run.overrides)
        groups.setdefault(told, []).append(run)
    others = len(groups) > 1
    return [Setting(told, tuple(members), others) for told, members in groups.items()]
