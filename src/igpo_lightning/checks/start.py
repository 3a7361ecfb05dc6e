"""A run is checked before Hydra makes its folder, every run of a sweep before the first one begins.

Hydra loads callbacks before it composes: nothing heavy may be imported up here.
"""

import os
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.checks import validate
from igpo_lightning.checks.choices import check_choices
from igpo_lightning.checks.explanation import explain
from igpo_lightning.checks.launch import check_loggers, check_secrets
from igpo_lightning.config import plain, to_settings
from igpo_lightning.errors import ConfigError, PastHydra
from igpo_lightning.reporting.sweep import planned_runs
from igpo_lightning.settings import Settings


def checked(config: DictConfig) -> Settings:
    """The settings of a composed configuration, as far as they can be checked without a folder.

    Raises:
        ConfigError: Values are out of range, or do not fit together.
    """
    check_choices(HydraConfig.get().overrides.task)
    settings = to_settings(config)
    validate(settings)
    check_secrets(plain(settings), os.environ)
    check_loggers(settings.logger)
    return settings


class CheckStart(Callback):  # type: ignore[misc]
    """Hydra callback: what is invalid is refused before anything is written.

    Hydra swallows the exceptions of callbacks, hence `PastHydra`.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run before Hydra makes its folder."""
        try:
            _check_member(config.copy(), Path(config.hydra.run.dir))
        except (ConfigError, OmegaConfBaseException) as error:
            raise PastHydra(error) from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and check each run, before the others take hours."""
        folder = Path(config.hydra.sweep.dir)
        for overrides in planned_runs(config):
            try:
                loader = GlobalHydra.instance().config_loader()
                _check_member(loader.load_sweep_config(config, overrides), folder)
            except (ConfigError, HydraException, OmegaConfBaseException) as error:
                run, mistake = " ".join(overrides), explain(error)
                told = mistake if mistake.startswith(run) else f"{run}: {mistake}"
                raise PastHydra(ConfigError(f"{told}. No run of the sweep was started")) from error


def _check_member(member: DictConfig, folder: Path) -> None:
    """What a run composes is checked as if it were started.

    Args:
        member: Of the run, with Hydra's own part; it is changed.
        folder: In place of the run's, which does not exist.

    Raises:
        ConfigError: Values are out of range, or do not fit together.
    """
    with open_dict(member.hydra.runtime):
        member.hydra.runtime.output_dir = str(folder)
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(member)
        with open_dict(member):
            del member["hydra"]
        checked(member)
    finally:
        holder.cfg = before
