"""IGPO as a LightningModule: state and order of calls; the formulas live in the pure files."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.likelihood import token_scores
from igpo_lightning.evaluation.module import EvaluationSettings
from igpo_lightning.models import BackboneModule
from igpo_lightning.optimization import build_optimizer, clipped_step
from igpo_lightning.reporting.rollout_samples import log_sample_table, rollout_records
from igpo_lightning.rewards import extract_answer
from igpo_lightning.rl.advantages import group_advantages
from igpo_lightning.rl.diagnostics import (
    Measure,
    Measures,
    advantage_measures,
    group_measures,
    join_measures,
    mean,
    measured_values,
    reward_measures,
    rollout_measures,
    share,
    update_measures,
)
from igpo_lightning.rl.experience import Experience, ExperienceModule
from igpo_lightning.rl.objectives import policy_loss
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.rl.settings import RLSettings
from igpo_lightning.settings import OptimizerConfig


class RLModule(ExperienceModule):
    """Inpainting-Guided Policy Optimization (arXiv 2509.10396); GRPO where nothing is inpainted."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: RLSettings,
        optimizer: OptimizerConfig,
        on_samples: Callable[[int, list[dict[str, Any]]], None] | None = None,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation, settings)
        # Several optimizer steps a batch: Lightning's manual optimization.
        self.automatic_optimization = False
        self.optimizer_settings = optimizer
        self.on_samples = on_samples
        self.skipped_in_row = 0  # updates, because of NaN or inf

    def configure_optimizers(self) -> Any:
        """AdamW over the policy's parameters alone."""
        total = self.settings.steps * self.settings.inner_updates
        return build_optimizer(self.backbone.parameters(), self.optimizer_settings, total)

    def on_train_start(self) -> None:
        """Updates run with dropout, where the policy has any; sampling and scoring without."""
        self.backbone.train()

    # ---- Algorithm 1 ------------------------------------------------------------------------

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """One pass of Algorithm 1's loop: sample, inpaint all-wrong groups, update mu times."""
        self.seconds.clear()
        self.work.clear()
        first = self.sample_groups(batch)  # 1. G completions a prompt, graded
        rollout, hints = self.inpaint(batch, first)  # 2. hints where every answer is wrong
        advantages = group_advantages(  # 3. relative to the updated group
            rollout.grouped(rollout.rewards), self.settings.objective.advantage
        ).flatten()
        experience = self.score_rollout(batch, rollout, advantages)
        updates = [  # 4. mu updates on the tokens that the filter keeps
            self.update(experience) for _ in range(self.settings.inner_updates)
        ]
        self.report(batch, first, experience, [hints, *updates])

    def update(self, experience: Experience) -> Measures:
        """One optimizer step on the objective, in micro-batches."""
        optimizer, objective = self.optimizer, self.settings.objective
        rollout, old, reference = experience.rollout, experience.old, experience.reference
        parts: list[Measures] = []
        total = torch.zeros((), device=self.device)
        with self.phase("update"):
            optimizer.zero_grad()
            for rows in self.micro_batches(len(experience.advantages)):
                loss_mask = experience.loss_mask[rows]
                scores = token_scores(
                    self.backbone,
                    rollout.prompt_ids[rows],
                    rollout.completion_ids[rows],
                    experience.inputs.rows(rows),
                    rollout.prompt_mask[rows],
                    counted=loss_mask,
                )
                loss, stats = policy_loss(
                    scores.logp,
                    old.logp[rows],
                    experience.advantages[rows],
                    loss_mask,
                    clip_low=objective.clip_low,
                    clip_high=objective.clip_high,
                    ratio=objective.ratio,
                    ref_logp=None if reference is None else reference.logp[rows],
                    beta=objective.beta,
                    kl=objective.kl,
                    loss=objective.loss,
                    ratio_length=objective.ratio_length,
                    weights=experience.weights[rows],
                )
                self.manual_backward(loss)
                total += loss.detach()
                parts.append(update_measures(stats, loss_mask, rollout.hint_mask[rows]))
                self.count_update(experience.inputs, rows, rollout, trained=True)
            norm, skipped = clipped_step(
                optimizer,
                self.lr_schedulers(),
                self.backbone.parameters(),
                self.optimizer_settings.grad_norm,
                total.item(),
            )
        self.skipped_in_row = self.skipped_in_row + 1 if skipped else 0
        return join_measures(parts) | {
            "policy/loss": mean(total.item(), 1),
            "policy/grad_norm": mean(norm, 1),
            "policy/skipped": Measure("sum", int(skipped and distributed.rank() == 0)),
        }

    def on_validation_epoch_end(self) -> None:
        """Keep the accuracy of an evaluation in training, at the steps that the policy has made."""
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.log_accuracy(self.trainer.global_step // self.settings.inner_updates)

    # ---- parts ------------------------------------------------------------------------------

    def prompts(self, batch: PromptBatch) -> list[str]:
        """The prompts of a batch, for people."""
        return [f"{p.problem.id}\n{self.tokenizer.decode(p.prompt_ids)}" for p in batch.problems]

    @property
    def optimizer(self) -> LightningOptimizer:
        """The one optimizer, wrapped so that Lightning counts its steps."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def report(
        self,
        batch: PromptBatch,
        first: Rollout,
        experience: Experience,
        measures: list[Measures],
    ) -> None:
        """Log one line of metrics over all ranks, and samples every few steps."""
        settings, rollout = self.settings, experience.rollout
        assert experience.old.entropy is not None
        answers = [extract_answer(text) for text in first.texts]
        effort = {name: mean(seconds, 1) for name, seconds in self.seconds.items()}
        own = join_measures(
            [
                *measures,
                group_measures(first, rollout, answers),
                reward_measures(first, rollout, list(settings.reward_weights)),
                rollout_measures(
                    rollout,
                    experience.old.entropy,
                    experience.live,
                    experience.loss_mask,
                    self.backbone.eos_token_id,
                ),
                advantage_measures(experience.advantages, experience.loss_mask, rollout.hint_mask),
                {"group/dropped": share(~experience.counted_rows)},
                {f"time/{name}": measure for name, measure in effort.items()},
                {name: Measure("sum", number) for name, number in self.work.items()},
                {"policy/lr": mean(self.optimizer.param_groups[0]["lr"], 1)},
            ]
        )
        values = measured_values(join_measures(distributed.gather_objects(own)))
        for logger in self.loggers:
            logger.log_metrics(values, step=batch.step)
        shown = {"acc": values["reward/accuracy"], "all_wrong": values["group/all_wrong_before"]}
        self.log_dict(shown, prog_bar=True, logger=False, batch_size=len(rollout.texts))
        every = settings.log_samples_every
        due = every > 0 and batch.step % every == 0
        if self.on_samples is not None and due and distributed.rank() == 0:
            names = list(settings.reward_weights)
            records = rollout_records(batch, rollout, self.tokenizer, names)
            self.on_samples(batch.step, records)
            log_sample_table(self.loggers, batch.step, records)
