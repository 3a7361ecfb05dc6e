"""Curves of a run, drawn from its metrics.csv."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from igpo_lightning.runs.metrics_file import METRICS_FILE, column, read_metrics

CURVES_FILE = "curves.png"
# Okabe and Ito's palette: distinct to colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"


def smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Running mean over the last few values."""
    parts = [values[max(0, i + 1 - window) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def _line(axes: Any, rows: list[dict[str, float]], name: str, label: str, colour: str) -> None:
    steps, values = column(rows, name)
    if steps:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(values), color=colour, label=label, linewidth=1.8)


def _finish(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(label)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _plot_held_out(axes: Any, summary: dict[str, Any], steps: int) -> None:
    """Accuracy on held-out problems before and after training, with its 95 % interval."""
    ends = [(0, summary.get("before")), (steps, summary.get("after"))]
    found = [(at, entry) for at, entry in ends if entry]
    if found:
        means = [entry["mean"] for _, entry in found]
        below = [entry["mean"] - entry["low"] for _, entry in found]
        above = [entry["high"] - entry["mean"] for _, entry in found]
        axes.errorbar(
            [at for at, _ in found],
            means,
            yerr=(below, above),
            fmt="o--",
            capsize=3,
            color=ORANGE,
            label="held-out problems, before and after",
        )


def plot_rl_curves(folder: Path, summary: dict[str, Any]) -> None:
    """Write curves.png: accuracy, all-wrong groups, policy health, time per phase."""
    rows = read_metrics(folder / METRICS_FILE)
    if not rows:
        return
    figure, grid = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
    _line(grid[0, 0], rows, "reward/accuracy", "training samples (after injection)", BLUE)
    _plot_held_out(grid[0, 0], summary, len(column(rows, "reward/accuracy")[0]))
    grid[0, 0].set_ylim(0, 1)
    _finish(grid[0, 0], "accuracy", "rollout step")
    _line(grid[0, 1], rows, "group/all_wrong_before", "before injection", ORANGE)
    _line(grid[0, 1], rows, "group/all_wrong_after", "after injection", GREEN)
    grid[0, 1].set_ylim(0, 1)
    _finish(grid[0, 1], "share of all-wrong groups", "rollout step")
    _line(grid[1, 0], rows, "policy/clip_fraction", "clipped share", PURPLE)
    _line(grid[1, 0], rows, "policy/kl", "KL to the reference", BLUE)
    _line(grid[1, 0], rows, "rollout/entropy", "entropy (nats a token)", GREEN)
    _finish(grid[1, 0], "policy", "rollout step")
    phases = (("rollout", BLUE), ("grading", ORANGE), ("update", GREEN))
    for name, colour in phases:
        _line(grid[1, 1], rows, f"time/{name}", name, colour)
    grid[1, 1].set_ylim(bottom=0)
    _finish(grid[1, 1], "seconds a step", "rollout step")
    figure.savefig(folder / CURVES_FILE, dpi=110)
    plt.close(figure)


def plot_sft_curves(folder: Path) -> None:
    """Write curves.png: training and validation loss."""
    rows = read_metrics(folder / METRICS_FILE)
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    _line(axes, rows, "sft/loss", "training", BLUE)
    steps, values = column(rows, "sft/val_loss")
    if steps:
        axes.plot(steps, values, "o--", color=ORANGE, label="validation", markersize=4)
    _finish(axes, "NELBO (nats a completion token)", "optimizer step")
    figure.savefig(folder / CURVES_FILE, dpi=110)
    plt.close(figure)
