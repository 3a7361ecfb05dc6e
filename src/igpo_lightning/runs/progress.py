"""The progress bar of a run."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar

from igpo_lightning.runs.signs import Signs


class StepBar(RichProgressBar):
    """Lightning's bar over the steps of a run, which are one pass: there are no epochs to count.

    It says which part of a step goes on, as a module's `signs` tell. The time left is that of the
    run. Lightning disables the bar on all ranks but the first, and those listen to nothing.
    """

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Listen to the module."""
        super().setup(trainer, pl_module, stage)
        signs = getattr(pl_module, "signs", None)
        if isinstance(signs, Signs):
            signs.listener = None if self.is_disabled else self.show

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Listen no longer."""
        signs = getattr(pl_module, "signs", None)
        if isinstance(signs, Signs):
            signs.listener = None
        super().teardown(trainer, pl_module, stage)

    def show(self, text: str) -> None:
        """Write beside the bar that moves what it is busy with."""
        evaluates = self.trainer.validating or self.trainer.evaluating
        bar = self.val_progress_bar_id if evaluates else self.train_progress_bar_id
        if bar is not None and self.progress is not None:
            name = "Validation" if evaluates else "Training"
            self.progress.update(bar, description=f"{name}, {text}")
            self.refresh()
