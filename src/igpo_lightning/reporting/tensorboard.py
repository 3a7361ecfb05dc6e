"""What TensorBoard shows of a finished run: its settings beside its results, and its curves."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from igpo_lightning.reporting.plots import CURVES_FILE

_GROUPS = ("logger", "rewriter")  # no settings of a run that is trained or evaluated


def settings(config: DictConfig) -> dict[str, bool | int | float | str]:
    """The configuration as TensorBoard's table takes it: dotted key: plain value."""
    flat: dict[str, bool | int | float | str] = {}

    def add(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                add(value, f"{name}.")
            elif isinstance(value, bool | int | float | str):
                flat[name] = value
            elif value is not None:
                flat[name] = str(value)

    whole = OmegaConf.to_container(config, resolve=True)
    assert isinstance(whole, dict)
    add({str(key): value for key, value in whole.items() if key not in _GROUPS}, "")
    return flat


def final_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The headline numbers of a run under the names that runs are compared by."""
    found: dict[str, float] = {}
    for when in ("before", "after"):
        for name in ("mean", "low", "high"):
            if summary.get(when):
                suffix = "" if name == "mean" else f"_{name}"
                found[f"final/accuracy_{when}{suffix}"] = summary[when][name]
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
    return found | {f"final/{name.replace('/', '_')}": float(v) for name, v in numbers.items()}


def log_results(
    loggers: Iterable[object], config: DictConfig, summary: Mapping[str, Any], folder: Path
) -> None:
    """Log settings with final metrics (HParams) and curves.png (Images) where a logger takes them.

    Args:
        loggers: Of the trainer.
        config: Of the run.
        summary: Its headline numbers, summary.json.
        folder: Of the run.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            continue
        logger.log_hyperparams(settings(config), final_metrics(summary))
        curves = folder / CURVES_FILE
        if curves.exists():
            picture = matplotlib.image.imread(curves)
            logger.experiment.add_image("curves", picture, dataformats="HWC")
        logger.finalize("success")
