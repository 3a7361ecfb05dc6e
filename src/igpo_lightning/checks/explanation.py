"""One mistake of the user's in words: where it stands, the key, the value, what would be right."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_origin

import yaml

from igpo_lightning.config import CONF
from igpo_lightning.errors import ConfigError, root_cause
from igpo_lightning.settings import STAGES, Settings

# What the extra `sweeps` installs, as Hydra names it where it is missing.
_SWEEP_PACKAGE = re.compile(r"hydra_(joblib|submitit|optuna)|(submitit|optuna)")
_FILE = re.compile(r"^In '([^']+)'")
_KEY = re.compile(r"full_key: (\S+)")


def explain(error: BaseException) -> str:
    """The mistake behind an exception of Hydra, OmegaConf, YAML or our own, for one line."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: not YAML: {error.problem}; mend the line"
    # Hydra's search path ends its text about a file that is missing, and helps nobody.
    text = str(error).partition("Config search path:")[0].strip()
    first = _first_line(root_cause(error))
    if (override := getattr(error, "override", None)) is not None:
        said = text.splitlines()[1:2] or [text]
        return f"{override}: cannot be read ({said[0]}); write KEY=VALUE, in quotes for the shell"
    if package := missing_sweep_package(error):
        return (
            f"Hydra's plugin for {package} is not installed, which this launcher or sweeper needs; "
            "install the extra: pip install 'igpo-lightning[sweeps]'"
        )
    key = _key(error)
    place = _place(text, key)
    given = place or next((a for a in sys.argv[1:] if key and _names(a, key)), key)
    if key and ("not in struct" in text + first or "not in '" in text + first):
        return f"{given}: {_unknown(key)}"
    if "Invalid type assigned" in first and (keys := _schema_keys(key)):
        return f"{given}: {key} has no files; set its keys ({key}.{f', {key}.'.join(keys)})"
    if key:
        return f"{given}{f': {key}' if place else ''}: {first}"
    if "interpolation" in text.lower() and (at := [a for a in sys.argv[1:] if "${" in a]):
        return f"{at[0]}: {first}"
    return text


def missing_sweep_package(error: BaseException) -> str | None:
    """The package of the extra `sweeps` whose absence an exception of Hydra is about."""
    text = str(error)
    if not ("Unknown plugin class" in text or "Could not find" in text or "Could not load" in text):
        return None
    found = _SWEEP_PACKAGE.search(text)
    return None if found is None else str(found.group(1) or found.group(2))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and _FILE.match(lines[0]):  # Hydra's heading
        return lines[1]
    return lines[0] if lines else type(error).__name__


def _key(error: BaseException) -> str:
    """The dotted key that the exception is about; empty where it names none."""
    link: BaseException | None = error
    while link is not None:
        if key := getattr(link, "full_key", None):
            return str(key)
        if found := _KEY.search(str(link)):
            return found.group(1)
        link = link.__cause__
    return ""


def _names(argument: str, key: str) -> bool:
    """Whether an argument sets a key, or a mapping that holds it."""
    own = argument.lstrip("+~").split("=")[0]
    return "=" in argument and (key == own or key.startswith(f"{own}."))


def _place(text: str, key: str) -> str | None:
    """File and line of a key in a YAML file, where the text says that it stands in one."""
    found = _FILE.match(text)
    if found is None or not key:
        return None
    name = f"{found.group(1)}.yaml"
    file = next(
        (f / name for f in [*_own_folders(sys.argv[1:]), CONF] if (f / name).is_file()), None
    )
    if file is None or found.group(1) == "config":
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    name = re.escape(key.rpartition(".")[2])
    last = re.compile(rf"(\s*|.*[{{,]\s*)['\"]?{name}['\"]?\s*:")
    at = next((number for number, line in enumerate(lines, 1) if last.match(line)), None)
    return str(file) if at is None else f"{file}, line {at}"


def _own_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """Folders that --config-dir names."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before in ("--config-dir", "-cd"):
            yield Path(argument)
        elif argument.startswith("--config-dir="):
            yield Path(argument.partition("=")[2])


def _unknown(key: str) -> str:
    """That there is no such key, and which was meant."""
    group, _, last = key.rpartition(".")
    if get_origin(_node(group)) is dict:
        return f"{group} has no {last} to change; to add it, write +{key}=VALUE"
    names = _schema_keys(group)
    prefix = f"{group}." if group else ""
    close = difflib.get_close_matches(last, names, n=1)
    if last in names:  # of another stage
        having = [name for name, stage in STAGES.items() if last in _fields(stage)]
        return f"there is no key {key} in this stage; it is one of stage={', stage='.join(having)}"
    hint = f"; did you mean {prefix}{close[0]}?" if close else ""
    known = f"{' Known' if close else '; known'} keys here: {', '.join(names)}" if names else ""
    return f"there is no key {key}{hint}{known}"


def _node(group: str) -> Any:
    """The type of a group of the settings; None where there is none."""
    node: Any = Settings
    for part in filter(None, group.split(".")):
        if not dataclasses.is_dataclass(node):
            return None
        node = {f.name: f.type for f in dataclasses.fields(node)}.get(part)
    return node


def _schema_keys(group: str) -> list[str]:
    """The keys of a group of the settings."""
    if group == "stage":
        return sorted({name for stage in STAGES.values() for name in _fields(stage)})
    node = _node(group)
    return sorted(_fields(node)) if dataclasses.is_dataclass(node) else []


def _fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
