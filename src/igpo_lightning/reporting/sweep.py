"""What a Hydra multirun begins and ends with: what was asked for; one table and one page.

Hydra loads callbacks before it composes: nothing heavy may be imported up here.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from igpo_lightning.reporting.run_data import FINISHED, PLANNED_FILE, read_planned, read_sweep

PAGE_SAMPLES = 400


def planned_runs(config: DictConfig) -> list[list[str]]:
    """The override lists that a command line asks for; empty where a sweeper finds them itself."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
        return []
    # Unresolved: a value like ${seed} is every run's own.
    asked = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    shipped = OmegaConf.to_container(sweeper.params or OmegaConf.create({}), resolve=False)
    assert isinstance(asked, list)
    assert isinstance(shipped, dict)
    parameters = [f"{key!s}={value}" for key, value in shipped.items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*parameters, *asked])
    return [list(items) for items in BasicSweeper.split_arguments(overrides, None)[0]]


def write_planned(folder: Path, planned: Sequence[Sequence[str]]) -> None:
    """Add runs to those that the sweep of a folder was asked for."""
    runs = {tuple(sorted(items)): list(items) for items in [*read_planned(folder), *planned]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLANNED_FILE).write_text(json.dumps(list(runs.values()), indent=1) + "\n")


class SweepTable(Callback):  # type: ignore[misc]
    """Hydra callback: remembers what was asked for, and after the last run shows what came out."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down the runs, so that one that never begins is missed.

        Without its launcher Hydra refuses the sweep in a moment, and nothing was asked for.
        """
        installed = Plugins.instance().class_name_to_class
        if not config.dry_run and config.hydra.launcher._target_ in installed:
            write_planned(Path(config.hydra.sweep.dir), planned_runs(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write and print the table, write the page, and end with status 1 if a run failed."""
        if config.dry_run:
            return  # every run has printed its plan, and none has left anything
        from rich.console import Console

        from igpo_lightning.reporting.html import write_report
        from igpo_lightning.reporting.side_by_side import (
            comparable,
            plot_side_by_side,
            reason,
            side_by_side,
        )
        from igpo_lightning.reporting.sweep_table import sweep_table, write_sweep_table
        from igpo_lightning.reporting.visible import visible

        folder = Path(config.hydra.sweep.dir)
        runs = read_sweep(folder)
        write_sweep_table(folder, runs)
        console = Console()
        settings = comparable(runs)
        console.print(side_by_side(settings) if settings else sweep_table(runs))
        if settings:
            console.print(reason(settings), markup=False, highlight=False, soft_wrap=True)
            picture = plot_side_by_side(folder, settings)
            console.print(f"picture: {picture}", markup=False, soft_wrap=True, highlight=False)
        for run in runs:
            if run.error is not None:
                console.print(
                    visible(f"{run.name}: {run.error}"), style="red", markup=False, soft_wrap=True
                )
        page = write_report(folder, PAGE_SAMPLES)
        console.print(f"sweep folder: {folder}", markup=False, soft_wrap=True, highlight=False)
        console.print(f"report: {page}", markup=False, soft_wrap=True, highlight=False)
        others = [run for run in runs if run.status != FINISHED]
        if others:
            print(
                f"error: {len(others)} of {len(runs)} runs did not finish; their folders say why; "
                f"the same command with hydra.sweep.dir={folder} runs these alone",
                file=sys.stderr,
            )
            sys.exit(1)
