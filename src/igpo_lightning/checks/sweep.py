"""Every run of a sweep is checked before the first one begins.

Hydra loads callbacks before it composes: nothing heavy may be imported up here.
"""

import sys
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
from igpo_lightning.config import to_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.sweep import planned_runs
from igpo_lightning.reporting.visible import visible


class CheckSweep(Callback):  # type: ignore[misc]
    """Hydra callback: an invalid run of a sweep is refused before the others take hours."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and check each run; Hydra swallows exceptions here, so the process ends."""
        for overrides in planned_runs(config):
            try:
                check_member(config, overrides)
            except (ConfigError, HydraException, OmegaConfBaseException) as error:
                told = visible(f"{' '.join(overrides)}: {explain(error)}")
                print(f"error: {told}. No run of the sweep was started", file=sys.stderr)
                sys.exit(2)


def check_member(config: DictConfig, overrides: list[str]) -> None:
    """What a run of a sweep composes is checked as if it were started.

    Raises:
        ConfigError: Values are out of range, or do not fit together.
        HydraException: There is no such file or key.
    """
    member = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
    with open_dict(member.hydra.runtime):
        member.hydra.runtime.output_dir = str(Path(config.hydra.sweep.dir))
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(member)
        with open_dict(member):
            del member["hydra"]
        check_choices(HydraConfig.get().overrides.task)
        validate(to_settings(member))
    finally:
        holder.cfg = before
