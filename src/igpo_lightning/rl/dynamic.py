"""Dynamic sampling: further prompts until enough groups have something to learn from.

DAPO (arXiv 2503.14476, section 3.2): a group whose rewards are all equal has no advantage, so that
a step would train on fewer groups than it has. Prompts are drawn in rounds, each of a step's size,
until as many groups are informative, hints included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from igpo_lightning import distributed
from igpo_lightning.data.collate import PromptBatch, pad_left
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.rl.advantages import informative_groups
from igpo_lightning.rl.diagnostics import group_measures, reward_measures
from igpo_lightning.rl.inpainter import Inpainter
from igpo_lightning.rl.measures import Measure, Measures, join_measures
from igpo_lightning.rl.rollout import Rollout, joined, moved, repeated
from igpo_lightning.rl.sampler import GroupSampler
from igpo_lightning.rl.sharing import deal

Entry = TypeVar("Entry")
_PLAIN = ("prompt_ids", "prompt_mask", "group_size")  # of a rollout: not kept with its groups


@dataclass(frozen=True)
class Group:
    """G samples of one problem, on the host.

    Attributes:
        position: Of the problem in the stream of prompts.
        problem: The problem.
        rows: Fields of `Rollout` without the prompt.
        informative: Whether the rewards differ.
    """

    position: int
    problem: EncodedProblem
    rows: dict[str, Any]
    informative: bool


@dataclass(frozen=True)
class Collected:
    """The groups that a rank trains on in a step.

    Attributes:
        batch: Their problems.
        rollout: Their samples, after replacement.
        measures: Of all groups that were drawn for the step on this rank.
    """

    batch: PromptBatch
    rollout: Rollout
    measures: Measures


class GroupCollector:
    """Samples and inpaints the groups of a step.

    Attributes:
        sampler: Samples groups.
        inpainter: Samples those that need help again.
        reward_names: Of the parts of the rewards.
        prompts: Groups of a step over all ranks.
        rounds: At most so many times a step's prompts are drawn.
        more: The next prompts of the stream, on this rank, for a step.
        keep: Whether informative groups that are too many wait for the next step.
        record: Told problems and their shares of right samples, of all ranks in the order of the
            stream; None where nobody asks.
        kept: Those that wait, the same on every rank.
    """

    def __init__(
        self,
        sampler: GroupSampler,
        inpainter: Inpainter,
        reward_names: Sequence[str],
        prompts: int,
        rounds: int = 1,
        more: Callable[[int], PromptBatch] | None = None,
        keep: bool = False,
        record: Callable[[Sequence[tuple[str, float]]], None] | None = None,
    ) -> None:
        self.sampler, self.inpainter = sampler, inpainter
        self.reward_names, self.prompts, self.rounds = reward_names, prompts, rounds
        self.more, self.keep, self.record = more, keep, record
        self.kept: list[Group] = []

    def collect(self, batch: PromptBatch) -> Collected:
        """The groups of the step, from its prompts and as many more as are needed."""
        rollout, measures = self.draw(batch)
        if self.rounds == 1:
            return Collected(batch, rollout, measures)
        groups = [*self.kept, *groups_of_all_ranks(batch, rollout)]
        number = 1
        while number < self.rounds and self.informative(groups) < self.prompts:
            assert self.more is not None
            further = self.more(batch.step).to(batch.device)
            rollout, more = self.draw(further)
            groups += groups_of_all_ranks(further, rollout)
            measures = join_measures([measures, more])
            number += 1
        # A sort is stable: informative ones first, each kind in the order of the stream.
        ordered = sorted(groups, key=lambda group: not group.informative)
        surplus = [group for group in ordered[self.prompts :] if group.informative]
        self.kept = surplus[: self.prompts] if self.keep else []
        chosen = ordered[: self.prompts]
        ranks = max(1, distributed.world_size() // batch.parts)
        mine = chosen[deal(len(chosen), ranks)[distributed.rank() // batch.parts]]
        numbers = {
            "group/rounds": number,
            "group/drawn": number * self.prompts,
            "group/informative": self.informative(groups),
            "group/trained_without_signal": self.prompts - self.informative(chosen),
            "group/kept_for_later": len(self.kept),
            "group/surplus_dropped": len(surplus) - len(self.kept),
        }
        counts: Measures = {name: Measure("max", value) for name, value in numbers.items()}
        problems = [group.problem for group in mine]
        filled = replace(
            batch,
            problems=problems,
            sample_indices=[0] * len(mine),
            counted=[True] * len(mine),
            positions=[group.position for group in mine],
        )
        return Collected(filled, self.joined(mine, batch.device), measures | counts)

    @staticmethod
    def informative(groups: Sequence[Group]) -> int:
        """How many groups have rewards that differ."""
        return sum(group.informative for group in groups)

    def draw(self, batch: PromptBatch) -> tuple[Rollout, Measures]:
        """One round: G completions a prompt, hints where all are wrong."""
        first = self.sampler.groups(batch)
        if self.record is not None:
            shares = first.grouped(first.correct).double().mean(dim=1).tolist()
            ids = [encoded.problem.id for encoded in batch.problems]
            self.record(of_all_ranks(batch, list(zip(ids, shares, strict=True))))
        rollout, hints = self.inpainter.inpaint(batch, first)
        if batch.part:  # of ranks that share groups one speaks for them
            return rollout, {}
        rewards = reward_measures(first, rollout, self.reward_names)
        return rollout, hints | group_measures(first, rollout) | rewards

    def joined(self, groups: Sequence[Group], device: torch.device) -> Rollout:
        """Groups as one rollout."""
        size = self.sampler.group_size
        prompts = [p.prompt_ids for p in repeated([group.problem for group in groups], size)]
        ids, mask = pad_left(prompts, self.sampler.answerer.model.pad_token_id)
        rows = joined([group.rows for group in groups])
        fields = moved(rows | {"prompt_ids": ids, "prompt_mask": mask}, device)
        return Rollout(**fields, group_size=size)

    # ---- resuming ---------------------------------------------------------------------------

    def state(self) -> list[dict[str, Any]]:
        """The groups that wait, for a checkpoint; problems are read again from their positions."""
        return [{"position": group.position, "rows": group.rows} for group in self.kept]

    def resume(
        self, state: Sequence[dict[str, Any]], problem: Callable[[int], EncodedProblem]
    ) -> None:
        """Take up the groups of a checkpoint."""
        self.kept = [
            Group(entry["position"], problem(entry["position"]), entry["rows"], informative=True)
            for entry in state
        ]


def groups_of_all_ranks(batch: PromptBatch, rollout: Rollout) -> list[Group]:
    """The groups of a round in the order of the stream, the same on every rank."""
    own: list[Group] = []
    informative = informative_groups(rollout.grouped(rollout.rewards)).tolist()
    size = rollout.group_size
    for q, (position, problem) in enumerate(zip(batch.positions, batch.problems, strict=True)):
        part = vars(rollout.part(slice(q * size, (q + 1) * size)))
        rows = {name: value for name, value in part.items() if name not in _PLAIN}
        own.append(Group(position, problem, moved(rows, "cpu"), informative[q]))
    return of_all_ranks(batch, own)


def of_all_ranks(batch: PromptBatch, own: list[Entry]) -> list[Entry]:
    """An entry for each problem of a round in the order of the stream, the same on every rank.

    Ranks that share a group have the same entry: one of them is asked.
    """
    parts = distributed.gather_objects(own)[:: batch.parts]
    return [entry for part in parts for entry in part]
