"""Checkpoints that may come from elsewhere: read without running anything that is in them.

A pickle can name any function and have it called. `torch.load(weights_only=True)` calls none but
torch's own. A folder of shards needs more: torch.distributed.checkpoint reads its `.metadata`, and
what the optimizer keeps beside tensors, with the plain unpickler. Both are looked through first.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from igpo_lightning.errors import ConfigError, first_line

_WRONG_TYPES = (TypeError, AttributeError, AssertionError)
METADATA = ".metadata"  # torch.distributed.checkpoint's name for its table of contents
_CONTENTS = "torch.distributed.checkpoint.metadata"  # module of the dataclasses in it
_OTHER = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("collections", "OrderedDict"),
    *(("pathlib", name) for name in ("PosixPath", "WindowsPath")),
    *(("pathlib._local", name) for name in ("PosixPath", "WindowsPath")),  # Python 3.13
}


class _ContentsUnpickler(pickle.Unpickler):
    """Knows what a table of contents consists of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that a pickle names.

        Raises:
            UnpicklingError: It belongs to no table of contents.
        """
        known = (module == _CONTENTS and "." not in name) or (module, name) in _OTHER
        kind = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not known and not kind:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _refused(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} is not read: it holds more than tensors and settings, and could run code of "
        f"whoever made it ({first_line(error)}). Use a checkpoint that a run of your own has "
        "written, or weights as safetensors"
    )


def read_file(path: Path) -> dict[str, Any]:
    """A checkpoint in one file, its tensors mapped from the disk.

    Raises:
        ConfigError: It would run code, or cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (FileNotFoundError, PermissionError):
        raise
    # What torch raises for a damaged archive; an OSError where a place in it lies before its start.
    except (RuntimeError, OSError, ValueError, EOFError, LookupError, *_WRONG_TYPES) as error:
        raise ConfigError(f"{path} is damaged, or no checkpoint: {first_line(error)}") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} is no checkpoint: it holds a {type(state).__name__}")
    return state


def check_shards(folder: Path) -> None:
    """Refuse a folder of shards that would run code when torch.distributed.checkpoint reads it.

    Raises:
        ConfigError: It would.
    """
    try:
        with (folder / METADATA).open("rb") as stream:
            contents = _ContentsUnpickler(stream).load()
        for index, place in contents.storage_data.items():
            entry = contents.state_dict_metadata[index.fqn]
            if type(entry).__name__ != "BytesStorageMetadata":
                continue  # tensors are read with weights_only
            with (folder / place.relative_path).open("rb") as stream:
                stream.seek(place.offset)
                torch.load(io.BytesIO(stream.read(place.length)), weights_only=True)
    except (pickle.UnpicklingError, AttributeError, KeyError, TypeError) as error:
        raise _refused(folder, error) from error
