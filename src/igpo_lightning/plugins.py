"""Code of the user's own: a file that registers an objective, a reward or a backbone.

`objective.plugin`, `reward.plugin` and `model.plugin` name such a file. The checks read from its
source which names it registers, so that a wrong one is told before anything heavy is imported.
"""

import ast
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from igpo_lightning.config import config_folders
from igpo_lightning.errors import OWN_MODULES, ConfigError, error_place
from igpo_lightning.settings import Settings

# Config group -> the decorator whose names it chooses from, and where it is used here.
DECORATORS = {
    "objective": ("register_objective", "rl/objectives.py"),
    "reward": ("register_reward", "rewards/functions.py"),
    "model": ("register_backbone", "models/loading.py"),
}
# Config group -> what the functions or classes that it chooses from are called with.
PARAMETERS = {
    "objective": ("logp", "old_logp", "advantages", "loss_mask", "settings"),
    "reward": ("graded",),
    "model": ("config", "tokens"),
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
    return tuple(name for name, _ in _registrations(tree, decorator))


def _registrations(tree: ast.Module, decorator: str) -> list[tuple[str, ast.stmt]]:
    """Each registered name, with the definition below the decorator."""
    return [
        (str(first.value), node)
        for node in tree.body
        for call in getattr(node, "decorator_list", [])
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == decorator
        for first in call.args[:1]
        if isinstance(first, ast.Constant)
    ]


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
    """Import the files that the configuration names; each once in a process.

    Raises:
        ConfigError: A file cannot be imported, or registers what takes other arguments.
    """
    for group in DECORATORS:
        source = find_plugin(config, group)
        name = f"{OWN_MODULES}{source}"
        if source is None or name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses and pickle look for it
        try:
            spec.loader.exec_module(module)
            _check_signatures(module, source, group)
        except Exception as error:
            del sys.modules[name]
            if isinstance(error, ConfigError):
                raise
            fix = "mend the file"
            if isinstance(error, ModuleNotFoundError):
                fix = f"install {error.name}, or import it where it is used"
            raise ConfigError(
                f"{group}.plugin: {error_place(str(source), error)}: importing it raised "
                f"{type(error).__name__}: {error}; {fix}"
            ) from error


def _check_signatures(module: ModuleType, source: Path, group: str) -> None:
    """What a plugin registers can be called as it will be.

    Raises:
        ConfigError: Names file, line and function, and what is expected.
    """
    tree, parameters = ast.parse(source.read_text(encoding="utf-8")), PARAMETERS[group]
    for _, node in _registrations(tree, DECORATORS[group][0]):
        name = node.name  # type: ignore[attr-defined]
        signature = inspect.signature(getattr(module, name))
        try:
            signature.bind(*parameters)
        except TypeError as error:
            raise ConfigError(
                f"{group}.plugin: {source}, line {node.lineno}: {name}{signature} cannot be "
                f"called as {name}({', '.join(parameters)}): {error}; give it these parameters"
            ) from error
