"""stage=sft_then_rl: one run after the other, the second from the first one's export."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig

from igpo_lightning.checks import validate
from igpo_lightning.config import CONF, config_folders, to_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.runs.interruption import InterruptedRunError
from igpo_lightning.runs.metrics_file import SUMMARY_FILE, read_summary
from igpo_lightning.settings import Settings, SFTThenRLStage
from igpo_lightning.stages import build

log = logging.getLogger(__name__)


def part_overrides(shared: list[str], own: list[str], extra: list[str]) -> list[str]:
    """Overrides of one part: those of the command line that are not about this stage, and its own.

    Args:
        shared: The command line's overrides.
        own: The part's, from `stage.sft` or `stage.rl`; they come later, so they win.
        extra: What ties the parts together.
    """
    mine = ("stage", "experiment", "resume")
    kept = [o for o in shared if o.lstrip("+~").split("=")[0].split(".")[0] not in mine]
    # Choices of groups come before values, as Hydra reads a command line from left to right.
    return [*kept, *own, *extra]


def run_part(name: str, overrides: list[str], folder: Path) -> dict[str, Any]:
    """Run one part in a process of its own, as its command line would; returns its summary.

    Raises:
        ConfigError: The part failed; it has said why.
    """
    own = [folder for folder in config_folders() if folder != CONF]
    command = [sys.executable, "-m", "igpo_lightning", *(f"--config-dir={path}" for path in own)]
    command += [*overrides, f"hydra.run.dir={folder}"]
    log.info("%s: %s", name, " ".join(command[1:]))
    part = subprocess.Popen(command)
    try:
        code = part.wait()
    except InterruptedRunError:
        part.terminate()  # it saves, and ends; a terminal's Ctrl-C has reached it already
        part.wait()
        raise
    if code:
        raise ConfigError(f"stage.{name}: the run in {folder} ended with exit status {code}")
    summary: dict[str, Any] = read_summary(folder / SUMMARY_FILE)
    return summary


def run(config: Settings) -> dict[str, Any]:
    """Run both parts; returns the second one's headline numbers, with the first one's as `sft`."""
    folder, stage = build.run_folder(), config.stage
    assert isinstance(stage, SFTThenRLStage)
    shared = list(HydraConfig.get().overrides.task)
    sft = part_overrides(shared, list(stage.sft), [])
    export = [f"model.path={folder / 'sft' / 'export'}", "model.init=pretrained"]
    rl = part_overrides(shared, list(stage.rl), export)
    for name, overrides in (("sft", sft), ("rl", rl)):  # a mistake must not wait for the first part
        part = to_settings(compose("config", overrides))
        if part.stage.name != name:
            raise ConfigError(
                f"stage.{name}={list(getattr(stage, name))}: selects stage={part.stage.name}; "
                f"it has to be a run of stage={name}"
            )
        validate(part)
    build.save_resolved(config, folder)
    before = run_part("sft", sft, folder / "sft")
    summary = run_part("rl", rl, folder / "rl") | {"sft": before}
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return summary
