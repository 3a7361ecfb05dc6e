"""A server that starts whole runs of the command line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import Runs, save_tiny


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    model = tmp_path_factory.mktemp("model")
    save_tiny(model)
    source = Path(__file__).resolve().parents[2] / "src"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("run_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
    )
    yield Runs(server, model)
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
