"""A method is not mixed with another one's file: its own values would win in silence."""

import pytest
from omegaconf import OmegaConf

from igpo_lightning import compose
from igpo_lightning.checks.choices import check_choices
from igpo_lightning.config import CONF, DEFAULT_EXPERIMENT
from igpo_lightning.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["experiment=espo", "objective=dapo"], r"objective=dapo: experiment=espo sets .*\.kl="),
        (["experiment=igpo_released", "inpaint=none"], r"inpaint=none: .*inpaint\.placement="),
        # igpo_just_grpo inherits just_grpo's values.
        (["experiment=igpo_just_grpo", "objective=dapo"], "experiment=igpo_just_grpo sets values"),
    ],
)
def test_a_file_beside_an_experiments_own_values_is_refused(
    overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        compose(overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=espo", "objective.clip_high=0.4", "inpaint=partial"],
        ["experiment=wd1", "objective=dapo"],  # wd1 chooses a file of its own, and sets no value
        ["experiment=igpo_paper", "objective=dapo", "likelihood.kind=elbo"],
        ["objective=grpo"],
        ["experiment=of_a_plugin", "objective=grpo"],
    ],
)
def test_everything_else_is_allowed(overrides: list[str]) -> None:
    check_choices(overrides)


def test_the_default_experiment_is_that_of_the_root() -> None:
    assert {"experiment": DEFAULT_EXPERIMENT} in OmegaConf.load(CONF / "config.yaml").defaults
