"""The configuration of a command line, without running it."""

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if not all(plain_override(override) for override in parsed):
        return to_settings(raw(*overrides))
    groups = [o for o in parsed if is_group(o.key_or_group)]
    config = copy.deepcopy(_of_groups(tuple(str(o.input_line) for o in groups)))
    try:
        for override in parsed:
            if override not in groups:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        return to_settings(raw(*overrides))  # which says what is wrong as a user sees it
    return to_settings(config)


@functools.cache
def _of_groups(overrides: tuple[str, ...]) -> DictConfig:
    """Composed once: the values are set in a copy, as Hydra sets them after it has composed."""
    return raw(*overrides)


def plain_override(override: Override) -> bool:
    """Whether it gives a key, or a group, one value."""
    alone = override.package is None and not override.is_sweep_override()
    return alone and override.type is OverrideType.CHANGE


def is_group(key: str) -> bool:
    """Whether an override of that key chooses a file; the stages are dataclasses without one."""
    return key == "stage" or (CONF / key).is_dir()
