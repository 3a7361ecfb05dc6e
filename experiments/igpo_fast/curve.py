"""The first picture of the README: accuracy against what went through the model, for both jobs.

`python experiments/igpo_fast/curve.py` reads what compare.py wrote to results/.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from igpo_lightning.reporting.report_plots import COLOURS

RESULTS = Path(__file__).parent / "results"
JOBS = {"main_job": "The main job", "hard": "hard_exploration"}
MILLION = 1e6


def draw(axes: plt.Axes, name: str) -> None:
    """Mean over seeds of each setting at its evaluations; seeds as thin lines."""
    settings = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["settings"]
    means = {}
    for colour, row in zip(COLOURS, settings, strict=False):
        curves = list(row["curves"].values())
        tokens = np.array([curve["compute"] for curve in curves]) / MILLION
        accuracy = 100 * np.array([curve["accuracy"] for curve in curves])
        for places, values in zip(tokens, accuracy, strict=True):
            axes.plot(places, values, color=colour, alpha=0.25, linewidth=0.6)
        mean = tokens.mean(axis=0), accuracy.mean(axis=0)
        axes.plot(*mean, "o-", color=colour, markersize=4, label=row["name"])
        means[row["name"]] = mean
        last = curves[0]["step"][-1]
        axes.annotate(
            f"{row['name']}: {last:.0f} steps,\n{mean[0][-1]:.2f} M tokens, {mean[1][-1]:.1f} %",
            (mean[0][-1], mean[1][-1]),
            xytext=(0, 10),
            textcoords="offset points",
            ha="left" if row["name"] == "igpo_fast" else "right",
            color=colour,
        )
    end = means["igpo_fast"][0][-1]
    there = float(np.interp(end, *means["igpo_paper"]))
    axes.plot([end, end], [0, means["igpo_fast"][1][-1]], ":", color="grey", linewidth=1)
    axes.annotate(
        f"igpo_paper with the same tokens: {there:.0f} %",
        (end, there),
        xytext=(12, -14),
        textcoords="offset points",
        color="grey",
    )
    axes.set(xlabel="tokens through the model, millions", xlim=(-0.05, None), ylim=(0, 75))
    axes.set_title(f"{JOBS[name]}, {len(settings[0]['curves'])} seeds", loc="left", fontsize=10)
    axes.grid(alpha=0.25)


def main() -> None:
    """Draw results/curve.png."""
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure, grid = plt.subplots(
            1, len(JOBS), figsize=(10, 3.8), sharey=True, layout="constrained"
        )
        for axes, name in zip(grid, JOBS, strict=True):
            draw(axes, name)
        grid[0].set_ylabel("held-out accuracy, %")
        figure.savefig(RESULTS / "curve.png", dpi=110)


if __name__ == "__main__":
    main()
