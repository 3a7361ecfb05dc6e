"""What a safetensors file says that it holds, checked against the file before any of it is used."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from igpo_lightning.errors import ConfigError

# Names of the safetensors format (github.com/huggingface/safetensors, "Format").
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
_LENGTH = 8  # bytes at the start, which give the header's length


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        dtype: Of its elements.
        shape: Sizes of its axes.
        start: First byte, counted from the start of the file.
        size: Bytes.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name, in the order of their bytes.

    Raises:
        ConfigError: The file is no safetensors file, ends before an entry does, or contradicts
            itself.
    """
    whole = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if whole < _LENGTH or length > min(LONGEST_HEADER, whole - _LENGTH):
            raise _no_safetensors(file, f"a header of {length} bytes in a file of {whole}")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise _no_safetensors(file, str(error)) from error
    if not isinstance(header, dict):
        raise _no_safetensors(file, "its header is no JSON object")
    header.pop("__metadata__", None)
    base = _LENGTH + length
    entries = {name: _entry(file, name, content, base) for name, content in header.items()}
    for name, entry in entries.items():
        if entry.start + entry.size > whole:
            raise ConfigError(
                f"{file} is cut off within {name}: it ends at byte {entry.start + entry.size} of "
                f"a file of {whole}; fetch it again"
            )
    return dict(sorted(entries.items(), key=lambda item: item[1].start))


def _entry(file: Path, name: str, content: Any, base: int) -> Entry:
    try:
        dtype, shape = content["dtype"], content["shape"]
        start, end = content["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
            raise ValueError(f"shape={shape}, data_offsets={[start, end]}")
    except (TypeError, KeyError, ValueError) as error:
        reason = f"its header says of {name}: {str(content)[:200]}"
        raise _no_safetensors(file, reason) from error
    if dtype not in DTYPES:
        raise ConfigError(
            f"{file}: {name} has dtype={dtype!r}; supported: {', '.join(DTYPES)}; convert it"
        )
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    if end - start != expected:
        raise _no_safetensors(
            file, f"{name} has {end - start} bytes, and {dtype} {shape} takes {expected}"
        )
    return Entry(DTYPES[dtype], tuple(shape), base + start, end - start)


def _no_safetensors(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"{file} is no safetensors file: {reason[:300]}")
