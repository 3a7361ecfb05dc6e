"""A long run takes no more memory than a short one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, Runs

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Resident bytes after each step, by the module's own report.
WATCH = """
import sys
from pathlib import Path
from igpo_lightning import cli
from igpo_lightning.rl.module import RLModule
held, report = [], RLModule.report
def watched(self, *parts):
    report(self, *parts)
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
RLModule.report = watched
cli.main()
early, late = max(held[40:50]), max(held[-10:])
print("GROWN", len(held), late - early)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_150_steps_take_no_more_memory_than_50(runs: Runs, tmp_path: Path) -> None:
    args = [*RL, "stage.steps=150", "stage.eval_every=25", "stage.checkpoint_every=10"]
    args += ["logger=[csv,tensorboard]", "reward.workers=1"]
    ended = subprocess.run(
        [
            *(sys.executable, "-c", WATCH, *args),
            *(f"model.path={runs.model}", f"hydra.run.dir={tmp_path / 'run'}"),
        ],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    _, steps, grown = next(
        line.split() for line in ended.stdout.splitlines() if line.startswith("GROWN")
    )
    assert int(steps) == 150
    # Metrics of 100 steps are kept in memory: some kilobytes each.
    assert int(grown) < 8e6
