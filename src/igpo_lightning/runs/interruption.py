"""Signals outside of training steps, and how a run that they end goes on: by a command, or SLURM.

`signals.SaveOnSignal` leaves a step and saves. In every other phase (start-up,
evaluation before and after training, export) nothing is worth waiting for: the run ends at once.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class InterruptedRunError(BaseException):
    """A signal ended the run; no `except Exception` of a library may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.command = resume_command(sys.argv[1:], None, None)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End the run where it is.

    Raises:
        InterruptedRunError: Always.
    """
    raise InterruptedRunError(number)


def obey_signals() -> None:
    """Let the signals end the run wherever no callback has taken them over."""
    for number in SIGNALS:
        signal.signal(number, interrupt)


def resume_command(arguments: Sequence[str], folder_key: str | None, folder: str | None) -> str:
    """The whole command that resumes a run, also where its folder bears the time of its start.

    Args:
        folder_key: hydra.run.dir, or hydra.sweep.dir in a sweep; None before Hydra is ready.
        folder: Its value.
    """
    given = list(arguments)
    named = any(argument.lstrip("+").startswith(f"{folder_key}=") for argument in given)
    if folder_key is not None and not named:
        plain = folder is not None and not set(folder) & set("[]{}()\\,'\" =#$:")
        given.append(f"{folder_key}={folder if plain else repr(folder)}")
    return shlex.join(["python", "-m", "igpo_lightning", *given])


def own_resume_command() -> str:
    """The command that resumes this process's run."""
    if not HydraConfig.initialized():
        return resume_command(sys.argv[1:], None, None)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return resume_command(sys.argv[1:], "hydra.sweep.dir", str(hydra.sweep.dir))
    return resume_command(sys.argv[1:], "hydra.run.dir", str(hydra.runtime.output_dir))


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
