"""Ids of the special tokens: the first source that knows one decides; none is an error."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from igpo_lightning.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenIds:
    """Special tokens of a model.

    Attributes:
        mask: The token that stands for "not yet known".
        eos: Ends a completion.
        pad: Fills up prompts; the EOS where a model has none.
    """

    mask: int
    eos: int
    pad: int


def _ids(name: str, source: str, key: str, value: Any) -> list[int]:
    """The ids of a config's entry, which may be a list or absent.

    Raises:
        ConfigError: One is no whole number from 0.
    """
    values = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
    if not all(type(each) is int and each >= 0 for each in values):
        raise ConfigError(
            f"model.path={name}: {source} has {key}={str(value)[:80]}; give a whole number from 0"
        )
    return values


def token_ids(name: str, sources: Mapping[str, Mapping[str, Any]]) -> TokenIds:
    """Special tokens from the first source that knows them; disagreement is logged, once.

    Args:
        name: Of the model, for messages.
        sources: By name, mappings with `mask_token_id`, `eos_token_id` and `pad_token_id`; the
            most binding first.

    Raises:
        ConfigError: No source has a mask or EOS token.
    """
    found: dict[str, int | None] = {}
    for kind in ("mask", "eos", "pad"):
        key = f"{kind}_token_id"
        known = {
            source: _ids(name, source, key, content.get(key)) for source, content in sources.items()
        }
        known = {source: ids for source, ids in known.items() if ids}
        found[kind] = next((ids[0] for ids in known.values()), None)
        others = [f"{s} has {ids}" for s, ids in known.items() if found[kind] not in ids]
        if others:
            report_once(
                f"model.path={name}: {key} is {found[kind]}, from {next(iter(known))}, which comes "
                f"first; {', '.join(others)}. Set model.{key} to use another"
            )
    for kind in ("mask", "eos"):
        if found[kind] is None:
            raise ConfigError(
                f"model.path={name} has no {kind} token: neither config.json nor the tokenizer "
                f"names one; set model.{kind}_token_id"
                + (" or model.mask_token, which is added if it is new" if kind == "mask" else "")
            )
    mask, eos = found["mask"], found["eos"]
    assert mask is not None
    assert eos is not None
    pad = eos if found["pad"] is None else found["pad"]
    return TokenIds(mask=mask, eos=eos, pad=pad)


@lru_cache
def report_once(message: str) -> None:
    """Log a message the first time that it comes up."""
    log.warning(message)
