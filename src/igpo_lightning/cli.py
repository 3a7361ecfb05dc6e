"""The command line: compose the configuration, check it, dispatch one stage."""

import dataclasses
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.checks.explanation import explain, missing_sweep_package
from igpo_lightning.checks.launch import (
    check_arguments,
    check_plus,
    check_run_folder,
    check_stage_of_folder,
)
from igpo_lightning.checks.start import checked
from igpo_lightning.config import CONF, register_schemas
from igpo_lightning.errors import ConfigError, PastHydra, RunError, first_line, is_panic, root_cause
from igpo_lightning.reporting.visible import visible
from igpo_lightning.runs.interruption import (
    InterruptedRunError,
    obey_signals,
    own_resume_command,
    requeue,
)
from igpo_lightning.runs.lock import is_first_rank, run_lock
from igpo_lightning.settings import Settings
from igpo_lightning.sweeping import SIGNALLED, register_resolvers, run_once

log = logging.getLogger(__name__)

# Not in main: a launcher's processes import this module and never call it.
register_resolvers()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _run(config: DictConfig) -> dict[str, Any] | float | None:
    try:
        return run_once(config, _checked)
    except Exception as error:
        if _told(error) is None:
            raise  # a bug: Hydra names the overrides, Python shows the traceback
        raise PastHydra(error) from error


def _checked(config: DictConfig) -> dict[str, Any] | None:
    settings = checked(config)
    hydra_config = HydraConfig.instance().cfg
    assert hydra_config is not None
    run_dir = OmegaConf.to_container(hydra_config.hydra.run, resolve=False)["dir"]  # type: ignore
    if HydraConfig.get().mode == RunMode.RUN:
        check_run_folder(settings.trainer, run_dir, os.environ)
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with run_lock(folder, os.environ):
            check_stage_of_folder(settings.stage.name, folder)
            # Imported here so that a wrong configuration fails before torch is loaded.
            from igpo_lightning import stages

            return stages.run(settings)
    except InterruptedRunError as told:
        told.command = own_resume_command()  # known within the job alone
        raise


# Full, over quota, larger than allowed; not writable, a folder that is a file, or the other way, a
# link to itself, too long a name.
_STORAGE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ELOOP, errno.ENAMETOOLONG),
)


def _folder_is_gone(error: OSError) -> bool:
    """Whether the folder of a file was removed, as a run folder while the run goes on."""
    file = error.filename
    return error.errno == errno.ENOENT and isinstance(file, str) and not Path(file).parent.exists()


def _no_folder_can_be_there(error: OSError) -> bool:
    """Whether the system refuses a folder where it makes its own, as in /proc."""
    frames = traceback.extract_tb(error.__traceback__)
    return error.errno == errno.ENOENT and bool(frames) and frames[-1].name == "mkdir"


def _storage_advice(error: OSError) -> str:
    full = error.errno in _STORAGE_ERRORS[:3]
    fix = "make room there" if full else "make it writable, or choose another hydra.run.dir"
    if _folder_is_gone(error):
        return (
            f"cannot write {error.filename}: its folder was removed during the run. Start "
            "the same command to run it again"
        )
    return (
        f"cannot write {error.filename or 'to the disk'}: {error.strerror}; {fix}. What was saved "
        "before is kept: run the same command again to resume from the last checkpoint"
    )


def _told(error: BaseException) -> tuple[str, int] | None:
    """What is said of an error, and the exit status; None for a bug, which shows a traceback."""
    if isinstance(error, InterruptedRunError):
        kept = "stopped, and nothing that was saved is lost"
        # Before its time limit SLURM sends SIGUSR1; SIGTERM may be somebody's scancel.
        leaves = error.number == signal.SIGUSR1 and is_first_rank(os.environ)
        requeued = requeue() if leaves else None
        where = f", requeued SLURM job {requeued}" if requeued else ""
        return f"{error}: {kept}{where}. Resume with: {error.command}", SIGNALLED + error.number
    if isinstance(error, RunError):
        return str(error), error.status
    # Before OSError, which Hydra's exception for a missing file is, too.
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | yaml.YAMLError):
        return explain(error), 2
    if isinstance(error, RuntimeError) and missing_sweep_package(error) is not None:
        return explain(error), 2
    if is_panic(error):
        return f"a library that reads files gave up: {first_line(error)}. {_PANIC_ADVICE}", 2
    # The logging library wraps the error of a file that it cannot open.
    cause = root_cause(error) if isinstance(error, OSError | ValueError) else None
    if isinstance(cause, OSError) and (
        cause.errno in _STORAGE_ERRORS or _folder_is_gone(cause) or _no_folder_can_be_there(cause)
    ):
        return _storage_advice(cause), 1
    return None


_PANIC_ADVICE = (
    "A tokenizer's pattern may need too long for a text: use another model.path; else look for "
    "files of the model or the data that another program wrote"
)


def _tell_of_thread(end: threading.ExceptHookArgs) -> None:
    """What ends a thread, without a traceback where it is the disk.

    The run itself meets the same disk, or the thread's exception, and says what is to be done.
    """
    if isinstance(end.exc_value, OSError) and end.exc_value.errno in _STORAGE_ERRORS:
        log.warning("%s", _storage_advice(end.exc_value))
    else:
        threading.__excepthook__(end)


def main() -> None:
    """Entry point of `python -m igpo_lightning` and of the console script."""
    # Hydra then raises instead of printing, so that mistakes read alike and bugs keep a traceback.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.captureWarnings(True)
    threading.excepthook = _tell_of_thread
    obey_signals()
    register_schemas()
    try:
        check_arguments(sys.argv[1:], os.environ)
        groups = {file.name for file in CONF.iterdir() if file.is_dir()}
        keys = [field.name for field in dataclasses.fields(Settings)]
        own = any(argument.startswith(("--config-dir", "-cd")) for argument in sys.argv[1:])
        check_plus(sys.argv[1:], groups, None if own else keys)  # own files may read other keys
        _run()
    except BaseException as raised:
        told = _told(raised.error if isinstance(raised, PastHydra) else raised)
        if told is None:
            raise
        message, status = told
        print(f"error: {visible(message)}", file=sys.stderr)
        sys.exit(status)
