"""A file that the command line chooses must not mix with an experiment's values of its group."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from igpo_lightning.config import DEFAULT_EXPERIMENT, config_folders
from igpo_lightning.errors import ConfigError

# What makes a method: half of one and half of another would bear a name that it does not earn.
METHOD_GROUPS = ("inpaint", "objective", "reward")


def check_choices(overrides: Sequence[str]) -> None:
    """Refuse `experiment=espo objective=dapo`: the experiment's values would win over the file's.

    Raises:
        ConfigError: An experiment sets values of a group, and another file of it was chosen.
    """
    chosen = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    experiment = chosen.get("experiment", DEFAULT_EXPERIMENT)
    own = _own_values(experiment)
    for group in METHOD_GROUPS:
        if group in chosen and group in own:
            keys = " ".join(f"{group}.{key}=..." for key in own[group])
            raise ConfigError(
                f"{group}={chosen[group]}: experiment={experiment} sets values of {group} itself, "
                f"which win over the file; set its keys ({keys}), or start from experiment=base"
            )


def _own_values(experiment: str) -> dict[str, Any]:
    """The values that an experiment's file sets, and those that it inherits from."""
    files = (folder / "experiment" / f"{experiment}.yaml" for folder in config_folders())
    file: Path | None = next((file for file in files if file.is_file()), None)
    content = {} if file is None else yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    inherited: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            inherited |= _own_values(parent.removeprefix("/experiment/"))
    return inherited | content
