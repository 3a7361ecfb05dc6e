"""igpo_lightning: inpainting-guided reinforcement learning for masked diffusion language models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from igpo_lightning.settings import Settings

__all__ = ["compose"]
__version__ = "0.1.0"


def compose(overrides: Sequence[str] = ()) -> "Settings":
    """The typed settings of a command line: compose(["experiment=espo", "model=tiny"]).

    Args:
        overrides: As on the command line; none gives the default run.

    Raises:
        ConfigError: A value is out of range, or values do not fit together.
    """
    from igpo_lightning import composing

    return composing.compose(overrides)
