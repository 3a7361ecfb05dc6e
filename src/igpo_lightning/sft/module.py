"""Supervised fine-tuning as a LightningModule."""

from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import COMPANY, TraceBatch
from igpo_lightning.data.packing import NOWHERE, PackedBatch
from igpo_lightning.diffusion.likelihood import packed_token_scores, token_scores
from igpo_lightning.diffusion.masked_inputs import MaskedInputs
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.optimization import build_optimizer, clipped_step
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.runs.sharded_strategy import shard_models
from igpo_lightning.settings import Settings, SFTStage
from igpo_lightning.sft.loss import nelbo
from igpo_lightning.sft.noising import draw_noise


class SFTModule(lightning.LightningModule):
    """The diffusion loss on prompts and traces, with the same noise at any batch layout."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        settings: Settings,
    ) -> None:
        super().__init__()
        # Manual, so that a step's loss and clipping do not depend on the micro-batch size.
        self.automatic_optimization = False
        self.backbone, self.tokenizer = backbone, tokenizer
        assert isinstance(settings.stage, SFTStage)
        self.settings, self.stage = settings, settings.stage
        self.leave = Leave()
        self.validation_losses: list[tuple[float, int]] = []
        self.skipped_in_row = 0  # steps, because of NaN or inf
        save_trained_only(self)

    def configure_model(self) -> None:
        """Share the parameters over the strategy's mesh, where it has one."""
        shard_models(self, self.backbone)

    def configure_optimizers(self) -> Any:
        """AdamW over the backbone."""
        parameters = self.backbone.parameters()
        return build_optimizer(parameters, self.settings.optimizer, self.stage.steps)

    def loss(self, batch: TraceBatch, rows: slice, purpose: str) -> Tensor:
        """NELBO of some rows of a batch; a row's noise follows from its place in the stream."""
        completion = batch.completion_ids[rows]
        scores = token_scores(
            self.backbone,
            batch.prompt_ids[rows],
            completion,
            self.draw_noise(batch, rows, completion.shape[1], purpose),
            prompt_mask=batch.prompt_mask[rows],
        )
        return nelbo(scores.logp)

    def packed_loss(self, batch: PackedBatch) -> Tensor:
        """NELBO of packed sequences: what it would be with each in a row of its own."""
        places = batch.places_in_batch()
        estimates = packed_token_scores(
            self.backbone,
            batch.canvas_ids,
            batch.sequence_numbers,
            places,
            self.draw_noise(batch, slice(None), places.shape[1], "sft"),
        )
        return nelbo(estimates, (places != NOWHERE).sum(dim=1))

    def draw_noise(
        self, batch: TraceBatch | PackedBatch, rows: slice, length: int, purpose: str
    ) -> MaskedInputs:
        """Masks and weights of the first `length` completion tokens of some rows."""
        seed, device = self.settings.seed, self.device
        return draw_noise(
            # Validation is always the plain bound, so that its values compare between settings.
            self.stage if purpose == "sft" else SFTStage(),
            row_keys([stable_seed(seed, purpose, i) for i in batch.row_indices[rows]], device),
            length,
            step_key=row_keys([stable_seed(seed, purpose, "times", batch.step)], device)[0],
            places=torch.tensor(batch.places[rows], device=device, dtype=torch.long),
            step_rows=batch.step_rows,
        )

    def prompts(self, batch: TraceBatch | PackedBatch) -> list[str]:
        """The prompts and traces of a batch, for people."""
        if isinstance(batch, PackedBatch):
            return [str(self.tokenizer.decode(row)) for row in batch.canvas_ids.tolist()]
        rows = torch.cat([batch.prompt_ids, batch.completion_ids], dim=1).tolist()
        return [str(self.tokenizer.decode(row)) for row in rows]

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `train_batch_size` rows or canvases."""
        size = self.stage.train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def micro_losses(self, batch: TraceBatch | PackedBatch) -> Iterator[tuple[Tensor, float]]:
        """The loss of each micro-batch, and its share in the mean over this rank's rows.

        Packed, ranks have unequal numbers of rows: shares are of what they have on average.
        """
        if isinstance(batch, PackedBatch):
            own = batch.step_rows / distributed.world_size()
            for canvases in self.micro_batches(len(batch.canvas_ids)):
                self.leave.together()
                part = batch.canvases(canvases)
                yield self.packed_loss(part), len(part.row_indices) / own
            return
        count = len(batch.row_indices)
        for rows in self.micro_batches(count):
            self.leave.together()
            yield self.loss(batch, rows, "sft"), len(batch.row_indices[rows]) / count

    def training_step(self, batch: TraceBatch | PackedBatch, batch_idx: int) -> None:
        """One optimizer step."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        total = 0.0
        for loss, share in self.micro_losses(batch):
            self.manual_backward(loss * share)
            total += loss.item() * share
        norm, skipped = clipped_step(
            optimizer,
            self.lr_schedulers(),
            self.backbone.parameters(),
            self.settings.optimizer.grad_norm,
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
        self.validation_losses = []

    def validation_step(self, batch: TraceBatch, batch_idx: int) -> None:
        """Loss on held-out traces, under noise that is the same in every validation."""
        loss = self.loss(batch, slice(None), "validation").item()
        counted = sum(index != COMPANY for index in batch.row_indices)
        self.validation_losses.append((loss, counted))

    def on_validation_epoch_end(self) -> None:
        """Mean validation loss over all ranks."""
        parts = [p for part in distributed.gather_objects(self.validation_losses) for p in part]
        mean = sum(loss * rows for loss, rows in parts) / sum(rows for _, rows in parts)
        self.log("sft/val_loss", mean, prog_bar=True, logger=False)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics({"sft/val_loss": mean}, step=self.trainer.global_step)
