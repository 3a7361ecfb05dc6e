"""IGPO as a LightningModule: state and order of calls; the formulas live in the pure files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import (
    MaskedInputs,
    TokenScores,
    draw_masked_inputs,
    token_scores,
)
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.evaluation.module import EvaluationSettings
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.lora import build_reference, reference_policy
from igpo_lightning.optimization import OptimizerSettings, build_optimizer
from igpo_lightning.reporting.rollout_samples import log_sample_table, rollout_records
from igpo_lightning.rewards import extract_answer
from igpo_lightning.rl.advantages import group_advantages, informative_groups
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
from igpo_lightning.rl.filters import filter_tokens
from igpo_lightning.rl.objectives import normalized_weights, objective_terms, weighted_loss
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.rl.sampling import RolloutModule, without_dropout
from igpo_lightning.rl.settings import RLSettings


@dataclass(frozen=True)
class Experience:
    """A rollout with all that its mu updates share.

    Attributes:
        rollout: N rows.
        advantages: [N].
        inputs: The masks under which every policy is scored.
        old: Scores under the policy that sampled.
        reference: Scores under the reference policy; None without a KL penalty.
        live: [N, C], True up to and including the first EOS (everywhere, where tokens after it
            count).
        counted_rows: [N], False in dropped groups.
        loss_mask: [N, C], True at tokens that count.
        weights: [N, C], of each token in the loss, so that the mean over ranks is over all rows.
    """

    rollout: Rollout
    advantages: Tensor
    inputs: MaskedInputs
    old: TokenScores
    reference: TokenScores | None
    live: Tensor
    counted_rows: Tensor
    loss_mask: Tensor
    weights: Tensor


class RLModule(RolloutModule):
    """Inpainting-Guided Policy Optimization (arXiv 2509.10396); GRPO where nothing is inpainted."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: RLSettings,
        optimizer: OptimizerSettings,
        on_samples: Callable[[int, list[dict[str, Any]]], None] | None = None,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation, settings)
        # Several optimizer steps a batch: Lightning's manual optimization.
        self.automatic_optimization = False
        self.optimizer_settings = optimizer
        self.on_samples = on_samples
        self.reference: BackboneModule | None = None
        if settings.objective.needs_reference:
            self.reference = build_reference(backbone)

    def configure_model(self) -> None:
        """Shard policy and reference alike."""
        super().configure_model()
        if self.reference is not None and self.device_mesh is not None:
            distributed.shard(self.reference, self.device_mesh["data_parallel"])

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

    @torch.no_grad()
    def score_rollout(self, batch: PromptBatch, rollout: Rollout, advantages: Tensor) -> Experience:
        """Old and reference log-probabilities, and which tokens count by how much."""
        settings, objective = self.settings, self.settings.objective
        live = live_mask(rollout.completion_ids, self.backbone.eos_token_id)
        if objective.count_after_eos:
            live = torch.ones_like(live)
        inputs = self.draw_masks(batch, rollout, advantages, live)
        with self.phase("update"):
            old = self.score(self.backbone, rollout, inputs, live, with_entropy=True)
            assert old.entropy is not None
            scored = live & inputs.scored
            loss_mask = filter_tokens(settings.filter, old.entropy, rollout.hint_mask, scored)
            counted_rows = torch.ones_like(rollout.correct)
            if objective.drop_uniform_groups:
                informative = informative_groups(rollout.grouped(rollout.rewards))
                counted_rows = informative.repeat_interleave(rollout.group_size)
                loss_mask = loss_mask & counted_rows[:, None]
            reference = None
            if objective.needs_reference:
                with reference_policy(self.backbone, self.reference) as policy:
                    reference = self.score(policy, rollout, inputs, loss_mask)
        # The mean over ranks that DDP and FSDP take becomes the mean over all rows and tokens.
        counts = (int(counted_rows.sum()), int(loss_mask.sum()))
        rows, tokens = map(sum, zip(*distributed.gather_objects(counts), strict=True))
        weights = normalized_weights(
            loss_mask,
            objective.normalization,
            length=objective.normalization_length,
            rows=rows / distributed.world_size(),
            tokens=tokens / distributed.world_size(),
        )
        if inputs.credit is not None:
            weights = weights * inputs.credit
        return Experience(
            rollout, advantages, inputs, old, reference, live, counted_rows, loss_mask, weights
        )

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
                terms = objective_terms(
                    objective,
                    scores.logp,
                    old.logp[rows],
                    experience.advantages[rows],
                    loss_mask,
                    None if reference is None else reference.logp[rows],
                )
                loss = weighted_loss(terms, experience.weights[rows], objective.beta)
                self.manual_backward(loss)
                total += loss.detach()
                parts.append(update_measures(terms, loss_mask, rollout.hint_mask[rows]))
                self.count_update(experience.inputs, rows, rollout)
            norm = torch.nn.utils.clip_grad_norm_(
                self.backbone.parameters(), self.optimizer_settings.grad_norm
            )
            optimizer.step()
            scheduler = self.lr_schedulers()
            assert isinstance(scheduler, LRScheduler)
            scheduler.step()
        full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        step = {"policy/loss": mean(total.item(), 1), "policy/grad_norm": mean(full.item(), 1)}
        return join_measures(parts) | step

    # ---- parts ------------------------------------------------------------------------------

    @property
    def optimizer(self) -> LightningOptimizer:
        """The one optimizer, wrapped so that Lightning counts its steps."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `train_batch_size` rows."""
        size = self.settings.train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def draw_masks(
        self, batch: PromptBatch, rollout: Rollout, advantages: Tensor, live: Tensor
    ) -> MaskedInputs:
        """The masks under which old, new and reference policy are all scored."""
        size = self.settings.group_size
        problems = [p for p in batch.problems for _ in range(size)]
        seeds = [self.row_seed(batch.step, p, i % size, "masks") for i, p in enumerate(problems)]
        return draw_masked_inputs(
            self.settings.likelihood,
            rollout.completion_ids,
            keys=row_keys(seeds, self.device),
            hint_mask=rollout.hint_mask,
            live_mask=live,
            unmask_step=rollout.unmask_step,
            prompt_mask=rollout.prompt_mask,
            advantages=advantages,
        )

    def score(
        self,
        model: BackboneModule,
        rollout: Rollout,
        inputs: MaskedInputs,
        counted: Tensor,
        with_entropy: bool = False,
    ) -> TokenScores:
        """Log-probabilities (and entropies) of all rows, in micro-batches."""
        parts = []
        with without_dropout(model):
            for rows in self.micro_batches(len(rollout.completion_ids)):
                parts.append(
                    token_scores(
                        model,
                        rollout.prompt_ids[rows],
                        rollout.completion_ids[rows],
                        inputs.rows(rows),
                        rollout.prompt_mask[rows],
                        counted=counted[rows],
                        with_entropy=with_entropy,
                    )
                )
                self.count_update(inputs, rows, rollout)
        entropies = [p.entropy for p in parts if p.entropy is not None]
        return TokenScores(
            logp=torch.cat([p.logp for p in parts]),
            entropy=torch.cat(entropies) if entropies else None,
        )

    def count_update(self, inputs: MaskedInputs, rows: slice, rollout: Rollout) -> None:
        """Count forward passes and the real tokens in them."""
        masked_inputs = inputs.masks.shape[1]
        prompts = rollout.prompt_mask[rows]
        canvas = int(prompts.sum()) + len(prompts) * rollout.completion_ids.shape[1]
        self.work["passes/update"] += masked_inputs
        self.work["tokens/update"] += masked_inputs * canvas

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

    # ---- checkpoints: the reference is what training started from, not state ------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen reference out: it is rebuilt from `model.path`."""
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("reference.")]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the loaded state with the reference that this run was built with."""
        if self.reference is not None:
            own = self.reference.state_dict(prefix="reference.")
            checkpoint["state_dict"].update(own)
