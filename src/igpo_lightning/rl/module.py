"""IGPO as a LightningModule: state and order of calls; the formulas live in the pure files."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.profiler import record_function
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.datamodules import RolloutData
from igpo_lightning.diffusion.likelihood import TokenScores
from igpo_lightning.errors import RunError
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.evaluation.evaluation import Evaluation
from igpo_lightning.evaluation.grade import Pool
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.lora import build_reference
from igpo_lightning.models.trained_state import save_trained_only
from igpo_lightning.optimization import build_optimizer, clipped_step
from igpo_lightning.reporting.rollout_samples import log_sample_table
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.diagnostics import (
    experience_measures,
    sampler_ratio_measures,
    update_measures,
)
from igpo_lightning.rl.drift_limit import DriftLimit
from igpo_lightning.rl.dynamic import Collected, GroupCollector
from igpo_lightning.rl.faults import objective_faults, reward_faults
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.measures import Measure, Measures, join_measures, mean, measured_values
from igpo_lightning.rl.objectives import policy_loss
from igpo_lightning.rl.records import rollout_records
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.rl.scorer import Experience, Scorer
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.runs.sharded_strategy import shard_models
from igpo_lightning.runs.signs import Signs
from igpo_lightning.settings import RLStage, Settings

ROLLOUTS = "igpo_lightning_rollouts"  # in a checkpoint
log = logging.getLogger(__name__)


class RLModule(lightning.LightningModule):
    """Inpainting-Guided Policy Optimization (arXiv 2509.10396); GRPO where nothing is inpainted."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        pool: Pool,
        settings: Settings,
        on_samples: Callable[[int, list[dict[str, Any]]], None] | None = None,
        prompts: RolloutData | None = None,
    ) -> None:
        """Put the parts together around the policy.

        Args:
            backbone: The policy.
            tokenizer: Of its texts.
            pool: The grader processes, of rollouts and evaluations.
            settings: Algorithm 1's inputs, for `stage=rl`.
            on_samples: Given a step and its records, every `log_samples_every` steps.
            prompts: The stream of prompts, for steps that need several rounds of them.
        """
        super().__init__()
        # Several optimizer steps per batch: Lightning's manual optimization.
        self.automatic_optimization = False
        stage = settings.stage
        assert isinstance(stage, RLStage)
        self.settings, self.stage, self.on_samples = settings, stage, on_samples
        self.backbone, self.tokenizer = backbone, tokenizer
        # None where there is no penalty, and where adapters can be switched off instead.
        self.reference = build_reference(backbone) if settings.objective.needs_reference else None
        self.cost, self.signs, self.leave = Cost(), Signs(), Leave()
        rows = stage.rollout_batch_size
        policy = Answerer(backbone, tokenizer, settings.sampler, rows, self.signs, self.leave)
        self.sampler = GroupSampler(
            policy, pool, stage.group_size, settings.reward, settings.seed, self.cost
        )
        self.inpainter = Inpainter(settings.inpaint, self.sampler, stage.steps)
        self.prompt_data = prompts
        self.collector = GroupCollector(
            self.sampler,
            self.inpainter,
            list(settings.reward.weights),
            stage.prompts_per_step,
            stage.sampling_rounds,
            None if prompts is None else prompts.prompts,
            keep=stage.surplus == "keep",
            record=None if prompts is None or prompts.skip_accuracy is None else prompts.record,
        )
        size = stage.train_batch_size
        self.scorer = Scorer(backbone, self.reference, settings, size, self.cost, self.leave)
        self.evaluation = Evaluation(backbone, tokenizer, pool, settings, self.signs, self.leave)
        as_rollouts = replace(settings.eval, temperature=settings.sampler.temperature)
        sampled = Evaluation(
            backbone, tokenizer, pool, replace(settings, eval=as_rollouts), self.signs, self.leave
        )
        self.sampled = sampled if stage.eval_sampled else None
        self.evaluated_step: int | None = None  # rollout steps before the last evaluation
        self.drift_limit = DriftLimit(settings.sampler)
        self.skipped_in_row = 0  # updates, because of NaN or inf
        save_trained_only(self)

    # ---- Algorithm 1 ------------------------------------------------------------------------

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """One pass of Algorithm 1's loop: sample, inpaint all-wrong groups, update mu times."""
        self.cost.clear()
        # 1. G completions a prompt, graded, and 2. hints where all are wrong
        collected = self.collector.collect(batch)
        batch, rollout = collected.batch, collected.rollout
        advantages = self.scorer.advantages(batch, rollout)  # 3. relative to the updated group
        self.signs.begin("scoring")
        experience = self.scorer.experience(batch, rollout, advantages)
        updates = []
        for number in range(self.stage.inner_updates):  # 4. mu updates on what the filter keeps
            experience, update = self.update(experience, number)
            updates.append(update)
        with record_function("logging"):
            self.report(collected, experience, updates)

    def update(self, experience: Experience, number: int = 0) -> tuple[Experience, Measures]:
        """One optimizer step on the objective, in micro-batches; the `number`-th of mu.

        Returns the experience with the old scores, which the only update of a step makes itself.
        """
        optimizer, objective = self.optimizer, self.settings.objective
        reference, hint_mask = experience.reference, experience.rollout.hint_mask
        row_of, covered, kl_weights, weighted = (
            experience.row_of,
            experience.ratio_mask,
            experience.kl_weights,
            experience.sampler_ratio,
        )
        parts: list[Measures] = []
        own: list[TokenScores] = []
        total = torch.zeros((), device=self.device)
        with self.cost.phase("update"):
            optimizer.zero_grad()
            slices = list(self.scorer.micro_batches(len(row_of)))
            part = f"update {number + 1} of {self.stage.inner_updates}"
            self.signs.begin(part, len(slices), "micro-batches")
            for rows in slices:
                scores = self.scorer.trained_scores(experience, rows)
                if experience.old is None:
                    own.append(scores.detached())
                old_logp = own[-1].logp if experience.old is None else experience.old.logp[rows]
                loss, stats = policy_loss(  # Eq. 3
                    scores.logp,
                    old_logp,
                    experience.advantages[row_of[rows]],
                    experience.loss_mask[rows],
                    ref_logp=None if reference is None else reference.logp[rows],
                    weights=experience.weights[rows],
                    kl_weights=None if kl_weights is None else kl_weights[rows],
                    ratio_mask=None if covered is None else covered[rows],
                    sampler_ratio=None if weighted is None else weighted[row_of[rows]],
                    settings=objective,
                )
                self.manual_backward(loss)
                total += loss.detach()
                shown = hint_mask[row_of[rows]]
                parts.append(update_measures(stats, experience.loss_mask[rows], shown))
                self.signs.advance(experience.loss_mask[rows].numel())
            norm, skipped = clipped_step(
                optimizer,
                self.lr_schedulers(),
                self.backbone.parameters(),
                self.settings.optimizer.grad_norm,
                total.item(),
            )
        self.skipped_in_row = self.skipped_in_row + 1 if skipped else 0
        if experience.old is None:
            experience = self.scorer.with_old_scores(experience, own)
        return experience, join_measures(parts) | {
            "policy/loss": mean(total.item(), 1),
            "policy/grad_norm": mean(norm, 1),
            "policy/skipped": Measure("sum", int(skipped and distributed.rank() == 0)),
        }

    # ---- what is shown ----------------------------------------------------------------------

    def report(self, collected: Collected, experience: Experience, updates: list[Measures]) -> None:
        """Log one line of metrics over all ranks, and samples every few steps."""
        batch, rollout = collected.batch, collected.rollout
        own = [
            collected.measures,
            *updates,
            experience_measures(experience, self.backbone.eos_token_id),
            sampler_ratio_measures(experience, self.settings.objective.rollout_is_threshold),
            self.cost.measures(),
            self.skipped_prompts(),
            {"policy/lr": mean(self.optimizer.param_groups[0]["lr"], 1)},
        ]
        ranks = distributed.gather_objects(join_measures(own))
        joined = join_measures(ranks)
        values = measured_values(joined)
        for logger in self.loggers:
            logger.log_metrics(values, step=batch.step)
        shown = {"acc": values["reward/accuracy"], "all_wrong": values["group/all_wrong_before"]}
        self.log_dict(shown, prog_bar=True, logger=False, batch_size=len(rollout.texts))
        every = self.stage.log_samples_every
        due = every > 0 and batch.step % every == 0
        if self.on_samples is not None and due and distributed.rank() == 0:
            names = list(self.settings.reward.weights)
            records = rollout_records(batch, rollout, self.tokenizer, names)
            self.on_samples(batch.step, records)
            log_sample_table(self.loggers, batch.step, records)
        self.limit_drift(batch.step, joined)
        if values["policy/skipped"] == self.stage.inner_updates:
            self.name_faults(batch, experience)

    def skipped_prompts(self) -> Measures:
        """Problems passed over so far because they are solved, where any may be."""
        data = self.prompt_data
        if data is None or data.skip_accuracy is None:
            return {}
        return {"data/skipped": Measure("max", data.skipped)}

    def limit_drift(self, step: int, measures: Measures) -> None:
        """Go on with another sampler once rollouts are too far from the policy."""
        self.sampler.config, why = self.drift_limit.judge(self.sampler.config, measures)
        if why and distributed.rank() == 0:
            log.warning("step %d: %s", step, why)

    def name_faults(self, batch: PromptBatch, experience: Experience) -> None:
        """End the run where a reward or the objective is why a step made no update at all.

        Raises:
            RunError: On every rank, with what any of them found.
        """
        ids = [encoded.problem.id for encoded in batch.problems]
        own = reward_faults(experience.rollout, ids, list(self.settings.reward.weights))
        own += objective_faults(experience, ids, self.settings.objective)
        faults = [fault for faults in distributed.gather_objects(own) for fault in faults]
        if faults:
            raise RunError(
                f"step {batch.step} made no update: {'; '.join(faults)}. Let it give finite "
                "numbers, and run the same command again"
            )

    def prompts(self, batch: PromptBatch) -> list[str]:
        """The prompts of a batch, for people."""
        return [f"{p.problem.id}\n{self.tokenizer.decode(p.prompt_ids)}" for p in batch.problems]

    # ---- Lightning's hooks ------------------------------------------------------------------

    @property
    def optimizer(self) -> LightningOptimizer:
        """The one optimizer, wrapped so that Lightning counts its steps."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def configure_optimizers(self) -> Any:
        """AdamW over the policy's parameters alone."""
        total = self.stage.steps * self.stage.inner_updates
        return build_optimizer(self.backbone.parameters(), self.settings.optimizer, total)

    def configure_model(self) -> None:
        """Share the parameters of policy and reference over the strategy's mesh."""
        shard_models(self, self.backbone, self.reference)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the next step needs beside weights: groups that wait for it, and how it samples."""
        checkpoint[ROLLOUTS] = {
            "kept": self.collector.state(),
            "drift": self.drift_limit.state(self.sampler.config),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up again."""
        state = checkpoint.get(ROLLOUTS, {})
        if "drift" in state:
            self.sampler.config = self.drift_limit.resume(state["drift"])
        if self.prompt_data is not None:
            self.collector.resume(state.get("kept", []), self.prompt_data.example)

    def on_train_start(self) -> None:
        """Updates run with dropout, where the policy has any; sampling and scoring without."""
        self.backbone.train()

    def on_validation_epoch_start(self) -> None:
        """Forget an earlier evaluation."""
        for evaluation in self.evaluations:
            evaluation.begin()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer one batch of held-out problems."""
        for evaluation in self.evaluations:
            evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Keep the accuracy of an evaluation in training, at the steps that the policy has made."""
        for evaluation in self.evaluations:
            evaluation.finish()
        self.evaluated_step = self.trainer.global_step // self.stage.inner_updates
        accuracy = self.evaluation.values()["eval/accuracy"]
        self.log("eval/accuracy", accuracy, prog_bar=True, logger=False)
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.log_evaluation()

    @property
    def evaluations(self) -> list[Evaluation]:
        """Greedy, or as `eval` says, and where it is asked for as rollouts sample."""
        return [self.evaluation, *([] if self.sampled is None else [self.sampled])]

    def log_evaluation(self) -> None:
        """Write the accuracies of the last evaluation to the loggers."""
        values = self.evaluation.values()
        if self.sampled is not None:
            values |= self.sampled.values("eval/sampled_accuracy")
        for logger in self.loggers:
            logger.log_metrics(values, step=self.evaluated_step)
