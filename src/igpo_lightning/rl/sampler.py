"""Groups of graded completions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.evaluation.answer import Answerer, Completions
from igpo_lightning.evaluation.grade import Grading, Pool
from igpo_lightning.rewards.functions import Graded, combine_rewards, reward_parts
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.rollout import Rollout, repeated, row_seeds
from igpo_lightning.settings import RewardConfig


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
    ) -> Rollout:
        """Complete and grade one row for each problem, G rows for each in turn.

        Args:
            batch: Whose step and device it is.
            problems: N problems.
            purpose: Tells the draws of a row apart.
            hint_ids: [N, C], -1 where free.
            passes: Micro-batches to make at least, see `Answerer`.
        """
        grading = Grading(self.pool, self.answerer.texts, problems)
        completions = self.complete(batch, problems, purpose, hint_ids, passes, grading.start)
        output, device = completions.output, completions.prompt_ids.device
        self.answerer.signs.begin("grading")
        with self.cost.phase("grading"):
            texts, verdicts = grading.finish()
            live = live_mask(output.completion_ids, self.answerer.model.eos_token_id)
            length = self.answerer.config.completion_length
            graded = [
                Graded(text, verdict, tokens, length)
                for text, verdict, tokens in zip(
                    texts, verdicts, live.sum(dim=1).tolist(), strict=True
                )
            ]
            parts = reward_parts(graded, list(self.reward.weights))
            rewards = combine_rewards(parts, self.reward.weights)
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
