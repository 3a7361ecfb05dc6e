"""benchmarks/rl_step.py measures two runs of a model of random weights in one command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--steps", "1", "--width", "64", "--layers", "1", "--vocabulary", "1000")
STEP = ("stage.prompts_per_step=1", "stage.group_size=2", "logger=[csv]")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_second_run_has_further_overrides_and_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "rl_step.json"
    command = [str(ROOT / "benchmarks/rl_step.py"), *SMALL, "--json", str(file), *STEP]
    done = subprocess.run(
        [sys.executable, *command, "--against", "stage.inner_updates=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first = json.loads(file.read_text())
    second = first["second"]
    assert all(first["phases"][name]["model"] > 0 for name in ("sampling", "update"))
    # Two of four updates, and two passes that score: with the old policy and the reference.
    assert (first["counts"]["passes/update"], second["counts"]["passes/update"]) == (6, 4)
    assert first["counts"]["compute/rollout"] == second["counts"]["compute/rollout"]
    assert "| passes/update | 6 | 4 | 1.5 |" in done.stdout
