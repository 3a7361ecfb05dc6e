"""Rows of a file: JSON lines, plain or compressed, or Parquet."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from igpo_lightning.data.reading import Row
from igpo_lightning.errors import ConfigError

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


def file_rows(file: Path) -> Iterator[Row]:
    """The rows of a file; what it holds is told by its ending, JSON lines unless `.parquet`.

    Raises:
        ConfigError: The file cannot be read, or a line is no JSON object.
    """
    return parquet_rows(file) if file.suffix == ".parquet" else jsonl_rows(file)


def parquet_rows(file: Path) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        ConfigError: The file cannot be read.
    """
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(file).to_pylist()
    except (OSError, ArrowException) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    return (Row(f"{file}, row {index}", index, values) for index, values in enumerate(rows))


def jsonl_rows(file: Path) -> Iterator[Row]:
    """The rows of a file, one JSON object a line; empty lines are passed over.

    Raises:
        ConfigError: The file cannot be read, or a line is no JSON object.
    """
    index = 0
    try:
        with _open(file) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _row(f"{file}, line {number}", index, line)
                    index += 1
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def file_stem(file: Path) -> str:
    """The file's name without what it is: `a` of `a.jsonl.gz`."""
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".parquet")


def _open(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8")
    return file.open(encoding="utf-8")


def _row(place: str, index: int, line: str) -> Row:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: a JSON object was expected, not {type(values).__name__}")
    return Row(place, index, values)
