"""Checks of how a run was started: its processes share one folder, and no setting is a secret."""

import re
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from igpo_lightning.config import read_written, require_plain_files
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import TrainerConfig
from igpo_lightning.settings.rules import require

_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_SHORTEST = 8  # characters of a value that is taken for a secret
# Loggers whose package this project does not require.
_LOGGER_PACKAGES = {
    "TrackioLogger": "trackio",
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
_EXTRAS = ("trackio",)  # of them, those that an extra of the same name installs
_LOGIN = re.compile(r"://[^/@\s]*:[^/@\s]+@")  # a URL's user:password@


def check_run_folder(trainer: TrainerConfig, run_dir: str, environment: Mapping[str, str]) -> None:
    """One run folder for all processes that torchrun or srun started.

    Each of them resolves `hydra.run.dir` by itself: with a time in it, they might differ, and
    checkpoints, metrics and samples of one run would lie in several folders.

    Args:
        run_dir: hydra.run.dir with its interpolations.
    """
    world = trainer.world_size
    by_torchrun = "TORCHELASTIC_RUN_ID" in environment
    by_srun = int(environment.get("SLURM_NTASKS", "1")) > 1
    if world > 1 and (by_torchrun or by_srun):
        starter = "torchrun" if by_torchrun else "srun"
        require(
            "${now:" not in run_dir,
            "hydra.run.dir",
            run_dir,
            f"every process that {starter} starts would make a folder of its own; name one for all "
            "of them, for example hydra.run.dir=runs/mine",
        )


def check_stage_of_folder(own: str, folder: Path) -> None:
    """A run folder holds one stage's files: another stage would mix its own with them.

    Raises:
        ConfigError: Names both stages, or what in the folder cannot be read.
    """
    require_plain_files(folder)
    file = folder / "config.yaml"
    if not file.exists():
        return
    before = read_written(file).get("stage")
    there = before.get("name") if isinstance(before, dict) else None
    if there is not None and there != own:
        raise ConfigError(
            f"hydra.run.dir={folder}: holds a run of stage={there}, and this is stage={own}; "
            "choose another hydra.run.dir"
        )


def secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables whose names say that nobody else should see their values."""
    return {
        name: value
        for name, value in environment.items()
        if _SECRET.search(name.upper()) and len(value) >= _SHORTEST
    }


def check_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """No argument of the command line holds a key.

    Asked before Hydra sees them, which writes them to files and, where a run fails, to the log.

    Raises:
        ConfigError: Names the key, not the value.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        _refuse_secret(key if value else "an argument", argument, environment)


def check_plus(
    arguments: Sequence[str], groups: Collection[str], keys: Collection[str] | None = None
) -> None:
    """No argument adds a second choice to a group, leaves one without, or adds what nobody reads.

    Args:
        keys: Names of the settings; None where any may be added.

    Raises:
        ConfigError: Says what to write.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in {*groups, "stage"} and value.strip().lower() == "null":
            raise ConfigError(f"{argument}: name one of its choices, or leave {key} out")
        added = re.split(r"[.@]", key.lstrip("+"))[0]
        if key.startswith("+") and keys is not None and added not in {*groups, *keys, "hydra"}:
            raise ConfigError(f"{argument}: nothing reads {added}; known are {', '.join(keys)}")
        if value and key.startswith("+") and key.lstrip("+") in {*groups, "stage"}:
            plain = argument.lstrip("+")
            raise ConfigError(f"{argument}: a file replaces another here; drop the plus: {plain}")


def check_loggers(loggers: Mapping[str, Any]) -> None:
    """The package of every logger is installed.

    Raises:
        ConfigError: Names the logger and the package.
    """
    for name, node in loggers.items():
        package = _LOGGER_PACKAGES.get(str(node.get("_target_", "")).rpartition(".")[2])
        if package is not None and find_spec(package) is None:
            wanted = f"'igpo-lightning[{package}]'" if package in _EXTRAS else package
            raise ConfigError(
                f"logger={name}: needs the package {package}, which is not installed; "
                f"pip install {wanted}, or leave the logger out"
            )


def check_secrets(settings: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """No setting holds a key: settings stand in config.yaml, checkpoints, logs and reports.

    Raises:
        ConfigError: Names the key, not the value.
    """
    for key, value in _texts(settings, ""):
        _refuse_secret(key, value, environment)


def _refuse_secret(key: str, text: str, environment: Mapping[str, str]) -> None:
    for name, secret in secrets(environment).items():
        if secret in text:
            raise ConfigError(
                f"{key} holds the value of the environment variable {name}, and settings are "
                "written to files and logs; leave it out: what needs it reads the variable"
            )
    if _LOGIN.search(text):
        raise ConfigError(
            f"{key} holds a password within a URL, and settings are written to files and logs; "
            "give it in the environment (HF_TOKEN, OPENAI_API_KEY, WANDB_API_KEY)"
        )


def _texts(values: object, key: str) -> list[tuple[str, str]]:
    """Dotted key and text of every string."""
    if isinstance(values, Mapping):
        parts = [(f"{key}.{name}" if key else str(name), part) for name, part in values.items()]
    elif isinstance(values, list):
        parts = [(f"{key}[{place}]", part) for place, part in enumerate(values)]
    else:
        return [(key, values)] if isinstance(values, str) else []
    return [text for name, part in parts for text in _texts(part, name)]
