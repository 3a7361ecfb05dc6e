"""Rows of a file: JSON lines, plain or compressed, CSV, or Parquet. Files are untrusted."""

import csv
import gzip
import json
import math
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from igpo_lightning.data.reading import Row
from igpo_lightning.errors import ConfigError, first_line

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
LONGEST_LINE = 4 * 2**20  # bytes; the longest traces of public data sets have a tenth
_MOST_EXPANSION = 200  # times its size on disk that a compressed file may hold; JSON has below 20
_SMALL = 2**22  # bytes that any compressed file may hold
_ONE_PER_LINE = "write one JSON object per line, not one array"
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
_MOST_DIGITS = 4300  # what Python reads as an integer


def file_rows(file: Path) -> Iterator[Row]:
    """The rows of a file; what it holds is told by its ending, JSON lines if by none.

    Raises:
        ConfigError: The file cannot be read, or a line is no JSON object; in one line.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; name one of its files ({', '.join(ENDINGS)})")
    readers = {".parquet": parquet_rows, ".csv": csv_rows}
    return readers.get(file.suffix, jsonl_rows)(file)


def parquet_rows(file: Path) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        ConfigError: The file cannot be read.
    """
    from pyarrow import ArrowException, parquet

    index = 0
    try:
        with closing(parquet.ParquetFile(file)) as table:
            for batch in table.iter_batches(batch_size=1000):
                for values in batch.to_pylist():
                    yield Row(f"{file}, row {index}", index, values)
                    index += 1
    except (OSError, ArrowException) as error:
        raise ConfigError(f"{file} cannot be read: {first_line(error)}") from error


def csv_rows(file: Path) -> Iterator[Row]:
    """The rows of a CSV file, whose first line names the columns.

    Whole numbers are numbers, empty cells are null, everything else is text.

    Raises:
        ConfigError: The file cannot be read, or a row is not as long as the first.
    """
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(text for _, text in _lines(file))
    try:
        names = next(reader, [])
        if (name := _twice(names)) is not None:
            raise ConfigError(f"{file}, line 1: two columns are named {name!r}; rename one")
        for index, cells in enumerate(row for row in reader if row):
            place = f"{file}, line {reader.line_num}"
            if len(cells) != len(names):
                raise ConfigError(
                    f"{place}: {len(cells)} cells, but the first line names {len(names)} columns"
                )
            yield Row(place, index, dict(zip(names, map(_cell, cells), strict=True)))
    except csv.Error as error:
        raise ConfigError(f"{file}, line {reader.line_num} cannot be read: {error}") from error


def _cell(text: str) -> str | int | None:
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text or None


def jsonl_rows(file: Path) -> Iterator[Row]:
    """The rows of a file, one JSON object per line; empty lines are passed over.

    Raises:
        ConfigError: The file cannot be read, or a line is no JSON object.
    """
    index = 0
    for number, line in _lines(file):
        if line.strip():
            yield _row(f"{file}, line {number}", index, line)
            index += 1


def file_stem(file: Path) -> str:
    """The file's name without what it is: `a` of `a.jsonl.gz`."""
    name = file.name.removesuffix(".gz")
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1, in bounded memory.

    Lines end at a line feed alone: U+2028 and its like are text.
    """
    try:
        compressed = file.suffix == ".gz"
        most = max(_SMALL, _MOST_EXPANSION * file.stat().st_size) if compressed else math.inf
        with gzip.open(file) if compressed else file.open("rb") as stream:
            number, size = 0, 0
            while line := stream.readline(LONGEST_LINE + 1):
                number, size = number + 1, size + len(line)
                if len(line) > LONGEST_LINE:
                    raise ConfigError(
                        f"{file}, line {number}: longer than {LONGEST_LINE // 2**20} MB; give one "
                        "problem per line"
                    )
                if size > most:
                    raise ConfigError(
                        f"{file} holds over {_MOST_EXPANSION} times its size on disk; unpack it, "
                        "if it is meant to"
                    )
                yield (
                    number,
                    _decode(file, number, line.removeprefix(_BOM) if number == 1 else line),
                )
    except (OSError, EOFError) as error:
        raise ConfigError(f"{file} cannot be read: {first_line(error)}") from error


def _decode(file: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        what = _OTHER_BOMS.get(line[:2], "not UTF-8") if number == 1 else "not UTF-8"
        raise ConfigError(
            f"{file}, line {number} cannot be read: it is {what} (byte "
            f"0x{line[error.start]:02x} at {error.start}); save the file as UTF-8"
        ) from error


def _row(place: str, index: int, line: str) -> Row:
    try:
        values = json.loads(
            line,
            parse_constant=_refuse_number,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_each_once,
        )
    except (ValueError, RecursionError) as error:
        array = f"; {_ONE_PER_LINE}" if line.lstrip().startswith("[") else ""
        raise ConfigError(f"{place}: not JSON ({first_line(error)}){array}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: is not a JSON object; {_ONE_PER_LINE}")
    if "\\u" in line:
        _check_surrogates(place, values)
    return Row(place, index, values)


def _check_surrogates(place: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        try:
            json.dumps({name: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise ConfigError(
                f"{place}: {name!r} holds half of a surrogate pair (\\u{code:04x}), which is no "
                "character; mend or drop the row"
            ) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"{_twice([name for name, _ in pairs])!r} stands twice in one object")
    return values


def _twice(names: list[str]) -> str | None:
    """The first name that is there again."""
    return next((name for at, name in enumerate(names) if name in names[:at]), None)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is no number; write null or text")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number; write it as text")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; write it as text")
    return int(text)
