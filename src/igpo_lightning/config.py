"""From the YAML files under conf/ and overrides to `Settings`.

Hydra merges the files into the dataclasses of `settings`, so an unknown key or a wrong type fails
while the configuration is composed; each dataclass then refuses values that are out of range, and
`checks.validate` those that do not fit together. Nothing here imports torch.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import STAGES, DataConfig, Settings

_PACKAGED = Path(__file__).parent / "conf"
DEFAULT_EXPERIMENT = "tiny"  # as the defaults of conf/config.yaml have it
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parents[2] / "conf"


def schema(group: type) -> DictConfig:
    """A dataclass as a node that YAML files can be merged into.

    OmegaConf marks nodes of frozen dataclasses as read-only, which Hydra's composing is not ready
    for; the objects that come out of it are frozen all the same.
    """
    node = OmegaConf.structured(group)
    _open(node)
    assert isinstance(node, DictConfig)
    return node


def _open(node: Any) -> None:
    if isinstance(node, DictConfig | ListConfig):
        node._set_flag("readonly", None)
    if isinstance(node, DictConfig):
        for key in node:
            _open(node._get_node(key))


@functools.cache  # Hydra's store is global, too
def register_schemas() -> None:
    """Make the dataclasses known to Hydra: the root as `schema`, each stage as `stage/NAME`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=schema(Settings))
    for name, stage in STAGES.items():
        store.store(group="stage", name=name, node=schema(stage))


def to_settings(config: DictConfig) -> Settings:
    """The typed settings of a composed configuration, each group checked by itself.

    Raises:
        ConfigError: A value is out of range.
    """
    return Settings(**{field.name: _value(config, field.name) for field in _FIELDS})


_FIELDS = dataclasses.fields(Settings)


def _value(config: DictConfig, name: str) -> Any:
    from hydra.core.hydra_config import HydraConfig

    value = config[name]
    if not OmegaConf.is_config(value):
        return value
    if name == "logger" and not HydraConfig.initialized():
        # A logger's folder is the run's, and no run has begun.
        return OmegaConf.to_container(value, resolve=False)
    return OmegaConf.to_object(value)


def plain(settings: Any) -> dict[str, Any]:
    """Settings as mappings, lists and plain values, for files and tables."""
    values = OmegaConf.to_container(OmegaConf.create(dataclasses.asdict(settings)))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def dotted(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested mappings as one, dotted key: value; an empty group is a leaf, and so is a list."""
    return dict(_leaves(values, ""))


def _leaves(node: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# The C loader reads a run's configuration ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def require_plain_files(folder: Path) -> None:
    """What stands in a run folder can be read: opening a pipe would wait for ever.

    Raises:
        ConfigError: Names what is neither file nor folder.
    """
    for path in folder.glob("*"):  # none, where there is no such folder
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"{path} is no file, as a pipe or a device; remove it")


def read_written(file: Path, kind: type = dict) -> Any:
    """The mapping in a config.yaml that a run wrote, or a list in another YAML or JSON file.

    Raises:
        ConfigError: It is damaged, or of somebody who wants to do harm.
    """
    try:
        text = file.read_text(encoding="utf-8")
        # No run writes any, and a few lines of them make 10^9 nodes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
            raise ValueError("it holds an alias")
        written = yaml.load(text, _LOADER)
        if not isinstance(written, kind):
            raise ValueError(f"it holds a {type(written).__name__}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(
            f"{file} is not as a run wrote it: {reason}; put it back as it was, or use "
            "another folder"
        ) from error
    return written


def read_settings(file: Path) -> Settings:
    """The settings of the run that wrote a config.yaml.

    Raises:
        ConfigError: Another version wrote it, whose keys or values are no longer known.
    """
    try:
        written = OmegaConf.create(read_written(file))
        whole = schema(Settings)
        whole.stage = schema(STAGES[written.stage.name])
        merged = OmegaConf.merge(whole, written)
        assert isinstance(merged, DictConfig)
        return to_settings(merged)
    except (OmegaConfBaseException, ConfigError, KeyError) as error:
        raise ConfigError(
            f"{file}: was written by another version of igpo_lightning ({error}); use that version "
            "with this folder"
        ) from error


def config_folders() -> list[Path]:
    """Folders of config groups: those of --config-dir first, then the shipped one."""
    from hydra.core.hydra_config import HydraConfig

    folders = [CONF]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        own = [Path(source.path) for source in sources if source.schema == "file" and source.path]
        folders = [folder for folder in own if folder not in folders] + folders
    return folders


def named_data(name: str, key: str) -> DataConfig:
    """The data configuration that `data=NAME` selects, for keys that name one.

    Args:
        name: Of a file in a `data` group.
        key: Where the name stands, for the message.

    Raises:
        ConfigError: There is no such file, or it does not fit the schema.
    """
    files = [file for folder in config_folders() for file in sorted(folder.glob("data/*.yaml"))]
    file = next((file for file in files if file.stem == name), None)
    if file is None:
        known = ", ".join(sorted({file.stem for file in files}))
        raise ConfigError(f"{key}={name}: there is no data={name}; use one of {known}")
    try:
        values = OmegaConf.create(file.read_text(encoding="utf-8"))
        assert isinstance(values, DictConfig)
        values.pop("defaults", None)
        data = OmegaConf.to_object(OmegaConf.merge(schema(DataConfig), values))
    except (OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{key}={name}: {file}: {error}") from error
    assert isinstance(data, DataConfig)
    return data
