"""Compares the settings of sweeps, seed by seed, and writes an experiment's results.

    python experiments/compare.py SWEEP ... --into EXPERIMENT --baseline NAME --name PATTERN=NAME

EXPERIMENT/results/results.json holds every number, results.png the curves; the table goes to
EXPERIMENT/README.md between the marks of that name. Intervals are 95 % of Student's t over seeds.
--seconds shows what runs of experiments/timed.py took, and the ratio to the baseline by seed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from comparison import (
    COMPUTED,
    GENERATED,
    accuracy_curve,
    curve_over,
    mean_height,
    mean_of,
    paired_difference,
    paired_ratio,
    spent,
    value_at,
)
from matplotlib.ticker import EngFormatter, MaxNLocator
from timed import seconds_of

from igpo_lightning.evaluation.intervals import SeedMean, seed_mean
from igpo_lightning.reporting.plots import smooth
from igpo_lightning.reporting.report_plots import COLOURS, DASHES
from igpo_lightning.reporting.run_data import RunData, read_sweep
from igpo_lightning.reporting.sweep_settings import Setting, settings_of
from igpo_lightning.reporting.tables import markdown_table
from igpo_lightning.runs.metrics_file import column

BUDGETS = {
    "tokens": (GENERATED, "generated tokens"),
    "compute": (COMPUTED, "tokens through the model"),
}
_SHARES = ("mean", "at ", "all-wrong", "pass@")  # what headings of shares start with
CLOCKS = {"processor seconds": "processor", "wall seconds": "wall"}
Measure = Callable[[RunData], float | None]


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sweeps, taken as one")
    parser.add_argument("--into", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--results", default="results", help="name of the files and of the marks")
    parser.add_argument("--baseline", required=True, help="name of what others are compared with")
    parser.add_argument(
        "--name", action="append", default=[], help="PATTERN=NAME of the settings, * for any text"
    )
    parser.add_argument("--budget", choices=BUDGETS, default="tokens", help="what is held equal")
    parser.add_argument(
        "--measure", action="append", default=[], help="METRIC=TEXT, a mean over steps to show too"
    )
    parser.add_argument("--seconds", action="store_true", help="what the whole runs took, too")
    parser.add_argument("--title", default="", help="of the picture")
    parser.add_argument(
        "--accuracy", type=float, nargs=2, default=(-0.02, 1.02), help="ends of the accuracy axes"
    )
    return parser.parse_args()


def named(settings: Sequence[Setting], names: Sequence[str]) -> dict[str, Setting]:
    """The settings by what they are called, in the order of the names."""
    patterns = [item.rpartition("=")[::2] for item in names]
    found: dict[str, Setting] = {}
    for setting in settings:
        name = next((n for pattern, n in patterns if fnmatchcase(setting.name, pattern)), None)
        if name is None or name in found:
            sys.exit(f"error: {setting.name!r} needs a --name of its own")
        found[name] = setting
    return {name: found[name] for _, name in patterns if name in found}


def measures_of(
    settings: Sequence[Setting], arguments: argparse.Namespace
) -> tuple[dict[str, Measure], float | None]:
    """The measured numbers by heading, and the budget: the least that any run spent in all.

    Evaluations have a final accuracy alone, pass@k where they took several samples, and no budget.
    """
    chosen: dict[str, Measure] = {"final accuracy": lambda run: run.summary["after"]["mean"]}
    if not has_curves(settings):
        return chosen | pass_at_k(settings), None
    metrics, unit = BUDGETS[arguments.budget]
    budget = min(spent(run, metrics)[-1] for s in settings for run in s.finished.values())
    chosen = {
        "accuracy at the start": lambda run: accuracy_curve(run)[1][0],
        **chosen,
        "mean over steps": lambda run: mean_height(*accuracy_curve(run)),
        f"at {budget / 1000:.0f}k {unit}": lambda run: value_at(*curve_over(run, metrics), budget),
        "all-wrong before": lambda run: run.summary.get("group/all_wrong_before"),
        "all-wrong after": lambda run: run.summary.get("group/all_wrong_after"),
        f"{unit}, k": lambda run: spent(run, metrics)[-1] / 1000,
    }
    for item in arguments.measure:
        metric, _, heading = item.partition("=")
        chosen[heading or metric] = lambda run, metric=metric: mean_of(run, metric)
    if arguments.seconds:
        for heading, clock in CLOCKS.items():
            chosen[heading] = lambda run, clock=clock: seconds_of(run.folder)[clock]
    return chosen, budget


def pass_at_k(settings: Sequence[Setting]) -> dict[str, Measure]:
    """pass@k by heading, for the k that every evaluation has."""
    runs = [run for setting in settings for run in setting.finished.values()]
    found = [run.summary["after"].get("pass_at_k") or {} for run in runs]
    common = [k for k in found[0] if all(k in curve for curve in found)]
    return {f"pass@{k}": lambda run, k=k: run.summary["after"]["pass_at_k"][k][0] for k in common}


def has_curves(settings: Sequence[Setting]) -> bool:
    """Whether the runs were evaluated while they trained."""
    return all(accuracy_curve(run)[0] for s in settings for run in s.finished.values())


def results_of(settings: Mapping[str, Setting], arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that results/NAME.json holds."""
    if arguments.baseline not in settings:
        sys.exit(f"error: no setting is called {arguments.baseline!r}; there are {list(settings)}")
    measures, budget = measures_of(list(settings.values()), arguments)
    baseline = settings[arguments.baseline]
    rows = []
    for name, setting in settings.items():
        row: dict[str, Any] = {"setting": setting.name, "name": name}
        row["unfinished"] = list(setting.unfinished)
        for heading, measure in measures.items():
            values = setting.over_seeds(measure)
            row[heading] = {"seeds": values, **_interval(seed_mean(list(values.values())))}
            if setting is not baseline:
                pair = values, baseline.over_seeds(measure)
                row[heading]["difference"] = _interval(paired_difference(*pair))
                if heading in CLOCKS:
                    row[heading]["ratio"] = _interval(paired_ratio(*pair))
        row["curves"] = {
            seed: dict(zip(("step", "accuracy"), accuracy_curve(run), strict=True))
            | {arguments.budget: curve_over(run, BUDGETS[arguments.budget][0])[0]}
            for seed, run in setting.finished.items()
        }
        rows.append(row)
    return {
        "command": f"sh {arguments.into}/run.sh",
        "baseline": arguments.baseline,
        "budget": budget,
        "settings": rows,
    }


