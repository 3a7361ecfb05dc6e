"""One process in a run folder: who is refused, and who may take over."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from igpo_lightning.runs import lock

HOLDER = """
import os, sys, time
from pathlib import Path
from igpo_lightning.runs import lock
lock.BEAT = 0.2
with lock.run_lock(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.2)
    monkeypatch.setattr(lock, "PATIENCE", 1.2)


def test_the_second_process_is_told_who_holds_the_folder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    told = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(lock.FolderInUseError, match=told), lock.run_lock(tmp_path, {}):
        pass
    assert (tmp_path / lock.LOCK_FILE).exists(), "who was refused removed the holder's file"


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_other_ranks_of_a_run_are_not_locked_out(
    tmp_path: Path, holder: subprocess.Popen[str], name: str
) -> None:
    with lock.run_lock(tmp_path, {name: "1"}):
        assert holder.poll() is None


def test_the_folder_is_free_after_a_normal_end(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.communicate("")
    assert list(tmp_path.iterdir()) == []
    with lock.run_lock(tmp_path, {"RANK": "0", "LOCAL_RANK": ""}):
        assert json.loads((tmp_path / lock.LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_free_after_a_kill(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / lock.LOCK_FILE).exists()
    with lock.run_lock(tmp_path, {}):
        pass


def test_the_lock_is_dropped_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.run_lock(tmp_path, {}):
        raise KeyError
    with lock.run_lock(tmp_path, {}):
        pass


def record(host: str, beat: int = 3) -> str:
    return json.dumps({"host": host, "pid": 1, "started": 7, "beat": beat})


def test_a_record_of_another_machine_that_counts_on_is_respected(tmp_path: Path) -> None:
    """Where kernel locks do not reach other machines: the count goes on while this one looks."""
    file = tmp_path / lock.LOCK_FILE
    file.write_text(record("elsewhere"))
    command = f"sleep 0.4; printf '%s' '{record('elsewhere', 4)}' > {file}"
    writer = subprocess.Popen(["sh", "-c", command])
    with pytest.raises(lock.FolderInUseError, match="process 1 on elsewhere"):  # noqa: SIM117
        with lock.run_lock(tmp_path, {}):
            pass
    writer.wait()
    assert json.loads(file.read_text())["beat"] == 4


@pytest.mark.parametrize("content", [record("elsewhere"), "", "torn {", "[]"])
def test_a_record_that_stands_still_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.LOCK_FILE).write_text(content)
    with lock.run_lock(tmp_path, {}):
        holder = json.loads((tmp_path / lock.LOCK_FILE).read_text())
        assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())


def test_without_kernel_locks_a_process_of_this_machine_is_known_by_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the mount has no lock service; pid 1 runs, but did not begin at tick 7."""

    def refused(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", refused)
    file = tmp_path / lock.LOCK_FILE
    running = {"host": socket.gethostname(), "pid": os.getppid(), "beat": 1}
    file.write_text(json.dumps(running | {"started": lock.start_time(os.getppid())}))
    with pytest.raises(lock.FolderInUseError), lock.run_lock(tmp_path, {}):
        pass
    file.write_text(json.dumps(running | {"started": 7}))
    with lock.run_lock(tmp_path, {}):
        pass
