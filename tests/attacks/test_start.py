"""Signals before a run has begun, and outside of its training."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, Runs

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_python_imports_is_one_line(tmp_path: Path, name: str) -> None:
    """Within the import of Hydra, whose place a module takes that sends the signal."""
    (tmp_path / "hydra.py").write_text(
        f"import os, signal, time\nos.kill(os.getpid(), signal.{name})\ntime.sleep(30)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "igpo_lightning", "stage=eval", "prompt.user=a b"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCE}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 128 + getattr(signal, name)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {name}: stopped before the run began")
    assert line.endswith("python -m igpo_lightning stage=eval 'prompt.user=a b'")


def test_a_batch_job_that_leaves_outside_of_training_goes_back(runs: Runs, tmp_path: Path) -> None:
    """In the evaluation before training, some minutes before SLURM's time limit."""
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    command.chmod(0o755)
    env = {"PATH": f"{command.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "12"}
    fault = {"target": "igpo_lightning.evaluation.answer:denoise", "call": 1, "action": "usr1"}
    assert runs.start(tmp_path / "run", *RL, faults=[fault], env=env) == 138
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    assert "is lost, requeued SLURM job 12. Resume with: " in runs.log(tmp_path / "run")
