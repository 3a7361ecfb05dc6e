"""Groups of graded completions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.evaluation.answer import Answerer, Completions
from igpo_lightning.evaluation.grade import Grading, Pool
from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.rewards import Verdict
from igpo_lightning.rewards.functions import Graded, combine_rewards, reward_parts
from igpo_lightning.rewards.given_answer import holds_given_answer
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.rollout import Rollout, repeated, row_seeds
from igpo_lightning.settings import RewardConfig

ANSWER_WAS_GIVEN = "answer_was_given"  # the reason of a verdict


class GroupSampler:
    """Samples G completions a prompt from the policy, and grades them meanwhile.

    Attributes:
        answerer: The policy with its sampler.
        pool: The grader processes.
        group_size: G.
        reward: Weights of the rewards, and how an answer is found.
        seed: Of the run.
        cost: Where passes and seconds are counted.
    """

    def __init__(
        self,
        answerer: Answerer,
        pool: Pool,
        group_size: int,
        reward: RewardConfig,
        seed: int,
        cost: Cost,
    ) -> None:
        self.answerer, self.pool, self.group_size = answerer, pool, group_size
        self.reward, self.seed, self.cost = reward, seed, cost

    def groups(self, batch: PromptBatch) -> Rollout:
        """G graded completions for each prompt of the batch."""
        return self.sample(batch, repeated(batch.problems, self.group_size), "rollout")

    def sample(
        self,
        batch: PromptBatch,
        problems: Sequence[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        passes: int = 0,
        own_answers: bool = False,
    ) -> Rollout:
        """Complete and grade one row for each problem, G rows for each in turn.

        Args:
            batch: Whose step and device it is.
            problems: N problems.
            purpose: Tells the draws of a row apart.
            hint_ids: [N, C], -1 where free.
            passes: Micro-batches to make at least, see `Answerer`.
            own_answers: Whether an answer that a hint holds is graded wrong.
        """
        retried = self.pool.retried
        grading = Grading(self.pool, self.answerer.texts, problems)
        completions = self.complete(batch, problems, purpose, hint_ids, passes, grading.start)
        output, device = completions.output, completions.prompt_ids.device
        self.answerer.signs.begin("grading")
        with self.cost.phase("grading"):
            texts, verdicts = grading.finish()
            live = live_mask(output.completion_ids, self.answerer.model.eos_token_id)
            if own_answers:
                verdicts = self.refuse_given(output, live, verdicts)
            length = self.answerer.config.completion_length
            graded = [
                Graded(text, verdict, tokens, length)
                for text, verdict, tokens in zip(
                    texts, verdicts, live.sum(dim=1).tolist(), strict=True
                )
            ]
            parts = reward_parts(graded, list(self.reward.weights))
            rewards = combine_rewards(parts, self.reward.weights)
        self.cost.add("reward/retried", self.pool.retried - retried)
        correct = torch.tensor([v.correct for v in verdicts], device=device)
        return Rollout(
            prompt_ids=completions.prompt_ids,
            prompt_mask=completions.prompt_mask,
            completion_ids=output.completion_ids,
            hint_mask=output.hint_mask,
            unmask_step=output.unmask_step,
            correct=correct,
            rewards=torch.tensor(rewards, device=device),
            reward_parts=torch.tensor(parts, device=device),
            replaced=torch.zeros_like(correct),
            texts=texts,
            reasons=[verdict.reason for verdict in verdicts],
            group_size=self.group_size,
        )

    def refuse_given(
        self, output: DenoiseOutput, live: Tensor, verdicts: Sequence[Verdict]
    ) -> list[Verdict]:
        """The verdicts, where a right answer that a hint holds is wrong: no policy gave it.

        Args:
            output: N completions.
            live: [N, C], True up to and including the first EOS.
            verdicts: N verdicts.
        """
        judged = list(verdicts)
        text = live & (output.completion_ids != self.answerer.model.eos_token_id)
        hints = output.hint_mask & text
        for row, verdict in enumerate(verdicts):
            if not (verdict.correct and hints[row].any()):
                continue
            ids = output.completion_ids[row, text[row]].tolist()
            pieces = token_strings(ids, self.answerer.tokenizer)
            hinted = hints[row, text[row]].tolist()
            if holds_given_answer(pieces, hinted, self.reward.extraction):
                judged[row] = Verdict(False, ANSWER_WAS_GIVEN)
        return judged

    def keep_company(self, batch: PromptBatch, passes: int) -> None:
        """Make as many passes as other ranks do, over one row that is thrown away."""
        self.complete(batch, batch.problems[:1], "company", passes=passes)

    def complete(
        self,
        batch: PromptBatch,
        problems: Sequence[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        passes: int = 0,
        on_rows: Callable[[list[int], Tensor], None] | None = None,
    ) -> Completions:
        """As `sample`, without grading; `on_rows` is told of each micro-batch that is done."""
        seeds = row_seeds(self.seed, batch.step, problems, self.group_size, purpose)
        self.answerer.signs.begin("sampling" if purpose == "rollout" else "inpainting")
        with self.cost.phase("rollout"):
            completions = self.answerer.answer(
                problems, seeds, batch.device, hint_ids, passes, on_rows
            )
        output = completions.output
        generated = int((~output.hint_mask).sum())
        self.cost.count("rollout", output.forward_passes, generated, output.body_tokens)
        return completions
