"""What a signal does to a run that trains: the run leaves, saves, and says how to resume."""

import signal
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from igpo_lightning import distributed
from igpo_lightning.errors import RunError
from igpo_lightning.runs import interruption
from igpo_lightning.runs.checkpoints import RunCheckpoints, checkpoints
from igpo_lightning.runs.leaving import LeftError


class SaveOnSignal(Callback):
    """On SIGTERM, Ctrl-C, SIGUSR1 or SIGUSR2 leave, save, and stop.

    A step that ends within `Leave.GRACE` seconds is finished and saved. A longer one is left
    between two passes or micro-batches. As long as it has not changed the weights, what is saved
    is the state before it; else the last checkpoint stays. An evaluation is not waited for: it
    changes nothing, and the resumed run makes it again. One process leaves it at once, several
    ranks between two passes. A second Ctrl-C waits for nothing.

    Lightning's own handler saves in the middle of a step, where the inner updates of a rollout are
    not all done. What handled a signal before (submitit, which requeues its own jobs) is called
    after the checkpoint is on the disk.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self, checkpoints: RunCheckpoints) -> None:
        self.checkpoints = checkpoints
        self.received: int | None = None
        self.before: dict[int, Any] = {}
        self.evaluating = False
        self.module: Any = None
        # Before the step: optimizer steps made, and what the module and the data would save.
        self.step_began: tuple[int, dict[str, Any], dict[str, Any]] = (0, {}, {})

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Remember who handled the signals, before Lightning adds itself."""
        if stage == "fit":
            self.module = pl_module
            self.before = {number: signal.getsignal(number) for number in self.SIGNALS}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take the signals over, and make the evaluation that one of them cut off."""
        for number in self.SIGNALS:
            signal.signal(number, self._note)
        if self.checkpoints.pending:
            trainer.validating = True  # as Lightning's loop does after a batch
            trainer.fit_loop.epoch_loop.val_loop.restarting = False
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        self._remember(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Give them back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT == self.received:
            interruption.interrupt(number, frame)  # asked twice: wait for nothing
        self.received = number
        if self.evaluating and distributed.world_size() == 1:
            raise LeftError
        self.module.leave.tell()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop after the step."""
        self._stop(trainer, pending=self.checkpoints.evaluation_due(trainer))
        self._remember(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """An evaluation in training may be left."""
        self.evaluating = trainer.state.fn == "fit"

    def on_validation_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop within an evaluation that several ranks make together."""
        if self.evaluating and distributed.world_size() > 1:
            self._stop(trainer, pending=True)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Its numbers are logged from here on: an evaluation that is left now would be doubled."""
        self.evaluating = False

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop after an evaluation in training; its checkpoint is written."""
        if trainer.state.fn == "fit":
            # Lightning would call it after this one, and the best evaluation would be missed.
            self.checkpoints.on_validation_end(trainer, pl_module)
            self._stop(trainer, pending=False)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Stop within a step or an evaluation."""
        if isinstance(exception, LeftError):
            for logger in trainer.loggers:  # as Lightning does where no hook raises
                logger.finalize("failed")
            if self.evaluating:
                self.evaluating = False
                self._stop(trainer, pending=True)
            self._stop(trainer, pending=False, saves=self._rewind(trainer))

    def _remember(self, trainer: lightning.Trainer) -> None:
        module: dict[str, Any] = {}
        self.module.on_save_checkpoint(module)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.step_began = (trainer.global_step, module, data.state_dict())

    def _rewind(self, trainer: lightning.Trainer) -> bool:
        """Take back what a step has drawn, so that it can be made again from its beginning.

        Returns:
            Whether that is enough. Not where weights have changed; nor before the first update,
            where a sharded optimizer has no state yet, and nothing is lost either.
        """
        step, module, data = self.step_began
        if step == 0 or trainer.global_step != step:
            return False
        self.module.on_load_checkpoint(module)
        trainer.datamodule.load_state_dict(data)  # type: ignore[attr-defined]
        trainer.fit_loop.epoch_loop.batch_progress.reset_on_restart()
        return True

    def _stop(self, trainer: lightning.Trainer, pending: bool, saves: bool = True) -> None:
        """Save and end, if any rank was told to.

        Args:
            pending: The resumed run begins with the evaluation after this step.
            saves: Whether the state as it is can be resumed from; if not, the last checkpoint is.

        Raises:
            RunError: What could be saved is saved.
        """
        numbers = [n for n in distributed.gather_objects(self.received) if n is not None]
        if not numbers:
            return
        if pending:
            self.checkpoints.pending = True
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.reset()  # as if not begun
        if saves:
            self.checkpoints.save(trainer)
            told = f"saved {self.checkpoints.path(trainer.global_step)}"
        else:
            there = checkpoints(self.checkpoints.folder)
            told = "left a step that is not done; "
            told += f"the last checkpoint is {there[-1]}" if there else "there is no checkpoint yet"
        name = signal.Signals(numbers[0]).name
        requeued = interruption.requeue() if trainer.is_global_zero else None
        handler = self.before.get(self.received or 0)
        own = (interruption.interrupt, signal.default_int_handler)
        if callable(handler) and handler not in own and self.received != signal.SIGTERM:
            handler(self.received, None)
        raise RunError(
            f"{name}: {told}"
            + (f", requeued SLURM job {requeued}" if requeued else "")
            + f". Resume with: {interruption.own_resume_command()}",
            status=128 + numbers[0],
        )
