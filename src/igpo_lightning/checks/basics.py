"""Saying what is wrong with a value: the key, what was given, and what would be right."""

from omegaconf import DictConfig, OmegaConf

from igpo_lightning.errors import ConfigError


def require(holds: bool, key: str, value: object, fix: str) -> None:
    """Raise a ConfigError that names the key, the value and the fix, unless `holds`."""
    if not holds:
        raise ConfigError(f"{key}={value}: {fix}")


def require_choice(config: DictConfig, key: str, choices: tuple[str, ...]) -> None:
    """One of a few names."""
    group, name = key.split(".")
    value = config[group][name]
    require(value in choices, key, value, f"use one of {', '.join(choices)}")


def require_at_least(config: DictConfig, minimum: float, *keys: str) -> None:
    """Numbers not below a minimum; null and absent keys pass."""
    for key in keys:
        group, name = key.split(".")
        if name not in config[group]:
            continue
        value = config[group][name]
        require(value is None or value >= minimum, key, value, f"give at least {minimum:g}")


def require_within(config: DictConfig, low: float, high: float, *keys: str) -> None:
    """Numbers in a closed interval; null passes."""
    for key in keys:
        group, name = key.split(".")
        value = config[group][name]
        fits = value is None or low <= value <= high
        require(fits, key, value, f"give a number from {low:g} to {high:g}")


def missing(node: DictConfig, key: str) -> bool:
    """Whether a value that must be given was not (`???`)."""

    return OmegaConf.is_missing(node, key)
