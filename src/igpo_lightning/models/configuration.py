"""Where a model's files are and what its config.json says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.hub import hub_answers, unreachable

# The embedded checkpoints: the shipped policy; the one that RL starts from, which has the habit of
# answering at once (experiment=bare_answers); and untrained models for puzzles, sizes and tokenizer
# alone (make puzzle-checkpoints).
EMBEDDED = {
    "tiny": "embedded",
    "tiny_terse": "embedded_terse",
    "tiny_countdown": "embedded_countdown",
    "tiny_sudoku": "embedded_sudoku",
}


def resolve(path_or_hub_id: str) -> str:
    """The name of an embedded checkpoint becomes its folder; anything else stays as it is."""
    folder = EMBEDDED.get(path_or_hub_id)
    return path_or_hub_id if folder is None else str(Path(__file__).parent / folder)


def find_file(source: str, name: str) -> Path | None:
    """A file of a folder or of a hub repository, downloaded if need be; None where it has none.

    Raises:
        ConfigError: The hub cannot be asked and the file is not in its cache.
    """
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    if not hub_answers():
        return _cached(source, name)
    try:
        found = cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=True,
            _raise_exceptions_for_connection_errors=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.path={source} is neither a folder nor a reachable hub id: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return None if found is None else Path(found)


def _cached(source: str, name: str) -> Path | None:
    """A file of the hub's local cache, where the hub does not answer.

    Raises:
        ConfigError: The cache does not hold the model.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    why = unreachable()
    try:
        held = isinstance(try_to_load_from_cache(source, "config.json"), str)
        found = try_to_load_from_cache(source, name)
    except ValueError:  # no hub id: a folder was meant
        held, found = False, None
    if not held:
        raise ConfigError(
            f"model.path={source} is not a folder, and cannot be downloaded as a hub id: {why}, "
            "and the cache (HF_HOME) does not hold it; name a model's folder, or fill the cache on "
            "a machine with network access"
        )
    constants.HF_HUB_OFFLINE = True  # or the libraries would ask again, for half a minute
    return Path(found) if isinstance(found, str) else None


def read_config(source: str) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        ConfigError: There is none, or it is no JSON object with a `model_type`.
    """
    path = find_file(source, "config.json")
    if path is None:
        raise ConfigError(f"model.path={source} holds no config.json; name a model's folder")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"model.path={source}: config.json is no JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("model_type"), str):
        raise ConfigError(f"model.path={source}: config.json names no model_type")
    return raw


def read_generation_config(source: str) -> dict[str, Any]:
    """The content of generation_config.json, whose EOS may be another; nothing where there is none.

    Raises:
        ConfigError: It is no JSON object.
    """
    path = find_file(source, "generation_config.json")
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"model.path={source}: generation_config.json is no JSON: {error}"
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(f"model.path={source}: generation_config.json is no JSON object")
    return raw


def entry(raw: Mapping[str, Any], key: str) -> Any:
    """A required entry of config.json.

    Raises:
        ConfigError: It is absent or null.
    """
    if raw.get(key) is None:
        raise ConfigError(f"config.json of the {raw.get('model_type')} model has no {key}; add it")
    return raw[key]


def check_switches(raw: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a configuration that would silently be computed as another one.

    Args:
        raw: The content of config.json.
        supported: For each switch the values that the native code computes; an absent switch
            counts as the first of them.

    Raises:
        ConfigError: A switch has another value.
    """
    for key, values in supported.items():
        if raw.get(key, values[0]) not in values:
            raise ConfigError(
                f"config.json of the {raw.get('model_type')} model has {key}={raw[key]!r}; "
                f"supported: {' or '.join(repr(value) for value in values)}"
            )
