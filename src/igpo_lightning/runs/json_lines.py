"""JSON lines: one record a line, whatever characters its texts hold.

Lines are split at the byte of "\\n" alone. `str.splitlines` would also split at U+2028, U+2029 and
U+0085, which JSON leaves as they are within a text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def encode(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The lines of a file; a lone surrogate, which UTF-8 cannot hold, becomes its JSON escape."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return "".join(lines).encode("utf-8", "backslashreplace")


def parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None for a line that is not a whole JSON object."""
    if not line.endswith(b"\n"):
        return None  # torn by a kill or a full disk, or still being written
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # of UTF-8, of JSON, numbers of thousands of digits
        return None
    return record if isinstance(record, dict) else None


def read(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with its record, or with None where it is not one; nothing for a missing file."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                yield line, parse(line)
