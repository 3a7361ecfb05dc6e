"""Groups of completions, and what IGPO does to a group in which every answer is wrong.

Q prompts with G completions each are kept as N = Q * G rows, group by group.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """Completions of Q prompts, G each; rows are ordered group by group.

    Attributes:
        prompt_ids: [N, P], padded on the left.
        prompt_mask: [N, P], True at real tokens.
        completion_ids: [N, C].
        hint_mask: [N, C], True at tokens that were given.
        correct: [N], True where the final answer is right: this alone decides "wrong".
        rewards: [N], what advantages are computed from.
        texts: N decoded completions.
        group_size: G.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    hint_mask: Tensor
    correct: Tensor
    rewards: Tensor
    texts: list[str]
    group_size: int

    def grouped(self, values: Tensor) -> Tensor:
        """Row values [N, ...] as [Q, G, ...]."""
        return values.view(-1, self.group_size, *values.shape[1:])


def all_wrong(correct: Tensor) -> Tensor:
    """Groups [Q] without a single right answer, from verdicts [Q, G]: each prompt on its own."""
    return ~correct.any(dim=1)


def plan_replacements(
    hinted_correct: Tensor, replace_fraction: float
) -> list[tuple[int, int, int]]:
    """Which hinted samples take the place of which wrong ones (Algorithm 1, replacement).

    K = min(number correct, floor(lambda * G)) correct ones replace K wrong ones. The samples of a
    group are exchangeable, so the first K correct ones replace the first K of the all-wrong group.

    Args:
        hinted_correct: [K, G], verdicts on the hinted samples of K all-wrong groups.
        replace_fraction: lambda in [0, 1].

    Returns:
        (group, source sample, target sample), one for each replacement.
    """
    limit = math.floor(replace_fraction * hinted_correct.shape[1] + 1e-9)
    return [
        (group, source, target)
        for group, verdicts in enumerate(hinted_correct.tolist())
        for target, source in enumerate([i for i, right in enumerate(verdicts) if right][:limit])
    ]


def inject(
    rollout: Rollout, hinted: Rollout, groups: list[int], replace_fraction: float
) -> tuple[Rollout, int]:
    """Replace wrong samples of all-wrong groups by correct hinted ones.

    Args:
        rollout: The sampled groups.
        hinted: G hinted samples for each of the chosen groups.
        groups: The group numbers of `rollout` that the groups of `hinted` belong to.
        replace_fraction: lambda.

    Returns:
        The updated rollout and the number of replaced samples.
    """
    size = rollout.group_size
    plan = plan_replacements(hinted.grouped(hinted.correct), replace_fraction)
    source_rows = [group * size + source for group, source, _ in plan]
    target_rows = [groups[group] * size + target for group, _, target in plan]

    def merged(name: str) -> Tensor:
        values: Tensor = getattr(rollout, name).clone()
        values[target_rows] = getattr(hinted, name)[source_rows]
        return values

    texts = list(rollout.texts)
    for target, source in zip(target_rows, source_rows, strict=True):
        texts[target] = hinted.texts[source]
    tensors = {n: merged(n) for n in ("completion_ids", "hint_mask", "correct", "rewards")}
    return replace(rollout, texts=texts, **tensors), len(plan)
