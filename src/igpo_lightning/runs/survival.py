"""Lightning callbacks that keep a run alive, exact, or at least explain its end."""

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from igpo_lightning import distributed
from igpo_lightning.diffusion.noise import stable_seed
from igpo_lightning.errors import RunError, first_line
from igpo_lightning.runs import durable

log = logging.getLogger(__name__)


class SeedSteps(Callback):
    """Make dropout a function of (seed, step, rank), so that a resumed run draws the same.

    Dropout is all that draws from torch's global generator; everything else has keys of its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Seed the step."""
        torch.manual_seed(
            stable_seed(self.seed, "dropout", trainer.global_step, distributed.rank())
        )


class NameLostRanks(Callback):
    """Where ranks cannot reach each other, say which of them is gone instead of an address."""

    def __init__(self) -> None:
        self.pulse: distributed.Pulse | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Give signs of life from now on."""
        if distributed.world_size() > 1:
            leave = getattr(pl_module, "leave", None)  # of modules that train
            relay = () if leave is None else (leave.told, leave.tell)
            self.pulse = distributed.Pulse(*relay)

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Ranks may end at different times from here on."""
        if self.pulse is not None:
            self.pulse.stop()
            self.pulse = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Name them.

        Raises:
            RunError: In the place of the connection's own error.
        """
        if self.pulse is None:
            return
        if not distributed.is_lost_connection(exception):
            self.pulse.end()
            return
        gone = self.pulse.silent()
        self.pulse.end()
        if distributed.rank() == 0 and gone:
            self.pulse.wait_for_others(set(gone))
        if gone:
            raise RunError(lost_ranks(gone, distributed.world_size(), exception)) from exception


def lost_ranks(gone: dict[int, bool], world: int, error: BaseException) -> str:
    """What a rank says that cannot go on without others.

    Args:
        gone: Each of them, and whether it said that it ends.
        error: How this one noticed.
    """
    patience = distributed.Pulse.PATIENCE
    parts = [
        f"rank {number} of {world} (counted from 0) "
        + (
            "ended by an error of its own, which it has printed"
            if told
            else f"is lost: no sign of life for {patience:g} s (killed, or its machine is gone)"
        )
        for number, told in gone.items()
    ]
    return (
        f"{'; '.join(parts)}. Noticed by: {first_line(error)[:200]}. The same command "
        "goes on from the last checkpoint"
    )


def name_killed_children() -> None:
    """Let Lightning's launcher say which process was lost before it kills all others.

    Where Lightning itself starts the ranks of a machine, its observer looks for processes that
    ended every 5 s and sends SIGKILL to the rest, the first rank included: sooner than
    `NameLostRanks` can tell. Its own message stands at a level that nobody sees.
    """
    launcher = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    launcher.setLevel(logging.INFO)
    launcher.addFilter(_explain_lost_child)


def _explain_lost_child(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if "terminated with code" in text:
        record.levelno, record.levelname = logging.ERROR, "ERROR"
        what_ended = text.partition(" Forcefully")[0]
        record.msg, record.args = f"{what_ended} {_AFTER_A_LOST_CHILD}", ()
    return True


_AFTER_A_LOST_CHILD = (
    "The other processes are killed now; run the same command again to resume from the last "
    "checkpoint"
)


class StopOnNonFinite(Callback):
    """End a run whose loss or gradient was NaN or infinite several updates in a row.

    The modules skip and count such updates (see `optimization.clipped_step`).
    """

    def __init__(self, limit: int, folder: Path) -> None:
        self.limit, self.folder = limit, folder

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the count.

        Raises:
            RunError: It is too high; the step's prompts are saved.
        """
        if pl_module.skipped_in_row < self.limit:
            return
        ranks = distributed.gather_objects(pl_module.prompts(batch))
        file = self.folder / "nonfinite_prompts.txt"
        if trainer.is_global_zero:
            durable.write_text(file, "\n\n".join(text for texts in ranks for text in texts) + "\n")
        raise RunError(
            f"loss or gradient was NaN or infinite in {pl_module.skipped_in_row} updates in a row "
            f"(trainer.max_skipped={self.limit}), at optimizer step {trainer.global_step}. The "
            f"step's prompts are in {file}; lower optimizer.lr, or look for what the model cannot "
            "read in them"
        )
