"""Groups of completions: Q prompts with G completions each, kept as N = Q * G rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.noise import stable_seed


@dataclass(frozen=True)
class Rollout:
    """Completions of Q prompts, G each; rows are ordered group by group.

    Attributes:
        prompt_ids: [N, P], padded on the left.
        prompt_mask: [N, P], True at real tokens.
        completion_ids: [N, C].
        hint_mask: [N, C], True at tokens that were given.
        unmask_step: [N, C], the denoising step that committed each token; -1 for hints.
        unmask_score: [N, C], the sampler's score of the token then, see `DenoiseOutput`.
        correct: [N], True where the final answer is right: this alone decides "wrong".
        rewards: [N], what advantages are computed from.
        reward_parts: [N, R], the unweighted rewards that `rewards` adds up, in the order of the
            configured weights.
        replaced: [N], True where an extra sample took the place of the first one.
        texts: N decoded completions.
        reasons: N reasons for a wrong verdict, see `Verdict`, or "answer_was_given" (by a hint);
            None where right.
        group_size: G.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    hint_mask: Tensor
    unmask_step: Tensor
    unmask_score: Tensor
    correct: Tensor
    rewards: Tensor
    reward_parts: Tensor
    replaced: Tensor
    texts: list[str]
    reasons: list[str | None]
    group_size: int

    def grouped(self, values: Tensor) -> Tensor:
        """Row values [N, ...] as [Q, G, ...]."""
        return values.view(-1, self.group_size, *values.shape[1:])

    def part(self, rows: slice) -> "Rollout":
        """Some of the rows."""
        whole = {name: value for name, value in vars(self).items() if name != "group_size"}
        return Rollout(
            **{name: values[rows] for name, values in whole.items()}, group_size=self.group_size
        )


def moved(fields: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Fields of rows, tensors and lists, with their tensors on a device."""
    return {
        name: values.to(device) if isinstance(values, Tensor) else values
        for name, values in fields.items()
    }


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of rows, tensors and lists, of several parts one after the other."""
    whole: dict[str, Any] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        tensors = isinstance(first, Tensor)
        whole[name] = torch.cat(values) if tensors else [entry for part in values for entry in part]
    return whole


def all_wrong(correct: Tensor) -> Tensor:
    """Groups [Q] without a single right answer, from verdicts [Q, G]: each prompt on its own."""
    return ~correct.any(dim=1)


def all_right(correct: Tensor) -> Tensor:
    """Groups [Q] in which every answer is right, from verdicts [Q, G]."""
    return correct.all(dim=1)


def repeated(problems: Sequence[EncodedProblem], group_size: int) -> list[EncodedProblem]:
    """The problem of each of N = Q * G rows."""
    return [problem for problem in problems for _ in range(group_size)]


def row_seeds(
    seed: int, step: int, problems: Sequence[EncodedProblem], group_size: int, purpose: str
) -> list[int]:
    """A seed for each of N rows, G of each problem in turn: nothing else decides its randomness.

    `purpose` tells the draws of a row apart.
    """
    return [
        stable_seed(seed, step, encoded.problem.id, row % group_size, purpose)
        for row, encoded in enumerate(problems)
    ]
