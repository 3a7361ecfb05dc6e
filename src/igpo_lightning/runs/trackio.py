"""Numbers for Trackio, a tracker that keeps them on this machine: `trackio show`."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from igpo_lightning.config import dotted


class TrackioLogger(Logger):
    """Lightning's logger for Trackio; its run bears the name of the run folder.

    Args:
        save_dir: The run folder.
        project: Under which Trackio lists the run.
        resume: "never" | "allow": whether a run of this name goes on, or another one begins. A run
            that goes on logs the steps after its checkpoint again.
    """

    def __init__(self, save_dir: str, project: str, resume: str = "never") -> None:
        super().__init__()
        self._folder, self._project, self._resume = Path(save_dir), project, resume
        self._settings: dict[str, Any] = {}
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run: the last two parts of its folder."""
        return "/".join(self._folder.parts[-2:])

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's run, which begins with the first thing that is logged."""
        if self._run is None:
            import trackio  # of the extra `trackio`

            self._run = trackio.init(
                self._project, self.version, config=self._settings, resume=self._resume
            )
            self._resume = "allow"  # Lightning ends each of its loops, and goes on with the next
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Keep the settings for the start of Trackio's run."""
        self._settings |= dotted(params if isinstance(params, Mapping) else vars(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the numbers of a step."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is still held back."""
        if self._run is not None:
            self._run.finish()
            self._run = None
