"""Timing whole runs: what was timed is kept, and what was interrupted starts anew."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import timed

real_run = subprocess.run


def test_a_run_is_timed_once_and_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = tmp_path / "run", []

    def busy_run(command: list[str], **options: Any) -> None:
        """Stands for the command line: its process computes for 0.2 seconds and then sleeps."""
        asked.append(command)
        assert not folder.exists(), "what an interruption left is not resumed"
        folder.mkdir()
        busy = "import time\nwhile time.process_time() < 0.2: pass\ntime.sleep(0.1)"
        real_run([sys.executable, "-S", "-c", busy], **options)

    monkeypatch.setattr(subprocess, "run", busy_run)
    folder.mkdir()
    begun = time.perf_counter()
    timed.timed_run(folder, ["seed=1"])
    passed = time.perf_counter() - begun
    seconds = timed.seconds_of(folder)
    assert 0.2 <= seconds["processor"] <= seconds["wall"] - 0.1 <= passed - 0.1
    assert asked[0][-3:] == ["seed=1", "trainer.threads=1", f"hydra.run.dir='{folder}'"]
    timed.timed_run(folder, ["seed=1"])
    assert len(asked) == 1
