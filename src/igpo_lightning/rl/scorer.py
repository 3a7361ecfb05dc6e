"""A rollout made ready for its updates: masks, old and reference scores, and what counts."""

from dataclasses import dataclass

import torch
from torch import Tensor

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
from igpo_lightning.evaluation.answer import without_dropout
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.lora import reference_policy
from igpo_lightning.rl.advantages import informative_groups
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.filters import filter_tokens
from igpo_lightning.rl.objectives import normalized_weights
from igpo_lightning.rl.rollout import Rollout, repeated, row_seeds
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


class Scorer:
    """Scores rollouts under the policy and its reference, always under the same masks.

    Attributes:
        policy: The backbone that is trained.
        reference: What `build_reference` made of it.
        settings: Likelihood, filter and objective.
        cost: Where passes and seconds are counted.
    """

    def __init__(
        self,
        policy: BackboneModule,
        reference: BackboneModule | None,
        settings: RLSettings,
        cost: Cost,
    ) -> None:
        self.policy, self.reference, self.settings, self.cost = policy, reference, settings, cost

    @torch.no_grad()
    def experience(self, batch: PromptBatch, rollout: Rollout, advantages: Tensor) -> Experience:
        """Old and reference log-probabilities, and which tokens count by how much."""
        settings, objective = self.settings, self.settings.objective
        live = live_mask(rollout.completion_ids, self.policy.eos_token_id)
        if objective.count_after_eos:
            live = torch.ones_like(live)
        inputs = self.draw_masks(batch, rollout, advantages, live)
        with self.cost.phase("update"):
            old = self.score(self.policy, rollout, inputs, live, with_entropy=True)
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
                with reference_policy(self.policy, self.reference) as model:
                    reference = self.score(model, rollout, inputs, loss_mask)
        weights = self.weights(counted_rows, loss_mask)
        if inputs.credit is not None:
            weights = weights * inputs.credit
        return Experience(
            rollout, advantages, inputs, old, reference, live, counted_rows, loss_mask, weights
        )

    def draw_masks(
        self, batch: PromptBatch, rollout: Rollout, advantages: Tensor, live: Tensor
    ) -> MaskedInputs:
        """The masks under which old, new and reference policy are all scored."""
        size = rollout.group_size
        problems = repeated(batch.problems, size)
        seeds = row_seeds(self.settings.seed, batch.step, problems, size, "masks")
        return draw_masked_inputs(
            self.settings.likelihood,
            rollout.completion_ids,
            keys=row_keys(seeds, rollout.completion_ids.device),
            hint_mask=rollout.hint_mask,
            live_mask=live,
            unmask_step=rollout.unmask_step,
            prompt_mask=rollout.prompt_mask,
            advantages=advantages,
            block_size=self.policy.block_size,
        )

    def weights(self, counted_rows: Tensor, loss_mask: Tensor) -> Tensor:
        """[N, C]; the mean over ranks that DDP and FSDP take becomes that over all rows or tokens.

        Args:
            counted_rows: [N], False in dropped groups.
            loss_mask: [N, C], True at tokens that count.
        """
        objective = self.settings.objective
        counts = (int(counted_rows.sum()), int(loss_mask.sum()))
        rows, tokens = map(sum, zip(*distributed.gather_objects(counts), strict=True))
        return normalized_weights(
            loss_mask,
            objective.normalization,
            length=objective.normalization_length,
            rows=rows / distributed.world_size(),
            tokens=tokens / distributed.world_size(),
        )

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `train_batch_size` rows."""
        size = self.settings.train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def score(
        self,
        model: BackboneModule,
        rollout: Rollout,
        inputs: MaskedInputs,
        counted: Tensor,
        with_entropy: bool = False,
    ) -> TokenScores:
        """Log-probabilities (and entropies) of all rows, in micro-batches, without dropout."""
        with without_dropout(model):
            parts = [
                self.score_rows(model, rollout, inputs, counted, rows, with_entropy)
                for rows in self.micro_batches(len(rollout.completion_ids))
            ]
        entropies = [p.entropy for p in parts if p.entropy is not None]
        return TokenScores(
            logp=torch.cat([p.logp for p in parts]),
            entropy=torch.cat(entropies) if entropies else None,
        )

    def trained_logp(self, experience: Experience, rows: slice) -> Tensor:
        """Log-probabilities of some rows under the policy as it is now, with gradient."""
        rollout, inputs = experience.rollout, experience.inputs
        return self.score_rows(self.policy, rollout, inputs, experience.loss_mask, rows).logp

    def score_rows(
        self,
        model: BackboneModule,
        rollout: Rollout,
        inputs: MaskedInputs,
        counted: Tensor,
        rows: slice,
        with_entropy: bool = False,
    ) -> TokenScores:
        """Score some rows, and count the passes and the real tokens in them.

        Args:
            model: The policy or its reference.
            rollout: N rows.
            inputs: Their masks.
            counted: [N, C], True where a score is needed.
            rows: Which of the N.
            with_entropy: Whether entropies are needed too.
        """
        prompts, completions = rollout.prompt_mask[rows], rollout.completion_ids[rows]
        passes = inputs.masks.shape[1]
        tokens = passes * (int(prompts.sum()) + completions.numel())
        # A backward pass computes two more.
        self.cost.count("update", passes, tokens, tokens * (3 if torch.is_grad_enabled() else 1))
        return token_scores(
            model,
            rollout.prompt_ids[rows],
            completions,
            inputs.rows(rows),
            prompts,
            counted=counted[rows],
            with_entropy=with_entropy,
        )
