"""The command line in processes forked from one server, which has imported what runs need."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2] / "src"


class CommandServer:
    """Starts command lines one after the other; use as a context manager."""

    def __init__(self) -> None:
        kept = {k: v for k, v in os.environ.items() if k != "IGPO_DATA_DIR"}
        off_line = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # read by an import
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("run_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, **off_line, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> "CommandServer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, args: Sequence[str], log: Path, **request: Any) -> int:
        """The exit status of a command line, of several ranks the first that is not 0.

        Args:
            args: The command line.
            log: The file to which what it prints is added.
            request: As `run_server.py` has it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = {"args": list(args), "log": str(log), "faults": [], "ranks": 1, **request}
        line.setdefault("seconds", 60 if line["ranks"] > 1 else 300)
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        statuses = json.loads(self._process.stdout.readline())
        return int(next((status for status in statuses if status), 0))
