"""Files that a kill, a full disk or a flipped bit cannot spoil unnoticed.

What is written appears under its name only when it is whole and on the disk: temporary name,
fsync, rename. What is read is checked first: a checkpoint file ends with the SHA-256 sum of all
bytes before the sum, a folder of shards holds a file of such sums. A zip archive's own checksums
are not enough: they do not cover its directory.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from igpo_lightning.errors import RunError

PARTIAL = ".partial"  # ends the name of what is not whole yet
SUMS_FILE = "checksums.json"
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")  # torch, like unzip, reads past what follows an archive
_SEAL_LENGTH = len("sha256:") + 64
_PART = 2**22  # bytes that are read at a time


def _flush(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_name(path: Path) -> Path:
    """Where a file or folder stands until it is whole."""
    return path.with_name(path.name + PARTIAL)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_refused(path: Path | str, error: Exception) -> RunError:
    """The end of a run whose checkpoint cannot be written."""
    return RunError(
        f"cannot write {path}: {error}. Earlier checkpoints in {Path(path).parent} are untouched; "
        "make room there (or make it writable) and start the same command to go on"
    )


def write(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a file, and give it its name when it is whole.

    Its folder has to be there: a run folder that was removed is not made again without its files.

    Raises:
        OSError: It cannot be written; what stood under the name before is untouched.
    """
    partial = partial_name(path)
    try:
        fill(partial)
        _flush(partial)
    except BaseException:
        remove(partial)
        raise
    partial.replace(path)
    _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of bytes."""

    def fill(partial: Path) -> None:
        partial.write_bytes(content)

    write(path, fill)


def publish_folder(path: Path) -> None:
    """Give a folder that was filled under its partial name its sums and its own name."""
    partial = partial_name(path)
    files = sorted(file for file in partial.rglob("*") if file.is_file())
    sums = {str(file.relative_to(partial)): _sha256(file) for file in files}
    (partial / SUMS_FILE).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    _give_name(path)


def _give_name(path: Path) -> None:
    """Let a whole folder take its place, also that of an older one (a step reached again)."""
    partial = partial_name(path)
    for file in [*(file for file in partial.rglob("*") if file.is_file()), partial]:
        _flush(file)
    remove(path)
    partial.rename(path)
    _flush(path.parent)


@contextmanager
def new_folder(path: Path, owner: bool = True) -> Iterator[Path]:
    """Within it, a folder is filled under its partial name; afterwards it takes its own.

    Args:
        path: Of the folder; what stands there stays until the new one is whole.
        owner: Whether this process makes and names it; others may wait for its work within.

    Raises:
        RunError: It cannot be written; what stood under the name before is untouched.
    """
    partial = partial_name(path)
    try:
        if owner:
            remove(partial)
            partial.mkdir(parents=True)
        yield partial
        if owner:
            _give_name(path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error}. Make room there (or make it writable) and start the "
            "same command again, or write it elsewhere with stage=export"
        ) from error
    finally:
        if owner:
            remove(partial)


def link(path: Path, target: str) -> None:
    """Make `path` a link to a neighbour, whatever stood there before."""
    partial = partial_name(path)
    remove(partial)
    partial.symlink_to(target)
    if path.is_dir() and not path.is_symlink():
        remove(path)
    partial.replace(path)


class SealedStream:
    """A stream that sums up what is written to it, and ends with the sum."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def write(self, part: Any) -> int:
        """Write bytes."""
        self.digest.update(part)
        return self.stream.write(part)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self.stream.flush()

    def seal(self) -> None:
        """Write the sum; nothing may follow."""
        self.stream.write(b"sha256:" + self.digest.hexdigest().encode())


def _sha256(file: Path, length: int | None = None) -> str:
    """The sum of a file, or of its first `length` bytes."""
    digest, left = hashlib.sha256(), file.stat().st_size if length is None else length
    with file.open("rb") as stream:
        while left > 0 and (part := stream.read(min(_PART, left))):
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def seal_of(path: Path) -> bytes | None:
    """The sum at a file's end; None for a file that does not end with one."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _SEAL_LENGTH))
        end = stream.read()
    return end if _SEAL.fullmatch(end) else None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if every byte is as it was written.

    Args:
        path: A file that was written through `SealedStream`, or a folder that `publish_folder`
            named.
    """
    try:
        return _folder_damage(path) if path.is_dir() else _file_damage(path)
    except (OSError, ValueError, RecursionError) as error:
        return str(error) or type(error).__name__


def _file_damage(path: Path) -> str | None:
    if not path.is_file():  # a device or a pipe might never end
        return "it is no file"
    seal = seal_of(path)
    if seal is None:
        return "its end, with the checksum, is missing"
    found = _sha256(path, path.stat().st_size - _SEAL_LENGTH)
    return None if seal == f"sha256:{found}".encode() else "its checksum does not fit"


def _folder_damage(path: Path) -> str | None:
    if not (path / SUMS_FILE).is_file():
        return f"{SUMS_FILE} is missing"
    sums = json.loads((path / SUMS_FILE).read_text(encoding="utf-8"))
    if not isinstance(sums, dict):
        return f"{SUMS_FILE} holds no sums"
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    for name in sorted(sums.keys() | files - {SUMS_FILE}):
        if name not in files:
            return f"{name} is missing"
        if name not in sums:
            return f"{name} has no checksum"
        if _sha256(path / name) != sums[name]:
            return f"the checksum of {name} does not fit"
    return None
