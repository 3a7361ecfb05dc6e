"""Supervised fine-tuning as a LightningModule."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import COMPANY, TraceBatch
from igpo_lightning.diffusion.likelihood import token_scores
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.evaluation.module import EvaluationModule, EvaluationSettings
from igpo_lightning.models import BackboneModule
from igpo_lightning.optimization import OptimizerSettings, build_optimizer, clipped_step
from igpo_lightning.sft.loss import nelbo
from igpo_lightning.sft.noising import NoiseSettings, draw_noise


@dataclass(frozen=True)
class SFTSettings:
    """Plain values of the SFT stage; see config.py's SFTStage."""

    steps: int
    train_batch_size: int
    seed: int
    noise: NoiseSettings = field(default_factory=NoiseSettings)


class SFTModule(EvaluationModule):
    """The diffusion loss on prompts and traces, with the same noise at any batch layout."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: SFTSettings,
        optimizer: OptimizerSettings,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation)
        # Manual, so that a step's loss and clipping do not depend on the micro-batch size.
        self.automatic_optimization = False
        self.settings = settings
        self.optimizer_settings = optimizer
        self.validation_losses: list[tuple[float, int]] = []
        self.skipped_in_row = 0  # steps, because of NaN or inf

    def configure_optimizers(self) -> Any:
        """AdamW over the backbone."""
        parameters = self.backbone.parameters()
        return build_optimizer(parameters, self.optimizer_settings, self.settings.steps)

    def loss(self, batch: TraceBatch, rows: slice, purpose: str) -> Tensor:
        """NELBO of some rows of a batch; a row's noise follows from its place in the stream."""
        completion, seed = batch.completion_ids[rows], self.settings.seed
        device = completion.device
        training = purpose == "sft"
        inputs = draw_noise(
            # Validation is always the plain bound, so that its values compare between settings.
            self.settings.noise if training else NoiseSettings(),
            row_keys([stable_seed(seed, purpose, i) for i in batch.row_indices[rows]], device),
            completion.shape[1],
            step_key=row_keys([stable_seed(seed, purpose, "times", batch.step)], device)[0],
            places=torch.tensor(batch.places[rows], device=device),
            step_rows=batch.step_rows,
        )
        scores = token_scores(
            self.backbone,
            batch.prompt_ids[rows],
            completion,
            inputs,
            prompt_mask=batch.prompt_mask[rows],
        )
        return nelbo(scores.logp)

    def prompts(self, batch: TraceBatch) -> list[str]:
        """The prompts and traces of a batch, for people."""
        rows = torch.cat([batch.prompt_ids, batch.completion_ids], dim=1).tolist()
        return [str(self.tokenizer.decode(row)) for row in rows]

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `train_batch_size` rows."""
        size = self.settings.train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def training_step(self, batch: TraceBatch, batch_idx: int) -> None:
        """One optimizer step."""
        optimizer: Any = self.optimizers()
        count = len(batch.row_indices)
        optimizer.zero_grad()
        total = 0.0
        for rows in self.micro_batches(count):
            loss = self.loss(batch, rows, "sft")
            share = len(batch.row_indices[rows]) / count
            self.manual_backward(loss * share)
            total += loss.item() * share
        norm, skipped = clipped_step(
            optimizer,
            self.lr_schedulers(),
            self.backbone.parameters(),
            self.optimizer_settings.grad_norm,
            total,
        )
        self.skipped_in_row = self.skipped_in_row + 1 if skipped else 0
        metrics = {
            "sft/loss": total,
            "sft/grad_norm": norm,
            "sft/lr": optimizer.param_groups[0]["lr"],
            "sft/skipped": float(skipped),
        }
        self.log("loss", total, prog_bar=True, logger=False)
        trainer: Any = self.trainer
        if skipped or batch.step % trainer.log_every_n_steps == 0:
            self.log_line(batch.step, metrics)

    def log_line(self, step: int, metrics: dict[str, float]) -> None:
        """Log means over ranks at a step."""
        ranks = distributed.gather_objects(metrics)
        means = {name: sum(m[name] for m in ranks) / len(ranks) for name in metrics}
        for logger in self.loggers:
            logger.log_metrics(means, step=step)

    def on_validation_epoch_start(self) -> None:
        """Forget the losses of an earlier validation."""
        super().on_validation_epoch_start()
        self.validation_losses = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss on held-out traces, under noise that is the same in every validation."""
        if not isinstance(batch, TraceBatch):
            super().validation_step(batch, batch_idx)
            return
        loss = self.loss(batch, slice(None), "validation").item()
        counted = sum(index != COMPANY for index in batch.row_indices)
        self.validation_losses.append((loss, counted))

    def on_validation_epoch_end(self) -> None:
        """Mean validation loss over all ranks, or the accuracy where problems were answered."""
        if not self.validation_losses:
            super().on_validation_epoch_end()
            return
        parts = [p for part in distributed.gather_objects(self.validation_losses) for p in part]
        mean = sum(loss * rows for loss, rows in parts) / sum(rows for _, rows in parts)
        self.log("sft/val_loss", mean, prog_bar=True, logger=False)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics({"sft/val_loss": mean}, step=self.trainer.global_step)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Move a batch of traces."""
        if isinstance(batch, TraceBatch):
            tensors = (batch.prompt_ids, batch.prompt_mask, batch.completion_ids)
            ids, mask, completions = (tensor.to(device) for tensor in tensors)
            return replace(batch, prompt_ids=ids, prompt_mask=mask, completion_ids=completions)
        return super().transfer_batch_to_device(batch, device, index)
