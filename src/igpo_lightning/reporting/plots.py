"""Curves of a run, drawn from its metrics.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # for every picture: all take their colours from this file
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from igpo_lightning.runs.metrics_file import METRICS_FILE, column, read_metrics

CURVES_FILE = "curves.png"
# Okabe and Ito's palette: distinct to colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
Rows = list[dict[str, float]]


def smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Running mean over the last few values."""
    parts = [values[max(0, i + 1 - window) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]


@dataclass(frozen=True)
class Shares:
    """A panel of shares from 0 to 1, in which one kind is drawn solid and another one dashed.

    Attributes:
        title: Of the panel.
        solid: Metric and what it is.
        dashed: Metric and what it is; drawn where it differs from the solid one.
        evaluated: Values of a few evaluations, drawn as points with their intervals; otherwise
            values of every step, drawn as a running mean.
    """

    title: str
    solid: tuple[str, str]
    dashed: tuple[str, str]
    evaluated: bool = False


PANELS = (
    Shares(
        "evaluation problems answered right",
        ("eval/accuracy", "greedy"),
        ("eval/sampled_accuracy", "sampled as in rollouts"),
        evaluated=True,
    ),
    Shares(
        "training samples that are right",
        ("reward/accuracy_before", "as sampled"),
        ("reward/accuracy", "after injection"),
    ),
    Shares(
        "groups whose samples are all wrong",
        ("group/all_wrong_before", "as sampled"),
        ("group/all_wrong_after", "after injection"),
    ),
)


def finish(axes: Any, title: str, label: str = "rollout step", **legend: Any) -> None:
    """Title, label of the steps, and a legend where lines have names, placed by `legend`."""
    axes.set_title(title)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**legend)


def draw_shares(axes: Any, panel: Shares, runs: Mapping[str, tuple[str, Sequence[Rows]]]) -> None:
    """Draw a panel for each of several settings.

    Args:
        runs: Name: (colour, metrics of the runs, which differ in their seed alone). An empty name
            leaves the kinds alone in the legend.
    """
    for place, (name, (colour, seeds)) in enumerate(runs.items()):
        width = 1.8 + 1.6 * (len(runs) - 1 - place)  # a line that coincides with the next shows
        solid = [column(rows, panel.solid[0]) for rows in seeds]
        dashed = [column(rows, panel.dashed[0]) for rows in seeds]
        for (_, kind), curves, line in ((panel.solid, solid, "-"), (panel.dashed, dashed, "--")):
            if any(values for _, values in curves) and (line == "-" or dashed != solid):
                label = ", ".join(filter(None, (name, kind)))
                style = {"color": colour, "ls": line, "label": label, "lw": width}
                _draw_seeds(axes, curves, panel.evaluated, style)
        if panel.evaluated and len(seeds) == 1:
            steps, low = column(seeds[0], f"{panel.solid[0]}_low")
            high = column(seeds[0], f"{panel.solid[0]}_high")[1]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(-0.02, 1.02)
    # The legend stands below: lines go everywhere.
    finish(axes, panel.title, loc="upper left", bbox_to_anchor=(0, -0.14))


def _draw_seeds(
    axes: Any,
    curves: Sequence[tuple[list[float], list[float]]],
    evaluated: bool,
    style: Mapping[str, Any],
) -> None:
    """Each seed thin, and their mean over the steps that all have thick."""
    smoothed = [(steps, values if evaluated else smooth(values)) for steps, values in curves]
    for steps, values in smoothed if len(smoothed) > 1 else []:
        axes.plot(steps, values, **{**style, "label": None, "alpha": 0.35, "lw": 0.8})
    common = sorted(set.intersection(*(set(steps) for steps, _ in smoothed)))
    at = [dict(zip(steps, values, strict=True)) for steps, values in smoothed]
    means = [sum(values[step] for values in at) / len(at) for step in common]
    axes.plot(common, means, marker="o" if evaluated else None, ms=2.5 + style["lw"], **style)


def _line(axes: Any, rows: Rows, name: str, label: str, colour: str) -> None:
    steps, values = column(rows, name)
    if steps:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(values), color=colour, label=label, linewidth=1.8)


def plot_rl_curves(folder: Path) -> None:
    """Write curves.png: accuracy of each kind, all-wrong groups, hints, policy health, time."""
    rows = read_metrics(folder / METRICS_FILE)
    if not rows:
        return
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13, 6.8), layout="constrained")
        for axes, panel in zip(grid[0], PANELS, strict=True):
            draw_shares(axes, panel, {"": (BLUE, [rows])})
        hints, policy, times = grid[1]
        _line(hints, rows, "hint/correct_share", "right among them", GREEN)
        _line(hints, rows, "hint/ratio_mean", "share of the trace given", ORANGE)
        hints.set_ylim(-0.02, 1.02)
        given = bool(column(rows, "hint/ratio_mean")[0])
        finish(hints, "hinted samples" if given else "hinted samples: none in this run")
        _line(policy, rows, "policy/clip_fraction", "clipped share", PURPLE)
        _line(policy, rows, "policy/kl", "KL to the reference", BLUE)
        _line(policy, rows, "rollout/entropy", "entropy (nats per token)", GREEN)
        finish(policy, "policy")
        for name, colour in (("rollout", BLUE), ("grading", ORANGE), ("update", GREEN)):
            _line(times, rows, f"time/{name}", name, colour)
        times.set_ylim(bottom=0)
        finish(times, "seconds per step")
        figure.savefig(folder / CURVES_FILE, dpi=100)
        plt.close(figure)


def plot_sft_curves(folder: Path) -> None:
    """Write curves.png: training and validation loss."""
    rows = read_metrics(folder / METRICS_FILE)
    if not rows:
        return
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
        _line(axes, rows, "sft/loss", "training", BLUE)
        steps, values = column(rows, "sft/val_loss")
        if steps:
            axes.plot(steps, values, "o--", color=ORANGE, label="validation", markersize=4)
        finish(axes, "NELBO (nats a completion token)", "optimizer step")
        figure.savefig(folder / CURVES_FILE, dpi=100)
        plt.close(figure)
