"""A real job of a real SLURM, whose machine is taken away; skipped where no cluster answers.

Debian's slurm-wlm makes a cluster of one machine: a munged that runs, a slurm.conf that names the
machine as controller and only node, then `slurmctld` and `slurmd`.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.small_runs import RL, Runs, results

ARGS = (*RL, "stage.steps=30", "stage.eval_every=0", "stage.eval_before=false")


def said(*command: str) -> str:
    """What a program printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def cluster_answers() -> bool:
    """Whether there is a node that takes jobs."""
    if shutil.which("sbatch") is None:
        return False
    asked = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], check=False, capture_output=True, text=True
    )
    return asked.returncode == 0 and "idle" in asked.stdout


def wait_until(holds, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not cluster_answers(), reason="no SLURM cluster answers here")
@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_job_that_is_told_to_go_saves_goes_back_and_ends_with_the_same_numbers(
    runs: Runs, tmp_path: Path, name: str
) -> None:
    """Signalled in the middle; checkpoints are otherwise made at the end only."""
    folder, args = tmp_path / "run", (*ARGS, "stage.checkpoint_every=100")
    assert runs.start(tmp_path / "whole", *args, grades=True) == 0, runs.log(tmp_path / "whole")
    command = [sys.executable, "-m", "igpo_lightning", *args, f"model.path={runs.model}"]
    script = tmp_path / "job"
    script.write_text(
        "#!/bin/sh\n#SBATCH --requeue --open-mode=append --ntasks=1\n"
        f"srun {' '.join(command)} hydra.run.dir={folder}\n"
    )
    log = tmp_path / "job.log"
    answer = said("sbatch", f"--output={log}", f"--chdir={tmp_path}", str(script))
    job = answer.split()[-1]

    def state(key: str) -> str:
        shown = said("scontrol", "show", "job", "--oneliner", job)
        found = re.search(rf"\b{key}=(\S+)", shown)
        assert found, shown
        return found[1]

    try:
        metrics = folder / "metrics.csv"
        wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, 400)
        said("scancel", f"--signal={name}", job)
        wait_until(lambda: state("Restarts") == "1", 200)
        assert f"asking SLURM to put job {job} back" in log.read_text()
        assert (folder / "checkpoints" / "last.ckpt").exists()
        assert not (folder / "summary.json").exists()
        # SLURM lets a job that was put back wait for two minutes.
        wait_until(lambda: state("JobState") == "COMPLETED", 600)
    finally:
        subprocess.run(["scancel", job], check=False)
    assert results(folder) == results(tmp_path / "whole")
