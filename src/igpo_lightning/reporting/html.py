"""The report: one HTML file about a run or a sweep that opens from disk and needs no network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from igpo_lightning.evaluation.intervals import SeedMean
from igpo_lightning.reporting import report_plots
from igpo_lightning.reporting.kinds import accuracy_text, evaluated_on, mean_text, percent
from igpo_lightning.reporting.plots import GREEN, ORANGE
from igpo_lightning.reporting.run_data import RunData, read_run, read_sweep, varied_keys
from igpo_lightning.reporting.sweep_settings import Setting, settings_of
from igpo_lightning.reporting.viewer_samples import viewer_samples
from igpo_lightning.runs.metrics_file import column
from igpo_lightning.runs.provenance import read_provenance

REPORT_FILE = "report.html"


def best_settings(settings: Sequence[Setting]) -> list[Setting]:
    """The settings that pictures draw: all, or the most accurate ones, in their own order."""

    def accuracy_of(setting: Setting) -> float:
        result = setting.summary_mean("after", "mean")
        return -1.0 if result is None else result.mean

    best = sorted(settings, key=accuracy_of, reverse=True)[: report_plots.DRAWN]
    return [setting for setting in settings if setting in best]


def seed_interval(result: SeedMean | None) -> str:
    """A mean over seeds with its interval; of one seed the table's caption says why it has none."""
    seeds = f" ({result.count} seeds)" if result is not None and result.half is not None else ""
    return mean_text(result) + seeds


def config_rows(runs: Sequence[RunData]) -> list[tuple[str, list[str], bool]]:
    """(key, its values over the runs, whether they differ), first the keys that differ.

    Where each run writes is no difference between runs: such values are left out.
    """
    configs = [run.config for run in runs if run.config]
    keys = sorted({key for config in configs for key in config})
    rows = []
    for key in keys:
        values = list(dict.fromkeys(str(config.get(key, "(absent)")) for config in configs))
        if len(values) == 1 or not key.startswith("logger."):
            rows.append((key, values, len(values) > 1))
    return sorted(rows, key=lambda row: not row[2])


def pictures(settings: Sequence[Setting]) -> list[str]:
    """Every picture that the runs have numbers for, as SVG."""
    drawn = best_settings(settings)
    groups = [(setting.label, setting.runs) for setting in drawn]

    def over_settings(title: str, metric: str, share: bool = False) -> str | None:
        return report_plots.curve(title, [(*group, metric) for group in groups], share)

    asked = evaluated_on(run for setting in settings for run in setting.runs)
    found = [
        over_settings(f"accuracy on {asked} during training", "eval/accuracy", share=True),
        over_settings("the same, sampled as in rollouts", "eval/sampled_accuracy", share=True),
        over_settings("training accuracy before injection", "reward/accuracy_before", share=True),
    ]
    if not _same_curves(drawn, "reward/accuracy_before", "reward/mean_before"):
        found.append(over_settings("mean reward before injection", "reward/mean_before"))
    if len(drawn) == 1:
        runs = drawn[0].runs
        wrong = [
            ("before injection", runs, "group/all_wrong_before"),
            ("after injection", runs, "group/all_wrong_after"),
        ]
        hints = [
            ("right answers among hinted samples", runs, "hint/correct_share"),
            ("hint ratio", runs, "hint/ratio_mean"),
        ]
        found.append(report_plots.curve("share of all-wrong groups", wrong, share=True))
        found.append(report_plots.curve("hinted samples", hints, share=True))
    else:
        title = "all-wrong groups before injection"
        found.append(over_settings(title, "group/all_wrong_before", share=True))
        found.append(_all_wrong_bars(drawn))
    found += [
        report_plots.pass_curves(pass_lines(drawn)),
        report_plots.hint_fraction(hint_points(settings)),
        over_settings("KL to the reference", "policy/kl"),
        over_settings("gradient norm before clipping", "policy/grad_norm"),
        over_settings("entropy of the policy (nats per token)", "rollout/entropy"),
        over_settings("fine-tuning loss (nats per token)", "sft/loss"),
        over_settings("validation loss (nats per token)", "sft/val_loss"),
        _time_bars(drawn),
    ]
    return [picture for picture in found if picture is not None]


def _same_curves(settings: Sequence[Setting], one: str, other: str) -> bool:
    """Whether two metrics draw the same lines, as reward and accuracy do without other rewards."""
    return all(
        report_plots.band(setting.runs, one) == report_plots.band(setting.runs, other)
        for setting in settings
    )


