"""Rules that span groups, asked before torch is loaded; `settings` has those within a group."""

from igpo_lightning.checks.method import (
    check_inpaint,
    check_likelihood,
    check_names,
    check_sampler,
)
from igpo_lightning.checks.stages import check_data, check_stage
from igpo_lightning.checks.training import check_model, check_processes
from igpo_lightning.settings import Settings

__all__ = ["validate"]


def validate(settings: Settings) -> None:
    """Check that the values fit together.

    Raises:
        ConfigError: Names the first key that does not, its value, and what would be right.
    """
    check_model(settings)
    check_sampler(settings)
    check_inpaint(settings)
    check_likelihood(settings)
    check_names(settings)
    check_processes(settings)
    check_data(settings)
    check_stage(settings)
