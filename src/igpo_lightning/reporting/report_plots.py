"""The report's pictures: SVG whose text and axes take the colour of the page around them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from igpo_lightning.evaluation.intervals import SeedMean
from igpo_lightning.reporting.plots import BLUE, GREEN, ORANGE, PURPLE, STYLE, finish
from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.runs.metrics_file import column

# Okabe and Ito's palette without yellow, which vanishes on white, and without black.
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00")
DASHES = ("-", "--", ":", "-.")  # a line is known by its dashes too, not by its colour alone
DRAWN = 8  # settings in one picture; more cannot be told apart
BLUE_VARIABLE = "var(--blue)"  # dark pages show a lighter blue
_SIZE = (4.6, 2.9)  # inches; the page shows pictures about 400 pixels wide
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE = STYLE | {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "grid.color": "#808080",
    "legend.fontsize": 10,
    "axes.titlesize": 12,
    **{
        key: _INK
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    },
}
PHASES = {"rollout": BLUE, "grading": ORANGE, "update": GREEN}


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element without size, so that it fills its place."""
    buffer = io.StringIO()
    # The salt keeps the ids of several pictures on one page apart.
    with plt.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return text.replace(BLUE.lower(), BLUE_VARIABLE)


def _draw(
    axes: Any, place: int, label: str, steps: Sequence[float], band: Any, marker: str | None
) -> None:
    """Draw a line, the `place`-th of its picture, with its band: (means, lowest, highest)."""
    means, low, high = band
    axes.plot(
        steps,
        means,
        DASHES[place % len(DASHES)],
        label=label,
        color=COLOURS[place % len(COLOURS)],
        linewidth=max(1.3, 3.4 - 0.8 * place),  # earlier ones show below those that cover them
        marker=marker,
        markersize=4,
    )
    if low != high:
        colour = COLOURS[place % len(COLOURS)]
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)


def band(
    runs: Sequence[RunData], name: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Steps, and at each the mean, lowest and highest value of the runs that have one.

    Of a single run's accuracy, the ends of its interval over problems take the place of both.
    """
    if len(runs) == 1:
        steps, low = column(runs[0].metrics, f"{name}_low")
        if steps:
            rows = [row for row in runs[0].metrics if f"{name}_low" in row]
            return steps, [row[name] for row in rows], low, [row[f"{name}_high"] for row in rows]
    at: dict[float, list[float]] = {}
    for run in runs:
        for step, value in zip(*column(run.metrics, name), strict=True):
            at.setdefault(step, []).append(value)
    steps = sorted(at)
    means = [sum(at[step]) / len(at[step]) for step in steps]
    return steps, means, [min(at[step]) for step in steps], [max(at[step]) for step in steps]


def curve(
    title: str, lines: Sequence[tuple[str, Sequence[RunData], str]], share: bool = False
) -> str | None:
    """Curves over steps; None where no run measured any of it.

    Args:
        lines: (label, runs that are seeds of one setting, metric) for each line.
        share: The values are shares, drawn from 0 to 1.
    """
    drawn, lowest = False, 0.0
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
        for place, (label, runs, name) in enumerate(lines):
            steps, means, low, high = band(runs, name)
            if not steps:
                continue
            drawn = True
            lowest = min(lowest, *low)
            marker = "o" if len(steps) < 12 else None
            name = label if len(lines) > 1 else ""
            _draw(axes, place, name, steps, (means, low, high), marker)
        if share:
            axes.set_ylim(-0.02, 1.02)
        elif lowest >= 0:
            axes.set_ylim(bottom=0)
        finish(axes, title, "step")
        axes.ticklabel_format(axis="y", useOffset=False)
        if not drawn:
            plt.close(figure)
            return None
        return _svg(figure, title)


def bars(
    title: str,
    values: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
    unit: str,
    share: bool = False,
) -> str | None:
    """Bars: for each label (a setting) one for each series; None without any value.

    Args:
        values: For each label, the value of each series.
        colours: Of each series.
        share: The values are shares, drawn from 0 to 1.
    """
    if not any(values.values()):
        return None
    with plt.rc_context(_STYLE):
        height = 1.4 + 0.28 * len(values) * max(len(row) for row in values.values())
        figure, axes = plt.subplots(figsize=(_SIZE[0], max(2.0, height)), layout="constrained")
        thickness = 0.8 / len(colours)
        for place, (name, colour) in enumerate(colours.items()):
            rows = [i for i, row in enumerate(values.values()) if name in row]
            lengths = [list(values.values())[i][name] for i in rows]
            positions = [i + (place + 0.5) * thickness - 0.4 for i in rows]
            drawn = axes.barh(positions, lengths, thickness * 0.9, color=colour, label=name)
            axes.bar_label(drawn, fmt=lambda v: f" {v:.3g}", fontsize=9)
        axes.set_yticks(range(len(values)), list(values))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.16)
        if share:
            axes.set_xlim(0, 1.12)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        # Over the whole picture: long labels leave the axes too little room for it.
        figure.suptitle(title, x=0.02, ha="left", fontsize=_STYLE["axes.titlesize"])
        axes.set_xlabel(unit)
        figure.legend(loc="outside lower center", ncols=len(colours))
        return _svg(figure, title)


def pass_curves(lines: Mapping[str, Mapping[int, Sequence[float]]]) -> str | None:
    """pass@k over k, with a band; None without any curve.

    Args:
        lines: For each label k: (mean, low, high).
    """
    if not lines:
        return None
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
        for place, (label, points) in enumerate(lines.items()):
            steps = sorted(points)
            _draw(axes, place, label, steps, zip(*(points[k] for k in steps), strict=True), "o")
        ticks = sorted({k for points in lines.values() for k in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("pass@k")
        axes.set_xlabel("k samples, of which one has to be right")
        axes.legend()
        return _svg(figure, "pass@k")


def hint_fraction(points: Sequence[tuple[float, float, str, SeedMean]]) -> str | None:
    """Accuracy over the hint ratio eta, as the paper draws it.

    Args:
        points: (lowest ratio, highest ratio, label, accuracy) for each setting; a setting with a
            range is drawn as wide as its range.

    Returns:
        The picture; None with fewer than two settings, which would compare nothing.
    """
    if len(points) < 2:
        return None
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
        for place, (fixed, colour) in enumerate(((True, BLUE), (False, ORANGE))):
            chosen = sorted((p for p in points if (p[0] == p[1]) == fixed), key=lambda p: p[:2])
            if not chosen:
                continue
            axes.errorbar(
                [(low + high) / 2 for low, high, _, _ in chosen],
                [result.mean for *_, result in chosen],
                xerr=[(high - low) / 2 for low, high, _, _ in chosen],
                yerr=[result.half or 0.0 for *_, result in chosen],
                fmt="o-" if fixed else "s",
                color=colour,
                capsize=3,
                label=("one ratio", "drawn from a range")[place],
            )
        axes.set_xlim(-0.05, 1.05)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("accuracy after training over the hint ratio")
        axes.set_xlabel("hint ratio (0: no hints)")
        axes.legend()
        return _svg(figure, "hint ratio")
