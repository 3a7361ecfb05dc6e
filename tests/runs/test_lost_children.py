"""Lightning's launcher kills all ranks when one is lost; which one, has to be said before."""

import logging
import signal
import subprocess
import sys

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from igpo_lightning.runs.survival import name_killed_children


def test_the_observer_names_the_lost_child_and_the_way_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rank 1 was killed; in the place of this process the observer kills another one."""
    sleep = (sys.executable, "-c", "import time; time.sleep(60)")
    child, main = subprocess.Popen(sleep), subprocess.Popen(sleep)
    name_killed_children()
    name_killed_children()
    child.send_signal(signal.SIGKILL)
    child.wait()
    observer = _ChildProcessObserver(main.pid, [child], sleep_period=0)
    observer.start()
    observer.join(30)
    assert main.wait(30) == -signal.SIGKILL
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "[rank: 1] Child process" in record.getMessage()
    assert f"PID {child.pid} terminated with code -9" in record.getMessage()
    assert "run the same command again to resume" in record.getMessage()
