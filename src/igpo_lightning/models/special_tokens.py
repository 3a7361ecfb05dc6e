"""Ids of the special tokens: the first source that knows one decides; none is an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from igpo_lightning.errors import ConfigError


@dataclass(frozen=True)
class TokenIds:
    """Special tokens of a model.

    Attributes:
        mask: The token that stands for "not yet known".
        eos: Ends a completion.
        pad: Fills up prompts; the EOS where a model has none.
        eot: Ends a turn, where a model has such a token.
    """

    mask: int
    eos: int
    pad: int
    eot: int | None = None


def _first(value: Any) -> int | None:
    """One id of a config's entry, which may be a list or absent."""
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else int(value)


def token_ids(name: str, *sources: Mapping[str, Any]) -> TokenIds:
    """Special tokens from the first source that knows them.

    Args:
        name: Of the model, for the error.
        sources: Mappings with `mask_token_id`, `eos_token_id`, `pad_token_id`, `eot_token_id`,
            the most binding first: overrides, config.json, the tokenizer.

    Raises:
        ConfigError: No source has a mask or EOS token.
    """
    found: dict[str, int | None] = {}
    for kind in ("mask", "eos", "pad", "eot"):
        values = (_first(source.get(f"{kind}_token_id")) for source in sources)
        found[kind] = next((value for value in values if value is not None), None)
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
    return TokenIds(mask=mask, eos=eos, pad=pad, eot=found["eot"])
