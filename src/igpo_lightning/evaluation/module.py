"""The LightningModule that evaluates and does nothing else."""

import lightning

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.evaluation.evaluation import Evaluation
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.runs.sharded_strategy import shard_models


class EvaluationModule(lightning.LightningModule):
    """Runs an evaluation; after `trainer.validate`, `evaluation` holds the result."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__()
        self.evaluation, self.signs = evaluation, evaluation.signs
        self.backbone = evaluation.answerer.model
        save_trained_only(self)

    def configure_model(self) -> None:
        """Share the parameters over the strategy's mesh, where it has one."""
        shard_models(self, self.backbone)

    def on_validation_epoch_start(self) -> None:
        """Forget an earlier evaluation."""
        self.evaluation.begin()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer one batch."""
        self.evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Compute the accuracy."""
        accuracy = self.evaluation.finish()
        self.log("eval/accuracy", accuracy.mean, prog_bar=True, logger=False)
