"""One file a stage, which bears its name and reads as the list of what it does.

`build.py` turns config into objects.
"""

from importlib import import_module
from typing import Any

from igpo_lightning.plugins import load_plugins
from igpo_lightning.settings import Settings


def run(config: Settings) -> dict[str, Any] | None:
    """Say what the configured stage will cost, and run it; returns its headline numbers.

    One completion costs nothing worth saying, so stage=generate says it on request alone.
    """
    load_plugins(config)
    if config.dry_run or (config.stage.planned and config.stage.name != "generate"):
        plan: dict[str, Any] = import_module("igpo_lightning.stages.plan").announce(config)
        if config.dry_run:
            return plan
    module = import_module(f"igpo_lightning.stages.{config.stage.name}")
    result: dict[str, Any] | None = module.run(config)
    return result
