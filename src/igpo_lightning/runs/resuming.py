"""Going on: which checkpoint, whether its settings fit, and what the run's files keep."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igpo_lightning.config import dotted, plain, read_written
from igpo_lightning.errors import ConfigError
from igpo_lightning.runs import checkpoints, durable, json_lines
from igpo_lightning.runs.metrics_file import (
    METRICS_FILE,
    SUMMARY_FILE,
    read_metrics,
    read_summary,
)
from igpo_lightning.settings import Settings

AUTO = "auto"
CONFIG_FILE = "config.yaml"
EXPORT_FOLDER = "export"
log = logging.getLogger(__name__)
# What may change on the way: it decides where and how fast a run computes, not what.
_FREE = (
    "trainer",
    "logger",
    "resume",
    "checkpoint",
    "dry_run",
    "eval",
    "rewriter",
    "reward.workers",
    "reward.timeout",
    "model.compile",
    "model.gradient_checkpointing",
    "sampler.compile",
    "sampler.token_budget",
    "stage.rollout_batch_size",
    "stage.train_batch_size",
    "stage.checkpoint_every",
    "stage.eval_before",
    "stage.eval_after",
    "stage.eval_every",
    "stage.eval_sampled",
    "stage.val_every",
    "stage.val_limit",
    "stage.log_samples_every",
)


@dataclass(frozen=True)
class Resume:
    """Where a run starts.

    Attributes:
        checkpoint: To go on from; None to start at the beginning.
        global_step: Optimizer steps done.
        lines: Of metrics.csv so far.
    """

    checkpoint: Path | None = None
    global_step: int = 0
    lines: list[dict[str, float]] = field(default_factory=list)


def _is_free(key: str, config: Settings) -> bool:
    if key == "stage.steps":  # a longer run is the same run where nothing runs down to its end
        decays = config.optimizer.decay_share > 0 or config.optimizer.schedule != "trapezoid"
        scheduled = config.inpaint.schedule in ("linear", "cosine")
        generated = config.stage.name == "sft" and config.data.is_generated
        return not (decays or scheduled or generated)
    if key == "trainer.precision":
        return False
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def settings(config: Settings) -> dict[str, str]:
    """The settings that decide a run's numbers, as JSON texts by dotted key."""
    values = dotted(plain(config))
    return {k: json.dumps(v) for k, v in values.items() if not _is_free(k, config)}


def notes(config: Settings, folder: Path) -> dict[str, Any]:
    """What a checkpoint keeps of the run beside Lightning's state."""
    return {"settings": settings(config), "lines": read_metrics(folder / METRICS_FILE)}


def _chosen(resume: str | None, folder: Path) -> Path | None:
    """The checkpoint that `resume` means.

    Raises:
        ConfigError: It is not there, damaged, or not the newest of this run.
    """
    own = folder / checkpoints.FOLDER
    there = checkpoints.checkpoints(own)
    if resume is None:
        if there:
            raise ConfigError(
                f"resume=null: {own} holds {there[-1].name}; go on from it with resume=auto, or "
                "choose another hydra.run.dir"
            )
        return None
    if resume == AUTO:
        sound = checkpoints.newest_sound(own)
        if there and sound is None:
            raise ConfigError(
                f"resume=auto: no checkpoint in {own} is sound; to start from the beginning, "
                "remove the folder"
            )
        return sound
    path = Path(resume)
    if path.is_dir() and (path / checkpoints.FOLDER).is_dir():
        found = checkpoints.newest_sound(path / checkpoints.FOLDER)
    else:
        found = path.resolve() if path.exists() else None
    if found is None:
        raise ConfigError(
            f"resume={resume}: there is no sound checkpoint; name a checkpoint, or a run folder "
            "that holds checkpoints/step-N.ckpt"
        )
    problem = durable.damage(found)
    if problem is not None:
        raise ConfigError(f"resume={resume}: {found} is damaged ({problem}); name another one")
    if there and found.parent == own.resolve() and found.name != there[-1].name:
        raise ConfigError(
            f"resume={resume}: {own} holds the later {there[-1].name}, which this run would mix "
            "with its own; move it away, or choose another hydra.run.dir"
        )
    return found


def _check(path: Path, old: dict[str, str], new: dict[str, str], config: Settings) -> None:
    """Refuse to go on under settings that change what the run computes.

    Raises:
        ConfigError: Shows each difference.
    """
    absent = "(absent)"
    changed = [
        f"  {key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not _is_free(key, config)
    ]
    if changed:
        raise ConfigError(
            f"resume={config.resume}: {path} was written under other settings:\n"
            + "\n".join(changed)
            + "\nset them back, or start a run of its own with resume=null and another "
            "hydra.run.dir"
        )


def find(config: Settings, folder: Path) -> Resume:
    """Where the run in a folder starts.

    Raises:
        ConfigError: `resume` names no sound checkpoint, or one of another run.
    """
    path = _chosen(config.resume, folder)
    if path is None:
        return Resume()
    if path.is_dir() and config.trainer.strategy != "fsdp":
        raise ConfigError(
            f"trainer.strategy={config.trainer.strategy}: {path} is in shards; go on with "
            "trainer.strategy=fsdp and any number of processes, or export it"
        )
    kept = checkpoints.read_notes(path)
    if "settings" in kept:
        _check(path, kept["settings"], settings(config), config)
    return Resume(path, kept["global_step"], list(kept.get("lines", [])))


def finished(config: Settings, folder: Path, resume: Resume, steps: int) -> dict[str, Any] | None:
    """The summary of a run that has nothing left to do; None where something is left.

    Args:
        steps: Optimizer steps of the whole run.

    Raises:
        ConfigError: The checkpoint has made more.
    """
    if resume.global_step > steps:
        raise ConfigError(
            f"stage.steps={getattr(config.stage, 'steps', steps)}: {resume.checkpoint} has made "
            "more steps; set stage.steps to as many at least, or choose another hydra.run.dir"
        )
    summary, before = folder / SUMMARY_FILE, folder / CONFIG_FILE
    if resume.global_step < steps or not all(
        path.exists() for path in (summary, before, folder / EXPORT_FOLDER)
    ):
        return None
    if _asked(read_written(before)) != _asked(plain(config)):
        return None
    numbers = read_summary(summary)
    log.info("already finished: %s; nothing was run again", folder)
    return numbers


def _asked(values: Mapping[Any, Any]) -> dict[str, Any]:
    """What a run was asked to do, whatever it is computed on."""
    groups = ("trainer", "logger", "resume", "checkpoint", "dry_run")
    return dotted({key: value for key, value in values.items() if key not in groups})


def forget_after(file: Path, step: int) -> None:
    """Keep the records of a samples.jsonl before a step; drop what is none, as a torn last line."""
    if not file.exists():
        return
    kept, damaged = [], 0
    for line, record in json_lines.read(file):
        at = None if record is None else record.get("step")
        damaged += not isinstance(at, int)
        if isinstance(at, int) and at < step:
            kept.append(line)
    if damaged:
        log.warning("%s: dropped %d line(s) that are no samples of a step", file, damaged)
    durable.write_bytes(file, b"".join(kept))
