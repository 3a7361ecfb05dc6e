"""What SLURM is asked for, and what a run does when SLURM takes its machine away."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning.runs.interruption import requeue
from tests.integration.small_runs import RL


def command(folder: Path, name: str, text: str) -> None:
    """A program of that name on a PATH of its own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_sweep_asks_for_one_job_a_run_of_the_trainers_size(tmp_path: Path) -> None:
    """sbatch keeps the script that it is given, and refuses it."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command(tmp_path / "bin", "srun", "exit 1")
    command(tmp_path / "bin", "sbatch", f'cat "$1" > {tmp_path}/script; exit 1')
    args = "--multirun hydra/launcher=slurm stage=eval trainer=ddp trainer.devices=4 seed=1,2"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "igpo_lightning", *args.split(), "trainer.num_nodes=2"),
            *("hydra.launcher.partition=long", f"hydra.sweep.dir={tmp_path / 'sweep'}"),
        ],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "script").exists(), ended.stderr[-2000:]
    asked = set(re.findall(r"#SBATCH --(\S+)", (tmp_path / "script").read_text()))
    assert asked >= {
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "cpus-per-task=8",
        "partition=long",
        "array=0-1%2",
        "signal=USR2@300",
        "time=1440",
    }


@pytest.mark.slow
def test_submitit_runs_a_job_of_a_sweep(igpo, tmp_path: Path) -> None:
    """Through submitit's own processes on this machine, pickled and unpickled as on a cluster."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    args = (*RL, "stage.steps=1", "stage.eval_before=false", "stage.eval_after=false")
    igpo("-m", "hydra/launcher=submitit_local", *args, "seed=3", "hydra.sweep.dir=sweep")
    (run,) = [file.parent for file in (tmp_path / "sweep").rglob("summary.json")]
    assert (run / "export" / "model.safetensors").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished"]
    assert list((tmp_path / "sweep" / ".submitit").rglob("*_log.out"))


def test_a_batch_job_goes_back_into_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "bin", "scontrol", f'echo "$@" > {tmp_path}/asked')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("SLURM_ARRAY_JOB_ID", "SUBMITIT_EXECUTOR", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert requeue() is None  # not under SLURM
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert requeue() == "12"
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue() == "9_3"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")  # submitit requeues by itself
    assert requeue() is None
