"""A rollout made ready for its updates: masks, old and reference scores, and what counts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import TokenScores, token_scores
from igpo_lightning.diffusion.masked_inputs import MaskedInputs, draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.evaluation.answer import without_dropout
from igpo_lightning.models import BackboneModule
from igpo_lightning.models.lora import reference_policy
from igpo_lightning.rl.advantages import (
    accuracy_within,
    group_advantages,
    informative_groups,
    summed_advantages,
)
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.filters import filter_tokens
from igpo_lightning.rl.normalization import normalized_weights
from igpo_lightning.rl.objectives import sampler_ratio
from igpo_lightning.rl.rollout import Rollout, repeated, row_seeds
from igpo_lightning.runs.leaving import Leave
from igpo_lightning.settings import Settings


@dataclass(frozen=True)
class Experience:
    """A rollout with all that its mu updates share.

    The loss has R rows: one for each of the N completions, or, where the likelihood is `separate`,
    one for each of their masked inputs.

    Attributes:
        rollout: N rows.
        advantages: [N].
        live: [N, C], True up to and including the first EOS (everywhere, where tokens after it
            count).
        entropy: [N, C], under the policy that sampled; None as long as `old` is.
        kept: [N, C], True at tokens that count.
        counted_rows: [N], False in dropped groups.
        row_of: [R], the completion that a row of the loss belongs to.
        inputs: The masks of the R rows, under which every policy is scored.
        old: Scores of the R rows under the policy that sampled; None where the only update has yet
            to make them.
        reference: Scores under the reference policy; None without a penalty that needs them.
        scored: [R, C], True at tokens that could count.
        loss_mask: [R, C], True at tokens that count.
        ratio_mask: [R, C], tokens that the sequence ratio covers; None for `loss_mask`.
        weights: [R, C], of each token in the loss, so that the mean over ranks is over all rows.
        kl_weights: [R, C], likewise for a penalty with its own normalisation; None without one.
        sampler_ratio: [N, C], of the policy to its sampler, 1 in rows with hints; None where tokens
            are not weighted by it.
    """

    rollout: Rollout
    advantages: Tensor
    live: Tensor
    entropy: Tensor | None
    kept: Tensor
    counted_rows: Tensor
    row_of: Tensor
    inputs: MaskedInputs
    old: TokenScores | None
    reference: TokenScores | None
    scored: Tensor
    loss_mask: Tensor
    ratio_mask: Tensor | None
    weights: Tensor
    kl_weights: Tensor | None
    sampler_ratio: Tensor | None = None


class Scorer:
    """Scores rollouts under the policy and its reference, always under the same masks.

    Attributes:
        policy: The backbone that is trained.
        reference: What `build_reference` made of it.
        settings: Likelihood, filter, objective and seed.
        rows_per_pass: Rows of a forward and backward pass.
        cost: Where passes and seconds are counted.
        leave: Asked ahead of every pass.
    """

    def __init__(
        self,
        policy: BackboneModule,
        reference: BackboneModule | None,
        settings: Settings,
        rows_per_pass: int,
        cost: Cost,
        leave: Leave | None = None,
    ) -> None:
        self.policy, self.reference, self.settings = policy, reference, settings
        self.rows_per_pass, self.cost, self.leave = rows_per_pass, cost, leave or Leave()

    def advantages(self, batch: PromptBatch, rollout: Rollout) -> Tensor:
        """[N], relative to each group, or to the groups of all ranks where the kind asks for it."""
        objective = self.settings.objective
        kind, epsilon = objective.advantage, objective.advantage_epsilon
        if kind == "normalize_then_sum":
            factors = torch.tensor(list(self.settings.reward.weights.values()))
            parts = rollout.grouped(rollout.reward_parts * factors.to(rollout.reward_parts))
            return _over_ranks(batch, parts, lambda values: summed_advantages(values, epsilon))
        rewards = rollout.grouped(rollout.rewards)
        if kind == "batch":
            return _over_ranks(
                batch, rewards, lambda values: group_advantages(values, kind, epsilon)
            )
        return group_advantages(rewards, kind, epsilon).flatten()

    @torch.no_grad()
    def experience(self, batch: PromptBatch, rollout: Rollout, advantages: Tensor) -> Experience:
        """Old and reference log-probabilities, and which tokens count by how much.

        Of the whole groups, and their advantages, this rank's part is kept.
        """
        settings, objective = self.settings, self.settings.objective
        own = own_part(batch, len(advantages))
        counted_rows = self.counted_rows(rollout)[own]  # a question about whole groups
        keys = self.mask_keys(batch, rollout)[own]
        rollout, advantages = rollout.part(own), advantages[own]
        live = live_mask(rollout.completion_ids, self.policy.eos_token_id)
        if objective.count_after_eos:
            live = torch.ones_like(live)
        inputs = self.draw_masks(keys, rollout, advantages, live)
        number = 1
        if settings.likelihood.separate:
            number = inputs.masks.shape[1]
            inputs = inputs.separated(settings.likelihood.partitions)
        row_of = torch.arange(len(live), device=live.device).repeat_interleave(number)
        scored = live[row_of] & inputs.scored
        with self.cost.phase("update"):
            old = entropy = None
            kept = scored.view(-1, number, live.shape[1]).any(dim=1)
            if settings.scores_old_policy:
                old = self.score(self.policy, rollout, row_of, inputs, scored, with_entropy=True)
                entropy = _entropies(old, inputs, scored, number)
                of_all = None
                if settings.filter.kind == "entropy_all":
                    ranks = distributed.gather_objects(entropy[kept].cpu())
                    of_all = torch.cat(ranks).to(entropy.device)
                kept = filter_tokens(settings.filter, entropy, rollout.hint_mask, kept, of_all)
            kept = kept & counted_rows[:, None]
            loss_mask = kept[row_of] & inputs.scored
            reference = None
            if objective.needs_reference:
                with reference_policy(self.policy, self.reference) as model:
                    reference = self.score(model, rollout, row_of, inputs, loss_mask)
        rows = counted_rows[row_of]
        if number > 1:  # an input that scores nothing is no row
            rows = rows & loss_mask.any(dim=1)
        weights, kl_weights = self.weights(
            counted_rows, rows, loss_mask, scored, rollout.group_size
        )
        if inputs.credit is not None:
            weights = weights * inputs.credit
            kl_weights = None if kl_weights is None else kl_weights * inputs.credit
        return Experience(
            rollout=rollout,
            advantages=advantages,
            live=live,
            entropy=entropy,
            kept=kept,
            counted_rows=counted_rows,
            row_of=row_of,
            inputs=inputs,
            old=old,
            reference=reference,
            scored=scored,
            loss_mask=loss_mask,
            ratio_mask=scored if objective.ratio_tokens == "live" else None,
            weights=weights,
            kl_weights=kl_weights,
            sampler_ratio=self.sampler_ratio(rollout, live, old),
        )

    def sampler_ratio(
        self, rollout: Rollout, live: Tensor, old: TokenScores | None
    ) -> Tensor | None:
        """[N, C], where the objective asks for it; every token is scored in one of its rows.

        1 in rows with hints: these were not meant to come from the policy alone, and their first
        canvas is scored without the hints.
        """
        level = self.settings.objective.rollout_is
        if level is None:
            return None
        assert old is not None
        exact = old.logp.view(len(live), -1, live.shape[1]).sum(dim=1)
        sampled = live & ~rollout.hint_mask.any(dim=1, keepdim=True)
        return sampler_ratio(exact, rollout.unmask_score.log(), sampled, level)

    def with_old_scores(self, experience: Experience, own: list[TokenScores]) -> Experience:
        """With the scores that the only update made of its micro-batches, of the same policy."""
        old, inputs, scored = _joined(own), experience.inputs, experience.scored
        number = len(scored) // len(experience.live)
        return replace(experience, old=old, entropy=_entropies(old, inputs, scored, number))

    def counted_rows(self, rollout: Rollout) -> Tensor:
        """[N], False in groups that the objective drops."""
        objective = self.settings.objective
        correct = rollout.grouped(rollout.correct)
        counted = accuracy_within(correct, objective.accuracy_low, objective.accuracy_high)
        if objective.drop_uniform_groups:
            counted = counted & informative_groups(rollout.grouped(rollout.rewards))
        return counted.repeat_interleave(rollout.group_size)

    def mask_keys(self, batch: PromptBatch, rollout: Rollout) -> Tensor:
        """[N], from which the masks of each row are drawn."""
        problems = repeated(batch.problems, rollout.group_size)
        seeds = row_seeds(self.settings.seed, batch.step, problems, rollout.group_size, "masks")
        return row_keys(seeds, rollout.completion_ids.device)

    def draw_masks(
        self, keys: Tensor, rollout: Rollout, advantages: Tensor, live: Tensor
    ) -> MaskedInputs:
        """The masks under which old, new and reference policy are all scored."""
        settings = self.settings
        return draw_masked_inputs(
            settings.likelihood.for_sampler(
                settings.sampler.steps_in_order(self.policy.block_size)
            ),
            rollout.completion_ids,
            keys=keys,
            live_mask=live,
            unmask_step=rollout.unmask_step,
            prompt_mask=rollout.prompt_mask,
            advantages=advantages,
            block_size=self.policy.block_size,
        )

    def weights(
        self, counted: Tensor, rows: Tensor, loss_mask: Tensor, live: Tensor, group_size: int
    ) -> tuple[Tensor, Tensor | None]:
        """[R, C] of the loss, and of a penalty with its own normalisation.

        The mean over ranks that DDP and FSDP take becomes that over all rows or tokens.

        Args:
            counted: [N], False in completions that do not count.
            rows: [R], False in rows that do not count.
            loss_mask: [R, C], True at tokens that count.
            live: [R, C], True at tokens that could count.
            group_size: G, the rows of a micro-batch where the objective names none.
        """
        objective = self.settings.objective
        denominators = live & rows[:, None] if objective.denominator_tokens == "live" else loss_mask
        counts = (int(counted.sum()), int(rows.sum()), int(denominators.sum()))
        sums = map(sum, zip(*distributed.gather_objects(counts), strict=True))
        completions, total_rows, tokens = (total / distributed.world_size() for total in sums)
        size = objective.normalization_rows or group_size

        def of(kind: str) -> Tensor:
            return normalized_weights(
                loss_mask,
                kind,
                length=objective.normalization_length,
                # A constant stands for a completion's length, however many rows score it.
                rows=completions if kind == "constant" else total_rows,
                tokens=tokens,
                micro_batch=size * len(rows) // len(counted),
                denominators=denominators,
            )

        penalty = objective.kl_normalization
        return of(objective.normalization), None if penalty is None else of(penalty)

    def micro_batches(self, rows: int) -> list[slice]:
        """Slices of `rows_per_pass` rows."""
        size = self.rows_per_pass
        return [slice(start, start + size) for start in range(0, rows, size)]

    def score(
        self,
        model: BackboneModule,
        rollout: Rollout,
        row_of: Tensor,
        inputs: MaskedInputs,
        counted: Tensor,
        with_entropy: bool = False,
    ) -> TokenScores:
        """Log-probabilities (and entropies) of all R rows, in micro-batches, without dropout."""
        with without_dropout(model):
            parts = [
                self.score_rows(model, rollout, row_of, inputs, counted, rows, with_entropy)
                for rows in self.micro_batches(len(row_of))
            ]
        return _joined(parts)

    def trained_scores(self, experience: Experience, rows: slice) -> TokenScores:
        """Of some rows under the policy as it is now, with gradient.

        They stand in for the old scores where there are none: with entropies, of all that could
        count.
        """
        first = experience.old is None
        covered = experience.scored if first else experience.ratio_mask
        counted = experience.loss_mask if covered is None else covered
        rollout, row_of, inputs = experience.rollout, experience.row_of, experience.inputs
        return self.score_rows(
            self.policy, rollout, row_of, inputs, counted, rows, with_entropy=first
        )

    def score_rows(
        self,
        model: BackboneModule,
        rollout: Rollout,
        row_of: Tensor,
        inputs: MaskedInputs,
        counted: Tensor,
        rows: slice,
        with_entropy: bool = False,
    ) -> TokenScores:
        """Score some of the R rows, and count the passes and the real tokens in them.

        `row_of` [R] says which completion of the rollout a row scores, `counted` [R, C] where a
        score is needed.
        """
        self.leave.together()
        at = row_of[rows]
        prompts, completions = rollout.prompt_mask[at], rollout.completion_ids[at]
        passes = inputs.masks.shape[1]
        tokens = passes * (int(prompts.sum()) + completions.numel())
        # A backward pass computes two more.
        self.cost.count("update", passes, tokens, tokens * (3 if torch.is_grad_enabled() else 1))
        return token_scores(
            model,
            rollout.prompt_ids[at],
            completions,
            inputs.rows(rows),
            prompts,
            counted=counted[rows],
            with_entropy=with_entropy,
        )


def _joined(parts: list[TokenScores]) -> TokenScores:
    """Scores of micro-batches as those of all rows."""
    entropies = [p.entropy for p in parts if p.entropy is not None]
    return TokenScores(
        logp=torch.cat([p.logp for p in parts]),
        entropy=torch.cat(entropies) if entropies else None,
    )


def _entropies(scores: TokenScores, inputs: MaskedInputs, scored: Tensor, number: int) -> Tensor:
    """[N, C] of scores [N number, C]: the mean over the rows of a completion that score a token."""
    values = scores.entropy
    assert values is not None
    if number == 1:
        return values
    used = (inputs.weights > 0).any(dim=1) & scored
    grouped, shown = (t.view(-1, number, t.shape[1]) for t in (values, used))
    total = torch.where(shown, grouped, 0.0).sum(dim=1)
    return total / shown.sum(dim=1).clamp(min=1)


def own_part(batch: PromptBatch, rows: int) -> slice:
    """This rank's rows of its groups: all of them, unless ranks share a group."""
    size = rows // batch.parts
    return slice(batch.part * size, (batch.part + 1) * size)


def _over_ranks(batch: PromptBatch, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """This rank's part, flattened, of a function of all ranks' groups [Q, G, ...]."""
    # Ranks that share a group have the same values: they count once.
    ranks = distributed.gather_objects(values.tolist())[:: batch.parts]
    before = sum(len(groups) for groups in ranks[: distributed.rank() // batch.parts])
    whole = torch.tensor([group for groups in ranks for group in groups], device=values.device)
    return function(whole)[before : before + len(values)].flatten()
