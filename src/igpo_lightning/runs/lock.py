"""One process at a time in a run folder.

The first rank holds a kernel lock (POSIX, which network file systems know too) on RUN/run.lock. The
kernel drops the lock when the process ends, however it ends, so no lock goes stale on one machine.
The file says who holds the lock and counts seconds: on file systems whose locks do not reach other
machines, another machine sees the count go on.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from igpo_lightning.errors import RunError

LOCK_FILE = "run.lock"
BEAT = 5.0  # seconds between two counts
PATIENCE = 6 * BEAT  # without a new count for so long, the holder on another machine is gone
_LENGTH = 512  # bytes of the record, padded, so that a write never leaves parts of the last one
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # as torchrun, Lightning, SLURM say
_HELD = (errno.EACCES, errno.EAGAIN)

log = logging.getLogger(__name__)


class FolderInUseError(RunError):
    """Another process runs in the folder."""


def is_first_rank(environment: Mapping[str, str]) -> bool:
    """Whether this process is the first of its run, told before any process group is there."""
    return all(environment.get(name) in (None, "", "0") for name in _RANKS)


def start_time(pid: int) -> int | None:
    """When a process of this machine began, in clock ticks since boot; None if it is not there."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(line.rpartition(")")[2].split()[19])  # field 22; the name before may hold blanks


def _own_record(beat: int) -> dict[str, Any]:
    host, pid = socket.gethostname(), os.getpid()
    return {"host": host, "pid": pid, "started": start_time(pid), "beat": beat}


def _write(descriptor: int, record: dict[str, Any]) -> None:
    os.pwrite(descriptor, json.dumps(record).encode().ljust(_LENGTH), 0)


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(content)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"host", "pid", "beat"} <= record.keys() else None


def _in_use(file: Path, holder: dict[str, Any] | None) -> FolderInUseError:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return FolderInUseError(
        f"{file.parent} is in use by {who}; wait until that run ends, stop it, or choose another "
        f"hydra.run.dir (if that process is gone, remove {file})"
    )


def _opened(file: Path) -> tuple[int, bool]:
    """The locked file, and whether the file system knows locks.

    Raises:
        FolderInUseError: Another process holds the lock.
    """
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            if error.errno == errno.ELOOP:  # or the file that it leads to would be overwritten
                raise RunError(f"{file} is a link; remove it") from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RunError(f"{file} is no file, as a pipe or a device; remove it")
        knows_locks = True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                holder = _parse(os.pread(descriptor, _LENGTH, 0))
                os.close(descriptor)
                raise _in_use(file, holder) from error
            knows_locks = False
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == file.stat().st_ino:
                return descriptor, knows_locks
        os.close(
            descriptor
        )  # the holder before has removed the file: a lock on it is worth nothing


def _is_gone(holder: dict[str, Any], knows_locks: bool) -> bool:
    """Whether the holder, which did not remove its record, is known to have ended."""
    if holder["host"] != socket.gethostname():
        return False
    return knows_locks or start_time(holder["pid"]) != holder.get("started")


def _goes_on(file: Path, record: dict[str, Any]) -> bool:
    """Whether the holder on another machine still counts."""
    log.info("%s was held by a process on %s; looking whether it runs", file.parent, record["host"])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(BEAT / 5)
        with suppress(OSError):
            # Opened anew each time: a network file system then asks its server.
            if _parse(file.read_bytes()) != record:
                return True
    return False


def _acquired(file: Path) -> int:
    """The file's descriptor, once this process holds it.

    Raises:
        FolderInUseError: Another process does.
    """
    gone: dict[str, Any] | None = None
    while True:
        descriptor, knows_locks = _opened(file)
        holder = _parse(os.pread(descriptor, _LENGTH, 0))
        if holder is None or holder == gone or _is_gone(holder, knows_locks):
            _write(descriptor, _own_record(0))
            return descriptor
        os.close(descriptor)
        if holder["host"] == socket.gethostname() or _goes_on(file, holder):
            raise _in_use(file, holder)
        gone = holder


@contextmanager
def run_lock(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Hold a run folder while the block runs; ranks other than the first hold nothing.

    Raises:
        FolderInUseError: Another process holds it.
    """
    if not is_first_rank(environment):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    descriptor = _acquired(file)
    ended = threading.Event()

    def count() -> None:
        beat = 0
        with suppress(OSError):  # a full disk is told by what the run itself writes
            while not ended.wait(BEAT):
                beat += 1
                _write(descriptor, _own_record(beat))

    thread = threading.Thread(target=count, name="run lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        file.unlink(missing_ok=True)
        os.close(descriptor)
