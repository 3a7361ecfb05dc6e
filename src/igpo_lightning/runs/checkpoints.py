"""Checkpoints through Lightning: written whole, checked before use, the best and last n kept."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from igpo_lightning.runs import durable, untrusted

FOLDER = "checkpoints"  # within a run's folder
LAST, BEST = "last.ckpt", "best.ckpt"  # links to step-N.ckpt
NOTES = "igpo_lightning"  # what this project adds to Lightning's checkpoints
_NAME = re.compile(r"step-(\d+)\.ckpt")
_META = "meta.pt"  # Lightning's name for what is no tensor, in a folder of shards

log = logging.getLogger(__name__)


class DurableCheckpointIO(TorchCheckpointIO):
    """One file, which appears when it is whole and on the disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write, flush, rename.

        Raises:
            RunError: The disk is full or cannot be written.
        """

        def fill(partial: Path) -> None:
            with partial.open("wb") as stream:
                sealed = durable.SealedStream(stream)
                torch.save(checkpoint, sealed)  # type: ignore[arg-type]
                sealed.seal()

        try:
            Path(path).parent.mkdir(exist_ok=True)
            durable.write(Path(path), fill)
        except (OSError, RuntimeError) as error:  # torch reports what the stream raised in its own
            raise durable.write_refused(path, error) from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest step first; links and partial ones are none."""
    named = {path: _NAME.fullmatch(path.name) for path in folder.glob("step-*.ckpt")}
    steps = {path: int(match[1]) for path, match in named.items() if match}
    return sorted(steps, key=steps.__getitem__)


def newest_sound(folder: Path) -> Path | None:
    """The newest checkpoint whose checksums fit; reports every newer one that it passes over."""
    for path in reversed(checkpoints(folder)):
        problem = durable.damage(path)
        if problem is None:
            return path
        log.warning("%s is damaged (%s); going back to an earlier one", path, problem)
    return None


def read_notes(path: Path) -> dict[str, Any]:
    """What `RunCheckpoints` added to a checkpoint, and its `global_step`, without its tensors.

    Raises:
        ConfigError: The checkpoint would run code.
    """
    if path.is_dir():
        untrusted.check_shards(path)
    state = untrusted.read_file(path / _META if path.is_dir() else path)
    notes: dict[str, Any] = state.get(NOTES, {})
    return notes | {"global_step": int(state["global_step"])}


@dataclass(frozen=True)
class Pace:
    """How often things happen in a training.

    Attributes:
        max_steps: Batches of the whole run.
        updates: Optimizer steps per batch.
        checkpoint_every: Batches between checkpoints.
        evaluate_every: Batches between evaluations in training; 0 for none.
        monitor: Their metric that names the best checkpoint.
        mode: "max" | "min": which of its values are better.
        log_every: Batches between lines of metrics.
    """

    max_steps: int
    updates: int
    checkpoint_every: int
    evaluate_every: int
    monitor: str
    mode: str
    log_every: int = 1


class RunCheckpoints(Checkpoint):
    """Saves after every n optimizer steps and every evaluation, and at the end of training.

    A checkpoint is made between batches only: at no other moment are the inner updates of a rollout
    all done and the data's place known. Where an evaluation follows a batch, the checkpoint follows
    the evaluation, so that none is ever skipped on the way back. Only where a signal cuts the
    evaluation off, the checkpoint comes before it and says that it is still to be made.

    Attributes:
        pending: The evaluation after the step that was saved is still to be made.
    """

    def __init__(
        self, folder: Path, pace: Pace, keep_last: int, notes: Callable[[], dict[str, Any]]
    ) -> None:
        """How often, and what is kept.

        Args:
            folder: Of the checkpoints.
            pace: Of the run.
            keep_last: Newest ones to keep, beside the best.
            notes: What else a checkpoint holds.
        """
        self.folder, self.pace, self.keep_last, self.notes = folder, pace, keep_last, notes
        self.best: tuple[int, float] | None = None  # (step, value)
        self.saved_step = -1
        self.pending = False

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Remove what a kill left half-written."""
        if stage == "fit" and trainer.is_global_zero:
            for path in self.folder.glob(f"*{durable.PARTIAL}"):
                durable.remove(path)

    def path(self, step: int) -> Path:
        """The checkpoint after an optimizer step, named by the step that users count."""
        return self.folder / f"step-{step // self.pace.updates}.ckpt"

    def save(self, trainer: lightning.Trainer) -> None:
        """Write this step's checkpoint, unless it is there; all ranks take part."""
        step = trainer.global_step
        if self.saved_step == step:
            return
        trainer.save_checkpoint(self.path(step))
        self.saved_step = step
        if trainer.is_global_zero:
            durable.link(self.folder / LAST, self.path(step).name)
            if self.best is not None and self.best[0] == step:
                durable.link(self.folder / BEST, self.path(step).name)
            kept = set() if self.best is None else {self.path(self.best[0])}
            # Only now: the new one is on the disk.
            for path in checkpoints(self.folder)[: -self.keep_last]:
                if path not in kept:
                    durable.remove(path)

    def evaluation_due(self, trainer: lightning.Trainer) -> bool:
        """Whether an evaluation follows the batch that has just ended."""
        every = self.pace.evaluate_every * self.pace.updates
        return every > 0 and trainer.global_step % every == 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """The step that was gone on from is saved already, unless its evaluation is to come."""
        if trainer.global_step and not self.pending:
            self.saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save where it is due."""
        every = self.pace.checkpoint_every * self.pace.updates
        if trainer.global_step % every == 0 and not self.evaluation_due(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save after an evaluation in training, and know the best."""
        in_training = trainer.state.fn == "fit" or self.pending
        if not in_training or trainer.sanity_checking or not self.pace.evaluate_every:
            return
        self.pending = False
        value = float(trainer.callback_metrics[self.pace.monitor])
        sign = 1.0 if self.pace.mode == "max" else -1.0
        if self.best is None or sign * value > sign * self.best[1]:
            self.best = (trainer.global_step, value)
        if trainer.state.fn == "fit":
            self.save(trainer)
        elif trainer.is_global_zero and self.best and self.best[0] == trainer.global_step:
            durable.link(self.folder / BEST, self.path(trainer.global_step).name)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the last step."""
        self.save(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Add what a resumed run compares and continues."""
        checkpoint[NOTES] = self.notes()

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and whether an evaluation is to come."""
        return {"best": self.best, "pending": self.pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the best of before."""
        best = state_dict["best"]
        self.best = None if best is None else (int(best[0]), float(best[1]))
        self.pending = bool(state_dict.get("pending"))
