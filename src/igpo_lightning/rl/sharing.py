"""Rows dealt out evenly over ranks: who completes a row need not be who trains on it.

A completion is a function of its prompt, hints and seed, so that any rank may make it. A rank whose
groups are all wrong asks for many extra rows, another for none: all ranks complete as many.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from igpo_lightning import distributed
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.rl.rollout import joined, moved


@dataclass(frozen=True)
class Request:
    """N rows to complete.

    Attributes:
        problems: N problems.
        seeds: N row seeds.
        hint_ids: [N, C], -1 where free; None where no row has hints.
    """

    problems: list[EncodedProblem]
    seeds: list[int]
    hint_ids: Tensor | None = None

    def part(self, rows: slice) -> "Request":
        """Some of the rows."""
        hints = None if self.hint_ids is None else self.hint_ids[rows]
        return Request(self.problems[rows], self.seeds[rows], hints)


@dataclass(frozen=True)
class Samples:
    """N completed and graded rows; the fields are those of `Rollout`."""

    completion_ids: Tensor
    hint_mask: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    correct: Tensor
    rewards: Tensor
    reward_parts: Tensor
    texts: list[str]
    reasons: list[str | None]

    def part(self, rows: slice) -> "Samples":
        """Some of the rows."""
        return Samples(**{name: values[rows] for name, values in vars(self).items()})


def deal(rows: int, ranks: int) -> list[slice]:
    """Each rank's stretch of the rows: numbers differ by one at most, neighbours stay together."""
    bounds = [rows * rank // ranks for rank in range(ranks + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


@dataclass(frozen=True)
class Share:
    """This rank's part of the rows that all ranks ask for.

    Attributes:
        request: The rows to complete here, whoever asked for them.
        home: Where the rows that this rank needs stand among those of all ranks.
    """

    request: Request
    home: slice

    def bring_home(self, made: Samples) -> Samples:
        """The rows that this rank needs, of those that all ranks have completed."""
        if not distributed.is_distributed():
            return made
        device = made.completion_ids.device
        parts = distributed.gather_objects(moved(vars(made), "cpu"))
        return Samples(**moved(joined(parts), device)).part(self.home)


def share_out(own: Request, leader: int) -> Share:
    """Deal out the rows of all ranks.

    Args:
        own: What this rank asks for; not counted unless it leads.
        leader: The rank that asks for the rows that this one needs: itself, or the first of the
            ranks that share a group.
    """
    if not distributed.is_distributed():
        return Share(own, slice(0, len(own.seeds)))
    rank = distributed.rank()
    asked = distributed.gather_objects(own if rank == leader else own.part(slice(0)))
    whole = _joined_requests(asked)
    before = sum(len(request.seeds) for request in asked[:leader])
    mine = deal(len(whole.seeds), len(asked))[rank]
    return Share(whole.part(mine), slice(before, before + len(asked[leader].seeds)))


def _joined_requests(parts: Sequence[Request]) -> Request:
    hints = [part.hint_ids for part in parts if part.hint_ids is not None and len(part.seeds)]
    return Request(
        [problem for part in parts for problem in part.problems],
        [seed for part in parts for seed in part.seeds],
        torch.cat(hints) if hints else None,
    )
