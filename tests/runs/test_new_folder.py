"""A folder appears when it is whole; what stood there before stays until then."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning.errors import RunError
from igpo_lightning.runs import durable


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    for text in ("old", "new"):
        with durable.new_folder(folder) as partial:
            (partial / "weights").write_text(text)
            (partial / text).write_text("")
    assert sorted(file.name for file in folder.iterdir()) == ["new", "weights"]
    assert (folder / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["export"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_leaves_the_old_folder(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights").write_text("old")

    def fill() -> None:
        with durable.new_folder(folder) as partial:
            (partial / "weights").write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(RunError, match=r"cannot write .*export: .*start the same command again"):
        fill()
    assert (folder / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["export"]


KILLED = """
import sys, time
from pathlib import Path
from igpo_lightning.runs import durable
with durable.new_folder(Path(sys.argv[1])) as partial:
    (partial / "weights").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_kill_leaves_the_old_folder_and_the_next_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "weights").write_text("old")
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert (folder / "weights").read_text() == "old"
    with durable.new_folder(folder) as partial:
        assert list(partial.iterdir()) == []
        (partial / "weights").write_text("new")
    assert (folder / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["export"]
