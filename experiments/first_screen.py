"""Draws the README's picture from committed results: python experiments/first_screen.py

Left: IGPO against GRPO over rollout steps. Right: the mean accuracy on the way over the hint ratio,
for traces in the policy's own words and in others. Thin lines and pale dots are seeds, thick ones
their means, bars 95 % intervals.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from igpo_lightning.reporting.plots import BLUE, GREEN, ORANGE

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "first_screen.png"
MEASURE = "mean over steps"
RANGE = "U[0.2, 0.6]"  # the setting that draws its ratio; drawn as wide as its range


def settings(experiment: str, results: str) -> dict[str, dict[str, Any]]:
    """The settings of committed results by name."""
    file = ROOT / "experiments" / experiment / "results" / f"{results}.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["settings"]
    return {row["name"]: row for row in rows}


def draw_methods(axes: Any) -> None:
    """Held-out accuracy over rollout steps."""
    colours = {"GRPO": BLUE, "GRPO, resampled": ORANGE, "IGPO": GREEN}
    for name, row in settings("igpo_against_grpo", "rare").items():
        curves = list(row["curves"].values())
        for curve in curves:
            axes.plot(curve["step"], curve["accuracy"], color=colours[name], alpha=0.5, lw=0.8)
        columns = zip(*(curve["accuracy"] for curve in curves), strict=True)
        means = [sum(column) / len(column) for column in columns]
        axes.plot(curves[0]["step"], means, "o-", color=colours[name], label=name, lw=2, ms=4)
    axes.set_title("IGPO against GRPO, five seeds", loc="left", fontsize=10)
    axes.set_xlabel("rollout steps")
    axes.set_xticks(range(0, 21, 5))
    axes.set_ylabel("held-out accuracy")
    axes.legend(frameon=False, fontsize=8)


def draw_ratios(axes: Any) -> None:
    """Accuracy, averaged over the steps, over the hint ratio."""
    wordings = (("results", "the policy's own", GREEN), ("values", "other", ORANGE))
    for results, label, colour in wordings:
        rows = {name: row[MEASURE] for name, row in settings("hint_fraction", results).items()}
        fixed = {float(name.split()[0]): row for name, row in rows.items() if name != RANGE}
        for ratio, row in fixed.items():
            seeds = list(row["seeds"].values())
            axes.plot([ratio] * len(seeds), seeds, "o", color=colour, alpha=0.3, ms=3)
        means = [row["mean"] for row in fixed.values()]
        axes.plot(list(fixed), means, "o-", color=colour, lw=2, ms=4, label=f"in {label} words")
        drawn = rows[RANGE]
        place = {"xerr": 0.2, "yerr": drawn["half"], "fmt": "s", "capsize": 3, "ms": 5}
        axes.errorbar([0.4], [drawn["mean"]], color=colour, alpha=0.7, mfc="white", **place)
    axes.set_title("how much of the trace to give (squares: U[0.2, 0.6])", loc="left", fontsize=10)
    axes.set_xlabel("hint ratio (0: no hints)")
    axes.set_ylabel("held-out accuracy, mean over steps")
    axes.legend(frameon=False, fontsize=8, loc="upper right", title="traces")


def main() -> None:
    """Write the picture."""
    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with matplotlib.rc_context(style):
        figure, grid = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained", sharey=True)
        draw_methods(grid[0])
        draw_ratios(grid[1])
        for axes in grid:
            axes.set_ylim(-0.02, 0.8)
            axes.grid(alpha=0.25)
        figure.savefig(PICTURE, dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    main()
