"""A few RL settings beside each other: one table, one picture, and one sentence why they differ."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from rich.table import Table

from igpo_lightning.evaluation.intervals import seed_mean
from igpo_lightning.reporting.kinds import (
    COUNTED,
    WHEN,
    WINDOW,
    accuracy_text,
    drawn_how,
    evaluated_on,
    mean_text,
    window_means,
)
from igpo_lightning.reporting.plots import BLUE, GREEN, ORANGE, PANELS, PURPLE, STYLE, draw_shares
from igpo_lightning.reporting.run_data import FINISHED, RunData
from igpo_lightning.reporting.sweep_settings import Setting, settings_of
from igpo_lightning.reporting.tables import table_of
from igpo_lightning.runs.metrics_file import column

PICTURE = "side_by_side.png"
COLOURS = (BLUE, GREEN, ORANGE, PURPLE)


def comparable(runs: Sequence[RunData]) -> list[Setting]:
    """The settings to put side by side: two to four, of finished RL runs; otherwise none."""
    settings = settings_of(runs)
    trained = all(run.status == FINISHED and "group/all_wrong_after" in run.summary for run in runs)
    return settings if trained and 2 <= len(settings) <= len(COLOURS) else []


def _over_seeds(setting: Setting, measure: Callable[[RunData], float | None]) -> str:
    """Mean, and with several seeds half of its 95 % interval."""
    return mean_text(seed_mean(list(setting.over_seeds(measure).values())))


def _accuracy(setting: Setting, key: str) -> str:
    """An accuracy of summary.json: of one seed with the interval over problems."""
    if len(setting.runs) == 1:
        return accuracy_text(setting.runs[0].summary.get(key))
    return _over_seeds(setting, lambda run: (run.summary.get(key) or {}).get("mean"))


def _window(setting: Setting, name: str, end: int) -> str:
    def measure(run: RunData) -> float | None:
        means = window_means(run.metrics, name)
        return None if means is None else means[end]

    return _over_seeds(setting, measure)


def side_by_side(settings: Sequence[Setting]) -> Table:
    """A row for each kind of accuracy, a column for each setting."""
    run = settings[0].runs[0]
    # "held-out greedy", but "training problems greedy": "training" alone would read as a phase.
    asked = _asked(settings).replace("held-out problems", "held-out")
    rows = []
    for suffix, key in (("", "eval.temperature"), ("_sampled", "sampler.temperature")):
        how = drawn_how(run.config[key]).split(" at ")[0]
        for when in WHEN:
            if when + suffix in run.summary:
                cells = [_accuracy(setting, when + suffix) for setting in settings]
                rows.append([f"{asked} {how} {when} training", *cells])
    for what, metrics in COUNTED.items():
        for kind, name in zip(("as sampled", "after injection"), metrics, strict=True):
            cells = [_window(setting, name, end=1) for setting in settings]
            rows.append([f"{what} {kind}", *cells])
    return table_of(_title(settings), ["", *(setting.label for setting in settings)], rows)


def _asked(settings: Sequence[Setting]) -> str:
    """What the problems of the evaluations are to the policies."""
    return evaluated_on(run for setting in settings for run in setting.runs)


def _title(settings: Sequence[Setting]) -> str:
    """What the numbers are of, and what their intervals are over."""
    run, seeds = settings[0].runs[0], max(len(setting.runs) for setting in settings)
    entry = run.summary.get("after") or run.summary.get("before") or {}
    steps = len(column(run.metrics, "reward/accuracy")[0])
    over = "[95 % interval]" if seeds == 1 else f"± half of the 95 % interval, {seeds} seeds"
    return (
        f"{entry.get('problems', 0)} {_asked(settings)} {over}; "
        f"rollouts: last {min(WINDOW, steps)} of {steps} steps"
    )


def reason(settings: Sequence[Setting]) -> str:
    """Why the settings differ, by the share of groups that training had no use for."""
    wrong = "group/all_wrong_after"
    shares = [
        f"{_over_seeds(setting, lambda run: run.summary.get(wrong))} with {setting.label}"
        for setting in settings
    ]
    return (
        "Why: a group whose samples are all wrong has zero advantages, so nothing is learned from "
        f"it. Over the whole run that was {', '.join(shares)}."
    )


def plot_side_by_side(folder: Path, settings: Sequence[Setting]) -> Path:
    """Write the picture: accuracy, right samples and all-wrong groups over the steps."""
    lines: dict[str, tuple[str, list[list[dict[str, float]]]]] = {
        setting.label: (colour, [list(run.metrics) for run in setting.finished.values()])
        for setting, colour in zip(settings, COLOURS, strict=False)
    }
    first = replace(PANELS[0], title=f"{_asked(settings)} answered right")
    with plt.rc_context(STYLE):
        figure: Any
        figure, grid = plt.subplots(1, len(PANELS), figsize=(13, 5), layout="constrained")
        for axes, panel in zip(grid, (first, *PANELS[1:]), strict=True):
            draw_shares(axes, panel, lines)
        figure.savefig(folder / PICTURE, dpi=100)
        plt.close(figure)
    return folder / PICTURE
