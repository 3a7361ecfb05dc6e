"""Code of the user's own: a file that registers an objective, a reward or a backbone.

`objective.plugin`, `reward.plugin` and `model.plugin` name such a file. The checks read from its
source which names it registers, so that a wrong one is told before anything heavy is imported.
"""

import ast
import importlib.util
import sys
from pathlib import Path

from igpo_lightning.config import config_folders
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import Settings

# Config group -> the decorator whose names it chooses from, and where it is used here.
DECORATORS = {
    "objective": ("register_objective", "rl/objectives.py"),
    "reward": ("register_reward", "rewards/functions.py"),
    "model": ("register_backbone", "models/loading.py"),
}


def find_plugin(config: Settings, group: str) -> Path | None:
    """The file that a group's `plugin` names; None where it names none.

    A relative path is looked for from the working directory, then from each config folder.

    Raises:
        ConfigError: There is no such file.
    """
    name: str | None = getattr(config, group).plugin
    if name is None:
        return None
    folders = [Path.cwd(), *config_folders()]
    for start in folders:
        if name.endswith(".py") and (start / name).is_file():
            return (start / name).resolve()
    places = ", ".join(str(start) for start in folders)
    raise ConfigError(f"{group}.plugin={name}: give a .py file; there is none in {places}")


def registered_names(source: Path, decorator: str) -> tuple[str, ...]:
    """The names that a file registers by `@decorator("name")`, read and not imported.

    Raises:
        ConfigError: The file is no Python.
    """
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{source} cannot be read as Python: {error}") from error
    names = []
    for node in tree.body:
        for call in getattr(node, "decorator_list", []):
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == decorator:
                names += [a.value for a in call.args[:1] if isinstance(a, ast.Constant)]
    return tuple(str(name) for name in names)


def known_names(config: Settings, group: str) -> tuple[str, ...]:
    """The names that a group can choose from: the shipped ones, then those of its plugin.

    Raises:
        ConfigError: The plugin registers nothing for the group, or a name that is shipped.
    """
    decorator, file = DECORATORS[group]
    shipped = registered_names(Path(__file__).parent / file, decorator)
    source = find_plugin(config, group)
    if source is None:
        return shipped
    names, key = registered_names(source, decorator), f"{group}.plugin={source}"
    if not names:
        raise ConfigError(f'{key}: registers nothing; put @{decorator}("NAME") above what it adds')
    if taken := sorted(set(names) & set(shipped)):
        raise ConfigError(f"{key}: registers {', '.join(taken)}, which is shipped; rename it")
    return shipped + names


def load_plugins(config: Settings) -> None:
    """Import the files that the configuration names; each once in a process."""
    for group in DECORATORS:
        source = find_plugin(config, group)
        name = f"igpo_plugin:{source}"
        if source is None or name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses and pickle look for it
        spec.loader.exec_module(module)
