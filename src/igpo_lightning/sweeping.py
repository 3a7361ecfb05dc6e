"""A run as a part of a sweep: where it lives, that it runs once, and what it leaves when it fails.

Nothing here imports torch: a finished run is skipped at once.
"""

import hashlib
import logging
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from igpo_lightning.errors import RunError
from igpo_lightning.reporting.run_data import (
    FAILURE_FILE,
    FINISHED,
    run_status,
    write_overrides,
)
from igpo_lightning.runs.lock import FolderInUseError
from igpo_lightning.runs.metrics_file import SUMMARY_FILE, read_summary

log = logging.getLogger(__name__)
SIGNALLED = 128  # exit statuses above it stand for a signal
_LONGEST = 120  # characters of a folder's name; file systems end at 255 bytes


def folder_name(overrides: str) -> str:
    """A folder's name that follows from a run's overrides alone.

    It does not hold the run's number, so that a sweep that is asked for again, or with more
    values, finds the runs that it has.

    Args:
        overrides: Joined by commas, as hydra.job.override_dirname gives them.

    Returns:
        The overrides without characters that paths or shells read, cut where they are long, with
        a hash that tells cut or changed names apart.
    """
    name = re.sub(r"[^\w.,=+-]", "_", overrides) or "defaults"
    if name == overrides and len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def register_resolvers() -> None:
    """Make `folder_name` known to the configuration, in the processes of a launcher too."""
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def objective(summary: dict[str, Any] | None) -> float | None:
    """What a search over settings maximises: accuracy after training, or of the evaluation."""
    after = (summary or {}).get("after")
    return None if after is None else float(after["mean"])


def run_once(
    config: DictConfig, job: Callable[[DictConfig], dict[str, Any] | None]
) -> dict[str, Any] | float | None:
    """Run a job; in a sweep, skip it where it is finished, and let the others run where it fails.

    Args:
        job: What to run; returns the headline numbers.

    Returns:
        What the job returns; in a sweep the number that sweepers maximise, None for a failed run,
        whose traceback is in failure.txt of its folder.

    Raises:
        SystemExit: A signal ended the run; the sweep ends with it.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return job(config)
    folder = Path(hydra.runtime.output_dir)
    if run_status(folder) == FINISHED:
        log.info("finished before, not run again: %s", folder)
        return objective(read_summary(folder / SUMMARY_FILE))
    failure = folder / FAILURE_FILE
    failure.unlink(missing_ok=True)
    try:
        return objective(job(config))
    except FolderInUseError as error:
        log.warning("left out: %s", error)  # its own process writes what comes of it
        return None
    except Exception as error:
        if isinstance(error, RunError) and error.status > SIGNALLED:
            log.error("%s", error)  # a launcher keeps the text of an exit to itself
            sys.exit(error.status)  # somebody stopped the sweep, not this run alone
        first = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        write_overrides(folder, hydra.overrides.task)  # it may have failed before it wrote them
        failure.write_text(f"{first}\n\n{traceback.format_exc()}", encoding="utf-8")
        log.error("failed: %s; the other runs continue; see %s", first, failure)
        return None
