"""A rollout made ready for its updates: masks, old and reference scores, and what counts."""

from dataclasses import dataclass

import torch
from torch import Tensor
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
from igpo_lightning.rl.advantages import informative_groups
from igpo_lightning.rl.filters import filter_tokens
from igpo_lightning.rl.objectives import normalized_weights
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


class ExperienceModule(RolloutModule):
    """Scores rollouts under the old and the reference policy; see `RLModule` for the step."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: RLSettings,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation, settings)
        # None where there is no penalty, and where adapters can be switched off instead.
        self.reference: BackboneModule | None = None
        if settings.objective.needs_reference:
            self.reference = build_reference(backbone)

    def configure_model(self) -> None:
        """Shard policy and reference alike."""
        super().configure_model()
        if self.reference is not None:
            self.shard(self.reference)

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

    def count_update(
        self, inputs: MaskedInputs, rows: slice, rollout: Rollout, trained: bool = False
    ) -> None:
        """Count forward passes and the real tokens in them; a backward pass computes two more."""
        masked_inputs = inputs.masks.shape[1]
        prompts = rollout.prompt_mask[rows]
        canvas = int(prompts.sum()) + len(prompts) * rollout.completion_ids.shape[1]
        self.work["passes/update"] += masked_inputs
        self.work["tokens/update"] += masked_inputs * canvas
        self.work["compute/update"] += masked_inputs * canvas * (3 if trained else 1)
