"""Files that a kill, a full disk or a flipped bit cannot spoil unnoticed.

What is written appears under its name only when it is whole and on the disk: temporary name,
fsync, rename. What is read is checked first. A file that torch wrote is a zip archive, which holds
a CRC-32 of each of its parts; a folder of shards gets a file of SHA-256 sums.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from igpo_lightning.errors import RunError

PARTIAL = ".partial"  # ends the name of what is not whole yet
SUMS_FILE = "checksums.json"


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

    Raises:
        OSError: It cannot be written; what stood under the name before is untouched.
    """
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**22):
            digest.update(part)
    return digest.hexdigest()


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if its sums fit.

    Args:
        path: A file that `torch.save` wrote, or a folder that `publish_folder` named.
    """
    try:
        if path.is_dir():
            return _folder_damage(path)
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
        return None if part is None else f"the checksum of {part} does not fit"
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__


def _folder_damage(path: Path) -> str | None:
    if not (path / SUMS_FILE).is_file():
        return f"{SUMS_FILE} is missing"
    sums = json.loads((path / SUMS_FILE).read_text(encoding="utf-8"))
    for name, expected in sums.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _sha256(path / name) != expected:
            return f"the checksum of {name} does not fit"
    return None
