"""One folder for all processes, and no secret among the settings."""

import re

import pytest

from igpo_lightning.checks.launch import (
    check_arguments,
    check_run_folder,
    check_secrets,
    secrets,
)
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import TrainerConfig

TWO = TrainerConfig(devices=2, strategy="ddp")
ONE = TrainerConfig()
TIMED = "runs/${stage.name}/${now:%Y-%m-%d_%H-%M-%S}"


@pytest.mark.parametrize(
    ("environment", "starter"),
    [({"TORCHELASTIC_RUN_ID": "1"}, "torchrun"), ({"SLURM_NTASKS": "2"}, "srun")],
)
def test_processes_started_from_outside_need_a_folder_without_a_time_in_it(
    environment: dict[str, str], starter: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape("hydra.run.dir=runs/mine")) as told:
        check_run_folder(TWO, TIMED, environment)
    assert starter in str(told.value)
    check_run_folder(TWO, "runs/mine", environment)
    check_run_folder(ONE, TIMED, environment)


def test_processes_that_lightning_starts_take_the_folder_of_the_first() -> None:
    check_run_folder(TWO, TIMED, {"SLURM_NTASKS": "1", "LOCAL_RANK": "0"})


def test_variables_are_secret_by_their_names() -> None:
    environment = {
        "HF_TOKEN": "hf_abcdefgh",
        "aws_secret_access_key": "abcdefghij",
        "TOKENIZERS_PARALLELISM": "not-a-secret",
        "SHORT_KEY": "yes",  # would match half of all settings
        "HOME": "/home/somebody",
    }
    assert set(secrets(environment)) == {"HF_TOKEN", "aws_secret_access_key"}


def test_a_setting_that_holds_a_secret_is_named_and_the_secret_is_not() -> None:
    config = {"logger": {"wandb": {"tags": ["a", "key=abcdefghij"]}}}
    with pytest.raises(ConfigError) as told:
        check_secrets(config, {"WANDB_API_KEY": "abcdefghij"})
    assert "logger.wandb.tags[1]" in str(told.value)
    assert "WANDB_API_KEY" in str(told.value)
    assert "abcdefghij" not in str(told.value)
    check_secrets(config, {"WANDB_API_KEY": "klmnopqrst"})


def test_a_password_within_a_url_is_refused() -> None:
    config = {"rewriter": {"base_url": "https://me:pass@host/v1"}}
    with pytest.raises(ConfigError, match=r"rewriter\.base_url holds a password"):
        check_secrets(config, {})
    for url in ("http://localhost:8000/v1", "https://host/a:b@c", None):
        check_secrets({"rewriter": {"base_url": url}}, {})


def test_a_secret_on_the_command_line_is_named_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"model\.path holds .* HF_TOKEN") as told:
        check_arguments(["seed=1", "model.path=hf_abcdefgh"], {"HF_TOKEN": "hf_abcdefgh"})
    assert "hf_abcdefgh" not in str(told.value)
    with pytest.raises(ConfigError, match="an argument holds"):
        check_arguments(["hf_abcdefgh"], {"HF_TOKEN": "hf_abcdefgh"})
    check_arguments(["seed=1", "-m", "rewriter.base_url=http://host:80/v1"], {"HF_TOKEN": "x" * 8})