def _interval(value: SeedMean | None) -> dict[str, float | None]:
    return {} if value is None else {"mean": value.mean, "half": value.half}


def _percent(entry: Mapping[str, Any], signed: bool = False) -> str:
    if "mean" not in entry:
        return ""
    sign = "+" if signed else ""
    half = "" if entry["half"] is None else f" ± {100 * entry['half']:.1f}"
    return f"{100 * entry['mean']:{sign}.1f}{half}"


def table_of(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table: shares in percent, other numbers as they are."""
    rows = results["settings"]
    headings = [key for key, entry in rows[0].items() if "seeds" in entry]
    shown = []
    for row in rows:
        cells = [row["name"], str(len(row["curves"]))]
        for heading in headings:
            share = "accuracy" in heading or heading.startswith(_SHARES)
            cells.append(_percent(row[heading]) if share else _small(row[heading]))
            if heading == "final accuracy":
                cells.append(_percent(row[heading].get("difference", {}), signed=True) or "-")
            if heading in CLOCKS:
                cells.append(_small(row[heading].get("ratio", {})) or "-")
        shown.append(cells)
    titles = ["setting", "seeds"]
    for heading in headings:
        titles.append(heading)
        if heading == "final accuracy":
            titles.append(f"against {results['baseline']}")
        if heading in CLOCKS:
            titles.append(f"over {results['baseline']}'s")
    return markdown_table(titles, shown)


def _small(entry: Mapping[str, Any]) -> str:
    if "mean" not in entry:
        return ""
    half = "" if entry["half"] is None else f" ± {entry['half']:.2g}"
    return f"{entry['mean']:.3g}{half}"


def put_table(readme: Path, mark: str, table: str) -> None:
    """Replace what stands between the marks of a README."""
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    if begin not in text or end not in text:
        sys.exit(f"error: {readme} has no lines {begin.strip()!r} and {end!r} to put the table in")
    head, rest = text.split(begin, 1)
    readme.write_text(f"{head}{begin}{table}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def _mean_band(
    axes: Any, curves: Sequence[tuple[Sequence[float], Sequence[float]]], place: int, label: str
) -> None:
    """Every seed as a thin line, their mean as a thick one, its 95 % interval as a band."""
    last = min(places[-1] for places, _ in curves)
    grid = [last * i / 40 for i in range(41)]
    found = [seed_mean([value_at(*curve, x) for curve in curves]) for x in grid]
    means = [entry.mean for entry in found if entry]
    halves = [entry.half or 0.0 for entry in found if entry]
    colour = COLOURS[place % len(COLOURS)]
    for places, values in curves:
        axes.plot(places, values, color=colour, alpha=0.35, linewidth=0.6)
    axes.plot(grid, means, DASHES[place // len(COLOURS) % len(DASHES)], color=colour, label=label)
    low = [m - h for m, h in zip(means, halves, strict=True)]
    high = [m + h for m, h in zip(means, halves, strict=True)]
    axes.fill_between(grid, low, high, color=colour, alpha=0.12, linewidth=0)


def draw(file: Path, settings: Mapping[str, Setting], arguments: argparse.Namespace) -> None:
    """The picture: accuracy over steps and over what was spent, all-wrong groups, final values."""
    metrics, unit = BUDGETS[arguments.budget]
    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with matplotlib.rc_context(style):
        figure, grid = plt.subplots(2, 2, figsize=(10, 6.6), layout="constrained")
        for place, (label, setting) in enumerate(settings.items()):
            runs = list(setting.finished.values())
            _mean_band(grid[0, 0], [accuracy_curve(run) for run in runs], place, label)
            _mean_band(grid[0, 1], [curve_over(run, metrics) for run in runs], place, label)
            wrong = [column(list(run.metrics), "group/all_wrong_before") for run in runs]
            _mean_band(grid[1, 0], [(x, smooth(y)) for x, y in wrong], place, label)
            finals = [accuracy_curve(run)[1][-1] for run in runs]
            mean = seed_mean(finals)
            colour = COLOURS[place % len(COLOURS)]
            grid[1, 1].plot(finals, [place] * len(finals), "o", color=colour, alpha=0.35, ms=5)
            if mean is not None:
                grid[1, 1].errorbar(
                    [mean.mean], [place], xerr=[mean.half or 0.0], fmt="|", color=colour, capsize=4
                )
        titles = (
            (grid[0, 0], "held-out accuracy", "rollout steps"),
            (grid[0, 1], "held-out accuracy", unit),
            (grid[1, 0], "all-wrong groups as sampled (mean of 5 steps)", "rollout steps"),
            (grid[1, 1], "final accuracy: seeds, mean, 95 % interval", "held-out accuracy"),
        )
        for axes, title, label in titles:
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel(label)
            axes.grid(alpha=0.25)
        for axes in (grid[0, 0], grid[0, 1]):
            axes.set_ylim(arguments.accuracy)
        grid[1, 0].set_ylim(-0.02, 1.02)
        grid[1, 1].set_xlim(arguments.accuracy)
        grid[1, 1].set_yticks(range(len(settings)), list(settings))
        grid[1, 1].invert_yaxis()
        for axes in (grid[0, 0], grid[1, 0]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid[0, 1].xaxis.set_major_formatter(EngFormatter(sep=""))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(arguments.title, fontsize=11, x=0.01, ha="left")
        figure.savefig(file, dpi=110)
        plt.close(figure)


def main() -> None:
    """Read the sweep, write the three files."""
    arguments = read_arguments()
    runs = [run for sweep in arguments.sweeps for run in read_sweep(sweep)]
    settings = named(settings_of(runs), arguments.name)
    if not settings or not all(setting.finished for setting in settings.values()):
        sys.exit(f"error: a setting without a finished run in {[str(s) for s in arguments.sweeps]}")
    results = results_of(settings, arguments)
    folder = arguments.into / "results"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{arguments.results}.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if has_curves(list(settings.values())):
        draw(file.with_suffix(".png"), settings, arguments)
    put_table(arguments.into / "README.md", arguments.results, table_of(results))
    print(table_of(results))


if __name__ == "__main__":
    main()
