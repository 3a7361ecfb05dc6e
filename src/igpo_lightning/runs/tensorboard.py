"""What TensorBoard shows of a finished run: its settings beside its results, and its curves."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
from lightning.pytorch.loggers import TensorBoardLogger

from igpo_lightning.config import dotted, plain
from igpo_lightning.runs.metrics_file import METRICS_FILE, read_metrics
from igpo_lightning.settings import Settings

_GROUPS = ("logger", "rewriter")  # no settings of a run that is trained or evaluated
# Groups of metrics as a reader needs them; TensorBoard itself sorts them by their names.
_ORDER = ("eval", "reward", "group", "hint", "sft", "rollout", "policy", "time")


def settings(config: Settings) -> dict[str, bool | int | float | str]:
    """The configuration as TensorBoard's table takes it: dotted key: plain value.

    What differs from the fields' defaults comes first; either part keeps the order of the groups.
    """
    shown = _flat(config)
    defaults = _flat(Settings(stage=type(config.stage)()))
    shown = {k: v for k, v in shown.items() if v is not None and v != {}}
    differs = {k: v for k, v in shown.items() if defaults.get(k) != v}
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in (differs | shown).items()
    }


def _flat(config: Settings) -> dict[str, Any]:
    return dotted({key: value for key, value in plain(config).items() if key not in _GROUPS})


def layout(names: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """The Custom Scalars page: a chapter for each group of metrics, in the order of `_ORDER`.

    Args:
        names: Of the metrics that a run logged, "group/name".
    """
    groups: dict[str, dict[str, list[Any]]] = {group: {} for group in _ORDER}
    for name in names:
        group, slash, short = name.partition("/")
        if slash:
            groups.setdefault(group, {})[short] = ["Multiline", [f"^{re.escape(name)}$"]]
    return {group: charts for group, charts in groups.items() if charts}


def final_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The headline numbers of a run under the names that runs are compared by."""
    found: dict[str, float] = {}
    for when in ("before", "after", "before_sampled", "after_sampled"):
        for name in ("mean", "low", "high"):
            if summary.get(when):
                suffix = "" if name == "mean" else f"_{name}"
                found[f"final/accuracy_{when}{suffix}"] = summary[when][name]
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
    return found | {f"final/{name.replace('/', '_')}": float(v) for name, v in numbers.items()}


def boards(loggers: Iterable[object]) -> list[TensorBoardLogger]:
    """The loggers that take text, pictures and tables."""
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def log_again(board: TensorBoardLogger, lines: Sequence[Mapping[str, float]], step: int) -> None:
    """Restore what a resumed run's board hides although the run keeps it.

    A board that is opened with `purge_step` hides every event from that step on. The evaluation
    before the checkpoint bears the step at which the run resumes, so it would be hidden, too.

    Args:
        board: Opened with `purge_step=step`.
        lines: Of metrics.csv, as the checkpoint holds them.
        step: The first that the resumed run logs.
    """
    for line in lines:
        if line["step"] >= step:
            values = {name: value for name, value in line.items() if name != "step"}
            board.log_metrics(values, int(line["step"]))


def log_results(
    loggers: Iterable[object], config: Settings, summary: Mapping[str, Any], curves: Path
) -> None:
    """Log settings with final metrics (HParams) and a picture (Images) where a logger takes them.

    Args:
        curves: The picture of the run's curves, beside metrics.csv; neither need exist.
    """
    for board in boards(loggers):
        board.log_hyperparams(settings(config), final_metrics(summary))
        lines = read_metrics(curves.parent / METRICS_FILE)
        board.experiment.add_custom_scalars(
            layout(dict.fromkeys(k for line in lines for k in line))
        )
        if curves.exists():
            picture = matplotlib.image.imread(curves)
            board.experiment.add_image("curves", picture, dataformats="HWC")
        board.finalize("success")
