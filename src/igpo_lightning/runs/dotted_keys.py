"""Nested settings as one list of dotted keys: `optimizer.lr`, `stage.steps`."""

from collections.abc import Iterator, Mapping
from typing import Any


def dotted(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Dotted key: value of every leaf; an empty group is a leaf, and so is a list.

    Args:
        values: Nested mappings, as `OmegaConf.to_container` or a YAML file gives them.
    """
    return dict(_leaves(values, ""))


def _leaves(node: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
