"""Where a model's files are and what its config.json says."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from transformers.utils.hub import cached_file

from igpo_lightning.errors import ConfigError, first_line
from igpo_lightning.models.hub import hub_answers, unreachable

# The embedded checkpoints: the shipped policy; the one that RL starts from, which has the habit of
# answering at once (experiment=bare_answers); and the starts on puzzles (make puzzle-checkpoints).
EMBEDDED = {
    "tiny": "embedded",
    "tiny_terse": "embedded_terse",
    "tiny_countdown": "embedded_countdown",
    "tiny_sudoku": "embedded_sudoku",
}

LARGEST_JSON = 2**26  # bytes; a public config.json has a few thousand, an index a few million
LARGEST_SIZE = 2**24  # of a width or a count; three of them still make a number of 64 bits
MOST_LAYERS = 1000  # the deepest public models have under 200
# Entries of a config.json that build nothing here, but of which transformers makes long tables.
NO_SIZES = ("model_type", "auto_map", "num_labels", "id2label", "label2id")


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
            f"model.path={source} is neither a folder nor a reachable hub id: {first_line(error)}"
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
    raw = read_object(source, path)
    if not isinstance(raw.get("model_type"), str):
        raise ConfigError(f"model.path={source}: config.json names no model_type")
    return raw


def read_generation_config(source: str) -> dict[str, Any]:
    """The content of generation_config.json, whose EOS may be another; nothing where there is none.

    Raises:
        ConfigError: It is no JSON object.
    """
    path = find_file(source, "generation_config.json")
    return {} if path is None else read_object(source, path)


def read_object(source: str, path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder.

    Raises:
        ConfigError: The file is too large, no JSON, no object, or holds NaN or infinity.
    """
    name = f"model.path={source}: {path.name}"
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise ConfigError(f"{name} has {size} bytes; at most {LARGEST_JSON} are read")
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{name} is no JSON object")
    return raw


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def entry(raw: Mapping[str, Any], key: str) -> Any:
    """A required entry of config.json.

    Raises:
        ConfigError: It is absent or null.
    """
    if raw.get(key) is None:
        raise ConfigError(f"config.json of the {raw.get('model_type')} model has no {key}; add it")
    return raw[key]


def size(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A width or a count of config.json, above 0; `default` stands for an absent one.

    Raises:
        ConfigError: It is absent without a default, no whole number, or out of range.
    """
    value = entry(raw, key) if default is None or raw.get(key) is not None else default
    most = MOST_LAYERS if key in _DEPTHS else LARGEST_SIZE
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(
            f"config.json of the {raw.get('model_type')} model has {key}={str(value)[:80]}; give a "
            f"whole number from 1 to {most}"
        )
    return value


_DEPTHS = ("num_hidden_layers", "n_layers", "n_layer")


def number(raw: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A factor or an epsilon of config.json, above 0; `default` stands for an absent one.

    Raises:
        ConfigError: It is absent without a default, or no number above 0.
    """
    value = entry(raw, key) if default is None or raw.get(key) is not None else default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(
            f"config.json of the {raw.get('model_type')} model has {key}={str(value)[:80]}; give a "
            "number above 0"
        )
    return float(value)


def items(raw: Mapping[str, Any], key: str) -> list[str | int]:
    """A list of config.json, empty where it is absent.

    Raises:
        ConfigError: It is no list of texts or whole numbers.
    """
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, str | int) for each in value):
        raise ConfigError(
            f"config.json of the {raw.get('model_type')} model has {key}={str(value)[:80]}; give a "
            "list of texts or whole numbers"
        )
    return value


def check_switches(raw: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a configuration that would silently be computed as another one.

    `supported` has for each switch the values that the native code computes; an absent switch
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
