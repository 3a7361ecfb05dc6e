"""igpo_lightning: inpainting-guided reinforcement learning for masked diffusion language models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from igpo_lightning.settings import Settings

__all__ = ["compose"]
__version__ = "0.1.0"


def compose(overrides: Sequence[str] = ()) -> "Settings":
    """The settings of a command line, with the same checks, in a script or a notebook.

    Loggers keep their interpolations (`${hydra:runtime.output_dir}`): they belong to a run.

    Args:
        overrides: As on the command line, for example ["experiment=espo", "model=tiny"]; none
            gives the default run.

    Raises:
        ConfigError: A value is out of range, or values do not fit together.
    """
    # Imported here: every import of a part of this package passes through this file.
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from igpo_lightning.checks import validate
    from igpo_lightning.checks.choices import check_choices
    from igpo_lightning.config import CONF, register_schemas, to_settings
    from igpo_lightning.sweeping import register_resolvers

    check_choices(overrides)
    register_schemas()
    register_resolvers()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            settings = to_settings(hydra.compose("config", list(overrides)))
    finally:
        GlobalHydra.instance().hydra = before
    validate(settings)
    return settings
