"""Group sampler, inpainter and scorer, each alone: no trainer, and collaborators by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import SAMPLER, SETTINGS, TOKENIZER, PlannedPool, backbone, problem

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.diffusion.likelihood import TokenScores
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.measures import measured_values
from igpo_lightning.rl.rollout import Rollout
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.rl.scorer import Scorer
from igpo_lightning.settings import RewardConfig

BATCH = PromptBatch(3, [problem("a"), problem("b")], [0, 0], [True, True])


def rollout(right: list[int], rows: int = 8) -> Rollout:
    """Groups of four completions of 16 tokens, of which these rows are right."""
    correct = torch.tensor([row in right for row in range(rows)])
    completions = 5 + torch.arange(rows * 16).view(rows, 16) % 50
    return Rollout(
        prompt_ids=torch.full((rows, 3), 7),
        prompt_mask=torch.ones(rows, 3, dtype=torch.bool),
        completion_ids=completions,
        hint_mask=torch.zeros(rows, 16, dtype=torch.bool),
        unmask_step=torch.zeros(rows, 16, dtype=torch.long),
        unmask_score=torch.ones(rows, 16),
        correct=correct,
        rewards=correct.float(),
        reward_parts=correct.float()[:, None],
        replaced=torch.zeros(rows, dtype=torch.bool),
        texts=["?"] * rows,
        reasons=[None if c else "wrong" for c in correct],
        group_size=4,
    )


# ---- GroupSampler -------------------------------------------------------------------------------


def sampler(cost: Cost, rows: int = 64) -> GroupSampler:
    answerer = Answerer(backbone(), TOKENIZER, SAMPLER, rows)
    pool = PlannedPool(lambda row, _: row in (0, 5))
    reward = RewardConfig({"correctness": 2.0, "length": -0.5})
    return GroupSampler(answerer, pool, 4, reward, 0, cost)


def test_groups_are_graded_rewarded_and_counted():
    """Verdicts come from the pool; a reward is 2 for a right answer minus half the length."""
    cost = Cost()
    groups = sampler(cost).groups(BATCH)
    assert groups.correct.tolist() == [row in (0, 5) for row in range(8)]
    length = groups.reward_parts[:, 1]
    torch.testing.assert_close(groups.rewards, 2.0 * groups.correct - 0.5 * length)
    assert not groups.hint_mask.any()
    work = cost.measures()
    assert work["passes/rollout"].value == SAMPLER.steps
    assert work["tokens/rollout"].value == 8 * SAMPLER.completion_length


def test_a_sample_depends_on_its_purpose_and_on_no_other_row():
    one = sampler(Cost()).groups(BATCH).completion_ids
    both = sampler(Cost(), rows=3)
    assert torch.equal(both.groups(BATCH).completion_ids, one)
    again = both.sample(BATCH, [BATCH.problems[0]] * 4, "extra-0").completion_ids
    assert not torch.equal(again, one[:4])


@pytest.mark.parametrize("own_answers", [True, False])
def test_an_answer_that_a_hint_holds_is_wrong_and_one_that_was_generated_is_not(own_answers):
    """The pool finds every row right. The hint fills the completion: it says the answer itself."""
    alike = GroupSampler(
        Answerer(backbone(), TOKENIZER, SAMPLER, 64),
        PlannedPool(lambda *_: True),
        4,
        RewardConfig(),
        0,
        Cost(),
    )
    full = TOKENIZER.encode("The answer is 12+34=46. ", add_special_tokens=False)
    full = (full * SAMPLER.completion_length)[: SAMPLER.completion_length]
    hints = torch.tensor([full, [-1] * SAMPLER.completion_length])
    rows = alike.sample(BATCH, [BATCH.problems[0]] * 2, "extra-0", hints, own_answers=own_answers)
    given_away = "answer_was_given" if own_answers else None
    assert rows.reasons == [given_away, None]
    assert rows.correct.tolist() == [not own_answers, True]
    assert rows.rewards.tolist() == [0.0 if own_answers else 1.0, 1.0]


class FlakyPool(PlannedPool):
    """Grades one item of each call twice, as where a worker was killed."""

    def grade(self, items):
        self.retried += 1
        return super().grade(items)


def test_answers_that_were_graded_twice_are_counted_by_step():
    cost, pool = Cost(), FlakyPool(lambda *_: True)
    pool.retried = 7  # of an evaluation before
    made = GroupSampler(
        Answerer(backbone(), TOKENIZER, SAMPLER, 4), pool, 4, RewardConfig(), 0, cost
    )
    made.groups(BATCH)
    assert cost.measures()["reward/retried"].value == 2.0  # eight rows in passes of four


# ---- Inpainter ----------------------------------------------------------------------------------


class FakeSampler(GroupSampler):
    """Notes what it is asked for, and finds every extra sample right."""

    def __init__(self) -> None:
        pool = PlannedPool(lambda *_: True)
        answerer = Answerer(backbone(), TOKENIZER, SAMPLER, rows=4)
        super().__init__(answerer, pool, 4, RewardConfig(), 0, Cost())
        self.asked: list[tuple[list[str], str]] = []
        self.hints: list[Any] = []

    def sample(self, batch, problems, purpose, hint_ids=None, own_answers=False):
        self.asked.append(([p.problem.id for p in problems], purpose))
        self.hints.append(hint_ids)
        extra = rollout(right=[0, 1, 2, 3], rows=4)
        return replace(extra, hint_mask=torch.ones_like(extra.hint_mask))


def inpainter(fake: FakeSampler, **changes: Any) -> Inpainter:
    return Inpainter(replace(SETTINGS.inpaint, **changes), fake, 10)


def test_all_wrong_groups_alone_are_sampled_again_around_hints():
    """Group a has a right answer; of group b, lambda G = 2 wrong samples are replaced."""
    fake = FakeSampler()
    after, measures = inpainter(fake, ratio=1.0).inpaint(BATCH, rollout(right=[1]))
    assert fake.asked == [(["b"] * 4, "extra-0")]
    trace = BATCH.problems[1].trace_ids or []
    start, end = BATCH.problems[1].answer_span or (len(trace), len(trace))
    shown = [token if not start <= i < end else -1 for i, token in enumerate(trace)]
    for hints in fake.hints[0].tolist():
        assert hints == shown + [-1] * (SAMPLER.completion_length - len(trace))
    assert after.replaced.tolist() == [False] * 4 + [True, True, False, False]
    assert measured_values(measures)["hint/replaced"] == 2.0


def test_nothing_is_sampled_where_the_trigger_is_never():
    fake, before = FakeSampler(), rollout(right=[])
    after, measures = inpainter(fake, trigger="never").inpaint(BATCH, before)
    assert after is before
    assert measures == {}
    assert fake.asked == []


def test_a_rank_without_wrong_groups_samples_for_the_others(monkeypatch):
    fake, before = FakeSampler(), rollout(right=[0, 4])
    monkeypatch.setattr(distributed, "any_rank", lambda own: True)
    after, _ = inpainter(fake, rounds=2).inpaint(BATCH, before)
    assert fake.asked == [([], "extra-0"), ([], "extra-1")]
    assert after is before


# ---- Scorer -------------------------------------------------------------------------------------


def score(right: list[int], rows: int = 64, **objective: Any) -> tuple[Scorer, Any, Cost]:
    cost, policy = Cost(), backbone()
    changed = replace(SETTINGS.objective, **objective)
    settings = replace(SETTINGS, objective=changed)
    reference = backbone(seed=1) if changed.needs_reference else None
    made = Scorer(policy, reference, settings, rows, cost)
    groups = rollout(right)
    return made, made.experience(BATCH, groups, groups.rewards), cost


def test_all_policies_are_scored_under_one_set_of_masks():
    """The policy has not moved: its scores are the old ones; the reference is another model."""
    scorer, experience, _ = score([0, 4])
    now = torch.cat(
        [scorer.trained_scores(experience, rows).logp for rows in scorer.micro_batches(8)]
    )
    assert now.requires_grad
    torch.testing.assert_close(now.detach(), experience.old.logp)
    assert not torch.equal(experience.reference.logp, experience.old.logp)
    assert not experience.old.logp.requires_grad


def test_every_row_has_the_same_weight_and_rows_of_a_dropped_group_have_none():
    """Two groups of 4 rows: 1/8 a row. Dropped, group b (all wrong) leaves 1/4 to each of a's."""
    _, kept, _ = score([0])
    torch.testing.assert_close(kept.weights.sum(dim=1), torch.full((8,), 1 / 8))
    _, dropped, _ = score([0], drop_uniform_groups=True)
    expected = torch.tensor([1 / 4] * 4 + [0.0] * 4)
    torch.testing.assert_close(dropped.weights.sum(dim=1), expected)
    assert not dropped.loss_mask[4:].any()


