"""The configuration of a command line, without running it."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from igpo_lightning.config import CONF, register_schemas, to_settings
from igpo_lightning.settings import Settings
from igpo_lightning.sweeping import register_resolvers


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra as the command line has it, for code that composes by itself."""
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def raw(*overrides: str, hydra: bool = False, folder: Path | None = None) -> DictConfig:
    """What these overrides compose, as Hydra gives it.

    Args:
        overrides: Of the command line.
        hydra: With Hydra's own part.
        folder: As --config-dir names it.
    """
    more = [] if folder is None else [f"hydra.searchpath=[file://{folder}]"]
    with hydra_ready():
        return compose("config", [*more, *overrides], return_hydra_config=hydra)


def composed(*overrides: str, folder: Path | None = None) -> Settings:
    """The settings of a command line, each group checked by itself alone."""
    if folder is None and not any("endpoint" in override for override in overrides):
        return _of_conf(overrides)
    return to_settings(raw(*overrides, folder=folder))


@functools.cache
def _of_conf(overrides: tuple[str, ...]) -> Settings:
    """What conf/ alone composes: not the environment, which `rewriter=endpoint` reads."""
    return to_settings(raw(*overrides))
