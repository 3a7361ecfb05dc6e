"""Dynamic sampling: how many prompts are drawn, which groups are trained on, and what is kept."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import SAMPLER, TOKENIZER, PlannedPool, backbone, problem

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.rl.cost import Cost
from igpo_lightning.rl.dynamic import Collected, GroupCollector, groups_of_all_ranks
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.measures import measured_values
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.settings import InpaintConfig, RewardConfig

# The stream of prompts: a capital letter is a problem of which some samples are right.
STREAM = "aBcdEfGHIjKLmNo"


def encoded(position: int) -> EncodedProblem:
    return problem(STREAM[position])


class Stream:
    """The prompts of a rank, round by round."""

    def __init__(self, per_round: int) -> None:
        self.per_round, self.rounds = per_round, 0

    def __call__(self, step: int) -> PromptBatch:
        size = self.per_round // distributed.world_size()
        first = self.rounds * self.per_round + distributed.rank() * size
        self.rounds += 1
        places = list(range(first, first + size))
        problems = [encoded(place) for place in places]
        return PromptBatch(step, problems, [0] * size, [True] * size, positions=places)


class CapitalsAreMixed(GroupSampler):
    """Real completions; the first sample of a capital letter is right."""

    def groups(self, batch: PromptBatch) -> Any:
        made = super().groups(batch)
        right = [p.problem.id.isupper() for p in batch.problems]
        made.correct.view(-1, self.group_size)[:, 0] = torch.tensor(right)
        made.rewards.copy_(made.correct.float())
        return made


def collector(stream: Stream, rounds: int, keep: bool = False) -> GroupCollector:
    cost = Cost()
    answerer = Answerer(backbone(), TOKENIZER, SAMPLER, 64)
    sampler = CapitalsAreMixed(answerer, PlannedPool(lambda *_: False), 2, RewardConfig(), 0, cost)
    inpainter = Inpainter(InpaintConfig(trigger="never"), sampler, 10)
    return GroupCollector(
        sampler, inpainter, ["correctness"], stream.per_round, rounds, stream, keep
    )


def names(of: Collected) -> str:
    return "".join(p.problem.id for p in of.batch.problems)


def counts(of: Collected) -> dict[str, float]:
    return {k: v for k, v in measured_values(of.measures).items() if k.startswith("group/")}


def test_one_round_takes_what_comes():
    stream = Stream(4)
    taken = collector(stream, rounds=1).collect(stream(0))
    assert names(taken) == "aBcd"
    assert "group/drawn" not in counts(taken)


def test_rounds_end_once_enough_groups_are_informative():
    """aBcd has one of four, EfGH three more: two rounds of at most three."""
    stream = Stream(4)
    taken = collector(stream, rounds=3).collect(stream(0))
    assert names(taken) == "BEGH"
    assert stream.rounds == 2
    shown = counts(taken)
    assert (shown["group/rounds"], shown["group/drawn"], shown["group/informative"]) == (2, 8, 4)
    assert shown["group/trained_without_signal"] == 0
    assert shown["group/all_wrong_before"] == 0.5  # of all eight


def test_the_last_round_fills_up_with_groups_without_signal():
    """Two rounds of two: aB, cd. One informative group, and the first of the others."""
    stream = Stream(2)
    taken = collector(stream, rounds=2).collect(stream(0))
    assert names(taken) == "Ba"
    assert counts(taken)["group/trained_without_signal"] == 1
    rows = taken.rollout
    assert rows.correct.tolist() == [True, False, False, False]
    prompts = [p.prompt_ids for p in taken.batch.problems]
    assert rows.prompt_ids[0][rows.prompt_mask[0]].tolist() == prompts[0]
    assert rows.prompt_ids[2][rows.prompt_mask[2]].tolist() == prompts[1]


@pytest.mark.parametrize("keep", [True, False])
def test_groups_that_are_too_many_wait_or_are_dropped(keep):
    """aBc, dEf, GHI: five informative where three are needed; then jKL, of which two are."""
    stream = Stream(3)
    made = collector(stream, rounds=3, keep=keep)
    first = made.collect(stream(0))
    assert names(first) == "BEG"
    shown = counts(first)
    assert shown["group/kept_for_later"] == (2 if keep else 0)
    assert shown["group/surplus_dropped"] == (0 if keep else 2)
    second = made.collect(stream(1))
    assert names(second) == ("HIK" if keep else "KLN")
    assert second.batch.step == 1


def test_a_resumed_collector_trains_on_the_same_groups():
    stream = Stream(3)
    whole = collector(stream, rounds=3, keep=True)
    whole.collect(stream(0))
    state, rounds = whole.state(), stream.rounds
    expected = whole.collect(stream(1))
    again_stream = Stream(3)
    again_stream.rounds = rounds
    again = collector(again_stream, rounds=3, keep=True)
    again.resume(state, encoded)
    taken = again.collect(again_stream(1))
    assert names(taken) == names(expected) == "HIK"
    assert torch.equal(taken.rollout.completion_ids, expected.rollout.completion_ids)
    assert torch.equal(taken.rollout.rewards, expected.rollout.rewards)


def test_a_rank_chooses_among_the_groups_of_all(monkeypatch):
    """Two ranks draw half of a round each. The second trains on the second half of the choice."""
    stream = Stream(4)
    expected = collector(stream, rounds=3).collect(stream(0))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    handed_over: list[Any] = []

    def note(item: Any) -> list[Any]:
        handed_over.append(item)
        return [item]

    monkeypatch.setattr(distributed, "gather_objects", note)
    other = Stream(4)
    for _ in range(2):  # as the first rank
        batch = other(0)
        groups_of_all_ranks(batch, collector(other, rounds=3).draw(batch)[0])
    first_rank = list(handed_over)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "gather_objects", lambda item: [first_rank.pop(0), item])
    second = Stream(4)
    taken = collector(second, rounds=3).collect(second(0))
    assert names(taken) == "GH"
    assert second.rounds == 2
    mine = expected.rollout.part(slice(4, 8))
    assert torch.equal(taken.rollout.completion_ids, mine.completion_ids)


def test_ranks_that_share_a_group_record_its_accuracy_once(monkeypatch):
    """Four ranks in pairs: of a capital letter's two samples one is right."""
    told: list[Any] = []
    stream = Stream(2)
    made = collector(stream, rounds=1)
    made.record = told.append
    batch = replace(stream(0), parts=2)
    other = [("x", 1.0)]
    monkeypatch.setattr(distributed, "gather_objects", lambda own: [own, own, other, other])
    made.draw(batch)
    assert told == [[("a", 0.0), ("B", 0.5), ("x", 1.0)]]
