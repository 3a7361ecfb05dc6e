"""Whole runs of the command line: in a process of its own, or from a server that forks them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from run_fixture import runs

SOURCE = Path(__file__).resolve().parents[2] / "src"
__all__ = ["igpo", "runs"]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def igpo(tmp_path: Path) -> Command:
    """`igpo("stage=eval", ...)`: the command line in an empty folder, off line, on one thread."""

    def run(
        *overrides: str, code: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "igpo_lightning", *overrides],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            env={
                **{k: v for k, v in os.environ.items() if k != "IGPO_DATA_DIR"},
                "PYTHONPATH": str(SOURCE),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
                "COLUMNS": "140",
                **(env or {}),
            },
        )
        assert done.returncode == code, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done

    return run
