"""Groups of graded completions."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch, pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.forward_process import live_mask
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.evaluation.grade import Grading, Pool
from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.rewards import Verdict
from igpo_lightning.rewards.functions import Graded, combine_rewards, reward_parts
from igpo_lightning.rewards.given_answer import holds_given_answer
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.diagnostics import sampling_measures
from igpo_lightning.rl.rollout import Rollout, repeated, row_seeds
from igpo_lightning.rl.sharing import Request, Samples, share_out
from igpo_lightning.settings import RewardConfig, SamplerConfig

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

    @property
    def config(self) -> SamplerConfig:
        """How rows are denoised."""
        return self.answerer.config

    @config.setter
    def config(self, config: SamplerConfig) -> None:
        self.answerer = replace(self.answerer, config=config)

    def groups(self, batch: PromptBatch) -> Rollout:
        """G graded completions for each prompt of the batch."""
        return self.sample(batch, repeated(batch.problems, self.group_size), "rollout")

    def sample(
        self,
        batch: PromptBatch,
        problems: Sequence[EncodedProblem],
        purpose: str,
        hint_ids: Tensor | None = None,
        own_answers: bool = False,
    ) -> Rollout:
        """Complete and grade one row for each problem, G rows for each in turn.

        All ranks call together, and share the rows that they ask for evenly.

        Args:
            batch: Whose step and device it is.
            problems: N problems; none where this rank needs no rows.
            purpose: Tells the draws of a row apart.
            hint_ids: [N, C], -1 where free.
            own_answers: Whether an answer that a hint holds is graded wrong.
        """
        seeds = row_seeds(self.seed, batch.step, problems, self.group_size, purpose)
        own = Request(list(problems), seeds, hint_ids)
        share = share_out(own, leader=distributed.rank() - batch.part)
        self.answerer.signs.begin("sampling" if purpose == "rollout" else "inpainting")
        samples = share.bring_home(self.complete(share.request, batch.device, own_answers))
        prompts = [encoded.prompt_ids for encoded in problems] or [[]]
        prompt_ids, prompt_mask = (
            t[: len(problems)].to(batch.device)
            for t in pad_left(prompts, self.answerer.model.pad_token_id)
        )
        return Rollout(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            replaced=torch.zeros_like(samples.correct),
            group_size=self.group_size,
            **vars(samples),
        )

    def complete(self, request: Request, device: torch.device, own_answers: bool) -> Samples:
        """Complete and grade rows on this rank; rows that are done are graded meanwhile."""
        retried = self.pool.retried
        grading = Grading(self.pool, self.answerer.texts, request.problems)
        with self.cost.phase("rollout"):
            output = self.answerer.answer(
                request.problems,
                request.seeds,
                device,
                request.hint_ids,
                on_rows=grading.start,
                together=True,
            )
        generated = int((~output.hint_mask).sum())
        self.cost.count("rollout", output.forward_passes, generated, output.body_tokens)
        self.cost.note(sampling_measures(output))
        self.answerer.signs.begin("grading")
        with self.cost.phase("grading"):
            leave = self.answerer.leave
            with leave.meeting(apart=True):
                texts, verdicts = grading.finish(leave.alone)
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
        correct = torch.tensor([v.correct for v in verdicts], dtype=torch.bool, device=device)
        return Samples(
            completion_ids=output.completion_ids,
            hint_mask=output.hint_mask,
            unmask_step=output.unmask_step,
            unmask_score=output.unmask_score,
            correct=correct,
            rewards=torch.tensor(rewards, device=device),
            reward_parts=torch.tensor(parts, device=device).view(
                len(graded), len(self.reward.weights)
            ),
            texts=texts,
            reasons=[verdict.reason for verdict in verdicts],
        )

    def refuse_given(
        self, output: DenoiseOutput, live: Tensor, verdicts: Sequence[Verdict]
    ) -> list[Verdict]:
        """The N verdicts, where a right answer that a hint holds is wrong: no policy gave it."""
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