def header_facts(run: RunData) -> dict[str, str]:
    """What a report says first about a run: what it trained, on what, with which versions."""
    config, made_with = run.config, read_provenance(run.folder)
    seconds = sum(run.summary.get(f"time/{phase}", 0.0) for phase in report_plots.PHASES)
    facts = {
        "stage": config.get("stage.name"),
        "model": config.get("model.path"),
        "data": config.get("data.path") or config.get("data.name"),
        "seed": config.get("seed"),
        "started": made_with.get("started"),
        "time in steps": duration(seconds) if seconds else None,
        "commit": made_with.get("commit"),
        "versions": ", ".join(f"{k} {v}" for k, v in made_with.get("versions", {}).items()),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def duration(seconds: float) -> str:
    """A time span for people: 95 is "1 min 35 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def pass_lines(settings: Sequence[Setting]) -> dict[str, dict[int, tuple[float, float, float]]]:
    """pass@k of every evaluation with several samples per problem.

    The band is the interval over problems; where a setting has several runs, the lowest and the
    highest of them, as in the other curves.
    """
    curves: dict[str, list[Mapping[str, Sequence[float]]]] = {}
    for setting in settings:
        for run in setting.runs:
            for name, entry in _evaluations(run).items():
                # A run that stands alone needs no name where its evaluations have one.
                own = "" if name and len(settings) == 1 else setting.label
                label = ", ".join(filter(None, (own, name)))
                if entry.get("pass_at_k"):
                    curves.setdefault(label, []).append(entry["pass_at_k"])
    return {
        label: {int(k): _band([c[k] for c in found]) for k in set(found[0]).intersection(*found)}
        for label, found in curves.items()
    }


def _evaluations(run: RunData) -> dict[str, Mapping[str, Any]]:
    """The evaluations of a run by name; that after training, or of stage=eval, needs none."""
    suite = {entry["name"]: entry["accuracy"] for entry in run.summary.get("benchmarks", [])}
    named = {"": run.summary.get("after"), "before training": run.summary.get("before")}
    return {name: entry for name, entry in named.items() if entry} | suite


def _band(points: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(mean, low, high) of one point, or the mean and the ends of several ones' means."""
    if len(points) == 1:
        mean, low, high = points[0]
        return mean, low, high
    means = [mean for mean, _, _ in points]
    return sum(means) / len(means), min(means), max(means)


def hint_points(settings: Sequence[Setting]) -> list[tuple[float, float, str, SeedMean]]:
    """(lowest ratio, highest, label, accuracy) of each setting that measured its accuracy."""
    points = []
    for setting in settings:
        config = next((run.config for run in setting.runs if run.config), {})
        result = setting.summary_mean("after", "mean")
        if result is None or "inpaint.trigger" not in config:
            continue
        if result.half is None:  # one seed: the interval over problems
            ends = [setting.summary_mean("after", end) for end in ("low", "high")]
            low_end, high_end = (end.mean if end else result.mean for end in ends)
            result = replace(result, half=(high_end - low_end) / 2)
        if config["inpaint.trigger"] == "never" or config["inpaint.extra_samples"] == "plain":
            low = high = 0.0
        elif config["inpaint.ratio"] is not None:
            low = high = float(config["inpaint.ratio"])
        else:
            low, high = float(config["inpaint.ratio_low"]), float(config["inpaint.ratio_high"])
        points.append((low, high, setting.label, result))
    # One ratio in all settings says nothing about ratios.
    return points if len({point[:2] for point in points}) > 1 else []


def _all_wrong_bars(settings: Sequence[Setting]) -> str | None:
    values: dict[str, dict[str, float]] = {}
    for setting in settings:
        row = {when: setting.summary_mean(f"group/all_wrong_{when}") for when in _WHEN}
        values[setting.label] = {when: r.mean for when, r in row.items() if r is not None}
    title = "all-wrong groups, mean over the run"
    return report_plots.bars(title, values, _WHEN, "share of groups", share=True)


_WHEN = {"before": ORANGE, "after": GREEN}


def _time_bars(settings: Sequence[Setting]) -> str | None:
    values: dict[str, dict[str, float]] = {}
    for setting in settings:
        values[setting.label] = {}
        for phase in report_plots.PHASES:
            times = [t for run in setting.runs for t in column(run.metrics, f"time/{phase}")[1]]
            if times:
                values[setting.label][phase] = sum(times) / len(times)
    return report_plots.bars("time of a step by phase", values, report_plots.PHASES, "seconds")


def _embedded(data: object) -> Markup:
    """JSON that no text of a sample can break out of."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def render(folder: Path, sample_limit: int) -> str:
    """The page about a run folder or a sweep folder."""
    is_sweep = holds_sweep(folder)
    runs = read_sweep(folder) if is_sweep else [read_run(folder)]
    settings = settings_of(runs)
    samples = viewer_samples(runs, sample_limit)
    environment = Environment(
        loader=PackageLoader("igpo_lightning.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": accuracy_text,
        "seed_interval": seed_interval,
    }
    return environment.get_template("report.html").render(
        title=folder.resolve().name,
        is_sweep=is_sweep,
        evaluated_on=evaluated_on(runs),
        runs=runs,
        settings=settings,
        drawn=report_plots.DRAWN,
        facts=_shared_facts(runs),
        lone_seeds=any(len(setting.finished) == 1 for setting in settings),
        varied=varied_keys(runs),
        config_rows=config_rows(runs),
        pictures=[Markup(picture) for picture in pictures(settings)],
        samples=_embedded(samples.shown),
        shown=len(samples.shown),
        logged=samples.logged,
        damaged=samples.damaged,
    )


def _shared_facts(runs: Sequence[RunData]) -> dict[str, str]:
    """The facts in which all runs agree; of a sweep, what its runs differ in is in its tables."""
    facts = [header_facts(run) for run in runs if run.config]
    if not facts:
        return {}
    first, *others = facts
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def holds_sweep(folder: Path) -> bool:
    """Whether a folder holds runs instead of being one."""
    own = any((folder / name).exists() for name in ("metrics.csv", "summary.json", "samples.jsonl"))
    return not own and bool(read_sweep(folder))


def write_report(folder: Path, sample_limit: int) -> Path:
    """Write report.html into the folder; returns its place."""
    page = render(folder, sample_limit)
    file = folder / REPORT_FILE
    file.write_text(page, encoding="utf-8")
    return file
