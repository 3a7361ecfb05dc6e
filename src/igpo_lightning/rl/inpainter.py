"""Extra samples around hints for the groups that need help (Algorithm 1, step 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.profiler import record_function

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.inpainting.hints import FREE, choose_hints, draw_ratio
from igpo_lightning.inpainting.schedule import ratio_range
from igpo_lightning.rl.injection import inject, needs_help
from igpo_lightning.rl.measures import Measure, Measures, join_measures, mean
from igpo_lightning.rl.rollout import Rollout, all_wrong, repeated, row_seeds
from igpo_lightning.rl.sampler import ANSWER_WAS_GIVEN, GroupSampler
from igpo_lightning.settings import InpaintConfig


class Inpainter:
    """Samples groups that need help again; right extra samples replace wrong ones.

    Attributes:
        settings: Who gets extra samples, and of which kind.
        sampler: Samples the groups, and the extra ones too.
        total_steps: Rollout steps of the run, over which the hint ratio is scheduled.
    """

    def __init__(self, settings: InpaintConfig, sampler: GroupSampler, total_steps: int) -> None:
        self.settings, self.sampler, self.total_steps = settings, sampler, total_steps

    def inpaint(self, batch: PromptBatch, rollout: Rollout) -> tuple[Rollout, Measures]:
        """The groups after replacement.

        Groups that cannot be hinted stay as they are (GRPO) and are counted. All ranks make the
        same number of forward passes, whatever their groups are like.
        """
        settings = self.settings
        if settings.trigger == "never":
            return rollout, {}
        correct = rollout.grouped(rollout.correct)
        chosen = needs_help(settings, correct)
        triggered: list[int] = chosen.nonzero().flatten().tolist()
        pending = [q for q in triggered if self.can_help(batch.problems[q])]
        counts = self.count_triggered([batch.problems[q] for q in triggered])
        share = all_wrong_share(correct)
        for number in range(settings.rounds):
            if not distributed.any_rank(bool(pending)):
                break
            problems = [batch.problems[q] for q in pending]
            extra, measures = self.sample_extra(batch, problems, number, share)
            if not pending:  # what was sampled here belongs to other ranks
                continue
            rollout, replaced = inject(rollout, extra, pending, settings.replace_fraction)
            counts = join_measures([counts, measures, {"hint/replaced": Measure("sum", replaced)}])
            helped = extra.grouped(extra.correct).any(dim=1).tolist()
            pending = [q for q, done in zip(pending, helped, strict=True) if not done]
        return rollout, counts

    def can_help(self, encoded: EncodedProblem) -> bool:
        """Whether extra samples can be made for a problem; hints need a trace."""
        return self.settings.extra_samples == "plain" or encoded.trace_ids is not None

    def is_too_long(self, encoded: EncodedProblem) -> bool:
        """Whether a trace does not fit into a completion."""
        length = self.sampler.answerer.config.completion_length
        return encoded.trace_ids is not None and len(encoded.trace_ids) > length

    def count_triggered(self, problems: Sequence[EncodedProblem]) -> Measures:
        """How many groups need help, and how many of them have no trace or too long a one."""
        without = sum(encoded.trace_ids is None for encoded in problems)
        return {
            "hint/groups_triggered": Measure("sum", len(problems)),
            "hint/groups_without_trace": Measure("sum", without),
            "hint/traces_too_long": Measure("sum", sum(map(self.is_too_long, problems))),
            "hint/answer_was_given": Measure("sum", 0),
            "hint/replaced": Measure("sum", 0),
            "hint/rounds": Measure("max", 0),
        }

    def sample_extra(
        self, batch: PromptBatch, pending: Sequence[EncodedProblem], number: int, wrong_share: float
    ) -> tuple[Rollout, Measures]:
        """A round: G samples for each pending problem, around hints unless the control wants none.

        The ranks share them evenly; one without such problems samples for the others. Rounds have
        numbers from 0; `wrong_share` of the groups of all ranks were all wrong before injection.
        """
        problems = repeated(pending, self.sampler.group_size)
        measures: Measures = {"hint/rounds": Measure("max", number + 1)}
        hint_ids = None
        if self.settings.extra_samples == "hinted" and problems:
            with record_function("hints"):
                hint_ids, ratios = self.draw_hints(batch.step, problems, number, wrong_share)
            measures["hint/ratio_mean"] = mean(sum(ratios), len(ratios))
            given = int((hint_ids != FREE).sum())
            measures["hint/tokens_per_sample"] = mean(given, len(hint_ids))
        purpose = f"extra-{number}"
        extra = self.sampler.sample(
            batch, problems, purpose, hint_ids, self.settings.exclude_answer
        )
        right, refused = float(extra.correct.sum()), extra.reasons.count(ANSWER_WAS_GIVEN)
        return extra, measures | {
            "hint/correct_share": mean(right, len(problems)),
            "hint/answer_was_given": Measure("sum", refused),
        }

    def draw_hints(
        self, step: int, problems: Sequence[EncodedProblem], number: int, wrong_share: float
    ) -> tuple[Tensor, list[float]]:
        """Hints [N, C] for N rows, each with its own eta and chunks, and the etas."""
        settings, size = self.settings, self.sampler.group_size
        low, high = ratio_range(settings, step, self.total_steps, wrong_share, number)
        seeds = row_seeds(self.sampler.seed, step, problems, size, f"hints-{number}")
        hints, ratios = [], []
        for encoded, seed in zip(problems, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            ratio = draw_ratio(low, high, generator)
            ratios.append(ratio)
            assert encoded.trace_ids is not None  # see can_help
            hints.append(
                choose_hints(
                    encoded.trace_ids,
                    self.sampler.answerer.config.completion_length,
                    ratio,
                    settings.chunk_min,
                    settings.chunk_max,
                    generator,
                    encoded.answer_span,
                    options=settings,
                )
            )
        return torch.stack(hints), ratios


def all_wrong_share(correct: Tensor) -> float:
    """Share of all-wrong groups over all ranks, from this rank's verdicts [Q, G]."""
    wrong = int(all_wrong(correct).sum())
    ranks = distributed.gather_objects((wrong, len(correct)))
    return sum(w for w, _ in ranks) / sum(n for _, n in ranks)
