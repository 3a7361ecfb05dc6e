"""SLURM: a job that is told to go puts itself back into the queue."""

import logging
import os
import subprocess

log = logging.getLogger(__name__)


def requeue() -> str | None:
    """Put this SLURM job back into the queue, unless submitit does; returns its number.

    None outside of SLURM's batch jobs.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "SUBMITIT_EXECUTOR" in os.environ:
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    # Said before: SLURM ends this process, with its job, as soon as it is asked.
    log.warning("saved; asking SLURM to put job %s back into the queue", job)
    try:
        answer = subprocess.run(
            ["scontrol", "requeue", job], check=False, capture_output=True, text=True
        )
    except OSError as error:
        log.warning("cannot requeue SLURM job %s: %s", job, error)
        return None
    if answer.returncode:
        log.warning("cannot requeue SLURM job %s: %s", job, answer.stderr.strip())
        return None
    return job
