"""Range and choice checks: each names the key, what was given, and what would be right."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from igpo_lightning.errors import ConfigError

_LARGEST = 2**53  # up to here, floating-point numbers count on in ones


def require(holds: bool, key: str, value: object, fix: str) -> None:
    """Raise a ConfigError that names the key, the value and the fix, unless `holds`."""
    if not holds:
        raise ConfigError(f"{key}={list(value) if isinstance(value, tuple) else value}: {fix}")


def choice(group: object, prefix: str, **allowed: tuple[str, ...]) -> None:
    """Fields that hold one of a few names."""
    for name, names in allowed.items():
        value = getattr(group, name)
        require(value in names, f"{prefix}.{name}", value, f"use one of {', '.join(names)}")


def at_least(group: object, prefix: str, minimum: float, *names: str) -> None:
    """Numbers not below a minimum; null passes."""
    for name in names:
        value = getattr(group, name)
        finite(value, f"{prefix}.{name}")
        fits = value is None or value >= minimum
        require(fits, f"{prefix}.{name}", value, f"give at least {minimum:g}")


def above_zero(group: object, prefix: str, *names: str) -> None:
    """Numbers above 0; null passes."""
    for name in names:
        value = getattr(group, name)
        finite(value, f"{prefix}.{name}")
        require(value is None or value > 0, f"{prefix}.{name}", value, "must be above 0")


def within(group: object, prefix: str, low: float, high: float, *names: str) -> None:
    """Numbers in a closed interval; null passes."""
    for name in names:
        value = getattr(group, name)
        fits = value is None or low <= value <= high
        require(fits, f"{prefix}.{name}", value, f"give a number from {low:g} to {high:g}")


def finite(value: object, key: str) -> None:
    """No number anywhere in a value is NaN or infinite, or whole and beyond all counting.

    The first two can neither be compared nor computed with; the last fits no machine's integers.

    Args:
        value: A group, a mapping, a list or a plain value.
        key: Where it stands.
    """
    if is_dataclass(value):
        for field in fields(value):
            finite(getattr(value, field.name), f"{key}.{field.name}")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            finite(part, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, float):
                require(math.isfinite(part), key, value, "give finite numbers")
            else:
                finite(part, key)
    elif isinstance(value, int):
        require(abs(value) <= _LARGEST, key, value, f"give a whole number of at most {_LARGEST}")
    elif isinstance(value, float):
        require(math.isfinite(value), key, value, "give a finite number")


def as_tuples(group: object, *names: str) -> None:
    """Turn lists, as which OmegaConf hands tuples over, into tuples."""
    for name in names:
        object.__setattr__(group, name, tuple(getattr(group, name)))
