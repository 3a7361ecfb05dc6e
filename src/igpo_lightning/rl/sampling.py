"""Groups of graded completions, and extra samples for the groups that need help."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch, pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.likelihood import draw_masked_inputs, token_scores
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.evaluation.module import EvaluationModule, EvaluationSettings
from igpo_lightning.evaluation.runner import Completions, complete
from igpo_lightning.inpainting.hints import FREE, choose_hints, draw_ratio
from igpo_lightning.inpainting.schedule import ratio_range
from igpo_lightning.models import BackboneModule
from igpo_lightning.rewards.functions import Graded, combine_rewards, reward_parts
from igpo_lightning.rl.diagnostics import Measure, Measures, join_measures, mean
from igpo_lightning.rl.injection import inject, needs_help
from igpo_lightning.rl.rollout import Rollout, all_wrong
from igpo_lightning.rl.settings import RLSettings
from igpo_lightning.settings import LikelihoodConfig


@contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Sampling and scoring see the policy itself, not a thinned one."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@dataclass(frozen=True)
class ExtraSamples:
    """One round of extra samples for some groups.

    Attributes:
        groups: Which groups of the batch they are for.
        step: The rollout step.
        hint_round: Counted from 0.
        passes: Denoising passes that all ranks make.
        all_wrong_share: Over all ranks, before injection.
        uncertainty: [len(groups), C] entropy of the policy; None unless hints are chosen by it.
    """

    groups: list[int]
    step: int
    hint_round: int
    passes: int
    all_wrong_share: float
    uncertainty: Tensor | None


class RolloutModule(EvaluationModule):
    """Samples groups and inpaints; see `RLModule` for the training step."""

    def __init__(
        self,
        backbone: BackboneModule,
        tokenizer: PreTrainedTokenizerFast,
        evaluation: EvaluationSettings,
        settings: RLSettings,
    ) -> None:
        super().__init__(backbone, tokenizer, evaluation)
        self.settings = settings
        # Forward passes and tokens of the current step, by phase.
        self.work: dict[str, int] = defaultdict(int)

    def sample_groups(self, batch: PromptBatch) -> Rollout:
        """G graded completions for each prompt of the batch."""
        problems = [p for p in batch.problems for _ in range(self.settings.group_size)]
        return self.generate(batch.step, problems, "rollout")

    def inpaint(self, batch: PromptBatch, rollout: Rollout) -> tuple[Rollout, Measures]:
        """Sample groups that need help again, around hints; right ones replace wrong ones.

        Groups that cannot be hinted stay as they are (GRPO) and are counted. All ranks make the
        same number of forward passes, whatever their groups are like.
        """
        settings, size = self.settings.inpaint, self.settings.group_size
        if settings.trigger == "never":
            return rollout, {}
        correct = rollout.grouped(rollout.correct)
        chosen = needs_help(settings, correct, rollout.grouped(rollout.rewards))
        triggered: list[int] = chosen.nonzero().flatten().tolist()
        pending = [q for q in triggered if self.can_help(batch.problems[q])]
        counts = self.count_triggered(batch, triggered)
        share = self.all_wrong_share(correct)
        rows = self.settings.rollout_batch_size
        uncertainty = self.uncertainty(batch, pending)
        for hint_round in range(settings.rounds):
            passes = distributed.max_over_ranks(math.ceil(len(pending) * size / rows))
            if passes == 0:
                break
            if not pending:
                # This rank keeps the others company: as many passes, over one row, thrown away.
                self.complete_rows(batch.step, batch.problems[:1], "company", None, passes)
                continue
            plan = ExtraSamples(pending, batch.step, hint_round, passes, share, uncertainty)
            extra, measures = self.sample_extra(batch, plan)
            rollout, replaced = inject(rollout, extra, pending, settings.replace_fraction)
            counts = join_measures([counts, measures, {"hint/replaced": Measure("sum", replaced)}])
            helped = extra.grouped(extra.correct).any(dim=1).tolist()
            left = [i for i, done in enumerate(helped) if not done]
            pending = [pending[i] for i in left]
            uncertainty = None if uncertainty is None else uncertainty[left]
        return rollout, counts

    def can_help(self, encoded: EncodedProblem) -> bool:
        """Whether extra samples can be made for a problem; hints need a usable trace."""
        settings = self.settings
        if settings.inpaint.extra_samples == "plain":
            return True
        if encoded.trace_ids is None:
            return False
        fits = len(encoded.trace_ids) <= settings.sampler.completion_length
        return fits or settings.inpaint.long_traces != "skip"

    def count_triggered(self, batch: PromptBatch, triggered: list[int]) -> Measures:
        """How many groups need help, and how many of them have no trace or too long a one."""
        traces = [batch.problems[q].trace_ids for q in triggered]
        length = self.settings.sampler.completion_length
        too_long = sum(trace is not None and len(trace) > length for trace in traces)
        return {
            "hint/groups_triggered": Measure("sum", len(triggered)),
            "hint/groups_without_trace": Measure("sum", sum(t is None for t in traces)),
            "hint/traces_too_long": Measure("sum", too_long),
            "hint/replaced": Measure("sum", 0),
            "hint/rounds": Measure("max", 0),
        }

    def all_wrong_share(self, correct: Tensor) -> float:
        """Share of all-wrong groups over all ranks, from this rank's verdicts [Q, G]."""
        wrong = int(all_wrong(correct).sum())
        ranks = distributed.gather_objects((wrong, len(correct)))
        return sum(w for w, _ in ranks) / sum(n for _, n in ranks)

    def sample_extra(self, batch: PromptBatch, plan: ExtraSamples) -> tuple[Rollout, Measures]:
        """One round: G samples for each group, around hints unless the control asks for none."""
        size = self.settings.group_size
        problems = [batch.problems[q] for q in plan.groups for _ in range(size)]
        measures: Measures = {"hint/rounds": Measure("max", plan.hint_round + 1)}
        hint_ids = None
        if self.settings.inpaint.extra_samples == "hinted":
            hint_ids, ratios = self.draw_hints(problems, plan)
            measures["hint/ratio_mean"] = mean(sum(ratios), len(ratios))
            given = int((hint_ids != FREE).sum())
            measures["hint/tokens_per_sample"] = mean(given, len(hint_ids))
        purpose = f"extra-{plan.hint_round}"
        extra = self.generate(plan.step, problems, purpose, hint_ids, plan.passes)
        right = float(extra.correct.sum())
        return extra, measures | {"hint/correct_share": mean(right, len(problems))}

    def draw_hints(
        self, problems: list[EncodedProblem], plan: ExtraSamples
    ) -> tuple[Tensor, list[float]]:
        """Hints [N, C] for N rows, each with its own eta and chunks, and the etas."""
        settings, size = self.settings.inpaint, self.settings.group_size
        length = self.settings.sampler.completion_length
        low, high = ratio_range(
            settings,
            plan.step,
            self.settings.steps,
            plan.all_wrong_share,
            plan.hint_round,
        )
        hints, ratios = [], []
        for row, encoded in enumerate(problems):
            seed = self.row_seed(plan.step, encoded, row % size, f"hints-{plan.hint_round}")
            generator = torch.Generator().manual_seed(seed)
            ratio = draw_ratio(low, high, generator)
            ratios.append(ratio)
            assert encoded.trace_ids is not None  # see can_help
            hints.append(
                choose_hints(
                    encoded.trace_ids,
                    length,
                    ratio,
                    settings.chunk_min,
                    settings.chunk_max,
                    generator,
                    encoded.answer_span,
                    options=settings,
                    uncertainty=None if plan.uncertainty is None else plan.uncertainty[row // size],
                )
            )
        return torch.stack(hints), ratios

    @torch.no_grad()
    def uncertainty(self, batch: PromptBatch, groups: list[int]) -> Tensor | None:
        """The policy's entropy [len(groups), C] at each position of a fully masked completion.

        None unless hints are chosen by it. All ranks make the same number of passes.
        """
        settings = self.settings
        if settings.inpaint.choice != "uncertain":
            return None
        limit, length = settings.rollout_batch_size, settings.sampler.completion_length
        passes = distributed.max_over_ranks(math.ceil(len(groups) / limit))
        if passes == 0:
            return None
        entropies = []
        for number in range(passes):
            part = groups[number * limit : (number + 1) * limit] or [0]
            prompts = [batch.problems[q].prompt_ids for q in part]
            prompt_ids, prompt_mask = (
                t.to(self.device) for t in pad_left(prompts, self.backbone.pad_token_id)
            )
            masked = prompt_ids.new_full((len(part), length), self.backbone.mask_token_id)
            everywhere = torch.ones_like(masked, dtype=torch.bool)
            inputs = draw_masked_inputs(
                LikelihoodConfig(kind="mean_field"),
                masked,
                keys=row_keys([0] * len(part), self.device),
                hint_mask=~everywhere,
                live_mask=everywhere,
                prompt_mask=prompt_mask,
            )
            with self.phase("rollout"), without_dropout(self.backbone):
                scores = token_scores(
                    self.backbone, prompt_ids, masked, inputs, prompt_mask, with_entropy=True
                )
            self.work["passes/rollout"] += 1
            self.work["compute/rollout"] += masked.numel() + prompt_ids.numel()
            assert scores.entropy is not None
            entropies.append(scores.entropy.cpu())
        return torch.cat(entropies)[: len(groups)]  # the rest only kept the ranks in step

    def complete_rows(
        self,
        step: int,
        problems: list[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        passes: int | None = None,
        on_rows: Callable[[list[int], Tensor], None] | None = None,
    ) -> Completions:
        """Complete one row for each problem, G rows for each in turn."""
        settings, size = self.settings, self.settings.group_size
        seeds = [self.row_seed(step, p, i % size, purpose) for i, p in enumerate(problems)]
        with self.phase("rollout"), without_dropout(self.backbone), self.sampling():
            completions = complete(
                self.backbone,
                problems,
                seeds,
                settings.sampler,
                self.device,
                settings.rollout_batch_size,
                hint_ids,
                passes,
                ranks=distributed.lockstep_of(self.backbone),
                on_rows=on_rows,
            )
        self.work["passes/rollout"] += completions.output.forward_passes
        self.work["tokens/rollout"] += int((~completions.output.hint_mask).sum())
        self.work["compute/rollout"] += completions.output.body_tokens
        return completions

    def generate(
        self,
        step: int,
        problems: list[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        passes: int | None = None,
    ) -> Rollout:
        """Complete rows, G for each problem in turn, and grade those that are done meanwhile."""
        settings = self.settings
        grading = self.grading(problems)
        completions = self.complete_rows(step, problems, purpose, hint_ids, passes, grading.start)
        output = completions.output
        with self.phase("grading"):
            texts, verdicts = grading.finish()
            live = live_mask(output.completion_ids, self.backbone.eos_token_id)
            graded = [
                Graded(text, verdict, tokens, settings.sampler.completion_length)
                for text, verdict, tokens in zip(
                    texts, verdicts, live.sum(dim=1).tolist(), strict=True
                )
            ]
            parts = reward_parts(graded, list(settings.reward_weights))
            rewards = combine_rewards(parts, settings.reward_weights)
        correct = torch.tensor([v.correct for v in verdicts], device=self.device)
        return Rollout(
            prompt_ids=completions.prompt_ids,
            prompt_mask=completions.prompt_mask,
            completion_ids=output.completion_ids,
            hint_mask=output.hint_mask,
            unmask_step=output.unmask_step,
            correct=correct,
            rewards=torch.tensor(rewards, device=self.device),
            reward_parts=torch.tensor(parts, device=self.device),
            replaced=torch.zeros_like(correct),
            texts=texts,
            reasons=[verdict.reason for verdict in verdicts],
            group_size=settings.group_size,
        )

    def row_seed(self, step: int, encoded: EncodedProblem, sample: int, purpose: str) -> int:
        """The seed of one row: nothing else decides its randomness."""
        return stable_seed(self.settings.seed, step, encoded.problem.id, sample, purpose)