def test_a_backward_pass_is_counted_as_two_forward_passes():
    """Old and reference scores: 2 passes; a trained one computes 3. Tokens: 8 rows of 3 + 16."""
    scorer, experience, cost = score([0, 4])
    assert cost.work["compute/update"] == cost.work["tokens/update"] == 2 * 8 * 19
    scorer.trained_scores(experience, slice(0, 8))
    assert cost.work["passes/update"] == 3
    assert cost.work["compute/update"] == (2 + 3) * 8 * 19


@pytest.mark.parametrize("change", [{"beta": 0.0}, {"kl": "none"}])
def test_the_reference_is_not_scored_without_a_penalty(change):
    _, experience, cost = score([0, 4], **change)
    assert experience.reference is None
    assert cost.work["passes/update"] == 1


def test_rows_with_hints_are_not_weighed_by_policy_and_sampler():
    """p = 0.5 and q = 0.25 at every token of two rows, of which the second has a hint."""
    settings = replace(SETTINGS, objective=replace(SETTINGS.objective, rollout_is="token"))
    scorer = Scorer(backbone(), None, settings, rows_per_pass=4, cost=Cost())
    hints = torch.zeros(2, 16, dtype=torch.bool)
    hints[1, 3] = True
    given = replace(
        rollout([], rows=2), hint_mask=hints, unmask_score=torch.full(hints.shape, 0.25)
    )
    old = TokenScores(torch.full(hints.shape, 0.5).log(), None)
    ratio = scorer.sampler_ratio(given, torch.ones_like(hints), old)
    torch.testing.assert_close(ratio, torch.tensor([[2.0], [1.0]]).expand(2, 16))
