"""The command line: compose the configuration, check it, dispatch one stage."""

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.checks import validate
from igpo_lightning.checks.choices import check_choices
from igpo_lightning.checks.explanation import explain, missing_sweep_package
from igpo_lightning.checks.launch import (
    check_arguments,
    check_loggers,
    check_plus,
    check_run_folder,
    check_secrets,
    check_stage_of_folder,
)
from igpo_lightning.config import CONF, plain, register_schemas, to_settings
from igpo_lightning.errors import ConfigError, RunError
from igpo_lightning.reporting.visible import visible
from igpo_lightning.runs.interruption import (
    InterruptedRunError,
    obey_signals,
    own_resume_command,
)
from igpo_lightning.runs.lock import run_lock
from igpo_lightning.settings import Settings
from igpo_lightning.sweeping import SIGNALLED, register_resolvers, run_once

# Not in main: a launcher's processes import this module and never call it.
register_resolvers()


def dispatch(settings: Settings) -> dict[str, Any] | None:
    """Run the stage that the settings name; returns its headline numbers."""
    # Imported here so that a wrong configuration fails before torch is loaded.
    from igpo_lightning import stages

    return stages.run(settings)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _run(config: DictConfig) -> dict[str, Any] | float | None:
    return run_once(config, _checked)


def _checked(config: DictConfig) -> dict[str, Any] | None:
    check_choices(HydraConfig.get().overrides.task)
    settings = to_settings(config)
    validate(settings)
    check_secrets(plain(settings), os.environ)
    check_loggers(settings.logger)
    hydra_config = HydraConfig.instance().cfg
    assert hydra_config is not None
    run_dir = OmegaConf.to_container(hydra_config.hydra.run, resolve=False)["dir"]  # type: ignore
    if HydraConfig.get().mode == RunMode.RUN:
        check_run_folder(settings.trainer, run_dir, os.environ)
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with run_lock(folder, os.environ):
            check_stage_of_folder(settings.stage.name, folder)
            return dispatch(settings)
    except InterruptedRunError as told:
        told.command = own_resume_command()  # known within the job alone
        raise


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# Full, over quota, larger than allowed; not writable, a folder that is a file, or the other way.
_STORAGE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
)


def _folder_is_gone(error: OSError) -> bool:
    """Whether the folder of a file was removed, as a run folder while the run goes on."""
    file = error.filename
    return error.errno == errno.ENOENT and isinstance(file, str) and not Path(file).parent.exists()


def _storage_advice(error: OSError) -> str:
    full = error.errno in _STORAGE_ERRORS[:3]
    fix = "make room there" if full else "make it writable, or choose another hydra.run.dir"
    if error.errno == errno.ENOENT:
        return (
            f"cannot write {error.filename}: its folder was removed while the run went on. Start "
            "the same command to run it again"
        )
    return (
        f"cannot write {error.filename or 'to the disk'}: {error.strerror}; {fix}. What was saved "
        "before is kept: the same command goes on from the last checkpoint"
    )


def main() -> None:
    """Entry point of `python -m igpo_lightning` and of the console script."""
    # Hydra then raises instead of printing, so that mistakes read alike and bugs keep a traceback.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.captureWarnings(True)
    obey_signals()
    register_schemas()
    try:
        check_arguments(sys.argv[1:], os.environ)
        check_plus(sys.argv[1:], {file.name for file in CONF.iterdir() if file.is_dir()})
        _run()
    except InterruptedRunError as told:
        kept = "stopped, and nothing that was saved is lost"
        print(f"error: {told}: {kept}. Resume with: {told.command}", file=sys.stderr)
        sys.exit(SIGNALLED + told.number)
    except RunError as stopped:
        print(f"error: {visible(str(stopped))}", file=sys.stderr)
        sys.exit(stopped.status)
    except (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        # Before OSError, which Hydra's exception for a missing file is, too.
        print(f"error: {visible(explain(error))}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if missing_sweep_package(error) is None:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError) as error:
        # The logging library wraps the error of a file that it cannot open.
        cause = _root_cause(error)
        if not isinstance(cause, OSError):
            raise
        if cause.errno not in _STORAGE_ERRORS and not _folder_is_gone(cause):
            raise
        print(f"error: {visible(_storage_advice(cause))}", file=sys.stderr)
        sys.exit(1)
