"""The configuration of a command line, without running it."""

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from igpo_lightning.config import CONF, register_schemas
from igpo_lightning.sweeping import register_resolvers


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    """What these overrides compose, unchecked; with Hydra's own part if asked for."""
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=hydra)
