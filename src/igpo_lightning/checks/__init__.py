"""The checks across groups, made while the configuration is composed and before torch is loaded."""

from omegaconf import DictConfig

from igpo_lightning.checks.method import check_inpaint, check_likelihood, check_objective
from igpo_lightning.checks.sampler import check_sampler
from igpo_lightning.checks.stages import check_data, check_stage
from igpo_lightning.checks.training import check_choices, check_model, check_training

__all__ = ["validate"]


def validate(config: DictConfig) -> None:
    """Check that the values fit together.

    Raises:
        ConfigError: Names the first key that does not, its value, and what would be right.
    """
    check_choices(config)
    check_model(config)
    check_sampler(config)
    check_inpaint(config)
    check_objective(config)
    check_training(config)
    check_likelihood(config)
    check_data(config)
    check_stage(config)
